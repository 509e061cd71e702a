"""Rows and tables of a validation, by numbers that a pencil can check."""

import numpy as np
import pandas as pd
import pytest

from conftest import affine, rotation
from petbone.anatomy import BY_NAME
from petbone.label_doubts import doubts, doubts_of_one, doubts_of_two_scans
from petbone.lattice import in_order_of
from petbone.readings import Reading, readings_of, repeat_table, rows_of_readings
from petbone.validation import (
    AGREEMENT_COLUMNS,
    GROUP_COLUMNS,
    OVERLAP_COLUMNS,
    PAPER_BONES,
    TABLE_COLUMNS,
    Masks,
    Study,
    rows_of_case,
)
from petbone.validation_notes import merged, of_makers, of_same_files
from petbone.validation_tables import (
    agreement_table,
    group_table,
    members,
    missing_table,
    overlap_table,
    paper_table,
    sd,
)
from petbone.validation_words import as_latex, as_markdown, escaped
from petbone.volume import Grid, Unit, Volume
from petbone.worst_cases import MOST, choose, cut_out

T6, T7, T8, L3 = (BY_NAME[name].id for name in ("T6", "T7", "T8", "L3"))
LEFT, RIGHT = BY_NAME["hip_left"].id, BY_NAME["hip_right"].id
SPACING_MM = (1.0, 2.0, 2.5)  # a voxel is 0.005 mL


def label_map(blocks: dict[int, tuple[slice, ...]], axes=None, shape=(40, 30, 20)) -> Volume:
    data = np.zeros(shape, np.uint8, order="F")
    for label, box in blocks.items():
        data[box] = label
    return Volume(
        data, Grid(shape, affine(np.eye(3) if axes is None else axes, SPACING_MM, (-5, 7, 3))), Unit.LABEL
    )


def block(start: int, stop: int) -> tuple[slice, ...]:
    """10 x 10 voxels across, from `start` to `stop` along the first axis."""
    return slice(start, stop), slice(5, 15), slice(5, 15)


def masks_of(reference: Volume, predicted: Volume, case: str = "a", **more) -> Masks:
    return Masks(
        case, reference, predicted, more.pop("cut_reference", {}), more.pop("cut_predicted", {}), **more
    )


def rows(reference: Volume, predicted: Volume, labels, case="a", **more):
    return rows_of_case(masks_of(reference, predicted, case, **more), labels, "surface elements")


def test_numbers_of_a_block_that_is_displaced_and_longer(axes):
    """10 voxels long against 12, of which 8 are shared: Dice 16/22, 5 and 6 mL, ends 2 and 4 mm off."""
    one, two = label_map({T7: block(10, 20)}, axes), label_map({T7: block(12, 24)}, axes)
    (row,) = rows(one, two, [T7])
    assert list(row) == list(OVERLAP_COLUMNS)
    assert (row["case"], row["bone"], row["found"], row["note"]) == ("a", "T7", "both", "")
    assert row["dice"] == pytest.approx(16 / 22)
    assert row["volume_reference_ml"] == pytest.approx(5)
    assert row["volume_predicted_ml"] == pytest.approx(6)
    assert row["volume_difference_ml"] == pytest.approx(1)
    assert row["volume_difference_percent"] == pytest.approx(100 / 5.5)
    assert row["hausdorff_mm"] == pytest.approx(4)


def test_a_bone_is_found_missed_extra_or_neither_and_only_the_first_has_all_numbers():
    one = label_map({T7: block(0, 5), L3: block(10, 20)})
    two = label_map({T7: block(0, 5), T8: block(30, 35)})
    table = pd.DataFrame(rows(one, two, [T7, L3, T8, T6])).set_index("bone")
    assert table["found"].to_dict() == {"T7": "both", "L3": "missed", "T8": "extra", "T6": "neither"}
    assert table["dice"].fillna(-1).tolist() == [1, 0, 0, -1]
    assert table["volume_reference_ml"].notna().tolist() == [True, True, False, False]
    assert table["volume_predicted_ml"].notna().tolist() == [True, False, True, False]
    only = [
        "volume_difference_ml",
        "volume_difference_percent",
        "hausdorff_mm",
        "hd95_mm",
        "assd_mm",
        "nsd_2mm",
    ]
    assert table.loc["T7", only].notna().all()
    assert table.drop("T7")[only].isna().all(axis=None)


