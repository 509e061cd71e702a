"""Hotspots on the grid of the PET: rule, connectivity, size, order."""

import numpy as np
import pytest

from conftest import HandMade
from petbone.anatomy import BY_NAME
from petbone.components import connected
from petbone.hotspots import (
    HotspotRule,
    absolute,
    bone_background,
    core,
    find_hotspots,
    left_out_ml,
    local_background,
)
from petbone.resample import Occupancy, occupancy
from petbone.volume import Grid, Unit, Volume


def case(suv, labels=None, spacing_mm=1.0):
    """SUV typed as an array on a grid of 1 mm voxels; all of it is T7 unless said otherwise."""
    suv = np.asarray(suv, np.float32)
    labels = np.full(suv.shape, 7, np.uint8) if labels is None else np.asarray(labels, np.uint8)
    grid = Grid(suv.shape, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
    return Volume(suv, grid, Unit.SUV), occupancy(Volume(labels, grid, Unit.LABEL), grid)


def test_hand_made_hotspots_hottest_first(hand_made: HandMade):
    occupied = occupancy(hand_made.bones, hand_made.pet.grid)
    found = find_hotspots(hand_made.pet, occupied, HotspotRule("10", 10.0))
    assert (found.data == 1).sum() == 100
    assert (found.data == 2).sum() == 50
    assert (hand_made.pet.data[found.data == 1] == 20).all()
    assert found.data.max() == 2
    only = find_hotspots(hand_made.pet, occupied, HotspotRule("15", 15.0))
    assert only.data.max() == 1
    assert (only.data == 1).sum() == 100


def test_threshold_by_the_patients_own_bone():
    """Twice the median: whatever the tracer's scale, and with a third of the bone diseased."""
    grid = Grid((9, 8, 8), np.diag([4.0, 4, 4, 1]))
    values = np.full(grid.shape, 3.0, np.float32)
    values[:3] = 12
    values[3, 0, 0] = 6.0  # exactly twice
    values[4, 0, 0] = 5.99
    bones = Occupancy(grid, np.full(values.size, 5, np.uint8), np.arange(values.size), np.ones(values.size))
    rule = HotspotRule("twice", 2.0, relative_to="bone")
    for scale in (1.0, 0.25):
        suv = Volume(values * np.float32(scale), grid, Unit.SUV)
        assert bone_background(suv, bones, rule.bones) == pytest.approx(3 * scale)
        found = find_hotspots(suv, bones, rule).data
        assert int((found > 0).sum()) == 3 * 64 + 1
        assert absolute(rule, suv, bones).threshold == pytest.approx(6 * scale)
    cold = Volume(values * 0, grid, Unit.SUV)
    assert not find_hotspots(cold, bones, rule).data.any()
    nothing = Occupancy(grid, np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0))
    assert bone_background(cold, nothing, rule.bones) is None
    for fields in ({"relative_to": "spleen"}, {"threshold": 0.0}):
        with pytest.raises(ValueError, match="rule x"):
            HotspotRule("x", **({"threshold": 2.0, "relative_to": "bone"} | fields))


@pytest.mark.parametrize(("operator", "count"), [(">=", 1), (">", 0)])
def test_the_voxel_exactly_at_the_threshold(operator, count):
    suv, bones = case([[[1, 15, 1]]])
    assert find_hotspots(suv, bones, HotspotRule("x", 15.0, operator)).data.max() == count


@pytest.mark.parametrize(("connectivity", "count"), [(6, 4), (18, 2), (26, 1)])
def test_voxels_that_touch_by_face_edge_or_corner(connectivity, count):
    # Steps from one hot voxel to the next: corner, edge, edge.
    suv = np.zeros((4, 4, 4))
    for at in [(0, 0, 0), (1, 1, 1), (2, 2, 1), (3, 2, 2)]:
        suv[at] = 20
    image, bones = case(suv)
    assert find_hotspots(image, bones, HotspotRule("x", 15.0, connectivity=connectivity)).data.max() == count


