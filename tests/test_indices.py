"""Indices as data: what they compute, and what a file of them may say."""

import numpy as np
import pytest

from conftest import HandMade
from petbone.anatomy import ALL_BONES, SKELETON_49, STANDARD_VOLUME_ML
from petbone.indices import (
    COLUMNS,
    choose_index,
    index_table,
    parse_indices,
    published_indices,
    seen_fraction,
)
from petbone.resample import occupancy

EVERYTHING = dict.fromkeys((bone.id for bone in ALL_BONES), 1.0)


def table_of(patient: HandMade, tracer="naf", seen=EVERYTHING):
    occupied = occupancy(patient.bones, patient.pet.grid)
    return index_table(published_indices(), patient.pet, occupied, seen, tracer).set_index("index")


def test_hand_made_indices(hand_made: HandMade):
    table = table_of(hand_made)
    ml = hand_made.voxel_ml
    assert table.value["PET15"] == pytest.approx(100 * 100 / 3300, rel=1e-6)
    assert table.numerator_ml["PET15"] == pytest.approx(100 * ml)
    assert table.denominator_ml["PET15"] == pytest.approx(3300 * ml)
    assert table.value["FTV10"] == pytest.approx(150 * ml)
    assert table.value["TLF10"] == pytest.approx((100 * 20 + 50 * 12) * ml)
    assert table.value["skeletal_suv_max"] == 20
    assert table.value["skeletal_suv_mean"] == pytest.approx((100 * 20 + 50 * 12 + 3150 * 5) / 3300)
    # 50 % of 20 is 10: the same 100 voxels. SUV 3: all of the bone.
    assert table.value["FTV50"] == pytest.approx(100 * ml)
    assert table.value["SUV3"] == pytest.approx(3300 * ml)


def test_a_threshold_of_nothing_finds_all_of_the_bone(hand_made: HandMade):
    own = parse_indices('[[index]]\nname="all"\nstatistic="volume_percent"\nthreshold=0.0', "x")
    occupied = occupancy(hand_made.bones, hand_made.pet.grid)
    table = index_table(own, hand_made.pet, occupied, EVERYTHING, "naf")
    assert table.value[0] == pytest.approx(100.0, abs=1e-9)


def test_a_skeleton_that_was_not_seen_has_no_index(hand_made: HandMade):
    nothing = hand_made.bones.with_data(np.zeros_like(hand_made.bones.data))
    occupied = occupancy(nothing, hand_made.pet.grid)
    table = index_table(published_indices(), hand_made.pet, occupied, {}, "naf")
    assert table.value.isna().all()
    assert table.denominator_ml.isna().all()
    assert (table.denominator_seen_fraction == 0).all()


def test_seen_fraction_weighs_bones_by_their_size():
    seen = dict.fromkeys(SKELETON_49, 1.0) | {49: 0.5}
    whole = sum(STANDARD_VOLUME_ML[label] for label in SKELETON_49)
    assert seen_fraction(SKELETON_49, seen) == pytest.approx(1 - 0.5 * STANDARD_VOLUME_ML[49] / whole)


def test_every_published_index_says_what_it_is():
    for index in published_indices():
        assert index.unit
        assert index.rule is None or index.rule.bones == index.labels
        assert index.reference or index.rule is None


def test_an_index_of_another_tracer_says_so(hand_made: HandMade):
    table = table_of(hand_made, tracer="choline")
    assert table.note["PET15"].startswith("Defined for naf, not for choline.")
    assert not table.note["A50"].startswith("Defined for")
    assert list(table.reset_index().columns) == COLUMNS


def test_the_index_that_lists_hotspots():
    indices = published_indices()
    assert choose_index(indices, "naf", None)[0].name == "PET15"
    assert choose_index(indices, "naf", "FTV10")[0].name == "FTV10"
    chosen, remark = choose_index(indices, "fdg", None)
    assert chosen.name == "SUV3"
    assert "fdg" in remark
    with pytest.raises(ValueError, match="SUV3 has no hotspot rule"):
        choose_index(parse_indices('[[index]]\nname="SUV3"\nstatistic="suv_max"', "x"), "fdg", None)
    for name in ("nothing", "skeletal_suv_max"):
        with pytest.raises(ValueError, match="no index"):
            choose_index(indices, "naf", name)


def test_bones_by_name():
    (index,) = parse_indices('[[index]]\nname="a"\nstatistic="suv_max"\nbones=["T7","L3"]', "x")
    assert index.labels == (7, 15)
    assert index.rule is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[index", "not TOML"),
        ("index = [1, 2]", "expected"),
        ('[[index]]\nname="a"\nstatistic="suv_max"\nbones=[["T1"]]', "bones"),
        ('[[index]]\nname="a"\nstatistic="suv_mean"\nthreshold=3', "leave it out"),
        ("a = 1", "expected"),
        ("", "expected"),
        ('[[index]]\nstatistic="suv_max"', "no name"),
        ('[[index]]\nname="a"\nstatistic="suv_max"\nthreshhold=3', "unknown threshhold"),
        ('[[index]]\nname="a"\nstatistic="suv_mode"', "statistic"),
        ('[[index]]\nname="a"', "statistic"),
        ('[[index]]\nname="a"\nstatistic="volume_ml"', "needs a threshold"),
        ('[[index]]\nname="a"\nstatistic="volume_ml"\nthreshold="hot"', "could not convert"),
        ('[[index]]\nname="a"\nstatistic="volume_ml"\nthreshold=3\nconnectivity=7', "connectivity"),
        ('[[index]]\nname="a"\nstatistic="suv_max"\nbones=["T99"]', "bones"),
        (
            '[[index]]\nname="a"\nstatistic="suv_max"\n[[index]]\nname="a"\nstatistic="suv_max"',
            "name of its own",
        ),
    ],
)
def test_a_file_of_indices_is_refused_with_its_name(text, said):
    with pytest.raises(ValueError, match=said) as refusal:
        parse_indices(text, "mine.toml")
    assert str(refusal.value).startswith("mine.toml")
