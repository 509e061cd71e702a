"""What the page of a cohort says in words: who progressed, which scans not to trust, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from petbone.report.case import TRACER_NAMES
from petbone.report.privacy import plain
from petbone.report.tables import called, is_missing

VERDICT_WORDS = {"ok": "trust", "warn": "look", "bad": "do not trust"}
COURSES = ("progressed", "mixed", "unchanged", "regressed", "not judged")


@dataclass(frozen=True)
class Named:
    """A case or a patient with its reason; `doubt` is what speaks against it."""

    name: str
    href: str
    why: str
    doubt: str = ""


@dataclass(frozen=True)
class Headline:
    """The top of the page. `followed`: patients with two examinations, None where there is no follow-up.

    `mixed`: patients with a mixed comparison who progressed in none; `unjudged`: how many had no course.
    """

    sentences: tuple[str, ...]
    followed: int | None
    progressed: tuple[Named, ...]
    mixed: tuple[Named, ...]
    unjudged: int
    untrusted: tuple[Named, ...]
    to_look_at: tuple[Named, ...]


def link(case: object) -> str:
    """Where the page of a case lies, seen from that of the cohort."""
    return f"cases/{quote(str(case), safe='')}/report.html"


def compared(row: Mapping[Any, Any]) -> str:
    """Where the page of two dates lies; that of the later case where they could not be compared."""
    if is_missing(row.get("rule")):
        return link(row["case_2"])
    pair = "/".join(quote(str(row[name]), safe="") for name in ("case_1", "case_2"))
    return f"followup/{pair}/compare.html"


def headline(
    cases: int,
    failed: int,
    verdicts: Mapping[str, tuple[str, str]],
    followup: pd.DataFrame | None,
    patients: int = 0,
) -> Headline:
    """The words; `verdicts` are, by case, the verdict and its reasons, `patients` those of cases done (0: not
    known)."""
    count = {word: sum(verdict == word for verdict, _ in verdicts.values()) for word in VERDICT_WORDS}
    followed = None if followup is None else int(followup["patient"].nunique())
    progressed: tuple[Named, ...] = ()
    mixed: tuple[Named, ...] = ()
    unjudged = 0
    if followup is not None:
        courses = followup["course"].fillna("not judged")
        rose = followup["patient"].isin(followup.loc[courses == "progressed", "patient"])
        progressed = tuple(_named("progressed", followup, verdicts))
        mixed = tuple(_named("mixed", followup[~rose], verdicts))
        unjudged = int((courses == "not judged").groupby(followup["patient"]).all().sum())
    named = {
        word: tuple(Named(called(c), link(c), plain(why)) for c, (v, why) in verdicts.items() if v == word)
        for word in ("warn", "bad")
    }
    of_patients = f" ({_counted(patients, 'patient')})" if patients else ""
    sentences = [f"{_counted(cases, 'case')}: {len(verdicts)} done{of_patients}, {failed} failed."]
    if verdicts:
        sentences.append(
            f"By the checks of quality {count['ok']} of those done are to be trusted, {count['warn']} to be "
            f"looked at, and {count['bad']} not to be trusted."
        )
    if followed:
        sentences.append(
            f"Of {_counted(followed, 'patient')} examined again {len(progressed)} progressed in a comparison "
            "of two of their examinations"
            + (f", {len(mixed)} had a mixed one" if mixed else "")
            + (f", {unjudged} could not be judged" if unjudged else "")
            + "."
        )
    return Headline(tuple(sentences), followed, progressed, mixed, unjudged, named["bad"], named["warn"])


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _named(course: str, followup: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]]) -> list[Named]:
    """Patients with a comparison of this course, once each; in each tracer the latest of these."""
    rows = followup[followup["course"] == course].sort_values("days", kind="stable")
    latest = rows.groupby(["patient", "tracer"], sort=False).tail(1)
    of_last = _course_of_last(followup)
    found = []
    for patient in rows["patient"].loc[rows.index.sort_values()].unique():
        own = latest[latest["patient"] == patient].sort_index().to_dict("records")
        said = "; ".join(_said(row, of_last.get((patient, row["tracer"]), course)) for row in own)
        cases = dict.fromkeys(row[name] for row in own for name in ("case_1", "case_2"))
        bad = [case for case in cases if verdicts.get(case, ("",))[0] == "bad"]
        doubt = f"{' and '.join(map(called, bad))}: not to be trusted" if bad else ""
        found.append(Named(called(patient), compared(own[-1]), said, doubt))
    return found


def _course_of_last(followup: pd.DataFrame) -> dict[tuple[str, str], str]:
    """By patient and tracer, what became from the first examination to the last."""
    rows = followup[followup["against"] == "first"].sort_values("days", kind="stable")
    last = rows.groupby(["patient", "tracer"], sort=False).tail(1)
    courses = last["course"].fillna("not judged")
    return dict(zip(zip(last["patient"], last["tracer"], strict=True), courses, strict=True))


def _said(row: Mapping[Any, Any], of_last: str) -> str:
    tracer = TRACER_NAMES.get(str(row["tracer"]), plain(row["tracer"]))
    why = "" if is_missing(row.get("why")) else f": {plain(row['why'])}"
    later = f"; from the first examination to the last: {of_last}" if of_last != row["course"] else ""
    return f"{tracer}, {_days(row)}{why}{later}"


def _days(row: Mapping[Any, Any]) -> str:
    against = "the first" if row.get("against") == "first" else "the one before"
    days = row["days"]
    return f"against {against}" if is_missing(days) else f"{days:.0f} days after {against}"


def flow(cases: int, failed: int, verdicts: Sequence[str]) -> tuple[tuple[str, int, str], ...]:
    """CSS class, number and words of each box of the flow of cases."""
    count = {word: list(verdicts).count(word) for word in VERDICT_WORDS}
    return (
        ("in", cases, "in the table"),
        ("done", len(verdicts), "done"),
        ("failed", failed, "failed"),
        ("ok", count["ok"], "to be trusted"),
        ("warn", count["warn"], "warned: look at them"),
        ("bad", count["bad"], "warned: not to be trusted"),
    )
