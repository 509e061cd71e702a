"""Bones of one day laid on those of another: known motions found again, and what must hold of any two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from motion_fixtures import at, bent_days, error_mm, moved, moved_days, random_rigid, rigid, targets
from petbone.anatomy import BY_NAME
from petbone.bone_motion import BoneMotion, bone_motions
from petbone.volume import Grid, Unit, Volume

HALF_A_VOXEL_MM, A_VOXEL_MM = 2.0, 4.0  # of a PET

CUTS: dict[str, dict[str, Any]] = {
    "all of it": {},
    # Ribs, scapulae and humeri, the sternum and vertebrae end in mid-bone.
    "thorax": {
        "fov_mm": ((-200, 190), (-171, 181), (-40, 420)),
        "ct_spacing_mm": (2.3, 2.3, 3.1),
        "orientation": "LPS",
    },
    "pelvis": {
        "fov_mm": ((-200, 190), (-171, 181), (-250, 120)),
        "ct_spacing_mm": (2.7, 2.2, 3.3),
        "orientation": "PIR",
    },
}


def motion_of(found: dict[int, BoneMotion], label: int) -> np.ndarray:
    return found[label].second_mm_from_first_mm


@pytest.mark.parametrize("name", CUTS)
def test_known_motions(name: str) -> None:
    """Whole, arms, head and legs moved by up to 20 degrees: 40 points of each bone that both fields hold."""
    days = moved_days(1, **CUTS[name])
    found, back = bone_motions(days.first, days.second), bone_motions(days.second, days.first)
    assert found.keys() == set(np.unique(days.first.data)) - {0}
    whole = days.truth[BY_NAME["T8"].id]
    seen = set(np.unique(days.second.data))
    checked = 0
    for label, bone in found.items():
        turn = bone.second_mm_from_first_mm[:3, :3]
        assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) > 0
        assert bone.note or bone.own
        mm = targets(days, label)
        if label not in seen or not len(mm):
            assert not bone.own
            continue
        checked += 1
        error = error_mm(days, label, bone.second_mm_from_first_mm)
        assert error.mean() < HALF_A_VOXEL_MM, label
        assert error.max() < A_VOXEL_MM, label
        assert bone.surface_after_mm <= bone.surface_before_mm
        # What moved by itself is found better than by the whole.
        astray = np.linalg.norm(moved(mm, whole) - moved(mm, days.truth[label]), axis=1)
        assert error.mean() < max(astray.mean(), 1.0)
        if bone.own and back[label].own:
            again = moved(moved(mm, bone.second_mm_from_first_mm), motion_of(back, label))
            assert np.linalg.norm(again - mm, axis=1).mean() < 1.0, label
    assert checked >= {"all of it": 62, "thorax": 40, "pelvis": 9}[name]


def test_a_bent_spine_and_arms_down() -> None:
    """No single motion fits: every bone is better than by the whole skeleton, most by far."""
    days = bent_days(0, arms_up=False)
    found = bone_motions(days.first, days.second)
    for label in days.truth:
        error = error_mm(days, label, motion_of(found, label))
        assert error.mean() < HALF_A_VOXEL_MM
        assert error.max() < A_VOXEL_MM
        assert found[label].surface_after_mm < found[label].surface_before_mm
    assert np.median([found[label].surface_before_mm for label in days.truth]) > 2
    assert max(bone.surface_after_mm for bone in found.values()) < 2


def box(
    label: int, size: tuple[int, int, int], low: tuple[int, int, int], shape: tuple[int, int, int]
) -> Volume:
    """One bone, a block of 2 mm voxels."""
    data = np.zeros(shape, np.uint8)
    data[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))] = label
    return Volume(data, Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0])), Unit.LABEL)


def test_nothing_moved() -> None:
    first = moved_days(0, fov_mm=((-200, 190), (-171, 181), (-60, 60))).second
    for bone in bone_motions(first, first).values():
        assert np.allclose(bone.second_mm_from_first_mm, np.eye(4), atol=1e-9)
        assert bone.surface_before_mm == pytest.approx(0, abs=1e-9) or np.isnan(bone.surface_before_mm)


def test_one_bone_alone() -> None:
    first = box(5, (20, 14, 9), (20, 20, 20), (60, 60, 60))
    truth = rigid((8, -5, 6), (12, -30, 7), (60, 50, 50))
    found = bone_motions(first, Volume(first.data, at(first.grid, truth), Unit.LABEL))
    assert found.keys() == {5}
    assert found[5].own
    corners = first.grid.mm([[20, 20, 20], [40, 20, 20], [20, 34, 29]])
    assert np.allclose(moved(corners, motion_of(found, 5)), moved(corners, truth), atol=0.3)


def test_orientation_of_the_arrays_does_not_matter() -> None:
    first = box(5, (20, 14, 9), (20, 20, 20), (60, 60, 60))
    second = Volume(first.data, at(first.grid, rigid((8, -5, 6), (12, -30, 7))), Unit.LABEL)
    matrix = second.grid.mm_from_ijk[:, [2, 0, 1, 3]].copy()
    matrix[:3, 3] += 59 * matrix[:3, 0]
    matrix[:, 0] *= -1
    turned = Volume(second.data.transpose(2, 0, 1)[::-1], Grid((60, 60, 60), matrix), Unit.LABEL)
    a, b = (motion_of(bone_motions(first, other), 5) for other in (second, turned))
    mm = first.grid.mm([[20, 20, 20], [40, 34, 29]])
    assert np.allclose(moved(mm, a), moved(mm, b), atol=0.05)


def test_a_shaft_does_not_spin() -> None:
    """A round bone that leaves the field at both ends tells nothing of a turn about it, nor of a slide."""
    data = np.zeros((60, 60, 80), np.uint8)
    x, y = np.meshgrid(np.arange(60), np.arange(60), indexing="ij")
    data[(x - 30) ** 2 + (y - 30) ** 2 <= 49] = BY_NAME["femur_left"].id
    first = Volume(data, Grid((60, 60, 80), np.diag([2.0, 2.0, 2.0, 1.0])), Unit.LABEL)
    second = Volume(data, at(first.grid, rigid((4, 3, 0), (5, 0, 0), (60, 60, 80))), Unit.LABEL)
    (bone,) = bone_motions(first, second).values()
    turn = bone.second_mm_from_first_mm[:3, :3]
    spin = np.degrees(np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1]))
    assert abs(spin) < 1
    axis = moved(np.array([[60.0, 60, 30], [60, 60, 80], [60, 60, 130]]), bone.second_mm_from_first_mm)
    onto = moved(axis, np.linalg.inv(rigid((4, 3, 0), (5, 0, 0), (60, 60, 80))))
    assert np.abs(onto[:, :2] - 60).max() < 0.5


def test_names_in_exchange() -> None:
    """T8 called T9 and the reverse: both go with their neighbours, and a note says why."""
    days = moved_days(2, fov_mm=((-200, 190), (-171, 181), (50, 420)))
    names = np.arange(256, dtype=np.uint8)
    eight, nine = BY_NAME["T8"].id, BY_NAME["T9"].id
    names[[eight, nine]] = nine, eight
    found = bone_motions(days.first, days.second.with_data(names[days.second.data]))
    for label in (eight, nine):
        assert not found[label].own
        assert "name may be wrong" in found[label].note
        assert error_mm(days, label, motion_of(found, label)).mean() < HALF_A_VOXEL_MM


def test_bones_of_one_day_only() -> None:
    """A bone near one that was laid goes with it; where no bone is common nothing is known."""
    first = box(5, (20, 14, 9), (20, 20, 20), (60, 60, 60))
    other = box(6, (20, 14, 9), (25, 20, 20), (60, 60, 60))
    empty = first.with_data(np.zeros_like(first.data))
    for one, two in ((first, other), (other, first), (empty, first), (first, empty)):
        assert bone_motions(one, two) == {}
    for steps, near in ((2, True), (140, False)):
        both = box(5, (20, 14, 9), (20, 20, 20), (240, 60, 60))
        data = np.array(both.data)
        data[20 + steps : 30 + steps, 40:44, 40:44] = 7
        found = bone_motions(both.with_data(data), both)
        assert found[5].near
        assert (found[7].own, found[7].near) == (False, near)
        assert "not in the second CT" in found[7].note
        assert np.isnan([found[7].surface_before_mm, found[7].surface_after_mm]).all()


def test_specks_and_a_field_that_is_all_bone() -> None:
    first = box(5, (1, 1, 1), (20, 20, 20), (60, 60, 60))
    found = bone_motions(first, Volume(first.data, at(first.grid, rigid((0, 0, 0), (4, 0, 0))), Unit.LABEL))
    assert not found[5].own
    assert np.isfinite(found[5].second_mm_from_first_mm).all()
    full = Volume(np.full((6, 6, 6), 5, np.uint8), Grid((6, 6, 6), np.eye(4)), Unit.LABEL)
    assert not bone_motions(full, full)[5].own


def test_random_motions_of_a_block() -> None:
    first = box(5, (20, 14, 9), (20, 20, 20), (60, 60, 60))
    mm = first.grid.mm([[20, 20, 20], [40, 20, 20], [20, 34, 29]])
    for seed in range(5):
        truth = random_rigid(np.random.default_rng(seed), 15, 60, (60, 50, 50))
        found = bone_motions(first, Volume(first.data, at(first.grid, truth), Unit.LABEL))
        assert np.allclose(moved(mm, motion_of(found, 5)), moved(mm, truth), atol=0.3)


def test_refuses_what_is_no_label_map() -> None:
    labels = box(5, (2, 2, 2), (1, 1, 1), (6, 6, 6))
    image = labels.with_data(labels.data.astype(np.float32), Unit.SUV)
    large = labels.with_data(labels.data.astype(np.int16) * 100)
    for wrong in (image, large, labels.with_data(-labels.data.astype(np.int16))):
        with pytest.raises(ValueError, match="expected a label map with values 0 to 255"):
            bone_motions(labels, wrong)
        with pytest.raises(ValueError, match="expected a label map with values 0 to 255"):
            bone_motions(wrong, labels)
