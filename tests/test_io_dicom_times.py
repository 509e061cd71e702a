"""When the injection was and when the scan: clocks that contradict each other, zones, midnights, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from petbone.io import PetOptions, Scan, read_pet
from test_io_dicom import FACTOR, pet, pet_series, refused

UTC = "20240531080000.00+0000"  # 10:00 two hours east


def factor_of(scan: Scan) -> float:
    assert scan.suv is not None
    return scan.suv.factor


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"RadiopharmaceuticalStartTime": "100000"}, ""),
        ({"RadiopharmaceuticalStartTime": "100030"}, ""),  # half a minute is no other time
        (
            {"RadiopharmaceuticalStartDateTime": "20240531000000", "RadiopharmaceuticalStartTime": "100000"},
            "StartDateTime has no time of day",
        ),
        ({"RadiopharmaceuticalStartTime": "000000"}, "StartTime is midnight"),
        (
            {"RadiopharmaceuticalStartDateTime": UTC, "RadiopharmaceuticalStartTime": "100000"},
            "has an offset from UTC, and TimezoneOffsetFromUTC is missing",
        ),
        ({"RadiopharmaceuticalStartDateTime": UTC, "TimezoneOffsetFromUTC": "+0200"}, ""),
    ],
)
def test_two_times_of_an_injection(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    scan = pet(tmp_path, **fields)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert any(said in w for w in scan.warnings) if said else scan.warnings == ()


@pytest.mark.parametrize("keyword", ["RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime"])
def test_injection_at_midnight_is_told(tmp_path: Path, keyword: str) -> None:
    day = "20240531" if "Date" in keyword else ""
    fields = {"RadiopharmaceuticalStartDateTime": None} | {keyword: f"{day}000000"}
    scan = pet(tmp_path, SeriesTime="010000", AcquisitionTime="010000", **fields)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert any("midnight to the second" in w for w in scan.warnings)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"RadiopharmaceuticalStartTime": "080000"}, "are 120 minutes apart; expected one time: give --inj"),
        ({"RadiopharmaceuticalStartTime": "100200"}, "are 2 minutes apart"),
        (
            {"RadiopharmaceuticalStartDateTime": UTC, "RadiopharmaceuticalStartTime": "100700"},
            "are 127 minutes apart",
        ),
        ({"RadiopharmaceuticalStartDateTime": UTC}, "has an offset from UTC, and the scan's does not tell"),
        ({"SeriesTime": "093000", "AcquisitionTime": "093000"}, "give --injected-at and --scan-start"),
    ],
)
def test_times_that_contradict_each_other(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    folder = pet_series(tmp_path, **fields)
    assert said in refused(lambda: read_pet(folder))
    given = PetOptions(injected_at="2024-05-31T10:00:00", scan_start="2024-05-31T11:00:00")
    assert factor_of(read_pet(folder, given)) == pytest.approx(FACTOR, rel=1e-9)


def test_offsets_in_options(tmp_path: Path) -> None:
    folder = pet_series(tmp_path)
    one = PetOptions(injected_at="2024-05-31T10:00:00+02:00")
    assert "the time of the injection has an offset from UTC" in refused(lambda: read_pet(folder, one))
    other = PetOptions(scan_start="2024-05-31T11:00:00+02:00")
    assert "the time of the scan has an offset from UTC" in refused(lambda: read_pet(folder, other))
    both = PetOptions(injected_at="2024-05-31T08:00:00Z", scan_start="2024-05-31T11:00:00+02:00")
    assert factor_of(read_pet(folder, both)) == pytest.approx(FACTOR, rel=1e-9)


def test_scan_start_ends_the_search_for_it(tmp_path: Path) -> None:
    """The header's times contradict each other in one and are missing in the other; neither is spoken of."""

    def later(k: int, dataset: Dataset) -> None:
        dataset.FrameReferenceTime = 60e3 + 200e3 * k

    given = PetOptions(scan_start="11:00")
    first = pet_series(tmp_path / "a", later, SeriesTime="130000")
    assert "scan starts 600 s apart" in refused(lambda: read_pet(first))
    scan = read_pet(first, given)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert scan.source["suv"]["tags"]["scan start from"] == "--scan-start"
    second = read_pet(pet_series(tmp_path / "b", SeriesTime=None), given)
    assert not any("earliest AcquisitionTime" in w for w in second.warnings)


@pytest.mark.parametrize(
    ("keyword", "option", "value"),
    [
        ("PatientWeight", "weight_kg", 80.0),
        ("SeriesTime", "scan_start", "11:00"),
        ("RadionuclideTotalDose", "dose_mbq", 200.0),
        ("RadionuclideHalfLife", "half_life_s", 6586.2),
        ("RadiopharmaceuticalStartDateTime", "injected_at", "10:00"),
    ],
)
def test_option_ends_a_difference_between_slices(
    tmp_path: Path, keyword: str, option: str, value: Any
) -> None:
    def differ(k: int, dataset: Dataset) -> None:
        injection = dataset.RadiopharmaceuticalInformationSequence[0]
        other = {"SeriesTime": "103000", "RadiopharmaceuticalStartDateTime": "20240531093000"}.get(
            keyword, 90
        )
        owner = injection if keyword.startswith("Radio") else dataset
        if k == 2:
            setattr(owner, keyword, other)

    folder = pet_series(tmp_path, differ)
    assert f"2 different values of {keyword}" in refused(lambda: read_pet(folder))
    scan = read_pet(folder, PetOptions(**{option: value}))
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)