def test_notes_say_whose_scan_ends_and_what_was_resampled():
    one = label_map({T7: block(0, 10)})
    same = rows(one, one, [T7], cut_reference={T7: ("left",)}, cut_predicted={T7: ("left",)})
    assert same[0]["note"] == "cut by the end of the scan (left)"
    other = rows(one, one, [T7], cut_predicted={T7: ("superior", "left")}, resampled=True)
    assert other[0]["note"] == (
        "prediction cut by the end of the scan (superior, left); prediction resampled "
        "to the grid of the reference"
    )


def test_volumes_on_a_tilted_grid_are_by_the_determinant_and_distances_are_left_out():
    matrix = affine(np.eye(3), SPACING_MM, (0, 0, 0))
    matrix[1, 2] = 1.5  # 31 degrees of tilt: the third axis is 2.9 mm long and still rises by 2.5
    grid = Grid((40, 30, 20), matrix)
    volume = Volume(label_map({T7: block(10, 20)}).data, grid, Unit.LABEL)
    (row,) = rows(volume, volume, [T7])
    assert row["volume_reference_ml"] == pytest.approx(5)
    assert np.isnan(row["hd95_mm"])
    assert "no distances" in row["note"]


def study_rows(pairs: dict[str, tuple[int, int]], bone: int = T7) -> list[dict]:
    """A case of blocks of this many voxel layers (0.5 mL each), reference and predicted."""
    found = []
    for case, (one, two) in pairs.items():
        found += rows(
            label_map({bone: block(5, 5 + one)} if one else {}),
            label_map({bone: block(5, 5 + two)} if two else {}),
            [bone],
            case,
        )
    return found


PAIRS = {"a": (10, 12), "b": (20, 20), "c": (16, 14), "d": (12, 0), "e": (0, 8), "f": (0, 0)}


def test_missed_bones_are_zero_in_the_median_dice_and_in_no_limits():
    overlap, _ = overlap_table(study_rows(PAIRS), False, False)
    (row,) = agreement_table(overlap, n_unpaired=2).to_dict("records")
    assert list(row) == list(AGREEMENT_COLUMNS)
    assert [row[f"n{kind}"] for kind in ("", "_cases", "_missed", "_extra", "_neither", "_unpaired")] == [
        3, 6, 1, 1, 1, 2,
    ]  # fmt: skip
    dice = [20 / 22, 1, 28 / 30, 0]
    assert row["median_dice"] == pytest.approx(np.median(dice))
    differences = np.array([1.0, 0.0, -1.0])
    assert row["bias_ml"] == pytest.approx(0)
    assert row["sd_ml"] == pytest.approx(1)
    assert row["loa_high_ml"] == pytest.approx(1.96)
    assert row["loa_high_ci_low_ml"] < 1.96 < row["loa_high_ci_high_ml"]
    assert row["median_reference_ml"] == pytest.approx(8)
    assert row["sd_predicted_ml"] == pytest.approx(np.std([6, 10, 7], ddof=1))
    percent = 100 * abs(differences) / [5.5, 10, 7.5]
    assert row["mean_volume_difference_percent"] == pytest.approx(percent.mean())
    assert row["note"] == ""


def test_bias_is_predicted_minus_reference():
    overlap, _ = overlap_table(study_rows({"a": (10, 12), "b": (20, 24), "c": (16, 20)}), False, False)
    (row,) = agreement_table(overlap, 0).to_dict("records")
    assert row["bias_ml"] == pytest.approx((1 + 2 + 2) / 3)
    assert row["bias_percent"] > 0
    assert row["slope"] > 0
    assert row["slope_low"] < row["slope"] < row["slope_high"]
    assert 0 < row["ccc"] < 1
    assert 0 < row["icc_2_1"] < 1


@pytest.mark.parametrize(
    ("pairs", "empty", "note"),
    [
        ({"a": (10, 0)}, ["bias_ml", "median_reference_ml", "icc_2_1"], "in both masks of no case"),
        ({"a": (10, 12)}, ["sd_reference_ml", "bias_ml", "loa_low_ml", "icc_2_1", "ccc"], "1 pair: no SD"),
        ({"a": (10, 12), "b": (9, 8)}, ["slope", "ccc", "median_dice_low"], "2 pairs: no slope or CCC"),
        ({"a": (4, 5), "b": (8, 9), "c": (6, 7)}, ["loa_low_ci_low_ml", "bias_low_ml"], "are the same"),
    ],
)
def test_too_few_pairs_leave_cells_empty_and_say_why(pairs, empty, note):
    overlap, _ = overlap_table(study_rows(pairs), False, False)
    (row,) = agreement_table(overlap, 0).to_dict("records")
    assert np.isnan([row[name] for name in empty]).all()
    assert note in row["note"]


