"""PET without DICOM: a BIDS sidecar or options say what was injected; what is missing is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petbone.errors import InputError
from petbone.io import PetOptions, Scan, read_pet, write_nifti
from petbone.io.injection import nuclide_of, tracer_of
from petbone.volume import Grid, Unit, Volume

GRID = Grid((4, 3, 2), np.diag([4.0, 4.0, 4.0, 1.0]))
BQ = np.linspace(0, 40000, 24, dtype=np.float32).reshape(GRID.shape)
SIDECAR: dict[str, Any] = {
    "Manufacturer": "Siemens",
    "ManufacturersModelName": "Biograph mCT",
    "Units": "Bq/mL",
    "TracerName": "18F-NaF",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 200,
    "InjectedRadioactivityUnits": "MBq",
    "TimeZero": "10:00:00",
    "ScanStart": 3600,
    "InjectionStart": 0,
    "FrameTimesStart": [3600],
    "FrameDuration": [600],
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 3600,
    "AttenuationCorrection": "CT-based",
    "BodyWeight": 80,
}
FACTOR = 1000 * 80 / (200e6 * 2 ** (-3600 / 6586.2))
ALL = PetOptions(
    units="bqml",
    tracer="naf",
    dose_mbq=200,
    weight_kg=80,
    injected_at="2024-05-31T10:00:00",
    scan_start="2024-05-31T11:00:00",
)


@pytest.fixture
def pet(tmp_path: Path) -> Path:
    """A PET of 24 voxels in Bq/mL as NIfTI, which cannot say its unit."""
    path = tmp_path / "pet.nii.gz"
    write_nifti(Volume(BQ, GRID, Unit.BQ_PER_ML), path)
    return path


def with_sidecar(pet: Path, options: dict[str, Any] | None = None, **change: Any) -> Scan:
    """Read with SIDECAR changed; a value of None takes the key away."""
    content = {k: v for k, v in (SIDECAR | change).items() if v is not None}
    path = pet.with_name("pet.json")
    path.write_text(json.dumps(content))
    return read_pet(pet, PetOptions(sidecar=path, **(options or {})))


def refused(call: Any) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Sidecar


def test_sidecar_that_cannot_be_read(pet: Path, tmp_path: Path) -> None:
    """Opened, the memory of this process gives an error of input and output."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs /proc")
    (tmp_path / "s.json").symlink_to("/proc/self/mem")
    line = refused(lambda: read_pet(pet, PetOptions(sidecar=tmp_path / "s.json")))
    assert "the sidecar cannot be read (Input/output error)" in line


def test_formula_of_the_standard(pet: Path) -> None:
    scan = with_sidecar(pet)
    assert scan.volume.unit is Unit.SUV
    assert scan.volume.data.dtype == np.float32
    assert np.allclose(scan.volume.data, BQ * FACTOR, rtol=1e-6)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-12)
    assert scan.source["tracer"] == "naf"
    assert scan.source["suv"]["decay_s"] == 3600


def in_data_set(folder: Path, table: str | None, **change: Any) -> tuple[Path, Path]:
    """A PET and its sidecar where BIDS puts them, and participants.tsv at the top."""
    place = folder / "sub-007" / "ses-1" / "pet"
    place.mkdir(parents=True)
    pet = place / "sub-007_ses-1_pet.nii.gz"
    write_nifti(Volume(BQ, GRID, Unit.BQ_PER_ML), pet)
    sidecar = place / "sub-007_ses-1_pet.json"
    sidecar.write_text(json.dumps({k: v for k, v in (SIDECAR | change).items() if v is not None}))
    if table is not None:
        (folder / "participants.tsv").write_text(table)
    return pet, sidecar


HEAD = "participant_id\tsex\tweight\theight\n"


@pytest.mark.parametrize("stated", [True, False])
def test_weight_of_the_participant(tmp_path: Path, stated: bool) -> None:
    table = HEAD + "sub-0070\tM\t99\t200\nsub-007\tfemale\t80\t175\n"
    pet, sidecar = in_data_set(tmp_path, table, BodyWeight=None)
    scan = read_pet(pet, PetOptions(sidecar=sidecar if stated else None))
    assert scan.suv is not None
    assert scan.acquisition is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-12)
    assert (scan.acquisition.height_m, scan.acquisition.sex) == (1.75, "F")
    assert "weight 80 kg from participants.tsv" in scan.warnings
    assert ("the sidecar beside the image was taken" in scan.warnings) is not stated
    assert "007" not in json.dumps(scan.source) + str(scan.warnings)


