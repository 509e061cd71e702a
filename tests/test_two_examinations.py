"""`petbone run --ct2 --pet2`: two tracers on two days, from files to files, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from motion_fixtures import rigid
from petbone.cli import app
from petbone.phantom import SMALL, Hotspot, make_patient
from petbone.volume import Grid, Volume

Cli = Callable[..., Any]

FOCI = (
    Hotspot("L3", 30, {"naf": 40, "choline": 12}),
    Hotspot("hip_right", 34, {"naf": 35, "choline": 11}),
    Hotspot("T8", 26, {"naf": 60}),
    Hotspot("sternum", 30, {"naf": 70}),
    Hotspot("hip_left", 30, {"choline": 12}, (22, -8, -94)),
    Hotspot("T4", 26, {"choline": 14}),
)
TRUTH = {
    "L3": "matched", "hip_right": "matched", "T8": "first only", "sternum": "first only",
    "hip_left": "second only", "T4": "second only",
}  # fmt: skip
MOTION = rigid((3, -4, 9), (25, -12, 30))


@dataclass(frozen=True)
class Files:
    """Two days of one patient on disk; the second on other grids, the patient lying otherwise."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        """`ct`, `bones`, `naf`, `choline` of the first day; `ct2`, `bones2`, `choline2` of the second."""
        return self.folder / f"{name}.nii.gz"

    def run(self, *more: object) -> list[object]:
        first = ["run", self.ct, self.naf, "--bones", self.bones, "--ct2", self.ct2, "--bones2", self.bones2]
        return [
            *first,
            "--pet2",
            self.choline2,
            "--tracer",
            "naf",
            "--tracer",
            "choline",
            "--units",
            "suv",
            *more,
        ]


def save(volume: Volume, path: Path, motion: np.ndarray = np.eye(4)) -> Path:  # noqa: B008
    grid = Grid(volume.grid.shape, motion @ volume.grid.mm_from_ijk)
    nib.save(nib.Nifti1Image(np.asarray(volume.data), grid.mm_from_ijk), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("days")
    spec = replace(SMALL, hotspots=FOCI, pet_spacing_mm=(5.0, 5.0, 5.0))
    first = make_patient(spec)
    for name, image in ({"ct": first.ct, "bones": first.bones} | first.pets).items():
        save(image, folder / f"{name}.nii.gz")
    other = {"ct_spacing_mm": (3.6, 3.6, 4.4), "pet_spacing_mm": (5.5, 5.5, 4.5), "seed": 3}
    second = make_patient(replace(spec, tracers=("choline",), **other))
    for name, image in ({"ct": second.ct, "bones": second.bones} | second.pets).items():
        save(image, folder / f"{name}2.nii.gz", MOTION)
    # The first day once more, moved by its header alone.
    for name, image in ({"ct": first.ct, "bones": first.bones} | first.pets).items():
        save(image, folder / f"{name}_moved.nii.gz", MOTION)
    return Files(folder)


@pytest.fixture(scope="module")
def results(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "two"
    app([str(word) for word in files.run("-q", "-o", out)], standalone_mode=False)
    return out


def relations(table: pd.DataFrame) -> set[tuple[str, str]]:
    """Bone and relation of every row."""
    return set(zip(table["bone_1"].fillna(table["bone_2"]), table["relation"], strict=True))


def test_from_files_to_files(results: Path):
    names = {path.name for path in results.iterdir()}
    each = ["suv.nii.gz", "hotspots.nii.gz", "bones.csv", "hotspots.csv", "indices.csv", "regions.csv"]
    tracers = {name.replace(".", f"_{t}.", 1) for name in each for t in ("naf", "choline")}
    assert tracers <= names
    assert {"bones.nii.gz", "bones_ct2.nii.gz", "motions.csv", "concordance.csv", "hotspot_matches.csv",
            "tracer_agreement.csv", "concordance.svg", "report.html", "summary.json"} <= names  # fmt: skip
    table = pd.read_csv(results / "hotspot_matches.csv")
    # The hot liver beside ribs and sternum is in choline alone, too.
    assert set(TRUTH.items()) <= relations(table)
    assert {bone for bone, relation in relations(table) if relation != "second only"} == {
        bone for bone, relation in TRUTH.items() if relation != "second only"
    }
    alone = table[table.relation.isin(["first only", "second only"])]
    assert alone.seen_by_other.all()
    assert table.seen_by_other[table.relation == "matched"].isna().all()
    assert (table.distance_mm[table.relation == "matched"] < 4).all()  # a voxel of the PET is 5 mm


def test_the_bones_went_where_the_patient_went(results: Path, files: Files):
    moved = pd.read_csv(results / "motions.csv").set_index("name")
    bones = nib.load(files.bones)
    data = np.asarray(bones.dataobj)
    for name, label in (("L3", 15), ("sternum", 42), ("hip_left", 47)):
        middle = bones.affine @ [*np.argwhere(data == label).mean(axis=0), 1]
        went = (MOTION @ middle - middle)[:3]
        assert moved.loc[name, ["x_mm", "y_mm", "z_mm"]].to_numpy(float) == pytest.approx(went, abs=1.5)
    second = nib.load(results / "bones_ct2.nii.gz")
    np.testing.assert_allclose(second.affine, nib.load(files.bones2).affine, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(second.dataobj), np.asarray(nib.load(files.bones2).dataobj))


def test_agreement_is_that_of_the_tables(results: Path):
    row = pd.read_csv(results / "tracer_agreement.csv").iloc[0]
    table = pd.read_csv(results / "hotspot_matches.csv")
    spots = {t: pd.read_csv(results / f"hotspots_{t}.csv") for t in ("naf", "choline")}
    count = table.relation.value_counts()
    assert (row.matched, row.first_only, row.second_only) == (
        count["matched"], count["first only"], count["second only"],
    )  # fmt: skip
    assert row.both_1 + row.first_only + row.first_unseen == row.hotspots_1 == len(spots["naf"])
    assert row.both_2 + row.second_only + row.second_unseen == row.hotspots_2 == len(spots["choline"])
    together = row.both_ml_1 + row.first_only_ml + row.first_unseen_ml
    assert together == pytest.approx(spots["naf"].volume_ml.sum(), rel=1e-4)
    bones = pd.read_csv(results / "concordance.csv").concordance.dropna().value_counts()
    assert row.bones_compared == bones.sum()
    assert [row.bones_both, row.bones_first_only, row.bones_second_only, row.bones_neither] == [
        bones.get(word, 0) for word in ("all", "naf", "choline", "none")
    ]
    assert 0 < row.dice < 1
    assert pd.isna(row.suv_max_rho)  # two matched hotspots
    assert row.kappa_low < row.kappa < row.kappa_high
    summary = json.loads((results / "summary.json").read_text())
    assert summary["tracer_agreement"][0]["kappa"] == pytest.approx(row.kappa, rel=1e-5)
    assert summary["tracer_agreement"][0]["suv_max_rho"] is None


def test_another_day_changes_nothing(files: Files, cli: Cli, tmp_path: Path):
    """The same images, moved by their header: every relation and figure is that of one examination."""
    told = ["--tracer", "naf", "--tracer", "choline", "--units", "suv"]
    answer = cli("quantify", files.bones, files.naf, files.choline, *told, "-o", tmp_path / "one")
    assert answer.status == 0, answer.err
    moved = Files(files.folder)
    words = ["run", files.ct, files.naf, "--bones", files.bones, "--ct2", moved.ct_moved, "--bones2"]
    answer = cli(*words, moved.bones_moved, "--pet2", moved.choline_moved, *told, "-o", tmp_path / "two")
    assert answer.status == 0, answer.err
    one, two = (pd.read_csv(tmp_path / n / "hotspot_matches.csv") for n in ("one", "two"))
    keys = ["relation", "hotspot_1", "hotspot_2", "bone_1", "bone_2", "seen_by_other"]
    pd.testing.assert_frame_equal(one[keys], two[keys])
    one, two = (pd.read_csv(tmp_path / n / "tracer_agreement.csv").iloc[0] for n in ("one", "two"))
    exact = [name for name in one.index if name not in ("tracer_1", "tracer_2", "dice")]
    flags = ["first_only_flagged", "second_only_flagged"]  # one run has no CT
    pd.testing.assert_series_equal(
        one[exact].drop(flags), two[exact].drop(flags), rtol=1e-4, check_names=False
    )
    assert two.dice == pytest.approx(one.dice, abs=0.05)


def test_where_the_second_pet_did_not_look(files: Files, cli: Cli, tmp_path: Path):
    """The last PET is the second one's. It ends above the loins: foci below are no disagreement."""
    image = nib.load(files.choline2)
    nib.save(image.slicer[:, :, image.shape[2] // 2 :], tmp_path / "upper.nii.gz")
    words = [
        "run",
        files.ct,
        files.naf,
        tmp_path / "upper.nii.gz",
        "--bones",
        files.bones,
        "--ct2",
        files.ct2,
    ]
    told = ["--bones2", files.bones2, "--tracer", "naf", "--tracer", "choline", "--units", "suv"]
    answer = cli(*words, *told, "-o", tmp_path / "out")
    assert answer.status == 0, answer.err
    assert (tmp_path / "out" / "motions.csv").exists()
    inputs = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert [len(one["pets"]) for one in (inputs["inputs"], inputs["second"]["inputs"])] == [1, 1]
    table = pd.read_csv(tmp_path / "out" / "hotspot_matches.csv").set_index("bone_1")
    assert table.relation["hip_right"] == "first only"
    assert not table.seen_by_other["hip_right"]
    assert table.seen_by_other["T8"]
    row = pd.read_csv(tmp_path / "out" / "tracer_agreement.csv").iloc[0]
    assert (row.first_unseen, row.first_only) == (2, 2)
    assert row.bones_compared < 49
    assert ("T4", "second only") in relations(pd.read_csv(tmp_path / "out" / "hotspot_matches.csv"))
    figure = (tmp_path / "out" / "concordance.svg").read_text()
    assert "not seen" in figure
    assert "where the other PET did not look" in figure


def test_two_examinations_without_a_common_bone(files: Files, cli: Cli, tmp_path: Path):
    """In one place by scanner coordinates, and matched with nothing: no way between them is known."""
    image = nib.load(files.bones)
    data = np.asarray(image.dataobj)
    for name, kept in (("upper", data <= 12), ("lower", data > 12)):
        own = np.where(kept, data, 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(own, image.affine), tmp_path / f"{name}.nii.gz")
    words = ["run", files.ct, files.naf, "--bones", tmp_path / "upper.nii.gz", "--ct2", files.ct, "--bones2"]
    told = ["--pet2", files.choline, "--tracer", "naf", "--tracer", "choline", "--units", "suv"]
    answer = cli(*words, tmp_path / "lower.nii.gz", *told, "-o", tmp_path / "out")
    assert answer.status == 0, answer.err
    warnings = json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]
    assert warnings[0].startswith("THE TWO EXAMINATIONS HAVE NO BONE IN COMMON")
    assert "NO BONE IN COMMON" in (tmp_path / "out" / "report.html").read_text()
    table = pd.read_csv(tmp_path / "out" / "hotspot_matches.csv")
    assert set(table.relation) == {"first only", "second only"}
    assert not table.seen_by_other.any()
    row = pd.read_csv(tmp_path / "out" / "tracer_agreement.csv").iloc[0]
    assert (row.matched, row.first_only, row.second_only) == (0, 0, 0)
    assert pd.isna(row.dice)
    assert pd.read_csv(tmp_path / "out" / "motions.csv").empty


def test_nobody_is_named_and_no_path_is_left(results: Path, files: Files):
    for name in ("concordance.svg", "report.html", "provenance.json", "tracer_agreement.csv"):
        text = (results / name).read_text()
        assert str(files.folder) not in text
        assert "choline2" not in text or name == "provenance.json"  # the name of a file


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (lambda f: ["--pet2", f.choline2], "--ct2"),
        (lambda f: ["--bones2", f.bones2], "--ct2"),
        (lambda f: ["--ct2", f.ct2], "--pet2"),
    ],
)
def test_half_a_second_examination_is_wrong_usage(
    words: Callable[[Files], list[Path]], said: str, files: Files, cli: Cli, tmp_path: Path
):
    answer = cli("run", files.ct, files.naf, "--bones", files.bones, *words(files), "-o", tmp_path / "out")
    assert answer.status == 2
    assert said in answer.err
    assert not (tmp_path / "out").exists()


def test_two_dates_of_one_tracer_are_sent_to_compare(files: Files, cli: Cli, tmp_path: Path):
    words = ["run", files.ct, files.naf, "--bones", files.bones, "--ct2", files.ct2, "--pet2", files.choline2]
    answer = cli(*words, "--tracer", "naf", "--units", "suv", "-o", tmp_path / "out")
    assert answer.status == 3
    assert "petbone compare" in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_second_pet_beside_its_ct_is_refused(files: Files, cli: Cli, tmp_path: Path):
    image = nib.load(files.choline2)
    away = image.affine.copy()
    away[2, 3] += 5000
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), away), tmp_path / "away.nii.gz")
    words = [w if w != files.choline2 else tmp_path / "away.nii.gz" for w in files.run()]
    answer = cli(*words, "-o", tmp_path / "out")
    assert answer.status == 3
    assert "away.nii.gz" in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_compare_wants_one_examination_a_folder(results: Path, cli: Cli, tmp_path: Path):
    answer = cli("compare", results, results, "-o", tmp_path / "out")
    assert answer.status == 3
    assert "two examinations" in answer.err
    assert answer.err.count("\n") == 1
