"""When the injection was and when the scan: clocks that contradict each other, zones, midnights, options."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from petbone.io import PetOptions, Scan, read_pet
from petbone.io.dicom_clocks import moment_of
from test_io_dicom import FACTOR, pet, pet_series, refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240531110000", (11, 0, 0.0)),
        ("202405311100", (11, 0, 0.0)),
        ("20240531110059.5", (11, 0, 59.5)),
        ("20240531110060", (11, 0, 59.0)),  # a leap second
        ("20240531110000.0000000001", (11, 0, 0.0)),
        ("20241331110000", None),
        ("20240531240000", None),
        ("20240531116000", None),
        ("2024053111", None),
        ("20240531", None),
        ("20240531110000 or so", None),
        ("", None),
    ],
)
def test_what_is_a_moment(text: str, expected: tuple[int, int, float] | None) -> None:
    found = moment_of(Dataset(), text)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        when = found.when
        assert (when.hour, when.minute, when.second + when.microsecond / 1e6) == expected


@pytest.mark.parametrize("zone", ["", "+0200"])
def test_private_time_with_an_offset(tmp_path: Path, zone: str) -> None:
    """In UTC it can be compared with an injection in UTC alone, or through the header's zone."""
    change = with_private("GE", "20240531090000+0000")
    fields = {"Manufacturer": "GE MEDICAL SYSTEMS", "TimezoneOffsetFromUTC": zone or None}
    scan = pet(tmp_path / "a", change, RadiopharmaceuticalStartDateTime=UTC, **fields)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    if zone:
        assert factor_of(pet(tmp_path / "b", change, **fields)) == pytest.approx(FACTOR, rel=1e-9)
    else:
        line = refused(lambda: pet(tmp_path / "b", change, **fields))
        assert "the time of the scan has an offset from UTC" in line


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


PRIVATE = {
    "GE": ("GE MEDICAL SYSTEMS", 0x0009, 0x0D, "GEMS_PETD_01"),
    "Siemens": ("SIEMENS", 0x0071, 0x22, "SIEMENS MED PT"),
}


def with_private(vendor: str, when: str) -> Any:
    _, group, offset, creator = PRIVATE[vendor]

    def change(k: int, dataset: Dataset) -> None:
        dataset.private_block(group, creator, create=True).add_new(offset, "DT", when)

    return change


@pytest.mark.parametrize("vendor", PRIVATE)
@pytest.mark.parametrize(
    ("when", "hours", "said"),
    [
        ("20240531110000.00", 1.0, ""),
        ("20240531130000.00", 3.0, "the first frame is 120 minutes earlier"),
        ("20240531101500.00", 0.25, "the first frame is 45 minutes later"),
        ("20240531000000", 1.0, "midnight to the second, and passed over"),
        ("20240603110000.00", 1.0, "of another day than the frames, and passed over"),
        ("19000101000000", 1.0, "passed over"),
    ],
)
def test_private_time_beside_the_other_times(
    tmp_path: Path, vendor: str, when: str, hours: float, said: str
) -> None:
    """Series and frames at 11:00."""
    scan = pet(tmp_path, with_private(vendor, when), Manufacturer=PRIVATE[vendor][0])
    assert factor_of(scan) == pytest.approx(80e3 / 200e6 * 2 ** (hours * 3600 / 6586.2), rel=1e-9)
    assert any(said in w for w in scan.warnings) if said else scan.warnings == ()


@pytest.mark.parametrize("vendor", PRIVATE)
@pytest.mark.parametrize("maker", [None, "", " "])
def test_private_time_tells_the_vendor(tmp_path: Path, vendor: str, maker: str | None) -> None:
    change = with_private(vendor, "20240531110000.00")
    scan = pet(tmp_path, change, Manufacturer=maker, SeriesTime="120000", AcquisitionTime="110100")
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)


