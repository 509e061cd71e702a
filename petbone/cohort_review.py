"""What cases say of themselves, gathered: ``quality``, and of two tracers ``concordance`` and agreement."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from petbone.cohort_case import Record
from petbone.cohort_quality import (
    COLUMNS,
    CONCORDANCE_COLUMNS,
    CaseFacts,
    Check,
    checks_of,
    concordance_rows,
    judged_together,
    software_of,
)
from petbone.cohort_table import CohortTable
from petbone.done_case import DoneCase, done_case
from petbone.errors import ResourceError
from petbone.folders import MARK
from petbone.followup import AGREEMENT_COLUMNS
from petbone.typed_table import TypedTable

TEXTS = {"case", "tracer", "check", "unit", "verdict", "note", "tracer_1", "tracer_2", "name", "status"}
TEXTS |= {"status_2", "concordance"}
WHOLE = {"id", *(f"hotspot_count_{n}" for n in (1, 2))}
TABLES = {
    "quality": ["case", "tracer", *COLUMNS],
    "concordance": ["case", *CONCORDANCE_COLUMNS],
    "tracer_agreement": ["case", *AGREEMENT_COLUMNS],
}


def write_quality(table: CohortTable, records: Sequence[Record], part: Path, output: Path) -> None:
    """Write the tables of `TABLES` into `part`, of the cases in `output` that did not fail.

    Raises ResourceError where a folder of a case is not any more what it was a moment ago.
    """
    kept = {row.case: [cell for _, cell in row.kept] for row in table.rows}
    checks: dict[str, list[Check]] = {}
    software: dict[str, dict[str, str]] = {}
    with ExitStack() as open_tables:
        tables = {
            name: open_tables.enter_context(TypedTable(part, name, _typed(columns, table.kept)))
            for name, columns in TABLES.items()
        }
        for record in records:
            if record.state == "failed":
                continue
            try:
                case = done_case(output / "cases" / record.case, record.provenance_sha256)
                facts = _facts(record.case, case)
                checks[record.case] = checks_of(facts)
                software[record.case] = software_of(facts.provenance)
                bones = concordance_rows(facts, case.rows("concordance.csv"))
                pairs = case.rows("tracer_agreement.csv")
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ResourceError(
                    f"cases/{record.case}: was changed while the tables were made ({type(error).__name__}); "
                    "run again"
                ) from error
            own = kept[record.case]
            for row in bones:
                tables["concordance"].add([record.case, *(row[c] for c in CONCORDANCE_COLUMNS), *own])
            for row in pairs:
                tables["tracer_agreement"].add([record.case, *(row[c] for c in AGREEMENT_COLUMNS), *own])
        for check in judged_together(checks, software):
            tables["quality"].add([check.case, check.tracer, *check.cells, *kept[check.case]])


def _facts(name: str, case: DoneCase) -> CaseFacts:
    summary = case.json("summary.json")
    tracers = [str(pet["tracer"]) for pet in summary["pets"]]
    suffix = {tracer: f"_{tracer}" if len(tracers) > 1 else "" for tracer in tracers}
    placed = {tracer: case.rows(f"alignment{suffix[tracer]}.csv") for tracer in tracers}
    return CaseFacts(name, summary, case.json(MARK), placed)


def _typed(columns: Sequence[str], kept: tuple[str, ...]) -> list[tuple[str, str]]:
    kinds = [(name, "text" if name in TEXTS else "whole" if name in WHOLE else "number") for name in columns]
    return kinds + [(name, "text") for name in kept]
