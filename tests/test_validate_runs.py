"""`petbone validate` and `petbone compare-segmentations` on real files."""

import json
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from conftest import affine, rotation
from petbone.anatomy import BY_NAME
from petbone.folders import harmless
from petbone.io import write_nifti
from petbone.volume import Grid, Unit, Volume

SHAPE, SPACING_MM = (48, 24, 20), (2.0, 2.0, 2.5)  # a voxel is 0.01 mL
NAMES = ("T6", "T7", "T8", "L3", "sacrum", "sternum")
INTERFACE = {
    "overlap": "case,bone,dice,volume_reference_ml,volume_predicted_ml,volume_difference_ml,"
    "volume_difference_percent,hd95_mm,assd_mm,nsd_2mm,note",
    "agreement": "bone,n,median_reference_ml,sd_reference_ml,median_predicted_ml,sd_predicted_ml,median_dice,"
    "bias_ml,bias_low_ml,bias_high_ml,sd_ml,loa_low_ml,loa_low_ci_low_ml,loa_low_ci_high_ml,loa_high_ml,"
    "loa_high_ci_low_ml,loa_high_ci_high_ml,mean_volume_difference_percent,icc_2_1,ccc",
}


def skeleton(extra: int = 0, axes=None, spacing_mm=SPACING_MM, origin_mm=(-40.0, 10.0, 300.0)) -> Volume:
    """Six bones in a row of 6 x (8 + extra) x 8 voxels each, and ribs 7 beside them."""
    data = np.zeros(SHAPE, np.uint8, order="F")
    for n, name in enumerate(NAMES):
        data[2 + 7 * n : 8 + 7 * n, 3 : 11 + extra, 2:10] = BY_NAME[name].id
    data[2:8, 3:7, 13:18] = BY_NAME["rib_left_7"].id
    data[38:46, 3 : 9 + extra, 13:18] = BY_NAME["rib_right_7"].id
    return Volume(
        data, Grid(SHAPE, affine(np.eye(3) if axes is None else axes, spacing_mm, origin_mm)), Unit.LABEL
    )


def renamed(volume: Volume, names: dict[str, str]) -> Volume:
    data = volume.data.copy(order="F")
    for old, new in names.items():
        data[volume.data == BY_NAME[old].id] = BY_NAME[new].id if new else 0
    return volume.with_data(data)


def folder(path: Path, volumes: dict[str, Volume], ending: str = ".nii.gz") -> Path:
    path.mkdir(parents=True)
    for name, volume in volumes.items():
        write_nifti(volume, path / f"{name}{ending}")
    return path


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, Path]:
    """Four cases whose references grow by 1 layer each; the predictions have 1, 0, 1 and 2 layers more."""
    reference = {f"case_{n}": skeleton(n) for n in (1, 2, 3, 4)}
    more = {1: 1, 2: 0, 3: 1, 4: 2}
    predicted = {f"case_{n}": skeleton(n + more[n]) for n in more}
    # not the very same file as the reference
    predicted["case_2"] = renamed(predicted["case_2"], {"sternum": ""})
    return folder(tmp_path / "manual", reference), folder(tmp_path / "auto", predicted)


