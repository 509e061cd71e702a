"""The groups of a cohort compared by every index, and by the hotspots and the uptake of every bone.

A patient counts once in a tracer, by the first examination in it, and belongs to the group that the row of
the patient's first examination says.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petbone.anatomy import BONES
from petbone.cohort_case import Record
from petbone.cohort_columns import Column, explained, write_columns
from petbone.cohort_patients import (
    Patient,
    examinations_in,
    in_order,
    patients_of,
    read_columns,
    tracers_of,
)
from petbone.cohort_table import CohortRow, CohortTable
from petbone.errors import InputErrors
from petbone.group_comparison import F64, FEWEST, adjusted, compare_more, compare_two, is_constant, middle

NAME = "comparisons"
FILES = (f"{NAME}.csv", f"{NAME}.parquet")
MOST_GROUPS = 10
"""A column of more values is no column of groups."""
BONE_MEASURES = {"hotspot_volume_ml": "mL", "hotspot_fraction": "", "suv_mean": "g/mL"}
_NO_GROUPS = {"case": "which case it is", "patient": "who it is", "date": "when it was"}

_WHAT = (
    Column("group_by", "text", "", "column of the table of the cohort that says the group"),
    Column("tracer", "text", "", "naf, choline, psma, fdg or other"),
    Column("measure", "text", "", f"name of the index; or {', '.join(BONE_MEASURES)} of a bone"),
    Column("bone", "text", "", "the bone; empty for an index"),
    Column("unit", "text", "", "of medians and shift"),
)
_TEST = (
    Column("test", "text", "", "Mann-Whitney (two groups) or Kruskal-Wallis (more); empty if not tested"),
    Column("statistic", "number", "", "Mann-Whitney: U of the first group tested; Kruskal-Wallis: H"),
    Column("p", "number", "", "two-sided, of this row alone"),
    Column("p_holm", "number", "", "p adjusted by Holm, of all bones tested of this measure and tracer"),
    Column("p_bh", "number", "", "p adjusted by Benjamini and Hochberg, of the same bones"),
    Column("effect_name", "text", "", "rank_biserial (two groups) or epsilon_squared (more)"),
    Column("effect", "number", "", "rank_biserial: -1 to 1, above 0 where the first is greater; "
           "epsilon_squared: 0 to 1"),
    Column("shift", "number", "in column unit", "two groups: Hodges-Lehmann, the median of all differences, "
           "first less second"),
    Column("shift_low", "number", "in column unit", "95 % interval of shift"),
    Column("shift_high", "number", "in column unit", "95 % interval of shift"),
    Column("no_value", "whole", "", "patients of the groups without a value, who are left out"),
    Column("cut", "whole", "", "patients of whom a part of the bone was seen; the value is of that part"),
    Column("note", "text", "", "what was compared and how, and why not"),
)  # fmt: skip


def compared_by(table: CohortTable, by: Sequence[str]) -> CohortTable:
    """The table with the columns that patients are to be compared by, and what is to be told of them.

    Raises InputErrors with a line for each that cannot be one of groups.
    """
    by = tuple(dict.fromkeys(by))
    patients = patients_of(table.rows)
    findings = []
    notes: list[str] = []
    for column in by:
        if (why := _no_groups(column, table.kept, patients)) is not None:
            findings.append(f"--by {column}: {why}")
        else:
            notes += (f"--by {column}: {said}" for said in _remarks(column, patients))
    if findings:
        raise InputErrors("\n".join(findings))
    return replace(table, notes=(*table.notes, *notes), by=by)


def _no_groups(column: str, kept: tuple[str, ...], patients: Sequence[Patient]) -> str | None:
    """Why patients cannot be compared by a column; None where they can."""
    if column in _NO_GROUPS:
        return f"the column says {_NO_GROUPS[column]}; expected a column of groups, as arm"
    if column not in kept and column != "sex":
        own = [name for name in kept if name not in _NO_GROUPS]
        return f"expected sex or a column of your own in the table: {', '.join(own) or 'there is none'}"
    groups = _groups(column, patients)
    if not groups:
        return "the column is empty for all patients; expected two groups at least"
    if len(groups) == 1:
        return f"all patients are {next(iter(groups))!r}; expected two groups at least"
    if len(groups) > MOST_GROUPS:
        return (
            f"the column has {len(groups)} values; expected {MOST_GROUPS} groups at most: make groups of them"
        )
    return None


def _remarks(column: str, patients: Sequence[Patient]) -> Iterator[str]:
    groups = _groups(column, patients)
    if lacking := len(patients) - sum(map(len, groups.values())):
        yield f"empty for {lacking} of {len(patients)} patients, who are left out"
    if changing := sum(len({_cell(column, row) for row in one.rows}) > 1 for one in patients):
        yield f"{changing} patients change their group; that of the first examination counts"
    for alike, n in Counter(name.casefold() for name in groups).items():
        if n > 1:
            yield f"{n} groups differ by capital letters only ({alike}); they stay apart"
    for name, members in groups.items():
        if len(members) < FEWEST:
            yield f"{name!r} has too few patients for a test: {len(members)} (expected {FEWEST})"


def _cell(column: str, row: CohortRow) -> str:
    said = row.files.pet_options[0].sex or "" if column == "sex" else dict(row.kept)[column]
    return unicodedata.normalize("NFC", said)


def _groups(column: str, patients: Sequence[Patient]) -> dict[str, list[Patient]]:
    """The patients of every group; numbers in their order, else as in a dictionary."""
    groups: dict[str, list[Patient]] = {}
    for patient in patients:
        if name := _cell(column, patient.rows[0]):
            groups.setdefault(name, []).append(patient)
    numbers = all(re.fullmatch(r"[+-]?\d+(\.\d+)?", name) for name in groups)
    names = sorted(groups, key=lambda name: (float(name) if numbers else 0.0, name))
    return {name: groups[name] for name in names}


def write_comparisons(table: CohortTable, records: Sequence[Record], part: Path) -> list[list[str]]:
    """Write ``comparisons.csv`` and ``.parquet`` from the tables in `part`; the rows of the dictionary.

    Nothing where the table has no column to compare by.
    """
    if not table.by:
        return []
    tracers = tracers_of(records, part)
    patients = patients_of(table.rows)
    groups_by = {column: _groups(column, patients) for column in table.by}
    columns = [*_WHAT, *_columns_of_groups(max(map(len, groups_by.values()))), *_TEST]
    indices = read_columns(part, "indices", ["case", "tracer", "index", "unit", "value"])
    bones = read_columns(part, "bones", ["case", "tracer", "name", "status", *BONE_MEASURES])
    rows: list[dict[str, Any]] = []
    for column, groups in groups_by.items():
        for tracer in in_order(tracers):
            firsts = {
                name: [(examinations_in(tracer, one, tracers) or [None])[0] for one in members]
                for name, members in groups.items()
            }
            what = {"group_by": column, "tracer": tracer}
            rows += _of_indices(what, firsts, indices[indices["tracer"] == tracer])
            rows += _of_bones(what, firsts, bones[bones["tracer"] == tracer])
    write_columns(NAME, columns, rows, part)
    return explained(NAME, columns)


def _columns_of_groups(most: int) -> list[Column]:
    """Name, patients and median of each group, of as many as the column with most groups has."""
    return [
        Column(f"{name}_{n}", kind, unit, f"group {n}: {meaning}")
        for n in range(1, most + 1)
        for name, kind, unit, meaning in (
            ("group", "text", "", "its name"),
            ("n", "whole", "", "patients with a value"),
            ("median", "number", "in column unit", "median of their values"),
            ("median_low", "number", "in column unit", "95 % interval of the median (bootstrap)"),
            ("median_high", "number", "in column unit", "95 % interval of the median (bootstrap)"),
        )
    ]


Firsts = dict[str, list[str | None]]
"""Of every group the first examination of each patient; None where the patient has none in the tracer."""


def _of_indices(what: dict[str, Any], firsts: Firsts, indices: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for name, found in indices.groupby("index", sort=False):
        unit = next((text for text in found["unit"] if isinstance(text, str)), None)
        row = _compared(firsts, found.set_index("case")["value"])
        if row.tested:
            row.note.append("p not adjusted")
        yield what | {"measure": name, "unit": unit} | row.cells()


def _of_bones(what: dict[str, Any], firsts: Firsts, bones: pd.DataFrame) -> Iterator[dict[str, Any]]:
    cut = bones[bones["status"] == "cut"].groupby("name")["case"].agg(set).to_dict()
    for measure, unit in BONE_MEASURES.items():
        values = bones.pivot(index="case", columns="name", values=measure)
        rows = []
        for bone in BONES:
            row = _compared(firsts, values[bone.name], cut.get(bone.name, set()))
            rows.append((bone.name, row))
        p = [row.tested.get("p", np.nan) for _, row in rows]
        m = int(np.isfinite(p).sum())
        for (bone_name, row), holm, hochberg in zip(rows, *adjusted(p), strict=True):
            if row.tested:
                row.tested.update(p_holm=holm, p_bh=hochberg)
                row.note.append(f"p adjusted for {m} bone{'s' if m > 1 else ''}")
            yield what | {"measure": measure, "unit": unit, "bone": bone_name} | row.cells()


@dataclass(frozen=True)
class _Row:
    """One comparison: what is told of each group, of the test where there is one, and in words."""

    groups: dict[str, Any]
    tested: dict[str, Any]
    counts: dict[str, Any]
    note: list[str]

    def cells(self) -> dict[str, Any]:
        return self.groups | self.tested | self.counts | {"note": "; ".join(self.note)}


def _compared(firsts: Firsts, values: pd.Series, cut: set[str] | None = None) -> _Row:
    """The groups compared by the values of their patients' cases. `cut`: cases whose bone is cut; None: no
    bone."""
    told: dict[str, Any] = {}
    given: dict[str, F64] = {}
    counted: list[str] = []
    for n, (name, cases) in enumerate(firsts.items(), start=1):
        found = values.reindex([case for case in cases if case is not None]).dropna()
        counted += found.index.tolist()
        given[name] = found.to_numpy(np.float64)
        median, (low, high) = middle(given[name])
        told |= {f"group_{n}": name, f"n_{n}": len(found)}
        told |= {f"median_{n}": median, f"median_low_{n}": low, f"median_high_{n}": high}
    lacking = sum(map(len, firsts.values())) - len(counted)
    counts: dict[str, Any] = {"no_value": lacking}
    note = ["first examination of each patient"]
    if cut is not None:
        counts["cut"] = len(cut.intersection(counted))
    tested, said = _tested(given)
    return _Row(told, tested, counts, [*note, *said])


def _tested(given: dict[str, F64]) -> tuple[dict[str, Any], list[str]]:
    """The test of the groups that are large enough, and what is to be said of it."""
    large = {name: values for name, values in given.items() if len(values) >= FEWEST}
    small = [f"{name} ({len(values)})" for name, values in given.items() if name not in large]
    said = [f"left out of the test, fewer than {FEWEST} values: {', '.join(small)}"] if small else []
    if len(large) < 2:
        return {}, [f"not tested: fewer than two groups of {FEWEST} values"]
    if is_constant(list(large.values())):
        return {}, ["not tested: all values are the same", *said]
    if len(large) > 2:
        more = compare_more(list(large.values()))
        cells = {"test": "Kruskal-Wallis", "statistic": more.h, "p": more.p}
        cells |= {"effect_name": "epsilon_squared", "effect": more.effect}
        return cells, [", ".join(large), "p by chi squared, ties corrected", *said]
    (first, one), (second, two) = large.items()
    found = compare_two(one, two)
    how = "exact p" if found.exact else "p by the normal distribution, ties corrected"
    cells = {"test": "Mann-Whitney", "statistic": found.u, "p": found.p}
    cells |= {"effect_name": "rank_biserial", "effect": found.effect, "shift": found.shift}
    cells |= {"shift_low": found.shift_interval[0], "shift_high": found.shift_interval[1]}
    return cells, [f"{first} against {second} (above 0: {first} is greater)", how, *said]
