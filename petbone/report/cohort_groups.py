"""The groups of a cohort compared, on its page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from petbone.report.cohort_cells import index_word, number_cell, text_cell
from petbone.report.privacy import plain
from petbone.report.tables import Cell, Column, Row, Table, called, is_missing, three


@dataclass(frozen=True)
class GroupSection:
    """The groups of one column of the user's table compared: indices in sight, bones below."""

    key: str
    by: str
    groups: tuple[tuple[str, str], ...]  # number and name
    indices: Table | None
    bones: Table | None
    noted: tuple[str, str]  # what the notes of all tests say, of indices and of bones


def group_sections(table: pd.DataFrame | None) -> list[GroupSection]:
    """The comparisons, with whatever columns they have; what is the same in every row is told once."""
    if table is None or table.empty:
        return []
    of_bone = table["bone"].notna() if "bone" in table else pd.Series(False, table.index)
    by = table["group_by"] if "group_by" in table else pd.Series("", table.index)
    found = []
    for n, (name, rows) in enumerate(table.groupby(by, sort=False), 1):
        rows = rows.drop(columns="group_by", errors="ignore")
        names = [column for column in rows if re.fullmatch(r"group_\d+", str(column))]
        alike = {
            str(column): plain(rows[column].iloc[0])
            for column in names
            if rows[column].notna().all() and rows[column].nunique() == 1
        }
        rest = rows.drop(columns=list(alike))
        parts = [_common_note(rest[part]) for part in (~of_bone[rows.index], of_bone[rows.index])]
        indices, bones = (_of_groups(part, alike) for part, _ in parts)
        told = tuple((column.replace("_", " "), value) for column, value in alike.items())
        noted = (parts[0][1], parts[1][1])
        found.append(GroupSection(f"groups{n}", called(name), told, indices, bones, noted))
    return found


def _common_note(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows without the clauses that the notes of all tests have, and these clauses.

    Clauses are parted by semicolons. Rows without a test keep theirs.
    """
    tested = rows["test"].notna() if "test" in rows else pd.Series(True, rows.index)
    if "note" not in rows or not tested.any() or rows.loc[tested, "note"].isna().any():
        return rows, ""
    notes = rows.loc[tested, "note"].map(lambda note: str(note).split("; "))
    common = [clause for clause in notes.iloc[0] if all(clause in note for note in notes)]
    rest = rows["note"].astype(object)
    rest[tested] = ["; ".join(clause for clause in note if clause not in common) or None for note in notes]
    return rows.assign(note=rest), plain("; ".join(common))


def _of_groups(rows: pd.DataFrame, alike: Mapping[str, str]) -> Table | None:
    """A row per comparison; a figure and its interval stand in one cell."""
    if rows.empty:
        return None
    ends = {column: _interval_of(str(column), rows) for column in rows}
    inner = {end for pair in ends.values() if pair for end in pair}
    names = [column for column in rows if column not in inner and not rows[column].isna().all()]
    listed = []
    for name in names:
        title = re.sub(
            r"^(n|median)_(\d+)$", lambda m: f"{m[1]}: {alike.get('group_' + m[2], m[2])}", str(name)
        )
        numeric = pd.api.types.is_numeric_dtype(rows[name])
        listed.append(
            Column(str(name), called(title.replace("_", " ")), digits="three" if numeric else "text")
        )
    found = []
    for record in rows.to_dict("records"):
        cells = []
        for column in listed:
            value, pair = record[column.name], ends[column.name]
            if column.name in ("p", "p_adjusted", "p_holm", "p_bh") and not is_missing(value):
                cell = Cell(_p_value(float(value)), repr(float(value)), "num")
            elif column.digits == "three":
                cell = number_cell(value)
                if pair and not is_missing(record[pair[0]]):
                    low, high = (three(float(record[end])) for end in pair)
                    cell = replace(cell, more=f"{low} to {high}", css="num interval")
            else:
                cell = text_cell(index_word(value) if column.name == "measure" else value)
            cells.append(cell)
        found.append(Row(tuple(cells)))
    return Table(tuple(listed), tuple(found))


def _interval_of(name: str, rows: pd.DataFrame) -> tuple[str, str] | None:
    """The two columns that hold the interval of a column: shift_low, or median_low_1 of median_1."""
    stem, number = (m[1], m[2]) if (m := re.fullmatch(r"(.+?)(_\d+)", name)) else (name, "")
    low, high = f"{stem}_low{number}", f"{stem}_high{number}"
    return (low, high) if low in rows and high in rows else None


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