def read(path: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(path / f"{name}.csv")


def test_a_study_of_four_cases(study, tmp_path, cli):
    done = cli("validate", *study, "-o", tmp_path / "out")
    assert (done.status, done.err) == (0, "")
    out = tmp_path / "out"
    assert {"agreement.csv", "groups.csv", "missing.csv", "overlap.csv", "provenance.json", "table.csv"} <= {
        path.name for path in out.iterdir()
    }
    for name, columns in INTERFACE.items():
        shared = [column for column in read(out, name).columns if column in columns.split(",")]
        assert shared == columns.split(",")
    t7 = read(out, "agreement").set_index("bone").loc["T7"]
    layer_ml = 6 * 8 * 0.01
    assert t7["n"] == 4
    assert t7["bias_ml"] == pytest.approx(layer_ml)
    assert t7["sd_ml"] == pytest.approx(layer_ml * np.std([1, 0, 1, 2], ddof=1), rel=1e-5)
    assert t7["median_reference_ml"] == pytest.approx(10.5 * layer_ml)
    sternum = read(out, "agreement").set_index("bone").loc["sternum"]
    assert (sternum["n"], sternum["n_missed"]) == (3, 1)
    dice = read(out, "overlap").set_index(["case", "bone"])["dice"]
    assert dice["case_4", "L3"] == pytest.approx(24 / 26, rel=1e-5)
    assert dice["case_2", "sternum"] == 0
    assert read(out, "missing").to_numpy().tolist() == [["case_2", "sternum", "predicted", "bone"]]
    assert "| T7          |  4 |" in done.out
    assert "note: missed by the prediction (Dice 0): sternum of case_2" in done.out
    assert str(out) in done.out
    assert "| sternum" in (out / "table.md").read_text()
    assert r"\begin{tabular}" in (out / "table.tex").read_text()


def test_two_runs_leave_the_same_bytes_and_no_path(study, tmp_path, cli):
    for name in ("one", "two"):
        assert cli("validate", *study, "-o", tmp_path / name, "--repeat", study[1]).status == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "repeat.csv" in names
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        assert str(tmp_path).encode() not in content
        assert b"nii" not in content.lower()


def test_provenance_says_what_was_compared_and_how(study, tmp_path, cli):
    cli(
        "validate",
        *study,
        "-o",
        tmp_path / "out",
        "--border",
        "boundary-voxels",
        "--bones",
        "T7,vertebrae_L3",
    )
    told = json.loads((tmp_path / "out/provenance.json").read_text())
    assert told["options"]["bones"] == ["T7", "L3"]
    assert told["options"]["border"] == "boundary voxels"
    assert len(told["inputs"]["case_3"]["predicted"]["sha256"]) == 64
    assert told["definitions"]["difference"] == "predicted minus reference"
    assert "steps" not in told


def same_voxels_otherwise(volume: Volume) -> Volume:
    """Axes permuted and two of them flipped."""
    order = (2, 0, 1)
    matrix = volume.grid.mm_from_ijk[:, [*order, 3]].copy()
    data = volume.data.transpose(order)
    for axis in (0, 2):
        matrix[:3, 3] += matrix[:3, axis] * (data.shape[axis] - 1)
        matrix[:3, axis] *= -1
        data = np.flip(data, axis)
    return Volume(data, Grid(data.shape, matrix), volume.unit)


def test_order_of_axes_makes_no_difference(axes, tmp_path, cli):
    one, two = skeleton(1, axes), skeleton(3, axes)
    folder(tmp_path / "a", {"x": one})
    folder(tmp_path / "b", {"x": two})
    folder(tmp_path / "c", {"x": same_voxels_otherwise(two)})
    said = [cli("validate", tmp_path / "a", tmp_path / name, "-o", tmp_path / f"of_{name}") for name in "bc"]
    assert said[0].status == said[1].status == 0
    for name in ("overlap", "agreement", "groups"):
        pd.testing.assert_frame_equal(read(tmp_path / "of_b", name), read(tmp_path / "of_c", name))
    row = read(tmp_path / "of_c", "overlap").set_index("bone").loc["T7"]
    assert row["dice"] == pytest.approx(18 / 20, rel=1e-5)
    assert row["volume_difference_ml"] == pytest.approx(6 * 8 * 2 * 0.01, rel=1e-5)
    assert row["hausdorff_mm"] == pytest.approx(4, abs=1e-3)


def test_other_grids_are_refused_or_resampled_and_said(tmp_path, cli):
    folder(tmp_path / "a", {"x": skeleton(2)})
    folder(tmp_path / "b", {"x": skeleton(2, rotation(4.0))})
    refused = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out")
    assert refused.status == 3
    assert refused.err.count("48 x 24 x 20 voxels of 2 x 2 x 2.5 mm") == 2
    assert "--resample" in refused.err
    assert not (tmp_path / "out").exists()
    done = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--resample")
    assert done.status == 0
    assert "note: x: the prediction was resampled" in done.out
    assert read(tmp_path / "out", "overlap")["note"].str.contains("resampled to the grid").all()
    assert json.loads((tmp_path / "out/provenance.json").read_text())["options"]["resample"] is True


def test_what_the_prediction_could_not_see_is_said(tmp_path, cli):
    whole = skeleton(1)
    box = (slice(0, 14), slice(0, 24), slice(0, 20))  # T6, rib 7 left, 5 of 6 layers of T7
    folder(tmp_path / "a", {"x": whole})
    folder(tmp_path / "b", {"x": whole.cropped(box)})
    done = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--resample")
    note = read(tmp_path / "out", "overlap").set_index("bone")["note"]
    assert "17 % of the reference is outside of the prediction's field" in note["T7"]
    assert "100 % of the reference is outside of the prediction's field" in note["L3"]
    assert "outside" not in note["rib_left_7"]
    assert "note: the reference reaches out of the prediction's field" in done.out


def test_what_the_reference_has_no_field_for_is_said(tmp_path, cli):
    """A prediction must not shrink in silence where the reference's grid ends."""
    whole = skeleton(1)
    box = (slice(0, 14), slice(0, 24), slice(0, 20))  # T6, rib 7 left, 5 of 6 layers of T7
    folder(tmp_path / "a", {"x": whole.cropped(box)})
    folder(tmp_path / "b", {"x": whole})
    done = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--resample")
    note = read(tmp_path / "out", "overlap").set_index("bone")["note"]
    assert "17 % of the prediction is outside of the reference's field, so not counted" in note["T7"]
    assert note["L3"] == "100 % of the prediction is outside of the reference's field, so not counted"
    assert "outside" not in note["rib_left_7"]
    assert "note: the prediction reaches out of the reference's field" in done.out
    every = ("-o", tmp_path / "every", "--resample", "--bones", "all")
    done = cli("validate", tmp_path / "a", tmp_path / "b", *every)
    assert "L3" not in set(read(tmp_path / "every", "overlap")["bone"])
    (said,) = [line for line in done.out.splitlines() if "reaches out of the reference's field" in line]
    assert "L3 of x" in said


def test_scans_of_other_places_are_refused_with_resample_too(tmp_path, cli):
    folder(tmp_path / "a", {"x": skeleton()})
    folder(tmp_path / "b", {"x": skeleton(origin_mm=(-40.0, 10.0, 900.0))})
    refused = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--resample")
    assert refused.status == 3
    assert "does not overlap" in refused.err


def test_no_name_of_a_case_is_a_formula_of_a_spreadsheet(tmp_path, cli):
    names = ["=1+1", "-1+2", "@x", "a=b"]
    folder(tmp_path / "a", {name: skeleton(1) for name in names})
    folder(tmp_path / "b", {name: skeleton(2) for name in names[:-1]})
    assert cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out").status == 0
    assert set(read(tmp_path / "out", "overlap")["case"]) == {"'=1+1", "'-1+2", "'@x"}
    assert "a=b" in set(read(tmp_path / "out", "missing")["case"])
    assert set(json.loads((tmp_path / "out/provenance.json").read_text())["inputs"]) == set(names[:-1])


def test_files_without_partner_are_said(study, tmp_path, cli):
    (study[1] / "case_4.nii.gz").unlink()
    write_nifti(skeleton(), study[1] / "other.nii.gz")
    (study[1] / "notes.txt").write_text("x")
    done = cli("validate", *study, "-o", tmp_path / "out")
    assert "note: 1 case without a predicted mask, not compared: case_4" in done.out
    assert "note: 1 case without a reference mask, not compared: other" in done.out
    assert "1 entry of a folder is no image and was passed over (.txt)" in done.out
    missing = read(tmp_path / "out", "missing").fillna("").to_numpy().tolist()
    assert ["case_4", "", "predicted", "file"] in missing
    assert ["other", "", "reference", "file"] in missing
    assert (read(tmp_path / "out", "agreement")["n_unpaired"] == 2).all()


def test_no_pair_at_all_is_refused_with_names_of_both_sides(tmp_path, cli):
    folder(tmp_path / "a", {"p1": skeleton()})
    folder(tmp_path / "b", {"q1": skeleton()})
    refused = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out")
    assert refused.status == 3
    assert "(q1)" in refused.err
    assert "(p1)" in refused.err


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda place: (place / "b").rmdir(), "no such file or folder"),
        (lambda place: None, "holds no image"),
        (
            lambda place: [write_nifti(skeleton(), place / "b" / f"x{end}") for end in (".nii", ".nii.gz")],
            "the case x is in",
        ),
        (lambda place: (place / "b/x.nii.gz").write_bytes(b""), "the file is empty"),
    ],
)
def test_what_cannot_be_paired_or_read_is_refused(tmp_path, cli, prepare, words):
    folder(tmp_path / "a", {"x": skeleton()})
    (tmp_path / "b").mkdir()
    prepare(tmp_path)
    refused = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out")
    assert refused.status == 3
    assert words in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["validate", "compare-segmentations", "validate-hotspots"])
