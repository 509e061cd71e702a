"""The habits of scanners, a case each: what is in the header, what is done with it, and the SUV factor.

The usual patient of these cases: 80 kg, 1.80 m, a woman, 200 MBq of F-18 at 10:00, scanned at 11:00. Expected
factors are arithmetic written out here, apart from the code that is tested, or other software's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from petbone.selftest.series import Private

HALF_LIFE_S = 6586.2
DECAYED = 200e6 * 2 ** (-3600 / HALF_LIFE_S)
BASE = 80e3 / DECAYED

HEADER: dict[str, Any] = {
    "Manufacturer": "SIEMENS",
    "Units": "BQML",
    "CorrectedImage": ["ATTN", "DECY", "SCAT"],
    "DecayCorrection": "START",
    "SeriesType": ["WHOLE BODY", "IMAGE"],
    "SeriesDate": "20240531",
    "SeriesTime": "110000",
    "AcquisitionDate": "20240531",
    "AcquisitionTime": "110000",
    "FrameReferenceTime": 0,
    "ActualFrameDuration": 120000,
    "RescaleSlope": 2,
    "RescaleIntercept": 0,
    "PatientWeight": 80,
    "PatientSize": 1.8,
    "PatientSex": "F",
}
INJECTION: dict[str, Any] = {
    "RadionuclideTotalDose": 200e6,
    "RadionuclideHalfLife": HALF_LIFE_S,
    "RadiopharmaceuticalStartDateTime": "20240531100000",
}
_QIBA = "QIBA"
_IBSI = "IBSI"
_DICOM = "DICOM PS3.3"
_CORNERSTONE = "cornerstonejs/calculate-suv"
_OURS = "petbone"


@dataclass(frozen=True)
class VendorCase:
    """`does` is what petbone does with it, for people; `factor` the SUVbw factor of the file's values in the
    first slice, or `refusal` a part of the line by which it is refused. `shares`: factor of each slice over
    the first one's, where slices differ."""

    name: str
    does: str
    source: str
    factor: float | None = None
    refusal: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    injection: Mapping[str, Any] = field(default_factory=dict)
    private: Sequence[Private] = ()
    slices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    shares: Sequence[float] = (1.0, 1.0, 1.0, 1.0)


def _philips(suv: str | None, activity: str) -> list[Private]:
    creator = "Philips PET Private Group"
    found: list[Private] = [(0x7053, 0x09, creator, "DS", activity)]
    return found if suv is None else [(0x7053, 0x00, creator, "DS", suv), *found]


def _in_frame(start_s: float, frame_s: float) -> float:
    """Mean share of the injected activity during a frame."""
    per_s = math.log(2) / HALF_LIFE_S
    return math.exp(-per_s * start_s) * (1 - math.exp(-per_s * frame_s)) / (per_s * frame_s)


_AVERAGE_S = math.log(math.log(2) / HALF_LIFE_S * 120 / (1 - 2 ** (-120 / HALF_LIFE_S))) / (
    math.log(2) / HALF_LIFE_S
)
_LEAN = 1.07 * 80 - 148 * (80 / 180) ** 2
_NO_DATETIME = {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "100000"}


def _sample(
    maker: str,
    injected: str,
    series: str,
    acquired: str,
    frame_ms: int,
    weight_kg: float,
    dose_bq: float,
    factor: float,
    half_life_s: float = HALF_LIFE_S,
) -> VendorCase:
    """A real scanner's header in the tests of cornerstonejs/calculate-suv."""
    return VendorCase(
        f"{maker} sample",
        "SeriesTime",
        _CORNERSTONE,
        factor,
        header={
            "Manufacturer": maker,
            "PatientWeight": weight_kg,
            "SeriesTime": series,
            "AcquisitionTime": acquired,
            "FrameReferenceTime": frame_ms,
        },
        injection={
            "RadionuclideTotalDose": dose_bq,
            "RadionuclideHalfLife": half_life_s,
            "RadiopharmaceuticalStartDateTime": f"20240531{injected}",
        },
    )


