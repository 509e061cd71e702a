"""From the headers of a PET series to SUV: which unit the pixels have, and to which moment they refer.

Rules: QIBA vendor-neutral pseudo-code, IBSI SUV manual. The order in which the moment is looked for
(GE private time, SeriesTime, back-computation, earliest AcquisitionTime) agrees with scanners of the three
large vendors: FrameReferenceTime is the offset of the bed's start on GE and of the average count elsewhere,
so computing back from it everywhere is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from petbone.body import SPOKEN, SuvType, suv_bw_from
from petbone.errors import InputError
from petbone.io.dicom import coded
from petbone.io.injection import Found, Moment, acquisition, body_of, nuclide_of, sex_of, tracer_of
from petbone.io.scan import PetOptions
from petbone.suv import HALF_LIFE_S, Acquisition, DecayCorrection, SuvFactor, suv_bw_factor

SAME_TIME_S = 1.0
"""SeriesTime may be this much after an AcquisitionTime and still count as the start of the scan."""
BACK_COMPUTED_SPREAD_S = 60.0
LATE_START_S = 180.0
"""The first frame of a series starts with it; later by more than this, it may be another scan's time."""

# DICOM PS3.3 C.8.9.1.1: what these elements may hold. Anything else is free text and is not repeated.
UNITS = frozenset(
    "CNTS NONE CM2 CM2ML PCNT CPS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCNTS PROPCPS MLMINML MLML "
    "GML STDDEV".split()
)
CORRECTIONS = frozenset("DECY ATTN SCAT DTIM MOTN PMOT CLIN RAN RADL DCAL NORM COUNTLOSS RANDOMS".split())
DECAY = frozenset(kind.value for kind in DecayCorrection)

GE_TIME = "GE private scan time (0009,xx0D)"
ENHANCED_TIME = "DecayCorrectionDateTime"
COMPUTED_TIME = "AcquisitionTime and FrameReferenceTime"
EARLIEST_TIME = "earliest AcquisitionTime"
WHY = {
    GE_TIME: "GE writes the start of the scan there; SeriesTime may be that of a later reconstruction",
    ENHANCED_TIME: "an enhanced object states the moment itself",
    "SeriesTime": "it is not after any AcquisitionTime",
    COMPUTED_TIME: "SeriesTime is missing or late, and the frames tell how long after the start they are",
    EARLIEST_TIME: "SeriesTime is missing or late, and the frames do not tell when the scan began",
}

_ZONE = "TimezoneOffsetFromUTC"
_GE_SCAN_TIME = (0x0009, 0x0D, "GEMS_PETD_01")
_PHILIPS_SUV = (0x7053, 0x00, "Philips PET Private Group")
_PHILIPS_ACTIVITY = (0x7053, 0x09, "Philips PET Private Group")


@dataclass(frozen=True)
class PetFacts:
    """What the headers give: factor from file unit to SUVbw, and how it was found. `tags` identify nobody.

    `slice_shares`: what the factor is multiplied by in each slice, in the order of the headers, where slices
    differ (images without decay correction); otherwise None.
    """

    factor: SuvFactor
    acquisition: Acquisition | None
    tags: dict[str, Any]
    tracer: str | None
    slice_shares: tuple[float, ...] | None = None


