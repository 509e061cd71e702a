"""`petbone validate-hotspots` on files: what it writes, what it undoes, what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import affine
from petbone.detection import Criterion
from petbone.detection_figures import wilson_interval
from petbone.detection_files import (
    FIGURE_COLUMNS,
    LESION_COLUMNS,
    PATIENT_COLUMNS,
    validate_hotspots,
    write_detection,
)
from petbone.errors import ResourceError
from petbone.io import write_nifti
from petbone.steps import Steps
from petbone.volume import Grid, Unit, Volume

SHAPE = (12, 8, 6)
VOXEL_ML = 0.02


def save(path: Path, boxes: dict[int, tuple[int, int]], axes=None, value=None) -> Path:
    """A map of lesions that are rows of voxels [from, to) at a row of their own; or SUV in their place."""
    grid = Grid(SHAPE, affine(np.eye(3) if axes is None else axes, (2.0, 2.0, 5.0), (-10.0, 5.0, 100.0)))
    data = np.zeros(SHAPE, np.uint8)
    suv = np.ones(SHAPE, np.float32)
    for number, (start, stop) in boxes.items():
        data[start:stop, number % 8, 3] = number
        suv[start:stop, number % 8, 3] = 10 * number
    path.parent.mkdir(exist_ok=True)
    volume = Volume(data, grid, Unit.LABEL) if value is None else Volume(suv, grid, Unit.SUV)
    write_nifti(volume, path)
    return path


def turn(path: Path) -> None:
    """The same voxels in another order."""
    import nibabel as nib

    image = nib.load(path)
    turned = image.as_reoriented(nib.orientations.axcodes2ornt(("P", "I", "L")))
    assert turned.shape != image.shape
    nib.save(turned, path)


@pytest.fixture
def study(tmp_path: Path, axes: np.ndarray) -> Path:
    """Three patients in folders; ``c`` has no lesion, ``d`` has no predicted map."""
    ref, pred, suv = (tmp_path / name for name in ("reference", "predicted", "suv"))
    save(ref / "a.nii.gz", {1: (0, 6), 2: (0, 4), 3: (2, 8)}, axes)
    # Lesion 1 found, 2 in half, 3 missed; 5 is false. Row 9 % 8 is row 1: a piece of lesion 1.
    save(pred / "a.nii.gz", {1: (0, 4), 9: (5, 6), 2: (0, 2), 5: (0, 3)}, axes)
    save(suv / "a.nii.gz", {1: (0, 6), 2: (0, 4), 3: (2, 8), 5: (0, 3)}, axes, "suv")
    save(ref / "b.nii.gz", {1: (0, 3)}, axes)
    save(pred / "b.nii.gz", {1: (0, 3)}, axes)
    save(suv / "b.nii.gz", {1: (0, 3)}, axes, "suv")
    for folder in (ref, pred):
        save(folder / "c.nii.gz", {}, axes)
    save(suv / "c.nii.gz", {}, axes, "suv")
    save(ref / "d.nii.gz", {1: (0, 3)}, axes)
    return tmp_path


def figures_in(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "detection.csv").set_index("figure")


def test_a_study_by_hand(study: Path, cli):
    out = study / "out"
    answer = cli(
        "validate-hotspots", study / "reference", study / "predicted", "--suv", study / "suv", "-o", out
    )
    assert answer.status == 0, answer.err
    assert {path.name for path in out.iterdir()} == {
        "lesions.csv", "patients.csv", "detection.csv", "froc.csv", "provenance.json",
    }  # fmt: skip
    lesions = pd.read_csv(out / "lesions.csv", keep_default_na=False)
    assert tuple(lesions.columns) == LESION_COLUMNS
    rows = [tuple(map(str, row)) for row in lesions.drop(columns="overlap").itertuples(index=False)]
    assert rows == [
        ("a", "1", "1", "found", "0.12", "0.08", "10", "10", ""),
        ("a", "2", "2", "found", "0.08", "0.04", "20", "20", ""),
        ("a", "3", "", "missed", "0.12", "", "30", "", ""),
        ("a", "", "5", "false", "", "0.06", "", "50", ""),
        ("a", "", "9", "false", "", "0.02", "", "10", "split: lies mostly in reference lesion 1"),
        ("b", "1", "1", "found", "0.06", "0.06", "10", "10", ""),
    ]
    assert lesions["overlap"].astype(float).tolist() == pytest.approx(
        [4 / 6, 2 / 4, 0, 0, 1 / 6, 1], rel=1e-5
    )
    patients = pd.read_csv(out / "patients.csv", keep_default_na=False)
    assert tuple(patients.columns) == PATIENT_COLUMNS
    assert patients[["case", "found", "missed", "false", "split", "note"]].astype(
        str
    ).to_numpy().tolist() == [
        ["a", "2", "1", "2", "1", ""],
        ["b", "1", "0", "0", "0", ""],
        ["c", "0", "0", "0", "0", ""],
        ["d", "", "", "", "", "no predicted map"],
    ]
    assert (
        patients.set_index("case").loc["c", ["sensitivity", "precision", "f1", "dice"]].tolist() == [""] * 4
    )
    figures = figures_in(out)
    assert tuple(pd.read_csv(out / "detection.csv").columns) == FIGURE_COLUMNS
    expected = {"sensitivity": 3 / 4, "precision": 3 / 5, "f1": 6 / 9, "precision_without_split": 3 / 4}
    expected |= {"false_positives_per_patient": 2 / 3, "patients": 3, "unpaired": 1}
    expected |= {"patient_sensitivity": 1, "patient_specificity": 1}
    expected |= {"sensitivity_at_0.5_false": 1 / 4, "sensitivity_at_1_false": 3 / 4}
    assert figures["value"][list(expected)].to_dict() == pytest.approx(expected, rel=1e-5)
    low, high = wilson_interval(3, 4)
    assert figures.loc["sensitivity", ["low", "high", "n"]].tolist() == pytest.approx(
        [low, high, 4], rel=1e-5
    )
    curve = pd.read_csv(out / "froc.csv")
    # 50 is false; then 20; then three at 10: two found, one false.
    assert curve.to_numpy().tolist() == [
        [50, 0, pytest.approx(1 / 3, rel=1e-5)],
        [20, 1 / 4, pytest.approx(1 / 3, rel=1e-5)],
        [10, 3 / 4, pytest.approx(2 / 3, rel=1e-5)],
    ]
    assert "1 case has no predicted map and is in no figure (d)" in answer.out
    assert "3 patients: 3 found, 1 missed, 2 false (IoU at least 0.1)" in answer.out


def test_without_suv_there_is_no_curve(study: Path, cli):
    out = study / "out"
    assert cli("validate-hotspots", study / "reference", study / "predicted", "-o", out, "-q").status == 0
    assert not (out / "froc.csv").exists()
    assert not figures_in(out).index.str.startswith("sensitivity_at").any()
    assert pd.read_csv(out / "lesions.csv")["predicted_suv_max"].isna().all()


def test_maps_whose_axes_run_otherwise_give_the_same_tables(study: Path, cli):
    words = (
        "validate-hotspots",
        study / "reference",
        study / "predicted",
        "--suv",
        study / "suv",
        "-q",
        "-o",
    )
    assert cli(*words, study / "before").status == 0
    turn(study / "predicted" / "a.nii.gz")
    turn(study / "suv" / "b.nii.gz")
    assert cli(*words, study / "after").status == 0
    for name in ("lesions.csv", "patients.csv", "detection.csv", "froc.csv"):
        assert (study / "before" / name).read_text() == (study / "after" / name).read_text()
    told = json.loads((study / "after" / "provenance.json").read_text())
    assert told["cases"][0]["predicted"]["axes_turned"]
    assert not told["cases"][0]["reference"]["axes_turned"]


def test_provenance_says_what_was_compared_and_no_path(study: Path, cli):
    out = study / "out"
    words = ("--overlap", "dice", "--least", "0.3", "--min-volume-ml", "0.05")
    assert cli("validate-hotspots", study / "reference", study / "predicted", "-o", out, *words).status == 0
    text = (out / "provenance.json").read_text()
    told = json.loads(text)
    assert told["criterion"] == {
        "overlap": "dice", "least": 0.3, "min_volume_ml": 0.05, "words": "Dice at least 0.3",
    }  # fmt: skip
    assert [case["case"] for case in told["cases"]] == ["a", "b", "c"]
    assert re.fullmatch("[0-9a-f]{64}", told["cases"][0]["reference"]["sha256"])
    assert told["cases"][0]["reference"]["reading"] == "numbers"
    assert told["unpaired"] == [{"case": "d", "lacks": "predicted"}]
    for table in out.iterdir():
        assert str(study) not in table.read_text()


def test_two_runs_leave_the_same_bytes(study: Path, cli):
    for name in ("one", "two"):
        words = (study / "reference", study / "predicted", "--suv", study / "suv", "-o", study / name)
        assert cli("validate-hotspots", *words).status == 0
    for path in (study / "one").iterdir():
        assert path.read_bytes() == (study / "two" / path.name).read_bytes()


def test_two_files_do_not_tell_their_names(study: Path, cli):
    (study / "reference" / "a.nii.gz").rename(study / "Miller.nii.gz")
    out = study / "out"
    one, two = study / "Miller.nii.gz", study / "predicted" / "a.nii.gz"
    answer = cli("validate-hotspots", one, two, "--suv", study / "suv" / "a.nii.gz", "-o", out)
    assert answer.status == 0, answer.err
    assert set(pd.read_csv(out / "lesions.csv")["case"]) == {1}
    assert not any("Miller" in path.read_text() for path in out.iterdir())
    assert "Miller" not in answer.out


def test_folders_of_petbone_run_are_cases(study: Path, cli):
    for case in "abc":
        run = study / "runs" / case
        run.mkdir(parents=True)
        (study / "predicted" / f"{case}.nii.gz").rename(run / "hotspots.nii.gz")
        (study / "suv" / f"{case}.nii.gz").rename(run / "suv.nii.gz")
    answer = cli(
        "validate-hotspots", study / "reference", study / "runs", "--suv", study / "runs", "-o", study / "out"
    )
    assert answer.status == 0, answer.err
    figures = figures_in(study / "out")["value"]
    assert figures[["sensitivity", "sensitivity_at_1_false"]].tolist() == [3 / 4, 3 / 4]


def test_what_seems_mistaken_is_warned_of(study: Path, axes: np.ndarray, tmp_path: Path, cli):
    ref, pred = study / "reference", study / "predicted"
    left_right = int(np.abs(axes[0]).argmax())
    import nibabel as nib

    image = nib.load(ref / "a.nii.gz")
    data = np.zeros(SHAPE, np.uint8)
    data[0:5, 0:3, 0:2] = 1
    for folder, mask in ((ref, data), (pred, np.flip(data, left_right))):
        nib.save(nib.Nifti1Image(mask, image.affine), folder / "a.nii.gz")
    (ref / "d.nii.gz").write_bytes((ref / "b.nii.gz").read_bytes())
    save(pred / "d.nii.gz", {2: (3, 5)}, axes)
    answer = cli("validate-hotspots", ref, pred, "-o", study / "out")
    assert "note: a: the prediction seems to be the mirror image" in answer.out
    assert "note: b, d: one and the same reference file" in answer.out
    assert "b: the prediction" not in answer.out
    save(tmp_path / "far" / "b.nii.gz", {3: (0, 3)}, axes)
    answer = cli("validate-hotspots", ref, tmp_path / "far", "-o", study / "far_out")
    assert "in none of 1 case with lesions in both maps does one touch another" in answer.out


def test_swapped_sides_are_warned_of(study: Path, cli):
    run = study / "runs" / "b"
    run.mkdir(parents=True)
    (study / "predicted" / "b.nii.gz").rename(run / "hotspots.nii.gz")
    (run / "provenance.json").write_text(json.dumps({"petbone": "0.1.0"}))
    words = "made by petbone, and nothing says so of the predictions: are the two sides swapped?"
    assert words in cli("validate-hotspots", study / "runs", study / "reference", "-o", study / "a").out
    assert words not in cli("validate-hotspots", study / "reference", study / "runs", "-o", study / "b").out


def test_masks_are_read_by_their_parts(tmp_path: Path, cli):
    shape = (8, 8, 8)
    grid = Grid(shape, affine(np.eye(3), (2.0, 2.0, 5.0), (0.0, 0.0, 0.0)))
    mask = np.zeros(shape, np.uint8)
    mask[0:2, 0, 0] = mask[5:8, 5, 5] = 1
    for name, data in (("mask", mask), ("half", np.where(np.indices(shape)[0] < 4, mask, 0))):
        write_nifti(Volume(data.astype(np.uint8), grid, Unit.LABEL), tmp_path / f"{name}.nii")
    words = ("validate-hotspots", tmp_path / "mask.nii", tmp_path / "half.nii", "-o")
    answer = cli(*words, tmp_path / "auto")
    assert "reference: 1 of 1 maps are masks: lesions are their connected parts" in answer.out
    assert figures_in(tmp_path / "auto")["value"]["sensitivity"] == 0.5
    answer = cli(*words, tmp_path / "numbers", "--lesions", "numbers")
    assert "reference: 1 lesions are of separate parts" in answer.out
    assert figures_in(tmp_path / "numbers")["value"]["sensitivity"] == 1


def test_a_map_against_itself_is_said(study: Path, cli):
    answer = cli("validate-hotspots", study / "reference", study / "reference", "-o", study / "out")
    assert "of 3 of 4 cases the predicted map is the very file of the reference" in answer.out
    figures = figures_in(study / "out")["value"]
    assert figures[["sensitivity", "precision", "f1", "dice_total"]].tolist() == [1, 1, 1, 1]
    assert "sensitivity: 1.000 (n = 5)" in answer.out


def test_refusals_leave_one_line_and_no_folder(study: Path, tmp_path: Path, cli):
    out = study / "out"
    other = save(study / "other" / "a.nii.gz", {1: (0, 3)})
    import nibabel as nib

    image = nib.load(other)
    image.set_sform(image.affine + np.diag([0.1, 0, 0, 0]))
    image.set_qform(image.affine)
    nib.save(image, other)
    save(study / "few" / "a.nii.gz", {}, None, "suv")
    wrong = study / "wrong" / "a.nii.gz"
    wrong.parent.mkdir()
    nib.save(nib.Nifti1Image(np.full(SHAPE, 0.5, np.float32), np.eye(4)), wrong)
    ref, pred = study / "reference", study / "predicted"
    for words, status, said in (
        ((ref, other), 3, "is a file, and"),
        ((ref / "a.nii.gz", other), 3, "lies on another grid than"),
        ((ref, pred, "--suv", study / "few"), 3, "no SUV image for 2 of 3 cases"),
        ((ref, study / "wrong"), 3, "not a whole number; expected a label map"),
        ((ref, study / "none"), 3, "no such file or folder"),
        ((ref, pred, "--overlap", "jaccard"), 2, "iou, dice, any"),
        ((ref, pred, "--least", "2"), 2, "at most 1"),
        ((ref, pred, "--lesions", "blobs"), 2, "auto, numbers, parts"),
    ):
        answer = cli("validate-hotspots", *words, "-o", out)
        assert (answer.status, bool(re.search(said, answer.err.replace("\n", " ")))) == (status, True), (
            answer.err
        )
        assert not out.exists()
    answer = cli("validate-hotspots", ref, pred, "-o", ref)
    assert answer.status == 3
    assert "holds what is to be compared" in answer.err


def test_a_full_disk_is_said(study: Path):
    result = validate_hotspots(study / "reference", study / "predicted", None, Criterion(), Steps())
    with pytest.raises(ResourceError, match="cannot be written"):
        write_detection(result, study / "nowhere")
