"""When the tracer was injected and to which moment the image is corrected, from the headers of a PET series.

* *reference* : the moment to which the image is decay-corrected (START), or the start of the first frame
* *clock*     : a time of day by the clock that the header's TM elements (SeriesTime, ...) were read from

The order in which the reference is looked for (private time of GE or Siemens, SeriesTime, back-computation,
earliest AcquisitionTime) agrees with scanners of the three large vendors. FrameReferenceTime is the offset of
the frame's start on GE and of the mean count rate elsewhere (IBSI), and on some GE scanners every bed has the
AcquisitionTime of the first: computing back from it everywhere is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydicom.dataset import Dataset

from petbone.errors import InputError
from petbone.io.dicom_elements import injection_of, is_ge, is_siemens, number, private
from petbone.io.injection import Moment
from petbone.suv import HALF_LIFE_S

SAME_TIME_S = 1.0
"""SeriesTime may be this much after an AcquisitionTime and still count as the start of the scan."""
BACK_COMPUTED_SPREAD_S = 60.0
LATE_START_S = 180.0
"""The first frame of a series starts with it; later by more than this, it may be another scan's time."""
SAME_INJECTION_S = 60.0
"""The injection's two elements may differ by this much and still mean one moment."""
QUARTER_S = 900.0
"""Time zones are whole quarters of an hour apart."""
ONE_SESSION = timedelta(hours=12)
"""No series takes as long: clocks that are further apart have passed midnight."""

GE_TIME = "GE private scan time (0009,xx0D)"
SIEMENS_TIME = "Siemens private decay correction time (0071,xx22)"
ENHANCED_TIME = "DecayCorrectionDateTime"
COMPUTED_TIME = "AcquisitionTime and FrameReferenceTime"
EARLIEST_TIME = "earliest AcquisitionTime"
SLICE_TIMES = "AcquisitionTime of each slice"
WHY = {
    GE_TIME: "GE writes the start of the scan there; SeriesTime may be that of a later reconstruction",
    SIEMENS_TIME: "Siemens writes the moment there to which the image is corrected",
    ENHANCED_TIME: "an enhanced object states the moment itself",
    "SeriesTime": "it is not after any AcquisitionTime",
    COMPUTED_TIME: "SeriesTime is missing or late, and the frames tell how long after the start they are",
    EARLIEST_TIME: "SeriesTime is missing or late, and the frames do not tell when the scan began",
    SLICE_TIMES: "the image is not decay-corrected, so every slice has its own moment",
}

MIDNIGHT = (
    "the injection's time is midnight to the second: if that stands for no time at all, give --injected-at"
)
_ZONE = "TimezoneOffsetFromUTC"
_PRIVATE_TIMES = {
    GE_TIME: (is_ge, (0x0009, 0x0D, "GEMS_PETD_01")),
    SIEMENS_TIME: (is_siemens, (0x0071, 0x22, "SIEMENS MED PT")),
}


@dataclass(frozen=True)
class Reference:
    """The moment to which an image is corrected, the element that told it, and what must be said of it."""

    moment: Moment | None
    rule: str
    said: tuple[str, ...] = ()


def reference_of(path: Path, headers: Sequence[Dataset], half_life_s: float | None) -> Reference:
    """Decay reference of a series that is corrected to its start. Raises InputError where frames disagree."""
    first = headers[0]
    # Only an enhanced object's: in older ones it is optional, and anonymisers shift it apart from the rest.
    told = moment_of(first, first.get("DecayCorrectionDateTime"))
    if told and first.get("DecayCorrected") == "YES":
        return Reference(told, ENHANCED_TIME)
    if private_time := _private_time(headers):
        return private_time
    dated, day = _day(first)
    series = _date_time(day, first.get("SeriesTime"))
    taken = _acquired(headers)
    earliest = min((t.when for t in taken if t), default=None)
    if earliest is not None and any(t.utc for t in taken if t):
        if series is None:
            moment = Moment(earliest, dated=True, utc=True)
            return Reference(moment, EARLIEST_TIME, (_TAKEN.format("missing"),))
        taken, earliest = [None] * len(headers), None  # they cannot be compared
    if series and (earliest is None or series <= earliest + timedelta(seconds=SAME_TIME_S)):
        said = _late_start(headers, series, [t.when if t else None for t in taken], half_life_s)
        return Reference(Moment(series, dated), "SeriesTime", said)
    if earliest is None:
        return Reference(None, "none")
    why = "after the acquisition" if series else "missing"
    if start := _computed_start(path, headers, [t.when if t else None for t in taken], half_life_s):
        said = (f"SeriesTime is {why}, so the scan start was computed back from the frames",)
        return Reference(Moment(start, dated), COMPUTED_TIME, said)
    return Reference(Moment(earliest, dated), EARLIEST_TIME, (_TAKEN.format(why),))


