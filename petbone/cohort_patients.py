"""The patients of a cohort, each with the first examination: one row, ready for analyses of survival.

* *first*  : the first examination of a patient in a tracer, by date
* *suffix* : every column of a tracer ends in its name, whichever tracers there are
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from petbone.cohort_case import Record
from petbone.cohort_columns import Column, explained, write_columns
from petbone.cohort_table import CohortRow, CohortTable
from petbone.indices import BONE_SETS
from petbone.pipeline import TRACERS

NAME = "patients"
WHOLE = "skeleton_62"
"""The region that all hotspots lie in."""
REGIONS = tuple(name for name in BONE_SETS if name != WHOLE)

_PERSON = (
    Column("patient", "text", "", "the patient; the case, where the table of the cohort names none"),
    Column("case", "text", "", "the patient's first examination"),
    Column("date", "text", "", "its date, as in the table of the cohort"),
    Column("examinations", "whole", "", "rows of the patient in the table of the cohort"),
    Column("note", "text", "", "which of the patient's cases failed"),
    Column("sex", "text", "", "as in the table of the cohort, of the first examination; M, F or O"),
    Column("weight_kg", "number", "kg", "as in the table of the cohort, of the first examination"),
    Column("height_cm", "number", "cm", "as in the table of the cohort, of the first examination"),
)
_FIRST = (
    Column("case", "text", "", "the patient's first examination in the tracer"),
    Column("examinations", "whole", "", "how many examinations are in the tracer"),
)
_HOTSPOTS = (
    Column("hotspot_count", "whole", "", "number of hotspots of the listed rule"),
    Column("hotspot_volume_ml", "number", "mL", "volume of the hotspots of the listed rule"),
    Column("hotspot_tlu_g", "number", "g", "total lesion uptake: sum of SUV x volume of these hotspots"),
)
_REGION = (
    Column("seen_fraction", "number", "", "part that was in both images, by the standard skeleton"),
    Column("suv_mean", "number", "g/mL", "mean SUV"),
    Column("suv_max", "number", "g/mL", "highest SUV"),
    *_HOTSPOTS,
    Column("hotspot_fraction", "number", "", "volume of the hotspots / volume of the bones"),
)
_NEXT = (
    Column("next_case", "text", "", "the patient's second examination in the tracer"),
    Column("next_days", "whole", "d", "days from the first to the second examination in the tracer"),
    Column(
        "next_total_tlu_ratio",
        "number",
        "",
        "total_tlu_ratio of followup.csv: the second over the first, at places that both dates saw",
    ),
    Column("next_course", "text", "", "course from the first to the second, as in followup.csv"),
)
_OF_NEXT = {"next_days": "days", "next_total_tlu_ratio": "total_tlu_ratio", "next_course": "course"}
_RESERVED = set(
    "if else repeat while function for next break in TRUE FALSE NULL Inf NaN NA NA_integer_ NA_real_ "
    "NA_complex_ NA_character_".split()
)


@dataclass(frozen=True)
class Patient:
    """One patient: the rows of the cohort's table, first examination first."""

    name: str
    rows: tuple[CohortRow, ...]


def patients_of(rows: Iterable[CohortRow]) -> list[Patient]:
    """The patients in the order of the table.

    A row's patient is its cell in the column ``patient``, or the case where that is empty. Examinations are
    in the order of ``date`` (a table of several examinations of a patient without dates is refused); two of
    one date are in that of the table.
    """
    together: dict[tuple[bool, str], list[CohortRow]] = {}
    for row in rows:
        named = unicodedata.normalize("NFC", dict(row.kept).get("patient", ""))
        together.setdefault((bool(named), named or row.case), []).append(row)
    return [
        Patient(name, tuple(sorted(found, key=lambda row: dict(row.kept).get("date", ""))))
        for (_, name), found in together.items()
    ]


def examinations_in(tracer: str, patient: Patient, tracers: dict[str, set[str]]) -> list[str | None]:
    """The cases of a patient that are examinations in a tracer, first one first.

    `tracers`: of every case that is done, those that were measured. A case that failed is an examination in
    the tracers that its row names, or in any where it names none; it stands as None, so that a later one is
    not taken for the first.
    """
    found: list[str | None] = []
    for row in patient.rows:
        if row.case in tracers:
            found += [row.case] if tracer in tracers[row.case] else []
        else:
            pets = (row.files, row.files.second)
            stated = {said.tracer for one in pets if one is not None for said in one.pet_options}
            found += [None] if tracer in stated or None in stated else []
    return found