def pet_facts(path: Path, headers: Sequence[Dataset], options: PetOptions) -> PetFacts:
    """SUV factor of a PET series. Raises InputError wherever the rules leave a guess."""
    first = headers[0]
    _refuse_differences(path, headers)
    units = coded(first, "Units", UNITS)
    corrected = {str(v) for v in _values(first.get("CorrectedImage"))} & CORRECTIONS
    tags: dict[str, Any] = {"Units": units, "CorrectedImage": sorted(corrected)}
    tracer = options.tracer or _found_tracer(first)
    _refuse_uncorrected(path, corrected, coded(first, "DecayCorrection", DECAY), units)
    if units in ("GML", "CM2ML"):
        return PetFacts(_factor_of_suv(path, first, units, options, tags), None, tags, tracer)
    scale = 1.0
    if units == "CNTS":
        suv_scale, scale = (_philips(path, headers, tag) for tag in (_PHILIPS_SUV, _PHILIPS_ACTIVITY))
        if suv_scale:
            tags["SUVScaleFactor (7053,xx00)"] = suv_scale
            return PetFacts(SuvFactor(suv_scale, "Units CNTS: Philips SUV scale factor"), None, tags, tracer)
        if not scale:
            raise InputError(
                f"{path}: Units CNTS without the Philips factors (7053,xx00) and (7053,xx09); expected BQML: "
                "export the series in Bq/mL"
            )
        tags["ActivityConcentrationScaleFactor (7053,xx09)"] = scale
    elif units != "BQML":
        raise InputError(f"{path}: Units {units}; expected BQML, GML, CM2ML, or CNTS of Philips")
    facts = replace(_found(path, headers, tags), tracer=tracer)
    result = acquisition(path, facts, options)
    factor = suv_bw_factor(result)
    if scale != 1.0:
        factor = replace(
            factor, factor=factor.factor * scale, rule=f"counts to Bq/mL by Philips; {factor.rule}"
        )
    if result.decay_correction is DecayCorrection.NONE:
        shares = _slice_shares(headers, result)
        tags["slice factors"] = [factor.factor * min(shares), factor.factor * max(shares)]
        return PetFacts(factor, result, tags, tracer, shares)
    return PetFacts(factor, result, tags, tracer)


def _refuse_uncorrected(path: Path, corrected: set[str], decay: str, units: str) -> None:
    """Attenuation always; decay too, unless DecayCorrection says NONE and the pixels are no SUV yet."""
    raw = decay == "NONE" and units in ("BQML", "CNTS")
    lacking = sorted(({"ATTN"} if raw else {"ATTN", "DECY"}) - corrected)
    if lacking:
        raise InputError(
            f"{path}: CorrectedImage lacks {' and '.join(lacking)}; expected PET corrected for attenuation "
            "(ATTN) and decay (DECY, or DecayCorrection NONE)"
        )
    if raw and "DECY" in corrected:
        raise InputError(
            f"{path}: CorrectedImage has DECY but DecayCorrection is NONE; expected them to agree: "
            "export the series again"
        )


def _factor_of_suv(
    path: Path, first: Dataset, units: str, options: PetOptions, tags: dict[str, Any]
) -> SuvFactor:
    """Factor to SUVbw of pixels that are SUV already, of whatever type; what the body's size says is needed
    for any other than body weight."""
    usual = "BSA" if units == "CM2ML" else "BW"
    word = coded(first, "SUVType", [kind.value for kind in SuvType]) if first.get("SUVType") else usual
    tags["SUVType"] = word
    fitting = [kind.value for kind in SuvType if (kind is SuvType.BSA) == (units == "CM2ML")]
    if word not in fitting:
        raise InputError(f"{path}: Units {units} with SUVType {word}; expected {', '.join(fitting)}")
    kind = SuvType(word)
    if kind is SuvType.BW:
        return SuvFactor(1.0, "Units GML: the pixels are SUVbw")
    body = body_of(
        path,
        Found(
            weight=_number(first.get("PatientWeight")),
            height_m=_number(first.get("PatientSize")),
            sex=sex_of(first.get("PatientSex")),
        ),
        options,
        needs_sex=kind is not SuvType.BSA,
    )
    tags |= {"PatientWeight": body.weight_kg, "PatientSize": body.height_m, "PatientSex": body.sex}
    try:
        factor = suv_bw_from(kind, body.weight_kg, body.height_m, body.sex)
    except ValueError as error:
        raise InputError(f"{path}: SUV of type {word} cannot be turned into SUVbw: {error}") from None
    said = body.said
    if body.sex == "O" and kind is not SuvType.BSA:
        said = (*said, "sex O: the mean of the formulas for men and women was taken")
    return SuvFactor(factor, f"Units {units}, SUVType {word}: from {SPOKEN[kind]} to body weight", said)


def _slice_shares(headers: Sequence[Dataset], of_first: Acquisition) -> tuple[float, ...]:
    """Factor of every slice over the earliest one's: each by its own start and length of frame (IBSI)."""
    frames = _frames(headers)
    earliest = min(start for start, _ in frames)
    base = suv_bw_factor(of_first).factor
    found = {}
    for start, frame_s in set(frames):  # a bed's slices share their frame
        at = of_first.decay_reference_at + (start - earliest)
        found[start, frame_s] = suv_bw_factor(
            replace(of_first, decay_reference_at=at, frame_s=frame_s)
        ).factor
    return tuple(found[frame] / base for frame in frames)