def test_weight_of_the_sidecar_comes_first(tmp_path: Path) -> None:
    pet, _ = in_data_set(tmp_path, HEAD + "sub-007\tF\t50\tn/a\n")
    suv = read_pet(pet).suv
    assert suv is not None
    assert suv.factor == pytest.approx(FACTOR, rel=1e-12)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "weight in participants.tsv (--weight-kg)"),
        (HEAD + "sub-008\tF\t50\t160\n", "(--weight-kg)"),
        (HEAD + "sub-007\tF\tn/a\t160\n", "(--weight-kg)"),
        (HEAD + "sub-007\tF\theavy\t160\n", "the participant's weight is no number"),
        (HEAD + "sub-007\tF\t80\t-1\n", "the participant's height is no number"),
        (HEAD + "sub-007\tF\t80\t160\n" * 2, "2 rows for this participant"),
    ],
)
def test_participant_without_a_weight(tmp_path: Path, table: str | None, said: str) -> None:
    pet, _ = in_data_set(tmp_path, table, BodyWeight=None)
    assert said in refused(lambda: read_pet(pet))


def test_table_that_cannot_be_read(tmp_path: Path) -> None:
    pet, _ = in_data_set(tmp_path, None, BodyWeight=None)
    (tmp_path / "participants.tsv").write_bytes(b"participant_id\xff\xfe\n")
    assert "participants.tsv: cannot be read" in refused(lambda: read_pet(pet))


def test_json_of_somebody_else_beside_the_image_is_left(pet: Path) -> None:
    pet.with_name("pet.json").write_text('{"EchoTime": 1}')
    assert "cannot be SUV" in refused(lambda: read_pet(pet))


def test_only_differences_of_times_matter(pet: Path) -> None:
    plain = with_sidecar(pet).suv
    moved = with_sidecar(pet, TimeZero="23:30:00", InjectionStart=-500, ImageDecayCorrectionTime=3100).suv
    without = with_sidecar(pet, TimeZero=None).suv
    assert plain is not None
    assert moved is not None
    assert without is not None
    assert moved.factor == pytest.approx(plain.factor, rel=1e-12) == without.factor


def test_corrected_to_the_injection(pet: Path) -> None:
    scan = with_sidecar(pet, ImageDecayCorrectionTime=0)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(1000 * 80 / 200e6, rel=1e-12)


def test_not_decay_corrected_single_frame(pet: Path) -> None:
    """IBSI: P W / D x lambda T / (1 - exp(-lambda T)) x exp(lambda (t - t_injection))."""
    scan = with_sidecar(pet, ImageDecayCorrected=False)
    decay = np.log(2) / 6586.2
    expected = 1000 * 80 / 200e6 * decay * 600 / (1 - np.exp(-decay * 600)) * np.exp(decay * 3600)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "times"),
    [
        ({"Units": "kBq/mL"}, 1000),
        ({"Units": "BQML"}, 1),  # as converters write it
        ({"InjectedRadioactivity": 200e6, "InjectedRadioactivityUnits": "Bq"}, 1),
        ({"InjectedRadioactivity": 0.2, "InjectedRadioactivityUnits": "GBq"}, 1),
        ({"InjectedRadioactivity": 200 / 37, "InjectedRadioactivityUnits": "mCi"}, 1),
        ({"TracerRadionuclide": None, "RadionuclideHalfLife": 6586.2}, 1),
        ({"TracerRadionuclide": None}, 1),  # NaF is F-18
        ({"BodyWeight": 160}, 2),
        ({"BodyWeight": None, "PatientWeight": 80000}, 1),  # grams
    ],
)
def test_units_of_the_sidecar(pet: Path, change: dict[str, Any], times: float) -> None:
    scan = with_sidecar(pet, **change)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR * times, rel=1e-9)


def test_becquerel_labelled_as_mega_is_told(pet: Path) -> None:
    scan = with_sidecar(pet, InjectedRadioactivity=200e6)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)
    assert any("labelled MBq" in w for w in scan.warnings)


