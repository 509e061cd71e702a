"""Humerus or scapula, on shoulders of which every voxel is known."""

from __future__ import annotations

import numpy as np
import pytest

from petbone.anatomy import BY_NAME
from petbone.components import label_boxes
from petbone.net.shoulder import ShoulderRule, name_heads

STEP_MM = 4.0
SPACING_MM = np.full(3, STEP_MM)
SIDES = ("left", "right")


def with_heads(labels, spacing_mm=SPACING_MM):
    out = labels.copy()
    name_heads(out, label_boxes(out), spacing_mm, ShoulderRule())
    return out


def shoulder(side="left", radius_mm=23.0, marrow=True, axes=(0, 1, 2)):
    """Truth and the net's names: a blade, a ball beside it, and a shaft from there upwards; the net takes the
    ball and the first third of the shaft for scapula."""
    scapula, humerus = BY_NAME[f"scapula_{side}"].id, BY_NAME[f"humerus_{side}"].id
    x, y, z = np.meshgrid(*[np.arange(n) * STEP_MM for n in (40, 30, 50)], indexing="ij")
    ball = np.sqrt((x - 100) ** 2 + (y - 60) ** 2 + (z - 60) ** 2)
    shaft = np.hypot(x - 100, y - 60)
    head = (ball < radius_mm) & (marrow | (ball > radius_mm - 6))
    arm = (shaft < 11) & (z > 60) & (z < 180) & (ball > radius_mm)
    blade = (np.abs(y - 60) < 5) & (x < 100 - radius_mm - 4) & (x > 20) & (z < 100) & (ball > radius_mm)
    neck = (np.hypot(y - 60, z - 60) < 9) & (x < 80) & (x > 60) & (ball > radius_mm)
    truth = np.where(head | arm, humerus, np.where(blade | neck, scapula, 0)).astype(np.uint8)
    said = np.where(head | (arm & (z < 110)), scapula, truth).astype(np.uint8)
    return truth.transpose(axes), said.transpose(axes)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("marrow", [True, False])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_ball_is_humerus_and_so_is_what_hangs_on_it(side, marrow, axes):
    truth, said = shoulder(side, marrow=marrow, axes=axes)
    named = with_heads(said)
    bone = truth > 0
    assert np.mean(said[bone] == truth[bone]) < 0.9
    assert np.mean(named[bone] == truth[bone]) > 0.97
    filled, _ = shoulder(side, axes=axes)
    assert np.mean(named[filled > 0] == filled[filled > 0]) > 0.97
    assert not named[filled == 0].any()


@pytest.mark.parametrize("cut", [0.0, 1.0])
def test_a_head_that_the_field_cuts_is_a_head(cut):
    """Where the field ends the ball goes on; in air it would end, and be too flat."""
    truth, said = shoulder()
    half = (slice(None), slice(None), slice(15, None))  # a little less than a half of the ball, and the shaft
    truth, said = truth[half], said[half]
    if cut:
        truth, said = (np.pad(part, ((0, 0), (0, 0), (4, 0))) for part in (truth, said))
    named = with_heads(said)
    right = np.mean(named[truth > 0] == truth[truth > 0])
    assert right > 0.97 if not cut else right < 0.9


def test_thin_slices_and_thick_ones_show_the_same_ball():
    truth, said = shoulder()
    fine = [np.repeat(np.repeat(part, 4, axis=0), 4, axis=1) for part in (truth, said)]
    named = with_heads(fine[1], SPACING_MM / [4, 4, 1])
    assert np.mean(named[fine[0] > 0] == fine[0][fine[0] > 0]) > 0.97


def test_nothing_changes_where_the_ball_is_too_small():
    _, said = shoulder(radius_mm=13.0)
    assert np.array_equal(with_heads(said), said)


def test_what_was_right_stays_and_other_bones_too():
    truth, _ = shoulder()
    truth[:3] = BY_NAME["rib_left_5"].id
    assert np.mean(with_heads(truth) == truth) > 0.999


def test_sides_do_not_mix():
    left, said = shoulder("left")
    right, said_right = shoulder("right")
    both = np.concatenate([said, said_right[::-1]])
    named = with_heads(both)
    truth = np.concatenate([left, right[::-1]])
    assert np.mean(named[truth > 0] == truth[truth > 0]) > 0.97


def test_no_bone_is_no_shoulder():
    empty = np.zeros((6, 5, 4), np.uint8)
    assert not with_heads(empty).any()
