"""The same bone, and the same hotspot, in two tracers of one examination or two: where they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.agreement import dice, rank_correlation, two_by_two
from petbone.anatomy import ALL_BONES
from petbone.bone_motion import BoneMotion
from petbone.case import CaseResult, PetResult
from petbone.matching import match_hotspots, shared_volumes
from petbone.places import OtherDate, look_up

LEAST_SEEN = 0.5
"""Part of a hotspot that must lie in the other PET before that has looked at it."""

AGREEMENT_COLUMNS = (
    "tracer_1 tracer_2 hotspots_1 hotspots_2 both_1 both_2 matched split merged first_only second_only "
    "first_only_flagged second_only_flagged first_unseen second_unseen both_ml_1 both_ml_2 first_only_ml "
    "second_only_ml first_unseen_ml second_unseen_ml bones_compared bones_both bones_first_only "
    "bones_second_only bones_neither agreement_percent positive_agreement negative_agreement kappa "
    "kappa_se kappa_low kappa_high dice suv_max_pairs suv_max_rho"
).split()

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Together:
    """What several tracers of a patient say together."""

    bones: pd.DataFrame  # `concordance`
    matches: pd.DataFrame  # `hotspot_matches`
    agreement: pd.DataFrame  # a row per two tracers, the columns of `AGREEMENT_COLUMNS`


def together(case: CaseResult) -> Together:
    """All tables of several tracers. Raises ValueError for fewer than two."""
    if len(case.all_pets) < 2:
        raise ValueError(f"tracers are compared two by two, got {len(case.all_pets)}")
    matches, agreement = [], []
    for one, two, motions in _pairs(case):
        table, looked = _matches(case, one, two, motions)
        matches.append(table)
        agreement.append(_agreement(one, two, table, (looked, motions)))
    # Without any hotspot a table has no types to be joined by.
    filled = [table for table in matches if len(table)]
    return Together(
        concordance(case.all_pets, None if case.second is None else case.second.pets[0]),
        pd.concat(filled, ignore_index=True) if filled else matches[0],
        pd.DataFrame(agreement, columns=AGREEMENT_COLUMNS),
    )


def concordance(pets: Sequence[PetResult], of_second: PetResult | None = None) -> pd.DataFrame:
    """A row per bone that any of them knows: what each tracer shows, and which have a hotspot in it.

    `of_second`: a PET of the second examination, where there are two; its status stands in ``status_2``.

    `concordance` is ``all``, ``none`` or the tracers that have a hotspot (by their own rule, any volume in
    this bone); empty where a tracer does not see the bone or its rule does not search it.
    """
    known = pd.concat([pet.bone_table[["id", "name"]] for pet in pets])
    table = known.drop_duplicates("id").sort_values("id", ignore_index=True)
    for column, one in (("status", pets[0]), ("status_2", of_second)):
        if one is not None:
            states = one.bone_table.set_index("id")["status"].reindex(table["id"]).fillna("absent")
            table[column] = states.to_numpy()
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
    with the motion of its bone. Ratios are of the second tracer over the first. ``seen_by_other``, of a
    hotspot without a partner: whether the other PET has looked there (its rule searches the bone, and at
    least `LEAST_SEEN` of the hotspot lies in its field of view).
    """
    return together(case).matches


def _pairs(case: CaseResult) -> Iterator[tuple[PetResult, PetResult, dict[int, BoneMotion] | None]]:
    """Every two tracers, and the motions between them if they are of two examinations."""
    for one, two in combinations(case.all_pets, 2):
        # Identity: PETs are no arrays to be compared by value.
        apart = any(one is pet for pet in case.pets) and not any(two is pet for pet in case.pets)
        yield one, two, case.motions if apart else None


def _matches(
    case: CaseResult, one: PetResult, two: PetResult, motions: dict[int, BoneMotion] | None
) -> tuple[pd.DataFrame, tuple[Bools, Bools]]:
    """The rows of two tracers; and of each hotspot of either, whether the other has looked there."""
    table = match_hotspots(one.hotspots, two.hotspots, one.hotspot_table, two.hotspot_table, motions)
    still = {bone.id: np.eye(4) for bone in ALL_BONES}
    forward = still if motions is None else {n: m.second_mm_from_first_mm for n, m in motions.items()}
    back = {n: np.linalg.inv(matrix).astype(np.float64) for n, matrix in forward.items()}
    looked = (
        _looked_at(one, two, _bones_of(case, two), forward),
        _looked_at(two, one, _bones_of(case, one), back),
    )
    seen: list[bool | None] = []
    for row in table.to_dict("records"):
        side = {"first only": 0, "second only": 1}.get(row["relation"])
        number = None if side is None else int(row[f"hotspot_{side + 1}"])
        seen.append(None if side is None or number is None else bool(looked[side][number - 1]))
    table["seen_by_other"] = pd.array(seen, dtype="boolean")
    table.insert(0, "tracer_1", one.tracer)
    table.insert(1, "tracer_2", two.tracer)
    return table, looked


