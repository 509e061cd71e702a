"""`--align` through whole runs: report changes no number, rigid moves the frame and not a voxel."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from petbone.hotspots import HotspotRule
from petbone.indices import published_indices
from petbone.io import write_nifti
from petbone.phantom import SMALL, make_patient
from petbone.pose import rigid
from petbone.register import align
from petbone.resample import occupancy
from petbone.sensitivity import COLUMNS, SHIFT_MM, shifted_ranges
from petbone.volume import Grid, Volume

MOTION = rigid(np.array([6.0, -5.0, 6.0, 0.0, 0.02, 0.03]), np.zeros(3))


@pytest.fixture(scope="module")
def patient():
    return make_patient(replace(SMALL, seed=5, tracers=("naf",)))


@pytest.fixture
def files(patient, tmp_path: Path) -> dict[str, Path]:
    pet = patient.pets["naf"]
    moved = Volume(pet.data, Grid(pet.grid.shape, MOTION @ pet.grid.mm_from_ijk), pet.unit)
    images = {"ct": patient.ct, "bones": patient.bones, "pet": pet, "moved": moved}
    for name, image in images.items():
        write_nifti(image, tmp_path / f"{name}.nii.gz")
    return {name: tmp_path / f"{name}.nii.gz" for name in images}


def run(cli, files: dict[str, Path], pet: str, out: Path, *more: object):
    told = ["quantify", files["bones"], files[pet], "--ct", files["ct"], "--units", "suv", "--tracer", "naf"]
    answer = cli(*told, "-o", out, *more)
    assert answer.status == 0, answer.err
    return answer


def test_report_changes_no_number(files, cli, tmp_path, monkeypatch):
    run(cli, files, "moved", tmp_path / "a")
    monkeypatch.setattr("petbone.measure.align", lambda *_: None)
    run(cli, files, "moved", tmp_path / "b")
    for name in ("hotspots.csv", "indices.csv", "regions.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    a, b = (pd.read_csv(tmp_path / one / "bones.csv") for one in "ab")
    shifts = ["shift_mm", "shift_uncertainty_mm"]
    assert a[shifts].notna().all().all()
    assert b[shifts].isna().all().all()
    pd.testing.assert_frame_equal(a.drop(columns=shifts), b.drop(columns=shifts))
    assert pd.read_csv(tmp_path / "b" / "alignment.csv").empty
    assert "PET to CT" in (tmp_path / "a" / "report.html").read_text()


def test_report_says_that_rigid_would_help(files, cli, tmp_path):
    answer = run(cli, files, "moved", tmp_path / "a")
    assert "the PET does not lie on the CT" in answer.out
    told = json.loads((tmp_path / "a" / "summary.json").read_text())["pets"][0]["alignment"]
    assert told["worth_applying"]
    assert not told["applied"]
    whole = pd.read_csv(tmp_path / "a" / "alignment.csv").set_index("name").loc["whole"]
    assert whole["shift_mm"] > 6


def test_rigid_brings_back_what_was_there(files, cli, tmp_path):
    run(cli, files, "pet", tmp_path / "still")
    answer = run(cli, files, "moved", tmp_path / "back", "--align", "rigid")
    assert "the PET was moved onto the CT" in answer.out
    still, back = (nib.load(tmp_path / one / "suv.nii.gz") for one in ("still", "back"))
    assert np.array_equal(still.get_fdata(), back.get_fdata())  # no voxel is touched
    assert np.abs(still.affine - back.affine).max() < 0.5
    a, b = (pd.read_csv(tmp_path / one / "bones.csv").set_index("name") for one in ("still", "back"))
    assert np.nanmax(np.abs(b.suv_mean / a.suv_mean - 1)) < 0.05
    assert np.nanmedian(np.abs(b.suv_mean / a.suv_mean - 1)) < 0.005
    assert b.shift_mm.median() < 1
    told = json.loads((tmp_path / "back" / "provenance.json").read_text())
    assert told["options"]["align"] == "rigid"


def test_rigid_leaves_alone_what_lies_well(files, cli, tmp_path):
    run(cli, files, "pet", tmp_path / "report")
    run(cli, files, "pet", tmp_path / "rigid", "--align", "rigid")
    for name in ("bones.csv", "hotspots.csv", "indices.csv", "alignment.csv"):
        assert (tmp_path / "report" / name).read_bytes() == (tmp_path / "rigid" / name).read_bytes()


@pytest.mark.parametrize("command", ["run", "quantify"])
def test_other_words_are_refused(files, cli, command):
    first = files["ct"] if command == "run" else files["bones"]
    answer = cli(command, first, files["pet"], "--align", "elastic")
    assert answer.status == 2
    assert "neither report nor rigid" in answer.err


# ---- ranges


def test_ranges_are_those_of_bones_that_were_moved(patient):
    """The extremes over the unmoved and six moved bone maps, each measured as any other."""
    suv, bones = patient.pets["naf"], patient.bones
    rule = HotspotRule("all", 4.0)
    still = occupancy(bones, suv.grid)
    found = shifted_ranges(suv, bones, rule, still)
    assert list(found.columns) == list(COLUMNS)
    means, volumes = [], []
    for axis in range(3):
        for side in (-SHIFT_MM, 0.0, SHIFT_MM):
            motion = np.eye(4)
            motion[axis, 3] = side
            moved = Volume(bones.data, Grid(bones.grid.shape, motion @ bones.grid.mm_from_ijk), bones.unit)
            part = occupancy(moved, suv.grid)
            label = part.of(15)
            value = suv.data.reshape(-1)[part.voxel[label]].astype(float)
            means.append(np.average(value, weights=part.fraction[label]))
            volumes.append(part.fraction[label][value >= 4].sum() * suv.grid.voxel_ml)
    assert found.suv_mean_shift_low[15] == pytest.approx(min(means), rel=1e-9)
    assert found.suv_mean_shift_high[15] == pytest.approx(max(means), rel=1e-9)
    # Fringes count for no hotspot, so the volume is at most that of all voxels past the threshold.
    assert found.hotspot_volume_ml_shift_high[15] <= max(volumes) + 1e-9
    assert found.hotspot_volume_ml_shift_high[15] > 0.9 * max(volumes)
    assert found.loc[63:66].isna().all().all()  # no such bones
    assert np.isnan(found.hotspot_volume_ml_shift_low[57])  # the skull is not searched
    assert not np.isnan(found.suv_mean_shift_low[57])


def test_ranges_hold_the_unmoved_value_and_cost_nothing_in_a_uniform_pet(patient):
    suv = patient.pets["naf"]
    still = occupancy(patient.bones, suv.grid)
    (rule,) = [index.rule for index in published_indices() if index.name == "PET15"]
    found = shifted_ranges(
        suv.with_data(np.full(suv.grid.shape, 2.0, np.float32)), patient.bones, rule, still
    )
    seen = found.dropna()
    assert len(seen) == 49
    assert np.allclose(seen[["suv_mean_shift_low", "suv_max_shift_high"]], 2.0)
    assert (seen[["hotspot_volume_ml_shift_low", "hotspot_volume_ml_shift_high"]] == 0).all().all()


def test_alignment_is_the_same_twice(patient):
    """Bones are measured by several threads, in any order."""
    pet = patient.pets["naf"]
    still = occupancy(patient.bones, pet.grid)
    one, two = (align(pet, patient.ct, patient.bones, still) for _ in range(2))
    assert one is not None
    for label, shift in one.bones.items():
        assert np.array_equal(shift.mm, two.bones[label].mm)
        assert np.array_equal(shift.covariance, two.bones[label].covariance)
