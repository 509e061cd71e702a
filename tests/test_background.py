"""Liver and muscle of the patient as what a threshold leans on: found, read, or refused with a reason."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from conftest import affine, rotation
from petbone.background import TISSUES, NoReference, Reference, reference_regions
from petbone.hotspots import HotspotRule, absolute, against, find_hotspots
from petbone.indices import index_table, parse_indices, resolved
from petbone.io import read_ct, read_labels, write_nifti
from petbone.labels import LabelTable
from petbone.phantom import SMALL, Patient, PhantomSpec, make_patient
from petbone.phantom.activity import TISSUE_SUV
from petbone.phantom.body import TISSUES as TISSUE_LABELS
from petbone.resample import occupancy, resample
from petbone.thinned import canonical
from petbone.volume import Grid, Unit, Volume

TRUNK = replace(SMALL, fov_mm=((-240, 240), (-170, 180), (-220, 400)))
LIVER = Reference("liver", "by hand", ((70.0, 30.0, 240.0),), 14.0, 4.0, 0.5, 4.0)


@pytest.fixture(scope="module")
def patient() -> Patient:
    """Pelvis to chest, with the usual noise in CT and PET."""
    return make_patient(TRUNK)


def regions(patient, pet="choline", **other):
    images = {"suv": patient.pets[pet], "ct": patient.ct, "bones": patient.bones} | other
    return reference_regions(tuple(TISSUES), **images)


def reason(patient, tissue, **other):
    found = regions(patient, **other)[tissue]
    assert isinstance(found, NoReference)
    return found.reason


def tissue_at(patient, place_mm):
    return int(patient.tissues.data[tuple(np.rint(patient.tissues.grid.ijk(place_mm)).astype(int))])


def upper_and_lower(volume, z_mm):
    """The parts of an upright image above and below a height."""
    k = round(float(volume.grid.ijk([0.0, 0.0, z_mm])[2]))
    everything = slice(None)
    ends = (slice(k, volume.grid.shape[2]), slice(0, k))
    return tuple(volume.cropped((everything, everything, end)) for end in ends)


def mirrored(volume):
    """What a wrong sign in the affine makes of a patient."""
    view, grid, _, _ = canonical(volume)
    return Volume(view[::-1], grid, volume.unit)


def check(patient):
    for tracer in ("naf", "choline"):
        for tissue, found in regions(patient, tracer).items():
            assert isinstance(found, Reference)
            truth = TISSUE_SUV[tracer][tissue]
            assert found.mean == pytest.approx(truth, rel=0.05)
            assert found.median == pytest.approx(truth, rel=0.05)
            assert found.volume_ml >= 5
            assert {tissue_at(patient, place) for place in found.places_mm} == {TISSUE_LABELS[tissue]}
            assert found.remark() is None


def test_the_truth_of_the_phantom_is_found(patient):
    check(patient)
    liver = regions(patient)["liver"]
    assert liver.places_mm[0][0] > 45
    assert liver.volume_ml == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.15)
    muscle = regions(patient)["muscle"]
    assert [np.sign(x) for x, _, _ in muscle.places_mm] == [-1, 1]


def test_the_truth_of_a_finer_phantom_of_another_build():
    spec = PhantomSpec(
        ct_spacing_mm=(2.0, 2.0, 3.0), fov_mm=((-240, 240), (-170, 180), (-220, 360)), stature_mm=1620, seed=3
    )
    check(make_patient(spec))


def test_nothing_spills_in_from_outside(patient):
    """Without noise the region holds nothing but its own tissue, as blurred as the PET is."""
    for tracer in ("naf", "choline"):
        for tissue, found in regions(patient, suv=patient.clean[tracer]).items():
            assert found.mean == pytest.approx(TISSUE_SUV[tracer][tissue], rel=0.002)
            assert found.sd < 0.01 * found.mean


def test_mean_sd_and_median_are_those_of_the_voxels(patient):
    """SUV that grows along x by 0.001 per mm: over a sphere its mean is that at the middle."""
    grid = patient.pets["naf"].grid
    x = grid.mm(np.indices(grid.shape).reshape(3, -1).T)[:, 0].reshape(grid.shape)
    found = regions(patient, suv=Volume((1 + x / 1000).astype(np.float32), grid, Unit.SUV))["liver"]
    place = np.array(found.places_mm[0])
    away = np.linalg.norm(grid.mm(np.indices(grid.shape).reshape(3, -1).T) - place, axis=1)
    values = 1 + x.reshape(-1)[away <= 15] / 1000
    assert found.volume_ml == pytest.approx(len(values) * grid.voxel_ml)
    assert found.mean == pytest.approx(values.mean(), rel=1e-6)
    assert found.sd == pytest.approx(values.std(), rel=1e-4)
    assert found.median == pytest.approx(np.median(values), rel=1e-6)
    assert found.mean == pytest.approx(1 + place[0] / 1000, abs=0.002)


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SAL"])
def test_the_order_of_the_axes_makes_no_difference(patient, orientation):
    turned = make_patient(replace(TRUNK, orientation=orientation))
    for tissue, found in regions(turned).items():
        usual = regions(patient)[tissue]
        assert found.mean == pytest.approx(usual.mean, rel=0.02)
        # The blocks of the thinned CT begin at the other side.
        np.testing.assert_allclose(found.places_mm, usual.places_mm, atol=12)


@pytest.mark.parametrize("which", ["ct", "pet", "both"])
def test_oblique_grids_give_the_same_place(patient, which):
    def oblique(volume, step):
        grid = Grid(
            (480 // step, 400 // step, 680 // step),
            affine(rotation(17.0), (step, step, step), (-325.0, -190.0, -150.0)),
        )
        return resample(volume, grid)

    images = {}
    if which != "pet":
        images |= {"ct": oblique(patient.ct, 4), "bones": oblique(patient.bones, 4)}
    if which != "ct":
        images |= {"suv": oblique(patient.pets["choline"], 5)}
    for tissue, found in regions(patient, **images).items():
        usual = regions(patient)[tissue]
        assert isinstance(found, Reference), found
        assert found.mean == pytest.approx(usual.mean, rel=0.02)
        np.testing.assert_allclose(found.places_mm, usual.places_mm, atol=15)


def test_a_bone_map_on_another_grid_serves(patient):
    coarse = Grid((96, 70, 124), affine(np.eye(3), (5.0, 5.0, 5.0), (-237.5, -167.5, -217.5)))
    for tissue, found in regions(patient, bones=resample(patient.bones, coarse)).items():
        np.testing.assert_allclose(found.places_mm, regions(patient)[tissue].places_mm, atol=8)


def test_a_mirrored_patient_has_no_liver_on_the_right(patient):
    said = reason(patient, "liver", ct=mirrored(patient.ct), bones=mirrored(patient.bones))
    assert "left and right may be swapped" in said


def test_what_is_not_in_the_field_has_a_reason(patient):
    above, below = upper_and_lower(patient.ct, 80), upper_and_lower(patient.bones, 80)
    chest, pelvis = (dict(zip(("ct", "bones"), part, strict=True)) for part in zip(above, below, strict=True))
    assert "no vertebra of T8 to L2" in reason(patient, "liver", **pelvis)
    assert isinstance(regions(patient, **pelvis)["muscle"], Reference)
    muscle = regions(patient, **chest)["muscle"]
    assert muscle.site.startswith("muscle of the back")  # of L3 and L4 there is a part
    assert muscle.mean == pytest.approx(0.7, rel=0.05)
    high = {name: upper_and_lower(volume, 300)[0] for name, volume in chest.items()}
    assert "its bones are not in the bone map" in reason(patient, "muscle", **high)
    assert "solid tissue" in reason(patient, "liver", **high)


def test_what_the_pet_does_not_hold_has_a_reason(patient):
    pet = patient.pets["choline"]
    assert "outside the PET" in reason(patient, "liver", suv=upper_and_lower(pet, 200)[1])
    assert "the PET holds 0.0 mL of it" in reason(patient, "muscle", suv=upper_and_lower(pet, 300)[0])
    assert "no CT" in reason(patient, "liver", ct=None)
    assert "no CT" in reason(patient, "muscle", ct=None)


def test_a_body_of_fat_has_neither(patient):
    fat = patient.ct.with_data(np.where(patient.bones.data > 0, 300, -90).astype(np.int16))
    assert "fatty" in reason(patient, "liver", ct=fat)
    assert reason(patient, "muscle", ct=fat).count("less than 5 mL lie 10 mm from bone") == 2


def test_an_uptake_that_cannot_be_leaned_on_has_a_reason(patient):
    pet = patient.pets["choline"]
    nothing = pet.with_data(np.zeros_like(pet.data))
    assert "takes up nothing" in reason(patient, "liver", suv=nothing)
    assert "takes up nothing" in reason(patient, "muscle", suv=nothing)
    # Every other voxel has 2, the rest none.
    board = pet.with_data((np.indices(pet.grid.shape).sum(axis=0) % 2 * 2).astype(np.float32))
    assert "not homogeneous" in reason(patient, "liver", suv=board)
    assert "not homogeneous" in reason(patient, "muscle", suv=board)
    x = pet.grid.mm(np.indices(pet.grid.shape).reshape(3, -1).T)[:, 0].reshape(pet.grid.shape)
    lopsided = pet.with_data(np.where(x > 0, 1.5, 1.0).astype(np.float32))
    assert "left and right differ (median SUV 1 and 1.5)" in reason(patient, "muscle", suv=lopsided)


def test_muscle_of_one_side_is_not_enough(patient):
    """A field that holds one buttock may hold nothing but a tumour of it."""
    grid = patient.pets["choline"].grid
    half = slice(round(float(grid.ijk([20.0, 0, 0])[0])), grid.shape[0])
    said = reason(patient, "muscle", suv=patient.pets["choline"].cropped((half, slice(None), slice(None))))
    assert said.count("it can be read on one side only (left 0.0 mL, right ") == 2


def test_only_what_is_asked_for_is_looked_for(patient):
    assert reference_regions((), patient.pets["naf"], None, patient.bones) == {}
    found = reference_regions(("muscle",), patient.pets["naf"], patient.ct, patient.bones)
    assert list(found) == ["muscle"]


def test_reference_regions_are_refused_in_other_units(patient):
    pet = patient.pets["naf"]
    with pytest.raises(ValueError, match="Bq/mL"):
        regions(patient, suv=pet.with_data(pet.data, Unit.BQ_PER_ML))


def test_a_median_away_from_the_mean_is_told():
    assert replace(LIVER, median=3.61).remark() is None
    said = replace(LIVER, median=3.5).remark()
    assert "the liver (3.5) lies -12 %" in said
    assert "(70, 30, 240) mm" in said


def test_the_threshold_is_arithmetic():
    rule = HotspotRule("percist", 1.5, relative_to="liver", sd_multiple=2.0, operator=">")
    found = against(rule, LIVER)
    assert found.threshold == 1.5 * 4 + 2 * 0.5
    assert found == replace(rule, threshold=7.0, relative_to="", sd_multiple=0.0)
    assert against(replace(rule, sd_multiple=0.0), LIVER).threshold == 6.0
    with pytest.raises(ValueError, match="relative to liver, not to muscle"):
        against(rule, replace(LIVER, tissue="muscle"))
    with pytest.raises(ValueError, match="relative to nothing"):
        against(found, LIVER)


def test_a_rule_that_leans_on_nothing_yet_finds_nothing(hand_made):
    occupied = occupancy(hand_made.bones, hand_made.pet.grid)
    rule = HotspotRule("x", 1.5, relative_to="liver")
    for call in (absolute, lambda *words: find_hotspots(*words[1:], words[0])):
        with pytest.raises(ValueError, match="liver must be read"):
            call(rule, hand_made.pet, occupied)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sd_multiple": 2.0}, "needs relative_to liver or muscle"),
        ({"sd_multiple": 2.0, "relative_to": "bone"}, "needs relative_to liver or muscle"),
        ({"sd_multiple": -1.0, "relative_to": "liver"}, "must not be negative"),
        ({"sd_multiple": float("nan"), "relative_to": "liver"}, "must not be negative"),
        ({"threshold": 0.0, "sd_multiple": 2.0, "relative_to": "muscle"}, "multiple above 0"),
        ({"relative_to": "spleen"}, "bone, liver, muscle or empty"),
    ],
)
def test_a_rule_refuses_nonsense(fields, said):
    with pytest.raises(ValueError, match=said):
        HotspotRule("x", **({"threshold": 1.5} | fields))


RULES = """
[[index]]
name = "over_liver"
statistic = "volume_ml"
unit = "mL"
threshold = 2.0
sd_multiple = 4
relative_to = "liver"
operator = ">"
note = "Ours."
[[index]]
name = "over_muscle"
statistic = "volume_ml"
unit = "mL"
threshold = 3.0
relative_to = "muscle"
[[index]]
name = "plain"
statistic = "volume_ml"
unit = "mL"
threshold = 10.0
"""


def test_indices_that_lean_and_one_that_cannot(hand_made):
    occupied = occupancy(hand_made.bones, hand_made.pet.grid)
    references = {"liver": LIVER, "muscle": NoReference("muscle", "there is no CT to find it in")}
    indices = resolved(parse_indices(RULES, "x"), references)
    table = index_table(indices, hand_made.pet, occupied, {}, "naf").set_index("index")
    assert table.threshold["over_liver"] == 2 * 4 + 4 * 0.5
    assert table.value["over_liver"] == pytest.approx(150 * hand_made.voxel_ml)
    assert table.note["over_liver"] == (
        "The threshold is 2 x the mean SUV of the liver (4) + 4 x its SD (0.5). Ours."
    )
    row = table.loc["over_muscle"]
    assert row.note == "No value: no reference region in muscle: there is no CT to find it in."
    assert row[["value", "numerator_ml", "threshold", "operator", "whole_estimate"]].isna().all()
    assert table.value["plain"] == pytest.approx(150 * hand_made.voxel_ml)


def test_a_run_leans_on_the_liver_or_is_refused(patient, cli, tmp_path):
    files = {"ct": patient.ct, "bones": patient.bones, "pet": patient.pets["choline"]}
    files |= {f"low_{name}": upper_and_lower(files[name], 80)[1] for name in ("ct", "bones")}
    for name, volume in files.items():
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    path = {name: tmp_path / f"{name}.nii.gz" for name in files}
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES.replace("threshold = 2.0", "threshold = 0.5"))
    told = ["--units", "suv", "--tracer", "choline", "--rule", rules]

    out = tmp_path / "a"
    whole = ("run", path["ct"], path["pet"], "--bones", path["bones"], *told)
    answer = cli(*whole, "--index", "over_liver", "-o", out)
    assert answer.status == 0, answer.err
    (pet,) = json.loads((out / "summary.json").read_text())["pets"]
    region = pet["rule"]["reference_region"]
    assert region["mean"] == pytest.approx(9.0, rel=0.05)
    assert pet["rule"]["threshold"] == 0.5 * region["mean"] + 4 * region["sd"]
    assert (pet["rule"]["multiple_of_mean"], pet["rule"]["multiple_of_sd"]) == (0.5, 4)
    table = pd.read_csv(out / "indices.csv").set_index("index")
    assert table.threshold["over_liver"] == pytest.approx(pet["rule"]["threshold"], rel=1e-5)
    assert table.value["over_liver"] > 0
    assert table.threshold["over_muscle"] == pytest.approx(3 * 0.7, rel=0.05)
    kept = json.loads((out / "provenance.json").read_text())["reference_regions"]["choline"]
    assert kept["liver"] == region
    assert kept["muscle"]["site"] == "gluteal muscle"
    page = (out / "report.html").read_text()
    assert "sphere of 30 mm in the right lobe of the liver" in page
    assert f"{pet['rule']['threshold']:.4g}" in page

    low = ("run", path["low_ct"], path["pet"], "--bones", path["low_bones"], *told)
    answer = cli(*low, "--index", "over_liver", "-o", tmp_path / "b")
    assert answer.status == 3
    assert answer.err.count("\n") == 1
    assert "over_liver cannot be measured in the choline PET: no reference region in the liver" in answer.err
    assert not (tmp_path / "b").exists()
    answer = cli(*low, "--index", "over_muscle", "-o", tmp_path / "c")
    assert answer.status == 0, answer.err
    table = pd.read_csv(tmp_path / "c" / "indices.csv").set_index("index")
    assert pd.isna(table.value["over_liver"])
    assert table.note["over_liver"].startswith("No value: no reference region in the liver: the bone map")

    told += ["--index", "over_muscle", "-o", tmp_path / "d"]
    answer = cli("quantify", path["bones"], path["pet"], *told)
    assert answer.status == 3
    assert "give a CT, too (petbone run CT PET --bones MASK)" in answer.err


def test_a_run_tells_of_a_diseased_liver(patient, cli, tmp_path):
    """Less than half of the sphere is a third hotter: the mean moves, the median does not."""
    pet = patient.clean["choline"]
    centres = pet.grid.mm(np.indices(pet.grid.shape).reshape(3, -1).T)
    (place,) = regions(patient, suv=pet)["liver"].places_mm
    sphere = np.flatnonzero(np.linalg.norm(centres - place, axis=1) <= 15)
    hot = sphere[np.argsort(centres[sphere, 0], kind="stable")[: int(0.45 * len(sphere))]]
    data = pet.data.copy()
    data.reshape(-1)[hot] *= 1.35
    for name, volume in {"ct": patient.ct, "bones": patient.bones, "pet": pet.with_data(data)}.items():
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    (tmp_path / "rules.toml").write_text(RULES)
    ct, bones, image = (tmp_path / f"{name}.nii.gz" for name in ("ct", "bones", "pet"))
    told = [
        "--units",
        "suv",
        "--tracer",
        "choline",
        "--rule",
        tmp_path / "rules.toml",
        "-o",
        tmp_path / "out",
    ]
    answer = cli("run", ct, image, "--bones", bones, *told, "--index", "over_muscle")
    assert answer.status == 0, answer.err
    (said,) = (
        w for w in json.loads((tmp_path / "out/summary.json").read_text())["warnings"] if "median" in w
    )
    assert said.startswith("the median SUV of the liver (9) lies -13 % from the mean")


def test_a_run_without_such_a_rule_looks_for_nothing(hand_made, cli, tmp_path):
    for name, volume in (("b", hand_made.bones), ("p", hand_made.pet)):
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    out = tmp_path / "out"
    files = (tmp_path / "b.nii.gz", tmp_path / "p.nii.gz")
    answer = cli("quantify", *files, "--units", "suv", "--tracer", "naf", "-o", out)
    assert answer.status == 0, answer.err
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["reference_regions"] == {}
    assert "reference regions" not in {step["name"] for step in provenance["steps"]}


def test_a_real_chest(shared):
    """All of the sphere is what TotalSegmentator calls liver."""
    ct = read_ct(shared / "scans/lidc_0001/ct.nii.gz").volume
    mask = read_labels(shared / "scans/lidc_0001/totalsegmentator_labels.nii.gz").volume
    bones = LabelTable.load("totalsegmentator").apply(mask)
    low, high = ct.grid.corners_mm().min(axis=0), ct.grid.corners_mm().max(axis=0)
    shape = tuple(np.floor((high - low) / 4).astype(int))
    grid = Grid(shape, affine(np.eye(3), (4.0, 4.0, 4.0), tuple(low + 2)))
    suv = Volume(np.full(shape, 2, np.float32), grid, Unit.SUV)
    organs = resample(mask, grid).data
    (place,) = reference_regions(("liver",), suv, ct, bones)["liver"].places_mm
    centres = grid.mm(np.indices(shape).reshape(3, -1).T)
    sphere = np.linalg.norm(centres - place, axis=1) <= 15
    assert (organs.reshape(-1)[sphere] == 5).mean() > 0.97
    swapped = reference_regions(("liver",), suv, mirrored(ct), mirrored(bones))["liver"]
    assert isinstance(swapped, NoReference)
