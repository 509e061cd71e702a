"""`petbone compare` on folders that `petbone quantify` left: what it finds, writes, shows and refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from conftest import HandMade, affine
from petbone import comparison
from petbone.anatomy import BY_NAME
from petbone.bone_motion import BoneMotion, bone_motions
from petbone.case import CaseResult
from petbone.change import BONE_COLUMNS, HOTSPOT_COLUMNS, INDEX_COLUMNS, MOTION_COLUMNS
from petbone.change_words import differences
from petbone.cli import app
from petbone.comparison import compare_cases, rule_differences
from petbone.errors import ResourceError
from petbone.followup_files import read_dates, read_limits, write_comparison
from petbone.phantom import SMALL, Hotspot, make_patient
from petbone.report.waterfall import LABELLED, waterfall
from petbone.results import write_patient
from petbone.steps import Steps
from petbone.volume import Grid, Unit, Volume
from test_misnamed import a_level_off
from test_report import Page

FILES = {
    "hotspot_changes.csv", "bone_changes.csv", "index_changes.csv", "motions.csv", "provenance.json",
    "compare.html",
}  # fmt: skip
VOXEL_ML = 0.064


class Patient:
    """Blocks of bone in a row, PET voxels of 4 mm; foci of a voxel's share of one bone each."""

    bones = ("T7", "T8", "L1", "L3", "sacrum", "hip_left")

    def __init__(self, shift: int = 0) -> None:
        """`shift`: voxels that the first axis begins before the first bone."""
        self.suv = np.full((72 + shift, 14, 14), 1, np.float32)
        self.labels = np.zeros(self.suv.shape, np.uint8)
        self.shift = shift
        for n, name in enumerate(self.bones):
            self.labels[self._rows(n), 2:12, 2:12] = BY_NAME[name].id
            self.suv[self._rows(n), 2:12, 2:12] = 5

    def _rows(self, n: int) -> slice:
        return slice(self.shift + 1 + 12 * n, self.shift + 11 + 12 * n)

    def focus(self, bone: str, rows: tuple[int, int], suv: float, thick: int = 4) -> Patient:
        """A focus over these rows of the bone, 4 x `thick` voxels across."""
        start = self._rows(self.bones.index(bone)).start
        self.suv[start + rows[0] : start + rows[1], 4:8, 4 : 4 + thick] = suv
        return self

    def save(self, folder: Path, matrix: np.ndarray | None = None, keep: slice = slice(None)) -> Path:
        """bones.nii.gz and pet.nii.gz; `keep`: what the field of view holds of the first axis."""
        folder.mkdir(parents=True, exist_ok=True)
        grid = Grid(
            self.suv.shape, affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)) if matrix is None else matrix
        )
        box = (keep, slice(None), slice(None))
        for name, data, unit in (("pet", self.suv, Unit.SUV), ("bones", self.labels, Unit.LABEL)):
            volume = Volume(data, grid, unit).cropped(box)
            nib.save(
                nib.Nifti1Image(np.asarray(volume.data), volume.grid.mm_from_ijk), folder / f"{name}.nii.gz"
            )
        return folder


def first_date() -> Patient:
    return (
        Patient()
        .focus("T7", (2, 8), 20)  # grows
        .focus("T8", (2, 8), 20)  # stays
        .focus("L1", (1, 9), 30)  # splits
        .focus("L3", (2, 8), 40)  # cools
        .focus("sacrum", (3, 6), 16)  # goes
    )


def second_date() -> Patient:
    return (
        Patient()
        .focus("T7", (2, 8), 44)
        .focus("T8", (2, 8), 21)
        .focus("L1", (1, 5), 34)
        .focus("L1", (6, 9), 30)
        .focus("L3", (2, 8), 24)
        .focus("sacrum", (3, 6), 14)  # below the threshold by a little
        .focus("hip_left", (2, 8), 25)  # new
    )


Cli = Callable[..., Any]


def quantified(cli: Cli, folder: Path, out: Path, *more: object, tracers: tuple[str, ...] = ("naf",)) -> Path:
    pets = [folder / "pet.nii.gz"] * len(tracers)
    told = [word for tracer in tracers for word in ("--tracer", tracer)]
    answer = cli("quantify", folder / "bones.nii.gz", *pets, "--units", "suv", *told, *more, "-o", out)
    assert answer.status == 0, answer.err
    return out


