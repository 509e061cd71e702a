"""One table of bones; its codes against those of two other tools."""

import csv

from petbone.anatomy import ALL_BONES, BONES, BY_ID, BY_NAME, SKELETON_49, STANDARD_VOLUME_ML, colour


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