def test_groups_pool_cases_and_bones():
    found = study_rows(PAIRS) + study_rows({"a": (10, 10), "b": (10, 0)}, L3)
    overlap, _ = overlap_table(found, False, False)
    groups = group_table(overlap).set_index("group")
    assert list(groups.columns) == list(GROUP_COLUMNS[1:])
    assert groups.index.tolist() == ["thoracic_spine", "lumbar_spine", "all"]
    assert groups.loc["all", ["bones", "n", "n_missed"]].tolist() == [2, 4, 2]
    assert groups.loc["lumbar_spine", "median_dice"] == 0.5
    assert groups.loc["thoracic_spine", "note"] == "1 in the prediction alone"
    assert "skeleton_49" in members(["T7", "skull"])


def test_a_side_of_rib_7_that_no_reference_holds_is_left_out_by_default_only():
    labels = [BY_NAME[name].id for name in PAPER_BONES]
    left = BY_NAME["rib_left_7"].id
    one = label_map({T7: block(0, 5), left: block(10, 15)})
    found = rows(one, one, labels)
    default, said = overlap_table(found, True, False)
    assert default["bone"].tolist() == ["T7", "L3", "sacrum", "rib_left_7", "sternum"]
    assert said == ("rib_right_7",)
    assert overlap_table(found, False, False)[0]["bone"].tolist() == list(PAPER_BONES)
    assert overlap_table(found, False, True)[0]["bone"].tolist() == ["T7", "rib_left_7"]


def test_nothing_missing_is_dropped():
    overlap, _ = overlap_table(study_rows(PAIRS), False, False)
    missing = missing_table(overlap, [("g", "predicted", "file")])
    assert missing.to_numpy().tolist() == [
        ["g", "", "predicted", "file"],
        ["d", "T7", "predicted", "bone"],
        ["e", "T7", "reference", "bone"],
        ["f", "T7", "both", "bone"],
    ]


def made_study(pairs, bone=T7) -> Study:
    overlap, _ = overlap_table(study_rows(pairs, bone), False, False)
    agreement = agreement_table(overlap, 0)
    repeat = repeat_table([])
    return Study(
        overlap, agreement, group_table(overlap), missing_table(overlap, []), repeat,
        paper_table(agreement, repeat), None, (), (),
    )  # fmt: skip


def test_the_table_of_2019_as_text():
    study = made_study(PAIRS, BY_NAME["rib_left_7"].id)
    assert list(study.table.columns) == list(TABLE_COLUMNS)
    assert study.table.loc[0, "reference_ml"] == "8.00 (2.5)"
    lines = as_markdown(study).splitlines()
    assert lines[0] == "| bone       |  n | predicted, mL | reference, mL | Dice |"
    assert lines[2] == "| rib 7 left |  3 |    7.00 (2.1) |    8.00 (2.5) | 0.92 |"
    latex = as_latex(study)
    assert r"rib 7 left & 3 & 7.00 (2.1) & 8.00 (2.5) & 0.92 \\" in latex
    assert "%" not in "".join(latex.splitlines()[1:]).replace(r"\%", "")


def test_signs_of_latex_are_escaped():
    assert escaped("a_b & 5 % {x}\\^~#$") == (
        r"a\_b \& 5 \% \{x\}\textbackslash{}\textasciicircum{}\textasciitilde{}\#\$"
    )


