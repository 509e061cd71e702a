"""What became of the patients of a cohort who were examined again."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from petbone.report.case import TRACER_NAMES
from petbone.report.cohort_cells import case_cell, number_cell, text_cell, verdict_cell
from petbone.report.cohort_words import COURSES, compared
from petbone.report.privacy import plain
from petbone.report.tables import Cell, Column, Row, Table, called, is_missing, three
from petbone.report.waterfall import Fall, Waterfall, drawn


@dataclass(frozen=True)
class FollowSection:
    """The follow-up in one tracer."""

    key: str
    name: str
    figure: Waterfall | None
    counts: tuple[tuple[str, int], ...]
    undrawn: int
    table: Table


def follow_sections(
    followup: pd.DataFrame | None, verdicts: Mapping[str, tuple[str, str]]
) -> list[FollowSection]:
    """The follow-up of every tracer; `verdicts` are those of the scans, by case."""
    if followup is None or followup.empty:
        return []
    found = []
    for n, (tracer, rows) in enumerate(followup.groupby("tracer", sort=False), 1):
        last = _last_against_first(rows)
        falls, undrawn = _falls(last)
        course = last["course"].fillna("not judged")
        found.append(
            FollowSection(
                f"follow{n}",
                TRACER_NAMES.get(str(tracer), plain(tracer)),
                drawn(falls, _limits_of(rows)),
                tuple((word, int((course == word).sum())) for word in COURSES),
                undrawn,
                _follow_table(rows, verdicts),
            )
        )
    return found


def _limits_of(rows: pd.DataFrame) -> tuple[float, float] | None:
    """The limits of repeatability that the total uptake was judged by, where they are the same for all."""
    told = set(rows["total_limits"].dropna()) if "total_limits" in rows else set()
    found = [re.fullmatch(r"([\d.]+) ?(?:-|–|to) ?([\d.]+)", str(text)) for text in told]
    if len(found) != 1 or found[0] is None:
        return None
    return float(found[0][1]), float(found[0][2])


def _last_against_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each patient the last examination, compared with the first."""
    first = rows[rows["against"] == "first"]
    return first.sort_values("days", kind="stable").groupby("patient", sort=False).tail(1)


_COURSE_CSS = {"progressed": "grown", "regressed": "shrunk", "unchanged": "stable", "mixed": "mixed"}


def _falls(rows: pd.DataFrame) -> tuple[list[Fall], int]:
    """A bar per patient, the greatest rise first; and how many have no uptake at either date."""
    falls, undrawn = [], 0
    for row in rows.to_dict("records"):
        name, before, after = called(row["patient"]), row["total_tlu_g_1"], row["total_tlu_g_2"]
        course = "not judged" if is_missing(row["course"]) else str(row["course"])
        css = _COURSE_CSS.get(course, "unjudged")
        if is_missing(before) or is_missing(after) or not max(before, after) > 0:
            undrawn += 1
            continue
        words = f"{name}: {three(before)} g, then {three(after)} g, {course}"
        if before > 0 and after > 0:
            ratio = after / before
            falls.append(Fall(css, name, words, f"{ratio:.2f}", ratio))
        else:
            falls.append(
                Fall(css, name, words, "none before" if after > 0 else "none now", rises=bool(after > 0))
            )
    height = {True: math.inf, False: -math.inf}
    falls.sort(key=lambda fall: -(height[fall.rises] if fall.ratio is None else fall.ratio))
    return falls, undrawn


def _follow_table(rows: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]]) -> Table:
    columns = (
        Column("patient", "patient", digits="text", meaning="the patient"),
        Column("course", "course", digits="text", meaning="what became of the patient"),
        Column("why", "why", digits="text", meaning="by which rule"),
        Column("case_1", "from", digits="text", meaning="the case that it is compared with"),
        Column("case_2", "to", digits="text", meaning="the case that is compared"),
        Column("days", "days", digits="whole", meaning="between the two"),
        Column("total_tlu_g_1", "uptake", "g", meaning="total uptake of all hotspots, before"),
        Column("total_tlu_g_2", "then", "g", meaning="total uptake, after"),
        Column("total_tlu_ratio", "ratio", meaning="after / before"),
        Column("total_verdict", "verdict", digits="text", meaning="by the limits of repeatability"),
        Column("new", "new", digits="whole", meaning="new hotspots"),
        Column("gone", "gone", digits="whole", meaning="hotspots that are gone"),
        Column(
            "scans",
            "scans",
            digits="text",
            meaning="the worse verdict of the two scans; failed: one has no numbers",
        ),
    )
    order = {word: n for n, word in enumerate(COURSES)}
    found = []
    for row in rows.to_dict("records"):
        course = "not judged" if is_missing(row["course"]) else str(row["course"])
        first, second = (str(row[name]) in verdicts for name in ("case_1", "case_2"))
        pair = [verdicts.get(str(row[name]), ("failed",))[0] for name in ("case_1", "case_2")]
        worst = next((word for word in ("failed", "bad", "warn", "ok") if word in pair), "")
        href = "" if is_missing(row.get("rule")) and not second else compared(row)
        css = f"course-{_COURSE_CSS.get(course, 'unjudged')}"
        cells = (
            Cell(called(row["patient"]), called(row["patient"]), "text case"),
            Cell(course, str(order.get(course, len(order))), "text", href=href),
            text_cell(row.get("why")),
            case_cell(row["case_1"], done=first),
            case_cell(row["case_2"], done=second),
            number_cell(row["days"], "whole"),
            number_cell(row["total_tlu_g_1"]),
            number_cell(row["total_tlu_g_2"]),
            number_cell(row.get("total_tlu_ratio"), 2),
            text_cell(row.get("total_verdict")),
            number_cell(row.get("new"), "whole"),
            number_cell(row.get("gone"), "whole"),
            verdict_cell(worst),
        )
        found.append((order.get(course, len(order)), Row(cells, css)))
    found.sort(key=lambda pair: pair[0])
    return Table(columns, tuple(row for _, row in found))