def test_a_file_that_cannot_be_opened_is_named(study, tmp_path, cli, command, monkeypatch):
    """A socket, which nobody can open, stands for a file without permission, which root can."""
    (study[1] / "case_3.nii.gz").unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(study[1])  # the path of a socket is short
        bound.bind("case_3.nii.gz")
        refused = cli(command, *study, "-o", tmp_path / "out")
    assert (refused.status, refused.err.count("\n")) == (3, 1)
    assert "case_3.nii.gz: cannot be opened" in refused.err
    assert not (tmp_path / "out").exists()


def test_two_files_are_a_pair_whatever_their_names(tmp_path, cli):
    a, b = (
        folder(tmp_path / "a", {"Miller": skeleton()}),
        folder(tmp_path / "b/Smith", {"bones": skeleton(1)}),
    )
    for words in (("validate",), ("validate", "--repeat", a / "Miller.nii.gz"), ("compare-segmentations",)):
        done = cli(*words, a / "Miller.nii.gz", b, "-o", tmp_path / "out", "--overwrite")
        assert done.status == 0
        for path in (tmp_path / "out").iterdir():
            assert not any(name in path.read_text() for name in ("Miller", "Smith"))
        assert "Miller" not in done.out
    assert set(read(tmp_path / "out", "volumes")["case"]) == {1}