def test_the_worst_are_chosen_by_rules_and_cut_out_with_a_margin():
    found = study_rows({"a": (10, 10), "b": (10, 5), "c": (20, 0), "d": (4, 0)})
    found += study_rows({"a": (10, 9), "b": (10, 10)}, L3)
    overlap, _ = overlap_table(found, False, False)
    chosen = choose(overlap)
    assert [(row["case"], row["bone"], row["why"]) for row in chosen] == [
        ("b", "T7", "lowest Dice of all"),
        ("c", "T7", "missed"),
        ("a", "L3", "lowest Dice: lumbar spine"),
    ]
    one, two = label_map({T7: block(20, 30)}), label_map({T7: block(20, 25)})
    (worst,) = cut_out(chosen[:1], masks_of(one, two, "b"), None)
    # 15 mm are 15, 8 and 6 voxels; the grid ends before that on some sides
    assert worst.reference.shape == (35, 23, 20)
    assert np.count_nonzero(worst.reference) == 1000
    assert np.count_nonzero(worst.predicted) == 500
    assert worst.frame.unit is Unit.LABEL
    assert not worst.frame.data.any()
    assert worst.frame.grid.same_as(one.grid.cropped((slice(5, 40), slice(0, 23), slice(0, 20))))
    ct = Volume(np.random.default_rng(0).normal(size=one.grid.shape).astype(np.float32), one.grid, Unit.HU)
    (worst,) = cut_out(chosen[:1], masks_of(one, two, "b"), ct)
    assert np.array_equal(worst.frame.data, ct.data[5:40, :23])


def test_never_more_than_so_many_are_shown():
    names = (
        "C1",
        "T1",
        "L1",
        "rib_left_1",
        "sternum",
        "hip_left",
        "skull",
        "femur_left",
        "scapula_left",
        "T2",
    )
    overlap = pd.DataFrame(
        [
            {"case": "a", "bone": name, "found": "both", "dice": 0.5 + n / 100, "hd95_mm": n * 1.0}
            for n, name in enumerate(names)
        ]
        + [{"case": "a", "bone": "L5", "found": "missed", "dice": 0.0, "volume_reference_ml": 5.0}]
    )
    chosen = choose(overlap)
    assert len(chosen) == MOST
    assert len({(row["case"], row["bone"]) for row in chosen}) == MOST
    assert [row["bone"] for row in chosen[:3]] == ["C1", "T2", "L5"]


# ---- the same voxels in another order


def turned(volume: Volume, order: tuple[int, ...], flips: tuple[int, ...]) -> Volume:
    """The same voxels, axes permuted and flipped: the matrix follows."""
    matrix = volume.grid.mm_from_ijk[:, [*order, 3]].copy()
    data = volume.data.transpose(order)
    for axis in flips:
        matrix[:3, 3] += matrix[:3, axis] * (data.shape[axis] - 1)
        matrix[:3, axis] *= -1
        data = np.flip(data, axis)
    return Volume(data, Grid(data.shape, matrix), volume.unit)


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (0,)), ((2, 0, 1), ()), ((1, 0, 2), (0, 2))])
def test_flips_and_permutations_are_undone_exactly(axes, order, flips):
    data = np.random.default_rng(0).integers(0, 60, (5, 6, 7)).astype(np.uint8)
    volume = Volume(data, Grid(data.shape, affine(axes, SPACING_MM, (3, -8, 100))), Unit.LABEL)
    back = in_order_of(turned(volume, order, flips), volume.grid)
    assert np.array_equal(back.data, data)


@pytest.mark.parametrize("change", ["moved", "cropped", "scaled", "rotated"])
def test_other_voxels_are_not_the_same(change):
    volume = label_map({})
    matrix, shape = volume.grid.mm_from_ijk.copy(), volume.grid.shape
    if change == "moved":
        matrix[0, 3] += 1
    elif change == "cropped":
        shape = (39, 30, 20)
    elif change == "scaled":
        matrix[:3, :3] *= 1.02
    else:
        matrix = affine(np.array([[0.98, -0.199, 0], [0.199, 0.98, 0], [0, 0, 1]]), SPACING_MM, (-5, 7, 3))
    other = Volume(np.zeros(shape, np.uint8), Grid(shape, matrix), Unit.LABEL)
    assert in_order_of(other, volume.grid) is None


# ---- doubts


def test_a_good_prediction_gives_no_doubt():
    one = label_map({T6: block(0, 10), T7: block(10, 20), T8: block(20, 30)})
    two = label_map({T6: block(0, 9), T7: block(9, 21), T8: block(21, 30)})
    assert doubts(one, two, {T7}) == []


def test_names_off_by_a_level_are_told_for_asked_bones():
    one = label_map({T6: block(0, 10), T7: block(10, 20), T8: block(20, 30)})
    two = label_map({T7: block(1, 10), T8: block(10, 20)})
    (said,) = doubts(one, two, {T7})
    assert "of the prediction, T7 lies on T6, T8 lies on T7 of the reference" in said
    assert doubts(one, two, {L3}) == []


