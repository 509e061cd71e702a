"""The tables of a cohort, made from the folders of its cases: whole, or the earlier ones stay."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import petbone
from petbone.burden import BONE_COLUMNS, DEFINITIONS, HOTSPOT_COLUMNS
from petbone.cohort_case import DONE, Record
from petbone.cohort_table import CohortRow, CohortTable
from petbone.errors import ResourceError
from petbone.folders import MARK, harmless, write_json
from petbone.indices import COLUMNS as INDEX_COLUMNS
from petbone.pipeline import versions

TABLES = {"bones": BONE_COLUMNS, "hotspots": HOTSPOT_COLUMNS, "indices": INDEX_COLUMNS}
_TEXT = {
    *("name", "side", "group", "status", "cut_by", "bone", "other_bones", "flags"),
    *("index", "unit", "operator", "bones", "reference", "note"),
}
_WHOLE = {"id", "hotspot", "hotspot_count", "connectivity", "flagged_hotspots"}
_ROWS_AT_ONCE = 20_000  # of a Parquet file: what is held in memory

_MEANINGS = {
    "case": "the case's name in the table of the cohort, and that of its folder",
    "tracer": "naf, choline, psma, fdg or other",
    "id": "petbone's label of the bone",
    "name": "the bone",
    "side": "left, right or middle",
    "group": "part of the skeleton",
    "hotspot": "its number in hotspots.nii.gz of the case, 1 = highest SUVmax",
    "bone": "the bone with the largest share of the hotspot's occupancy",
    "y_mm": "see x_mm",
    "z_mm": "see x_mm",
    "index": "name of the index",
    "value": "value of the index, in the unit of its row",
    "unit": "unit of value",
    "numerator_ml": "volume of the hotspots that count",
    "denominator_ml": "occupancy-weighted volume of the bones that are searched",
    "denominator_seen_fraction": "part of these bones that was in both images, by the standard skeleton",
    "threshold": "SUV from which a voxel counts",
    "operator": ">= or >",
    "connectivity": "neighbours of a voxel: 6, 18 or 26",
    "min_volume_ml": "smaller hotspots are left out",
    "bones": "the bones that are searched",
    "reference": "where the index was published",
    "note": "what is to be known of it",
    "whole_estimate": "estimate for the whole of the bones where a part was seen; no measurement",
    "whole_low": "the least of the suppositions behind whole_estimate",
    "whole_high": "the greatest of them",
    "value_unflagged": "value without the flagged hotspots",
    "flagged_hotspots": "how many hotspots have a flag",
    "flagged_ml": "their volume",
    "step": "what was going on when the case failed",
    "error": "why",
}


def write_cohort(
    table: CohortTable, records: Sequence[Record], told: dict[str, Any], output: Path
) -> list[Record]:
    """Write the tables of all cases that are done, ``failures.csv``, the dictionary and the provenance.

    Every file takes the place of its predecessor at once, when all are written. Returns the records, with
    cases whose folder is not what the record says as failed. Raises ResourceError when it cannot write.
    """
    rows = {row.case: row for row in table.rows}
    try:
        with tempfile.TemporaryDirectory(prefix=".tables-", suffix=".part", dir=output) as text:
            part = Path(text)
            checked = _write_tables(rows, table.kept, records, part, output)
            failed = [[one.case, one.step, one.error] for one in checked if one.state == "failed"]
            _write_csv(part / "failures.csv", ["case", "step", "error"], failed)
            _write_csv(
                part / "cohort_dictionary.csv", ["column", "table", "unit", "meaning"], dictionary(table.kept)
            )
            write_json(_provenance(table, checked, told), part / MARK)
            for path in sorted(part.iterdir()):
                path.replace(output / path.name)
    except OSError as error:
        free_mb = shutil.disk_usage(output).free / 1e6
        raise ResourceError(
            f"{output}: the tables cannot be written: {_reason(error)} ({free_mb:.0f} MB free); the cases "
            "are done: run again"
        ) from error
    return checked


def _reason(error: OSError) -> str:
    """In the system's words: pyarrow has more of its own."""
    return os.strerror(error.errno) if error.errno else str(error)


def _write_tables(
    rows: dict[str, CohortRow], kept: tuple[str, ...], records: Sequence[Record], part: Path, output: Path
) -> list[Record]:
    checked = []
    with ExitStack() as open_tables:
        tables = {
            name: open_tables.enter_context(_Table(part, name, columns, kept))
            for name, columns in TABLES.items()
        }
        for record in records:
            if record.state == "failed":
                checked.append(_failed(record, output))
                continue
            try:
                found = list(_read_case(output / "cases" / record.case, record))
            except (OSError, ValueError, KeyError, TypeError) as error:
                why = f"its folder was changed while the cohort ran ({type(error).__name__}); run again"
                checked.append(replace(record, state="failed", step="tables", error=why))
                continue
            checked.append(record)
            own = [cell for _, cell in rows[record.case].kept]
            for name, tracer, lines in found:
                for line in lines:
                    cells = [line.get(column) or "" for column in TABLES[name]]
                    tables[name].add([record.case, tracer, *cells, *own])
    return checked


