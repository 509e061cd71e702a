"""The main job from files to a folder, and everything that is refused on the way."""

import gzip
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from conftest import HandMade, affine
from petbone.burden import BONE_COLUMNS, HOTSPOT_COLUMNS
from petbone.errors import InputError
from petbone.examination import all_indices
from petbone.indices import COLUMNS
from petbone.pipeline import CaseOptions
from petbone.volume import Grid, Unit, Volume

FILES = {
    "bones.nii.gz", "suv.nii.gz", "hotspots.nii.gz", "bones.csv", "hotspots.csv", "indices.csv",
    "alignment.csv", "regions.csv", "summary.json", "provenance.json",
    "report.html",
}  # fmt: skip


def save(volume: Volume, path: Path) -> Path:
    image = nib.Nifti1Image(np.asarray(volume.data), volume.grid.mm_from_ijk)
    nib.save(image, path)
    return path


@pytest.fixture
def files(hand_made: HandMade, tmp_path: Path) -> tuple[Path, Path]:
    """Bones and PET of the hand-made patient on disk, in each of four frames."""
    return save(hand_made.bones, tmp_path / "b.nii.gz"), save(hand_made.pet, tmp_path / "p.nii.gz")


def test_means_without_the_blur(files, hand_made: HandMade, cli, tmp_path):
    """Blurred by 6 mm, the hand-made patient shows too little; corrected it has what was put into it."""
    sd = 6.0 / 2.354820045 / hand_made.pet.grid.spacing_mm
    image = ndimage.gaussian_filter(hand_made.pet.data.astype(float), sd, mode="nearest")
    pet = save(hand_made.pet.with_data(image.astype(np.float32)), tmp_path / "blurred.nii.gz")
    told = [files[0], pet, "--units", "suv", "--tracer", "naf", "--index", "FTV10"]
    assert cli("quantify", *told, "-o", tmp_path / "a").status == 0
    assert pd.read_csv(tmp_path / "a" / "bones.csv").suv_mean_pvc.isna().all()
    assert cli("quantify", *told, "--psf-mm", 6, "-o", tmp_path / "b").status == 0
    bones = pd.read_csv(tmp_path / "b" / "bones.csv").set_index("name")
    assert bones.suv_mean["sacrum"] < 0.95 * 5
    assert bones.suv_mean_pvc["sacrum"] == pytest.approx(5, rel=0.03)
    assert bones.suv_mean_pvc["T7"] == pytest.approx(6.5, rel=0.05)
    spots = pd.read_csv(tmp_path / "b" / "hotspots.csv")
    assert spots.suv_mean_pvc[0] == pytest.approx(20, rel=0.1)
    assert (spots.suv_mean_pvc > spots.suv_mean).all()
    provenance = json.loads((tmp_path / "b" / "provenance.json").read_text())
    assert provenance["options"]["psf_mm"] == 6
    assert "SUV mean corr." in (tmp_path / "b" / "report.html").read_text()
    answer = cli("quantify", *told, "--psf-mm", 0, "-o", tmp_path / "c")
    assert answer.status == 2