def test_one_file_and_a_folder_are_no_pair(study, tmp_path, cli):
    refused = cli("validate", study[0] / "case_1.nii.gz", study[1], "-o", tmp_path / "out")
    assert (refused.status, refused.err.count("\n")) == (3, 1)
    assert "is a folder of files" in refused.err


def test_folders_of_petbone_run_and_other_formats_pair_by_case(tmp_path, cli):
    folder(tmp_path / "runs/case_1", {"bones": skeleton(1)})
    folder(tmp_path / "runs/case_2", {"bones": skeleton(2)})
    (tmp_path / "manual").mkdir()
    for n, ending in ((1, ".nrrd"), (2, ".mha")):
        volume = skeleton(n + 1)
        image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T))
        image.SetSpacing(SPACING_MM)
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        image.SetOrigin((40.0, -10.0, 300.0))
        sitk.WriteImage(image, str(tmp_path / f"manual/case_{n}{ending}"))
    done = cli("validate", tmp_path / "manual", tmp_path / "runs", "-o", tmp_path / "out")
    assert done.status == 0
    assert read(tmp_path / "out", "agreement").set_index("bone").loc["T7", "n"] == 2


def test_unknown_labels_are_refused_in_one_line(study, tmp_path, cli):
    volume = skeleton()
    write_nifti(volume.with_data(np.where(volume.data == 7, 90, volume.data)), study[1] / "case_3.nii.gz")
    refused = cli("validate", *study, "-o", tmp_path / "out")
    assert refused.status == 3
    assert "case_3.nii.gz: labels up to 90" in refused.err
    assert "--labels-predicted" in refused.err


def test_labels_of_each_side(study, tmp_path, cli):
    table = tmp_path / "own.csv"
    table.write_text("label,name\n" + "\n".join(f"{100 + n},{name}" for n, name in enumerate(NAMES)))
    for path in study[0].iterdir():
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        other = np.zeros_like(data)
        for n, name in enumerate(NAMES):
            other[data == BY_NAME[name].id] = 100 + n
        nib.save(nib.Nifti1Image(other, image.affine), path)
    done = cli("validate", *study, "-o", tmp_path / "out", "--labels-reference", table)
    assert done.status == 0
    assert "note: no reference holds rib_left_7, rib_right_7: left out of the tables" in done.out
    assert read(tmp_path / "out", "agreement").set_index("bone").loc["T7", "n"] == 4
    assert json.loads((tmp_path / "out/provenance.json").read_text())["options"]["labels_reference"] == "csv"


