"""The same bone in two tracers, of one examination or two: where they agree on disease and where not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from petbone.case import CaseResult, PetResult
from petbone.matching import match_hotspots


def concordance(pets: Sequence[PetResult]) -> pd.DataFrame:
    """A row per bone: what each tracer shows, and which of them have a hotspot in it.

    `concordance` is ``all``, ``none`` or the tracers that have a hotspot (by their own rule, any volume in
    this bone); empty where a tracer does not see the bone or its rule does not search it.
    """
    first = pets[0].bone_table
    table = first[["id", "name", "status"]].copy()
    hot = []
    for pet in pets:
        bones = pet.bone_table.set_index("id").reindex(table["id"])
        for column in ("suv_max", "suv_mean", "hotspot_count", "hotspot_volume_ml"):
            table[f"{column}_{pet.tracer}"] = bones[column].to_numpy()
        hot.append(pd.Series((bones["hotspot_volume_ml"] > 0).fillna(False).to_numpy(bool), name=pet.tracer))
    found = pd.concat(hot, axis=1)
    names = found.apply(lambda row: " ".join(found.columns[row]) or "none", axis=1)
    names = names.where(~found.all(axis=1), "all")
    # Not seen, or not searched by the rule.
    unseen = pd.concat([table[f"hotspot_volume_ml_{pet.tracer}"].isna() for pet in pets], axis=1).any(axis=1)
    table["concordance"] = names.where(~unseen.to_numpy())
    return table


def hotspot_matches(case: CaseResult) -> pd.DataFrame:
    """Which hotspot of one tracer is which of another (`matching.match_hotspots`), for every two tracers.

    PETs of one examination lie in one frame, that of their CT; between two examinations every hotspot goes
    with the motion of its bone. Ratios are of the second tracer over the first.
    """
    found = []
    for one, two in combinations(case.all_pets, 2):
        # Identity: PETs are no arrays to be compared by value.
        apart = any(one is pet for pet in case.pets) and not any(two is pet for pet in case.pets)
        table = match_hotspots(
            one.hotspots,
            two.hotspots,
            one.hotspot_table,
            two.hotspot_table,
            case.motions if apart else None,
        )
        table.insert(0, "tracer_1", one.tracer)
        table.insert(1, "tracer_2", two.tracer)
        found.append(table)
    # Without any hotspot a table has no types to be joined by.
    filled = [table for table in found if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else found[0]