@pytest.mark.parametrize("decay", ["START", "NONE"])
@pytest.mark.parametrize("dated", [True, False])
def test_beds_that_pass_midnight(tmp_path: Path, decay: str, dated: bool) -> None:
    """The same patient a day of clock earlier: the SUV of every slice is that of the beds at noon."""

    def bed(hour: int, day: int) -> Any:
        def change(k: int, dataset: Dataset) -> None:
            dataset.AcquisitionTime = f"{hour:02d}5500" if k < 2 else f"{(hour + 1) % 24:02d}0100"
            if dated:
                dataset.AcquisitionDate = f"202405{day if k < 2 or hour < 23 else day + 1}"
            else:
                del dataset.AcquisitionDate

        return change

    fields = {"SeriesTime": None, "SeriesDate": "20240530", "DecayCorrection": decay}
    fields |= {"CorrectedImage": ["ATTN", "DECY"] if decay == "START" else ["ATTN"]}
    noon, night = (
        pet(
            tmp_path / f"{hour}",
            bed(hour, 30),
            RadiopharmaceuticalStartDateTime=f"20240530{hour - 1}5500",
            **fields,
        )
        for hour in (11, 23)
    )
    assert factor_of(night) == pytest.approx(factor_of(noon), rel=1e-9)
    assert night.volume.data == pytest.approx(noon.volume.data, rel=1e-6)


@pytest.mark.parametrize("decay", ["START", "NONE"])
@pytest.mark.parametrize(
    "fields",
    [
        {"SeriesDate": "19000101", "AcquisitionDate": "19000101"},
        {"AcquisitionDate": "19000101"},
        {"AcquisitionDate": "20350101"},
        {"SeriesDate": "20200101", "AcquisitionDate": None},
        {"RadiopharmaceuticalStartDateTime": "19000101100000"},
        {"RadiopharmaceuticalStartDateTime": "20350101100000"},
    ],
)
def test_dates_that_cannot_both_be(tmp_path: Path, decay: str, fields: dict[str, Any]) -> None:
    """Anonymisers replace some dates and leave others: the clocks are all there is, or SUV is refused."""
    kind = {"DecayCorrection": decay, "CorrectedImage": ["ATTN", "DECY"] if decay == "START" else ["ATTN"]}
    scan = pet(tmp_path / "a", **kind, **fields)
    assert factor_of(scan) == pytest.approx(factor_of(pet(tmp_path / "b", **kind)), rel=1e-9)
    assert scan.warnings
    folder = pet_series(tmp_path / "c", RadionuclideHalfLife=282276.0, **kind, **fields)
    if "2035" in (fields.get("AcquisitionDate") or "") and decay == "START":  # SeriesDate is what counts
        expected = pet(tmp_path / "d", RadionuclideHalfLife=282276.0, **kind)
        assert factor_of(read_pet(folder)) == pytest.approx(factor_of(expected), rel=1e-9)
    else:  # the injection may have been days before
        assert "give --injected-at and --scan-start" in refused(lambda: read_pet(folder))


def test_dates_of_a_person_are_meant(tmp_path: Path) -> None:
    given = PetOptions(injected_at="2024-05-29T10:00", scan_start="2024-05-31T11:00")
    assert "more than 10 half-lives" in refused(lambda: read_pet(pet_series(tmp_path), given))


def test_clocks_across_midnight_under_wiped_dates(tmp_path: Path) -> None:
    """The injection 23:30 of a day that was kept, the scan 00:30 of one that was not."""
    fields = {"RadiopharmaceuticalStartDateTime": "20240530233000", "AcquisitionDate": "19000101"}
    fields |= {"SeriesDate": "19000101", "SeriesTime": "003000", "AcquisitionTime": "003000"}
    assert factor_of(pet(tmp_path, **fields)) == pytest.approx(FACTOR, rel=1e-9)


@pytest.mark.parametrize("half_life_s", [45723.6, 282276.0])
@pytest.mark.parametrize(
    "fields",
    [
        {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "100000"},
        {"SeriesDate": None, "AcquisitionDate": None},
    ],
)
def test_long_lived_nuclides_need_a_date(tmp_path: Path, half_life_s: float, fields: dict[str, Any]) -> None:
    """Cu-64 and Zr-89 are imaged for days."""
    folder = pet_series(tmp_path, RadionuclideHalfLife=half_life_s, **fields)
    assert "may have been days before" in refused(lambda: read_pet(folder))
    clocks = PetOptions(injected_at="10:00", scan_start="11:00")
    assert "may have been days before" in refused(lambda: read_pet(folder, clocks))
    dates = PetOptions(injected_at="2024-05-29T11:00", scan_start="2024-05-31T11:00")
    expected = 80e3 / 200e6 * 2 ** (2 * 86400 / half_life_s)
    assert factor_of(read_pet(folder, dates)) == pytest.approx(expected, rel=1e-9)