def test_swapped_sides_and_a_mirrored_map_are_told_apart():
    # The body is not symmetric: the right hip is larger, and a vertebra lies off the middle.
    one = label_map(
        {LEFT: block(2, 12), RIGHT: block(25, 38), L3: (slice(16, 22), slice(16, 28), slice(2, 9))}
    )
    swapped = one.data.copy(order="F")
    swapped[one.data == LEFT], swapped[one.data == RIGHT] = RIGHT, LEFT
    (said,) = doubts(one, one.with_data(swapped), {L3})
    assert said.startswith("left and right seem to be swapped")
    (said,) = doubts(one, one.with_data(np.asfortranarray(one.data[::-1])), {L3})
    assert "mirror image" in said


def test_of_a_symmetric_body_both_reasons_are_said():
    one = label_map({LEFT: block(5, 15), RIGHT: block(25, 35)})
    (said,) = doubts(one, label_map({LEFT: block(25, 36), RIGHT: block(5, 15)}), {L3})
    assert said.startswith("left and right seem to be swapped, in the names or in the map itself")


def test_empty_equal_and_foreign_maps_are_told():
    one, none = label_map({T7: block(0, 10)}), label_map({})
    assert doubts(one, none, {T7}) == ["the prediction holds no bone"]
    assert doubts(none, one, {T7}) == ["the reference holds no bone"]
    assert "are the same" in doubts(one, one, {T7})[0]
    far = label_map({T7: (slice(0, 10), slice(20, 28), slice(0, 4))})
    assert "no bone of the prediction touches" in doubts(one, far, {T7})[0]


def test_a_map_by_itself_tells_that_it_is_mirrored_or_upside_down(axes):
    """Bones in a row along the patient's left-right axis and along the head-foot one, whatever the grid."""
    shape = (40, 40, 40)
    grid = Grid(shape, affine(axes, (2.0, 2.0, 2.0), (0, 0, 0)))
    mm = grid.mm(np.moveaxis(np.indices(shape), 0, -1)) - grid.mm((19.5, 19.5, 19.5))
    near = np.abs(mm[..., 1]) < 8
    data = np.zeros(shape, np.uint8)
    data[near & (mm[..., 0] < -10)], data[near & (mm[..., 0] > 10)] = LEFT, RIGHT
    for n, label in enumerate((T6, T7, T8)):
        data[near & (np.abs(mm[..., 0]) < 8) & (np.abs(mm[..., 2] - 18 + 18 * n) < 8)] = label
    assert doubts_of_one(Volume(data, grid, Unit.LABEL)) == []
    swapped = data.copy()
    swapped[data == LEFT], swapped[data == RIGHT] = RIGHT, LEFT
    (said,) = doubts_of_one(Volume(swapped, grid, Unit.LABEL))
    assert said.startswith("1 of 1 left bones lie to the patient's right")
    turned = data.copy()
    turned[data == T6], turned[data == T8] = T8, T6
    (said,) = doubts_of_one(Volume(turned, grid, Unit.LABEL))
    assert said.startswith("2 of 2 vertebrae lie above")
    assert doubts_of_one(Volume(np.zeros(shape, np.uint8), grid, Unit.LABEL)) == []


def test_rounding_is_no_deviation():
    assert np.std(np.full(3, 0.1), ddof=1) > 0
    assert sd(np.full(3, 0.1)) == 0
    assert sd(np.array([1.0, 3.0])) == pytest.approx(np.sqrt(2))
    assert np.isnan(sd(np.array([1.0, np.nan])))


def test_labels_of_another_table_are_told():
    """Vertebrae by TotalSegmentator's numbers, which are ribs by petbone's."""
    one = label_map({T6: block(0, 10), T7: block(10, 20), L3: block(20, 30)})
    two = label_map({38: block(0, 10), 37: block(10, 20), 29: block(21, 30)})
    (said,) = doubts(one, two, {T7})
    assert said.startswith("100 % of what is bone in both lies under names of other kinds of bones")
    most = label_map({38: block(0, 10), T7: block(10, 20), L3: block(20, 30)})
    assert doubts(one, most, {T7}) == []


# ---- notes


def test_sentences_are_said_once_with_their_cases():
    assert merged([("a", "x"), ("b", "y"), ("c", "x"), ("a", "x")]) == ["a, c: x", "b: y"]


