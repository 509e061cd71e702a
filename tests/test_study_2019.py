"""The made-up study of 2019: counts give the paper's table, masks have the counts, petbone finds both."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from petbone.agreement import volume_difference_percent
from petbone.anatomy import BY_NAME
from petbone.components import connected
from petbone.io import read_labels
from petbone.metrics import Ruler, compare_labels
from petbone.steps import Steps

_SPEC = importlib.util.spec_from_file_location(
    "study_2019", Path(__file__).parents[1] / "examples/study_2019.py"
)
study_2019 = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(study_2019)

# As printed: network mL median (SD), reader mL median (SD), Dice, intra-observer % of network and of reader.
PRINTED = {
    "T7": ("41", "3.8", "36", "5.1", "0.86", "2", "14"),
    "L3": ("76", "13", "75", "9.2", "0.85", "7", "8"),
    "sacrum": ("284", "40", "283", "26", "0.88", "1", "3"),
    "rib_left_7": ("33", "3.9", "31", "4.8", "0.84", "1", "6"),
    "sternum": ("80", "11", "72", "9.2", "0.83", "3", "5"),
}
COLUMNS = (
    "median_predicted_ml", "sd_predicted_ml", "median_reference_ml", "sd_reference_ml", "median_dice",
    "repeat_predicted_percent", "repeat_reference_percent",
)  # fmt: skip


def as_printed(value: float, printed: str) -> str:
    """With as many decimals as the paper has."""
    return f"{value:.{len(printed.partition('.')[2])}f}"


def assert_printed(rows: pd.DataFrame) -> None:
    for bone, cells in PRINTED.items():
        found = [as_printed(rows.loc[bone, name], cell) for name, cell in zip(COLUMNS, cells, strict=True)]
        assert tuple(found) == cells, bone


def truth_in(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "truth.csv").set_index("bone")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    study_2019.write_study(folder)
    return folder


def test_the_truth_is_the_papers_table(study: Path):
    rows = truth_in(study)
    assert list(rows.index) == list(PRINTED)
    assert (rows["n"] == 46).all()
    assert_printed(rows)
    # "5-6 % for vertebrae and ribs", "at most 3 %" for the others.
    two_cts = rows["second_ct_percent"]
    assert two_cts[["T7", "L3", "rib_left_7"]].between(5, 6).all()
    assert (two_cts[["sacrum", "sternum"]] <= 3).all()


def test_medians_and_sds_are_exact_but_for_whole_voxels(study: Path):
    rows = truth_in(study)
    for bone in study_2019.BONES:
        for side, (median, sd) in (("predicted", bone.cnn_ml), ("reference", bone.manual_ml)):
            assert rows.loc[bone.name, f"median_{side}_ml"] == median
            assert rows.loc[bone.name, f"sd_{side}_ml"] == pytest.approx(sd, abs=0.001)
        assert rows.loc[bone.name, "median_dice"] == pytest.approx(bone.dice, abs=2e-4)


def test_permutations_are_permutations():
    for stride in range(1, 47):
        assert sorted(study_2019.mixed(stride)) == list(range(46))


def test_the_study_is_small_and_the_same_each_time(study: Path, tmp_path: Path):
    files = [path for path in study.rglob("*") if path.is_file()]
    assert len(files) == 5 * 46 + 2
    assert sum(path.stat().st_size for path in files) < 5e6
    study_2019.write_study(tmp_path, range(3, 5))
    again = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(again) == 5 * 2 + 2
    assert all((tmp_path / name).read_bytes() == (study / name).read_bytes() for name in again)


def test_masks_have_the_counts_of_the_design(study: Path):
    """Three patients: voxels of the files, against the table that was made without them."""
    with (study / "counts.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["case"] in ("case_01", "case_23", "case_46")]
    assert len(rows) == 15
    for row in rows:
        maps = {
            name: read_labels(study / name / f"{row['case']}.nii.gz").volume for name in study_2019.FOLDERS
        }
        label = BY_NAME[row["bone"]].id
        for name, volume in maps.items():
            assert np.count_nonzero(volume.data == label) == int(row[name])
            assert connected((volume.data == label).astype(np.uint8), 6).max() == 1
            assert volume.grid.voxel_ml == pytest.approx(0.01, rel=1e-12)
        shared = (maps["manual"].data == label) & (maps["cnn"].data == label)
        assert np.count_nonzero(shared) == int(row["shared"])
        ruler = Ruler(tuple(maps["manual"].grid.spacing_mm), 2.0)
        alike = compare_labels(maps["manual"].data, maps["cnn"].data, ruler, [label])[label]
        total = int(row["manual"]) + int(row["cnn"])
        assert alike.dice == 2 * int(row["shared"]) / total
        assert alike.volume_one_ml == pytest.approx(int(row["manual"]) / 100, rel=1e-12)
        assert alike.difference_percent == pytest.approx(
            volume_difference_percent(int(row["manual"]), int(row["cnn"])), rel=1e-12
        )


def test_no_bone_touches_the_end_of_the_scan_or_another_bone(study: Path):
    for name in study_2019.FOLDERS:
        volume = read_labels(study / name / "case_46.nii.gz").volume
        assert set(np.unique(volume.data)) == {0} | {BY_NAME[bone].id for bone in PRINTED}
        rim = np.ones(volume.grid.shape, bool)
        rim[1:-1, 1:-1, 1:-1] = False
        assert not volume.data[rim].any()
        assert connected((volume.data > 0).astype(np.uint8), 26).max() == 5


def test_only_the_second_ct_lies_elsewhere(study: Path):
    grids = {name: read_labels(study / name / "case_01.nii.gz").volume.grid for name in study_2019.FOLDERS}
    same = {name: grid.same_as(grids["manual"]) for name, grid in grids.items()}
    assert same == {name: name != "cnn_second_ct" for name in study_2019.FOLDERS}


def test_validate_prints_the_papers_table(study: Path, tmp_path: Path, cli):
    answer = cli(
        "validate", study / "manual", study / "cnn", "--repeat", study / "manual_again",
        "--repeat-predicted", study / "cnn_again", "-o", tmp_path / "out",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    agreement = pd.read_csv(tmp_path / "out" / "agreement.csv").set_index("bone")
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("bone")
    assert list(table.index) == list(PRINTED)
    rows = agreement.join(table[["repeat_predicted_percent", "repeat_reference_percent"]])
    assert_printed(rows)
    truth = truth_in(study)
    for name in set(truth.columns) - {"n", "second_ct_percent"}:
        assert rows[name].to_numpy() == pytest.approx(truth[name].to_numpy(), rel=1e-5), name
    # The text of the table: "41.0 (3.8)" is the paper's "41 (3.8)" with a digit more.
    for bone, (cnn, cnn_sd, manual, manual_sd, *_) in PRINTED.items():
        for side, median, sd in (("predicted", cnn, cnn_sd), ("reference", manual, manual_sd)):
            value, _, deviation = table.loc[bone, f"{side}_ml"].partition(" ")
            assert (as_printed(float(value), median), deviation) == (median, f"({sd})")


def test_two_cts_differ_as_in_the_paper(study: Path, tmp_path: Path, cli):
    answer = cli("compare-segmentations", study / "cnn", study / "cnn_second_ct", "-o", tmp_path / "out")
    assert answer.status == 0, answer.err
    found = pd.read_csv(tmp_path / "out" / "agreement.csv").set_index("bone")
    found = found.loc[list(PRINTED), "mean_volume_difference_percent"]
    assert found.to_numpy() == pytest.approx(truth_in(study)["second_ct_percent"].to_numpy(), rel=1e-5)
    families = pd.read_csv(tmp_path / "out" / "families.csv").set_index("family")
    mean = families["mean_volume_difference_percent"]
    assert mean[["vertebral_column", "ribs"]].between(5, 6).all()
    assert mean["others"] <= 3


def test_figures_are_the_truth_to_the_ninth_digit(study: Path):
    """Files are written with six digits: what they are made from has all."""
    from petbone.readings_files import read_readings
    from petbone.validation_files import StudyFiles, StudyOptions, read_study

    files = StudyFiles(study / "manual", study / "cnn", None, study / "manual_again", study / "cnn_again")
    found, _ = read_study(files, StudyOptions(), Steps())
    truth = truth_in(study)
    repeats = found.table.set_index("bone")[["repeat_predicted_percent", "repeat_reference_percent"]]
    rows = found.agreement.set_index("bone").join(repeats)
    for name in set(truth.columns) - {"second_ct_percent"}:
        assert rows[name].to_numpy(float) == pytest.approx(truth[name].to_numpy(float), rel=1e-9), name
    readings, _ = read_readings(study / "cnn", study / "cnn_second_ct", None, (), False, Steps())
    two_cts = readings.agreement.set_index("bone").loc[list(PRINTED), "mean_volume_difference_percent"]
    assert two_cts.to_numpy() == pytest.approx(truth["second_ct_percent"].to_numpy(), rel=1e-9)
