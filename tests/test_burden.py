"""The tables: arithmetic on the hand-made patient; absent, cut and zero are different answers."""

import numpy as np
import pytest

from conftest import HandMade, affine
from petbone.burden import (
    BONE_COLUMNS,
    DEFINITIONS,
    HOTSPOT_COLUMNS,
    bone_table,
    hotspot_hu,
    hotspot_table,
    weighted_median,
)
from petbone.completeness import border_sides, what_was_seen
from petbone.hotspots import HotspotRule, find_hotspots
from petbone.resample import occupancy
from petbone.volume import Grid, Unit, Volume

RULE = HotspotRule("x", 10.0)


def tables(patient: HandMade, confidence=None):
    occupied = occupancy(patient.bones, patient.pet.grid)
    hotspots = find_hotspots(patient.pet, occupied, RULE)
    seen = what_was_seen(patient.bones, occupied)
    bones = bone_table(patient.pet, occupied, hotspots, seen, RULE.bones, confidence)
    return bones.set_index("name"), hotspot_table(patient.pet, occupied, hotspots, RULE.bones, confidence)


def test_bones_of_the_hand_made_patient(hand_made: HandMade):
    bones, _ = tables(hand_made)
    ml = hand_made.voxel_ml
    t7 = bones.loc["T7"]
    assert t7.status == "complete"
    assert t7.seen_fraction == 1
    assert t7.volume_ml == pytest.approx(1000 * ml)
    assert t7.pet_volume_ml == pytest.approx(1000 * ml)
    assert t7.suv_mean == pytest.approx(6.5)
    assert t7.suv_sd == pytest.approx(np.sqrt(0.9 * 1.5**2 + 0.1 * 13.5**2))
    assert t7.suv_median == 5
    assert t7.suv_max == 20
    assert t7.hotspot_count == 1
    assert t7.hotspot_volume_ml == pytest.approx(100 * ml)
    assert t7.hotspot_fraction == pytest.approx(0.1)
    assert t7.hotspot_tlu_g == pytest.approx(2000 * ml)
    assert bones.loc["sacrum"].hotspot_count == 0
    assert bones.loc["sacrum"].hotspot_volume_ml == 0


def test_absent_cut_and_zero_differ(hand_made: HandMade):
    bones, _ = tables(hand_made, confidence={7: 0.9})
    assert len(bones) == 62
    absent = bones.loc["femur_left"]
    assert absent.status == "absent"
    assert absent[BONE_COLUMNS[5:]].drop(["cut_by"]).isna().all()
    rib = bones.loc["rib_left_7"]
    assert rib.status == "cut"
    assert 0 < rib.seen_fraction <= 1
    assert rib.volume_ml == pytest.approx(300 * hand_made.voxel_ml)
    assert bones.loc["T7"].name_confidence == 0.9
    assert (bones.status == "complete").sum() == 3


def test_a_bone_that_reaches_out_of_the_pet_is_cut(hand_made: HandMade):
    pet = hand_made.pet.cropped((slice(7, 40), slice(None), slice(None)))
    occupied = occupancy(hand_made.bones, pet.grid)
    seen = what_was_seen(hand_made.bones, occupied)
    assert seen[7].status == "cut"
    assert seen[7].cut_by == "pet"
    assert seen[7].fraction == pytest.approx(0.5)
    assert seen[7].volume_ml == pytest.approx(80)
    assert seen[15].status == "complete"


def test_a_bone_wholly_outside_the_pet_has_no_uptake(hand_made: HandMade):
    pet = hand_made.pet.cropped((slice(13, 40), slice(None), slice(None)))
    occupied = occupancy(hand_made.bones, pet.grid)
    hotspots = find_hotspots(pet, occupied, RULE)
    bones = bone_table(
        pet, occupied, hotspots, what_was_seen(hand_made.bones, occupied), RULE.bones
    ).set_index("name")
    assert bones.loc["T7"].status == "cut"
    assert bones.loc["T7"].seen_fraction == 0
    assert bones.loc["T7"].volume_ml == pytest.approx(80)
    assert bones.loc["T7", ["pet_volume_ml", "suv_mean", "suv_max", "hotspot_volume_ml"]].isna().all()


