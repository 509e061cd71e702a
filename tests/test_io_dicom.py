"""DICOM: small series written with pydicom, turned every way, and real and synthetic objects of others."""

from __future__ import annotations

import gc
import io
import json
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.sr._snomed_dict import mapping as SNOMED
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from petbone.errors import InputError, ResourceError
from petbone.io import PetOptions, Scan, read_ct, read_labels, read_pet
from petbone.io.dicom import find_series
from petbone.io.dicom_pet import pet_facts
from petbone.io.dicom_pixels import read_image
from petbone.suv import HALF_LIFE_S
from petbone.volume import Grid

SHAPE = (6, 5, 4)  # columns, rows, slices
SECRET = "DOE^JANE"
NUCLIDES = ("C-11", "N-13", "O-15", "F-18", "Cu-64", "Ga-68", "Zr-89")
PET: dict[str, Any] = {
    "Modality": "PT",
    "Units": "BQML",
    "CorrectedImage": ["ATTN", "DECY"],
    "DecayCorrection": "START",
    "SeriesDate": "20240531",
    "SeriesTime": "110000",
    "AcquisitionDate": "20240531",
    "AcquisitionTime": "110000",
    "PatientWeight": 80,
    "PatientSize": 1.8,
    "PatientSex": "F",
    "Manufacturer": "SIEMENS",
    "FrameReferenceTime": 0,
    "ActualFrameDuration": 120000,
    "SeriesType": ["WHOLE BODY", "IMAGE"],
    "injection": {
        "Radiopharmaceutical": "Sodium fluoride",
        "RadionuclideTotalDose": 200e6,
        "RadionuclideHalfLife": 6586.2,
        "RadiopharmaceuticalStartDateTime": "20240531100000.00",
    },
}
FACTOR = 1000 * 80 / (200e6 * 2 ** (-3600 / 6586.2))
Change = Callable[[int, Dataset], None]


def ras_matrix(name: str) -> np.ndarray:
    """mm_from_ijk of the series that `write` makes, one per orientation."""
    angle = np.radians(20)
    oblique = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    axes = {
        "LPS": np.diag([-1.0, -1.0, 1.0]),
        "PIR": np.array([[0, 0, 1.0], [-1.0, 0, 0], [0, -1.0, 0]]),
        "ASR": np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 1.0, 0]]),
        "oblique": oblique @ np.diag([-1.0, -1.0, 1.0]),
        "tilted": np.array([[-1.0, 0, 0], [0, -1.0, 0.2], [0, 0, 0.98]]),
    }[name]
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.array([1.5, 2.0, 3.0])
    matrix[:3, 3] = [12.0, -34.0, 560.0]
    return matrix


def stored_values() -> np.ndarray:
    return np.random.default_rng(1).integers(-1000, 2000, SHAPE).astype(np.int16)


def header(content: dict[str, Any], syntax: str) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName = SECRET
    dataset.PatientID = "SECRET-ID"
    dataset.PatientBirthDate = "19470302"
    dataset.AccessionNumber = "SECRET-ACC"
    dataset.SeriesDescription = SECRET
    for keyword, value in content.items():
        if keyword == "injection":
            item = Dataset()
            for name, part in value.items():
                setattr(item, name, part)
            dataset.RadiopharmaceuticalInformationSequence = Sequence([item])
        elif value is not None:
            setattr(dataset, keyword, value)
    return dataset