def read_columns(part: Path, name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """A table of the cohort in `part` with its types; `columns`: some of them only."""
    frame: pd.DataFrame = pq.read_table(part / f"{name}.parquet", columns=columns).to_pandas()
    return frame


def tracers_of(records: Sequence[Record], part: Path) -> dict[str, set[str]]:
    """The tracers of every case that is done, by the tables in `part`."""
    pairs = read_columns(part, "indices", ["case", "tracer"]).drop_duplicates()
    found: dict[str, set[str]] = {record.case: set() for record in records if record.state != "failed"}
    for case, tracer in zip(pairs["case"], pairs["tracer"], strict=True):
        found[case].add(tracer)
    return found


def in_order(tracers: dict[str, set[str]]) -> list[str]:
    """The tracers that any case has, in petbone's order."""
    there = set().union(*tracers.values())
    return [tracer for tracer in TRACERS if tracer in there]


def write_patients(table: CohortTable, records: Sequence[Record], part: Path) -> list[list[str]]:
    """Write ``patients.csv`` and ``.parquet`` from the tables in `part`; the rows of the dictionary.

    What follow-up tells is taken from ``followup.parquet`` where there is one.
    """
    tracers = tracers_of(records, part)
    patients = patients_of(table.rows)
    names = _Names()
    person = [names.own(column) for column in _PERSON]
    measured: list[Column] = []
    of_case: dict[tuple[str, str], dict[str, Any]] = {}  # cells by case and tracer
    for tracer in in_order(tracers):
        measured += _columns_of(tracer, names, part, of_case)
    yours = {column: names.yours(column) for column in table.kept if column not in ("patient", "date")}
    columns = [*person[:3], *yours.values(), *person[3:], *measured]
    follow = read_columns(part, "followup") if (part / "followup.parquet").exists() else None
    rows = []
    for patient in patients:
        row = _person(patient, tracers)
        first = dict(patient.rows[0].kept)
        row |= {column.name: first[name] or None for name, column in yours.items()}
        for tracer in in_order(tracers):
            cases = examinations_in(tracer, patient, tracers)
            row[f"examinations_{tracer}"] = len(cases)
            if cases and cases[0] is not None:
                row[f"case_{tracer}"] = cases[0]
                row |= of_case[cases[0], tracer]
                if len(cases) > 1 and cases[1] is not None:
                    row |= _next(tracer, cases[0], cases[1], follow)
        rows.append(row)
    write_columns(NAME, columns, rows, part)
    return explained(NAME, columns)


def _person(patient: Patient, tracers: dict[str, set[str]]) -> dict[str, Any]:
    first = patient.rows[0]
    failed = [row.case for row in patient.rows if row.case not in tracers]
    said = first.files.pet_options[0]
    return {
        "patient": patient.name,
        "case": first.case,
        "date": dict(first.kept).get("date") or None,
        "examinations": len(patient.rows),
        "note": f"failed: {', '.join(failed)}" if failed else None,
        "sex": said.sex,
        "weight_kg": said.weight_kg,
        "height_cm": said.height_cm,
    }


def _columns_of(
    tracer: str, names: _Names, part: Path, of_case: dict[tuple[str, str], dict[str, Any]]
) -> list[Column]:
    """The columns of one tracer; the cells of every case that has it are added to `of_case`."""

    def named(column: Column) -> Column:
        said = f"{column.meaning}, {tracer}"
        return names.own(replace(column, name=f"{column.name}_{tracer}", meaning=said))

    def filled(column: Column, rows: pd.DataFrame, source: str) -> Column:
        column = named(column)
        for case, value in zip(rows["case"], rows[source], strict=True):
            of_case.setdefault((case, tracer), {})[column.name] = value
        return column

    # Names of petbone's own are given out first, so that an index of the user's has none of them.
    first, after = [named(column) for column in _FIRST], [named(column) for column in _NEXT]
    regions = read_columns(part, "regions")
    regions = regions[regions["tracer"] == tracer]
    totals, by_region = [], []
    for region in (WHOLE, *REGIONS):
        rows = regions[regions["region"] == region]
        if region == WHOLE:
            totals = [filled(column, rows, column.name) for column in _HOTSPOTS]
            continue
        for column in _REGION:
            told = replace(column, name=f"{region}_{column.name}", meaning=f"{region}: {column.meaning}")
            by_region.append(filled(told, rows, column.name))
    indices = read_columns(part, "indices")
    indices = indices[indices["tracer"] == tracer]
    of_indices = []
    for index, rows in indices.groupby("index", sort=False):
        unit = next((text for text in rows["unit"] if isinstance(text, str)), "")
        for suffix, source, in_unit, meaning in (
            ("", "value", unit, "index {}"),
            ("_unflagged", "value_unflagged", unit, "index {} without the flagged hotspots"),
            ("_seen_fraction", "denominator_seen_fraction", "", "part of the bones of {} that was seen"),
        ):
            column = Column(f"{legal(str(index))}{suffix}", "number", in_unit, meaning.format(index))
            of_indices.append(filled(column, rows, source))
    return [*first, *totals, *of_indices, *by_region, *after]


def _next(tracer: str, first: str, second: str, follow: pd.DataFrame | None) -> dict[str, Any]:
    """What followup.csv says of the first and the second examination."""
    cells: dict[str, Any] = {f"next_case_{tracer}": second}
    if follow is None:
        return cells
    pair = (follow["tracer"] == tracer) & (follow["case_1"] == first) & (follow["case_2"] == second)
    for name, source in _OF_NEXT.items():
        for value in follow.loc[pair, source].head(1):
            cells[f"{name}_{tracer}"] = None if pd.isna(value) else value
    return cells


def legal(text: str) -> str:
    """A name that R and pandas take as it is: ASCII letters, digits and _, beginning with a letter.

    >>> legal("arm"), legal("PSA (ng/ml)"), legal("Größe"), legal("2nd"), legal("if")
    ('arm', 'PSA_ng_ml', 'Gro_e', 'X2nd', 'if_')
    """
    name = text
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text):
        parts = unicodedata.normalize("NFKD", text)
        bare = "".join(sign for sign in parts if not unicodedata.combining(sign))
        name = re.sub(r"[^A-Za-z0-9]+", "_", bare).strip("_") or "column"
        name = name if name[0].isalpha() else f"X{name}"
    return f"{name}_" if name in _RESERVED else name


class _Names:
    """Names of columns, each once: one that is there already gets _2, _3, ..."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def own(self, column: Column) -> Column:
        """A column of petbone's."""
        return Column(self._free(column.name), column.kind, column.unit, column.meaning)

    def yours(self, name: str) -> Column:
        """One of the user's columns."""
        said = f"{name}: as in the table of the cohort, of the first examination"
        return Column(self._free(legal(name)), "text", "", said)

    def _free(self, name: str) -> str:
        n, free = 1, name
        while free in self._taken:
            n += 1
            free = f"{name}_{n}"
        self._taken.add(free)
        return free