def _failed(record: Record, output: Path) -> Record:
    """A failed case; says whether its folder holds results of an earlier table or earlier options."""
    if not (output / "cases" / record.case / DONE).exists():
        return record
    return replace(record, error=f"{record.error} (cases/{record.case} is of an earlier run and in no table)")


def _read_case(folder: Path, record: Record) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Name, tracer and rows of each table of a case. Raises ValueError for files other than were written."""
    told = json.loads((folder / DONE).read_text(encoding="utf-8"))["files"]
    if told[MARK] != record.provenance_sha256:
        raise ValueError("results of another run")
    summary = json.loads(_read_as_written(folder, "summary.json", told))
    tracers = [str(pet["tracer"]) for pet in summary["pets"]]
    for tracer in tracers:
        suffix = f"_{tracer}" if len(tracers) > 1 else ""
        for name, columns in TABLES.items():
            text = _read_as_written(folder, f"{name}{suffix}.csv", told).decode("utf-8")
            reader = csv.DictReader(io.StringIO(text, newline=""))
            lines = list(reader)
            if set(reader.fieldnames or ()) != set(columns):
                raise ValueError("other columns")
            yield name, tracer, lines


def _read_as_written(folder: Path, name: str, told: dict[str, str]) -> bytes:
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != told[name]:
        raise ValueError("altered")
    return content


class _Table:
    """A table that is written as CSV and Parquet, row by row. Cells are texts; empty is none."""

    def __init__(self, folder: Path, name: str, columns: Sequence[str], kept: tuple[str, ...]) -> None:
        names = ["case", "tracer", *columns, *kept]
        own = [*(["text"] * 2), *(_kind(column) for column in columns), *(["text"] * len(kept))]
        types = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64()}
        self._kinds = own
        self._schema = pa.schema([(n, types[kind]) for n, kind in zip(names, own, strict=True)])
        self._rows: list[list[str]] = []
        with ExitStack() as files:
            file = files.enter_context((folder / f"{name}.csv").open("w", encoding="utf-8", newline=""))
            self._csv = csv.writer(file, lineterminator="\n")
            self._csv.writerow(names)
            writer = pq.ParquetWriter(folder / f"{name}.parquet", self._schema)
            self._parquet = files.enter_context(writer)
            self._files = files.pop_all()

    def add(self, cells: list[str]) -> None:
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

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        with self._files:  # closed whatever the last rows meet
            self._flush()


def _kind(column: str) -> str:
    return "text" if column in _TEXT else "whole" if column in _WHOLE else "number"


def _value(cell: str, kind: str) -> Any:
    if cell == "":
        return None
    return cell if kind == "text" else float(cell) if kind == "number" else int(float(cell))


def _write_csv(path: Path, names: list[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([harmless(cell) for cell in row] for row in rows)


def dictionary(kept: tuple[str, ...]) -> list[list[str]]:
    """Column, table, unit and meaning of every column of the tables."""
    rows = []
    for table, columns in {**TABLES, "failures": ["step", "error"]}.items():
        first = ["case"] if table == "failures" else ["case", "tracer"]
        for column in [*first, *columns]:
            meaning = _MEANINGS.get(column) or DEFINITIONS[column]
            rows.append([column, table, unit_of(column), meaning])
        if table != "failures":
            rows += [[column, table, "", "as in the table of the cohort"] for column in kept]
    return rows


def unit_of(column: str) -> str:
    """The unit that a column's name tells; empty for texts, counts, fractions and numbers of labels."""
    if column.startswith("suv_") or column == "threshold":
        return "g/mL"
    for part, unit in (("_ml", "mL"), ("_mm", "mm"), ("_g", "g")):
        if column.endswith((part, f"{part}_shift_low", f"{part}_shift_high")):
            return unit
    return {"hu_mean": "HU"}.get(column, "in column unit" if column in _AS_THE_ROW_SAYS else "")


_AS_THE_ROW_SAYS = {"value", "value_unflagged", "whole_estimate", "whole_low", "whole_high"}


def _provenance(table: CohortTable, records: Sequence[Record], told: dict[str, Any]) -> dict[str, Any]:
    """How many cases, by what, and the hash of each one's own provenance. No path and no time."""
    return {
        "petbone": petbone.__version__,
        **told,
        "cases": len(records),
        "failed": sum(record.state == "failed" for record in records),
        "columns_kept": list(table.kept),
        "notes": list(table.notes),
        "provenance_sha256": {one.case: one.provenance_sha256 for one in records if one.state != "failed"},
        "versions": versions(),
    }
