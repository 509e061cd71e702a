"""A table of a cohort, written row by row as CSV and as Parquet: the same cells, texts and numbers apart."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from petbone.folders import harmless

_ROWS_AT_ONCE = 20_000  # of a Parquet file: what is held in memory
_TYPES = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64()}


class TypedTable:
    """A table in `folder` under `name`; `columns` are names, and whether each is text, whole or number.

    Cells are texts, as they stand in the CSV file; an empty one is none.
    """

    def __init__(self, folder: Path, name: str, columns: Sequence[tuple[str, str]]) -> None:
        self._kinds = [kind for _, kind in columns]
        self._schema = pa.schema([(column, _TYPES[kind]) for column, kind in columns])
        self._rows: list[Sequence[str]] = []
        with ExitStack() as files:
            file = files.enter_context((folder / f"{name}.csv").open("w", encoding="utf-8", newline=""))
            self._csv = csv.writer(file, lineterminator="\n")
            self._csv.writerow([column for column, _ in columns])
            self._parquet = files.enter_context(pq.ParquetWriter(folder / f"{name}.parquet", self._schema))
            self._files = files.pop_all()

    def add(self, cells: Sequence[str]) -> None:
        """One row, in the order of the columns."""
        pairs = zip(cells, self._kinds, strict=True)
        self._csv.writerow([harmless(cell) if kind == "text" else cell for cell, kind in pairs])
        self._rows.append(cells)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._kinds)
        arrays = [
            pa.array([_value(cell, kind) for cell in column], field.type)
            for column, kind, field in zip(columns, self._kinds, self._schema, strict=True)
        ]
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []

    def __enter__(self) -> TypedTable:
        return self

    def __exit__(self, *_: object) -> None:
        with self._files:  # closed whatever the last rows meet
            self._flush()


def _value(cell: str, kind: str) -> Any:
    if cell == "":
        return None
    return cell if kind == "text" else float(cell) if kind == "number" else int(float(cell))