@pytest.fixture(autouse=True)
def nobody_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks in a row have no shape to be laid on each other by; the phantom's bones have."""

    def motions(first: Volume, second: Volume) -> dict[int, BoneMotion]:
        return {int(n): BoneMotion(np.eye(4), 0.0, 0.0, True, "") for n in np.unique(first.data) if n}

    monkeypatch.setattr(comparison, "bone_motions", motions)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two dates in the folders a and b, and the results of both, one and two."""
    folder = tmp_path_factory.mktemp("dates")
    for patient, images, out in ((first_date(), "a", "one"), (second_date(), "b", "two")):
        files = patient.save(folder / images)
        words = [files / "bones.nii.gz", files / "pet.nii.gz", "--units", "suv", "--tracer", "naf", "-q"]
        app(["quantify", *map(str, words), "-o", str(folder / out)], standalone_mode=False)
    return folder


@pytest.fixture
def dates(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Folders of results of two dates, one and two, and their images in a and b."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "one", tmp_path / "two"


def changed(folder: Path, name: str = "hotspot_changes") -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


def test_two_dates(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    """Every number is arithmetic on blocks; classes by Lin's limits."""
    out = tmp_path / "out"
    answer = cli("compare", *dates, "-o", out)
    assert answer.status == 0, answer.err
    assert {path.name for path in out.iterdir()} == FILES
    table = changed(out)
    assert list(table.columns) == HOTSPOT_COLUMNS
    rows = {(row["change"], row["bone_1"] if isinstance(row["bone_1"], str) else row["bone_2"]): row
            for row in table.to_dict("records")}  # fmt: skip
    assert set(rows) == {
        ("new", "hip_left"), ("grown", "T7"), ("stable", "T8"), ("stable", "L1"), ("shrunk", "L3"),
        ("gone", "sacrum"), ("split", "L1"),
    }  # fmt: skip
    voxels = 6 * 16
    grown = rows["grown", "T7"]
    assert grown["tlu_ratio"] == pytest.approx(2.2, rel=1e-5)
    assert (grown["volume_ratio"], grown["suv_max_ratio"]) == (1, pytest.approx(2.2, rel=1e-5))
    assert (grown["suv_max_change"], grown["suv_mean_change"]) == ("up", "up")
    assert grown["tlu_g_2"] == pytest.approx(44 * voxels * VOXEL_ML, rel=1e-5)
    stable = rows["stable", "T8"]
    assert stable["tlu_ratio"] == pytest.approx(1.05, rel=1e-5)
    assert (stable["suv_max_change"], stable["suv_mean_change"]) == ("within", "within")
    # What split is compared as one: 4 x 34 + 3 x 30 rows where there were 8 x 30.
    whole, part = rows["stable", "L1"], rows["split", "L1"]
    assert whole["tlu_ratio"] == pytest.approx((4 * 34 + 3 * 30) / (8 * 30), rel=1e-5)
    assert whole["parts_2"] == part["hotspot_2"]
    assert rows["shrunk", "L3"]["tlu_ratio"] == pytest.approx(0.6, rel=1e-5)
    gone = rows["gone", "sacrum"]
    assert (gone["suv_max_1"], gone["suv_max_there"], gone["suv_max_change"]) == (16, 14, "within")
    assert "crossed the threshold only" in gone["note"]
    new = rows["new", "hip_left"]
    assert (new["suv_max_there"], new["suv_max_ratio"], new["suv_max_change"]) == (5, 5, "up")
    assert table.both_seen.all()

    totals = changed(out, "index_changes").set_index("index")
    assert list(totals.reset_index().columns) == INDEX_COLUMNS
    before = 16 * VOXEL_ML * (6 * 20 + 6 * 20 + 8 * 30 + 6 * 40 + 3 * 16)
    after = 16 * VOXEL_ML * (6 * 44 + 6 * 21 + 4 * 34 + 3 * 30 + 6 * 24 + 6 * 25)
    assert totals.value_1["hotspots_tlu_g"] == pytest.approx(before, rel=1e-5)
    assert totals.value_2["hotspots_tlu_g"] == pytest.approx(after, rel=1e-5)
    assert totals.ratio["hotspots_tlu_g"] == pytest.approx(after / before, rel=1e-5)
    assert totals.verdict["hotspots_tlu_g"] == "within"
    assert (totals.value_1["hotspots_count"], totals.value_2["hotspots_count"]) == (5, 6)
    assert totals.verdict["PET15"] == "no limits"

    bones = changed(out, "bone_changes").set_index("name")
    assert list(bones.reset_index().columns) == ["name", "id", *BONE_COLUMNS[2:]]
    assert len(bones) == 62
    assert bones.hotspot_volume_change_ml["T7"] == 0
    assert bones.hotspot_tlu_change_g["T7"] == pytest.approx(24 * voxels * VOXEL_ML, rel=1e-4)
    assert bones.hotspot_volume_change_ml["hip_left"] == pytest.approx(voxels * VOXEL_ML, rel=1e-4)
    assert bones.loc["skull", ["suv_mean_1", "suv_mean_ratio", "hotspot_volume_change_ml"]].isna().all()

    motions = changed(out, "motions")
    assert list(motions.columns) == MOTION_COLUMNS
    assert set(motions.name) == set(Patient.bones)
    assert "page: " in answer.out
    assert "naf: total uptake of all hotspots" in answer.out

    text = (out / "provenance.json").read_text()
    provenance = json.loads(text)
    assert provenance["limits"]["naf"]["lesion"]["tlu_g"] == [0.63, 1.71]
    assert len(provenance["dates"]["first"]["provenance_sha256"]) == 64
    assert len(provenance["dates"]["second"]["pets"][0]["sha256"]) == 64
    assert {step["name"] for step in provenance["steps"]} >= {"read", "compare", "write"}
    assert [date["align"] for date in provenance["dates"].values()] == ["report", "report"]
    assert provenance["dates"]["first"]["pet_was_moved"] == {"naf": False}
    assert str(tmp_path) not in text + (out / "compare.html").read_text()