def write(
    folder: Path,
    content: dict[str, Any] | None = None,
    matrix: np.ndarray | None = None,
    change: Change | None = None,
    syntax: str = ExplicitVRLittleEndian,
    values: np.ndarray | None = None,
) -> Path:
    """A series of `values` (i, j, k) at `matrix` (RAS mm from ijk), file names in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    values = stored_values() if values is None else values
    lps = np.diag([-1.0, -1, 1, 1]) @ (ras_matrix("LPS") if matrix is None else matrix)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    content = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0} | (content or {})
    series = pydicom.uid.generate_uid()
    for k in np.random.default_rng(2).permutation(values.shape[2]):
        slope = content.get("RescaleSlope")
        dataset = header(content, syntax)
        dataset.SeriesInstanceUID = series
        dataset.SeriesNumber = 7
        dataset.Columns, dataset.Rows = values.shape[:2]
        dataset.PixelSpacing = [spacing[1], spacing[0]]
        dataset.ImageOrientationPatient = [*(lps[:3, 0] / spacing[0]), *(lps[:3, 1] / spacing[1])]
        dataset.ImagePositionPatient = list((lps @ [0, 0, k, 1])[:3])
        dataset.SliceThickness = 99  # a trap: it is not the spacing
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(values.dtype.kind == "i")
        if isinstance(slope, list):
            dataset.RescaleSlope = slope[k]
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        pixels = values[:, :, k].T.astype(values.dtype.newbyteorder(order))
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        if change:
            change(int(k), dataset)
        if syntax == RLELossless:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(RLELossless)
        name = folder / f"{np.random.default_rng(int(k)).integers(1 << 40):x}.dcm"
        dataset.save_as(name, enforce_file_format=True)
    return folder


def pet(folder: Path, change: Change | None = None, **fields: Any) -> Scan:
    """SUV of a PET series with `fields` changed; None takes a field away; injection fields by their name."""
    return read_pet(pet_series(folder, change, **fields))


def pet_series(folder: Path, change: Change | None = None, **fields: Any) -> Path:
    injection = {k: fields.pop(k) if k in fields else v for k, v in PET["injection"].items()}
    extra = ("RadiopharmaceuticalStartTime", "RadionuclideCodeSequence")
    injection |= {k: fields.pop(k) for k in extra if k in fields}
    content = PET | fields | {"injection": {k: v for k, v in injection.items() if v is not None}}
    values = np.random.default_rng(3).integers(0, 20000, SHAPE).astype(np.uint16)
    return write(folder / "pet", content, change=change, values=values)


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    assert not any(secret in line for secret in (SECRET, "SECRET", "1947"))
    return line


# Geometry and values


@pytest.mark.parametrize("name", ["LPS", "PIR", "ASR", "oblique", "tilted"])
def test_series_is_where_it_was_put(tmp_path: Path, name: str) -> None:
    scan = read_ct(write(tmp_path / "ct", matrix=ras_matrix(name)))
    assert scan.volume.grid.same_as(Grid(SHAPE, ras_matrix(name)))
    assert np.array_equal(scan.volume.data, stored_values())
    assert scan.volume.data.dtype == np.int16
    assert any("tilted" in w for w in scan.warnings) == (name == "tilted")


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]
)
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    assert np.array_equal(read_ct(write(tmp_path / "ct", syntax=syntax)).volume.data, stored_values())


def test_rescale_to_hu_stays_int16(tmp_path: Path) -> None:
    stored = (stored_values() + 1024).astype(np.uint16)
    scan = read_ct(write(tmp_path / "ct", {"RescaleIntercept": -1024}, values=stored))
    assert scan.volume.data.dtype == np.int16
    assert np.array_equal(scan.volume.data, stored_values())


def test_hu_beyond_int16_become_float(tmp_path: Path) -> None:
    stored = (stored_values() + 1024).astype(np.uint16)
    stored[0, 0, 2] = 65535
    scan = read_ct(write(tmp_path / "ct", {"RescaleIntercept": -1024}, values=stored))
    assert scan.volume.data.dtype == np.float32
    assert scan.volume.data[0, 0, 2] == 65535 - 1024


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    slopes = [0.5, 0.25, 2.0, 1.0]
    scan = read_ct(write(tmp_path / "ct", {"RescaleSlope": slopes}))
    assert np.allclose(scan.volume.data, stored_values() * np.array(slopes))


def test_twelve_bits_with_sign_in_sixteen(tmp_path: Path) -> None:
    def twelve(k: int, dataset: Dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        pixels = np.frombuffer(dataset.PixelData, np.int16)
        dataset.PixelData = (pixels & 0x0FFF).tobytes()  # the upper four bits are not of the value

    values = stored_values()
    assert np.array_equal(read_ct(write(tmp_path / "ct", change=twelve)).volume.data, values)


def test_zip_is_the_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct")
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"deep/er/{file.name}")
        archive.writestr("readme.txt", "not DICOM")
    one, other = read_ct(folder), read_ct(tmp_path / "ct.zip")
    assert np.array_equal(one.volume.data, other.volume.data)
    assert one.source["sha256"] == other.source["sha256"]


def test_nested_folders_with_other_files_and_a_scout(tmp_path: Path) -> None:
    write(tmp_path / "study" / "a" / "b")
    write(tmp_path / "study" / "scout", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    pet_series(tmp_path / "study")
    (tmp_path / "study" / "notes.txt").write_text("not DICOM" * 100)
    assert np.array_equal(read_ct(tmp_path / "study").volume.data, stored_values())
    assert read_pet(tmp_path / "study").source["tracer"] == "naf"


def test_table_that_jitters_by_hundredths_is_even(tmp_path: Path) -> None:
    def jitter(k: int, dataset: Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 0.04 * (-1) ** k]

    assert read_ct(write(tmp_path / "ct", change=jitter)).volume.grid.spacing_mm[2] == pytest.approx(
        3, abs=0.03
    )


# What cannot be used


def test_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 200)
    assert "no DICOM file" in refused(lambda: read_ct(tmp_path))


def test_zip_without_dicom_and_damaged_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "x" * 200)
    assert "no DICOM file" in refused(lambda: read_ct(tmp_path / "a.zip"))
    raw = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(raw[:-4])
    assert "a.zip" in refused(lambda: read_ct(tmp_path / "a.zip"))


def test_single_file_and_labels(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct")
    assert "folder" in refused(lambda: read_ct(next(folder.iterdir())))
    assert "label map" in refused(lambda: read_labels(folder))


def test_wrong_modality(tmp_path: Path) -> None:
    write(tmp_path / "ct")
    assert "modality CT; expected a PT series" in refused(lambda: read_pet(tmp_path / "ct"))


def test_two_series_are_listed_without_names(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", {"SeriesNumber": 8})
    line = refused(lambda: read_ct(tmp_path))
    assert "2 CT series: number 7 with 4 slices; number 7 with 4 slices; expected one" in line
    assert "--ct-series" in line


def numbered(number: int) -> Change:
    def change(k: int, dataset: Dataset) -> None:
        dataset.SeriesNumber = number

    return change


def test_series_is_picked_by_number_or_uid(tmp_path: Path) -> None:
    write(tmp_path / "a", change=numbered(3))
    other = stored_values() + 1
    file = next(write(tmp_path / "b", change=numbered(4), values=other).iterdir())
    uid = str(pydicom.dcmread(file).SeriesInstanceUID)
    write(tmp_path / "p", PET, change=numbered(5))
    for wanted in ("4", uid):
        scan = read_ct(tmp_path, wanted)
        assert np.array_equal(scan.volume.data, other)
        assert scan.warnings == ("other series of the same kind were left: CT number 3 with 4 slices",)
        assert scan.source["series_left"] == ["CT number 3 with 4 slices", "PT number 5 with 4 slices"]
    line = refused(lambda: read_ct(tmp_path, "9"))
    assert "2 CT series: number 3 with 4 slices; number 4 with 4 slices" in line
    write(tmp_path / "c", change=numbered(4))
    assert "2 CT series of number 4" in refused(lambda: read_ct(tmp_path, "4"))


def test_series_of_a_nifti_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.nii"
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), -50, np.int16), np.eye(4)), file)  # type: ignore[no-untyped-call]
    assert "--ct-series picks" in refused(lambda: read_ct(file, "4"))
    assert "--series picks" in refused(lambda: read_pet(file, PetOptions(series="4")))


def test_pet_without_attenuation_correction_is_passed_over(tmp_path: Path) -> None:
    pet_series(tmp_path / "ac")
    pet_series(tmp_path / "nac", numbered(8), CorrectedImage=["DECY"])
    scan = read_pet(tmp_path)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)
    left = "other series of the same kind were left: PT number 8 with 4 slices without attenuation correction"
    assert left in scan.warnings
    assert "lacks ATTN" in refused(lambda: read_pet(tmp_path, PetOptions(series="8")))


@pytest.mark.parametrize("keyword", ["SeriesType", "ImageType"])
def test_projections_beside_a_pet_are_passed_over(tmp_path: Path, keyword: str) -> None:
    """Some scanners store a turning MIP as a PET series of its own."""
    words = {"SeriesType": ["WHOLE BODY", "REPROJECTION"], "ImageType": ["DERIVED", "SECONDARY", "MIP"]}
    pet_series(tmp_path / "pet")
    pet_series(tmp_path / "mip", numbered(8), **{keyword: words[keyword]})
    scan = read_pet(tmp_path)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)
    left = "other series of the same kind were left: PT number 8 with 4 slices, projections or pictures"
    assert left in scan.warnings


def test_projections_alone_are_refused(tmp_path: Path) -> None:
    assert "type REPROJECTION" in refused(lambda: pet(tmp_path, SeriesType=["WHOLE BODY", "REPROJECTION"]))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_damage_in_a_zip_names_no_member(tmp_path: Path, method: int) -> None:
    """Bytes are flipped all along the file: read rightly, or refused in one line without a member's name."""
    file = tmp_path / "pet.zip"
    with zipfile.ZipFile(file, "w", method) as archive:
        for n, one in enumerate(sorted(pet_series(tmp_path / "a").iterdir())):
            archive.write(one, f"{SECRET}/{n}.dcm")
    whole = file.read_bytes()
    expected = read_pet(file).volume.data
    lines = set()
    for at in np.linspace(0, len(whole) - 1, 150).astype(int):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert np.array_equal(read_pet(file).volume.data, expected)
        except InputError as error:
            lines.add(str(error))
    assert any("damaged" in line for line in lines)
    assert not any(SECRET in line or "\n" in line for line in lines)


