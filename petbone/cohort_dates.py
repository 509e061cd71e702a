"""Which cases are examinations of one patient, and which two of them are laid beside each other.

* *visit*    : a case of a patient at a date, with its tracers
* *followup* : a later visit against an earlier one in a tracer that both have: against the patient's first in
  that tracer, and against the one before where that is not the first
* *tracers*  : two visits in different tracers that belong together: each is the other's nearest in time, and
  they lie within `TOGETHER_DAYS`

Dates are what the user wrote; they stay in the tables and reach no case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date as Day
from itertools import combinations

from petbone.pipeline import TRACERS

TOGETHER_DAYS = 30
"""Two tracers further apart are no one examination. A convention of petbone: nothing published sets it."""


@dataclass(frozen=True)
class Visit:
    """A case as its row tells it. `tracers`: those that are known; empty where the files tell them."""

    place: str  # row 2
    case: str
    patient: str
    date: str
    tracers: tuple[str, ...] = ()
    apart: bool = False  # its row holds two examinations (ct2)

    @property
    def day(self) -> Day | None:
        """The date; None where there is none or it cannot be read."""
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.date):
            return None
        try:
            return Day.fromisoformat(self.date)
        except ValueError:
            return None


@dataclass(frozen=True)
class Pair:
    """Two cases of one patient. `tracers` that both have; of two tracers (`kind` "tracers") those of both."""

    kind: str  # followup or tracers
    patient: str
    first: Visit
    second: Visit
    tracers: tuple[str, ...]
    against: tuple[str, ...] = ()  # for each tracer: first or previous

    @property
    def days(self) -> int:
        """From the first to the second; of two tracers it can be below 0."""
        assert self.first.day is not None
        assert self.second.day is not None
        return (self.second.day - self.first.day).days


def visit_of(place: str, case: str, cells: Mapping[str, str]) -> Visit:
    """The visit that a row of the table tells of; `cells` by the names of their columns."""
    tracers = [cells.get(f"tracer{n}", "") for n in ("", "2") if cells.get(f"pet{n}")]
    known = all(tracer in TRACERS for tracer in tracers)
    return Visit(
        place,
        case,
        " ".join(cells.get("patient", "").split()),
        " ".join(cells.get("date", "").split()),
        in_order(tracers) if known else (),
        bool(cells.get("ct2")),
    )


def in_order(tracers: Iterable[str]) -> tuple[str, ...]:
    """Tracers as they stand in a pair of them."""
    return tuple(sorted(set(tracers), key=TRACERS.index))


def visit_findings(visits: Sequence[Visit]) -> Iterator[tuple[str, str]]:
    """Where it stands and what is wrong with the columns patient and date, every finding of the table."""
    spelt: dict[str, Visit] = {}
    at: dict[tuple[str, str, str], Visit] = {}
    several = {patient for patient, some in of_patients(visits).items() if len(some) > 1}
    for one in visits:
        if one.date and one.day is None:
            yield one.place, f"date {one.date!r}: expected YYYY-MM-DD, as 2024-05-31"
        if one.date and not one.patient:
            yield one.place, "date without a patient; expected both, or neither"
        if not one.patient:
            continue
        before = spelt.setdefault(_key(one.patient).casefold(), one)
        if _key(before.patient) != _key(one.patient):
            yield (
                one.place,
                f"patient {one.patient!r} differs from {before.patient!r} of {before.place} in capitals "
                "only; expected one spelling of one patient",
            )
        if _key(one.patient) not in several:
            continue
        if not one.date:
            yield one.place, f"no date, and patient {one.patient!r} has several cases; expected YYYY-MM-DD"
        if one.apart:
            yield (
                one.place,
                f"ct2, and patient {one.patient!r} has several cases; expected a row for each examination: "
                "patient and date tell that they belong together",
            )
        for tracer in one.tracers:
            same = at.setdefault((_key(one.patient), one.date, tracer), one)
            if same is not one and one.day is not None:
                yield (
                    one.place,
                    f"patient {one.patient!r} has {tracer} of this date in {same.place} already; expected "
                    "one case of a tracer at a date",
                )


def of_patients(visits: Sequence[Visit]) -> dict[str, list[Visit]]:
    """The visits of each patient, in the order of the table."""
    found: dict[str, list[Visit]] = {}
    for one in visits:
        if one.patient:
            found.setdefault(_key(one.patient), []).append(one)
    return found


def _key(patient: str) -> str:
    return unicodedata.normalize("NFC", " ".join(patient.split()))


def pairs_of(visits: Sequence[Visit]) -> tuple[list[Pair], list[tuple[Visit, Visit, str]]]:
    """What is compared; and the visits that are not, with the visit that hinders it, and why.

    Where a case failed whose tracer no column tells, it may have been the first in any: what is later is
    compared with nothing.
    """
    pairs: list[Pair] = []
    refused: list[tuple[Visit, Visit, str]] = []
    for patient, some in of_patients(visits).items():
        ordered = sorted((one for one in some if one.day is not None), key=lambda one: one.date)
        for earlier, later in combinations(ordered, 2):
            both = [tracer for tracer in earlier.tracers if tracer in later.tracers]
            if both and earlier.date == later.date:
                why = f"the {both[0]} PET of {earlier.case} is of the same patient and date"
                refused.append((later, earlier, f"{why}; expected one case of a tracer at a date"))
        unknown = next((n for n, one in enumerate(ordered) if not one.tracers), len(ordered))
        for later in (one for one in ordered[unknown + 1 :] if one.tracers):
            why = f"{ordered[unknown].case} failed, and no column tells its tracer"
            refused.append((later, ordered[unknown], f"{why}: it may have been the first to compare with"))
        doubtful = {one.case for one, _, _ in refused}
        ordered = [one for one in ordered[:unknown] if one.case not in doubtful]
        pairs += [*_followups(patient, ordered), *_two_tracers(patient, ordered)]
    return pairs, refused


def _followups(patient: str, ordered: list[Visit]) -> Iterator[Pair]:
    found: dict[tuple[str, str], tuple[Visit, Visit, list[tuple[str, str]]]] = {}
    for tracer in TRACERS:
        own = [one for one in ordered if tracer in one.tracers]
        for n, later in enumerate(own[1:], start=1):
            for against, earlier in (("first", own[0]), ("previous", own[n - 1])):
                if against == "first" or n > 1:
                    key = earlier.case, later.case
                    found.setdefault(key, (earlier, later, []))[2].append((tracer, against))
    for earlier, later, judged in found.values():
        yield Pair(
            "followup",
            patient,
            earlier,
            later,
            tuple(tracer for tracer, _ in judged),
            tuple(against for _, against in judged),
        )


def _two_tracers(patient: str, ordered: list[Visit]) -> Iterator[Pair]:
    """The first of a pair is of the tracer that comes first in `TRACERS`, whichever came first in time."""
    sets = sorted({one.tracers for one in ordered if one.tracers}, key=lambda some: TRACERS.index(some[0]))
    for one_kind, other_kind in combinations(sets, 2):
        if set(one_kind) & set(other_kind):
            continue
        ones = [one for one in ordered if one.tracers == one_kind]
        others = [one for one in ordered if one.tracers == other_kind]
        for one in ones:
            two = _nearest(one, others)
            if _nearest(two, ones) is one:
                pair = Pair("tracers", patient, one, two, (*one_kind, *other_kind))
                if abs(pair.days) <= TOGETHER_DAYS:
                    yield pair


def _nearest(one: Visit, others: list[Visit]) -> Visit:
    """The visit nearest in time; of two as near the earlier."""
    return min(others, key=lambda other: (abs(Pair("", "", one, other, ()).days), other.date))
