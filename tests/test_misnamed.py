"""A column that one date names a level off: what seems gone and new is said to be perhaps one focus."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from motion_fixtures import Days, bent_days, moved, moved_days
from petbone.anatomy import BY_NAME
from petbone.bone_motion import BoneMotion, bone_motions
from petbone.misnamed import column_note, perhaps_same
from petbone.places import middles_mm
from petbone.volume import Grid, Unit, Volume

COLUMN = [*(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6))]
Motions = dict[int, BoneMotion]


def a_level_off(bones: Volume) -> Volume:
    """T2 to L5 become T1 to L4, T1 the neck; the ribs stay."""
    lookup = np.arange(256)
    lookup[BY_NAME["T1"].id] = BY_NAME["C7"].id
    lookup[BY_NAME["C7"].id] = 0
    for upper, lower in zip(COLUMN, COLUMN[1:], strict=False):
        lookup[BY_NAME[lower].id] = BY_NAME[upper].id
    return bones.with_data(lookup[bones.data].astype(np.uint8))


@cache
def found(seed: int, misnamed: bool) -> tuple[Days, Motions]:
    days = moved_days(seed)
    return days, bone_motions(days.first, a_level_off(days.second) if misnamed else days.second)


def spheres(grid: Grid, middles: list[np.ndarray]) -> Volume:
    """Hotspots 1, 2, ... of 8 mm radius about these places."""
    data = np.zeros(grid.shape, np.uint16)
    for n, mm in enumerate(middles, 1):
        at = np.rint(grid.ijk(mm[None]))[0].astype(int)
        box = tuple(slice(max(i - 5, 0), i + 6) for i in at)
        ijk = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), axis=-1)
        near = np.linalg.norm(grid.mm(ijk.reshape(-1, 3)) - mm, axis=1).reshape(ijk.shape[:3]) <= 8
        data[box][near] = n
    return Volume(data, grid, Unit.LABEL)


def test_a_column_a_level_off_is_noticed() -> None:
    days, motions = found(0, True)
    note = column_note(motions, middles_mm(days.first))
    assert note.startswith("THE VERTEBRAE WENT 2")  # a level is 20 to 30 mm
    assert "a level off" in note


@pytest.mark.parametrize("seed", [0, 1])
def test_a_column_named_rightly_is_not(seed: int) -> None:
    days, motions = found(seed, False)
    assert column_note(motions, middles_mm(days.first)) == ""


def test_nor_is_one_that_is_bent_otherwise() -> None:
    days = bent_days(0)
    assert column_note(bone_motions(days.first, days.second), middles_mm(days.first)) == ""


def test_too_few_levels_tell_nothing() -> None:
    days, motions = found(0, True)
    few = {n: m for n, m in motions.items() if n in (BY_NAME["T5"].id, BY_NAME["rib_left_5"].id)}
    assert column_note(few, middles_mm(days.first)) == ""


def test_one_focus_under_two_names() -> None:
    """T8 and L1 of the first day lie where they are by ribs and hips; by T8's own name a level away."""
    days, motions = found(0, True)
    middles = middles_mm(days.first)
    places = [middles[BY_NAME[name].id] for name in ("T8", "T4")]
    there = [moved(mm, days.truth[BY_NAME["T8"].id]) for mm in places]
    far = middles[BY_NAME["hip_left"].id]
    first = spheres(days.first.grid, [*places, far])
    second = spheres(days.second.grid, there[::-1])
    assert perhaps_same((first, second), ([1, 2, 3], [1, 2]), motions, middles) == [(1, 2), (2, 1)]
    assert perhaps_same((first, second), ([1, 3], [1]), motions, middles) == []
    assert perhaps_same((first, second), ([], [1, 2]), motions, middles) == []
    assert perhaps_same((first, second), ([1], []), motions, middles) == []