def test_quantify_gives_the_numbers_of_the_hand_made_patient(files, hand_made: HandMade, cli, tmp_path):
    out = tmp_path / "out"
    answer = cli("quantify", *files, "--units", "suv", "--tracer", "naf", "--index", "FTV10", "-o", out)
    assert answer.status == 0, answer.err
    assert {path.name for path in out.iterdir()} == FILES

    ml = hand_made.voxel_ml
    bones = pd.read_csv(out / "bones.csv").set_index("name")
    assert list(bones.reset_index().columns) == ["name", "id", *BONE_COLUMNS[2:]]
    assert len(bones) == 62
    assert bones.status[["T7", "L3", "sacrum"]].tolist() == ["complete"] * 3
    assert bones.status["rib_left_7"] == "cut"
    assert (bones.status == "absent").sum() == 58
    assert bones.loc["skull", BONE_COLUMNS[5:]].isna().all()
    assert bones.volume_ml["T7"] == pytest.approx(1000 * ml, rel=1e-3)
    assert bones.pet_volume_ml["T7"] == pytest.approx(1000 * ml, rel=1e-3)
    assert bones.suv_mean["T7"] == pytest.approx(6.5, rel=1e-3)
    assert bones.suv_max[["T7", "L3", "sacrum"]].tolist() == [20, 12, 5]
    assert bones.hotspot_fraction["L3"] == pytest.approx(0.05, rel=1e-3)

    spots = pd.read_csv(out / "hotspots.csv")
    assert list(spots.columns) == HOTSPOT_COLUMNS
    assert spots.bone.tolist() == ["T7", "L3"]
    assert spots.volume_ml.tolist() == pytest.approx([100 * ml, 50 * ml], rel=1e-3)

    indices = pd.read_csv(out / "indices.csv").set_index("index")
    assert list(indices.reset_index().columns) == COLUMNS
    assert indices.value["PET15"] == pytest.approx(100 * 100 / 3300, rel=1e-3)
    assert indices.value["FTV10"] == pytest.approx(150 * ml, rel=1e-3)
    assert indices.value["TLF10"] == pytest.approx(2600 * ml, rel=1e-3)

    hotspots = nib.load(out / "hotspots.nii.gz")
    np.testing.assert_allclose(hotspots.affine, hand_made.pet.grid.mm_from_ijk, atol=1e-3)
    assert [(np.asarray(hotspots.dataobj) == n).sum() for n in (1, 2)] == [100, 50]
    np.testing.assert_array_equal(nib.load(out / "suv.nii.gz").get_fdata(), hand_made.pet.data)
    np.testing.assert_array_equal(np.asarray(nib.load(out / "bones.nii.gz").dataobj), hand_made.bones.data)

    summary = json.loads((out / "summary.json").read_text())
    assert summary["pets"][0]["bones"][6]["suv_max"] == 20
    assert summary["pets"][0]["bones"][56]["suv_max"] is None
    provenance = json.loads((out / "provenance.json").read_text())
    assert {step["name"] for step in provenance["steps"]} >= {"read", "bones", "measure", "write"}
    assert len(provenance["inputs"]["pets"][0]["sha256"]) == 64
    assert str(tmp_path) not in (out / "provenance.json").read_text() + (out / "report.html").read_text()


