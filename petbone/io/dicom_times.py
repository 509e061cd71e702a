"""To which moment a PET is corrected, or when every frame began, from the headers of a series.

* *reference* : the moment to which the image is decay-corrected (START), or the start of the first frame
* *taken*     : the start of every slice's frame

The order in which the reference is looked for (private time of GE or Siemens, SeriesTime, back-computation,
earliest AcquisitionTime) agrees with scanners of the three large vendors. FrameReferenceTime is the offset of
the frame's start on GE and of the mean count rate elsewhere (IBSI), and on some GE scanners every bed has the
AcquisitionTime of the first: computing back from it everywhere is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pydicom.dataset import Dataset

from petbone.errors import InputError
from petbone.io.dicom_clocks import apart_s, date_time, day_of, is_midnight, moment_of
from petbone.io.dicom_elements import distinct, is_ge, is_siemens, number, private
from petbone.io.injection import Moment

SAME_TIME_S = 1.0
"""SeriesTime may be this much after an AcquisitionTime and still count as the start of the scan."""
BACK_COMPUTED_SPREAD_S = 60.0
LATE_SHARE = 0.02
"""A scan starts with its first frame: a gap in which more than this share decays is told."""
USUAL_HALF_LIFE_S = 6586.2  # F-18's, where the header does not tell it: only for what is said
ONE_SESSION = timedelta(hours=12)
"""No series takes as long: clocks that are further apart have passed midnight, or are of another day."""

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
MIDNIGHT = "the scan start is midnight to the second: if that stands for no time at all, give --scan-start"
_TAKEN = "SeriesTime is {}, so the earliest AcquisitionTime was taken as the scan start"
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


@dataclass(frozen=True)
class _Clocks:
    """SeriesTime and the frames' starts on one calendar, `dated` or not; None where they are not there."""

    dated: bool
    series: datetime | None
    taken: tuple[datetime | None, ...]
    said: tuple[str, ...] = ()

    @property
    def earliest(self) -> datetime | None:
        """Start of the first frame."""
        return min((t for t in self.taken if t), default=None)


def reference_of(path: Path, headers: Sequence[Dataset], half_life_s: float | None) -> Reference:
    """Decay reference of a series that is corrected to its start.

    Raises InputError where SeriesTime differs between slices, and where frames contradict each other.
    """
    first = headers[0]
    # Only an enhanced object's: in older ones it is optional, and anonymisers shift it apart from the rest.
    told = moment_of(first, first.get("DecayCorrectionDateTime"))
    if told and first.get("DecayCorrected") == "YES":
        found = Reference(told, ENHANCED_TIME)
    else:
        found = _from_clocks(path, headers, half_life_s)
    if found.moment and is_midnight(found.moment.when):
        return replace(found, said=(*found.said, MIDNIGHT))
    return found


def frames_of(path: Path, headers: Sequence[Dataset]) -> list[tuple[Moment, float]]:
    """Start and length in s of every slice's frame; empty where a slice does not tell them, or where some are
    in one zone and some in another. A length of 0: the moment is that of the mean count rate.

    Raises InputError where frames that began one after the other have the same AcquisitionTime.
    """
    if all(h.get("FrameReferenceDateTime") and h.get("DecayCorrected") == "NO" for h in headers):
        told = [moment_of(h, h.FrameReferenceDateTime) for h in headers]
        frames = [(moment, 0.0) for moment in told if moment]
    else:
        frames = [
            (at, frame_ms / 1000)
            for h, at in zip(headers, _moments(headers), strict=True)
            if at and (frame_ms := number(h.get("ActualFrameDuration")) or 0) > 0
        ]
    if len({at.utc for at, _ in frames}) != 1 or len(frames) < len(headers):
        return []
    offsets_s = [(number(h.get("FrameReferenceTime")) or 0) / 1000 for h in headers]
    if len({at.when for at, _ in frames}) > 1 or max(offsets_s) - min(offsets_s) <= BACK_COMPUTED_SPREAD_S:
        return frames
    if not is_ge(headers[0]):
        raise InputError(
            f"{path}: not decay-corrected, and frames with different FrameReferenceTime have the same "
            "AcquisitionTime; expected every frame's own: export the series again"
        )
    # On some GE scanners every bed has the AcquisitionTime of the first.
    return [
        (replace(at, when=at.when + timedelta(seconds=offset_s - min(offsets_s))), frame_s)
        for (at, frame_s), offset_s in zip(frames, offsets_s, strict=True)
    ]


def _from_clocks(path: Path, headers: Sequence[Dataset], half_life_s: float | None) -> Reference:
    """The reference from private time, SeriesTime and the times of the frames."""
    moments = _moments(headers)
    clocks = _clocks(headers, moments)
    passed: tuple[str, ...] = ()
    if private_time := _private_time(headers):
        passed = _passed_over(private_time, clocks)
        if not passed:
            said = _gap(headers, private_time.moment, private_time.rule, clocks, half_life_s)
            return replace(private_time, said=(*private_time.said, *said))
    times = {date_time(day_of(h)[1], h.get("SeriesTime")) for h in distinct(headers, "SeriesTime")}
    if len(times) > 1:
        raise InputError(f"{path}: {len(times)} different values of SeriesTime in one series; expected one")
    found = _from_series_time(path, headers, clocks, half_life_s)
    if found.moment is None and (in_utc := [t for t in moments if t and t.utc]):
        moment = min(in_utc, key=lambda t: t.when)
        found = Reference(moment, EARLIEST_TIME, (_TAKEN.format("missing"),))
    return replace(found, said=(*passed, *clocks.said, *found.said))