def test_sidecar_that_says_suv(tmp_path: Path) -> None:
    path = tmp_path / "pet.nii.gz"
    write_nifti(Volume(BQ / 1000, GRID, Unit.SUV), path)
    assert np.allclose(with_sidecar(path, Units="g/mL").volume.data, BQ / 1000)


def test_options_win_and_are_told(pet: Path) -> None:
    scan = with_sidecar(pet, {"weight_kg": 40.0})
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR / 2, rel=1e-9)
    assert any("weight in kg 40 as given" in w and "80" in w for w in scan.warnings)
    times = {"injected_at": "2024-05-31T10:00:00", "scan_start": "2024-05-31T10:00:00"}
    undecayed = with_sidecar(pet, times).suv
    assert undecayed is not None
    assert undecayed.factor == pytest.approx(1000 * 80 / 200e6, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"BodyWeight": None}, "--weight-kg"),
        ({"InjectedRadioactivity": None}, "InjectedRadioactivity"),
        ({"InjectedRadioactivityUnits": None}, "InjectedRadioactivityUnits"),
        ({"InjectedRadioactivityUnits": "cpm"}, "cpm"),
        ({"InjectionStart": None}, "InjectionStart"),
        ({"ImageDecayCorrectionTime": None}, "ImageDecayCorrectionTime"),
        ({"ImageDecayCorrected": None}, "ImageDecayCorrected"),
        ({"ImageDecayCorrected": False, "FrameTimesStart": [0, 60]}, "one frame"),
        ({"ImageDecayCorrected": False, "FrameDuration": None}, "FrameDuration"),
        ({"Units": None}, "Units"),
        ({"Units": "counts"}, "counts"),
        ({"TimeZero": "ten"}, "TimeZero"),
        ({"InjectionStart": "0"}, "InjectionStart"),
        ({"AttenuationCorrection": "none"}, "AttenuationCorrection"),
        ({"InjectionStart": 4000}, "after the scan"),
        ({"TracerRadionuclide": None, "TracerName": "PSMA-1007"}, "--half-life-s"),
        ({"TracerRadionuclide": None, "TracerName": "unknown"}, "TracerRadionuclide"),
        ({"InjectedRadioactivity": None, "InjectedRadioActivity": 200}, "did you mean InjectedRadioactivity"),
    ],
)
def test_what_is_missing_or_wrong_is_named(pet: Path, change: dict[str, Any], said: str) -> None:
    assert said in refused(lambda: with_sidecar(pet, **change))


def test_one_time_of_two_is_refused(pet: Path) -> None:
    assert "give both" in refused(lambda: with_sidecar(pet, {"scan_start": "11:00:00"}))


def test_contradicting_units_are_refused(pet: Path) -> None:
    assert "--units suv" in refused(lambda: with_sidecar(pet, {"units": "suv"}))


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[1]", "JSON list")])
def test_malformed_sidecar_is_refused(pet: Path, text: str, said: str) -> None:
    path = pet.with_name("a.json")
    path.write_text(text)
    assert said in refused(lambda: read_pet(pet, PetOptions(sidecar=path)))


def test_missing_sidecar_is_refused(pet: Path) -> None:
    path = pet.with_name("none.json")
    assert "no such sidecar" in refused(lambda: read_pet(pet, PetOptions(sidecar=path)))


# Options alone


def options(**change: Any) -> PetOptions:
    return PetOptions(**{**ALL.__dict__, **change})


def test_options_alone_are_enough(pet: Path) -> None:
    scan = read_pet(pet, ALL)
    assert np.allclose(scan.volume.data, BQ * FACTOR, rtol=1e-6)
    assert any("F-18" in w for w in scan.warnings)  # the half-life was assumed from the tracer


@pytest.mark.parametrize(
    ("injected", "scan", "decay_s"),
    [
        ("10:00:00", "11:00:00", 3600),
        ("10:00", "11:00", 3600),
        ("23:50:00", "00:40:00", 3000),
        ("2024-05-31T23:50:00", "00:40:00", 3000),
        ("23:50:00", "2024-06-01T00:40:00", 3000),
        ("2024-05-31 10:00:00", "2024-05-31T11:30:00", 5400),
    ],
)
def test_clock_times_and_midnight(pet: Path, injected: str, scan: str, decay_s: float) -> None:
    result = read_pet(pet, options(injected_at=injected, scan_start=scan))
    assert result.source["suv"]["decay_s"] == decay_s
    assert any("the day" in w for w in result.warnings) == (decay_s == 3000)


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("dose_mbq", "--dose-mbq"),
        ("weight_kg", "--weight-kg"),
        ("tracer", "--tracer"),
        ("injected_at", "--injected-at"),
        ("scan_start", "--scan-start"),
    ],
)
def test_each_missing_option_is_named_alone(pet: Path, field: str, option: str) -> None:
    line = refused(lambda: read_pet(pet, options(**{field: None})))
    assert line.endswith(f"missing: {option}")


