"""Label tables: a published name means the bone it says; what is not known is refused, not dropped."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from petbone.anatomy import ALL_BONES, BY_NAME
from petbone.errors import InputError
from petbone.io import read_ct, read_labels
from petbone.labels import TABLES, LabelTable, bone_named, merge
from petbone.volume import Grid, Unit, Volume

GRID = Grid((4, 3, 2), np.diag([2.0, 2.0, 2.0, 1.0]))


def labels(*values: int, dtype: type = np.uint8) -> Volume:
    data = np.zeros(24, dtype)
    data[: len(values)] = values
    return Volume(data.reshape(GRID.shape), GRID, Unit.LABEL)


def rows_of(table: str) -> list[dict[str, str]]:
    folder = Path(__file__).parents[1] / "petbone" / "data" / "labels"
    lines = (folder / f"{table}.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


# Tables


@pytest.mark.parametrize("table", TABLES[1:])
def test_every_shipped_table_says_where_it_is_from(table: str) -> None:
    assert "commit" in LabelTable.load(table).source


@pytest.mark.parametrize("table", TABLES[1:])
def test_the_name_alone_leads_to_the_same_bone_as_the_table(table: str) -> None:
    for row in rows_of(table):
        if "+" not in row["bone"]:
            expected = 0 if row["bone"] == "-" else BY_NAME[row["bone"]].id
            assert bone_named(row["name"]) == expected, row


@pytest.mark.parametrize("table", TABLES[1:])
def test_sides_and_numbers_of_every_table(table: str) -> None:
    for row in rows_of(table):
        name, bone = row["name"].lower(), row["bone"]
        if bone == "-" or "+" in bone:
            continue
        assert ("left" in name, "right" in name) == ("left" in bone, "right" in bone)
        numbers = ["".join(c for c in word if c.isdigit()) for word in (name, bone)]
        assert numbers[0] == numbers[1] or name == "vertebrae_s1"


def test_landmarks_of_totalsegmentator_v2() -> None:
    """Label values as in the README of the tool: sacrum 25, S1 26, L5 27, C1 50, ribs 92-115, sternum 116."""
    mapping = LabelTable.load("totalsegmentator").mapping
    expected = {25: "sacrum", 26: "sacrum", 27: "L5", 43: "T1", 50: "C1", 69: "humerus_left", 77: "hip_left"}
    expected |= {91: "skull", 92: "rib_left_1", 115: "rib_right_12", 116: "sternum"}
    assert {label: mapping[label] for label in expected} == {k: BY_NAME[v].id for k, v in expected.items()}
    assert [mapping[label] for label in (1, 22, 90, 117, 118)] == [0] * 5
    assert set(range(118)) <= set(mapping)
    assert len(LabelTable.load("totalsegmentator_v1").mapping) == 105


def test_petbone_table_is_the_identity() -> None:
    volume = labels(*(b.id for b in ALL_BONES[:20]))
    assert np.array_equal(LabelTable.load("petbone").apply(volume).data, volume.data)


def test_all_49_bones_but_the_missing_ones_are_in_each_tool() -> None:
    for table, missing in (
        ("totalsegmentator", set()),
        ("totalsegmentator_v1", {"sternum"}),
        ("skellytour", {"hip_left", "hip_right", "sacrum"}),
    ):
        have = set(LabelTable.load(table).mapping.values())
        assert {b.name for b in ALL_BONES[:49] if b.id not in have} == missing
    moose = [
        LabelTable.load(f"moose_{model}").mapping.values()
        for model in ("vertebrae", "ribs", "peripheral_bones")
    ]
    assert set(range(1, 50)) <= {bone for values in moose for bone in values}


def test_a_table_cannot_be_written_to() -> None:
    with pytest.raises(TypeError):
        LabelTable.load("petbone").mapping[1] = 2  # type: ignore[index]


# Application


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_one_pass_gives_what_a_loop_gives(order: str, dtype: type) -> None:
    table = LabelTable.load("totalsegmentator")
    data = np.random.default_rng(1).integers(0, 118, GRID.shape).astype(dtype).copy(order=order)  # type: ignore[call-overload]
    bones = table.apply(Volume(data, GRID, Unit.LABEL)).data
    assert bones.dtype == np.uint8
    assert bones.flags.f_contiguous == (order == "F")
    for index in np.ndindex(GRID.shape):
        assert bones[index] == table.mapping[int(data[index])]


def test_unknown_labels_are_listed_and_refused() -> None:
    with pytest.raises(
        InputError, match=r"7 labels are not in the table petbone: 67, 68, 69, 70, 71 and 2 more"
    ):
        LabelTable.load("petbone").apply(labels(1, 67, 68, 69, 70, 71, 72, 73))


def test_labels_beyond_any_table_are_refused() -> None:
    with pytest.raises(InputError, match="70000"):
        LabelTable.load("petbone").apply(labels(70000, dtype=np.int32))
    with pytest.raises(InputError, match="from -1"):
        LabelTable.load("petbone").apply(labels(-1, dtype=np.int16))


def test_only_labels_can_be_translated() -> None:
    hu = Volume(np.zeros(GRID.shape, np.int16), GRID, Unit.HU)
    with pytest.raises(ValueError, match="HU"):
        LabelTable.load("petbone").apply(hu)


def test_merged_pelvis_is_left_out_with_a_note() -> None:
    table, volume = LabelTable.load("skellytour"), labels(2, 3, 59)
    assert table.apply(volume).data.ravel()[:3].tolist() == [0, BY_NAME["sternum"].id, BY_NAME["L5"].id]
    (note,) = table.notes(volume)
    assert "hip_left to sacrum" in note
    assert table.notes(labels(3, 59)) == ()


def test_medium_model_of_skellytour_is_not_taken_for_the_high_one() -> None:
    with pytest.raises(InputError, match="skellytour_medium"):
        LabelTable.load("skellytour").apply(labels(1, 2, 37))
    assert LabelTable.load("skellytour_medium").apply(labels(37)).data.max() == BY_NAME["L5"].id


def test_low_totalsegmentator_labels_raise_a_doubt() -> None:
    (note,) = LabelTable.load("totalsegmentator").notes(labels(18, 104))
    assert "totalsegmentator_v1" in note
    assert LabelTable.load("totalsegmentator").notes(labels(18, 116)) == ()


# Choice of table


@pytest.mark.parametrize(
    ("file_name", "table"),
    [
        ("CT_Vertebrae_case1.nii.gz", "moose_vertebrae"),
        ("clin_CT_ribs_case1.nii.gz", "moose_ribs"),
        ("CT_Peripheral-Bones_case1.nii.gz", "moose_peripheral_bones"),
    ],
)
def test_moose_says_its_model_in_the_file_name(file_name: str, table: str) -> None:
    assert LabelTable.load("moose", file_name).name == table
    assert LabelTable.load(table.replace("moose_", "clin_ct_")).name == table


def test_moose_without_a_model_is_refused() -> None:
    with pytest.raises(InputError, match="moose_vertebrae, moose_ribs"):
        LabelTable.load("moose", "bones.nii.gz")


def test_unknown_table_is_refused() -> None:
    with pytest.raises(InputError, match="no such label table; known are petbone"):
        LabelTable.load("totalsegmenter")


def test_mask_without_a_word_is_petbones_or_refused() -> None:
    assert LabelTable.for_file(labels(66)).name == "petbone"
    with pytest.raises(InputError, match="--labels"):
        LabelTable.for_file(labels(67))


def test_names_in_the_file_win() -> None:
    table = LabelTable.for_file(labels(5, 6), {5: "vertebrae_T7", 6: "liver"})
    assert table.apply(labels(5, 6)).data.ravel()[:2].tolist() == [BY_NAME["T7"].id, 0]
    with pytest.raises(InputError, match="femur_middle"):
        LabelTable.for_file(labels(5), {5: "femur_middle"})


# The user's CSV


def csv_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return str(path)


def test_own_csv_with_names_of_any_tool(tmp_path: Path) -> None:
    text = "label,name\n0,background\n3,T7\n4,left rib 3\n5,coccyx\n6,sacrum\n7,Liver\n9,rib_right_13\n"
    mapping = LabelTable.load(csv_file(tmp_path, text)).mapping
    assert mapping == {0: 0, 3: 7, 4: 20, 5: 49, 6: 49, 7: 0, 9: 66}


def test_own_csv_with_a_bone_column(tmp_path: Path) -> None:
    text = "label,name,bone\n3,Wirbel 7,T7\n4,Metall,-\n5,Becken,hip_left+hip_right\n"
    table = LabelTable.load(csv_file(tmp_path, text))
    assert table.mapping == {0: 0, 3: 7, 4: 0, 5: 0}
    assert table.merged == {5: ("hip_left", "hip_right")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,name\n3,hipp_left\n", "hipp_left"),
        ("label,name\n3,T7\n3,T8\n", "label 3 occurs twice"),
        ("label,name\nx,T7\n", "row 1: the label 'x'"),
        ("label,name\n-1,T7\n", "row 1"),
        ("value,name\n3,T7\n", "columns label,name"),
        ("", "columns label,name"),
        ("label,name,bone\n3,T7,T77\n", "no bone"),
    ],
)
def test_malformed_csv_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        LabelTable.load(csv_file(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        LabelTable.load(str(tmp_path / "none.csv"))


def test_a_table_of_impossible_bones_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="do not exist"):
        LabelTable("x", "x", {1: 99})
    with pytest.raises(ValueError, match="outside"):
        LabelTable("x", "x", {70000: 1})


# Merging


def test_masks_of_one_ct_are_put_together() -> None:
    together, twice = merge([labels(1, 0, 3), labels(0, 2, 4)])
    assert together.data.ravel()[:3].tolist() == [1, 2, 3]
    assert twice == 1


def test_masks_of_two_cts_are_not() -> None:
    elsewhere = Volume(labels(1).data, Grid(GRID.shape, np.diag([3.0, 3.0, 3.0, 1.0])), Unit.LABEL)
    with pytest.raises(InputError, match="mask 2 is not on the grid"):
        merge([labels(1), elsewhere])


def test_real_mask_of_totalsegmentator(shared: Path) -> None:
    """Left is left: on the real chest, left ribs lie left of right ribs, and T1 above T12."""
    scan = read_labels(shared / "scans/lidc_0001/totalsegmentator_labels.nii.gz")
    bones = LabelTable.load("totalsegmentator").apply(scan.volume)
    ct = read_ct(shared / "scans/lidc_0001/ct.nii.gz").volume

    def centre(name: str) -> np.ndarray:
        return bones.grid.mm(np.argwhere(bones.data == BY_NAME[name].id)).mean(axis=0)

    assert centre("rib_left_6")[0] < centre("T6")[0] < centre("rib_right_6")[0]
    assert centre("T1")[2] > centre("T6")[2] > centre("T12")[2] > centre("L1")[2]
    assert ct.data[bones.data == BY_NAME["T6"].id].mean() > 150
