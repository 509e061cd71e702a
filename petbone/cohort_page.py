"""The page of a cohort from the files of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from petbone.report.cohort import CohortTables, render

PAGE = "cohort.html"
_BONES = "case tracer name status hotspot_count hotspot_volume_ml hotspot_fraction suv_max".split()
_INDICES = "case tracer index value unit note".split()


def write_page(provenance: Mapping[str, Any], part: Path) -> None:
    """Write ``cohort.html`` of the tables that lie in `part`."""
    comparisons = _read(part, "comparisons")
    cohort = CohortTables(
        bones=_table(part, "bones", _BONES),
        indices=_table(part, "indices", _INDICES),
        quality=_table(part, "quality"),
        concordance=_table(part, "concordance"),
        agreement=_agreement(part),
        failures=pd.read_csv(part / "failures.csv", dtype=str, keep_default_na=False),
        followup=_read(part, "followup"),
        comparisons=comparisons,
        groups=_groups(part, comparisons),
    )
    (part / PAGE).write_text(render(cohort, provenance), encoding="utf-8")


def _table(part: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table that every cohort has. Of two columns of one name petbone's own is the first."""
    file = pq.ParquetFile(part / f"{name}.parquet")
    names = file.schema_arrow.names
    wanted = [names.index(column) for column in columns or dict.fromkeys(names)]
    table: pd.DataFrame = file.read().select(wanted).to_pandas()
    return table


def _read(part: Path, name: str) -> pd.DataFrame | None:
    return _table(part, name) if (part / f"{name}.parquet").exists() else None


def _agreement(part: Path) -> pd.DataFrame:
    """Two tracers of one case, and of two cases of one patient where these were compared."""
    table = _table(part, "tracer_agreement")
    pairs = _read(part, "tracer_pairs")
    if pairs is None or pairs["tracer_1"].isna().all():
        return table
    known = pairs[pairs["tracer_1"].notna()]
    found = known.assign(case=known["case_1"] + " and " + known["case_2"])
    return pd.concat([one for one in (table, found) if len(one)], ignore_index=True)


def _groups(part: Path, comparisons: pd.DataFrame | None) -> dict[str, str] | None:
    """By case, its group in the first column that comparisons are by, where that is one of the user's own."""
    if comparisons is None or "group_by" not in comparisons or comparisons.empty:
        return None
    column = str(comparisons["group_by"].dropna().iloc[0])
    table = pq.read_table(part / "indices.parquet")
    if column not in table.column_names:
        return None
    last = len(table.column_names) - 1 - table.column_names[::-1].index(column)
    cases, groups = table.column(0).to_pylist(), table.column(last).to_pylist()
    return {case: group or "none given" for case, group in zip(cases, groups, strict=True)}
