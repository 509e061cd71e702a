"""One tracer on the page of a cohort: how its indices are spread, and which bones are involved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from petbone.anatomy import BONES
from petbone.report import tables
from petbone.report.box_chart import BoxChart
from petbone.report.case import TRACER_NAMES
from petbone.report.cohort_cells import index_word, is_of_another
from petbone.report.heat_map import HeatMap, heat_map
from petbone.report.privacy import plain
from petbone.report.spread import spread_chart
from petbone.report.tables import Column, Table, called, three


@dataclass(frozen=True)
class TracerSection:
    """Everything that the page says of one tracer."""

    key: str
    name: str
    cases: int
    charts: tuple[BoxChart, ...]
    other_charts: tuple[BoxChart, ...]  # of indices that are defined for another tracer
    maps: tuple[HeatMap, ...]
    bones: Table


def tracer_section(
    number: int, tracer: str, every: tuple[pd.DataFrame, pd.DataFrame], groups: Mapping[str, str]
) -> TracerSection:
    """A tracer by its rows of `every`: the tables of indices and of bones. `groups` are those of cases."""
    indices = every[0][every[0]["tracer"] == tracer]
    own: list[BoxChart] = []
    others: list[BoxChart] = []
    for name, rows in indices.groupby("index", sort=False):
        note = rows["note"].dropna()
        strange = len(note) > 0 and is_of_another(note.iloc[0])
        said = f"{index_word(name)}{' (defined for another tracer)' if strange else ''}"
        (others if strange else own).append(_spread(said, rows, groups))
    bones = every[1][every[1]["tracer"] == tracer]
    involved = involvement(bones)
    return TracerSection(
        key=f"tracer{number}",
        name=TRACER_NAMES.get(tracer, plain(tracer)),
        cases=int(indices["case"].nunique()),
        charts=tuple(own),
        other_charts=tuple(others),
        maps=_maps(involved),
        bones=_bone_table(involved),
    )


def _spread(name: str, rows: pd.DataFrame, groups: Mapping[str, str]) -> BoxChart:
    known = rows[np.isfinite(rows["value"].to_numpy(np.float64))]
    names = sorted(set(groups.values())) if groups else [""]
    parted: dict[str, list[tuple[str, float]]] = {group: [] for group in names}
    for case, value in zip(known["case"], known["value"], strict=True):
        parted[groups[case] if groups else ""].append((called(case), float(value)))
    unit = rows["unit"].dropna()
    return spread_chart(name, str(unit.iloc[0]) if len(unit) else "", parted)


def involvement(bones: pd.DataFrame) -> pd.DataFrame:
    """By bone: cases that searched it, those with a hotspot in it, and how much of it the hotspots fill."""
    searched = bones[bones["hotspot_count"].notna() & (bones["status"] != "absent")]
    hot = searched[searched["hotspot_volume_ml"].fillna(0) > 0]
    table = pd.DataFrame({"name": [bone.name for bone in BONES]}).set_index("name")
    table["searched"] = searched.groupby("name")["case"].nunique()
    table["hot"] = hot.groupby("name")["case"].nunique()
    table[["searched", "hot"]] = table[["searched", "hot"]].fillna(0).astype(int)
    table["often_percent"] = np.where(
        table["searched"] > 0, 100 * table["hot"] / table["searched"].where(table["searched"] > 0), np.nan
    )
    median = hot.groupby("name")[["hotspot_fraction", "hotspot_volume_ml", "suv_max"]].median()
    table["much_percent"] = 100 * median["hotspot_fraction"]
    table["volume_ml"] = median["hotspot_volume_ml"]
    table["suv_max"] = median["suv_max"]
    return table.reset_index()


def _maps(involved: pd.DataFrame) -> tuple[HeatMap, ...]:
    rows = {row["name"]: row for row in involved.to_dict("records")}
    often = {name: _or_none(row["often_percent"]) for name, row in rows.items()}
    much = {
        name: (0.0 if not row["hot"] and row["searched"] else _or_none(row["much_percent"]))
        for name, row in rows.items()
    }
    words = {
        name: f"{name}: hotspots in {row['hot']} of {row['searched']} cases"
        + ("" if math.isnan(row["much_percent"]) else f", of these they fill {three(row['much_percent'])} %")
        for name, row in rows.items()
        if row["searched"]
    }
    return (
        heat_map("How often: cases with a hotspot in the bone", "% of cases", often, words),
        heat_map("How much: part of the bone that hotspots fill, median", "% of the bone", much, words),
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _bone_table(involved: pd.DataFrame) -> Table:
    columns = (
        Column("name", "bone", digits="text", meaning="name of the bone"),
        Column("searched", "searched", "cases", "whole", meaning="cases that saw and searched it"),
        Column("hot", "with hotspot", "cases", "whole", meaning="cases with a hotspot in it"),
        Column("often_percent", "how often", "%", 1, meaning="with hotspot / searched"),
        Column("much_percent", "filled", "%", 1, meaning="median of hotspot_fraction of those with hotspot"),
        Column("volume_ml", "hotspots", "mL", 2, meaning="median of hotspot_volume_ml of those with hotspot"),
        Column("suv_max", "SUVmax", "", 1, meaning="median of suv_max of those with hotspot"),
    )
    seen = involved[involved["searched"] > 0]
    return tables.plain_table(seen.sort_values("often_percent", ascending=False, kind="stable"), columns, {})