def test_hotspots_of_the_hand_made_patient(hand_made: HandMade):
    _, spots = tables(hand_made, confidence={7: 0.9, 15: 0.8})
    ml = hand_made.voxel_ml
    assert list(spots.columns) == HOTSPOT_COLUMNS
    assert spots.bone.tolist() == ["T7", "L3"]
    assert spots.suv_max.tolist() == [20, 12]
    assert spots.suv_mean.tolist() == pytest.approx([20, 12])
    assert spots.volume_ml.tolist() == pytest.approx([100 * ml, 50 * ml])
    assert spots.tlu_g.tolist() == pytest.approx([2000 * ml, 600 * ml])
    assert spots.bone_share.tolist() == [1, 1]
    assert spots.name_confidence.tolist() == [0.9, 0.8]
    at = hand_made.pet.grid.ijk(spots.loc[0, ["x_mm", "y_mm", "z_mm"]].to_numpy(dtype=float))
    assert hand_made.pet.data[tuple(np.rint(at).astype(int))] == 20
    # The block of 20 is wider than the sphere at its middle; SUVpeak there is 20.
    assert spots.suv_peak[0] == pytest.approx(20)
    assert spots.suv_peak[0] >= spots.suv_peak_local[0] > 5


def test_peaks_of_a_focus_smaller_than_the_sphere():
    suv = np.ones((9, 9, 9), np.float32)
    suv[4, 4, 4] = 28
    grid = Grid(suv.shape, np.diag([4.0, 4.0, 4.0, 1]))
    labels = Volume(np.full(suv.shape, 7, np.uint8), grid, Unit.LABEL)
    image, occupied = Volume(suv, grid, Unit.SUV), occupancy(labels, grid)
    spots = hotspot_table(image, occupied, find_hotspots(image, occupied, RULE), RULE.bones)
    # Centres within 6.2 mm: the voxel, 6 faces (4 mm) and 12 edges (5.66 mm): (28 + 18) / 19.
    assert spots.suv_peak[0] == pytest.approx(46 / 19)
    assert spots.suv_peak_local[0] == pytest.approx(46 / 19)
    assert spots.suv_peak_eanm[0] == pytest.approx(46 / 19)


def test_a_hotspot_across_two_bones_belongs_to_the_larger_share():
    labels = np.zeros((1, 1, 6), np.uint8)
    labels[..., :4], labels[..., 4:] = 16, 17
    grid = Grid(labels.shape, np.diag([10.0, 10.0, 10.0, 1]))
    suv = Volume(np.array([[[1, 20, 20, 20, 20, 1]]], np.float32), grid, Unit.SUV)
    occupied = occupancy(Volume(labels, grid, Unit.LABEL), grid)
    hotspots = find_hotspots(suv, occupied, RULE)
    spots = hotspot_table(suv, occupied, hotspots, RULE.bones)
    assert spots.bone.tolist() == ["L4"]
    assert spots.bone_share.tolist() == [0.75]
    assert spots.other_bones.tolist() == ["L5:0.25"]
    seen = what_was_seen(Volume(labels, grid, Unit.LABEL), occupied)
    bones = bone_table(suv, occupied, hotspots, seen, RULE.bones).set_index("name")
    assert bones.hotspot_count[["L4", "L5"]].tolist() == [1, 0]
    assert bones.hotspot_volume_ml[["L4", "L5"]].tolist() == pytest.approx([3.0, 1.0])


def test_no_hotspots_is_an_empty_table(hand_made: HandMade):
    occupied = occupancy(hand_made.bones, hand_made.pet.grid)
    none = find_hotspots(hand_made.pet, occupied, HotspotRule("x", 99.0))
    spots = hotspot_table(hand_made.pet, occupied, none, RULE.bones)
    assert len(spots) == 0
    assert list(spots.columns) == HOTSPOT_COLUMNS


def test_mean_hu_of_a_hotspot(hand_made: HandMade):
    occupied = occupancy(hand_made.bones, hand_made.pet.grid)
    hotspots = find_hotspots(hand_made.pet, occupied, RULE)
    hu = np.full(hand_made.bones.grid.shape, -50, np.int16)
    hu[8:18, 6:16, 6:14] = 700  # exactly the fine voxels of the hotspot of T7
    hu[32:42, 6:16, 6:8] = 300  # half of the hotspot of L3
    ct = Volume(hu, hand_made.bones.grid, Unit.HU)
    assert hotspot_hu(ct, hand_made.bones, hotspots, RULE.bones) == {1: 700.0, 2: 125.0}
    with pytest.raises(ValueError, match="different grids"):
        hotspot_hu(ct.cropped((slice(4), slice(4), slice(4))), hand_made.bones, hotspots, RULE.bones)


