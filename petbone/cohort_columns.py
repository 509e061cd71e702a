"""Columns of what is made from the tables of a cohort: each with its type, its unit and its meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from petbone.typed_table import TypedTable


@dataclass(frozen=True)
class Column:
    """A column: `kind` is text, whole or number, whatever is in it; unit and meaning for the dictionary."""

    name: str
    kind: str
    unit: str
    meaning: str


def write_columns(name: str, columns: Sequence[Column], rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """``name.csv`` and ``name.parquet`` of rows by the names of the columns; numbers have six digits.

    None, NaN and what a row does not name are empty. Raises KeyError for a name that is no column.
    """
    known = {column.name for column in columns}
    with TypedTable(folder, name, [(column.name, column.kind) for column in columns]) as table:
        for row in rows:
            if strange := row.keys() - known:
                raise KeyError(f"{name} has no column {min(strange)}")
            table.add([_text(row.get(column.name), column.kind) for column in columns])


def _text(value: Any, kind: str) -> str:
    if value is None or pd.isna(value):
        return ""
    return str(value) if kind == "text" else f"{value:.6g}" if kind == "number" else str(int(value))


def explained(name: str, columns: Sequence[Column]) -> list[list[str]]:
    """The rows of the dictionary of a table: column, table, unit, meaning."""
    return [[column.name, name, column.unit, column.meaning] for column in columns]