def test_sides_that_seem_swapped():
    assert "swapped" in of_makers({"a": ("petbone", ""), "b": ("", "")})[0]
    assert of_makers({"a": ("petbone", "petbone")}) == []
    assert of_makers({"a": ("", "petbone")}) == []


def test_one_file_on_both_sides_or_for_two_cases():
    def of(one, two):
        return {"reference": {"sha256": one}, "predicted": {"sha256": two}}

    assert of_same_files({"a": of("1", "2"), "b": of("3", "4")}) == []
    said = of_same_files({"a": of("1", "1"), "b": of("1", "4")})
    assert said == [
        "a: the same file on both sides, so nothing can differ",
        "a, b: one and the same reference file",
    ]


# ---- two readings


def reading(blocks, cut=(), shape=(40, 30, 20)) -> Reading:
    return Reading(label_map(blocks, shape=shape), dict.fromkeys(cut, ("superior",)))


def test_two_readings_of_one_scan_and_of_two():
    one, two = reading({T7: block(0, 10), L3: block(20, 30)}), reading({T7: block(0, 12)})
    same = rows_of_readings("a", one, two, [T7, L3, T8], one_scan=True)
    assert [row["found"] for row in same] == ["both", "first", "neither"]
    assert same[0]["dice"] == pytest.approx(20 / 22)
    assert same[0]["volume_difference_percent"] == pytest.approx(100 / 5.5)
    assert same[1]["note"] == "in the first reading alone"
    assert np.isnan(same[1]["volume_difference_percent"])
    other = rows_of_readings("a", one, reading({T7: block(0, 12)}, shape=(50, 30, 20)), [T7], one_scan=False)
    assert np.isnan(other[0]["dice"])
    assert other[0]["volume_difference_ml"] == pytest.approx(1)
    assert repeat_table([row | {"method": "reference"} for row in same])["bone"].tolist() == ["T7", "L3"]


def test_a_cut_bone_of_two_scans_has_volumes_and_no_difference():
    one, two = reading({T7: block(0, 10)}, cut=[T7]), reading({T7: block(0, 12)})
    (row,) = rows_of_readings("a", one, two, [T7], one_scan=False)
    assert row["cut"] == "first"
    assert row["volume_1_ml"] == pytest.approx(5)
    assert np.isnan(row["volume_difference_percent"])
    assert "first cut by the end of the scan (superior); not compared" in row["note"]
    (row,) = rows_of_readings("a", one, two, [T7], one_scan=True)
    assert row["volume_difference_ml"] == pytest.approx(1)


def test_repeatability_by_hand():
    """Differences of 1, -1 and 2 mL: Sw = sqrt(6 / 6) = 1, CR 1.96 sqrt 2; percent of the means."""
    pairs = {"a": (10, 12), "b": (20, 18), "c": (16, 20)}
    found = []
    for case, (one, two) in pairs.items():
        first, second = reading({T7: block(0, one), L3: block(30, 34)}), reading({T7: block(0, two)})
        found += rows_of_readings(case, first, second, [T7, L3, T6], one_scan=False)
    told = readings_of(found, [("d", "second", "file")], ["w"], every=True)
    assert told.warnings == ("w",)
    t7 = told.agreement.set_index("bone").loc["T7"]
    percent = [100 / 5.5, 100 / 9.5, 200 / 9]
    assert t7["n"] == 3
    assert t7["n_unpaired"] == 1
    assert t7["within_sd_ml"] == pytest.approx(1)
    assert t7["repeatability_coefficient_ml"] == pytest.approx(1.96 * np.sqrt(2))
    assert t7["bias_ml"] == pytest.approx(2 / 3)
    assert t7["mean_volume_difference_percent"] == pytest.approx(np.mean(percent))
    assert t7["median_volume_difference_percent"] == pytest.approx(np.median(percent))
    families = told.families.set_index("family")
    assert families.index.tolist() == ["vertebral_column", "thoracic_spine", "lumbar_spine", "all"]
    assert families.loc["vertebral_column", ["bones", "n", "n_one_only"]].tolist() == [2, 3, 3]
    assert families.loc["lumbar_spine", "note"] == "no pair that is in both masks and not cut"
    assert told.missing["what"].tolist() == ["file", "bone", "bone", "bone"]