def test_scan_long_after_the_injection_is_told(tmp_path: Path) -> None:
    scan = pet(tmp_path, RadiopharmaceuticalStartDateTime="20240531010000")
    assert any("more than 5 half-lives after" in w for w in scan.warnings)


def test_ge_private_times_that_differ(tmp_path: Path) -> None:
    def private(k: int, dataset: Dataset) -> None:
        block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", f"202405311{1 if k == 2 else 2}0000.00")

    scan = pet(tmp_path, private, Manufacturer="GE MEDICAL SYSTEMS", SeriesTime="123000")
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert any("differs between slices" in w for w in scan.warnings)


def test_acquisition_date_times_with_offsets(tmp_path: Path) -> None:
    """Nothing but DT elements: all are compared in UTC; beside a SeriesTime they cannot be."""
    fields = {"AcquisitionTime": None, "AcquisitionDate": None, "AcquisitionDateTime": "20240531110000+0200"}
    scan = pet(tmp_path / "a", SeriesTime=None, RadiopharmaceuticalStartDateTime=UTC, **fields)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    scan = pet(tmp_path / "b", **fields)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert any("no AcquisitionTime is there to check it" in w for w in scan.warnings)


# Options that could not enter the number


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"weight_kg": 90.0}, "--weight-kg"),
        ({"dose_mbq": 300.0}, "--dose-mbq"),
        ({"injected_at": "09:00"}, "--injected-at"),
        ({"scan_start": "12:00"}, "--scan-start"),
        ({"half_life_s": 4057.74}, "--half-life-s"),
    ],
)
def test_options_are_not_ignored(tmp_path: Path, options: dict[str, Any], flag: str) -> None:
    def private(*offsets: int) -> Any:
        def change(k: int, dataset: Dataset) -> None:
            block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
            for offset in offsets:
                block.add_new(offset, "DS", "0.000551" if offset == 0 else "1.6")

        return change

    given = PetOptions(**options)
    gml = pet_series(tmp_path / "gml", Units="GML")
    assert f"{flag} given, but Units GML says that the pixels are SUV" in refused(
        lambda: read_pet(gml, given)
    )
    alone = pet_series(tmp_path / "alone", private(0), Units="CNTS")
    assert f"{flag} given, but the scanner's own factor" in refused(lambda: read_pet(alone, given))
    both = read_pet(pet_series(tmp_path / "both", private(0, 9), Units="CNTS"), given)
    bqml = read_pet(pet_series(tmp_path / "bqml", Units="BQML"), given)
    assert factor_of(both) == pytest.approx(1.6 * factor_of(bqml), rel=1e-9)


def test_weight_that_the_header_says_too_is_no_contradiction(tmp_path: Path) -> None:
    """Tables of a cohort give it for everybody."""
    folder = pet_series(tmp_path / "a", Units="GML", PatientWeight=80200)
    assert factor_of(read_pet(folder, PetOptions(weight_kg=80))) == 1.0
    folder = pet_series(tmp_path / "b", Units="GML", PatientWeight=None)
    assert factor_of(read_pet(folder, PetOptions(weight_kg=80))) == 1.0


@pytest.mark.parametrize(("scale", "said"), [("0.000551", False), ("0.0006", True)])
def test_philips_factors_are_compared(tmp_path: Path, scale: str, said: bool) -> None:
    """That to SUV is taken, and where the other leads elsewhere it is told; 0.000551 is what it leads to."""

    def private(k: int, dataset: Dataset) -> None:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0, "DS", scale)
        block.add_new(9, "DS", f"{0.000551 / FACTOR:.6f}")

    scan = pet(tmp_path, private, Units="CNTS", Manufacturer="Philips")
    assert factor_of(scan) == float(scale)
    assert any("leads to 0.918 times as much" in w for w in scan.warnings) == said


def test_philips_factor_to_suv_needs_nothing_else(tmp_path: Path) -> None:
    def private(k: int, dataset: Dataset) -> None:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0, "DS", "0.000551")
        block.add_new(9, "DS", "1.6")

    scan = pet(tmp_path, private, Units="CNTS", PatientWeight=None, RadionuclideTotalDose=None)
    assert factor_of(scan) == 0.000551
    assert scan.warnings == ()


def test_scanners_own_factor_cannot_undo_decay(tmp_path: Path) -> None:
    def private(k: int, dataset: Dataset) -> None:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0, "DS", "0.000551")

    folder = pet_series(tmp_path, private, Units="CNTS", DecayCorrection="NONE", CorrectedImage=["ATTN"])
    assert "DecayCorrection NONE with the Philips factor" in refused(lambda: read_pet(folder))