def test_masks_without_an_asked_bone_are_refused(study, tmp_path, cli):
    refused = cli("validate", *study, "-o", tmp_path / "out", "--bones", "femur_left,skull")
    assert refused.status == 3
    assert "no reference mask holds femur_left, skull" in refused.err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--bones", "T7,knee", "knee is no bone"),
        ("--bones", ",", "nothing is no bone"),
        ("--border", "x", "boundary-voxels"),
    ],
)
def test_wrong_words_are_wrong_usage(study, tmp_path, cli, option, value, words):
    refused = cli("validate", *study, "-o", tmp_path / "out", option, value)
    assert refused.status == 2
    assert words in refused.err


def test_all_bones_are_those_that_a_mask_holds(study, tmp_path, cli):
    assert cli("validate", *study, "-o", tmp_path / "out", "--bones", "all").status == 0
    assert set(read(tmp_path / "out", "agreement")["bone"]) == {*NAMES, "rib_left_7", "rib_right_7"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v, "case_1: the same file on both sides"),
        (lambda v: v.with_data(np.zeros_like(v.data)), "case_1: the prediction holds no bone"),
        (
            lambda v: renamed(v, {"rib_left_7": "rib_right_7", "rib_right_7": "rib_left_7"}),
            "case_1: left and right seem to be swapped",
        ),
        (
            lambda v: renamed(v, {"T6": "T7", "T7": "T8", "T8": "T9"}),
            "case_1: names seem to be a level off: of the prediction, T7 lies on T6, T8 lies on T7",
        ),
        (
            lambda v: v.with_data(np.asfortranarray(v.data[::-1])),
            "case_1: the prediction seems to be the mirror",
        ),
    ],
)
def test_what_seems_mistaken_is_warned_of(study, tmp_path, cli, change, words):
    path = study[1] / "case_1.nii.gz"
    write_nifti(change(skeleton(1)), path)
    done = cli("validate", *study, "-o", tmp_path / "out")
    assert done.status == 0
    assert words in done.out
    assert any(
        words in warning for warning in json.loads((tmp_path / "out/provenance.json").read_text())["warnings"]
    )


def test_what_both_sides_have_wrong_is_warned_of(tmp_path, cli):
    """Left and right swapped in both masks agree with each other, and are still wrong."""
    swap = {"rib_left_7": "rib_right_7", "rib_right_7": "rib_left_7"}
    one, two = (folder(tmp_path / f"{n}", {"x": renamed(skeleton(n), swap)}) for n in (1, 2))
    for command, sides in (
        ("validate", ("reference", "prediction")),
        ("compare-segmentations", ("first", "second")),
    ):
        done = cli(command, one, two, "-o", tmp_path / command)
        for side in sides:
            assert f"note: x: {side}: 1 of 1 left bones lie to the patient's right" in done.out
    empty = folder(tmp_path / "empty", {"x": skeleton().with_data(np.zeros(SHAPE, np.uint8))})
    done = cli("compare-segmentations", one, empty, "-o", tmp_path / "out")
    assert "note: x: second: the mask holds no bone" in done.out


def test_a_mask_of_one_label_is_called_c1_and_that_is_said(tmp_path, cli):
    one = skeleton()
    mask = one.with_data(np.asfortranarray((one.data == BY_NAME["T7"].id).astype(np.uint8)))
    folder(tmp_path / "a", {"x": mask})
    folder(tmp_path / "b", {"x": skeleton(1)})
    done = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--bones", "all")
    assert "note: x: reference: 1 is the only label, which petbone calls C1" in done.out


def test_swapped_sides_are_warned_of(tmp_path, cli):
    folder(tmp_path / "runs/case_1", {"bones": skeleton(1)})
    (tmp_path / "runs/case_1/provenance.json").write_text(json.dumps({"petbone": "0.1.0", "weights": "ab12"}))
    folder(tmp_path / "manual", {"case_1": skeleton(2)})
    words = "made by petbone, and nothing says so of the predictions: are the two sides swapped?"
    assert words in cli("validate", tmp_path / "runs", tmp_path / "manual", "-o", tmp_path / "a").out
    assert (
        "two sides" not in cli("validate", tmp_path / "manual", tmp_path / "runs", "-o", tmp_path / "b").out
    )