def test_encrypted_zip(tmp_path: Path) -> None:
    file = tmp_path / "pet.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for one in pet_series(tmp_path / "a").iterdir():
            archive.write(one, f"{SECRET}/{one.name}")
    raw = bytearray(file.read_bytes())
    for at in range(len(raw) - 4):  # the flag of encryption, in both headers of every member
        if raw[at : at + 4] in (b"PK\3\4", b"PK\1\2"):
            raw[at + (6 if raw[at + 2] == 3 else 8)] |= 1
    file.write_bytes(raw)
    assert "encrypted" in refused(lambda: read_pet(file))


def test_zip_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """Members are read twice; what is damaged by then is refused and no traceback."""
    file = tmp_path / "ct.zip"
    values = np.random.default_rng(5).integers(-1000, 2000, (64, 64, 4)).astype(np.int16)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in write(tmp_path / "ct", values=values).iterdir():
            archive.write(one, f"{SECRET}/{one.name}")
    series = find_series(file, "CT")
    raw = file.read_bytes()
    file.write_bytes(raw[:40] + bytes(len(raw) // 2) + raw[40 + len(raw) // 2 :])
    assert "damaged" in refused(lambda: read_image(file, series, whole_numbers=True))


def test_files_that_only_look_like_dicom_are_passed_over(tmp_path: Path) -> None:
    """Without the mark of DICOM, beginning as some DICOM files do."""
    folder = write(tmp_path / "ct")
    for n, start in enumerate((b"\x08\0", b"\x02\0", b"\x08\0\x05\0CS")):
        (folder / f"{n}.bin").write_bytes(start + b"\xff\xfe" * 200)
    assert np.array_equal(read_ct(folder).volume.data, stored_values())


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Opened, the memory of this process gives an error of input and output."""
    folder = write(tmp_path / "ct")
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs /proc")
    (folder / f"{SECRET}.dcm").symlink_to("/proc/self/mem")
    line = refused(lambda: read_ct(folder))
    assert "cannot be read" in line
    assert "Input/output error" in line


def test_words_in_small_letters(tmp_path: Path) -> None:
    scan = pet(tmp_path, CorrectedImage=["DECY", "ATTN"])
    folder = pet_series(tmp_path / "b")
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"ATTN\\DECY", b"attn\\decy"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_pet(folder).suv == scan.suv


def test_objects_of_no_series_and_pictures_are_passed_over(tmp_path: Path) -> None:
    """A hanging protocol, a screen capture that calls itself PET, and what a Mac leaves in a zip."""
    folder = pet_series(tmp_path / "pet")
    hanging = header({}, ExplicitVRLittleEndian)
    hanging.SOPClassUID = hanging.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.38.1"
    hanging.save_as(folder / "hanging.dcm", enforce_file_format=True)

    def coloured(k: int, dataset: Dataset) -> None:
        dataset.SamplesPerPixel, dataset.SeriesNumber = 3, 9

    pet_series(tmp_path / "capture", coloured)
    scan = read_pet(tmp_path)
    assert scan.warnings == (
        "other series of the same kind were left: PT number 9 with 4 slices, projections or pictures",
    )
    with zipfile.ZipFile(tmp_path / "pet.zip", "w") as archive:
        for n, file in enumerate(folder.iterdir()):
            archive.write(file, f"pet/{n}.dcm")
            archive.write(file, f"__MACOSX/pet/._{n}.dcm")
    assert np.array_equal(read_pet(tmp_path / "pet.zip").volume.data, scan.volume.data)


def test_last_slice_of_another_type(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 3:
            dataset.SeriesType = ["DYNAMIC", "IMAGE"]

    assert "type DYNAMIC" in refused(lambda: pet(tmp_path, change))


def write_medium(folder: Path, medium: Path) -> None:
    """The files of a folder as DICOM media hold them, with a DICOMDIR, by pydicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of its own temporary folder
        files = FileSet()
        for file in folder.iterdir():
            dataset = pydicom.dcmread(file)
            dataset.StudyInstanceUID, dataset.StudyDate, dataset.StudyTime = "1.2.3", "20240531", "110000"
            dataset.InstanceNumber, dataset.StudyID = 1, "1"
            files.add(dataset)
        files.write(medium)
        del files
        gc.collect()


def test_directory_of_a_medium(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct")
    write_medium(folder, tmp_path / "medium")
    scan = read_ct(tmp_path / "medium" / "DICOMDIR")
    assert np.array_equal(scan.volume.data, stored_values())
    assert np.array_equal(read_ct(tmp_path / "medium").volume.data, stored_values())
    for file in sorted((tmp_path / "medium").rglob("*"), reverse=True):  # some disks have them so
        if file.name != "DICOMDIR":
            file.rename(file.with_name(file.name.lower()))
    assert np.array_equal(read_ct(tmp_path / "medium" / "DICOMDIR").volume.data, stored_values())
    next(f for f in (tmp_path / "medium").rglob("*") if f.is_file() and f.name != "DICOMDIR").unlink()
    assert "1 of the 4 files that it lists" in refused(lambda: read_ct(tmp_path / "medium" / "DICOMDIR"))


@pytest.mark.parametrize(
    ("drop", "said"), [({1}, "1 slices are missing (a gap of 6.00 mm"), ({1, 2}, "spacing is")]
)
def test_missing_slices(tmp_path: Path, drop: set[int], said: str) -> None:
    values = np.concatenate([stored_values()] * 3, axis=2)
    folder = write(tmp_path / "ct", values=values)
    for file in folder.iterdir():
        z = float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])
        if round((z - 560) / 3) in drop:
            file.unlink()
    assert said in refused(lambda: read_ct(folder))


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (lambda k: [0, 0, -3.0 if k == 2 else 0], "1 of 4 slices share"),
        (lambda k: [0, 0, 1.0 if k == 2 else 0], "unevenly spaced, 2.00 to 4.00"),
        (lambda k: [5.0 if k == 2 else 0, 0, 0], "sideways by up to 5.00"),
    ],
)
def test_crooked_stacks(tmp_path: Path, shift: Callable[[int], list[float]], said: str) -> None:
    def move(k: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = list(np.add(dataset.ImagePositionPatient, shift(k)))

    assert said in refused(lambda: read_ct(write(tmp_path / "ct", change=move)))


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("NumberOfFrames", 4, "several frames without functional groups"),
        ("SamplesPerPixel", 3, "colours"),
        ("PixelSpacing", [2.0, 2.5], "2 different values of PixelSpacing"),
        ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0], "different values of ImageOrientationPatient"),
    ],
)
def test_unusual_slices(tmp_path: Path, keyword: str, value: Any, said: str) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 1:
            setattr(dataset, keyword, value)

    assert said in refused(lambda: read_ct(write(tmp_path / "ct", change=change)))