def test_what_is_smaller_than_the_smallest_volume_is_no_hotspot():
    suv, bones = case([[[20, 20, 0, 20]]], spacing_mm=10.0)
    assert find_hotspots(suv, bones, HotspotRule("x", 15.0, min_volume_ml=2.0)).data.tolist() == [
        [[1, 1, 0, 0]]
    ]
    assert find_hotspots(suv, bones, HotspotRule("x", 15.0, min_volume_ml=2.1)).data.max() == 0


def test_heat_outside_bone_or_outside_the_bones_of_the_rule_is_no_hotspot():
    suv, bones = case([[[20, 20, 20]]], [[[0, 7, 57]]])
    assert find_hotspots(suv, bones, HotspotRule("x", 15.0)).data.tolist() == [[[0, 1, 0]]]
    skull = HotspotRule("x", 15.0, bones=(57,))
    assert find_hotspots(suv, bones, skull).data.tolist() == [[[0, 0, 1]]]


def test_a_hot_neighbour_that_bone_hardly_touches_does_not_set_the_order():
    # Two foci: the second has a voxel of SUV 90 that is one eighth bone (a bladder beside the sacrum).
    labels = np.zeros((2, 2, 16), np.uint8)
    labels[:, :, 0:4] = 7
    labels[:, :, 8:12] = 7
    labels[0, 0, 12:14] = 7
    fine = Volume(labels, Grid(labels.shape, np.eye(4)), Unit.LABEL)
    matrix = np.diag([2.0, 2, 2, 1])
    matrix[:3, 3] = 0.5
    suv = Volume(np.array([[[20, 20, 0, 0, 16, 16, 90, 0]]], np.float32), Grid((1, 1, 8), matrix), Unit.SUV)
    found = find_hotspots(suv, occupancy(fine, suv.grid), HotspotRule("x", 15.0))
    assert found.data.tolist() == [[[1, 1, 0, 0, 2, 2, 2, 0]]]


def test_fraction_of_max_grows_below_the_seed_and_shrinks_above_it():
    suv, bones = case([[[4, 11, 16, 20, 9, 1, 1, 40, 16, 30, 15]]])
    rule = HotspotRule("x", 15.0, method="fraction_of_max", fraction=0.5)
    # 20: from 10 up, 11 16 20. 40: from 20 up; the 30 beyond the 16 belongs to the same seed and is lost.
    assert find_hotspots(suv, bones, rule).data.tolist() == [[[0, 2, 2, 2, 0, 0, 0, 1, 0, 0, 0]]]


def test_a50_threshold_lies_between_the_maximum_and_the_background():
    # A focus of SUV 12 in surroundings of 2: threshold 0.5 x (12 + 2) = 7; the voxel of 6.9 stays out.
    suv = np.full((61, 61, 61), 2.0)
    suv[30, 30, 30], suv[30, 30, 31], suv[30, 30, 32] = 12.0, 7.1, 6.9
    image, bones = case(suv)
    assert local_background(image, (30, 30, 30)) == pytest.approx(2.0)
    found = find_hotspots(image, bones, HotspotRule("x", 2.65, ">", method="a50"))
    assert np.argwhere(found.data == 1).tolist() == [[30, 30, 30], [30, 30, 31]]


def test_background_leaves_out_hot_voxels_and_is_zero_when_nothing_is_left():
    suv = np.full((61, 61, 61), 9.0, np.float32)
    suv[30, 30, 30] = 50
    assert local_background(case(suv)[0], (30, 30, 30)) == 0.0


def test_core_voxels_are_half_full_or_the_fullest():
    assert core(np.array([0.2, 0.5, 0.9])).tolist() == [False, True, True]
    assert core(np.array([0.2, 0.3, 0.3])).tolist() == [False, True, True]
    assert core(np.zeros(0)).size == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": 1, "operator": "=>"}, "operator"),
        ({"threshold": 1, "method": "magic"}, "method"),
        ({"threshold": 1, "connectivity": 8}, "connectivity"),
        ({"threshold": 1, "fraction": 0}, "fraction"),
        ({"threshold": 1, "min_volume_ml": -1}, "min_volume_ml"),
        ({"threshold": -5, "method": "fraction_of_max"}, "above 0"),
    ],
)
def test_a_rule_refuses_nonsense(options, said):
    with pytest.raises(ValueError, match=said):
        HotspotRule("x", **options)