def _refuse_differences(path: Path, headers: Sequence[Dataset]) -> None:
    """What SUV is computed from must be one value in the whole series."""
    for keyword in ("Units", "CorrectedImage", "DecayCorrection", "SUVType", "PatientWeight", "SeriesTime"):
        count = len({str(h.get(keyword)) for h in headers})
        if count > 1:
            raise InputError(f"{path}: {count} different values of {keyword} in one series; expected one")
    for keyword in (
        "RadionuclideTotalDose",
        "RadionuclideHalfLife",
        "RadiopharmaceuticalStartTime",
        "RadiopharmaceuticalStartDateTime",
    ):
        count = len({str(_injection(h).get(keyword)) for h in headers})
        if count > 1:
            raise InputError(f"{path}: {count} different values of {keyword} in one series; expected one")
    injections = len(_values(headers[0].get("RadiopharmaceuticalInformationSequence")))
    if injections > 1:
        raise InputError(f"{path}: {injections} injections in the header; expected one")


def _found(path: Path, headers: Sequence[Dataset], tags: dict[str, Any]) -> Found:
    """The header's words. `tags` receives what was used; times of day only, because dates identify."""
    first = headers[0]
    injection = _injection(first)
    word = coded(first, "DecayCorrection", DECAY)
    tags["DecayCorrection"] = word
    if word not in {kind.value for kind in DecayCorrection}:
        raise InputError(f"{path}: DecayCorrection {word}; expected START, ADMIN or NONE")
    half_life_s = _number(injection.get("RadionuclideHalfLife"))
    nuclide = next((nuclide_of(text) for text in _code_texts(injection, "RadionuclideCodeSequence")), None)
    reference: Moment | None = None
    said: tuple[str, ...] = ()
    if word == "START":
        reference, rule, said = _decay_reference(path, headers, half_life_s or HALF_LIFE_S.get(nuclide or ""))
        tags["scan start from"] = rule
        tags["scan start because"] = WHY.get(rule)
        tags["scan start"] = reference.when.time().isoformat() if reference else None
    frame_s = None
    if word == "NONE":
        frames = _frames(headers)
        if not frames:
            raise InputError(
                f"{path}: not decay-corrected, and AcquisitionTime or ActualFrameDuration is missing in a "
                "slice; expected both in every slice"
            )
        start, frame_s = min(frames)
        reference = Moment(start, _day(first)[0])
        tags["scan start from"] = "AcquisitionTime of each slice"
        tags["scan start"] = start.time().isoformat()
    injected = _injected(first, reference)
    tags["injection"] = injected.when.time().isoformat() if injected else None
    for keyword in ("RadionuclideTotalDose", "RadionuclideHalfLife"):
        tags[keyword] = _number(injection.get(keyword))
    tags["PatientWeight"] = _number(first.get("PatientWeight"))
    return Found(
        dose=_number(injection.get("RadionuclideTotalDose")),
        half_life_s=half_life_s,
        nuclide=nuclide,
        injected=injected,
        reference=reference,
        weight=_number(first.get("PatientWeight")),
        height_m=_number(first.get("PatientSize")),
        sex=sex_of(first.get("PatientSex")),
        decay_correction=DecayCorrection(word),
        frame_s=frame_s,
        said=said,
        names={
            "dose": "RadionuclideTotalDose",
            "half_life_s": "RadionuclideHalfLife",
            "injected": "RadiopharmaceuticalStartDateTime",
            "reference": "SeriesTime",
            "weight": "PatientWeight",
        },
    )


# Times