class OneFrame:
    """Bones, CT and PET in one frame, for what does not depend on it."""

    def __init__(self, folder: Path):
        grid = Grid((12, 12, 12), affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
        suv = np.full(grid.shape, 1.5, np.float32)
        suv[5, 5, 5] = 30
        labels = np.zeros(grid.shape, np.uint8)
        labels[2:10, 2:10, 2:10] = 7
        hu = np.where(labels > 0, 400, -1000).astype(np.int16)
        self.pet = save(Volume(suv, grid, Unit.SUV), folder / "pet.nii.gz")
        self.bones = save(Volume(labels, grid, Unit.LABEL), folder / "bones.nii.gz")
        self.ct = save(Volume(hu, grid, Unit.HU), folder / "ct.nii.gz")


@pytest.fixture
def one(tmp_path: Path) -> OneFrame:
    return OneFrame(tmp_path)


def test_run_with_a_mask_needs_no_network(one, cli, tmp_path):
    out = tmp_path / "out"
    answer = cli("run", one.ct, one.pet, "--bones", one.bones, "--units", "suv", "--tracer", "naf", "-o", out)
    assert answer.status == 0, answer.err
    assert pd.read_csv(out / "hotspots.csv").hu_mean.tolist() == [400]


def test_a_hotspot_at_a_joint_is_flagged_in_the_tables_and_counted(cli, tmp_path):
    grid = Grid((24, 12, 12), affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:12, 2:10, 2:10], labels[12:22, 2:10, 2:10] = 49, 48
    suv = np.full(grid.shape, 1.5, np.float32)
    suv[11:13, 5, 5], suv[18:20, 5, 5] = 30, 20
    files = [
        save(Volume(labels, grid, Unit.LABEL), tmp_path / "b.nii.gz"),
        save(Volume(suv, grid, Unit.SUV), tmp_path / "p.nii.gz"),
    ]
    out = tmp_path / "out"
    answer = cli("quantify", *files, "--units", "suv", "--tracer", "naf", "-o", out)
    assert answer.status == 0, answer.err
    spots = pd.read_csv(out / "hotspots.csv")
    assert spots["flags"][0] == "sacroiliac joint: 100 % of its uptake within 8 mm of sacrum and hip_right"
    assert pd.isna(spots["flags"][1])
    row = pd.read_csv(out / "indices.csv").set_index("index").loc["FTV10"]
    assert row.value == pytest.approx(4 * 0.064, rel=1e-3)
    assert row.value_unflagged == pytest.approx(2 * 0.064, rel=1e-3)
    assert (row.flagged_hotspots, row.flagged_ml) == (1, pytest.approx(2 * 0.064, rel=1e-3))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["pets"][0]["hotspots"][1]["flags"] is None
    assert "sacroiliac joint" in (out / "report.html").read_text()


def test_two_tracers_leave_tables_of_their_own(one, cli, tmp_path):
    out = tmp_path / "out"
    answer = cli(
        "quantify", one.bones, one.pet, one.pet, "--units", "suv", "--tracer", "naf", "--tracer", "choline",
        "-o", out,
    )  # fmt: skip
    assert answer.status == 0, answer.err
    names = {path.name for path in out.iterdir()}
    assert {"bones_naf.csv", "bones_choline.csv", "suv_naf.nii.gz", "hotspots_choline.csv"} <= names
    assert {"bones.nii.gz", "report.html"} <= names
    assert "bones.csv" not in names
    matches = pd.read_csv(out / "hotspot_matches.csv")  # the same image twice, by two rules
    assert set(matches.tracer_1) == {"naf"}
    assert set(matches.tracer_2) == {"choline"}
    assert matches.relation.isin(["matched", "split", "merged", "first only", "second only"]).all()
    naf, choline = (len(pd.read_csv(out / f"hotspots_{t}.csv")) for t in ("naf", "choline"))
    assert matches.hotspot_1.nunique() == naf
    assert matches.hotspot_2.nunique() == choline
    compared = pd.read_csv(out / "concordance.csv").set_index("name").concordance
    assert compared["T7"] == "all"
    assert pd.isna(compared["T8"])


def test_the_same_tracer_twice_cannot_be_told_apart(one, cli, tmp_path):
    answer = cli(
        "quantify", one.bones, one.pet, one.pet, "--units", "suv", "--tracer", "naf", "-o", tmp_path / "o"
    )
    assert answer.status == 3
    assert "naf" in answer.err
    assert not (tmp_path / "o").exists()


def test_a_bare_pet_is_taken_as_suv_with_a_warning(one, cli, tmp_path):
    out = tmp_path / "out"
    answer = cli("quantify", one.bones, one.pet, "-o", out)
    assert answer.status == 0, answer.err
    said = json.loads((out / "provenance.json").read_text())["assumptions"]
    assert any("SUV" in line for line in said)
    assert any("SUV3" in line for line in said)
    assert "taken as SUV" in (out / "report.html").read_text()


def test_an_index_of_ones_own(one, cli, tmp_path):
    rule = tmp_path / "mine.toml"
    rule.write_text('[[index]]\nname = "hot20"\nstatistic = "volume_ml"\nunit = "mL"\nthreshold = 20.0\n')
    out = tmp_path / "out"
    answer = cli(
        "quantify", one.bones, one.pet, "--units", "suv", "--rule", rule, "--index", "hot20", "-o", out
    )
    assert answer.status == 0, answer.err
    indices = pd.read_csv(out / "indices.csv").set_index("index")
    assert indices.value["hot20"] == pytest.approx(0.064)
    assert len(pd.read_csv(out / "hotspots.csv")) == 1


def broken(one: OneFrame, folder: Path, kind: str) -> Path:
    """A file that cannot be used, of each kind."""
    path = folder / f"{kind}.nii.gz"
    whole = gzip.decompress(one.pet.read_bytes())
    grid = Grid((12, 12, 12), affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    if kind == "unreadable":
        path.write_bytes(b"this is no image at all" * 40)
    elif kind == "truncated":
        path.write_bytes(one.pet.read_bytes()[:-200])
    elif kind == "truncated_inside":
        path.write_bytes(gzip.compress(whole[:-1000]))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "four_dimensional":
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 3), np.float32), np.eye(4)), path)
    elif kind == "nan":
        data = np.ones(grid.shape, np.float32)
        data[3, 3, 3] = np.nan
        save(Volume(data, grid, Unit.SUV), path)
    elif kind == "zero_voxel":
        header = bytearray(whole)
        header[80:84] = b"\0\0\0\0"  # pixdim[1]
        header[252:256] = b"\1\0\0\0"  # qform only
        path.write_bytes(gzip.compress(bytes(header)))
    elif kind == "singular":
        header = bytearray(whole)
        header[280:296] = header[296:312]  # srow_x = srow_y
        path.write_bytes(gzip.compress(bytes(header)))
    elif kind == "elsewhere":
        far = Grid(grid.shape, affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 900.0)))
        save(Volume(np.full(grid.shape, 1.5, np.float32), far, Unit.SUV), path)
    elif kind == "counts":
        save(Volume(np.full(grid.shape, 20000, np.int16), grid, Unit.SUV), path)
    return path


