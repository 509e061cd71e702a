"""One self-contained HTML page for a cohort: a pure function of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from petbone.cohort_quality import CHECKS, OVERALL
from petbone.outliers import FAR
from petbone.report.case import provenance_rows
from petbone.report.cohort_cells import text_cell
from petbone.report.cohort_follow import follow_sections
from petbone.report.cohort_groups import group_sections
from petbone.report.cohort_pairs import pair_sections
from petbone.report.cohort_scans import case_table, check_table, outlier_table
from petbone.report.cohort_tracer import tracer_section
from petbone.report.cohort_words import Named, flow, headline
from petbone.report.heat_map import views
from petbone.report.page import environment
from petbone.report.privacy import plain
from petbone.report.tables import GAP, Cell, Column, Row, Table, called


@dataclass(frozen=True, eq=False)
class CohortTables:
    """The tables of a cohort; `followup` and `comparisons` are None where none was made.

    `groups` is, by case, the group that comparisons are between (empty: none was asked for).
    """

    bones: pd.DataFrame
    indices: pd.DataFrame
    quality: pd.DataFrame
    concordance: pd.DataFrame
    agreement: pd.DataFrame
    failures: pd.DataFrame
    followup: pd.DataFrame | None = None
    comparisons: pd.DataFrame | None = None
    groups: Mapping[str, str] | None = None


def render(cohort: CohortTables, provenance: Mapping[str, Any]) -> str:
    """The page for `cohort`, complete in itself: no script or image from elsewhere, no path, no date."""
    verdicts = _verdicts(cohort.quality)
    failed = [
        Named(called(row["case"]), "", plain(f"{row['step']}: {row['error']}"))
        for row in cohort.failures.to_dict("records")
    ]
    lost = int(provenance.get("failed", len(failed)))
    total = int(provenance.get("cases", len(verdicts) + lost))
    tracers = list(dict.fromkeys(cohort.indices["tracer"]))
    top = headline(total, lost, verdicts, _filled_table(cohort.followup), _patients(cohort.quality))
    grouped = dict(cohort.groups or {})
    hidden = ("provenance_sha256", "compared_sha256", "columns_kept", "notes")
    return (
        environment()
        .get_template("cohort.html")
        .render(
            title="Cohort",
            top=top,
            flow=flow(total, lost, [verdict for verdict, _ in verdicts.values()]),
            failures=_failures(cohort.failures),
            failed=failed,
            sections=[
                tracer_section(n, tracer, (cohort.indices, cohort.bones), grouped)
                for n, tracer in enumerate(tracers, 1)
            ],
            views=views() if tracers else (),
            pairs=pair_sections(cohort.agreement, cohort.concordance),
            follow=follow_sections(cohort.followup, verdicts),
            comparisons=group_sections(cohort.comparisons),
            checks=check_table(cohort.quality),
            meanings=[(limit.title, limit.why) for limit in CHECKS.values()],
            cases=case_table(cohort.quality, verdicts),
            outliers=outlier_table(cohort.indices, verdicts),
            far=FAR,
            grouped=bool(grouped),
            notes=[plain(note) for note in provenance.get("notes", ())],
            provenance=provenance_rows({k: v for k, v in provenance.items() if k not in hidden}),
            gap=GAP,
        )
    )


def _filled_table(table: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if table is None or table.empty else table


def _patients(quality: pd.DataFrame) -> int:
    """How many patients the cases done are of; a case whose patient is not named is one of its own."""
    if "patient" not in quality:
        return 0
    names = quality.loc[quality["check"] == OVERALL, "patient"].replace("", None)
    return int(names.nunique() + names.isna().sum())


def _verdicts(quality: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """By case, its verdict and its reasons."""
    rows = quality[quality["check"] == OVERALL]
    notes = rows["note"].fillna("")
    return {
        str(case): (str(verdict), str(note))
        for case, verdict, note in zip(rows["case"], rows["verdict"], notes, strict=True)
    }


def _failures(failures: pd.DataFrame) -> Table:
    columns = (
        Column("case", "case", digits="text", meaning="name of the case"),
        Column("step", "step", digits="text", meaning="what was going on"),
        Column("error", "error", digits="text", meaning="why it failed"),
    )
    rows = [
        Row(
            (
                Cell(called(row["case"]), called(row["case"]), "text case"),
                text_cell(row["step"]),
                text_cell(row["error"]),
            )
        )
        for row in failures.to_dict("records")
    ]
    return Table(columns, tuple(rows))