def _decay_reference(
    path: Path, headers: Sequence[Dataset], half_life_s: float | None
) -> tuple[Moment | None, str, tuple[str, ...]]:
    """(moment the image is corrected to, the rule that found it, what must be said of it)."""
    first = headers[0]
    dated, day = _day(first)
    series = _date_time(day, first.get("SeriesTime"))
    taken = [t for t in (_acquired(h, day) for h in headers) if t is not None]
    earliest = min(taken, default=None)
    # Only an enhanced object's: in older ones it is optional, and anonymisers shift it apart from the rest.
    told = _local(first, first.get("DecayCorrectionDateTime"))
    if told and first.get("DecayCorrected") == "YES":
        return Moment(told, dated=True), ENHANCED_TIME, ()
    if ge := _ge_scan_time(first):
        return Moment(ge, dated=True), GE_TIME, ()
    if series and (earliest is None or series <= earliest + timedelta(seconds=SAME_TIME_S)):
        return Moment(series, dated), "SeriesTime", _late_start(headers, series, earliest, half_life_s)
    if earliest is None:
        return None, "none", ()
    why = "SeriesTime is after the acquisition" if series else "SeriesTime is missing"
    if half_life_s and not _is_ge(first):
        computed = [_back_computed(h, _acquired(h, day), half_life_s) for h in headers]
        starts = [c for c in computed if c is not None]
        if len(starts) == len(headers):
            spread_s = (max(starts) - min(starts)).total_seconds()
            if spread_s > BACK_COMPUTED_SPREAD_S:
                raise InputError(
                    f"{path}: the frames' times lead to scan starts {spread_s:.0f} s apart; expected one: "
                    "give --scan-start"
                )
            said = f"{why}, so the scan start was computed back from the frames"
            return Moment(min(starts), dated), COMPUTED_TIME, (said,)
    said = f"{why}, so the earliest AcquisitionTime was taken as the scan start"
    return Moment(earliest, dated), EARLIEST_TIME, (said,)


def _late_start(
    headers: Sequence[Dataset], series: datetime, earliest: datetime | None, half_life_s: float | None
) -> tuple[str, ...]:
    """What must be said if nothing was acquired for long after SeriesTime and no frame explains it."""
    if earliest is None:
        return ("SeriesTime was taken as the scan start; no AcquisitionTime is there to check it",)
    if (earliest - series).total_seconds() <= LATE_START_S:
        return ()
    day = _day(headers[0])[1]
    computed = [_back_computed(h, _acquired(h, day), half_life_s or HALF_LIFE_S["F-18"]) for h in headers]
    if any(c and abs((c - series).total_seconds()) <= BACK_COMPUTED_SPREAD_S for c in computed):
        return ()
    minutes = (earliest - series).total_seconds() / 60
    return (
        f"SeriesTime was taken as the scan start, although the first frame is {minutes:.0f} minutes later: "
        "if the scan began later, give --scan-start",
    )


def _day(header: Dataset) -> tuple[bool, str]:
    """Whether there is a date, and it or a day that stands for none: dates are often wiped while times are
    kept, and the injection's clock time is then all there is, too."""
    day = next((d for k in ("SeriesDate", "AcquisitionDate", "StudyDate") if (d := header.get(k))), None)
    return day is not None, str(day or "19700101")


def _frames(headers: Sequence[Dataset]) -> list[tuple[datetime, float]]:
    """Start and length in s of every slice's frame; empty where a slice does not tell them."""
    day = _day(headers[0])[1]
    frames = [
        (at, frame_ms / 1000)
        for h in headers
        if (at := _acquired(h, day)) and (frame_ms := _number(h.get("ActualFrameDuration")) or 0) > 0
    ]
    return frames if len(frames) == len(headers) else []


def _back_computed(header: Dataset, acquired: datetime | None, half_life_s: float) -> datetime | None:
    """QIBA robust path: AcquisitionTime - FrameReferenceTime + time of the mean count rate in the frame."""
    reference_s = (_number(header.get("FrameReferenceTime")) or 0) / 1000
    frame_s = (_number(header.get("ActualFrameDuration")) or 0) / 1000
    if acquired is None or reference_s <= 0 or frame_s <= 0:
        return None
    decay_per_s = math.log(2) / half_life_s
    decay = decay_per_s * frame_s
    average_s = math.log(decay / -math.expm1(-decay)) / decay_per_s
    return acquired + timedelta(seconds=average_s - reference_s)


def _ge_scan_time(header: Dataset) -> datetime | None:
    return _local(header, _private(header, *_GE_SCAN_TIME)) if _is_ge(header) else None


def _is_ge(header: Dataset) -> bool:
    return str(header.get("Manufacturer") or "").upper().startswith(("GE", "GENERAL ELECTRIC"))


