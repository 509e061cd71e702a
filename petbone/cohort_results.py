"""The tables of a cohort, made from the folders of its cases: whole, or the earlier ones stay."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import petbone
from petbone.burden import BONE_COLUMNS, DEFINITIONS, HOTSPOT_COLUMNS, REGION_COLUMNS
from petbone.cohort_case import DONE, Record
from petbone.cohort_compare import Outcome
from petbone.cohort_followup import write_followup
from petbone.cohort_groups import FILES as COMPARISON_FILES
from petbone.cohort_groups import write_comparisons
from petbone.cohort_page import PAGE, write_page
from petbone.cohort_patients import write_patients
from petbone.cohort_review import write_quality
from petbone.cohort_table import CohortRow, CohortTable
from petbone.done_case import DoneCase, done_case
from petbone.errors import ResourceError
from petbone.folders import MARK, harmless, write_json
from petbone.indices import COLUMNS as INDEX_COLUMNS
from petbone.pipeline import versions
from petbone.typed_table import TypedTable

TABLES = {
    "bones": BONE_COLUMNS,
    "hotspots": HOTSPOT_COLUMNS,
    "indices": INDEX_COLUMNS,
    "regions": REGION_COLUMNS,
}
_TEXT = {
    *("case", "tracer"),
    *("name", "side", "group", "status", "cut_by", "bone", "other_bones", "flags"),
    *("index", "unit", "operator", "bones", "reference", "note", "region"),
}
_WHOLE = {"id", "hotspot", "hotspot_count", "connectivity", "flagged_hotspots", "bones_seen"}

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
    "region": "part of the skeleton: spine, thorax, pelvis, limbs, head, skeleton_49 or skeleton_62",
    "bones_seen": "how many of its bones are in the PET",
    "step": "what was going on when the case failed",
    "error": "why",
}

_OF_REGIONS = {
    "seen_fraction": "part of the region that was in both images, by the standard skeleton",
    "pet_volume_ml": "of its bones together",
    "suv_mean": "mean of its bones, weighted by their pet_volume_ml",
    "suv_max": "highest of its bones",
    "hotspot_count": "hotspots of which a bone of it holds the largest share",
    "hotspot_volume_ml": "of its bones together",
    "hotspot_tlu_g": "of its bones together",
    "hotspot_fraction": "hotspot_volume_ml / pet_volume_ml of its bones that the rule searches",
}


def write_cohort(
    table: CohortTable,
    records: Sequence[Record],
    told: dict[str, Any],
    output: Path,
    pairs: Sequence[Outcome] = (),
) -> list[Record]:
    """Write the tables of all cases that are done, ``failures.csv``, dictionary, provenance and page.

    `pairs`: what became of each two cases of one patient. Every file takes the place of its predecessor at
    once, when all are written. Returns the records, those of pairs behind those of cases, with the ones whose
    folder is not what the record says as failed. Raises ResourceError when it cannot write.
    """
    rows = {row.case: row for row in table.rows}
    try:
        with tempfile.TemporaryDirectory(prefix=".tables-", suffix=".part", dir=output) as text:
            part = Path(text)
            checked = _write_tables(rows, table.kept, records, part, output)
            compared, explained = write_followup(pairs, output, part)
            explained += write_quality(table, checked, part, output)
            explained += write_patients(table, checked, part)
            explained += write_comparisons(table, checked, part)
            checked += compared
            failed = [[one.case, one.step, one.error] for one in checked if one.state == "failed"]
            _write_csv(part / "failures.csv", ["case", "step", "error"], failed)
            _write_csv(
                part / "cohort_dictionary.csv",
                ["column", "table", "unit", "meaning"],
                dictionary(table.kept) + explained,
            )
            provenance = _provenance(table, checked, told)
            write_json(provenance, part / MARK)
            try:
                write_page(provenance, part)
            except OSError:
                raise
            except Exception:  # a defect in the page holds no table back
                _put_in_place(part, output, table)
                (output / PAGE).unlink(missing_ok=True)  # it would be of an earlier run
                raise
            _put_in_place(part, output, table)
    except OSError as error:
        free_mb = shutil.disk_usage(output).free / 1e6
        raise ResourceError(
            f"{output}: the tables cannot be written: {_reason(error)} ({free_mb:.0f} MB free); the cases "
            "are done: run again"
        ) from error
    return checked


def _put_in_place(part: Path, output: Path, table: CohortTable) -> None:
    for path in sorted(part.iterdir()):
        path.replace(output / path.name)
    if not table.by:  # those of an earlier run would pass for ones of these cases
        for left in COMPARISON_FILES:
            (output / left).unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    """In the system's words: pyarrow has more of its own."""
    return os.strerror(error.errno) if error.errno else str(error)


def _write_tables(
    rows: dict[str, CohortRow], kept: tuple[str, ...], records: Sequence[Record], part: Path, output: Path
) -> list[Record]:
    checked = []
    with ExitStack() as open_tables:
        tables = {
            name: open_tables.enter_context(
                TypedTable(part, name, _typed(["case", "tracer", *columns], kept))
            )
            for name, columns in TABLES.items()
        }
        for record in records:
            if record.state == "failed":
                checked.append(_failed(record, output))
                continue
            try:
                folder = output / "cases" / record.case
                found = list(_read_case(done_case(folder, record.provenance_sha256)))
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


def _read_case(case: DoneCase) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Name, tracer and rows of each table of a case. Raises ValueError for files other than were written."""
    tracers = [str(pet["tracer"]) for pet in case.json("summary.json")["pets"]]
    for tracer in tracers:
        suffix = f"_{tracer}" if len(tracers) > 1 else ""
        for name, columns in TABLES.items():
            lines = case.rows(f"{name}{suffix}.csv")
            if lines and set(lines[0]) != set(columns):
                raise ValueError("other columns")
            yield name, tracer, lines


def _typed(columns: Sequence[str], kept: tuple[str, ...]) -> list[tuple[str, str]]:
    """What the cells of each column are; the user's own are texts."""
    kinds = [(name, "text" if name in _TEXT else "whole" if name in _WHOLE else "number") for name in columns]
    return kinds + [(name, "text") for name in kept]


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
            of_region = _OF_REGIONS.get(column) if table == "regions" else None
            meaning = of_region or _MEANINGS.get(column) or DEFINITIONS[column]
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
    cases = [record for record in records if not record.against]
    pairs = [record for record in records if record.against]
    return {
        "petbone": petbone.__version__,
        **told,
        "cases": len(cases),
        "failed": sum(record.state == "failed" for record in cases),
        "compared": len(pairs),
        "compared_failed": sum(record.state != "done" and record.state != "kept" for record in pairs),
        "columns_kept": list(table.kept),
        "compared_by": list(table.by),
        "notes": list(table.notes),
        "provenance_sha256": {one.case: one.provenance_sha256 for one in cases if one.state != "failed"},
        "compared_sha256": [
            {"case_1": one.against, "case_2": one.case, "provenance_sha256": one.provenance_sha256}
            for one in pairs
            if one.state in ("done", "kept")
        ],
        "versions": versions(),
    }