@pytest.mark.parametrize(
    "kind",
    ["unreadable", "truncated", "truncated_inside", "empty", "four_dimensional", "nan", "zero_voxel",
     "singular", "elsewhere", "counts", "missing"],
)  # fmt: skip
def test_a_pet_that_cannot_be_used_is_refused_in_one_line(kind, one, cli, tmp_path):
    bad = broken(one, tmp_path, kind)
    before = sorted(path.name for path in tmp_path.iterdir())
    answer = cli("quantify", one.bones, bad, "-o", tmp_path / "out")
    assert answer.status == 3
    assert answer.err.count("\n") == 1
    assert bad.name in answer.err
    assert answer.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["unreadable", "truncated", "empty", "four_dimensional", "missing"])
def test_a_ct_that_cannot_be_used_is_refused_in_one_line(kind, one, cli, tmp_path):
    bad = broken(one, tmp_path, kind)
    before = sorted(path.name for path in tmp_path.iterdir())
    for command in (
        ["run", bad, one.pet, "-o", tmp_path / "out"],
        ["segment", bad, "-o", tmp_path / "s.nii.gz"],
    ):
        answer = cli(*command)
        assert answer.status == 3
        assert answer.err.count("\n") == 1
        assert bad.name in answer.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_unknown_labels_are_refused(one, cli, tmp_path):
    grid = Grid((12, 12, 12), affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    labels = np.zeros(grid.shape, np.uint8)
    labels[4, 4, 4] = 200
    strange = save(Volume(labels, grid, Unit.LABEL), tmp_path / "strange.nii.gz")
    answer = cli("quantify", strange, one.pet, "--units", "suv", "-o", tmp_path / "out")
    assert answer.status == 3
    assert "200" in answer.err
    assert "strange.nii.gz" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_mask_without_a_bone_is_refused(one, cli, tmp_path):
    grid = Grid((12, 12, 12), affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    nothing = save(Volume(np.zeros(grid.shape, np.uint8), grid, Unit.LABEL), tmp_path / "nothing.nii.gz")
    answer = cli("quantify", nothing, one.pet, "--units", "suv", "-o", tmp_path / "out")
    assert (answer.status, "no bone" in answer.err) == (3, True)


def test_a_folder_that_is_no_dicom_is_refused(one, cli, tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "readme.txt").write_text("not an image")
    answer = cli("quantify", one.bones, folder, "-o", tmp_path / "out")
    assert answer.status == 3
    assert "notes" in answer.err
    assert answer.err.count("\n") == 1


def test_results_are_never_written_over_something_else(one, cli, tmp_path):
    words = ("quantify", one.bones, one.pet, "--units", "suv", "--tracer", "naf", "-o")
    out = tmp_path / "out"
    out.mkdir()
    assert cli(*words, out).status == 0  # an empty folder will do
    first = (out / "bones.csv").read_bytes()
    again = cli(*words, out)
    assert (again.status, "--overwrite" in again.err) == (3, True)
    assert cli(*words, out, "--overwrite").status == 0
    assert (out / "bones.csv").read_bytes() == first

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    refused = cli(*words, mine, "--overwrite")
    assert (refused.status, "other files" in refused.err) == (3, True)
    assert (mine / "thesis.tex").read_text() == "years of work"
    assert cli(*words, mine / "thesis.tex", "--overwrite").status == 3
    assert cli(*words, mine / "thesis.tex" / "below").status == 3


def test_a_refused_case_leaves_no_folder_and_the_current_one_is_refused(one, cli, tmp_path, monkeypatch):
    bad = broken(one, tmp_path, "nan")
    deep = tmp_path / "n1" / "n2" / "n3"
    assert cli("quantify", one.bones, bad, "--units", "suv", "-o", deep).status == 3
    assert not (tmp_path / "n1").exists()
    assert cli("quantify", one.bones, one.pet, "--units", "suv", "-o", deep).status == 0
    assert (deep / "report.html").exists()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    answer = cli("quantify", one.bones, one.pet, "--units", "suv", "-o", ".")
    assert (answer.status, "that you are in" in answer.err) == (3, True)
    assert not any(here.iterdir())


def test_a_pet_without_any_bone_of_the_map_is_refused(one, cli, tmp_path):
    grid = Grid((12, 12, 12), affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 42.0)))
    above = save(Volume(np.full(grid.shape, 2.5, np.float32), grid, Unit.SUV), tmp_path / "above.nii.gz")
    answer = cli("quantify", one.bones, above, "--units", "suv", "-o", tmp_path / "out")
    assert (answer.status, "no bone" in answer.err) == (3, True)
    assert not (tmp_path / "out").exists()