def _from_series_time(
    path: Path, headers: Sequence[Dataset], clocks: _Clocks, half_life_s: float | None
) -> Reference:
    series, earliest = clocks.series, clocks.earliest
    if series and (earliest is None or series <= earliest + timedelta(seconds=SAME_TIME_S)):
        moment = Moment(series, clocks.dated)
        return Reference(moment, "SeriesTime", _gap(headers, moment, "SeriesTime", clocks, half_life_s))
    if earliest is None:
        return Reference(None, "none")
    why = "after the acquisition" if series else "missing"
    if start := _computed_start(path, headers, clocks.taken, half_life_s):
        said = (f"SeriesTime is {why}, so the scan start was computed back from the frames",)
        return Reference(Moment(start, clocks.dated), COMPUTED_TIME, said)
    return Reference(Moment(earliest, clocks.dated), EARLIEST_TIME, (_TAKEN.format(why),))


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


def _clocks(headers: Sequence[Dataset], moments: Sequence[Moment | None]) -> _Clocks:
    """What the TM elements say. Of two clocks one of which is midnight to the second, that one was wiped."""
    dated, day = day_of(headers[0])
    series = date_time(day, headers[0].get("SeriesTime"))
    taken = [t.when if t and not t.utc else None for t in moments]
    there = [t for t in taken if t]
    if series and there and not is_midnight(series) and all(map(is_midnight, there)):
        said = ("AcquisitionTime is midnight to the second, and passed over",)
        return _Clocks(dated, series, (None,) * len(taken), said)
    if series and there and is_midnight(series) and apart_s(min(there), series) > BACK_COMPUTED_SPREAD_S:
        return _Clocks(dated, None, tuple(taken), ("SeriesTime is midnight to the second, and passed over",))
    own_date = any(date_time(h.get("AcquisitionDate"), "0000") for h in headers)
    if series and there and not own_date and series - min(there) > timedelta(hours=20):
        # The series began shortly before midnight, and all frames after it.
        taken = [t + timedelta(days=1) if t else None for t in taken]
    return _Clocks(dated, series, tuple(taken))


def _moments(headers: Sequence[Dataset]) -> list[Moment | None]:
    """Start of every slice's frame. Clocks of one date that are half a day apart have passed midnight."""
    dated, day = day_of(headers[0])
    found = [_moment(h, dated, day) for h in headers]
    there = [t.when for t in found if t]
    if not there or len({t.date() for t in there}) > 1 or max(there) - min(there) <= ONE_SESSION:
        return found
    return [
        replace(t, when=t.when + timedelta(days=1)) if t and max(there) - t.when > ONE_SESSION else t
        for t in found
    ]


def _moment(header: Dataset, dated: bool, day: str) -> Moment | None:
    clock = header.get("AcquisitionTime")
    if at := date_time(header.get("AcquisitionDate"), clock):
        return Moment(at, dated=True)
    if at := date_time(day, clock):
        return Moment(at, dated)
    return moment_of(header, header.get("AcquisitionDateTime"))


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


def _passed_over(private_time: Reference, clocks: _Clocks) -> tuple[str, ...]:
    """Why a private time is not believed: anonymisers that know nothing of it leave it, shifting the rest."""
    other = clocks.earliest or clocks.series
    moment = private_time.moment
    if other is None or moment is None or moment.utc:
        return ()
    if is_midnight(moment.when) and not is_midnight(other):
        return (f"{private_time.rule} is midnight to the second, and passed over",)
    if clocks.dated and abs(moment.when - other) > ONE_SESSION:
        return (f"{private_time.rule} is of another day than the frames, and passed over",)
    return ()


def _gap(
    headers: Sequence[Dataset],
    moment: Moment | None,
    rule: str,
    clocks: _Clocks,
    half_life_s: float | None,
) -> tuple[str, ...]:
    """What must be said where the first frame is not at the scan start and no frame explains it."""
    earliest = clocks.earliest
    if moment is None or moment.utc:
        return ()
    if earliest is None:
        return (f"{rule} was taken as the scan start; no AcquisitionTime is there to check it",)
    usual_s = half_life_s or USUAL_HALF_LIFE_S
    gap_s = (earliest - moment.when).total_seconds()
    if not clocks.dated:  # by the clock alone
        gap_s = (gap_s + 43200) % 86400 - 43200
    if abs(gap_s) <= usual_s * math.log2(1 + LATE_SHARE):
        return ()
    computed = [_back_computed(h, t, usual_s) for h, t in zip(headers, clocks.taken, strict=True)]
    if any(c and apart_s(c, moment.when) <= BACK_COMPUTED_SPREAD_S for c in computed):
        return ()
    return (
        f"{rule} was taken as the scan start, although the first frame is {abs(gap_s) / 60:.0f} minutes "
        f"{'later' if gap_s > 0 else 'earlier'}: if the scan began at another time, give --scan-start",
    )


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