def test_slice_without_position_and_single_slice(tmp_path: Path) -> None:
    def forget(k: int, dataset: Dataset) -> None:
        if k == 1:
            del dataset.ImagePositionPatient

    assert "no ImagePositionPatient" in refused(lambda: read_ct(write(tmp_path / "a", change=forget)))
    one = write(tmp_path / "b", values=stored_values()[:, :, :1])
    assert "expected at least 2" in refused(lambda: read_ct(one))


def test_flat_orientation(tmp_path: Path) -> None:
    def flat(k: int, dataset: Dataset) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, 1]
        dataset.ImagePositionPatient = [0, 3 * k, 0]
        dataset.PixelSpacing = [0, 1]

    assert "singular orientation" in refused(lambda: read_ct(write(tmp_path / "ct", change=flat)))


def test_cut_and_empty_pixels(tmp_path: Path) -> None:
    def cut(k: int, dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[:20]

    def none(k: int, dataset: Dataset) -> None:
        del dataset.PixelData

    assert "cut short" in refused(lambda: read_ct(write(tmp_path / "a", change=cut)))
    assert "no pixel data" in refused(lambda: read_ct(write(tmp_path / "b", change=none)))


def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "ct")

    def none_left(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("petbone.io.dicom_pixels.np.empty", none_left)
    with pytest.raises(ResourceError, match="do not fit into memory"):
        read_ct(folder)


def test_damaged_files_are_not_left_out(tmp_path: Path) -> None:
    """Left out at the end of a stack, a slice would be missed by nobody."""
    for keep, said in ((150, "malformed"), (420, "malformed"), (700, "hold no image or are cut short")):
        folder = write(tmp_path / str(keep))
        last = max(folder.iterdir(), key=lambda f: pydicom.dcmread(f).ImagePositionPatient[2])
        last.write_bytes(last.read_bytes()[:keep])
        assert said in refused(lambda folder=folder: read_ct(folder))


def test_files_cut_anywhere(tmp_path: Path) -> None:
    """At every place of a PET's header: refused in a line, and never the series without the slice."""
    folder = pet_series(tmp_path)
    last = max(folder.iterdir(), key=lambda f: pydicom.dcmread(f).ImagePositionPatient[2])
    whole = last.read_bytes()
    for keep in range(150, len(whole) - 1, 23):
        last.write_bytes(whole[:keep])
        assert str(folder) in refused(lambda: read_pet(folder)), keep


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    line = refused(
        lambda: read_ct(write(tmp_path / "ct", {"RescaleSlope": 1e308, "RescaleIntercept": 1e308}))
    )
    assert "not finite" in line


def compress_by_gdcm(folder: Path, scratch: Path) -> None:
    """JPEG Lossless, which is another codec than pydicom's."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    for file in folder.iterdir():
        plain = pydicom.dcmread(file)
        writer.SetFileName(str(scratch))
        writer.Execute(sitk.GetImageFromArray(plain.pixel_array[None]))
        packed = pydicom.dcmread(scratch)
        plain.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        plain["PixelData"] = packed["PixelData"]
        plain.save_as(file)
    assert packed.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLosslessSV1


def test_jpeg_lossless_is_decoded_with_its_rescale(tmp_path: Path) -> None:
    """As archives send CT: stored + 1024."""
    stored = (stored_values() + 1024).astype(np.uint16)
    folder = write(tmp_path / "ct", {"RescaleIntercept": -1024}, values=stored)
    compress_by_gdcm(folder, tmp_path / "one.dcm")
    scan = read_ct(folder)
    assert scan.volume.data.dtype == np.int16
    assert np.array_equal(scan.volume.data, stored_values())


def test_jpeg_2000_is_decoded(tmp_path: Path) -> None:
    """Codestreams by OpenJPEG, in Pillow: what many archives store."""
    stored = (stored_values() + 1024).astype(np.uint16)
    folder = write(tmp_path / "ct", {"RescaleIntercept": -1024}, values=stored)
    for file in folder.iterdir():
        plain = pydicom.dcmread(file)
        stream = io.BytesIO()
        options = {"irreversible": False, "no_jp2": True, "num_resolutions": 1}
        PIL.Image.fromarray(plain.pixel_array).save(stream, "JPEG2000", **options)
        plain.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        plain.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
        plain["PixelData"].VR = "OB"
        plain["PixelData"].is_undefined_length = True
        plain.save_as(file)
    assert np.array_equal(read_ct(folder).volume.data, stored_values())


def test_compressed_slice_of_another_size(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct")
    compress_by_gdcm(folder, tmp_path / "one.dcm")
    for file in folder.iterdir():
        one = pydicom.dcmread(file)
        one.Rows, one.Columns = one.Columns, one.Rows
        one.save_as(file)
    assert "a slice has shape (5, 6); expected (6, 5)" in refused(lambda: read_ct(folder))


def test_compression_that_nobody_can_undo(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct")
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 20])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(file)
    assert "cannot be decoded" in refused(lambda: read_ct(folder))


# SUV


def test_plain_bqml(tmp_path: Path) -> None:
    scan = pet(tmp_path, RescaleSlope=[0.5, 1.5, 2.5, 3.5])
    stored = np.random.default_rng(3).integers(0, 20000, SHAPE)
    assert np.allclose(scan.volume.data, stored * np.array([0.5, 1.5, 2.5, 3.5]) * FACTOR, rtol=1e-6)
    assert scan.acquisition is not None
    assert (scan.acquisition.height_m, scan.acquisition.sex) == (1.8, "F")
    assert scan.warnings == ()


def test_no_identity_leaves_the_reader(tmp_path: Path) -> None:
    scan = pet(tmp_path)
    everything = json.dumps(scan.source) + repr(scan.warnings) + repr(scan.acquisition) + repr(scan.suv)
    for secret in (SECRET, "SECRET", "19470302", "DOE"):
        assert secret not in everything
    assert "2024" not in json.dumps(scan.source)  # dates identify


@pytest.mark.parametrize(
    ("fields", "factor", "rule"),
    [
        ({"DecayCorrection": "ADMIN"}, 1000 * 80 / 200e6, None),
        (
            {
                "DecayCorrection": "ADMIN",
                "RadionuclideHalfLife": None,
                "Radiopharmaceutical": None,
                "RadiopharmaceuticalStartDateTime": None,
            },
            1000 * 80 / 200e6,
            None,
        ),
        ({"RadionuclideTotalDose": 200}, FACTOR, "SeriesTime"),  # MBq
        ({"PatientWeight": 80000}, FACTOR, "SeriesTime"),  # grams
        ({"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "100000"}, FACTOR, None),
        (
            {
                "RadiopharmaceuticalStartDateTime": None,
                "RadiopharmaceuticalStartTime": "233000",
                "SeriesTime": "003000",
                "AcquisitionTime": "003000",
            },
            FACTOR,
            None,
        ),
        ({"Units": "GML", "SUVType": "BW"}, 1.0, None),
        # dates wiped by anonymisation, times kept
        (
            {
                "SeriesDate": None,
                "AcquisitionDate": None,
                "RadiopharmaceuticalStartDateTime": None,
                "RadiopharmaceuticalStartTime": "100000",
            },
            FACTOR,
            "SeriesTime",
        ),
        ({"SeriesDate": None, "AcquisitionDate": None}, FACTOR, "SeriesTime"),
        # the injection in UTC, the scan two hours east of it
        (
            {
                "TimezoneOffsetFromUTC": "+0200",
                "RadiopharmaceuticalStartDateTime": "20240531080000.00+0000",
            },
            FACTOR,
            "SeriesTime",
        ),
        ({"Units": "GML", "RadionuclideTotalDose": None}, 1.0, None),
        # acquired before the series' time: the series was made later
        ({"SeriesTime": "123000"}, FACTOR, "earliest AcquisitionTime"),
        ({"SeriesTime": None}, FACTOR, "earliest AcquisitionTime"),
        ({"AcquisitionTime": None}, FACTOR, "SeriesTime"),
    ],
)
def test_rules(tmp_path: Path, fields: dict[str, Any], factor: float, rule: str | None) -> None:
    scan = pet(tmp_path, **fields)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(factor, rel=1e-9)
    if rule:
        assert scan.source["suv"]["tags"]["scan start from"] == rule


def test_back_computation(tmp_path: Path) -> None:
    """AcquisitionTime 11:20, average counts 1200 s + 59.9 s after the start: the scan began at 11:00."""
    decay = np.log(2) / 6586.2 * 120
    average_s = np.log(decay / (1 - np.exp(-decay))) / (np.log(2) / 6586.2)
    fields = {"AcquisitionTime": "112000", "SeriesTime": "130000"}
    scan = pet(tmp_path, **fields, FrameReferenceTime=(1200 + average_s) * 1000)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-6)
    assert any("computed back" in w for w in scan.warnings)
    ge = pet(tmp_path / "ge", **fields, Manufacturer="GE MEDICAL SYSTEMS", FrameReferenceTime=1200e3)
    assert ge.suv is not None
    assert ge.suv.factor == pytest.approx(FACTOR, rel=1e-9)  # there the offset is that of the frame's start


def test_frames_that_begin_long_after_the_series(tmp_path: Path) -> None:
    """A time that does not fit is told; one that FrameReferenceTime explains is not."""
    scan = pet(tmp_path / "a", SeriesTime="103000")
    assert any("the first frame is 30 minutes later" in w for w in scan.warnings)
    scan = pet(tmp_path / "b", SeriesTime="103000", FrameReferenceTime=(1800 + 60) * 1000)
    assert not scan.warnings


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("RescaleSlope", None, "1 of 4 slices have no RescaleSlope"),
        ("RescaleIntercept", None, "1 of 4 slices have no RescaleIntercept"),
        ("RescaleSlope", -1, "a RescaleSlope below 0"),
    ],
)
def test_scale_of_one_slice(tmp_path: Path, keyword: str, value: Any, said: str) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 1:
            setattr(dataset, keyword, value)

    assert said in refused(lambda: read_ct(write(tmp_path / "ct", change=change)))
    assert said in refused(lambda: pet(tmp_path, change))


@pytest.mark.parametrize("empty", [True, False])
def test_slope_of_nothing(tmp_path: Path, empty: bool) -> None:
    """Some scanners write a slope of 0 for a slice without a count; with counts they would be lost."""

    def change(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset.RescaleSlope = 0
            if empty:
                dataset.PixelData = bytes(len(dataset.PixelData))

    if empty:
        assert not pet(tmp_path, change).volume.data[:, :, 1].any()
    else:
        assert "RescaleSlope 0, but its pixels are not" in refused(lambda: pet(tmp_path, change))


def test_slopes_of_compressed_slices(tmp_path: Path) -> None:
    """The slope is applied once, whoever decodes, and a slope of 0 is looked into."""
    slopes = [0.5, 0.0, 2.5, 3.5]

    def empty(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset.PixelData = bytes(len(dataset.PixelData))

    plain, packed = (pet_series(tmp_path / n, empty, RescaleSlope=slopes) for n in "ab")
    compress_by_gdcm(packed, tmp_path / "one.dcm")
    assert np.array_equal(read_pet(packed).volume.data, read_pet(plain).volume.data)
    full = pet_series(tmp_path / "c", RescaleSlope=slopes)
    compress_by_gdcm(full, tmp_path / "one.dcm")
    assert "RescaleSlope 0, but its pixels are not" in refused(lambda: read_pet(full))


def test_series_time_that_cannot_be_checked_is_told(tmp_path: Path) -> None:
    scan = pet(tmp_path, AcquisitionTime=None)
    assert any("no AcquisitionTime is there to check it" in w for w in scan.warnings)


def test_acquisition_date_that_is_none_does_not_hide_the_time(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        dataset.AcquisitionDate = "2400"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = pet_series(tmp_path, spoil, SeriesTime="122300")
    scan = read_pet(folder)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)
    assert any("SeriesTime is after the acquisition" in w for w in scan.warnings)


def test_pet_without_any_slope(tmp_path: Path) -> None:
    assert "4 of 4 slices have no RescaleSlope" in refused(lambda: pet(tmp_path, RescaleSlope=None))


def test_frames_that_disagree_on_the_start(tmp_path: Path) -> None:
    def later(k: int, dataset: Dataset) -> None:
        dataset.FrameReferenceTime = 60e3 + 200e3 * k

    line = refused(lambda: pet(tmp_path, later, SeriesTime="130000"))
    assert "scan starts 600 s apart" in line
    assert "--scan-start" in line


@pytest.mark.parametrize("creator", [True, False])
def test_ge_private_scan_time(tmp_path: Path, creator: bool) -> None:
    def private(k: int, dataset: Dataset) -> None:
        if creator:
            block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
            block.add_new(0x0D, "DT", "20240531110000.00")
        else:
            dataset.add_new((0x0009, 0x100D), "DT", "20240531110000.00")

    scan = pet(
        tmp_path, private, Manufacturer="GE MEDICAL SYSTEMS", SeriesTime="123000", AcquisitionTime="113000"
    )
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)


@pytest.mark.parametrize(
    ("suv_scale", "activity_scale", "factor"),
    [(0.000551, 1.6, 0.000551), (0, 1.6, 1.6 * FACTOR), (None, 1.6, 1.6 * FACTOR)],
)
def test_philips_counts(
    tmp_path: Path, suv_scale: float | None, activity_scale: float, factor: float
) -> None:
    def private(k: int, dataset: Dataset) -> None:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        if suv_scale is not None:
            block.add_new(0x00, "DS", str(suv_scale))
        block.add_new(0x09, "DS", str(activity_scale))

    scan = pet(tmp_path, private, Units="CNTS", Manufacturer="Philips")
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize(
    ("fields", "factor"),
    [
        ({"Units": "GML", "SUVType": "LBM"}, 80 / (1.07 * 80 - 148 * (80 / 180) ** 2)),
        ({"Units": "GML", "SUVType": "LBM", "PatientSex": "M"}, 80 / (1.1 * 80 - 120 * (80 / 180) ** 2)),
        ({"Units": "GML", "SUVType": "LBMJAMES128", "PatientSex": "M"}, 80 / (88 - 128 * (80 / 180) ** 2)),
        ({"Units": "GML", "SUVType": "LBMJANMA"}, (8780 + 244 * 80 / 1.8**2) / 9270),
        ({"Units": "GML", "SUVType": "IBW"}, 80 / (45.5 + 0.91 * 28)),
        ({"Units": "CM2ML"}, 80e3 / (71.84 * 180**0.725 * 80**0.425)),
        ({"Units": "CM2ML", "SUVType": "BSA", "PatientSex": None}, 80e3 / (71.84 * 180**0.725 * 80**0.425)),
        ({"Units": "CM2ML", "PatientSize": 180}, 80e3 / (71.84 * 180**0.725 * 80**0.425)),  # cm
    ],
)
def test_suv_of_another_type_becomes_that_of_body_weight(
    tmp_path: Path, fields: dict[str, Any], factor: float
) -> None:
    scan = pet(tmp_path, **fields)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(factor, rel=1e-9)
    assert "to body weight" in scan.suv.rule


def test_sex_o_is_told(tmp_path: Path) -> None:
    scan = pet(tmp_path, Units="GML", SUVType="LBM", PatientSex="O")
    man, woman = 88 - 120 * (80 / 180) ** 2, 1.07 * 80 - 148 * (80 / 180) ** 2
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(160 / (man + woman), rel=1e-9)
    assert any("sex O" in w for w in scan.warnings)


def test_header_without_an_injection(tmp_path: Path) -> None:
    def forget(k: int, dataset: Dataset) -> None:
        del dataset.RadiopharmaceuticalInformationSequence

    line = refused(lambda: pet(tmp_path, forget))
    for keyword in ("RadionuclideTotalDose", "RadiopharmaceuticalStartDateTime", "RadionuclideHalfLife"):
        assert keyword in line


def test_size_of_the_body_can_be_given(tmp_path: Path) -> None:
    folder = pet_series(tmp_path, Units="GML", SUVType="LBM", PatientSize=None, PatientSex=None)
    scan = read_pet(folder, PetOptions(height_cm=180, sex="F"))
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(80 / (1.07 * 80 - 148 * (80 / 180) ** 2), rel=1e-9)


def test_without_decay_correction_every_slice_has_its_own_time(tmp_path: Path) -> None:
    """A body of SUV 1 throughout, scanned in two beds of different lengths: what decays comes back."""
    per_s = np.log(2) / 6586.2

    def seen(start_s: float, frame_s: float) -> float:
        """Mean share of the injected activity in a frame."""
        return float(np.exp(-per_s * start_s) * (1 - np.exp(-per_s * frame_s)) / (per_s * frame_s))

    def bed(k: int, dataset: Dataset) -> None:
        start_s, frame_s = (3600, 120) if k < 2 else (3840, 600)
        dataset.AcquisitionTime = "110000" if k < 2 else "110400"
        dataset.ActualFrameDuration = frame_s * 1000
        activity = 200e6 / 80e3 * seen(start_s, frame_s)
        dataset.RescaleSlope = activity / 1000
        dataset.PixelData = np.full(SHAPE[:2][::-1], 1000, np.uint16).tobytes()

    scan = pet(tmp_path, bed, DecayCorrection="NONE", CorrectedImage=["ATTN"])
    assert scan.volume.data == pytest.approx(1.0, rel=1e-5)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(80e3 / 200e6 / seen(3600, 120), rel=1e-9)
    low, high = scan.source["suv"]["tags"]["slice factors"]
    assert (low, high) == pytest.approx([80e3 / 200e6 / seen(3600, 120), 80e3 / 200e6 / seen(3840, 600)])


def test_half_life_that_is_not_the_nuclides_is_told(tmp_path: Path) -> None:
    code = Dataset()
    code.CodeMeaning = "^68^Gallium"
    scan = pet(tmp_path, RadionuclideCodeSequence=Sequence([code]))
    assert any("6586.2 s as recorded, but Ga-68 has" in w for w in scan.warnings)


@pytest.mark.parametrize("old", [True, False])
def test_nuclides_by_their_codes(tmp_path: Path, old: bool) -> None:
    """Codes without a meaning, as pydicom has them from PS3.16 CID 4020 and SNOMED's table of old codes."""
    names = {"Carbon": 11, "Nitrogen": 13, "Oxygen": 15, "Fluorine": 18, "Copper": 64, "Gallium": 68}
    names["Zirconium"] = 89
    for n, (nuclide, (name, mass)) in enumerate(zip(NUCLIDES, names.items(), strict=True)):
        value = getattr(codes.cid4020, f"_{mass}{name}").value
        code = Dataset()
        code.CodeValue = SNOMED["SCT"][value] if old else value
        injected = f"20240531105{n}00"
        scan = pet(
            tmp_path / str(n),
            RadionuclideHalfLife=None,
            Radiopharmaceutical=None,
            RadionuclideCodeSequence=Sequence([code]),
            RadiopharmaceuticalStartDateTime=injected,
        )
        assert any(f"that of {nuclide}" in w for w in scan.warnings)
        assert scan.acquisition is not None
        assert scan.acquisition.half_life_s == HALF_LIFE_S[nuclide]


def test_half_life_from_the_nuclide(tmp_path: Path) -> None:
    code = Dataset()
    code.CodeMeaning = "^18^Fluorine"
    scan = pet(tmp_path, RadionuclideHalfLife=None, RadionuclideCodeSequence=Sequence([code]))
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)
    assert any("that of F-18" in w for w in scan.warnings)