def test_bones_at_the_end_of_the_scan_are_said_to_be_cut(tmp_path, cli):
    volume = skeleton()
    data = volume.data.copy(order="F")
    data[5:8, 0:3, 2:10] = BY_NAME["T7"].id
    folder(tmp_path / "a", {"x": volume.with_data(data)})
    folder(tmp_path / "b", {"x": skeleton(1)})
    done = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out")
    note = read(tmp_path / "out", "overlap").set_index("bone")["note"]
    assert note["T7"] == "reference cut by the end of the scan (posterior)"
    assert "cut by the end of the scan: T7 of x" in done.out


def test_second_readings_of_one_scan_and_of_another(study, tmp_path, cli):
    again = folder(tmp_path / "again", {"case_1": skeleton(2), "case_9": skeleton()})
    second = folder(tmp_path / "second", {"case_1": skeleton(4, spacing_mm=(2.0, 2.0, 2.6))})
    done = cli(
        "validate", *study, "-o", tmp_path / "out", "--repeat", again, "--repeat-predicted", second
    )  # fmt: skip
    assert "note: 1 second reading without a reference mask, not compared: case_9" in done.out
    repeat = read(tmp_path / "out", "repeat").set_index(["method", "bone"])
    assert repeat.loc[("reference", "T7"), "volume_difference_percent"] == pytest.approx(100 / 9.5, rel=1e-5)
    assert repeat.loc[("reference", "T7"), "dice"] == pytest.approx(18 / 19, rel=1e-5)
    assert np.isnan(repeat.loc[("predicted", "T7"), "dice"])
    one, two = 10 * 2.5, 12 * 2.6
    percent = 200 * (two - one) / (two + one)
    assert repeat.loc[("predicted", "T7"), "volume_difference_percent"] == pytest.approx(percent, rel=1e-5)
    table = read(tmp_path / "out", "table").set_index("bone")
    assert table.loc["T7", "repeat_reference_percent"] == pytest.approx(100 / 9.5, rel=1e-5)
    assert table.loc["T7", "n_repeat_predicted"] == 1


def test_second_readings_are_doubted_and_recorded(study, tmp_path, cli):
    """Taken for second readings: the first ones, the prediction, a mirrored map, another scan."""
    again = folder(tmp_path / "again", {"case_3": skeleton(4, spacing_mm=(2.0, 2.0, 2.6))})
    mirrored = skeleton(4)
    write_nifti(mirrored.with_data(np.asfortranarray(mirrored.data[::-1])), again / "case_4.nii.gz")
    for number, side in ((1, 0), (2, 1)):
        name = f"case_{number}.nii.gz"
        (again / name).write_bytes((study[side] / name).read_bytes())
    done = cli("validate", *study, "-o", tmp_path / "out", "--repeat", again)
    told = json.loads((tmp_path / "out/provenance.json").read_text())
    for words in (
        "case_1: the same file as reference and as second reference, so nothing can differ",
        "case_2: the same file as predicted and as second reference: is it a second reading?",
        "case_3: second reading (reference): it is on another grid than the first, so of another scan",
        "case_4: second reading (reference): the second reading seems to be the mirror image",
    ):
        assert f"note: {words}" in done.out
        assert any(warning.startswith(words) for warning in told["warnings"])
    assert all(len(of["reference_2"]["sha256"]) == 64 for of in told["inputs"].values())


def ct_of(volume: Volume) -> Volume:
    return Volume(np.where(volume.data > 0, 400, -900).astype(np.int16), volume.grid, Unit.HU)


def test_pictures_have_the_ct_where_there_is_one(study, tmp_path):
    from petbone.steps import Steps
    from petbone.validation_files import StudyFiles, StudyOptions, read_study

    folder(tmp_path / "ct", {f"case_{n}_0000": ct_of(skeleton(n)) for n in (3, 4)})
    made, _ = read_study(StudyFiles(*study, ct=tmp_path / "ct"), StudyOptions(), Steps())
    by_case = {worst.case: worst for worst in made.worst}
    assert {"case_4", "case_2"} <= by_case.keys()
    with_ct, without = by_case["case_4"], by_case["case_2"]
    assert with_ct.frame.unit is Unit.HU
    assert (with_ct.frame.data[with_ct.reference] == 400).all()
    assert (without.frame.unit, without.why) == (Unit.LABEL, "missed")
    assert "case_2: no CT of this name: pictures without it" in made.warnings
    assert made.ruler.tolerance_mm == 2