def test_the_page(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    out = tmp_path / "out"
    assert cli("compare", *dates, "-o", out, "--quiet").out == ""
    html = (out / "compare.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    lead = "4 hotspots at both dates: 1 grown, 2 stable, 1 shrunk. 1 new, 1 gone."
    assert lead in page.words
    assert page.words.index(lead) < page.words.index("Before you believe it") < page.words.index("indices")
    assert "within the limits of repeatability 0.70-1.44" in page.words
    assert "Flare" in page.words
    assert "Lin et al. 2016, J Nucl Med 57:1872" in page.words
    # Five hotspots of the first date and what came of them: a bar each but for the part.
    bars = [attrs for tag, attrs in page.tags if tag == "rect" and attrs.get("height") and "x" in attrs]
    classes = [attrs["class"] for attrs in bars]
    assert [classes.count(name) for name in ("new", "grown", "stable", "shrunk", "gone", "within")] == [
        1,
        1,
        2,
        1,
        1,
        1,
    ]
    assert "Not drawn: 1 split" in page.words
    grown = page.row("grown")
    assert grown[3] == "T7"
    assert "2.20" in grown
    assert len({attrs["id"] for tag, attrs in page.tags if tag == "image"}) == 8  # two dates, two views
    # Numbers in the pictures have the class of the change: both parts of L1 that of their whole.
    marks = [attrs["class"] for tag, attrs in page.tags if tag == "text" and attrs.get("dy") == ".35em"]
    assert [marks.count(name) for name in ("new", "grown", "stable", "shrunk", "gone")] == [2, 4, 10, 4, 2]


def test_the_same_folder_twice(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    """Nothing has changed, and that is said."""
    out = tmp_path / "out"
    answer = cli("compare", dates[0], dates[0], "-o", out)
    assert answer.status == 0, answer.err
    assert "note: the same folder was given twice" in answer.out
    table = changed(out)
    assert set(table.change) == {"stable"}
    assert (
        (table[["tlu_ratio", "suv_max_ratio", "suv_mean_ratio", "volume_ratio", "overlap"]] == 1).all().all()
    )
    totals = changed(out, "index_changes")
    assert (totals.ratio == 1).all()
    copy = tmp_path / "copy"
    shutil.copytree(dates[0], copy)
    answer = cli("compare", dates[0], copy, "-o", tmp_path / "other")
    assert "note: a PET of the one date is the very file of the other" in answer.out


def test_the_dates_exchanged(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    """New is gone, grown is shrunk, a split is a merge, and a ratio is the inverse."""
    one, two = tmp_path / "x", tmp_path / "y"
    assert cli("compare", *dates, "-o", one).status == cli("compare", *dates[::-1], "-o", two).status == 0
    forth, back = (changed(folder).change.value_counts().to_dict() for folder in (one, two))
    assert forth == {"stable": 2, "new": 1, "grown": 1, "shrunk": 1, "gone": 1, "split": 1}
    # 0.6 is past 0.63, but its inverse 1.67 is within 1.71: the limits are no inverses of each other.
    assert back == {"stable": 3, "new": 1, "shrunk": 1, "gone": 1, "merged": 1}
    ratios = [changed(folder, "index_changes").set_index("index").ratio["PET15"] for folder in (one, two)]
    assert ratios[0] * ratios[1] == pytest.approx(1, rel=1e-4)


def test_places_that_one_date_did_not_see(cli: Cli, tmp_path: Path):
    """The second field ends within L3: what lies beyond is not gone, and the totals leave it out."""
    first = first_date().focus("hip_left", (2, 8), 25)
    one = quantified(cli, first.save(tmp_path / "a"), tmp_path / "one")
    two = quantified(cli, second_date().save(tmp_path / "b", keep=slice(0, 41)), tmp_path / "two")
    out = tmp_path / "out"
    answer = cli("compare", one, two, "-o", out)
    assert answer.status == 0, answer.err
    table = changed(out)
    found = table.set_index("bone_1")["change"].fillna("").to_dict()
    assert found["sacrum"] == found["hip_left"] == "not seen in the second"
    assert found["L3"] == ""  # two of six rows were seen: its uptake has no part in it
    row = table[table.bone_1 == "L3"].iloc[0]
    assert row.relation == "matched"
    assert row.note == "reaches out of what the second date saw: not judged"
    totals = changed(out, "index_changes").set_index("index")
    assert totals.value_1["hotspots_tlu_g"] == pytest.approx(
        16 * VOXEL_ML * (6 * 20 + 6 * 20 + 8 * 30), rel=1e-5
    )
    assert totals.note["hotspots_tlu_g"] == "without 4 at places that one of the dates did not see"
    assert totals.verdict["TLF10"] == "not comparable"
    back = tmp_path / "back"
    assert cli("compare", two, one, "-o", back).status == 0
    assert (changed(back).change == "not seen in the first").sum() == 2
    assert "where one of the dates did not look" in Page((back / "compare.html").read_text()).words
    bones = changed(out, "bone_changes").set_index("name")
    assert bones.note["sacrum"] == "not seen in the second"
    assert "different parts were seen" in bones.note["L3"]
    assert pd.isna(bones.hotspot_volume_change_ml["sacrum"])


def test_tracers_that_both_have(cli: Cli, tmp_path: Path):
    """Each has its own tables; without limits a pair has no class."""
    a, b = first_date().save(tmp_path / "a"), second_date().save(tmp_path / "b")
    one = quantified(cli, a, tmp_path / "one", tracers=("naf", "psma"))
    two = quantified(cli, b, tmp_path / "two", tracers=("psma", "naf", "fdg"))
    out = tmp_path / "out"
    answer = cli("compare", one, two, "-o", out)
    assert answer.status == 0, answer.err
    assert "note: at one date only, not compared: fdg" in answer.out
    names = {path.name for path in out.iterdir()}
    assert names == {"motions.csv", "provenance.json", "compare.html"} | {
        f"{kind}_changes_{tracer}.csv" for kind in ("hotspot", "bone", "index") for tracer in ("naf", "psma")
    }
    psma = changed(out, "hotspot_changes_psma")
    assert psma[psma.relation == "matched"].change.isna().all()
    assert set(changed(out, "hotspot_changes_naf").change) >= {"grown", "shrunk"}
    words = Page((out / "compare.html").read_text()).words
    assert "No limits of repeatability are known for the tracer 'psma'" in words

    limits = tmp_path / "limits.toml"
    limits.write_text('[[limits]]\ntracer = "psma"\nreference = "ours"\nlesion = { tlu_g = [0.99, 1.01] }\n')
    own = tmp_path / "own"
    assert cli("compare", one, two, "--limits", limits, "-o", own).status == 0
    psma = changed(own, "hotspot_changes_psma")
    assert set(psma[psma.relation == "matched"].change) <= {"grown", "shrunk"}
    # One tracer in common of several: its files have no name of a tracer.
    single = quantified(cli, b, tmp_path / "single")
    assert cli("compare", one, single, "-o", tmp_path / "n").status == 0
    assert {path.name for path in (tmp_path / "n").iterdir()} == FILES


def test_no_hotspot_at_either_date(cli: Cli, tmp_path: Path):
    one = quantified(cli, Patient().save(tmp_path / "a"), tmp_path / "one")
    out = tmp_path / "out"
    answer = cli("compare", one, one, "-o", out)
    assert answer.status == 0, answer.err
    assert changed(out).empty
    assert "Neither date has a hotspot by this rule" in Page((out / "compare.html").read_text()).words


def test_a_phantom_at_two_dates(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Curved bones, noise, blur: the hotter, the vanished and the new focus are found, the rest is stable."""
    monkeypatch.setattr(comparison, "bone_motions", bone_motions)
    spec = replace(
        SMALL, pet_spacing_mm=(4.0, 4.0, 4.0), fov_mm=((-120.0, 120.0), (-60.0, 80.0), (-40.0, 330.0)),
        tracers=("naf",), noise=0.5,
    )  # fmt: skip
    kept = [Hotspot("L3", 26, {"naf": 30}), Hotspot("L1", 24, {"naf": 28}), Hotspot("T11", 24, {"naf": 30})]
    spots = ([*kept, Hotspot("T8", 22, {"naf": 32})],
             [replace(kept[0], suv={"naf": 60}), *kept[1:], Hotspot("L5", 24, {"naf": 30})])  # fmt: skip
    folders = []
    for n, hotspots in enumerate(spots):
        folder = tmp_path / f"p{n}"
        folder.mkdir()
        write_patient(make_patient(replace(spec, hotspots=tuple(hotspots), seed=n)), folder)
        shutil.copy(folder / "naf.nii.gz", folder / "pet.nii.gz")
        folders.append(quantified(cli, folder, tmp_path / f"d{n}"))
    assert cli("compare", *folders, "-o", tmp_path / "out").status == 0
    table = changed(tmp_path / "out")
    found = {r.bone_2 if isinstance(r.bone_2, str) else r.bone_1: r.change for r in table.itertuples()}
    assert found == {"L5": "new", "L3": "grown", "L1": "stable", "T11": "stable", "T8": "gone"}


def test_a_phantom_whose_second_mask_is_a_level_off(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing changed but the names of the column: what seems gone and new is perhaps one focus."""
    monkeypatch.setattr(comparison, "bone_motions", bone_motions)
    spec = replace(
        SMALL, pet_spacing_mm=(4.0, 4.0, 4.0), fov_mm=((-170.0, 170.0), (-120.0, 140.0), (60.0, 440.0)),
        tracers=("naf",), noise=0.5,
        hotspots=(Hotspot("T5", 20, {"naf": 40}), Hotspot("T9", 20, {"naf": 40})),
    )  # fmt: skip
    write_patient(make_patient(spec), tmp_path)
    shutil.copy(tmp_path / "naf.nii.gz", tmp_path / "pet.nii.gz")
    one = quantified(cli, tmp_path, tmp_path / "d1")
    image = nib.load(tmp_path / "bones.nii.gz")
    second = a_level_off(Volume(np.asarray(image.dataobj), Grid(image.shape, image.affine), Unit.LABEL))
    nib.save(nib.Nifti1Image(np.asarray(second.data), image.affine), tmp_path / "bones.nii.gz")
    two = quantified(cli, tmp_path, tmp_path / "d2")
    answer = cli("compare", one, two, "-o", tmp_path / "out")
    assert answer.status == 0, answer.err
    assert "note: THE VERTEBRAE WENT" in answer.out
    assert "0 new, 0 gone. 2 gone and new in one place" in answer.out
    table = changed(tmp_path / "out")
    assert sorted(table.change) == ["gone", "gone", "new", "new"]
    assert table.perhaps_same.notna().all()
    page = Page((tmp_path / "out" / "compare.html").read_text()).words
    assert "PCWG3" not in page
    assert "2 pairs of a hotspot of the first date alone" in page
    assert "perhaps the same focus as hotspot" in page


def test_a_patient_who_lies_elsewhere(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The way of each bone to the other date is taken for matching places that one date shows alone."""
    way = np.eye(4)
    way[:3, 3] = (30.0, -45.0, 160.0)
    one = quantified(cli, first_date().save(tmp_path / "a"), tmp_path / "one")
    moved = way @ affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    two = quantified(cli, second_date().save(tmp_path / "b", moved), tmp_path / "two")

    def motions(first: Volume, second: Volume) -> dict[int, BoneMotion]:
        return {BY_NAME[name].id: BoneMotion(way, 170.0, 0.0, True, "") for name in Patient.bones}

    monkeypatch.setattr(comparison, "bone_motions", motions)
    first, second, _ = read_dates(one, two, Steps())
    result = compare_cases(first, second, read_limits(None), Steps())
    assert result.motions.translation_mm.tolist() == pytest.approx([np.linalg.norm(way[:3, 3])] * 6)
    assert (result.motions.rotation_deg == 0).all()
    table = result.tracers[0].hotspots
    alone = table[table.change.isin(["new", "gone"])]
    assert len(alone) >= 2
    assert alone.both_seen.all()
    hip = alone[alone.bone_2 == "hip_left"].iloc[0]
    assert hip.suv_max_there == 5
    sacrum = alone[alone.bone_1 == "sacrum"].iloc[0]
    assert sacrum.suv_max_there == 14


# What is refused: one line, exit status 3, and no folder.


def refused(cli: Cli, tmp_path: Path, *words: object) -> str:
    before = sorted(path.name for path in tmp_path.iterdir())
    answer = cli("compare", *words, "-o", tmp_path / "refused")
    assert answer.status == 3, answer
    assert answer.err.startswith("petbone: ")
    assert answer.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    return answer.err


def test_folders_that_hold_no_results(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    assert "no such folder" in refused(cli, tmp_path, dates[0], tmp_path / "nothing")
    assert "no such folder" in refused(cli, tmp_path, dates[0] / "bones.csv", dates[1])
    assert "a: holds no provenance.json" in refused(cli, tmp_path, tmp_path / "a", dates[1])
    # What compare itself leaves is no result of one date.
    assert cli("compare", *dates, "-o", tmp_path / "changes").status == 0
    assert "changes: holds no summary.json" in refused(cli, tmp_path, tmp_path / "changes", dates[1])


def test_facts_that_cannot_be_read(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    for name in ("provenance", "summary"):
        path = dates[1] / f"{name}.json"
        content = path.read_text()
        path.write_text(content[:100])
        assert f"two/{name}.json: cannot be read as JSON" in refused(cli, tmp_path, *dates)
        path.write_text("[]")
        assert "names no PET with tracer and rule" in refused(cli, tmp_path, *dates)
        path.write_text(content)
    path.write_text('{"pets": [{"tracer": "naf"}]}')
    assert "names no PET with tracer and rule" in refused(cli, tmp_path, *dates)
    path.write_text('{"pets": []}')
    assert "names no PET with tracer and rule" in refused(cli, tmp_path, *dates)
    path.write_text('{"pets": [{"tracer": "../naf", "rule": {}}]}')
    assert "names the tracer ../naf" in refused(cli, tmp_path, *dates)


@pytest.mark.parametrize("names", [[], {"T7": 1}, {"T7": {}}, {"T7": {"may_be": ["tail"]}}])
def test_names_that_cannot_be(names: Any, dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = dates[1] / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"names": names}))
    assert "two/provenance.json: its names are none of petbone's" in refused(cli, tmp_path, *dates)


def test_no_tracer_in_common(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    two = quantified(cli, tmp_path / "b", tmp_path / "choline", tracers=("choline",))
    assert "has choline and" in refused(cli, tmp_path, dates[0], two)


@pytest.mark.parametrize(
    "name", ["bones.nii.gz", "hotspots.nii.gz", "suv.nii.gz", "bones.csv", "hotspots.csv", "indices.csv"]
)
def test_a_file_that_is_missing(name: str, dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    (dates[1] / name).unlink()
    assert f"two: holds no {name}; expected all that petbone run leaves" in refused(cli, tmp_path, *dates)


@pytest.mark.parametrize("name", ["bones.nii.gz", "hotspots.nii.gz", "suv.nii.gz"])
def test_an_image_that_is_damaged(name: str, dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = dates[0] / name
    path.write_bytes(path.read_bytes()[:-20])
    assert f"one/{name}: " in refused(cli, tmp_path, *dates)


def cell(text: str, column: str, row: int, value: str) -> str:
    """The table with another value in one cell."""
    lines = [line.split(",") for line in text.strip().split("\n")]
    lines[row + 1][lines[0].index(column)] = value
    return "\n".join(",".join(line) for line in lines) + "\n"


@pytest.mark.parametrize(
    ("file", "keys", "value", "said"),
    [
        ("summary", ("pets", 0, "suv"), [], None),
        ("summary", ("pets", 0, "suv"), [1], "suv of naf is none of petbone's"),
        ("summary", ("pets", 0, "suv", "decay_s"), "3600", "suv of naf is none of petbone's"),
        ("summary", ("pets", 0, "alignment"), "moved", "alignment of naf is none of petbone's"),
        ("summary", ("pets", 0, "rule"), {}, "rule of naf is none of petbone's"),
        ("summary", ("pets", 0, "rule", "threshold"), None, "rule of naf is none of petbone's"),
        ("summary", ("pets", 0, "rule", "threshold"), "15", "rule of naf is none of petbone's"),
        ("summary", ("pets", 0, "rule", "reference_region"), "liver", "rule of naf is none of petbone's"),
        ("provenance", ("inputs",), [1], "its inputs are none of petbone's"),
        ("provenance", ("inputs", "pets"), ["a"], "its inputs are none of petbone's"),
        ("provenance", ("options",), "none", "its options are none of petbone's"),
        ("provenance", ("options", "psf_mm"), "6", "its options are none of petbone's"),
    ],
)
def test_facts_of_another_kind(file, keys, value, said, dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = dates[1] / f"{file}.json"
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))
    if said is None:  # nothing is told: that is no damage
        assert cli("compare", *dates, "-o", tmp_path / "out").status == 0
    else:
        assert f"two/{file}.json: {said}" in refused(cli, tmp_path, *dates)


def test_a_pet_that_was_moved_at_one_date(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = dates[1] / "summary.json"
    summary = json.loads(path.read_text())
    summary["pets"][0]["alignment"] = {"applied": True, "why": "it lay aside"}
    path.write_text(json.dumps(summary))
    answer = cli("compare", *dates, "-o", tmp_path / "out")
    assert "note: naf: the PET was moved onto the CT at the second date only" in answer.out
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())["dates"]
    assert [told[name]["pet_was_moved"]["naf"] for name in ("first", "second")] == [False, True]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("hotspots.csv", lambda text: "", "cannot be read as a table"),
        ("hotspots.csv", lambda text: text.replace("tlu_g", "uptake"), "has no column tlu_g"),
        ("hotspots.csv", lambda text: text.rsplit("\n", 2)[0] + "\n", "its 5 hotspots are not 1 to 6"),
        ("hotspots.csv", lambda text: text.replace("\n2,", "\n2.5,"), "hotspot does not hold whole numbers"),
        ("hotspots.csv", lambda text: text.replace("\n2,", "\n,"), "hotspot does not hold whole numbers"),
        ("hotspots.csv", lambda text: text.replace("\n2,", "\n7,"), "its 6 hotspots are not 1 to 6"),
        ("hotspots.csv", lambda text: text.replace("\n2,L1", "\n2,tail"), "bones tail; expected names"),
        ("hotspots.csv", lambda text: text.replace("\n2,L1", "\n2,"), "empty cells in column bone"),
        ("bones.csv", lambda text: text.replace("\n7,T7", "\n,T7"), "id does not hold whole numbers"),
        ("bones.csv", lambda text: text.replace("complete,1,", "complete,all,"), "seen_fraction holds no"),
        ("indices.csv", lambda text: text.replace("value", "values", 1), "has no column value"),
        ("indices.csv", lambda text: text.replace("\nPET15,", "\n,"), "empty cells in column index"),
        ("indices.csv", lambda text: text.replace("\nFTV10,", "\nPET15,"), "index PET15 stands there twice"),
        ("bones.csv", lambda text: "\n".join(text.split("\n")[:1]) + "\n", "has no row for T1 and 61 more"),
        ("bones.csv", lambda text: re.sub("\n5,T5,.*", "", text), "has no row for T5; expected"),
        ("bones.csv", lambda text: re.sub("(\n5,T5,.*)", r"\1\1", text), "id 5 stands there twice"),
        ("bones.csv", lambda text: text.replace("\n5,T5,", "\n5,T55,"), "the id of T55 is another bone's"),
        ("bones.csv", lambda text: cell(text, "hotspot_tlu_g", 6, "-1"), "or negative numbers in column"),
        ("hotspots.csv", lambda text: cell(text, "tlu_g", 0, "inf"), "infinite or negative numbers in"),
        ("hotspots.csv", lambda text: cell(text, "volume_ml", 1, "-3"), "numbers in column volume_ml"),
    ],
)  # fmt: skip
def test_a_table_that_is_broken(name, change, said, dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = dates[1] / name
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    line = refused(cli, tmp_path, *dates)
    assert f"two/{name}: " in line
    assert said in line


def test_an_image_on_another_grid(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = dates[1] / "hotspots.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :-1], image.affine), path)
    assert "hotspots.nii.gz: lies on another grid than suv.nii.gz" in refused(cli, tmp_path, *dates)


def test_two_dates_without_a_common_bone(cli: Cli, tmp_path: Path):
    """In scanner coordinates alone two foci that lie on each other are nothing to each other."""
    folders = []
    for name, keep in (("one", ("T7", "T8", "L1")), ("two", ("L3", "sacrum", "hip_left"))):
        patient = first_date()
        kept = np.isin(patient.labels, [BY_NAME[bone].id for bone in keep])
        patient.labels[~kept] = 0
        folders.append(quantified(cli, patient.save(tmp_path / f"p{name}"), tmp_path / name))
    line = refused(cli, tmp_path, *folders)
    assert f"two: has no bone in common with {folders[0]}" in line


def test_cases_without_a_common_bone(dates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    first, second, _ = read_dates(*dates, Steps())
    monkeypatch.setattr(comparison, "bone_motions", bone_motions)
    labels = np.where(second.bones.data > 0, BY_NAME["skull"].id, 0).astype(np.uint8)
    with pytest.raises(ValueError, match="no bone in common"):
        compare_cases(first, replace(second, bones=second.bones.with_data(labels)), {}, Steps())


@pytest.mark.parametrize(("value", "said"), [(0, "holds no bone"), (200, "holds labels above 66")])
def test_a_bone_map_that_cannot_be(value: int, said: str, dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = dates[1] / "bones.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, value, np.uint8), image.affine), path)
    assert f"two/bones.nii.gz: {said}" in refused(cli, tmp_path, *dates)


def test_a_pair_far_from_every_common_bone(
    dates: tuple[Path, Path], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second mask calls T7 something else: what is matched there stands on a way that nobody knows."""

    def motions(first: Volume, second: Volume) -> dict[int, BoneMotion]:
        far = BY_NAME["T7"].id
        labels = [int(n) for n in np.unique(first.data) if n]
        return {n: BoneMotion(np.eye(4), 0.0, 0.0, n != far, "", n != far) for n in labels}

    monkeypatch.setattr(comparison, "bone_motions", motions)
    image = nib.load(tmp_path / "b" / "bones.nii.gz")
    data = np.asarray(image.dataobj).copy()
    data[data == BY_NAME["T7"].id] = BY_NAME["T3"].id
    nib.save(nib.Nifti1Image(data, image.affine), tmp_path / "b" / "bones.nii.gz")
    two = quantified(cli, tmp_path / "b", tmp_path / "other")
    assert cli("compare", dates[0], two, "-o", tmp_path / "out").status == 0
    row = changed(tmp_path / "out").set_index("bone_1").loc["T7"]
    assert (row.relation, row.both_seen) == ("matched", False)
    assert pd.isna(row.change)
    assert "nor one near it" in row.note


def test_hotspots_by_other_rules(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    two = quantified(cli, tmp_path / "b", tmp_path / "ten", "--index", "FTV10")
    line = refused(cli, tmp_path, dates[0], two)
    assert "name PET15 and FTV10, threshold 15 and 10, operator >= and >" in line
    assert "with --index or --rule" in line


def test_suv_of_another_kind(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = dates[1] / "summary.json"
    path.write_text(path.read_text().replace('"suv_type": "BW"', '"suv_type": "LBM"'))
    assert "its naf PET is in SUVlbm, that of" in refused(cli, tmp_path, *dates)


def test_limits_that_cannot_be_used(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    path = tmp_path / "l.toml"
    assert "l.toml: cannot be read: No such file" in refused(cli, tmp_path, *dates, "--limits", path)
    path.write_bytes("# \u00e4".encode("latin-1"))
    assert "l.toml: is no text in UTF-8" in refused(cli, tmp_path, *dates, "--limits", path)
    path.write_text("[[limits]]\n")
    assert "l.toml: a [[limits]] has no tracer" in refused(cli, tmp_path, *dates, "--limits", path)
    path.write_text('[[limits]]\ntracer = "NaF"\nlesion = { tlu_g = [0.5, 2] }\n')
    assert "limits of NaF; expected one of naf, choline" in refused(cli, tmp_path, *dates, "--limits", path)


def test_results_do_not_take_the_place_of_what_they_are_made_from(dates, cli: Cli, tmp_path: Path):
    before = sorted(path.name for path in dates[0].iterdir())
    for output in (dates[0], dates[1], tmp_path):
        answer = cli("compare", *dates, "-o", output, "--overwrite")
        assert answer.status == 3
        assert "holds what is to be compared" in answer.err
    assert sorted(path.name for path in dates[0].iterdir()) == before
    answer = cli("compare", *dates, "-o", tmp_path / "a")
    assert (answer.status, "holds other files" in answer.err) == (3, True)
    assert cli("compare", *dates, "-o", tmp_path / "c").status == 0
    assert cli("compare", *dates, "-o", tmp_path / "c").status == 3
    assert cli("compare", *dates, "-o", tmp_path / "c", "--overwrite").status == 0
    assert cli("compare", dates[0], "-o", tmp_path / "d").status == 2


def test_a_folder_that_cannot_be_written(dates: tuple[Path, Path], tmp_path: Path):
    first, second, _ = read_dates(*dates, Steps())
    result = compare_cases(first, second, {}, Steps())
    with pytest.raises(ResourceError, match="the results cannot be written"):
        write_comparison(result, dates, False, tmp_path / "missing", Steps())


# Below the command.


def test_cases_that_cannot_be_compared(dates: tuple[Path, Path]):
    first, second, _ = read_dates(*dates, Steps())
    other = replace(second, pets=(replace(second.pets[0], tracer="psma"),))
    with pytest.raises(ValueError, match="no tracer in common"):
        compare_cases(first, other, {}, Steps())
    rule = second.pets[0].facts["rule"] | {"threshold": 10.0}
    other = replace(second, pets=(replace(second.pets[0], facts={"rule": rule}),))
    with pytest.raises(ValueError, match="different rules: threshold 15 and 10"):
        compare_cases(first, other, {}, Steps())


def test_which_differences_of_rules_count():
    rule = {"name": "PET15", "threshold": 15.0, "bones": "skeleton_49", "reference": "a"}
    assert rule_differences(rule, rule | {"reference": "b"}) == []
    assert rule_differences(rule, rule | {"split": 0.0}) == []  # the default, which an older one lacks
    assert rule_differences(rule, rule | {"split": 0.3}) == ["split 0 and 0.3"]
    assert rule_differences(rule | {"bones": "spine"}, rule) == ["bones spine and skeleton_49"]
    # A threshold that follows the patient's own bone has another value at every date.
    own = rule | {"threshold": 6.2, "multiple_of_bone": 2.0}
    assert rule_differences(own, own | {"threshold": 7.1}) == []
    assert rule_differences(own, own | {"threshold": 7.1, "multiple_of_bone": 3.0}) != []
    assert rule_differences(own, rule) != []
    assert rule_differences(rule, own) != []


def by_liver(rule: dict[str, Any], mean: float, place: float = 0.0, tissue: str = "liver") -> dict[str, Any]:
    """A rule as `measure` writes one that leans on a tissue."""
    region = {"tissue": tissue, "mean": mean, "sd": 0.1 * mean, "place_mm": [place, 0.0, 0.0]}
    lean = {"multiple_of_mean": 1.5, "multiple_of_sd": 2.0, "reference_region": region}
    return rule | {"threshold": 1.7 * mean} | lean


def test_rules_that_lean_on_a_tissue():
    rule = {"name": "over_liver", "bones": "skeleton_49", "relative_to": "", "operator": ">"}
    one, two = by_liver(rule, 6.0), by_liver(rule, 5.0, place=30.0)
    assert rule_differences(one, two) == []
    assert rule_differences(one, two | {"multiple_of_sd": 1.0})
    assert rule_differences(one, two | {"multiple_of_mean": 2.0})
    other = rule_differences(one, by_liver(rule, 6.0, tissue="muscle"))
    assert other == ["tissue liver and muscle"]
    plain = rule | {"threshold": 10.2}
    assert "tissue liver and None" in rule_differences(one, plain)
    assert "tissue None and liver" in rule_differences(plain, one)


def test_a_rule_without_its_keys_is_told_in_words():
    said = rule_differences({"name": "PET15", "threshold": 15.0}, {})
    assert said == ["name PET15 and None", "threshold 15 and None"]


@pytest.mark.parametrize("tissue", ["liver", "muscle"])
def test_two_dates_by_a_rule_of_liver_or_muscle(
    tissue: str, dates: tuple[Path, Path], cli: Cli, tmp_path: Path
):
    """Each date's threshold is of its own liver; the same multiple is one rule."""
    for folder, mean in zip(dates, (9.0, 8.0), strict=True):
        path = folder / "summary.json"
        summary = json.loads(path.read_text())
        summary["pets"][0]["rule"] = by_liver(summary["pets"][0]["rule"], mean, mean, tissue)
        path.write_text(json.dumps(summary))
    answer = cli("compare", *dates, "-o", tmp_path / "out")
    assert answer.status == 0, answer.err
    assert f"note: naf: the threshold follows the patient's own {tissue}: SUV 15.30 and 13.60" in answer.out
    assert set(changed(tmp_path / "out").change) >= {"new", "grown", "stable", "shrunk", "gone"}


def told(case: CaseResult, **provenance: Any) -> CaseResult:
    return replace(case, provenance=case.provenance | provenance)


def test_what_is_warned_of(dates: tuple[Path, Path]):
    first, second, warnings = read_dates(*dates, Steps())
    pair = [(first.pets[0], second.pets[0])]
    assert warnings == differences(first, second, pair) == []
    assert differences(first, told(second, petbone="0.0.9"), pair) == [
        f"different versions of petbone: {first.provenance['petbone']} and 0.0.9"
    ]
    assert differences(first, told(second, weights="ab12"), pair) == [
        "bones by different weights: a mask made elsewhere and ab12"
    ]
    psf = differences(first, told(second, options={"psf_mm": 6.0}), pair)
    assert psf == ["different --psf-mm: none and 6 mm; suv_mean_pvc does not compare"]

    align = differences(first, told(second, options={"align": "rigid"}), pair)
    assert align == ["different --align: report and rigid; PET and CT lie to each other otherwise"]
    assert differences(told(first, options={}), told(second, options={"align": "report"}), pair) == []
    lies = [replace(pair[0][n], facts=pair[0][n].facts | {"alignment": {"applied": True}}) for n in (0, 1)]
    for pets, word in (((lies[0], pair[0][1]), "first"), ((pair[0][0], lies[1]), "second")):
        (said,) = differences(first, second, [pets])
        assert said.startswith(f"naf: the PET was moved onto the CT at the {word} date only")
    assert differences(first, second, [(lies[0], lies[1])]) == []

    def facts(minutes: float, **more: Any) -> dict[str, Any]:
        suv = {"rule": "r", "decay_correction": "START", "decay_s": 60 * minutes} | more
        return {"suv": suv, "rule": {"threshold": 15.0}}

    one, two = first.pets[0], second.pets[0]
    for minutes, count in ((75, 0), (76, 1), (44, 1)):
        late = [(replace(one, facts=facts(60)), replace(two, facts=facts(minutes)))]
        found = differences(first, second, late)
        assert len(found) == count
        assert not count or f"60 and {minutes} min after the injection" in found[0]
    admin = [(replace(one, facts=facts(60)), replace(two, facts=facts(99, decay_correction="ADMIN")))]
    assert differences(first, second, admin) == []
    rules = [(replace(one, facts=facts(60)), replace(two, facts=facts(60, rule="s")))]
    assert differences(first, second, rules) == ["naf: SUV by different rules: r; s"]
    own = replace(two, facts=facts(60) | {"rule": {"threshold": 6.25}})
    assert differences(first, second, [(replace(one, facts=facts(60)), own)]) == [
        "naf: the threshold follows the patient's own bone: SUV 15.00 and 6.25"
    ]
    grid = Grid(two.suv.grid.shape, affine(np.eye(3), (2.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    fine = [(one, replace(two, suv=Volume(two.suv.data, grid, Unit.SUV)))]
    assert differences(first, second, fine)[0].startswith("naf: voxels of 4.00 x 4.00 x 4.00 and 2.00 x")


def test_what_is_read_back_is_what_was_written(hand_made: HandMade, cli: Cli, tmp_path: Path):
    """In four frames: images, tables and the rule of a folder of results."""
    for name, volume in (("bones", hand_made.bones), ("pet", hand_made.pet)):
        nib.save(
            nib.Nifti1Image(np.asarray(volume.data), volume.grid.mm_from_ijk), tmp_path / f"{name}.nii.gz"
        )
    folder = quantified(cli, tmp_path, tmp_path / "out", "--index", "FTV10")
    case, _, warnings = read_dates(folder, folder, Steps())
    assert len(warnings) == 1
    (pet,) = case.pets
    np.testing.assert_array_equal(case.bones.data, hand_made.bones.data)
    np.testing.assert_array_equal(pet.suv.data, hand_made.pet.data)
    assert pet.suv.grid.same_as(hand_made.pet.grid)
    assert pet.hotspots.unit is Unit.LABEL
    assert pet.hotspot_table.bone.tolist() == ["T7", "L3"]
    assert pet.facts["rule"]["name"] == "FTV10"
    assert case.candidates is None
    result = compare_cases(case, case, read_limits(None), Steps())
    assert result.tracers[0].hotspots.change.tolist() == ["stable", "stable"]


def test_names_that_are_unsure_are_shown_as_ranges(dates: tuple[Path, Path], cli: Cli, tmp_path: Path):
    names = {"T7": {"confidence": 0.4, "may_be": ["T7", "T6", "T8"]}}
    path = dates[1] / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"names": names}))
    for name, column in (("bones.csv", "name"), ("hotspots.csv", "bone")):
        table = pd.read_csv(dates[1] / name)
        table.loc[table[column] == "T7", "name_confidence"] = 0.4
        table.to_csv(dates[1] / name, index=False)
    out = tmp_path / "out"
    assert cli("compare", *dates, "-o", out).status == 0
    page = Page((out / "compare.html").read_text())
    assert "T6-T8" in page.row("grown")
    assert "T6-T8: " in page.words  # the bar of the figure


def bars(ratios: list[float], new: int = 0, gone: int = 0) -> pd.DataFrame:
    """Pairs with these ratios, and hotspots of one date."""
    both = {"change": "stable", "bone_1": "L3", "bone_2": "L3", "tlu_g_1": 9.0}
    rows: list[dict[str, Any]] = [both | {"tlu_ratio": ratio, "tlu_g_2": 9.0 * ratio} for ratio in ratios]
    rows += [{"change": "new", "bone_1": None, "bone_2": "T1", "tlu_ratio": None, "tlu_g_2": 5.0}] * new
    rows += [{"change": "gone", "bone_1": "T2", "bone_2": None, "tlu_ratio": None, "tlu_g_1": 5.0}] * gone
    return pd.DataFrame(rows).astype({"tlu_ratio": float})


def test_the_figure_is_in_scale():
    """Twice and half are equally far from one; new ones stand at the left end, gone ones at the right."""
    figure = waterfall(bars([1.0, 2.0, 0.5], new=1, gone=1), (0.63, 1.71), str)
    assert [bar.label for bar in figure.bars] == ["T1", "L3", "L3", "L3", "T2"]
    new, double, same, half, gone = figure.bars
    assert double.height == pytest.approx(half.height)
    assert double.y + double.height == pytest.approx(half.y) == figure.zero
    assert same.height == 0.8
    assert (new.y, new.y + new.height) == (figure.top, figure.zero)
    assert (gone.y, gone.y + gone.height) == (figure.zero, figure.bottom)
    unit = double.height / np.log(2)
    assert figure.zero - figure.band[0] == pytest.approx(unit * np.log(1.71))
    assert figure.band[1] - figure.zero == pytest.approx(unit * -np.log(0.63))
    ticks = {word: y for y, word in figure.ticks}
    assert ticks["2"] == pytest.approx(double.y)
    assert all(figure.left <= bar.x and bar.x + bar.width <= figure.right for bar in figure.bars)


def test_the_figure_of_many_and_of_extremes():
    figure = waterfall(bars(list(np.geomspace(0.001, 1000, 300))), None, str)
    assert figure.band is None
    assert not figure.labelled
    assert not figure.valued
    assert len(figure.bars) == 300 > LABELLED
    assert min(bar.y for bar in figure.bars) == figure.top
    assert max(bar.y + bar.height for bar in figure.bars) == figure.bottom
    assert figure.bars[-1].x + figure.bars[-1].width <= figure.right
    assert waterfall(bars([1.0]).iloc[:0], None, str) is None


def test_help_does_not_pay_for_numbers():
    code = (
        "import sys, petbone.cli_compare; "
        "print([m for m in ('torch', 'pandas', 'numpy', 'nibabel', 'scipy', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_has_an_example(cli: Cli):
    answer = cli("compare", "--help")
    assert answer.status == 0
    assert "petbone compare january june -o changes" in answer.out