@pytest.mark.parametrize("maker", ["GE MEDICAL SYSTEMS", " GE MEDICAL SYSTEMS", "SIEMENS"])
def test_frames_of_one_time_without_decay_correction(tmp_path: Path, maker: str) -> None:
    """Beds ten minutes apart with the first one's AcquisitionTime: on GE offsets tell, others are refused."""

    def bed(k: int, dataset: Dataset) -> None:
        dataset.FrameReferenceTime = 0 if k < 2 else 600e3

    folder = pet_series(tmp_path, bed, Manufacturer=maker, DecayCorrection="NONE", CorrectedImage=["ATTN"])
    if "GE" not in maker:
        assert "the same AcquisitionTime; expected every frame's own" in refused(lambda: read_pet(folder))
        return
    low, high = read_pet(folder).source["suv"]["tags"]["slice factors"]
    assert high / low == pytest.approx(2 ** (600 / 6586.2), rel=1e-9)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"SeriesTime": "000000"}, "SeriesTime is midnight to the second, and passed over"),
        ({"AcquisitionTime": "000000"}, "AcquisitionTime is midnight to the second, and passed over"),
    ],
)
def test_wiped_clock_beside_one_that_was_kept(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    undated = {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "100000"}
    scan = pet(tmp_path, **fields, **undated)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert said in scan.warnings


def test_scan_at_midnight_is_told(tmp_path: Path) -> None:
    fields = {"SeriesTime": "000000", "AcquisitionTime": "000000"}
    scan = pet(tmp_path, RadiopharmaceuticalStartDateTime="20240530230000", **fields)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert any("the scan start is midnight to the second" in w for w in scan.warnings)


def test_series_that_begins_before_midnight_and_frames_after_it(tmp_path: Path) -> None:
    fields = {"SeriesTime": "235950", "AcquisitionTime": "000030", "AcquisitionDate": None}
    scan = pet(tmp_path, RadiopharmaceuticalStartDateTime="20240531225950", **fields)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert scan.warnings == ()


def test_gap_is_judged_by_what_decays_in_it(tmp_path: Path) -> None:
    """170 s are nothing to F-18 and 9 % to C-11."""
    fields = {"AcquisitionTime": "110250"}
    assert pet(tmp_path / "a", **fields).warnings == ()
    scan = pet(tmp_path / "b", RadionuclideHalfLife=1221.84, **fields)
    assert any("the first frame is 3 minutes later" in w for w in scan.warnings)


def test_clock_without_its_leading_zero_is_none(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom minds it, too
        folder = pet_series(tmp_path, SeriesTime="1:05:00", AcquisitionTime="1:05:00")
    line = refused(lambda: read_pet(folder))
    assert "missing: SeriesTime (--scan-start)" in line


@pytest.mark.parametrize("text", ["2024-05-31", "20240531", "2024-05-31T", "2024-W22-5"])
def test_date_without_a_time_is_no_option(tmp_path: Path, text: str) -> None:
    folder = pet_series(tmp_path)
    for option in ("injected_at", "scan_start"):
        assert "is no time; expected HH:MM:SS" in refused(
            lambda option=option: read_pet(folder, PetOptions(**{option: text}))
        )


def test_option_with_an_offset_is_brought_to_the_scanners_zone(tmp_path: Path) -> None:
    folder = pet_series(tmp_path, TimezoneOffsetFromUTC="+0200")
    for given in (
        PetOptions(injected_at="2024-05-31T08:00:00Z"),
        PetOptions(scan_start="2024-05-31T10:00:00+01:00"),
    ):
        assert factor_of(read_pet(folder, given)) == pytest.approx(FACTOR, rel=1e-9)


def test_another_date_at_the_same_clock_is_told(tmp_path: Path) -> None:
    folder = pet_series(
        tmp_path, RadionuclideHalfLife=282276.0, RadiopharmaceuticalStartDateTime="20240528100000"
    )
    scan = read_pet(folder, PetOptions(injected_at="2024-05-29T10:00"))
    assert any("injection as given, although the file says another time" in w for w in scan.warnings)


def test_dates_of_zeros_are_none(tmp_path: Path) -> None:
    scan = pet(tmp_path, lambda k, dataset: setattr(dataset, "SeriesDate", "00010101"), AcquisitionDate=None)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)


def test_injection_time_that_is_none_is_told(tmp_path: Path) -> None:
    fields = {"RadiopharmaceuticalStartDateTime": "20240531", "RadiopharmaceuticalStartTime": "100000"}
    scan = pet(tmp_path, **fields)
    assert factor_of(scan) == pytest.approx(FACTOR, rel=1e-9)
    assert any("RadiopharmaceuticalStartDateTime is no time" in w for w in scan.warnings)


def test_series_time_may_differ_where_it_does_not_enter(tmp_path: Path) -> None:
    def differ(k: int, dataset: Dataset) -> None:
        dataset.SeriesTime = f"110{k}00"

    assert factor_of(pet(tmp_path / "a", differ, Units="GML")) == 1.0
    assert factor_of(pet(tmp_path / "b", differ, DecayCorrection="ADMIN")) == 80e3 / 200e6
    none = pet(tmp_path / "c", differ, DecayCorrection="NONE", CorrectedImage=["ATTN"])
    assert none.suv is not None
    assert "4 different values of SeriesTime" in refused(lambda: pet(tmp_path / "d", differ))


def test_one_value_in_two_writings_is_one(tmp_path: Path) -> None:
    def differ(k: int, dataset: Dataset) -> None:
        dataset.PatientWeight = "80" if k else "80.0"
        dataset.SeriesTime = "110000" if k else "110000.000"

    assert factor_of(pet(tmp_path, differ)) == pytest.approx(FACTOR, rel=1e-9)


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


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"scan_start": "12:00"}, "--scan-start"),
        ({"injected_at": "09:00"}, "--injected-at"),
        ({"half_life_s": 4057.0}, "--half-life-s"),
    ],
)
def test_times_do_not_enter_an_image_corrected_to_the_injection(
    tmp_path: Path, options: dict[str, Any], flag: str
) -> None:
    folder = pet_series(tmp_path, DecayCorrection="ADMIN", RadiopharmaceuticalStartTime="090000")
    assert factor_of(read_pet(folder)) == 80e3 / 200e6  # two times that contradict each other: neither enters
    assert f"{flag} given, but the image is corrected" in refused(
        lambda: read_pet(folder, PetOptions(**options))
    )
    assert factor_of(read_pet(folder, PetOptions(dose_mbq=400, weight_kg=60))) == 60e3 / 400e6