def test_a_ct_that_is_not_there_is_refused(study, tmp_path, cli):
    refused = cli("validate", *study, "-o", tmp_path / "out", "--ct", tmp_path / "nothing")
    assert refused.status == 3
    assert "expected a CT" in refused.err


def test_a_ct_of_another_case_is_never_drawn(study, tmp_path, cli):
    cts = folder(tmp_path / "ct", {"case_3": ct_of(skeleton()), "case_3_0000": ct_of(skeleton())})
    refused = cli("validate", *study, "-o", tmp_path / "out", "--ct", cts / "case_3.nii.gz")
    assert (refused.status, refused.err.count("\n")) == (3, 1)
    assert "is one CT, and there are 4 cases" in refused.err
    refused = cli("validate", *study, "-o", tmp_path / "out", "--ct", cts)
    assert (refused.status, refused.err.count("\n")) == (3, 1)
    assert "is of the case case_3, too" in refused.err


@pytest.mark.parametrize("name", ["²", "1²", "٣", "=1+1", "<script>alert(1)", "Jürg Ü", "x" * 240])
def test_a_case_may_have_any_name(tmp_path, cli, name):
    one, two = folder(tmp_path / "a", {"x": skeleton()}), folder(tmp_path / "b", {"x": skeleton(1)})
    for place in (one, two):
        (place / "x.nii.gz").rename(place / f"{name}.nii.gz")
    assert cli("validate", one, two, "-o", tmp_path / "out").status == 0
    assert set(read(tmp_path / "out", "overlap")["case"]) == {harmless(name)}
    assert "<script>alert" not in (tmp_path / "out/validation.html").read_text()


def test_results_do_not_take_the_place_of_masks(study, cli):
    refused = cli("validate", *study, "-o", study[0], "--overwrite")
    assert refused.status == 3
    assert "holds what is to be compared" in refused.err


def test_a_folder_whose_name_is_too_long_is_refused(study, tmp_path, cli):
    for name in ("y" * 300, "y" * 250):
        refused = cli("validate", *study, "-o", tmp_path / name)
        assert (refused.status, refused.err.count("\n")) == (3, 1)
        assert "cannot be made: File name too long" in refused.err


def test_a_folder_that_cannot_be_written_is_no_defect_of_petbone(tmp_path):
    from petbone.errors import ResourceError
    from petbone.folders import write_tables

    with pytest.raises(ResourceError, match="cannot be written"):
        write_tables({"a": pd.DataFrame()}, {}, {}, tmp_path / "nothing")


# ---- compare-segmentations


def test_volumes_of_two_segmentations(tmp_path, cli):
    more = {1: 1, 2: 0, 3: 2}
    other = {"origin_mm": (-44.0, 12.0, 280.0)}
    one = folder(tmp_path / "january", {f"p{n}": skeleton(n) for n in (1, 2, 3, 4)})
    two = folder(tmp_path / "june", {f"p{n}": skeleton(n + more[n], **other) for n in more})
    cut = skeleton(3 + more[3], **other)
    data = cut.data.copy(order="F")
    data[2:8, 3:11, 0:2] = BY_NAME["T6"].id
    write_nifti(cut.with_data(data), two / "p3.nii.gz")
    done = cli("compare-segmentations", one, two, "-o", tmp_path / "out")
    assert done.status == 0
    assert "| vertebral column |" in done.out
    assert "note: 1 case without a second mask, not compared: p4" in done.out
    agreement = read(tmp_path / "out", "agreement").set_index("bone")
    percent = [200 / 19, 0, 400 / 24]
    assert agreement.loc["T7", "mean_volume_difference_percent"] == pytest.approx(np.mean(percent), rel=1e-5)
    layer_ml = 6 * 8 * 0.01
    within = np.sqrt((1 + 0 + 4) / 6) * layer_ml
    assert agreement.loc["T7", "repeatability_coefficient_ml"] == pytest.approx(
        1.96 * np.sqrt(2) * within, rel=1e-5
    )
    assert agreement.loc["T7", "bias_ml"] == pytest.approx(layer_ml)
    assert agreement.loc["T6", ["n", "n_cut"]].tolist() == [2, 1]
    families = read(tmp_path / "out", "families").set_index("family")
    assert families.index[:3].tolist() == ["vertebral_column", "ribs", "others"]
    assert families.loc["vertebral_column", "n"] == 11
    missing = read(tmp_path / "out", "missing").fillna("").to_numpy().tolist()
    assert ["p4", "", "second", "file"] in missing
    assert ["p3", "T6", "second", "cut by the end of the scan"] in missing
    volumes = read(tmp_path / "out", "volumes").set_index(["case", "bone"])
    assert np.isnan(volumes.loc[("p3", "T6"), "volume_difference_percent"])
    assert volumes.loc[("p3", "T6"), "volume_2_ml"] > 0