def _bones_of(case: CaseResult, pet: PetResult) -> CaseResult:
    """The examination that a PET is of."""
    if case.second is not None and any(pet is one for one in case.second.pets):
        return case.second
    return case


def _looked_at(
    own: PetResult, other: PetResult, there: CaseResult, way: Mapping[int, npt.NDArray[np.float64]]
) -> Bools:
    """Of every hotspot of `own`, in the order of its number, whether `other` has looked there."""
    searched = other.bone_table["hotspot_volume_ml"].notna()
    bones = frozenset(other.bone_table.loc[searched, "id"].astype(int))
    table = own.hotspot_table
    known = look_up(own.hotspots, table, OtherDate(other.suv, there.bones, bones, way))
    looked = known["bone_there"] & (known["seen_there"] >= LEAST_SEEN)
    by_number = np.zeros(int(table["hotspot"].max()) if len(table) else 0, bool)
    by_number[table["hotspot"].to_numpy(int) - 1] = looked.to_numpy(bool)
    return by_number


def _agreement(
    one: PetResult,
    two: PetResult,
    matches: pd.DataFrame,
    known: tuple[tuple[Bools, Bools], dict[int, BoneMotion] | None],
) -> dict[str, Any]:
    """The row of two tracers. What lies where one of them did not look enters no figure of agreement."""
    looked, motions = known
    relation = matches["relation"]
    row: dict[str, Any] = {"tracer_1": one.tracer, "tracer_2": two.tracer}
    row |= {name: int((relation == name).sum()) for name in ("matched", "split", "merged")}
    shared = ~relation.isin(["first only", "second only"])
    for n, pet, word in ((1, one, "first"), (2, two, "second")):
        spots = pet.hotspot_table
        in_both = spots["hotspot"].isin(matches.loc[shared, f"hotspot_{n}"].dropna().astype(int))
        alone = matches[relation == f"{word} only"]
        judged = alone["seen_by_other"].fillna(False).to_numpy(bool)
        row |= {f"hotspots_{n}": len(spots), f"both_{n}": int(in_both.sum())}
        row |= {f"both_ml_{n}": float(spots.loc[in_both, "volume_ml"].sum())}
        row |= {f"{word}_only": int(judged.sum()), f"{word}_unseen": int((~judged).sum())}
        flags = spots.set_index("hotspot")["flags"] if "flags" in spots else pd.Series(dtype=object)
        row[f"{word}_only_flagged"] = int(flags.reindex(alone.loc[judged, f"hotspot_{n}"]).notna().sum())
        volume = alone[f"volume_ml_{n}"].to_numpy(float)
        row |= {f"{word}_only_ml": volume[judged].sum(), f"{word}_unseen_ml": volume[~judged].sum()}
    row |= _bones_agree(one, two)
    shared_ml, first_ml, second_ml = shared_volumes(one.hotspots, two.hotspots, two.hotspot_table, motions)
    # A hotspot with a partner was seen by the other, whatever its bone is called there.
    kept = [
        at | np.isin(np.arange(1, len(at) + 1), matches.loc[shared, f"hotspot_{n}"].dropna().astype(int))
        for n, at in enumerate(looked, start=1)
    ]
    row["dice"] = dice(
        float(shared_ml[np.ix_(*kept)].sum()), float(first_ml[kept[0]].sum()), float(second_ml[kept[1]].sum())
    )
    pairs = matches[relation == "matched"]
    row["suv_max_pairs"] = len(pairs)
    row["suv_max_rho"] = rank_correlation(
        pairs["suv_max_1"].to_numpy(float), pairs["suv_max_2"].to_numpy(float)
    )
    return row


def _bones_agree(one: PetResult, two: PetResult) -> dict[str, Any]:
    """Of the bones that both see and search: how many have a hotspot in both, one, or neither."""
    volumes = [
        pet.bone_table.set_index("id")["hotspot_volume_ml"].dropna().astype(float) for pet in (one, two)
    ]
    labels = volumes[0].index.intersection(volumes[1].index)
    hot = [(volume.loc[labels] > 0).to_numpy() for volume in volumes]
    both, first, second, neither = (
        int((a & b).sum())
        for a, b in ((hot[0], hot[1]), (hot[0], ~hot[1]), (~hot[0], hot[1]), (~hot[0], ~hot[1]))
    )
    counts = {"bones_compared": len(labels), "bones_both": both, "bones_first_only": first}
    counts |= {"bones_second_only": second, "bones_neither": neither}
    return counts | two_by_two(both, first, second, neither)
