"""Enhanced (multi-frame) CT and PET objects as the slices that they hold, in the words of the older objects.

DICOM keeps what belongs to a frame in functional groups (PS3.3 C.7.6.16), and an older object that was
converted keeps its own elements in 'unassigned converted attributes' (A.70 to A.72). An object that was born
enhanced says decay correction, attenuation correction and unit elsewhere (C.8.22, C.7.6.16.2.11): they
are translated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
BQ_PER_ML = {"bq/ml": 1.0, "bq/cm3": 1.0, "kbq/ml": 1e3, "kbq/cm3": 1e3}
"""UCUM codes of activity, in small letters; not mega, which differs from milli by its capital alone."""
UNITS = {
    **dict.fromkeys(BQ_PER_ML, ("BQML", "")),
    "{suvbw}g/ml": ("GML", "BW"),
    "{suvlbm}g/ml": ("GML", "LBM"),
    "{suvlbm(james128)}g/ml": ("GML", "LBMJAMES128"),
    "{suvlbm(janma)}g/ml": ("GML", "LBMJANMA"),
    "{suvibw}g/ml": ("GML", "IBW"),
    "{suvbsa}cm2/ml": ("CM2ML", "BSA"),
}
"""UCUM codes of Real World Value Mapping (PS3.16 CID 85), and the Units (0054,1001) and SUVType (0054,1006)
that they are; in the order in which they are preferred."""


_FLAGS = {"ATTN": "AttenuationCorrected", "DECY": "DecayCorrected"}


def is_enhanced(header: Dataset) -> bool:
    """Several frames with a functional group for each of them."""
    return all(keyword in header for keyword in GROUPS)


def frame_headers(header: Dataset) -> list[Dataset]:
    """A header for every frame, as files of one slice have it.

    Raises ValueError where frames and groups differ in number.
    """
    per_frame = header.PerFrameFunctionalGroupsSequence
    if len(per_frame) != int(header.get("NumberOfFrames") or 1):
        raise ValueError("frames and functional groups differ in number")
    common = Dataset()
    common.update({e.tag: e for e in header if e.keyword not in (*GROUPS, "NumberOfFrames")})
    for group in header.SharedFunctionalGroupsSequence:
        _spread(common, group)
    found = []
    for group in per_frame:
        own = Dataset()
        own.update({e.tag: e for e in common})
        _spread(own, group)
        own.file_meta = header.file_meta
        _translate(own)
        found.append(own)
    return found


def _spread(target: Dataset, group: Dataset) -> None:
    """Copy what the items of a functional group say into a header."""
    for macro in group:
        if macro.VR == "SQ" and len(macro.value) == 1 and macro.keyword != "RealWorldValueMappingSequence":
            target.update({e.tag: e for e in macro.value[0]})
        elif macro.VR == "SQ":
            target.add(macro)


def _put(own: Dataset, keyword: str, value: Any) -> None:
    """A new element: one that is there is shared with the other frames, and setting its value sets theirs."""
    own.pop(keyword, None)
    setattr(own, keyword, value)


def _translate(own: Dataset) -> None:
    """The older elements from the newer ones, where the older are not there."""
    if own.get("Modality") != "PT":
        return
    flags = {name: str(own.get(keyword) or "").strip().upper() for name, keyword in _FLAGS.items()}
    for name, keyword in _FLAGS.items():
        if flags[name]:
            _put(own, keyword, flags[name])
    if not own.get("CorrectedImage") and any(flags.values()):
        _put(own, "CorrectedImage", [name for name, flag in flags.items() if flag == "YES"])
    if not own.get("DecayCorrection"):
        # The moment itself stands in DecayCorrectionDateTime, whichever it is; without it nobody knows.
        if flags["DECY"] == "YES" and own.get("DecayCorrectionDateTime"):
            _put(own, "DecayCorrection", "START")
        elif flags["DECY"] == "NO":
            _put(own, "DecayCorrection", "NONE")
    if not own.get("Units"):
        _set_units(own, own.get("RealWorldValueMappingSequence") or [])
    for newer, older in (
        ("FrameAcquisitionDateTime", "AcquisitionDateTime"),
        ("FrameAcquisitionDuration", "ActualFrameDuration"),
    ):
        if own.get(newer):
            _put(own, older, own[newer].value)
    if own.get("FrameAcquisitionDateTime"):
        for keyword in ("AcquisitionDate", "AcquisitionTime"):
            if keyword in own:
                delattr(own, keyword)


def _set_units(own: Dataset, mappings: Iterable[Any]) -> None:
    """Units and scale of the mapping to Bq/mL, or else to SUV; nothing where there is none."""
    by_code: dict[str, Any] = {}
    for mapping in mappings:
        codes = mapping.get("MeasurementUnitsCodeSequence") or [Dataset()]
        # UCUM's annotation may stand before the unit or after it.
        written = codes[0].get("CodeValue") or codes[0].get("LongCodeValue") or ""
        code = re.sub(r"^([^{]+)(\{.*\})$", r"\2\1", str(written).lower())
        if "RealWorldValueSlope" in mapping:
            by_code.setdefault(code, mapping)
    for code, (unit, kind) in UNITS.items():
        if mapping := by_code.get(code):
            _put(own, "Units", unit)
            if kind:
                _put(own, "SUVType", kind)
            scale = BQ_PER_ML.get(code, 1.0)
            _put(own, "RescaleSlope", float(mapping.RealWorldValueSlope) * scale)
            _put(own, "RescaleIntercept", float(mapping.get("RealWorldValueIntercept") or 0) * scale)
            return
