"""Two tracers in the same patients, on the page of a cohort."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from petbone.agreement import two_by_two
from petbone.anatomy import BONES
from petbone.report import tables
from petbone.report.box_chart import BoxChart
from petbone.report.case import TRACER_NAMES, Card
from petbone.report.privacy import plain
from petbone.report.spread import spread_chart
from petbone.report.tables import GAP, Column, Table, called, shown


@dataclass(frozen=True)
class PairSection:
    """Two tracers in the same patients."""

    key: str
    names: tuple[str, str]
    cards: tuple[Card, ...]
    bars: tuple[
        tuple[str, tuple[tuple[str, str, float, str], ...]], ...
    ]  # title; css, words, percent, number
    charts: tuple[BoxChart, ...]
    bones: Table
    in_two_rows: int  # of the cases, those of two rows of the user's table; `bones` is without them


def pair_sections(agreement: pd.DataFrame, concordance: pd.DataFrame) -> list[PairSection]:
    """Every two tracers that were compared in a case."""
    if agreement.empty:
        return []
    return [
        _pair(n, (str(one), str(two)), rows, concordance)
        for n, ((one, two), rows) in enumerate(agreement.groupby(["tracer_1", "tracer_2"], sort=False), 1)
    ]


def _pair(
    number: int, tracers: tuple[str, str], rows: pd.DataFrame, concordance: pd.DataFrame
) -> PairSection:
    first, second = (TRACER_NAMES.get(tracer, plain(tracer)) for tracer in tracers)
    total = rows.select_dtypes("number").sum()
    bones = {key: int(total[f"bones_{key}"]) for key in ("both", "first_only", "second_only", "neither")}
    figures = two_by_two(*bones.values())
    spots = {
        "both": total["both_1"] + total["both_2"],
        "first": total["first_only"],
        "second": total["second_only"],
        "unseen": total["first_unseen"] + total["second_unseen"],
    }
    positive = {"both": bones["both"], "first": bones["first_only"], "second": bones["second_only"]}
    words = {
        "both": "both",
        "first": f"{first} only",
        "second": f"{second} only",
        "unseen": "where the other did not look",
    }
    compared = int(total["bones_compared"])
    cards = (
        Card("cases", str(rows["case"].nunique()), detail=f"examined with {first} and {second}"),
        Card(
            "bones judged alike",
            GAP if math.isnan(figures["agreement_percent"]) else f"{figures['agreement_percent']:.1f} %",
            detail=f"of {compared} bones that both saw and searched, all cases together",
        ),
        Card(
            "positive agreement",
            shown(figures["positive_agreement"], 2),
            detail="2 both / (2 both + either alone), of bones with a hotspot",
        ),
        Card(
            "kappa",
            shown(figures["kappa"], 2),
            detail="bones of one patient are not independent: no interval",
        ),
        Card(
            "median Dice of hotspots",
            shown(rows["dice"].median(), 2),
            detail=f"of {int(rows['dice'].notna().sum())} cases with hotspots",
        ),
    )
    of_pair = concordance[(concordance["tracer_1"] == tracers[0]) & (concordance["tracer_2"] == tracers[1])]
    charts = [
        spread_chart(
            title,
            unit,
            {
                "": [
                    (called(c), float(v))
                    for c, v in zip(rows["case"], rows[name], strict=False)
                    if not math.isnan(v)
                ]
            },
        )
        for name, title, unit in (
            ("agreement_percent", "bones judged alike, per case", "%"),
            ("positive_agreement", "positive agreement of bones, per case", ""),
            ("dice", "Dice of the hotspots, per case", ""),
            ("suv_max_rho", "rank correlation of SUVmax of matched hotspots", ""),
        )
        if rows[name].notna().any()
    ]
    return PairSection(
        f"pair{number}",
        (first, second),
        cards,
        (
            ("hotspots of either tracer; those in both count in each", _parts(spots, words)),
            ("bones with a hotspot", _parts(positive, words)),
        ),
        tuple(charts),
        _pair_bones(of_pair, tracers),
        int(rows["case"].nunique() - rows.loc[rows["case"].isin(of_pair["case"]), "case"].nunique()),
    )


def _parts(counts: Mapping[str, float], words: Mapping[str, str]) -> tuple[tuple[str, str, float, str], ...]:
    whole = sum(counts.values())
    return tuple(
        (key, words[key], 100 * float(count) / whole, f"{count:.0f}")
        for key, count in counts.items()
        if count
    )


def _pair_bones(rows: pd.DataFrame, tracers: tuple[str, str]) -> Table:
    """By bone, in how many cases which tracer has a hotspot in it."""
    kinds = {"all": "both", tracers[0]: "first", tracers[1]: "second", "none": "neither"}
    known = rows[rows["concordance"].notna()]
    counts = pd.crosstab(known["name"], known["concordance"].map(kinds)).reindex(columns=list(kinds.values()))
    counts = counts.fillna(0).astype(int).reindex([b.name for b in BONES if b.name in set(known["name"])])
    counts["n"] = counts.sum(axis=1)
    counts["alike"] = 100 * (counts["both"] + counts["neither"]) / counts["n"]
    names = [TRACER_NAMES.get(tracer, plain(tracer)) for tracer in tracers]
    columns = (
        Column("name", "bone", digits="text", meaning="name of the bone"),
        Column("n", "cases", digits="whole", meaning="cases in which both saw and searched it"),
        Column("both", "both", digits="whole", meaning="a hotspot in both tracers"),
        Column("first", f"{names[0]} only", digits="whole", meaning="a hotspot in the first tracer only"),
        Column("second", f"{names[1]} only", digits="whole", meaning="a hotspot in the second tracer only"),
        Column("neither", "neither", digits="whole", meaning="a hotspot in neither"),
        Column("alike", "alike", "%", 1, meaning="both or neither"),
    )
    return tables.plain_table(counts.reset_index(), columns, {})