def test_hotspots_are_refused_in_other_units_and_on_other_grids():
    suv, bones = case([[[1, 2, 3]]])
    with pytest.raises(ValueError, match="Bq/mL"):
        find_hotspots(suv.with_data(suv.data, Unit.BQ_PER_ML), bones, HotspotRule("x", 1.0))
    with pytest.raises(ValueError, match="another grid"):
        find_hotspots(suv.cropped((slice(1), slice(1), slice(2))), bones, HotspotRule("x", 1.0))


def test_more_hotspots_than_numbers_is_a_threshold_for_another_image():
    suv = np.zeros((82, 82, 82))
    suv[::2, ::2, ::2] = 20
    image, bones = case(suv)
    with pytest.raises(ValueError, match="68921 hotspots"):
        find_hotspots(image, bones, HotspotRule("x", 15.0))


def test_the_default_rule_searches_the_49_bones():
    assert BY_NAME["sacrum"].id in HotspotRule("x", 15.0).bones
    assert BY_NAME["skull"].id not in HotspotRule("x", 15.0).bones


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_line_of_voxels_can_be_labelled(axis):
    # cc3d 4.1 raises on some masks one voxel thick.
    for n in range(1, 9):
        for bits in range(1 << n):
            line = np.array([bits >> k & 1 for k in range(n)], bool)
            mask = np.moveaxis(line.reshape(1, 1, n), 2, axis)
            runs = int(line[0]) + int((line[1:] & ~line[:-1]).sum())
            assert connected(mask, 26).max(initial=0) == runs


def fringe_case(bladder_suv):
    """A sacrum whose last millimetre reaches into PET voxels of 4 mm that a bladder fills."""
    labels = np.zeros((16, 16, 32), np.uint8)
    labels[4:12, 4:12, 8:17] = 49
    fine = Volume(labels, Grid(labels.shape, np.eye(4)), Unit.LABEL)
    matrix = np.diag([4.0, 4.0, 4.0, 1.0])
    matrix[:3, 3] = 1.5
    suv = np.ones((4, 4, 8), np.float32)
    suv[1:3, 1:3, 4] = bladder_suv
    image = Volume(suv, Grid(suv.shape, matrix), Unit.SUV)
    return image, occupancy(fine, image.grid)


def test_heat_at_the_fringe_of_bone_alone_is_no_hotspot_but_is_told():
    image, bones = fringe_case(60.0)
    rule = HotspotRule("x", 15.0)
    found = find_hotspots(image, bones, rule)
    assert found.data.max() == 0
    assert left_out_ml(image, bones, rule, found) == pytest.approx(4 * 0.016)


def test_a_focus_in_bone_thinner_than_half_a_voxel_is_found():
    # A blade of 1 mm in voxels of 4 mm: no voxel is half bone, those of the blade are the fullest there are.
    labels = np.zeros((16, 32, 32), np.uint8)
    labels[6, :, :] = 45
    fine = Volume(labels, Grid(labels.shape, np.eye(4)), Unit.LABEL)
    matrix = np.diag([4.0, 4.0, 4.0, 1.0])
    matrix[:3, 3] = 1.5
    suv = np.ones((4, 8, 8), np.float32)
    suv[0:3, 3:5, 3:5] = 20
    image = Volume(suv, Grid(suv.shape, matrix), Unit.SUV)
    found = find_hotspots(image, occupancy(fine, image.grid), HotspotRule("x", 15.0))
    assert (found.data == 1).sum() == 4


def test_thirteenth_ribs_and_a_sixth_lumbar_vertebra_are_searched():
    suv, bones = case([[[1, 20, 1]]], [[[17, 64, 0]]])
    assert find_hotspots(suv, bones, HotspotRule("x", 15.0)).data.tolist() == [[[0, 1, 0]]]
