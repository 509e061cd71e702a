"""One patient at two dates: hotspots matched, what has changed, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone import change
from petbone.bone_motion import BoneMotion, bone_motions
from petbone.case import CaseResult, PetResult
from petbone.change import Side
from petbone.change_words import differences, remarks
from petbone.hotspots import HotspotRule
from petbone.matching import match_hotspots
from petbone.misnamed import column_note, noted, perhaps_same
from petbone.places import OtherDate, look_up, middles_mm
from petbone.repeatability import Limits
from petbone.steps import Steps

NO_COMMON_BONE = "the two dates have no bone in common, so nothing tells where the one lies in the other"


@dataclass(frozen=True, eq=False)
class TracerChanges:
    """What has changed in one tracer: the two PETs and the tables of `petbone.change`."""

    tracer: str
    first: PetResult
    second: PetResult
    hotspots: pd.DataFrame
    bones: pd.DataFrame
    indices: pd.DataFrame  # all hotspots together, then the indices
    limits: Limits | None
    remarks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two dates of one patient."""

    first: CaseResult
    second: CaseResult
    motions: pd.DataFrame
    tracers: tuple[TracerChanges, ...]
    warnings: tuple[str, ...]


def compare_cases(
    first: CaseResult, second: CaseResult, limits: Mapping[str, Limits], steps: Steps
) -> Comparison:
    """Compare the tracers that both dates have; `limits` by tracer.

    Raises ValueError when no tracer or no bone is common, or when the hotspots of a tracer are by different
    rules.
    """
    pairs = [(one, two) for one in first.pets for two in second.pets if one.tracer == two.tracer]
    if not pairs:
        raise ValueError("the two dates have no tracer in common")
    for one, two in pairs:
        other = rule_differences(one.facts["rule"], two.facts["rule"])
        if other:
            raise ValueError(f"hotspots of {one.tracer} by different rules: {', '.join(other)}")
    with steps("motions of the bones"):
        motions = bone_motions(first.bones, second.bones)
        if not motions:
            raise ValueError(NO_COMMON_BONE)
        middles = middles_mm(first.bones)
        moved = change.motion_table(motions, middles)
    with steps("compare"):
        tracers = tuple(
            _compare_pets((first, one), (second, two), (motions, middles), limits.get(one.tracer))
            for one, two in pairs
        )
    column = column_note(motions, middles)
    warnings = [*([column] if column else []), *differences(first, second, pairs)]
    return Comparison(first, second, moved, tracers, tuple(warnings))


def _compare_pets(
    first: tuple[CaseResult, PetResult],
    second: tuple[CaseResult, PetResult],
    moved: tuple[dict[int, BoneMotion], dict[int, npt.NDArray[np.float64]]],
    limits: Limits | None,
) -> TracerChanges:
    """`moved`: the motions of the bones, and their middles at the first date."""
    (first_case, one), (second_case, two), (motions, middles) = first, second, moved
    forward = {label: motion.second_mm_from_first_mm for label, motion in motions.items()}
    back = {label: np.linalg.inv(matrix).astype(np.float64) for label, matrix in forward.items()}
    near = frozenset(label for label, motion in motions.items() if motion.near)
    into_second = OtherDate(two.suv, second_case.bones, _seen(two), forward, near)
    into_first = OtherDate(one.suv, first_case.bones, _seen(one), back, near)
    before = Side(one.hotspot_table, look_up(one.hotspots, one.hotspot_table, into_second))
    after = Side(two.hotspot_table, look_up(two.hotspots, two.hotspot_table, into_first))
    matches = match_hotspots(one.hotspots, two.hotspots, one.hotspot_table, two.hotspot_table, motions)
    hotspots = change.hotspot_changes(matches, before, after, limits)
    alone = [
        hotspots.loc[hotspots["relation"] == f"{word} only", f"hotspot_{n}"].astype(int).tolist()
        for n, word in ((1, "first"), (2, "second"))
    ]
    same = perhaps_same((one.hotspots, two.hotspots), (alone[0], alone[1]), motions, middles)
    hotspots = noted(hotspots, same)
    totals = change.total_changes(hotspots, before, after, limits)
    indices = change.index_changes(one.index_table, two.index_table, limits)
    rows = [*totals.to_dict("records"), *indices.to_dict("records")]
    return TracerChanges(
        tracer=one.tracer,
        first=one,
        second=two,
        hotspots=hotspots,
        bones=change.bone_changes(one.bone_table, two.bone_table),
        indices=pd.DataFrame(rows, columns=change.INDEX_COLUMNS),
        limits=limits,
        remarks=tuple(remarks(one.tracer, hotspots, limits, one.facts["rule"])),
    )


def _seen(pet: PetResult) -> frozenset[int]:
    """Labels of the bones that a PET saw something of."""
    table = pet.bone_table
    return frozenset(table.loc[table["pet_volume_ml"].fillna(0) > 0, "id"].astype(int))


_WORDS_OF_RULE = ("reference", "note")


def rule_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What differs between two rules of hotspots (facts of a PET), as ``threshold 15 and 10``.

    A threshold that follows the patient's own bone, liver or muscle may differ where its multiple does not;
    of the region that was read in the tissue only the tissue must be the same. A key that one rule lacks,
    being older, has its default.
    """
    usual = {f.name: None if f.default is MISSING else f.default for f in fields(HotspotRule)}
    first, second = _with_tissue(first), _with_tissue(second)
    relative = [key for key in first if key.startswith("multiple_of_")]
    said = []
    for key in dict.fromkeys([*first, *second]):
        one, two = (rule.get(key, usual.get(key)) for rule in (first, second))
        follows = key == "threshold" and relative and all(first[k] == second.get(k) for k in relative)
        if one != two and key not in _WORDS_OF_RULE and not follows:
            said.append(f"{key} {_word(one)} and {_word(two)}")
    return said


def _with_tissue(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule with the tissue in the place of the region read in it, whose place and mean are the day's."""
    kept = {key: value for key, value in rule.items() if key != "reference_region"}
    region = rule.get("reference_region")
    return kept | ({"tissue": region.get("tissue")} if isinstance(region, Mapping) else {})


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