def test_sidecar_beside_dicom_is_refused(tmp_path: Path) -> None:
    folder = pet_series(tmp_path)
    assert "--sidecar is for NIfTI" in refused(
        lambda: read_pet(folder, PetOptions(sidecar=tmp_path / "none.json"))
    )


@pytest.mark.parametrize(
    ("units", "fields", "said"),
    [
        ("bqml", {}, False),
        ("suv", {}, True),
        ("suv", {"Units": "GML"}, False),
        ("bqml", {"Units": "GML"}, True),
    ],
)
def test_units_that_agree_are_not_spoken_of(
    tmp_path: Path, units: str, fields: dict[str, Any], said: bool
) -> None:
    scan = read_pet(pet_series(tmp_path, **fields), PetOptions(units=units))
    assert any("--units is ignored" in w for w in scan.warnings) == said


def test_given_half_life_that_is_not_the_nuclides_is_called_given(tmp_path: Path) -> None:
    scan = read_pet(pet_series(tmp_path, Radiopharmaceutical="[18F]NaF"), PetOptions(half_life_s=4057.0))
    assert any("4057 s as given, but F-18 has" in w for w in scan.warnings)


@pytest.mark.parametrize("name", ["C11 Choline", "[11C]Choline", "^11^C-choline"])
def test_nuclide_in_the_name_of_the_tracer(tmp_path: Path, name: str) -> None:
    """Choline is usually labelled with F-18; not this one."""
    scan = pet(tmp_path, Radiopharmaceutical=name, RadionuclideHalfLife=None)
    assert factor_of(scan) == pytest.approx(80e3 / 200e6 * 2 ** (3600 / 1221.84), rel=1e-9)
    assert scan.source["tracer"] == "choline"


def test_negative_philips_factor(tmp_path: Path) -> None:
    def private(k: int, dataset: Dataset) -> None:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(9, "DS", "-1.6")

    assert "a Philips scale factor of -1.6" in refused(lambda: pet(tmp_path, private, Units="CNTS"))


@pytest.mark.parametrize("keyword", ["PatientSize", "PatientSex", "PatientWeight"])
def test_body_that_differs_between_slices(tmp_path: Path, keyword: str) -> None:
    def differ(k: int, dataset: Dataset) -> None:
        if k == 2:
            setattr(dataset, keyword, "M" if keyword == "PatientSex" else 1.7)

    assert factor_of(pet(tmp_path / "a", differ, Units="GML")) == 1.0
    line = refused(lambda: pet(tmp_path / "b", differ, Units="GML", SUVType="LBM"))
    assert f"2 different values of {keyword}" in line


def test_decay_factor_that_contradicts_none_is_told(tmp_path: Path) -> None:
    fields = {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"], "DecayFactor": 1.02}
    assert any("although a DecayFactor is not 1" in w for w in pet(tmp_path, **fields).warnings)