def test_an_index_whose_bones_were_not_seen_has_no_value(one, cli, tmp_path):
    grid = Grid((12, 12, 12), affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    labels = np.zeros(grid.shape, np.uint8)
    labels[4:7, 4:7, 4:7] = 61
    femur = save(Volume(labels, grid, Unit.LABEL), tmp_path / "femur.nii.gz")
    answer = cli("quantify", femur, one.pet, "--units", "suv", "--tracer", "naf", "-o", tmp_path / "out")
    assert answer.status == 0, answer.err
    assert "PET15 has no value" in answer.out
    assert "femur_left (SUVmax 30.0)" in answer.out
    table = pd.read_csv(tmp_path / "out" / "indices.csv")
    assert table.value[table.bones == "skeleton_49"].isna().all()
    assert table.value[table.bones == "skeleton_62"].notna().all()  # BSI15 counts femora


def test_a_dose_without_units_is_not_ignored(one, cli, tmp_path):
    for units in ([], ["--units", "suv"]):
        answer = cli("suv", one.pet, "--dose-mbq", 200, "--weight-kg", 70, *units)
        assert (answer.status, "--units bqml" in answer.err) == (3, True)


def test_a_failure_keeps_the_earlier_results(one, cli, tmp_path):
    out = tmp_path / "out"
    assert cli("quantify", one.bones, one.pet, "--units", "suv", "-o", out).status == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    bad = broken(one, tmp_path, "nan")
    assert cli("quantify", one.bones, bad, "--units", "suv", "-o", out, "--overwrite").status == 3
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tracer", "water"], "tracer"),
        (["--units", "counts"], "units"),
        (["--sex", "Q"], "sex"),
        (["--index", "PET16"], "PET16"),
        (["--tracer", "naf", "--tracer", "fdg"], "2 times for 1 PET"),
        (["--rule", "missing.toml"], "missing.toml"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_says_what_is_wrong(words, said, one, cli, tmp_path):
    answer = cli("quantify", one.bones, one.pet, "-o", tmp_path / "out", *words)
    assert answer.status == (3 if "missing.toml" in words else 2)
    assert said in answer.err
    assert not (tmp_path / "out").exists()


def test_an_option_is_not_taken_for_the_name_of_a_folder(one, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = cli("quantify", one.bones, one.pet, "-o", "--help")
    assert (answer.status, "looks like an option" in answer.err) == (2, True)
    assert list(tmp_path.glob("*help*")) == []


def test_labels_without_a_mask_are_wrong_usage(one, cli, tmp_path):
    answer = cli("run", one.ct, one.pet, "--labels", "totalsegmentator", "-o", tmp_path / "out")
    assert (answer.status, "--bones" in answer.err) == (2, True)


def test_a_machine_too_small_says_how_much_is_needed(one, cli, tmp_path):
    for command in (["run", one.ct, one.pet, "--units", "suv"], ["segment", one.ct]):
        answer = cli(*command, "--max-memory-gb", 0.5, "-o", tmp_path / "out.nii.gz")
        assert answer.status == 4
        assert "0.7 GB" in answer.err
        assert answer.err.count("\n") == 1
        assert not (tmp_path / "out.nii.gz").exists()


def test_suv_prints_factor_and_rule(one, cli, tmp_path):
    answer = cli("suv", one.pet, "--units", "suv", "--json", "-o", tmp_path / "suv.nii.gz")
    assert answer.status == 0, answer.err
    assert json.loads(answer.out)["factor"] == 1
    assert nib.load(tmp_path / "suv.nii.gz").get_fdata().max() == 30
    assert cli("suv", one.pet, "--units", "suv", "-o", tmp_path / "suv.nii.gz").status == 3
    assert cli("suv", one.pet, "--units", "suv", "-o", tmp_path / "suv.txt").status == 3
    assert cli("suv", one.pet, "--units", "suv", "-o", tmp_path / "no" / "suv.nii.gz").status == 3


def test_help_has_an_example_of_every_command(cli):
    for command in ("run", "quantify", "segment", "suv", "phantom", "info"):
        answer = cli(command, "--help")
        assert answer.status == 0
        assert f"petbone {command}" in answer.out
    assert cli("--version").out.strip()


def test_a_small_phantom_can_be_made_and_measured(cli, tmp_path):
    made = cli("phantom", "--size", "small", "-o", tmp_path / "patient")
    assert made.status == 0, made.err
    folder = tmp_path / "patient"
    out = tmp_path / "out"
    naf = folder / "naf.nii.gz"
    answer = cli("quantify", folder / "bones.nii.gz", naf, "--units", "suv", "--tracer", "naf",
                 "-o", out)  # fmt: skip
    assert answer.status == 0, answer.err
    truth = json.loads((folder / "truth.json").read_text())["indices"]["naf"]
    found = pd.read_csv(out / "indices.csv").set_index("index").value
    # Noise adds about 1 % to what the truth allows for its own counting.
    for name in ("PET15", "FTV10", "TLF10"):
        assert found[name] == pytest.approx(
            truth[name]["value"], rel=truth[name]["relative_tolerance"] + 0.01
        )
    assert cli("phantom", "--size", "huge", "-o", tmp_path / "x").status == 2


@pytest.fixture
def doubting_net(one, monkeypatch, tmp_path) -> dict[str, Path]:
    """A net that finds T7, C7 and T13, and is sure of none but L3; and a PET that is hot in all of them."""
    from petbone.net import segment

    grid = Grid((12, 12, 12), affine(np.eye(3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    labels, suv = np.zeros(grid.shape, np.uint8), np.full(grid.shape, 1.5, np.float32)
    for label, z in ((56, 9), (7, 6), (63, 3), (15, 0)):
        labels[2:10, 2:10, z : z + 2] = label
        suv[4:7, 4:7, z : z + 2] = 20 + label
    confidence = {7: 0.41, 56: 0.2, 63: 0.3, 15: 0.9}
    candidates = {7: (7, 6), 56: (56, 55), 63: (63, 12, 13), 15: (15,)}
    bones = Volume(labels, grid, Unit.LABEL)
    found = segment.Segmentation(bones, confidence, candidates, segment._notes(confidence, 25.4), "0" * 64)

    class Net:
        def segment(self, ct, progress=None):
            return found

    monkeypatch.setattr(segment.Segmenter, "load", staticmethod(lambda *_: Net()))
    mask = save(bones, tmp_path / "same.nii.gz")
    return {"ct": one.ct, "mask": mask, "pet": save(Volume(suv, grid, Unit.SUV), tmp_path / "hot.nii.gz")}


def test_names_that_the_net_is_not_sure_of_are_kept_for_programs_only(doubting_net, cli, tmp_path):
    out = tmp_path / "out"
    words = ("run", doubting_net["ct"], doubting_net["pet"], "--units", "suv", "--tracer", "naf", "-o", out)
    answer = cli(*words)
    assert answer.status == 0, answer.err

    # The tables keep their columns: best guess and how sure it is.
    bones = pd.read_csv(out / "bones.csv").set_index("name")
    assert bones.name_confidence[["T7", "C7", "T13", "L3"]].tolist() == [0.41, 0.2, 0.3, 0.9]
    spots = pd.read_csv(out / "hotspots.csv").set_index("bone")
    assert spots.name_confidence[["T7", "T13", "L3"]].tolist() == [0.41, 0.3, 0.9]
    names = json.loads((out / "provenance.json").read_text())["names"]
    assert names == {
        "T7": {"confidence": 0.41, "may_be": ["T7", "T6"]},
        "L3": {"confidence": 0.9, "may_be": ["L3"]},
        "C7": {"confidence": 0.2, "may_be": ["C7", "C6"]},
        "T13": {"confidence": 0.3, "may_be": ["T13", "T12", "L1"]},
    }

    # People are told what is known.
    assert "3 of 4 bone names are unsure; they are shown as ranges" in answer.out
    assert "past the threshold of PET15 but not among its bones: C6-C7 (SUVmax 76.0)" in answer.out
    assert "perhaps supernumerary: T12-L1; counted with the 49 bones" in answer.out
    page = re.sub(r"data:image/png;base64,[\w+/=]+", "", (out / "report.html").read_text())
    for text in (answer.out, page):
        assert "C6-C7" in text
        assert "T12-L1" in text
        assert not re.search(r"\b(?:T13|(?<!-)C7|(?<!-)T7)\b", text)
    assert "T6-T7" in page


def test_numbers_do_not_depend_on_what_is_known_of_names(doubting_net, cli, tmp_path):
    """The same bones as a mask made elsewhere, so with names that nobody doubts."""
    unsure, sure = tmp_path / "unsure", tmp_path / "sure"
    words = (doubting_net["pet"], "--units", "suv", "--tracer", "naf", "-o")
    assert cli("run", doubting_net["ct"], *words, unsure).status == 0
    assert cli("quantify", doubting_net["mask"], *words, sure, "--ct", doubting_net["ct"]).status == 0
    assert (sure / "indices.csv").read_bytes() == (unsure / "indices.csv").read_bytes()
    for name in ("bones.csv", "hotspots.csv"):
        tables = [pd.read_csv(out / name).drop(columns="name_confidence") for out in (sure, unsure)]
        pd.testing.assert_frame_equal(*tables)
    for html, there in ((sure / "report.html", True), (unsure / "report.html", False)):
        cells = re.findall(r"<td[^>]*>(?:<i[^>]*></i>)?([^<]*)</td>", html.read_text())
        assert ("T7" in cells) is there


def test_segment_says_which_labels_are_unsure(doubting_net, cli, tmp_path):
    answer = cli("segment", doubting_net["ct"], "-o", tmp_path / "b.nii.gz")
    assert answer.status == 0, answer.err
    assert "labels of unsure name: 7 (T6-T7); 56 (C6-C7); 63 (T12-L1)" in answer.out
    assert "4 bones in" in answer.out
    assert set(np.unique(np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj))) == {0, 7, 15, 56, 63}


def test_a_mask_made_elsewhere_has_no_doubts_of_the_net(one, cli, tmp_path):
    assert cli("quantify", one.bones, one.pet, "--units", "suv", "-o", tmp_path / "out").status == 0
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["names"] is None


def test_a_rule_that_is_no_text(tmp_path: Path):
    rule = tmp_path / "rule.toml"
    rule.write_bytes("# Schwelle für Knochen".encode("latin-1"))
    with pytest.raises(InputError, match=r"rule\.toml: is no text in UTF-8; expected a TOML file"):
        all_indices(CaseOptions(rule=rule))
