"""A patient's name, number and dates are planted wherever a file has room for them: no output holds them."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from conftest import Answer
from petbone.selftest.cases import HEADER, INJECTION
from petbone.selftest.series import SHAPE, SPACING_MM, write_series

# Long enough not to be met by chance in a hash or a picture.
NAME, NUMBER, BIRTH = "QUINTERODOE^JANETTAMARIE", "PID4711X", "19470302"
SECRETS = (*NAME.split("^"), NUMBER, BIRTH, "DOE JANE")
TEXT = {
    "PN": NAME,
    "LO": NAME,
    "SH": NUMBER,
    "ST": NAME,
    "LT": NAME,
    "UT": NAME,
    "UC": NAME,
    "DA": BIRTH,
    "AS": "079Y",
}
# What the reader must find as it is: without these the series is another one, or refused.
NEEDED = {*HEADER, "SeriesDate", "AcquisitionDate", "StudyDate", "Modality"}
Cli = Callable[..., Answer]


def planted(dataset: Dataset) -> None:
    """Every text and date that DICOM knows, and private elements, with the patient in it."""
    for tag, (kind, _, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if (
            kind not in TEXT
            or not keyword
            or retired
            or keyword in NEEDED
            or group in (0, 2, 4)
            or tag in dataset
        ):
            continue
        setattr(dataset, keyword, TEXT[kind])
    block = dataset.private_block(0x0009, "DOE PRIVATE", create=True)
    block.add_new(1, "LO", NAME)
    block.add_new(2, "UN", NUMBER.encode())
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.RadiopharmaceuticalRoute = NAME
    item.Radiopharmaceutical = f"Sodium fluoride for {NAME}"


def pet(folder: Path, **header: Any) -> Path:
    """A planted PET in files and a subfolder that are called after the patient."""
    inner = folder / NAME
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom minds what is planted
        write_series(inner, HEADER | header, INJECTION)
    for n, file in enumerate(sorted(inner.iterdir())):
        dataset = pydicom.dcmread(file)
        planted(dataset)
        dataset.save_as(file)
        file.rename(inner / f"{NAME}_{NUMBER}_{n}.dcm")
    return folder


def bones(folder: Path) -> Path:
    """A mask on the PET's grid, as NIfTI with the patient in its header."""
    x, y, z = SPACING_MM
    affine = np.diag([-x, -y, z, 1.0])
    affine[:3, 3] = [-10.0, 20.0, 30.0]
    image = nib.Nifti1Image(np.full(SHAPE, 7, np.uint8), affine)  # type: ignore[no-untyped-call]
    image.header["descrip"] = NAME.encode()
    image.header["aux_file"] = NUMBER.encode()
    image.header["intent_name"] = BIRTH.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{NAME} {NUMBER}".encode()))  # type: ignore[no-untyped-call]
    path = folder / "bones.nii.gz"
    nib.save(image, path)  # type: ignore[no-untyped-call]
    return path


def leaks(content: bytes) -> list[str]:
    return [s for s in SECRETS if s.encode() in content or s.encode("utf-16-le") in content]


def test_planting_works(tmp_path: Path) -> None:
    """Or the tests below could not fail."""
    file = next(f for f in pet(tmp_path / "pet").rglob("*.dcm"))
    dataset = pydicom.dcmread(file)
    assert dataset.PatientName == NAME
    assert dataset.PatientBirthDate == BIRTH
    assert sum(NAME in str(element.value) for element in dataset) > 500
    assert leaks(file.read_bytes())


def test_outputs_hold_nobody(tmp_path: Path, cli: Cli) -> None:
    output = tmp_path / "result"
    done = cli("quantify", bones(tmp_path), pet(tmp_path / NAME), "--verbose", "-o", output)
    assert done.status == 0, done.err
    assert not leaks((done.out + done.err).replace(str(tmp_path), "").encode())
    files = [f for f in output.rglob("*") if f.is_file()]
    assert {"report.html", "provenance.json", "summary.json", "suv.nii.gz"} <= {f.name for f in files}
    for file in files:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content += gzip.decompress(content)
        assert not leaks(content), f"{file.name} holds {leaks(content)}"


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_suv_says_nobody(tmp_path: Path, cli: Cli, form: tuple[str, ...]) -> None:
    done = cli("suv", pet(tmp_path / "pet"), *form, "-o", tmp_path / "suv.nii.gz")
    assert done.status == 0, done.err
    assert not leaks((done.out + done.err).encode())
    assert not leaks(gzip.decompress((tmp_path / "suv.nii.gz").read_bytes()))


@pytest.mark.parametrize(
    "header",
    [
        {"Units": "DOE JANE"},
        {"Units": "GML", "SUVType": "DOE JANE"},
        {"DecayCorrection": "DOE JANE"},
        {"CorrectedImage": ["QUINTERODOE", "JANETTAMARIE"]},
        {"SeriesType": ["DYNAMIC", "DOE JANE"]},
        {"PatientWeight": None},
        {"SeriesTime": "QUINTERODOE", "AcquisitionTime": "JANETTAMARIE"},
        {"Manufacturer": NAME, "Units": "CNTS"},
    ],
)
def test_refusals_name_nobody(tmp_path: Path, cli: Cli, header: dict[str, Any]) -> None:
    done = cli("suv", pet(tmp_path / "pet", **header))
    assert done.status == 3
    assert done.err.count("\n") == 1
    assert not leaks(done.err.encode())
    assert not done.out


def test_several_and_damaged_series_name_nobody(tmp_path: Path, cli: Cli) -> None:
    place = tmp_path / "study"
    pet(place / "a")
    pet(place / "b")
    done = cli("suv", place)
    assert done.status == 3
    assert "2 PT series" in done.err
    assert not leaks(done.err.encode())
    damaged = next((place / "a").rglob("*.dcm"))
    damaged.write_bytes(damaged.read_bytes()[:2000])
    done = cli("suv", place / "a")
    assert done.status == 3
    assert not leaks(done.err.encode())
