"""One table of bones; its codes against those of two other tools."""

import csv
from itertools import permutations

import pytest

from petbone.anatomy import (
    ALL_BONES,
    BONES,
    BY_ID,
    BY_NAME,
    SKELETON_49,
    STANDARD_VOLUME_ML,
    colour,
    known_place,
    spoken,
    spoken_short,
    unsure_name,
)


def test_the_contract_of_labels():
    assert [bone.id for bone in ALL_BONES] == list(range(1, 67))
    assert len(BONES) == 62
    expected = {
        1: "T1",
        12: "T12",
        13: "L1",
        17: "L5",
        18: "rib_left_1",
        29: "rib_left_12",
        30: "rib_right_1",
    }
    expected |= {41: "rib_right_12", 42: "sternum", 43: "clavicle_left", 46: "scapula_right", 47: "hip_left"}
    expected |= {49: "sacrum", 50: "C1", 56: "C7", 57: "skull", 58: "mandible", 59: "humerus_left"}
    expected |= {62: "femur_right", 63: "T13", 64: "L6", 65: "rib_left_13", 66: "rib_right_13"}
    assert {label: BY_ID[label].name for label in expected} == expected
    assert tuple(range(1, 50)) == SKELETON_49
    assert BY_NAME["hip_right"].side == "right"
    assert all((bone.side in bone.name.split("_")) == bool(bone.side) for bone in ALL_BONES)


def test_snomed_codes_are_those_of_totalsegmentator(shared):
    path = shared / "oracles/wasserth__TotalSegmentator/totalsegmentator_snomed_mapping.csv"
    with path.open() as file:
        codes = {
            row["Structure"]: row["SegmentedPropertyTypeCodeSequence.CodeValue"]
            for row in csv.DictReader(file)
        }
    names = {bone.name: bone.name for bone in BONES}
    names |= {bone.name: f"vertebrae_{bone.name}" for bone in BONES if bone.name[1:].isdigit()}
    names |= {name: name.replace("clavicle", "clavicula") for name in names if "clavicle" in name}
    compared = {name: theirs for name, theirs in names.items() if theirs in codes}
    assert len(compared) >= 60
    assert {name: BY_NAME[name].snomed for name in compared} == {n: codes[t] for n, t in compared.items()}


def test_standard_volumes_are_those_of_a_skeleton():
    # The medians of Lindgren Belal et al. 2019 (manual): T7 36, L3 75, sacrum 283, rib 7 31, sternum 72 mL.
    for name, ml in {"T7": 36, "L3": 75, "sacrum": 283, "rib_left_7": 31, "sternum": 72}.items():
        assert 0.75 < STANDARD_VOLUME_ML[BY_NAME[name].id] / ml < 1.25
    assert STANDARD_VOLUME_ML.keys() == BY_ID.keys()


def test_colours_differ_between_neighbours():
    assert len({colour(bone.id) for bone in ALL_BONES}) == 66
    for bone in ALL_BONES[1:]:
        assert sum(abs(a - b) for a, b in zip(colour(bone.id), colour(bone.id - 1), strict=True)) > 60


def labels_of(names: str) -> list[int]:
    return [BY_NAME[name].id for name in names.split()]


@pytest.mark.parametrize(
    ("candidates", "said", "short"),
    [
        ("T7", "T7", "?"),
        ("T7 T6", "T6-T7", "T6-7?"),
        ("T7 T6 T8", "T6-T8", "T6-8?"),
        ("T12 L1", "T12-L1", "T12-L1?"),
        ("C7 T1", "C7-T1", "C7-T1?"),
        ("T13 T12 L1", "T12-L1", "T12-L1?"),
        ("T13 T12", "T12-T13", "T12-13?"),
        ("T13 L1", "T13-L1", "T13-L1?"),
        ("L5 L6 L4", "L4-L6", "L4-6?"),
        ("T11 T13", "T11 or T13", "T11/T13?"),
        ("T5 T9", "T5 or T9", "T5/T9?"),
        ("T9 T5 T6", "T5-T6 or T9", "T5-6/T9?"),
        ("T2 T5 T9", "vertebra", "?"),
        ("rib_left_7", "rib_left_7", "?"),
        ("rib_left_7 rib_left_6", "rib_left 6-7", "6-7?"),
        ("rib_right_10 rib_right_12 rib_right_11", "rib_right 10-12", "10-12?"),
        ("rib_left_13 rib_left_12", "rib_left 12-13", "12-13?"),
        ("rib_left_3 rib_left_6 rib_left_5", "rib_left 3 or 5-6", "3/5-6?"),
        ("rib_right_1 rib_right_3 rib_right_7", "right rib", "?"),
        ("rib_left_7 rib_right_7", "rib_left_7 or rib_right_7", "?"),
        ("rib_left_7 rib_right_7 rib_left_8", "rib", "?"),
        ("hip_left hip_right", "hip_left or hip_right", "?"),
        ("rib_left_12 rib_right_1", "rib_left_12 or rib_right_1", "?"),
        ("T12 rib_left_1 sternum", "bone", "?"),
    ],
)
def test_what_is_known_of_a_name_is_said_and_no_more(candidates, said, short):
    for labels in permutations(labels_of(candidates)):
        assert spoken(labels) == said
        assert spoken_short(labels) == short


def test_an_unsure_name_is_never_one_name_alone():
    for bone in ALL_BONES:
        assert bone.name not in unsure_name([bone.id])
        assert unsure_name([bone.id]).endswith("unsure")
        assert bone.name not in spoken_short([bone.id])
    assert unsure_name(labels_of("T2 T5 T9")) == "vertebra, level unsure"
    assert unsure_name(labels_of("rib_right_1 rib_right_3 rib_right_7")) == "right rib, number unsure"
    assert unsure_name(labels_of("T6 T7")) == "T6-T7"
    assert unsure_name(labels_of("skull")) == "bone, name unsure"


def test_side_and_group_are_those_that_all_candidates_share():
    assert known_place(labels_of("T6 T7")) == ("", "thoracic_spine")
    assert known_place(labels_of("C7 T1")) == ("", "spine")
    assert known_place(labels_of("T6")) == ("", "spine")
    assert known_place(labels_of("rib_left_3")) == ("left", "ribs")
    assert known_place(labels_of("rib_left_3 rib_right_3")) == ("", "ribs")
    assert known_place(labels_of("hip_left hip_right")) == ("", "pelvis")
    assert known_place(labels_of("hip_left")) == ("", "")


def test_nothing_cannot_be_spoken():
    for say in (spoken, spoken_short, unsure_name):
        with pytest.raises(ValueError, match="at least one label"):
            say([])
        with pytest.raises(KeyError):
            say([67])