def _computed_start(
    path: Path, headers: Sequence[Dataset], taken: Sequence[datetime | None], half_life_s: float | None
) -> datetime | None:
    """Start of the scan by every frame's time and its offset; None where they do not tell it."""
    starts = [_back_computed(h, t, half_life_s) for h, t in zip(headers, taken, strict=True)]
    there = [start for start in starts if start is not None]
    if len(there) < len(headers):
        offset = any((number(h.get("FrameReferenceTime")) or 0) > 0 for h in headers)
        if offset and not all(number(h.get("ActualFrameDuration")) for h in headers):
            raise InputError(
                f"{path}: SeriesTime is after the acquisition or missing, and without ActualFrameDuration "
                "FrameReferenceTime does not tell the scan start; give --scan-start"
            )
        return None
    spread_s = (max(there) - min(there)).total_seconds()
    if spread_s <= BACK_COMPUTED_SPREAD_S:
        return min(there)
    if is_ge(headers[0]):  # every bed with the AcquisitionTime of the first, or none with an offset
        return None
    raise InputError(
        f"{path}: the frames' times lead to scan starts {spread_s:.0f} s apart; expected one: give "
        "--scan-start"
    )


_TAKEN = "SeriesTime is {}, so the earliest AcquisitionTime was taken as the scan start"


def frames_of(headers: Sequence[Dataset]) -> list[tuple[Moment, float]]:
    """Start and length in s of every slice's frame; empty where a slice does not tell them, or where some are
    in one zone and some in another. A length of 0: the moment is that of the mean count rate."""
    if all("FrameReferenceDateTime" in h and h.get("DecayCorrected") == "NO" for h in headers):
        told = [moment_of(h, h.FrameReferenceDateTime) for h in headers]
        frames = [(moment, 0.0) for moment in told if moment]
    else:
        frames = [
            (at, frame_ms / 1000)
            for h, at in zip(headers, _acquired(headers), strict=True)
            if at and (frame_ms := number(h.get("ActualFrameDuration")) or 0) > 0
        ]
    one_zone = len({at.utc for at, _ in frames}) == 1
    return frames if one_zone and len(frames) == len(headers) else []


def injected_at(
    path: Path, header: Dataset, reference: Moment | None
) -> tuple[Moment | None, tuple[str, ...]]:
    """(the injection, what must be said of it): RadiopharmaceuticalStartDateTime, checked against
    RadiopharmaceuticalStartTime, which has no date and is put on the day of the reference.

    Raises InputError where the two contradict each other.
    """
    injection = injection_of(header)
    full = moment_of(header, injection.get("RadiopharmaceuticalStartDateTime"))
    day = reference.when if reference else datetime(1970, 1, 1)
    clock = _date_time(f"{day:%Y%m%d}", injection.get("RadiopharmaceuticalStartTime"))
    one = full or (Moment(clock, dated=False) if clock else None)
    if one is None:
        return None, ()
    if full is None or clock is None or (full.utc and reference and reference.utc):
        return one, (MIDNIGHT,) if one.when.time() == datetime.min.time() else ()
    if full.utc:
        if _beyond(full.when, clock, QUARTER_S) <= SAME_INJECTION_S:
            said = (
                "RadiopharmaceuticalStartTime was taken: RadiopharmaceuticalStartDateTime has an offset from "
                f"UTC, and {_ZONE} is missing"
            )
            return Moment(clock, dated=False), (said,)
    elif _beyond(full.when, clock, 86400) <= SAME_INJECTION_S:
        return full, (MIDNIGHT,) if full.when.time() == clock.time() == datetime.min.time() else ()
    elif full.when.time() == datetime.min.time():
        said = "RadiopharmaceuticalStartTime was taken: RadiopharmaceuticalStartDateTime has no time of day"
        return Moment(datetime.combine(full.when.date(), clock.time()), dated=True), (said,)
    elif clock.time() == datetime.min.time():
        said = "RadiopharmaceuticalStartDateTime was taken: RadiopharmaceuticalStartTime is midnight"
        return full, (said,)
    raise InputError(
        f"{path}: RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime are "
        f"{_beyond(full.when, clock, 86400) / 60:.0f} minutes apart; expected one time: give --injected-at"
    )