CASES = (
    # Units
    VendorCase(
        "BQML, decay-corrected to the start", "dose decayed from injection to SeriesTime", _QIBA, BASE
    ),
    VendorCase(
        "BQML, a slope for every slice",
        "each slice by its own slope",
        _DICOM,
        BASE,
        slices={"RescaleSlope": [0.5, 1.5, 2.5, 3.5]},
    ),
    VendorCase(
        "CNTS, Philips (7053,xx00)",
        "the factor is that of the header",
        _QIBA,
        0.000551,
        header={"Units": "CNTS", "Manufacturer": "Philips"},
        private=_philips("0.000551", "1.6"),
    ),
    VendorCase(
        "CNTS, Philips (7053,xx09) alone",
        "counts to Bq/mL, then as BQML",
        _QIBA,
        1.6 * BASE,
        header={"Units": "CNTS", "Manufacturer": "Philips"},
        private=_philips(None, "1.6"),
    ),
    VendorCase(
        "CNTS, Philips (7053,xx00) is 0",
        "counts to Bq/mL by (7053,xx09), then as BQML",
        _QIBA,
        1.6 * BASE,
        header={"Units": "CNTS", "Manufacturer": "Philips"},
        private=_philips("0", "1.6"),
    ),
    VendorCase(
        "CNTS, Philips (7053,xx00), DecayCorrection NONE",
        "counts to Bq/mL by (7053,xx09), then each slice by its own time: one factor cannot be right for all",
        _OURS,
        1.6 * 80e3 / 200e6 / _in_frame(3600, 120),
        header={
            "Units": "CNTS",
            "Manufacturer": "Philips",
            "DecayCorrection": "NONE",
            "CorrectedImage": ["ATTN"],
        },
        private=_philips("0.000551", "1.6"),
    ),
    VendorCase(
        "CNTS without either factor",
        "refused",
        _QIBA,
        refusal="without the Philips factors",
        header={"Units": "CNTS"},
    ),
    VendorCase("GML without SUVType", "SUVbw as it is", _IBSI, 1.0, header={"Units": "GML"}),
    VendorCase("GML, SUVType BW", "SUVbw as it is", _IBSI, 1.0, header={"Units": "GML", "SUVType": "BW"}),
    VendorCase(
        "GML, SUVType LBM",
        "times weight / lean body mass (Morgan, 120)",
        _IBSI,
        80 / _LEAN,
        header={"Units": "GML", "SUVType": "LBM"},
    ),
    VendorCase(
        "GML, SUVType LBMJAMES128",
        "times weight / lean body mass (James, 128)",
        _IBSI,
        80 / (88 - 128 * (80 / 180) ** 2),
        header={"Units": "GML", "SUVType": "LBMJAMES128", "PatientSex": "M"},
    ),
    VendorCase(
        "GML, SUVType LBMJANMA",
        "times weight / lean body mass (Janmahasatian)",
        _IBSI,
        (8780 + 244 * 80 / 1.8**2) / 9270,
        header={"Units": "GML", "SUVType": "LBMJANMA"},
    ),
    VendorCase(
        "GML, SUVType IBW",
        "times weight / ideal body weight",
        _IBSI,
        80 / (45.5 + 0.91 * 28),
        header={"Units": "GML", "SUVType": "IBW"},
    ),
    VendorCase(
        "GML, SUVType LBM, no height",
        "refused unless --height-cm is given",
        _OURS,
        refusal="missing: --height-cm",
        header={"Units": "GML", "SUVType": "LBM", "PatientSize": None},
    ),
    VendorCase(
        "CM2ML",
        "times 1000 weight / surface in cm2 (Du Bois)",
        _IBSI,
        80e3 / (71.84 * 180**0.725 * 80**0.425),
        header={"Units": "CM2ML"},
    ),
    VendorCase(
        "CPS",
        "refused: how counts per second were calibrated is not in the header for certain",
        _OURS,
        refusal="Units CPS",
        header={"Units": "CPS"},
    ),
    VendorCase(
        "PROPCNTS, PROPCPS, 1CM and other units",
        "refused",
        _IBSI,
        refusal="Units PROPCNTS",
        header={"Units": "PROPCNTS"},
    ),
    # Decay
    VendorCase(
        "DecayCorrection ADMIN", "dose as injected", _IBSI, 80e3 / 200e6, header={"DecayCorrection": "ADMIN"}
    ),
    VendorCase(
        "DecayCorrection ADMIN, half-life and times missing",
        "dose as injected: none of them enters",
        _IBSI,
        80e3 / 200e6,
        header={"DecayCorrection": "ADMIN", "SeriesTime": None},
        injection={"RadionuclideHalfLife": None, "RadiopharmaceuticalStartDateTime": None},
    ),
    VendorCase(
        "DecayCorrection NONE",
        "each slice by its own AcquisitionTime and ActualFrameDuration",
        _IBSI,
        80e3 / 200e6 / _in_frame(3600, 120),
        header={"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"]},
        slices={
            "AcquisitionTime": ["110000", "110000", "110400", "110400"],
            "ActualFrameDuration": [120000, 120000, 300000, 300000],
        },
        shares=[1.0, 1.0, *[_in_frame(3600, 120) / _in_frame(3840, 300)] * 2],
    ),
    VendorCase(
        "DecayCorrection NONE, GE, every bed with the AcquisitionTime of the first",
        "AcquisitionTime + FrameReferenceTime of each slice",
        _OURS,
        80e3 / 200e6 / _in_frame(3600, 120),
        header={
            "Manufacturer": "GE MEDICAL SYSTEMS",
            "DecayCorrection": "NONE",
            "CorrectedImage": ["ATTN"],
        },
        slices={"FrameReferenceTime": [0, 0, 240000, 240000]},
        shares=[1.0, 1.0, *[_in_frame(3600, 120) / _in_frame(3840, 120)] * 2],
    ),
    VendorCase(
        "DecayCorrection NONE, another vendor, FrameReferenceTime differs and AcquisitionTime does not",
        "refused",
        _OURS,
        refusal="the same AcquisitionTime",
        header={"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"]},
        slices={"FrameReferenceTime": [0, 0, 240000, 240000]},
    ),
    VendorCase(
        "DecayCorrection NONE, DECY in CorrectedImage, DecayFactor 1 in every slice",
        "NONE is believed; said",
        _DICOM,
        80e3 / 200e6 / _in_frame(3600, 120),
        header={"DecayCorrection": "NONE", "DecayFactor": 1},
    ),
    VendorCase(
        "DecayCorrection NONE, but DECY in CorrectedImage",
        "refused",
        _OURS,
        refusal="has DECY but DecayCorrection is NONE",
        header={"DecayCorrection": "NONE"},
    ),
    VendorCase(
        "DecayCorrection missing",
        "refused",
        _QIBA,
        refusal="DecayCorrection missing",
        header={"DecayCorrection": None},
    ),
    VendorCase(
        "CorrectedImage without ATTN",
        "refused",
        _QIBA,
        refusal="lacks ATTN",
        header={"CorrectedImage": ["DECY"]},
    ),
    VendorCase(
        "CorrectedImage without DECY",
        "refused",
        _QIBA,
        refusal="lacks DECY",
        header={"CorrectedImage": ["ATTN"]},
    ),
    # Time of the scan
    VendorCase(
        "GE, private scan time (0009,xx0D)",
        "that time, wherever SeriesTime is",
        _QIBA,
        BASE,
        header={"Manufacturer": "GE MEDICAL SYSTEMS", "SeriesTime": "113000", "AcquisitionTime": "113000"},
        private=[(0x0009, 0x0D, "GEMS_PETD_01", "DT", "20240531110000.00")],
    ),
    VendorCase(
        "Siemens, private decay correction time (0071,xx22)",
        "that time, wherever SeriesTime is",
        _IBSI,
        BASE,
        header={"SeriesTime": "113000", "AcquisitionTime": "113000"},
        private=[(0x0071, 0x22, "SIEMENS MED PT", "DT", "20240531110000.00")],
    ),
    VendorCase(
        "Private time of GE or Siemens at 00:00:00, or of another day than the frames",
        "passed over, as if it were not there; said",
        _OURS,
        BASE,
        private=[(0x0071, 0x22, "SIEMENS MED PT", "DT", "20240603110000.00")],
    ),
    VendorCase(
        "SeriesTime or every AcquisitionTime at 00:00:00, the other not",
        "the other alone; said",
        _OURS,
        BASE,
        header={"SeriesTime": "000000"},
    ),
    VendorCase(
        "GE, SeriesTime after an AcquisitionTime, no private time",
        "AcquisitionTime - FrameReferenceTime; said",
        _IBSI,
        BASE,
        header={
            "Manufacturer": "GE MEDICAL SYSTEMS",
            "SeriesTime": "130000",
            "AcquisitionTime": "110400",
            "FrameReferenceTime": 240000,
        },
    ),
    VendorCase(
        "GE, the same, every bed with the AcquisitionTime of the first",
        "the earliest AcquisitionTime; said",
        _OURS,
        BASE,
        header={"Manufacturer": "GE MEDICAL SYSTEMS", "SeriesTime": "130000"},
        slices={"FrameReferenceTime": [0, 0, 240000, 240000]},
    ),
    VendorCase(
        "SeriesTime after an AcquisitionTime, FrameReferenceTime without ActualFrameDuration",
        "refused unless --scan-start is given (not on GE)",
        _IBSI,
        refusal="without ActualFrameDuration",
        header={"SeriesTime": "130000", "FrameReferenceTime": 60000, "ActualFrameDuration": None},
    ),
    VendorCase(
        "SeriesTime after an AcquisitionTime, frame times there",
        "computed back: AcquisitionTime - FrameReferenceTime + time of the mean count rate; said",
        _QIBA,
        BASE,
        header={
            "SeriesTime": "130000",
            "AcquisitionTime": "112000",
            "FrameReferenceTime": round((1200 + _AVERAGE_S) * 1000, 3),
        },
    ),
    VendorCase(
        "SeriesTime after an AcquisitionTime, no frame times",
        "the earliest AcquisitionTime; said",
        _QIBA,
        BASE,
        header={"SeriesTime": "130000"},
    ),
    VendorCase(
        "SeriesTime missing, no frame times",
        "the earliest AcquisitionTime; said",
        _OURS,
        BASE,
        header={"SeriesTime": None},
    ),
    VendorCase(
        "SeriesTime missing, beds pass midnight, no AcquisitionDate",
        "the earliest AcquisitionTime, that before midnight; said",
        _OURS,
        BASE,
        header={"SeriesTime": None, "AcquisitionDate": None},
        injection={"RadiopharmaceuticalStartDateTime": "20240531225500"},
        slices={"AcquisitionTime": ["000200", "000200", "235500", "235500"]},
    ),
    VendorCase(
        "SeriesTime and AcquisitionTime missing",
        "refused unless --scan-start is given",
        _QIBA,
        refusal="SeriesTime (--scan-start)",
        header={"SeriesTime": None, "AcquisitionTime": None},
    ),
    # Time of the injection
    VendorCase(
        "Injection with a time but no date", "the day of the scan", _QIBA, BASE, injection=_NO_DATETIME
    ),
    VendorCase(
        "Injection 23:30, scan 00:30, no date",
        "the injection was the day before; said",
        _IBSI,
        BASE,
        header={"SeriesTime": "003000", "AcquisitionTime": "003000"},
        injection=_NO_DATETIME | {"RadiopharmaceuticalStartTime": "233000"},
    ),
    VendorCase(
        "All dates wiped, times kept",
        "the clock alone",
        _OURS,
        BASE,
        header={"SeriesDate": None, "AcquisitionDate": None},
        injection=_NO_DATETIME,
    ),
    VendorCase(
        "Injection in UTC, scan in another zone",
        "brought to the scan's zone",
        _DICOM,
        BASE,
        header={"TimezoneOffsetFromUTC": "+0200"},
        injection={"RadiopharmaceuticalStartDateTime": "20240531080000.00+0000"},
    ),
    VendorCase(
        "Injection with an offset from UTC, scan's zone unknown",
        "refused unless --injected-at is given",
        _OURS,
        refusal="does not tell its zone",
        injection={"RadiopharmaceuticalStartDateTime": "20240531080000.00+0000"},
    ),
    VendorCase(
        "Injection with an offset from UTC, scan's zone unknown, RadiopharmaceuticalStartTime there",
        "RadiopharmaceuticalStartTime; said",
        _OURS,
        BASE,
        injection={
            "RadiopharmaceuticalStartDateTime": "20240531080000.00+0000",
            "RadiopharmaceuticalStartTime": "100000",
        },
    ),
    VendorCase(
        "RadiopharmaceuticalStartDateTime at 00:00:00, RadiopharmaceuticalStartTime there",
        "the latter on the former's day; said",
        _OURS,
        BASE,
        injection={
            "RadiopharmaceuticalStartDateTime": "20240531000000",
            "RadiopharmaceuticalStartTime": "100000",
        },
    ),
    VendorCase(
        "The injection's two times more than a minute apart",
        "refused unless --injected-at is given",
        _OURS,
        refusal="are 60 minutes apart",
        injection={"RadiopharmaceuticalStartTime": "090000"},
    ),
    VendorCase(
        "Injection with a time but no date, half-life above 2.4 h",
        "refused unless it is given with its date: it may have been days before",
        _OURS,
        refusal="has no date",
        injection=_NO_DATETIME | {"RadionuclideHalfLife": 282276},
    ),
    VendorCase(
        "Injection after the scan, dates there",
        "refused",
        _QIBA,
        refusal="after the scan",
        injection={"RadiopharmaceuticalStartDateTime": "20240531120000"},
    ),
    VendorCase(
        "Injection more than ten half-lives before, on the day before",
        "refused",
        _OURS,
        refusal="half-lives",
        injection={"RadiopharmaceuticalStartDateTime": "20240530160000"},
    ),
    VendorCase(
        "Dates of injection and scan days apart, half-life below 11.5 h",
        "the clock times alone: one of the dates was wiped or replaced; said",
        _IBSI,
        BASE,
        header={"SeriesDate": "19000101", "AcquisitionDate": "19000101"},
    ),
    VendorCase(
        "Dates of injection and scan too far apart, half-life of 11.5 h or more",
        "refused",
        _IBSI,
        refusal="half-lives",
        injection={"RadiopharmaceuticalStartDateTime": "20240101100000", "RadionuclideHalfLife": 282276},
    ),
    VendorCase(
        "Injection's time missing",
        "refused unless --injected-at is given",
        _QIBA,
        refusal="(--injected-at)",
        injection={"RadiopharmaceuticalStartDateTime": None},
    ),
    # Dose, half-life, weight
    VendorCase(
        "Dose in MBq", "taken as MBq by its size; said", _IBSI, BASE, injection={"RadionuclideTotalDose": 200}
    ),
    VendorCase(
        "Dose missing",
        "refused unless --dose-mbq is given",
        _QIBA,
        refusal="(--dose-mbq)",
        injection={"RadionuclideTotalDose": None},
    ),
    VendorCase(
        "Half-life missing, nuclide's code there",
        "that of the nuclide; said",
        _OURS,
        BASE,
        injection={"RadionuclideHalfLife": None, "RadionuclideCode": "^18^Fluorine"},
    ),
    VendorCase(
        "Half-life and nuclide missing",
        "refused unless --tracer or --half-life-s is given",
        _OURS,
        refusal="RadionuclideHalfLife",
        injection={"RadionuclideHalfLife": None},
    ),
    VendorCase(
        "Weight in grams", "taken as grams above 1000; said", _IBSI, BASE, header={"PatientWeight": 80000}
    ),
    VendorCase(
        "Weight missing or 0",
        "refused unless --weight-kg is given",
        _QIBA,
        refusal="(--weight-kg)",
        header={"PatientWeight": None},
    ),
    # Series
    VendorCase(
        "Dynamic or gated series",
        "refused",
        _OURS,
        refusal="DYNAMIC",
        header={"SeriesType": ["DYNAMIC", "IMAGE"]},
    ),
    VendorCase(
        "Weights that differ between slices",
        "refused",
        _CORNERSTONE,
        refusal="2 different values of PatientWeight",
        slices={"PatientWeight": [80, 80, 80, 81]},
    ),
    # Factors of other software
    _sample("SIEMENS", "083045", "104829", "104830.351", 38513, 67, 374e6, 0.00042748316187197236),
    _sample(
        "GE MEDICAL SYSTEMS",
        "084500",
        "095621",
        "095621",
        0,
        52,
        152.02272e6,
        0.0005367387681819742,
        6586.2002,
    ),
    _sample("Philips", "100058", "110155", "110156", 1328700, 64, 126e6, 0.0007463747013889488, 6586.1997),
)