def test_half_life_from_the_tracer(tmp_path: Path) -> None:
    scan = pet(tmp_path, RadionuclideHalfLife=None)  # sodium fluoride
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)
    assert any("naf is taken as labelled with F-18" in w for w in scan.warnings)
    assert scan.acquisition is not None
    assert scan.acquisition.tracer == scan.source["tracer"] == "naf"


def test_options_complete_the_header(tmp_path: Path) -> None:
    folder = pet_series(tmp_path, PatientWeight=None, RadiopharmaceuticalStartDateTime=None)
    line = refused(lambda: read_pet(folder))
    assert "PatientWeight (--weight-kg)" in line
    assert "RadiopharmaceuticalStartDateTime (--injected-at)" in line
    scan = read_pet(folder, PetOptions(weight_kg=80, injected_at="10:00:00", units="suv", tracer="fdg"))
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)
    assert scan.source["tracer"] == "fdg"
    assert any("--units is ignored" in w for w in scan.warnings)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"CorrectedImage": ["DECY"]}, "lacks ATTN"),
        ({"CorrectedImage": ["ATTN"]}, "lacks DECY"),
        ({"CorrectedImage": None}, "lacks ATTN and DECY"),
        ({"Units": "PROPCNTS"}, "Units PROPCNTS"),
        ({"Units": "CPS"}, "Units CPS"),
        ({"Units": None}, "Units missing"),
        ({"Units": "CNTS"}, "Philips factors"),
        ({"Units": "GML", "SUVType": "BSA"}, "GML with SUVType BSA; expected BW, LBM, LBMJAMES128"),
        ({"Units": "CM2ML", "SUVType": "BW"}, "CM2ML with SUVType BW; expected BSA"),
        ({"Units": "GML", "SUVType": "LBM", "PatientSize": None}, "missing: --height-cm"),
        ({"Units": "GML", "SUVType": "IBW", "PatientSex": None}, "missing: --sex"),
        ({"Units": "CM2ML", "PatientWeight": None, "PatientSize": None}, "missing: --weight-kg, --height-cm"),
        ({"Units": "CM2ML", "PatientWeight": 800}, "a weight of 800 kg"),
        (
            {"Units": "GML", "SUVType": "LBMJAMES128", "PatientWeight": 200, "PatientSize": 1.5},
            "the formula does not hold",
        ),
        ({"DecayCorrection": "NONE"}, "has DECY but DecayCorrection is NONE"),
        ({"DecayCorrection": "NONE", "CorrectedImage": ["SCAT"]}, "lacks ATTN"),
        ({"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"], "Units": "GML"}, "lacks DECY"),
        (
            {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"], "ActualFrameDuration": None},
            "ActualFrameDuration is missing in a slice",
        ),
        (
            {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"], "AcquisitionTime": None},
            "AcquisitionTime or",
        ),
        ({"DecayCorrection": None}, "DecayCorrection missing"),
        ({"PatientWeight": 0}, "PatientWeight"),
        ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose"),
        ({"RadionuclideHalfLife": None, "Radiopharmaceutical": None}, "RadionuclideHalfLife"),
        ({"RadiopharmaceuticalStartDateTime": None}, "RadiopharmaceuticalStartDateTime"),
        ({"RadiopharmaceuticalStartDateTime": "20240531113000"}, "1800 s after"),
        ({"RadiopharmaceuticalStartDateTime": "20240530160000"}, "half-lives"),
        ({"SeriesTime": None, "AcquisitionTime": None}, "SeriesTime"),
        ({"SeriesType": ["DYNAMIC", "IMAGE"]}, "DYNAMIC"),
    ],
)
def test_suv_that_would_be_a_guess(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    assert said in refused(lambda: pet(tmp_path, **fields))


@pytest.mark.parametrize("keyword", ["PatientWeight", "Units", "RadionuclideTotalDose", "Philips"])
def test_headers_that_disagree(tmp_path: Path, keyword: str) -> None:
    def differ(k: int, dataset: Dataset) -> None:
        if keyword == "Philips":
            dataset.Units = "CNTS"
            dataset.private_block(0x7053, "Philips PET Private Group", create=True).add_new(
                0, "DS", str(k + 1)
            )
        elif keyword == "RadionuclideTotalDose":
            dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = 200e6 + k
        elif k == 2:
            setattr(dataset, keyword, "GML" if keyword == "Units" else 81)

    assert "different" in refused(lambda: pet(tmp_path, differ))


def test_two_injections(tmp_path: Path) -> None:
    def twice(k: int, dataset: Dataset) -> None:
        dataset.RadiopharmaceuticalInformationSequence.append(Dataset())

    assert "2 injections" in refused(lambda: pet(tmp_path, twice))


# Objects of others


@pytest.mark.parametrize(
    "case",
    ["DRO_0_0", "DRO_1_0", "DRO_2_0", "DRO_2_4", "DRO_3_0", "DRO_3_1", "DRO_3_3", "DRO_4_0", "DRO_5_0"],
)
def test_ibsi_reference_objects(shared: Path, tmp_path: Path, case: str) -> None:
    """IBSI-SUV: minimum, median and maximum over the mask are 0.20, 1.00 and 4.00 in every object."""
    with tarfile.open(shared / "oracles/oncoray__suv_computation/DRO.tar.xz") as archive:
        wanted = [m for m in archive if f"/{case}/" in f"/{m.name}" and "/RS/" not in m.name]
        archive.extractall(tmp_path, wanted, filter="data")
    root = next(tmp_path.rglob(case))
    suv = read_pet(root / "PT").volume.data
    (mask,) = (root / "mask").glob("*.nii*")
    inside = suv[np.asarray(nib.load(mask).dataobj) > 0]
    assert inside.size == 203202
    assert inside.min() == pytest.approx(0.2, abs=0.005)
    assert np.median(inside) == pytest.approx(1.0, abs=0.005)
    assert inside.max() == pytest.approx(4.0, abs=0.005)


def test_ge_discovery_against_the_ibsi_image(shared: Path, tmp_path: Path) -> None:
    """STS_001: 267 slices, a slope for each; factor and maximum from `design/standards.md` 1.7.

    The reference image is another crop at the same place; voxels agree to 1e-3.
    """
    oracle = shared / "oracles/oncoray__mirp/test/data"
    with tarfile.open(oracle / "sts_images_raw.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    scan = read_pet(tmp_path)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(0.00024290297661, rel=1e-9)
    assert scan.volume.data.max() == pytest.approx(66.5215, abs=1e-3)
    image = nib.load(oracle / "sts_images/STS_001/PET/nifti/image/image.nii.gz")
    reference = np.asarray(image.dataobj)
    first = np.rint(scan.volume.grid.ijk(image.affine[:3, 3])).astype(int)
    assert first.tolist() == [59, 45, 0]
    box = tuple(slice(a, a + n) for a, n in zip(first, reference.shape, strict=True))
    assert np.abs(scan.volume.data[box] - reference).max() < 1e-3


@pytest.mark.parametrize(("name", "modality"), [("qin_headneck_0024_pet", "PT"), ("acrin_flt_upper", "CT")])
def test_real_scans_lie_where_simpleitk_puts_them(
    shared: Path, tmp_path: Path, name: str, modality: str
) -> None:
    """Orientation, spacing and extent to 1e-4 mm, and for the CT every value, against GDCM's reader."""
    with tarfile.open(shared / f"scans/{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / name)))
    theirs = reader.Execute()
    ours = (read_ct if modality == "CT" else read_pet)(tmp_path / name).volume
    assert ours.grid.shape == theirs.GetSize()
    last = [n - 1 for n in theirs.GetSize()]
    for corner in np.array([[0, 0, 0], last, [last[0], 0, last[2]], [0, last[1], 0]], float):
        lps_mm = theirs.TransformContinuousIndexToPhysicalPoint(corner.tolist())
        assert ours.grid.mm(corner) == pytest.approx(np.array(lps_mm) * [-1, -1, 1], abs=1e-4)
    assert ours.grid.spacing_mm == pytest.approx(theirs.GetSpacing(), abs=1e-4)
    if modality == "CT":
        assert np.array_equal(ours.data, sitk.GetArrayViewFromImage(theirs).T)


def test_thickness_is_not_the_spacing(shared: Path) -> None:
    """The liver of DICOM4QI: slices 1.25 mm thick lie 1 mm apart; by the thickness it would have 87.95 mL."""
    oracle = shared / "oracles/QIICR__dcmqi"
    expected = json.loads((oracle / "expected.json").read_text())
    ct = read_ct(oracle / "data/segmentations/ct-3slice").volume
    liver = read_labels(oracle / "data/segmentations/liver_seg.nrrd").volume
    assert ct.grid.spacing_mm[2] == pytest.approx(1.0, abs=1e-4)
    assert np.allclose(liver.grid.mm_from_ijk, ct.grid.mm_from_ijk, atol=1e-3)
    inside = ct.data[liver.data > 0].astype(float)
    assert inside.size * ct.grid.voxel_ml * 1000 == pytest.approx(expected["volume_mm3"], rel=1e-4)
    assert inside.mean() == pytest.approx(expected["mean_HU"], abs=1e-3)
    assert (inside.min(), inside.max()) == (expected["min_HU"], expected["max_HU"])


def test_headers_of_real_scanners(shared: Path) -> None:
    """Eight scanners' headers and the factors of cornerstonejs/calculate-suv, whose tolerance is 1e-6."""
    folder = shared / "oracles/cornerstonejs__calculate-suv"
    expected = json.loads((folder / "expected.json").read_text())["sample_data_suvbw_factor"]
    assert len(expected) == 8
    for name, factor in expected.items():
        instances = json.loads((folder / f"test/metadata/{name}-instances.json").read_text())
        headers = [_from_json(instance) for instance in instances]
        assert pet_facts(Path(name), headers, PetOptions()).factor.factor == pytest.approx(
            factor, abs=1e-6
        ), name


def _from_json(instance: dict[str, Any]) -> Dataset:
    dataset, injection = Dataset(), Dataset()
    for keyword, value in instance.items():
        if keyword.startswith("Radi"):
            setattr(injection, keyword, value)
        elif keyword == "PhilipsPETPrivateGroup":
            block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
            for offset, name in ((0x00, "SUVScaleFactor"), (0x09, "ActivityConcentrationScaleFactor")):
                if name in value:
                    block.add_new(offset, "DS", str(value[name]))
        elif pydicom.datadict.tag_for_keyword(keyword):
            setattr(dataset, keyword, value)
    dataset.RadiopharmaceuticalInformationSequence = Sequence([injection])
    return dataset


def test_pydicom_is_silent(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """pydicom warns of what it finds odd, once for every file, and quotes it."""
    folder = pet_series(tmp_path, SpecificCharacterSet="ISO_IR 100")
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))
    with pytest.warns(UserWarning, match="ISO_IR 999"):
        str(pydicom.dcmread(file).Manufacturer)
    recwarn.clear()
    assert read_pet(folder).suv is not None
    assert not recwarn.list


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ("ImagePositionPatient", "malformed"),
        ("PixelSpacing", "malformed"),
        ("RescaleSlope", "malformed"),
    ],
)
def test_malformed_numbers(tmp_path: Path, keyword: str, said: str) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        setattr(dataset, keyword, [7.125, 7.125, 7.125][: np.size(getattr(dataset, keyword))])

    folder = write(tmp_path / "ct", {"RescaleSlope": 1.0}, change=spoil)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"7.125", b"7.x25"))
    assert said in refused(lambda: read_ct(folder))