def moment_of(header: Dataset, value: object) -> Moment | None:
    """A DICOM DT by the header's clock; in UTC where it has an offset and the header names no zone."""
    text = str(value or "").strip()
    when = _parse_date_time(text)
    if when is None:
        return None
    own, theirs = _offset(text[8:]), _offset(header.get(_ZONE))
    if own is None:
        return Moment(when, dated=True)
    return Moment(when - own + (theirs or timedelta()), dated=True, utc=theirs is None)


def _beyond(one: datetime, other: datetime, period_s: float) -> float:
    """How many seconds two clocks differ beyond whole periods."""
    apart_s = abs((one - other).total_seconds()) % period_s
    return min(apart_s, period_s - apart_s)


def _late_start(
    headers: Sequence[Dataset],
    series: datetime,
    taken: Sequence[datetime | None],
    half_life_s: float | None,
) -> tuple[str, ...]:
    """What must be said if nothing was acquired for long after SeriesTime and no frame explains it."""
    earliest = min((t for t in taken if t), default=None)
    if earliest is None:
        return ("SeriesTime was taken as the scan start; no AcquisitionTime is there to check it",)
    if (earliest - series).total_seconds() <= LATE_START_S:
        return ()
    usual_s = half_life_s or HALF_LIFE_S["F-18"]
    computed = [_back_computed(h, t, usual_s) for h, t in zip(headers, taken, strict=True)]
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


def _acquired(headers: Sequence[Dataset]) -> list[Moment | None]:
    """Start of every slice's frame. Clocks of one date that are half a day apart have passed midnight."""
    dated, day = _day(headers[0])
    found = [_acquired_one(h, dated, day) for h in headers]
    there = [t.when for t in found if t]
    if not there or len({t.date() for t in there}) > 1 or max(there) - min(there) <= ONE_SESSION:
        return found
    return [
        Moment(t.when + timedelta(days=1), t.dated, t.utc) if t and max(there) - t.when > ONE_SESSION else t
        for t in found
    ]


def _acquired_one(header: Dataset, dated: bool, day: str) -> Moment | None:
    clock = header.get("AcquisitionTime")
    if at := _date_time(header.get("AcquisitionDate"), clock):
        return Moment(at, dated=True)
    if at := _date_time(day, clock):
        return Moment(at, dated)
    return moment_of(header, header.get("AcquisitionDateTime"))


def _back_computed(header: Dataset, acquired: datetime | None, half_life_s: float | None) -> datetime | None:
    """AcquisitionTime - FrameReferenceTime + time of the mean count rate in the frame (QIBA's robust path);
    on GE without the last term (IBSI)."""
    offset_ms = number(header.get("FrameReferenceTime"))
    frame_s = (number(header.get("ActualFrameDuration")) or 0) / 1000
    if acquired is None or offset_ms is None:
        return None
    reference_s = offset_ms / 1000
    if is_ge(header):
        return acquired - timedelta(seconds=reference_s) if reference_s >= 0 else None
    if reference_s <= 0 or frame_s <= 0 or not half_life_s:
        return None
    decay_per_s = math.log(2) / half_life_s
    decay = decay_per_s * frame_s
    average_s = math.log(decay / -math.expm1(-decay)) / decay_per_s
    return acquired + timedelta(seconds=average_s - reference_s)


def _private_time(headers: Sequence[Dataset]) -> Reference | None:
    """The vendor's own; the earliest where slices differ, because a scan starts with its first bed."""
    for rule, (is_theirs, element) in _PRIVATE_TIMES.items():
        told = [moment_of(h, private(h, *element)) for h in headers] if is_theirs(headers[0]) else []
        there = [t for t in told if t]
        if there and len({t.utc for t in there}) == 1:
            several = len({t.when for t in there}) > 1
            said = (f"{rule} differs between slices: the earliest was taken",) if several else ()
            return Reference(min(there, key=lambda t: t.when), rule, said)
    return None


def _offset(value: object) -> timedelta | None:
    """Offset from UTC at the end of a DT, or in TimezoneOffsetFromUTC; None where there is none."""
    found = re.search(r"([+-])(\d{2})(\d{2})$", str(value or "").strip())
    if not found:
        return None
    size = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return size if found[1] == "+" else -size


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
