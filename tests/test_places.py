"""The place of a hotspot at the other date: four frames, a moved patient, the ends of the fields."""

import numpy as np
import pandas as pd
import pytest

from conftest import HandMade, rotation
from petbone.anatomy import BY_NAME
from petbone.places import COLUMNS, OtherDate, look_up, middles_mm
from petbone.volume import Grid, Unit, Volume

LABELS = {name: BY_NAME[name].id for name in HandMade.blocks}


def hotspots_of(patient: HandMade) -> tuple[Volume, pd.DataFrame]:
    """The two foci of the hand-made patient."""
    numbers = np.select([patient.pet.data == 20, patient.pet.data == 12], [1, 2]).astype(np.uint16)
    return patient.pet.with_data(numbers, Unit.LABEL), pd.DataFrame({"hotspot": [1, 2], "bone": ["T7", "L3"]})


def still(patient: HandMade, way: np.ndarray | None = None) -> OtherDate:
    ways = dict.fromkeys(LABELS.values(), np.eye(4) if way is None else way)
    return OtherDate(patient.pet, patient.bones, frozenset(LABELS.values()), ways)


def test_at_its_own_place(hand_made: HandMade):
    found = look_up(*hotspots_of(hand_made), still(hand_made))
    assert list(found.columns) == list(COLUMNS)
    assert found.bone_there.tolist() == [True, True]
    assert found.seen_there.tolist() == [1, 1]
    assert found.suv_max_there.tolist() == [20, 12]


def test_a_patient_who_lies_elsewhere(hand_made: HandMade):
    """Moved and turned with its grids, the other date has the same at the same places."""
    way = np.eye(4)
    way[:3, :3] = rotation(25)
    way[:3, 3] = (40, -90, 13)

    def moved(volume: Volume) -> Volume:
        return Volume(volume.data, Grid(volume.grid.shape, way @ volume.grid.mm_from_ijk), volume.unit)

    ways = dict.fromkeys(LABELS.values(), way)
    other = OtherDate(moved(hand_made.pet), moved(hand_made.bones), frozenset(LABELS.values()), ways)
    found = look_up(*hotspots_of(hand_made), other)
    assert found.seen_there.tolist() == [1, 1]
    assert found.suv_max_there.tolist() == [20, 12]
    # And by the wrong way it is somewhere else.
    assert (look_up(*hotspots_of(hand_made), still(hand_made, way)).suv_max_there.fillna(0) < 12).any()


def test_a_field_that_ends_in_the_hotspot(hand_made: HandMade):
    """T7's focus has voxels 4 to 8 along the first axis; a field from 7 on holds two of five."""
    box = (slice(7, None), slice(None), slice(None))
    grid = hand_made.pet.grid
    other = still(hand_made)
    cut = OtherDate(hand_made.pet.cropped(box), other.bones, other.seen, other.mm_from_own_mm)
    found = look_up(*hotspots_of(hand_made), cut)
    # The middle of the third of the five lies half a voxel beyond the field, which counts.
    slack = grid.spacing_mm.max() / 2
    assert 0.5 * grid.spacing_mm[0] <= slack
    assert found.seen_there.tolist() == pytest.approx([3 / 5, 1])
    # The bone map may end instead: at 9 and later nothing of it is there.
    fine = (slice(26, None), slice(None), slice(None))
    cut = OtherDate(other.suv, other.bones.cropped(fine), other.seen, other.mm_from_own_mm)
    found = look_up(*hotspots_of(hand_made), cut)
    assert found.seen_there.tolist() == [0, 1]
    assert np.isnan(found.suv_max_there[0])


def test_voxels_in_bone_go_before_hotter_ones_beside_it(hand_made: HandMade):
    suv = hand_made.pet.data.copy()
    suv[4:9, 3:8, 3:7] = 3
    suv[4, 3, 3] = 50
    bones = hand_made.bones.data.copy()
    bones[8:10, 6:8, 6:8] = 0  # that voxel is no bone at the other date
    other = still(hand_made)
    date = OtherDate(
        hand_made.pet.with_data(suv), other.bones.with_data(bones), other.seen, other.mm_from_own_mm
    )
    assert look_up(*hotspots_of(hand_made), date).suv_max_there.tolist() == [3, 12]
    nothing = other.bones.with_data(np.zeros_like(bones))
    date = OtherDate(hand_made.pet.with_data(suv), nothing, other.seen, other.mm_from_own_mm)
    assert look_up(*hotspots_of(hand_made), date).suv_max_there.tolist() == [50, 12]


def test_bones_that_were_not_seen_or_have_no_motion(hand_made: HandMade):
    other = still(hand_made)
    ways = {label: way for label, way in other.mm_from_own_mm.items() if label != LABELS["T7"]}
    found = look_up(
        *hotspots_of(hand_made), OtherDate(other.suv, other.bones, other.seen - {LABELS["L3"]}, ways)
    )
    assert found.bone_there.tolist() == [True, False]
    assert np.isnan(found.seen_there[0])
    assert found.seen_there[1] == 1
    empty = hand_made.pet.with_data(np.zeros(hand_made.pet.grid.shape, np.uint16), Unit.LABEL)
    assert look_up(empty, pd.DataFrame({"hotspot": [], "bone": []}), other).empty


def test_middles(hand_made: HandMade):
    found = middles_mm(hand_made.bones)
    assert set(found) == set(LABELS.values())
    for name, box in HandMade.blocks.items():
        middle = hand_made.pet.grid.mm([(box.start + box.stop - 1) / 2, 5.5, 5.5])
        np.testing.assert_allclose(found[LABELS[name]], middle, atol=1e-6)