def test_all_missing_options_are_named(pet: Path) -> None:
    line = refused(lambda: read_pet(pet, PetOptions(units="bqml")))
    for option in ("--dose-mbq", "--weight-kg", "--tracer", "--injected-at", "--scan-start"):
        assert option in line


def test_psma_needs_its_half_life(pet: Path) -> None:
    assert "--half-life-s" in refused(lambda: read_pet(pet, options(tracer="psma")))
    scan = read_pet(pet, options(tracer="psma", half_life_s=4057.74))
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(1000 * 80 / (200e6 * 2 ** (-3600 / 4057.74)), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"injected_at": "soon"}, "--injected-at"),
        ({"scan_start": "25:00:00"}, "--scan-start"),
        ({"weight_kg": 0.2}, "weight"),
        ({"dose_mbq": 1e9}, "dose"),
        ({"dose_mbq": 0.05}, "a dose of 0.05 MBq was given; expected 1 to 1e5 MBq"),
        ({"injected_at": "2024-05-29T10:00:00"}, "half-lives"),
    ],
)
def test_options_that_cannot_be_are_refused(pet: Path, change: dict[str, Any], said: str) -> None:
    assert said in refused(lambda: read_pet(pet, options(**change)))


def test_a_height_that_cannot_be_is_left_out(pet: Path) -> None:
    scan = read_pet(pet, options(height_cm=1.8))
    assert scan.acquisition is not None
    assert scan.acquisition.height_m is None
    assert any("height" in w for w in scan.warnings)
    assert read_pet(pet, options(height_cm=180, sex="female")).acquisition.height_m == 1.8  # type: ignore[union-attr]


def test_suv_that_cannot_be_is_told(pet: Path) -> None:
    assert not any("check unit" in w for w in read_pet(pet, ALL).warnings)
    assert any("cannot be: check unit" in w for w in with_sidecar(pet, Units="MBq/mL").warnings)


def test_nothing_that_dates_the_scan_is_in_the_source(pet: Path) -> None:
    assert "2024" not in json.dumps(read_pet(pet, ALL).source)


# Words


@pytest.mark.parametrize(
    ("text", "nuclide"),
    [
        ("F18", "F-18"),
        ("18F", "F-18"),
        ("F-18", "F-18"),
        ("^18^Fluorine", "F-18"),
        ("Fluorine 18", "F-18"),
        ("[68Ga]", "Ga-68"),
        ("68Gallium", "Ga-68"),
        ("C11", "C-11"),
        ("^89^Zirconium", "Zr-89"),
        ("F17", None),
        ("", None),
        ("technetium 99", None),
    ],
)
def test_nuclides(text: str, nuclide: str | None) -> None:
    assert nuclide_of(text) == nuclide


@pytest.mark.parametrize(
    ("text", "tracer"),
    [
        ("FDG -- fluorodeoxyglucose", "fdg"),
        ("Fluorodeoxyglucose F^18^", "fdg"),
        ("Sodium fluoride F^18^", "naf"),
        ("18F-NaF", "naf"),
        ("Fluorocholine F^18^", "choline"),
        ("F-18 PSMA-1007", "psma"),
        ("Solution", None),
        ("", None),
    ],
)
def test_tracers(text: str, tracer: str | None) -> None:
    assert tracer_of(text) == tracer


def test_a_mask_is_no_pet_whatever_is_said_of_its_units(tmp_path: Path):
    path = tmp_path / "tumour.nii.gz"
    mask = (np.indices(GRID.shape).sum(axis=0) % 2).astype(np.uint8)
    write_nifti(Volume(mask, GRID, Unit.LABEL), path)
    for units in (None, "suv", "bqml"):
        said = refused(lambda units=units: read_pet(path, PetOptions(units=units)))
        assert "every value is 0 or 1, as in a mask" in said