def test_segmentations_without_bones_are_refused(tmp_path, cli):
    empty = skeleton().with_data(np.zeros(SHAPE, np.uint8))
    folder(tmp_path / "a", {"x": empty})
    folder(tmp_path / "b", {"x": empty})
    refused = cli("compare-segmentations", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out")
    assert refused.status == 3
    assert "holds any bone" in refused.err


def test_a_bone_missed_in_every_case_has_no_interval_of_width_0(tmp_path, cli):
    """Three of three missed does not show that the median is 0 between 0 and 0."""
    folder(tmp_path / "a", {f"c{n}": skeleton(1) for n in range(3)})
    without = skeleton(1)
    without = without.with_data(np.where(without.data == BY_NAME["L3"].id, 0, without.data))
    folder(tmp_path / "b", {f"c{n}": without for n in range(3)})
    assert cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out").status == 0
    row = read(tmp_path / "out", "agreement").set_index("bone").loc["L3"]
    assert (row.n, row.n_missed, row.median_dice) == (0, 3, 0)
    assert np.isnan([row.median_dice_low, row.median_dice_high]).all()
    assert "all Dice are the same" in row.note


def test_names_off_by_a_level_between_two_scans_are_said(tmp_path, cli):
    """Vertebrae of the second scan are named one too low, and so lie where the ribs do not."""
    names = [f"T{n}" for n in range(5, 11)]

    def trunk(off: int, origin_mm: tuple[float, float, float]) -> Volume:
        data = np.zeros((20, 12, 60), np.uint8, order="F")
        for n in range(6):
            k = 50 - 8 * n
            data[8:12, 4:8, k : k + 4] = BY_NAME[f"T{5 + n + off}"].id
            data[2:5, 4:8, k : k + 3] = BY_NAME[f"rib_left_{5 + n}"].id
            data[15:18, 4:8, k : k + 3] = BY_NAME[f"rib_right_{5 + n}"].id
        return Volume(data, Grid(data.shape, affine(np.eye(3), (3.0, 3.0, 3.0), origin_mm)), Unit.LABEL)

    first = folder(tmp_path / "a", {"x": trunk(0, (-30.0, 0.0, 0.0))})
    for off in (0, 1):
        second = folder(tmp_path / f"b{off}", {"x": trunk(off, (-21.0, 5.0, 300.0))})
        asked = ("--bones", ",".join(names))
        done = cli("compare-segmentations", first, second, "-o", tmp_path / f"out{off}", *asked)
        assert done.status == 0
        assert ("vertebrae against ribs by 24 mm" in done.out) == bool(off)
        done = cli("validate", first, first, "--repeat", second, "-o", tmp_path / f"v{off}", *asked)
        assert done.status == 0
        assert ("vertebrae against ribs by 24 mm" in done.out) == bool(off)


def test_bones_that_the_labels_of_a_tool_do_not_have_are_said(tmp_path, cli):
    whole = skeleton(1)
    folder(tmp_path / "a", {"x": renamed(whole, {"sternum": "mandible"})})
    table = tmp_path / "own.csv"
    table.write_text(
        "label,name\n" + "".join(f"{BY_NAME[n].id},{n}\n" for n in (*NAMES, "rib_left_7", "rib_right_7"))
    )
    folder(tmp_path / "b", {"x": renamed(whole, {"L3": ""})})
    asked = ("--bones", "mandible,L3,T7", "--labels-predicted", table)
    done = cli("validate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", *asked)
    assert done.status == 0
    assert "note: x: the labels of the prediction have no mandible, which counts as missed" in done.out
    assert set(read(tmp_path / "out", "overlap").query("found == 'missed'")["bone"]) == {"mandible", "L3"}