def _injected(header: Dataset, reference: Moment | None) -> Moment | None:
    """RadiopharmaceuticalStartDateTime, else RadiopharmaceuticalStartTime, whose date is not recorded."""
    injection = _injection(header)
    if full := _local(header, injection.get("RadiopharmaceuticalStartDateTime")):
        return Moment(full, dated=True)
    day = reference.when.strftime("%Y%m%d") if reference else "19700101"
    clock = _date_time(day, injection.get("RadiopharmaceuticalStartTime"))
    return Moment(clock, dated=False) if clock else None


def _acquired(header: Dataset, day: str) -> datetime | None:
    clock = header.get("AcquisitionTime")
    if at := _date_time(header.get("AcquisitionDate"), clock) or _date_time(day, clock):
        return at
    return _local(header, header.get("AcquisitionDateTime"))


def _local(header: Dataset, value: object) -> datetime | None:
    """A DT in the time zone of the header's TM elements (0008,0201), else as its clock says."""
    text = str(value or "").strip()
    parsed = _parse_date_time(text)
    zones = [re.search(r"([+-])(\d{2})(\d{2})$", str(z or "").strip()) for z in (text[8:], header.get(_ZONE))]
    if parsed is None or zones[0] is None or zones[1] is None:
        return parsed
    own, theirs = (
        timedelta(hours=int(z[2]), minutes=int(z[3])) * (1 if z[1] == "+" else -1) for z in zones if z
    )
    return parsed - own + theirs


def _date_time(day: object, clock: object) -> datetime | None:
    """DICOM DA and TM; None if either is missing or malformed. '09:30:00' and '2024.05.31' are ACR-NEMA."""
    date_digits = re.sub(r"\D", "", str(day or ""))
    clock_digits = re.sub(r":", "", str(clock or "").strip())
    if len(date_digits) != 8 or not re.match(r"\d{4}", clock_digits):
        return None
    return _parse_date_time(date_digits + clock_digits)


def _parse_date_time(text: str) -> datetime | None:
    """DICOM DT with at least hours and minutes, as its clock says; the offset from UTC is not applied."""
    found = re.match(r"(\d{8})(\d{2})(\d{2})(\d{2})?(\.\d{1,6})?", text.strip())
    if not found:
        return None
    try:
        day = datetime.strptime(found[1], "%Y%m%d")
        seconds = min(int(found[4] or 0), 59) + float(found[5] or 0)  # DICOM allows a leap second, 60
        if int(found[2]) > 23 or int(found[3]) > 59:
            return None
        return day + timedelta(hours=int(found[2]), minutes=int(found[3]), seconds=seconds)
    except ValueError:
        return None


# Elements


def _injection(header: Dataset) -> Dataset:
    items = _values(header.get("RadiopharmaceuticalInformationSequence"))
    return items[0] if items else Dataset()


def _found_tracer(header: Dataset) -> str | None:
    injection = _injection(header)
    texts = [str(injection.get("Radiopharmaceutical") or "")]
    texts += _code_texts(injection, "RadiopharmaceuticalCodeSequence")
    return next((tracer for tracer in map(tracer_of, texts) if tracer), None)


def _code_texts(dataset: Dataset, keyword: str) -> list[str]:
    return [str(item.get("CodeMeaning") or "") for item in _values(dataset.get(keyword))]


def _philips(path: Path, headers: Sequence[Dataset], tag: tuple[int, int, str]) -> float:
    """A Philips factor, 0 where it is absent; one value for the whole series."""
    values = {_number(_private(h, *tag)) or 0.0 for h in headers}
    if len(values) > 1:
        raise InputError(f"{path}: {len(values)} different Philips scale factors in one series; expected one")
    return values.pop()


def _private(header: Dataset, group: int, offset: int, creator: str) -> Any:
    """Value of a private element by its creator, or by its usual place if the creator was stripped."""
    try:
        element = header.private_block(group, creator)[offset]
    except KeyError:
        element = header.get((group, 0x1000 + offset))
        if (group, 0x0010) in header or element is None:
            return None
    value = element.value
    return value.decode("ascii", "ignore").strip("\0 ") if isinstance(value, bytes) else value


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else list(value)


def _number(value: Any) -> float | None:
    """A finite number from a DICOM value of any kind; None where there is none."""
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None
