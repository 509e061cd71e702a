"""The scans of a cohort: what each check found, each case, and those far from the others."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from petbone.cohort_quality import CHECKS, OVERALL
from petbone.outliers import FAR, modified_z_of_logs
from petbone.report.case import TRACER_NAMES
from petbone.report.cohort_cells import (
    case_cell,
    index_word,
    is_of_another,
    number_cell,
    text_cell,
    verdict_cell,
)
from petbone.report.privacy import plain
from petbone.report.tables import GAP, Cell, Column, Row, Table


def check_table(quality: pd.DataFrame) -> Table:
    """By check: how many cases pass, and the worst of them."""
    columns = (
        Column("check", "check", digits="text", meaning="what was asked"),
        Column("bar", "", digits="text", meaning="green: within, amber: look, red: not to be trusted"),
        Column("ok", "within", digits="whole", meaning="within the limits"),
        Column("warn", "look", digits="whole", meaning="past the first limit"),
        Column("bad", "not to trust", digits="whole", meaning="past the second limit"),
        Column("none", "not known", digits="whole", meaning="cannot be said"),
        Column("median", "median", digits="three", meaning="of the values"),
        Column("worst", "worst", digits="three", meaning="the worst value"),
        Column("case", "of case", digits="text", meaning="the case with the worst value"),
        Column(
            "warn_at", "look if", digits="text", meaning="the limit beyond which a case is to be looked at"
        ),
        Column("bad_at", "not if", digits="text", meaning="the limit beyond which it is not to be trusted"),
    )
    rows = []
    for name, limit in CHECKS.items():
        own = quality[quality["check"] == name]
        if own.empty:
            continue
        verdicts = own["verdict"].fillna("")
        count = [int((verdicts == word).sum()) for word in ("ok", "warn", "bad", "")]
        known = own[own["value"].notna()].sort_values("value", ascending=limit.least, kind="stable")
        worst = known.iloc[0] if len(known) and count[1] + count[2] else None
        unit = f" {limit.unit}" if limit.unit else ""
        cells = (
            Cell(f"{limit.title}{',' if unit else ''}{unit}", limit.title, "text"),
            Cell(
                "",
                repr(float(count[1] + 1000 * count[2])),
                "text",
                parts=tuple(zip(_CSS, count, strict=True)),
            ),
            *(
                number_cell(n, "whole", f"num {word}" if n else "num zero")
                for n, word in zip(count, _CSS, strict=True)
            ),
            number_cell(known["value"].median() if len(known) else None),
            number_cell(None if worst is None else worst["value"]),
            Cell("", "", "text") if worst is None else case_cell(worst["case"]),
            *(Cell(said, said, "text") for said in _limits(name)),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows))


_CSS = ("ok", "warn", "bad", "none")


def _limits(name: str) -> tuple[str, ...]:
    limit = CHECKS[name]
    sign = "<" if limit.least else ">"
    unit = "voxels" if name == "pet_to_ct_mm" else limit.unit
    return tuple("" if n is None else f"{sign} {n:g} {unit}".strip() for n in (limit.warn, limit.bad))


def case_table(quality: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]]) -> Table:
    """A row per case, those not to be trusted first; of several PETs the worst value of each check."""
    present = [name for name in CHECKS if (quality["check"] == name).any()]
    columns = (
        Column("case", "case", digits="text", meaning="name of the case, leads to its page"),
        Column("verdict", "verdict", digits="text", meaning="trust, look, or do not trust"),
        Column("note", "reasons", digits="text", meaning="every check past a limit, the worst first"),
        *(
            Column(name, CHECKS[name].title, CHECKS[name].unit, "three", meaning=CHECKS[name].why)
            for name in present
        ),
    )
    # The worst of several PETs: by verdict, then by value.
    order = {"bad": 3, "warn": 2, "ok": 1}
    table = quality[quality["check"] != OVERALL]
    sign = table["check"].map(lambda name: -1.0 if CHECKS[name].least else 1.0).astype(float)
    ranked = table.assign(
        rank=table["verdict"].map(order).fillna(0), size=(sign * table["value"]).fillna(-math.inf)
    ).sort_values(["rank", "size"], kind="stable")
    worst = ranked.groupby(["case", "check"], sort=False).tail(1)
    cells_of = {
        (row["case"], row["check"]): number_cell(row["value"], css=f"num {row['verdict'] or ''}".strip())
        for row in worst[["case", "check", "value", "verdict"]].fillna({"verdict": ""}).to_dict("records")
    }
    rows = []
    for case, (verdict, note) in verdicts.items():
        own = [cells_of.get((case, name), Cell(GAP, "", "num gap")) for name in present]
        cells = (case_cell(case), verdict_cell(verdict), text_cell(note), *own)
        rows.append((-order.get(verdict, 0), Row(cells)))
    rows.sort(key=lambda pair: pair[0])
    return Table(columns, tuple(row for _, row in rows))


def outlier_table(indices: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]]) -> Table:
    """Cases with an index far from the rest: the farthest, and which others are."""
    columns = (
        Column("case", "case", digits="text", meaning="name of the case, leads to its page"),
        Column("tracer", "tracer", digits="text", meaning="the tracer"),
        Column("index", "index", digits="text", meaning="the index that lies farthest out"),
        Column("value", "value", digits="three", meaning="its value"),
        Column("unit", "unit", digits="text", meaning="unit of the value and the median"),
        Column("median", "median", digits="three", meaning="of the cases with a value above 0"),
        Column("times", "times", digits=2, meaning="value / median"),
        Column("z", "z", digits=1, meaning="modified z-score of the logarithms"),
        Column("others", "also far out", digits="text", meaning="other indices of the case, with their z"),
        Column("scan", "scan", digits="text", meaning="whether the scan is to be trusted"),
    )
    far = far_out(indices)
    found = []
    for (case, tracer), rows in far.groupby(["case", "tracer"], sort=False):
        ordered = rows.sort_values("z", key=lambda z: -z.abs(), kind="stable").to_dict("records")
        first = ordered[0]
        others = ", ".join(f"{index_word(r['index'])} ({r['z']:.1f})" for r in ordered[1:])
        cells = (
            case_cell(case),
            text_cell(TRACER_NAMES.get(str(tracer), tracer)),
            text_cell(index_word(first["index"])),
            number_cell(first["value"]),
            text_cell(first["unit"]),
            number_cell(first["median"]),
            number_cell(first["value"] / first["median"], 2),
            number_cell(first["z"], 1),
            Cell(plain(others), plain(others), "text"),
            verdict_cell(verdicts.get(str(case), ("",))[0]),
        )
        found.append((-abs(first["z"]), Row(cells)))
    found.sort(key=lambda pair: pair[0])
    return Table(columns, tuple(row for _, row in found))


def far_out(indices: pd.DataFrame) -> pd.DataFrame:
    """Rows of `indices` beyond `outliers.FAR`, with ``z`` and ``median``; indices of other tracers are out.

    Scores are of the logarithms of the values above 0, each index and tracer by itself.
    """
    own = indices[~indices["note"].fillna("").map(is_of_another).astype(bool)]
    parts = []
    for _, rows in own.groupby(["tracer", "index"], sort=False):
        values = rows["value"].to_numpy(np.float64)
        positive = values[values > 0]
        scored = rows.assign(
            z=modified_z_of_logs(values), median=float(np.median(positive)) if len(positive) else math.nan
        )
        parts.append(scored[scored["z"].abs() > FAR])
    return pd.concat(parts) if parts else own.assign(z=math.nan, median=math.nan).iloc[:0]