def test_sides_are_named_by_the_patient(axes):
    # A bone at every face of the map; the names follow the world, not the array.
    data = np.zeros((7, 7, 7), np.uint8)
    grid = Grid(data.shape, affine(axes, (1, 1, 1), (0, 0, 0)))
    middle = grid.mm([3, 3, 3])
    wanted = {}
    for label, (name, way) in enumerate(
        {"left": (-1, 0, 0), "right": (1, 0, 0), "posterior": (0, -1, 0), "anterior": (0, 1, 0),
         "inferior": (0, 0, -1), "superior": (0, 0, 1)}.items(), start=1):  # fmt: skip
        at = np.rint(grid.ijk(middle + 3 * np.array(way))).astype(int)
        at[np.abs(at - 3).argmax()] = 0 if at[np.abs(at - 3).argmax()] < 3 else 6
        data[tuple(at)] = label
        wanted[label] = (name,)
    assert border_sides(Volume(data, grid, Unit.LABEL)) == wanted


def test_the_weighted_median_is_numpys_when_weights_are_equal():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 8, 101):
        value = rng.integers(0, 9, n).astype(float)
        assert weighted_median(value, np.full(n, 0.3)) == np.median(value)
    assert weighted_median(np.array([1.0, 2.0, 9.0]), np.array([0.2, 0.2, 0.7])) == 9


def test_every_measured_column_is_defined():
    plain = {"id", "name", "side", "group", "hotspot", "bone", "y_mm", "z_mm", "shift_uncertainty_mm"}
    assert set(BONE_COLUMNS) | set(HOTSPOT_COLUMNS) == set(DEFINITIONS) | plain


def test_bones_that_the_rule_does_not_search_have_no_hotspot_columns():
    labels = np.array([[[7, 61]]], np.uint8)
    grid = Grid(labels.shape, np.diag([10.0, 10.0, 10.0, 1]))
    suv = Volume(np.array([[[20, 30]]], np.float32), grid, Unit.SUV)
    occupied = occupancy(Volume(labels, grid, Unit.LABEL), grid)
    hotspots = find_hotspots(suv, occupied, RULE)
    seen = what_was_seen(Volume(labels, grid, Unit.LABEL), occupied)
    bones = bone_table(suv, occupied, hotspots, seen, RULE.bones).set_index("name")
    assert bones.hotspot_count["T7"] == 1
    assert bones.loc["femur_left", ["hotspot_count", "hotspot_volume_ml", "hotspot_fraction"]].isna().all()
    assert bones.suv_max["femur_left"] == 30


def test_a_bone_that_was_not_searched_owns_no_hotspot():
    # A PET voxel of 0.4 hip bone and 0.6 femur: the hip alone is searched.
    labels = np.zeros((1, 1, 10), np.uint8)
    labels[..., :4], labels[..., 4:] = 47, 61
    fine = Volume(labels, Grid(labels.shape, np.eye(4)), Unit.LABEL)
    matrix = np.diag([1.0, 1.0, 10.0, 1])
    matrix[2, 3] = 4.5
    suv = Volume(np.full((1, 1, 1), 20, np.float32), Grid((1, 1, 1), matrix), Unit.SUV)
    occupied = occupancy(fine, suv.grid)
    spots = hotspot_table(suv, occupied, find_hotspots(suv, occupied, RULE), RULE.bones)
    assert spots.bone.tolist() == ["hip_left"]
    assert spots.bone_share.tolist() == [1.0]
    assert spots.volume_ml.tolist() == pytest.approx([0.004])


def test_fragments_do_not_shrink_the_skeleton_that_a_cut_bone_is_compared_with():
    # Three specks called complete, and half a femur at the border: the femur is judged by a real skeleton.
    grid = Grid((40, 40, 40), np.diag([5.0, 5.0, 5.0, 1]))
    labels = np.zeros(grid.shape, np.uint8)
    for n, label in enumerate((7, 15, 49)):
        labels[5 + 5 * n, 5, 5] = label
    labels[10:20, 10:20, :20] = 61  # 250 mL of 500
    seen = what_was_seen(Volume(labels, grid, Unit.LABEL), None)
    assert seen[61].status == "cut"
    assert seen[61].fraction == pytest.approx(250 / (0.6 * 500))