def trunk(matrix: np.ndarray, levels_off: dict[str, int]) -> Volume:
    """T1 to L5, ribs, sacrum and hips, 25 mm a level; `levels_off`: of which group, by how many."""
    data = np.zeros((40, 20, 100), np.uint8)

    def put(i: int, k: int, name: str) -> None:
        data[i : i + 4, 8:12, k : k + 3] = BY_NAME[name].id

    column = [f"T{n}" for n in range(1, 13)] + [f"L{n}" for n in range(1, 6)]
    for n in range(17):
        if 0 <= n + levels_off.get("spine", 0) < 17:
            put(18, 92 - 5 * n, column[n + levels_off.get("spine", 0)])
    for n in range(1, 13):
        if 1 <= n + levels_off.get("ribs", 0) <= 12:
            put(8, 97 - 5 * n, f"rib_left_{n + levels_off.get('ribs', 0)}")
            put(28, 97 - 5 * n, f"rib_right_{n + levels_off.get('ribs', 0)}")
    for i, name in ((18, "sacrum"), (10, "hip_left"), (26, "hip_right")):
        put(i, 4, name)
    return Volume(data, Grid(data.shape, matrix), Unit.LABEL)


@pytest.mark.parametrize(
    ("off", "said"),
    [
        ({}, []),
        ({"spine": 1}, ["vertebrae against ribs by 25 mm", "vertebrae against sacrum and hips by 25 mm"]),
        ({"ribs": -1}, ["vertebrae against ribs by 25 mm", "ribs against sacrum and hips by 25 mm"]),
        ({"ribs": 1, "spine": 1}, ["vertebrae against sacrum", "ribs against sacrum and hips by 25 mm"]),
    ],
)
def test_levels_that_slide_between_two_scans_are_doubted(off, said):
    """The patient lies elsewhere in the second scan, which alone is no reason for doubt."""
    first = trunk(affine(np.eye(3), (4.0, 4.0, 5.0), (-80.0, -40.0, 0.0)), {})
    second = trunk(affine(np.eye(3), (4.0, 4.0, 5.0), (-71.0, -33.0, 412.0)), off)
    found = doubts_of_two_scans(first, second, ())
    assert len(found) == bool(said)
    for words in said:
        assert words in found[0]


def test_patients_who_lie_turned_are_not_doubted():
    first = trunk(affine(np.eye(3), (4.0, 4.0, 5.0), (-80.0, -40.0, 0.0)), {})
    for degrees in (-8.0, 8.0):
        second = trunk(affine(rotation(degrees), (4.0, 4.0, 5.0), (10.0, 30.0, -200.0)), {})
        assert doubts_of_two_scans(first, second, ()) == []


def test_cut_bones_do_not_slide():
    """Hips of which one scan shows the upper end alone have their middles elsewhere."""
    matrix = affine(np.eye(3), (4.0, 4.0, 5.0), (-80.0, -40.0, 0.0))
    first, data = trunk(matrix, {}), trunk(matrix, {}).data.copy()
    for name in ("hip_left", "hip_right"):
        data[data == BY_NAME[name].id] = 0
        data[30:34, 2:6, 30:50] = BY_NAME["hip_left"].id
        data[4:8, 2:6, 30:50] = BY_NAME["hip_right"].id
    second = first.with_data(data)
    hips = (BY_NAME["hip_left"].id, BY_NAME["hip_right"].id)
    assert doubts_of_two_scans(first, second, ())
    assert doubts_of_two_scans(first, second, hips) == []
    assert doubts_of_two_scans(first, first.with_data(np.zeros_like(data)), ()) == []
    assert doubts_of_two_scans(first.with_data(np.zeros_like(data)), first, ()) == []


@pytest.mark.parametrize("turn", [np.eye(3), rotation(8.0)])
def test_a_sternum_behind_the_vertebrae_is_doubted(turn):
    """Front and back swapped leave left and right, and the order of the levels, as they are."""
    volume = trunk(affine(turn, (4.0, 4.0, 5.0), (-80.0, -40.0, 0.0)), {})
    data = volume.data.copy()
    data[18:22, 17:19, 60:80] = BY_NAME["sternum"].id
    assert doubts_of_one(volume.with_data(data)) == []
    (said,) = doubts_of_one(volume.with_data(data[:, ::-1].copy()))
    assert said.startswith("the sternum lies behind the vertebrae")
