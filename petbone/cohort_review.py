"""What cases say of themselves, gathered: ``quality``, and of two tracers ``concordance`` and agreement."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import ExitStack
from pathlib import Path

from petbone.cohort_case import Record
from petbone.cohort_columns import Column, explained
from petbone.cohort_quality import (
    CHECKS,
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
from petbone.typed_table import TypedTable

_CASE = Column("case", "text", "", "the case's name in the table of the cohort, and that of its folder")
_TRACERS = (
    Column("tracer_1", "text", "", "the tracer of pet"),
    Column("tracer_2", "text", "", "the tracer of pet2"),
)
QUALITY = (
    _CASE,
    Column("tracer", "text", "", "whose PET was checked; empty for checks of the whole case"),
    Column("check", "text", "", f"{', '.join(CHECKS)}; overall: the worst verdict of the case"),
    Column(
        "value", "number", "in column unit", "what was found; for overall how many checks are past a limit"
    ),
    Column("unit", "text", "", "unit of value and limits"),
    Column("limit", "number", "in column unit", "beyond which the verdict is warn"),
    Column("limit_bad", "number", "in column unit", "beyond which it is bad"),
    Column("verdict", "text", "", "ok, warn (look at the case), bad (do not trust it); empty: not known"),
    Column("note", "text", "", "what was found, in words; for overall all reasons, the worst first"),
)
CONCORDANCE = (
    _CASE,
    *_TRACERS,
    Column("id", "whole", "", "petbone's label of the bone"),
    Column("name", "text", "", "the bone"),
    Column("status", "text", "", "complete, cut or absent in the first PET"),
    Column("status_2", "text", "", "the same in a second examination, where the case has two"),
    *(
        Column(f"{name}_{n}", kind, unit, f"{name} of tracer_{n}")
        for n in (1, 2)
        for name, kind, unit in (
            ("suv_max", "number", "g/mL"),
            ("suv_mean", "number", "g/mL"),
            ("hotspot_count", "whole", ""),
            ("hotspot_volume_ml", "number", "mL"),
        )
    ),
    Column(
        "concordance",
        "text",
        "",
        "tracers with a hotspot in the bone: all, none, or which; empty: not both seen",
    ),
)
_ALONE = {"first": "hotspots of tracer_1 alone", "second": "hotspots of tracer_2 alone"}
AGREEMENT = (
    _CASE,
    *_TRACERS,
    Column("hotspots_1", "whole", "", "hotspots of tracer_1"),
    Column("hotspots_2", "whole", "", "hotspots of tracer_2"),
    Column("both_1", "whole", "", "hotspots of tracer_1 with a partner"),
    Column("both_2", "whole", "", "hotspots of tracer_2 with a partner"),
    Column("matched", "whole", "", "pairs of hotspots, one to one"),
    Column("split", "whole", "", "hotspots of tracer_1 that are several of tracer_2"),
    Column("merged", "whole", "", "hotspots of tracer_2 that are several of tracer_1"),
    *(Column(f"{n}_only", "whole", "", f"{said}, where the other has looked") for n, said in _ALONE.items()),
    *(Column(f"{side}_only_flagged", "whole", "", f"those of {side}_only with a flag") for side in _ALONE),
    *(
        Column(f"{side}_unseen", "whole", "", f"{said}, where the other has not looked")
        for side, said in _ALONE.items()
    ),
    Column("both_ml_1", "number", "mL", "volume of both_1"),
    Column("both_ml_2", "number", "mL", "volume of both_2"),
    *(Column(f"{side}_only_ml", "number", "mL", f"volume of {side}_only") for side in _ALONE),
    *(Column(f"{side}_unseen_ml", "number", "mL", f"volume of {side}_unseen") for side in _ALONE),
    Column("bones_compared", "whole", "", "bones that both tracers see and search"),
    Column("bones_both", "whole", "", "of these, bones with a hotspot in both"),
    Column("bones_first_only", "whole", "", "with a hotspot in tracer_1 alone"),
    Column("bones_second_only", "whole", "", "with a hotspot in tracer_2 alone"),
    Column("bones_neither", "whole", "", "with none"),
    Column("agreement_percent", "number", "%", "(both + neither) / compared"),
    Column("positive_agreement", "number", "", "2 both / (2 both + first only + second only)"),
    Column("negative_agreement", "number", "", "2 neither / (2 neither + first only + second only)"),
    Column("kappa", "number", "", "Cohen's kappa of the bones"),
    Column("kappa_se", "number", "", "its standard error"),
    Column("kappa_low", "number", "", "95 % interval of kappa"),
    Column("kappa_high", "number", "", "95 % interval of kappa"),
    Column("dice", "number", "", "Dice of the hotspots' volumes"),
    Column("suv_max_pairs", "whole", "", "matched pairs behind suv_max_rho"),
    Column("suv_max_rho", "number", "", "Spearman's correlation of their SUVmax"),
)  # fmt: skip
TABLES = {"quality": QUALITY, "concordance": CONCORDANCE, "tracer_agreement": AGREEMENT}


def write_quality(table: CohortTable, records: Sequence[Record], part: Path, output: Path) -> list[list[str]]:
    """Write the tables of `TABLES` into `part`, of the cases in `output` that did not fail.

    Returns the rows of the dictionary. Raises ResourceError where a folder of a case is not any more what it
    was a moment ago.
    """
    kept = {row.case: [cell for _, cell in row.kept] for row in table.rows}
    checks: dict[str, list[Check]] = {}
    software: dict[str, dict[str, str]] = {}
    taken = {column.name for columns in TABLES.values() for column in columns}
    yours = [
        Column(_name_of_yours(name, taken, table.kept), "text", "", "as in the table of the cohort")
        for name in table.kept
    ]
    with ExitStack() as open_tables:
        tables = {
            name: open_tables.enter_context(
                TypedTable(part, name, [(column.name, column.kind) for column in (*columns, *yours)])
            )
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
            for name, rows in (("concordance", bones), ("tracer_agreement", pairs)):
                for row in rows:
                    cells = [row[column.name] for column in TABLES[name] if column is not _CASE]
                    tables[name].add([record.case, *cells, *kept[record.case]])
        for check in judged_together(checks, software):
            tables["quality"].add([check.case, check.tracer, *check.cells, *kept[check.case]])
    return [row for name, columns in TABLES.items() for row in explained(name, (*columns, *yours))]


def _name_of_yours(name: str, taken: Container[str], kept: Container[str]) -> str:
    """A column of the user's own, by a name that no other column has."""
    if name not in taken:
        return name
    found = f"your_{name}"
    while found in taken or found in kept:
        found = f"your_{found}"
    return found


def _facts(name: str, case: DoneCase) -> CaseFacts:
    summary = case.json("summary.json")
    tracers = [str(pet["tracer"]) for pet in summary["pets"]]
    suffix = {tracer: f"_{tracer}" if len(tracers) > 1 else "" for tracer in tracers}
    placed = {tracer: case.rows(f"alignment{suffix[tracer]}.csv") for tracer in tracers}
    return CaseFacts(name, summary, case.json(MARK), placed)
