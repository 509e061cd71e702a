"""The phantom: anatomy in order, truth that is true, activity that is conserved."""

from __future__ import annotations

import json
from dataclasses import replace
from math import erf, exp, pi, sqrt

import cc3d
import numpy as np
import pytest

from petbone.anatomy import BONES, BY_NAME, SKELETON_49
from petbone.errors import InputError
from petbone.indices import index_table, published_indices
from petbone.phantom import (
    SMALL,
    Hotspot,
    Patient,
    PhantomSpec,
    Shape,
    anatomy,
    make_patient,
    psf_matrix,
    spec_of_size,
)
from petbone.phantom.activity import image
from petbone.phantom.patient import grid_axes, oriented
from petbone.resample import occupancy
from petbone.volume import Unit

QUIET = replace(SMALL, noise=0.0)
BELLY = replace(SMALL, fov_mm=((-240.0, 240.0), (-170.0, 180.0), (0.0, 240.0)))


@pytest.fixture(scope="module")
def patient() -> Patient:
    return make_patient(SMALL)


@pytest.fixture(scope="module")
def centres(patient: Patient) -> dict[str, np.ndarray]:
    return _centres(patient.bones.data, patient.bones.grid)


def _centres(labels, grid):
    found = {}
    i, j, k = np.nonzero(labels)
    label = labels[i, j, k]
    counts = np.maximum(np.bincount(label, minlength=67), 1)
    sums = [np.bincount(label, axis, minlength=67) / counts for axis in (i, j, k)]
    mm = grid.mm(np.stack(sums, axis=-1))
    for bone in BONES:
        found[bone.name] = mm[bone.id]
    return found


def _pieces(labels) -> dict[str, int]:
    found = {}
    for bone in BONES:
        mask = np.ascontiguousarray(labels == bone.id)
        found[bone.name] = int(cc3d.connected_components(mask, connectivity=26, return_N=True)[1])
    return found


def test_all_62_bones_are_there_each_in_one_piece(patient: Patient) -> None:
    assert set(_pieces(patient.bones.data).values()) == {1}
    assert patient.bones.data.max() == 62


@pytest.mark.parametrize(
    "shape",
    [
        Shape(kyphosis=0.7, lordosis=0.6, arms_up=False),
        Shape(kyphosis=1.35, lordosis=1.3, scoliosis_deg=6),
    ],
)
def test_bent_skeletons_stay_whole_and_in_order(shape: Shape) -> None:
    bent = anatomy(replace(SMALL, shape=shape))
    assert set(_pieces(bent.bones).values()) == {1}
    grid = oriented(bent.bones, bent.axes, Unit.LABEL, "RAS").grid
    _assert_order(_centres(bent.bones, grid))


def _assert_order(centres) -> None:
    spine = [f"C{n}" for n in range(1, 8)] + [f"T{n}" for n in range(1, 13)] + [f"L{n}" for n in range(1, 6)]
    heights = [centres[name][2] for name in [*spine, "sacrum"]]
    assert np.all(np.diff(heights) < -10), "vertebrae from the head down, 1 cm apart at least"
    for side in ("left", "right"):
        ribs = [centres[f"rib_{side}_{n}"][2] for n in range(1, 13)]
        assert np.all(np.diff(ribs) < -12)
    assert centres["skull"][2] > centres["mandible"][2] > centres["C7"][2]
    assert centres["sternum"][1] > centres["T6"][1] + 50, "the breastbone is in front"
    assert centres["scapula_left"][1] < centres["sternum"][1] - 50


def test_order_along_the_body(centres) -> None:
    _assert_order(centres)


def test_left_is_at_negative_x(centres) -> None:
    for bone in BONES:
        x = centres[bone.name][0]
        if bone.side:
            assert (x < -10) if bone.side == "left" else (x > 10), bone.name
        else:
            assert abs(x) < 2, bone.name


def test_left_and_right_are_mirror_images(patient: Patient) -> None:
    swap = np.arange(67)
    for bone in BONES:
        if bone.side == "left":
            other = BY_NAME[bone.name.replace("left", "right")].id
            swap[bone.id], swap[other] = other, bone.id
    data = patient.bones.data
    mirrored = swap[data[::-1]]
    assert np.mean(mirrored[data > 0] == data[data > 0]) > 0.995


# Bone volumes (mL): medians of Lindgren Belal et al. 2019 for the first five, usual anatomy for the others.
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("T7", 27, 45),
        ("L3", 56, 94),
        ("sacrum", 212, 354),
        ("rib_right_7", 23, 39),
        ("sternum", 54, 90),
        ("hip_left", 280, 480),
        ("clavicle_left", 20, 45),
        ("scapula_right", 60, 130),
        ("C4", 7, 16),
        ("skull", 400, 900),
        ("mandible", 45, 100),
        ("rib_left_1", 5, 16),
        ("rib_left_12", 4, 14),
    ],
)
def test_volumes_are_those_of_people(patient: Patient, name: str, low: float, high: float) -> None:
    bone = patient.truth["bones"][name]
    assert bone["status"] == "complete"
    assert bone["seen_fraction"] == 1
    assert low < bone["volume_ml"] < high


def test_cut_bones_are_told(patient: Patient) -> None:
    bones = patient.truth["bones"]
    assert {n for n, b in bones.items() if b["status"] == "cut"} >= {"femur_left", "femur_right"}
    assert 400 < bones["femur_left"]["whole_volume_ml"] < 625
    assert 0.3 < bones["femur_left"]["seen_fraction"] < 0.8
    legs = anatomy(replace(SMALL, fov_mm=((-240, 240), (-170, 180), (-350, -230))))
    assert set(np.unique(legs.bones)) <= {0, 61, 62}


def test_absent_bones_have_no_volume() -> None:
    bones = make_patient(replace(BELLY, tracers=("choline",))).truth["bones"]
    assert bones["skull"] == {
        "id": 57,
        "status": "absent",
        "volume_ml": 0.0,
        "whole_volume_ml": None,
        "seen_fraction": 0.0,
    }


def test_truth_counts_the_label_map(patient: Patient) -> None:
    counts = np.bincount(patient.bones.data.ravel(), minlength=67) * patient.bones.grid.voxel_ml
    for name, bone in patient.truth["bones"].items():
        assert bone["volume_ml"] == pytest.approx(counts[BY_NAME[name].id])
    json.dumps(patient.truth)


def test_bone_is_bright_and_the_rest_is_not(patient: Patient) -> None:
    hu, bones, soft = patient.ct.data, patient.bones.data, patient.tissues.data
    assert hu.dtype == np.int16
    assert bones.dtype == soft.dtype == np.uint8
    medians = [np.median(hu[bones == label]) for label in SKELETON_49]
    assert min(medians) > 120
    assert np.median(hu[soft == 3]) == pytest.approx(-820, abs=30)
    assert np.median(hu[soft == 2]) == pytest.approx(55, abs=10)
    assert hu[soft == 0].max() < 700  # partial volume with teeth and nose only


def test_same_seed_same_patient_other_seed_other_noise() -> None:
    patient, again = make_patient(BELLY), make_patient(replace(BELLY, tracers=("naf",)))
    assert np.array_equal(again.ct.data, patient.ct.data)
    assert np.array_equal(again.pets["naf"].data, patient.pets["naf"].data)
    other = make_patient(replace(BELLY, seed=1))
    assert np.array_equal(other.bones.data, patient.bones.data)
    assert np.std(other.ct.data.astype(float) - patient.ct.data) > 5


def test_hotspots_are_what_they_are_said_to_be(patient: Patient) -> None:
    spots = patient.truth["hotspots"]
    naf = [s["expected_suv_max"] for s in spots if s["tracer"] == "naf"]
    assert sum(value > 15 for value in naf) >= 5
    assert sum(10 < value < 15 for value in naf) >= 2
    assert len({s["bone"] for s in spots if s["tracer"] == "choline"}) >= 5
    for spot in spots:
        sphere_ml = 4 / 3 * pi * spot["radius_mm"] ** 3 / 1000
        assert 0.2 * sphere_ml < spot["volume_ml"] < 1.02 * sphere_ml
        assert spot["expected_suv_max"] < spot["true_suv"] * 1.01
        at = np.rint(patient.bones.grid.ijk(spot["centre_mm"])).astype(int)
        assert patient.bones.data[tuple(at)] == spot["bone_id"]


def test_naf_and_choline_differ_as_in_patients(patient: Patient) -> None:
    pet = {tracer: patient.clean[tracer] for tracer in ("naf", "choline")}
    at = np.rint(pet["naf"].grid.ijk([78.0, 36.0, 234.0])).astype(int)  # liver
    assert pet["choline"].data[tuple(at)] > 7 > 1.5 > pet["naf"].data[tuple(at)]
    bones = occupancy(patient.bones, pet["naf"].grid)
    voxel, fraction = bones.total((16,))  # L4 has no hotspot
    full = voxel[fraction > 0.9]
    assert 4 < pet["naf"].data.ravel()[full].mean() < 6
    assert 0.8 < pet["choline"].data.ravel()[full].mean() < 1.6


def test_blur_conserves_activity() -> None:
    rng = np.random.default_rng(3)
    activity = np.zeros((30, 32, 28), np.float32)
    activity[10:20, 12:20, 9:18] = rng.uniform(1, 9, (10, 8, 9))
    for step, fwhm in ((4.0, 5.0), (3.3, 0.0), (7.0, 8.0)):
        ct = 2.0 * np.arange(32) + 0.3
        pet = step * np.arange(int(64 / step) + 8) - 3 * step
        matrices = [psf_matrix(pet, step, ct[:n], 2.0, fwhm) for n in activity.shape]
        blurred = image(activity, matrices)
        assert blurred.sum() * step**3 == pytest.approx(activity.sum() * 8.0, rel=1e-4)


@pytest.mark.parametrize(("diameter", "fwhm"), [(10, 5), (13, 6), (17, 8), (22, 10)])
def test_recovery_in_the_middle_of_a_blurred_sphere(diameter: float, fwhm: float) -> None:
    # RC = erf(x) - 2x / sqrt(pi) exp(-x^2), x = r / (sqrt(2) sigma): closed form for a uniform sphere.
    fine = 0.5 * (np.arange(-60, 60) + 0.5)
    share = np.zeros((120, 120, 120), np.float32)
    r2 = (diameter / 2) ** 2
    for dx, dy, dz in np.ndindex(2, 2, 2):
        x, y, z = ((fine + 0.25 * (d - 0.5)) ** 2 for d in (dx, dy, dz))
        share += (x[:, None, None] + y[None, :, None] + z[None, None, :] < r2) / 8
    pet = np.arange(-20.0, 21.0)
    blurred = image(share, [psf_matrix(pet, 1.0, fine, 0.5, fwhm)] * 3)
    x = diameter / 2 / (sqrt(2) * fwhm / 2.354820045)
    expected = erf(x) - 2 * x / sqrt(pi) * exp(-x * x)
    assert blurred.max() == blurred[20, 20, 20]
    assert blurred[20, 20, 20] == pytest.approx(expected, abs=0.01)


def test_known_shift_moves_the_pet_and_nothing_else() -> None:
    spec = replace(BELLY, tracers=("naf",), noise=0.0)
    still, moved = make_patient(spec), make_patient(replace(spec, shift_mm=(6.0, -12.0, 6.0)))
    assert np.array_equal(still.ct.data, moved.ct.data)
    assert moved.truth["shift_mm"] == [6.0, -12.0, 6.0]
    # The shift is whole voxels: the image moves one to the right, two back and one up.
    before, after = still.clean["naf"].data, moved.clean["naf"].data
    np.testing.assert_allclose(after[1:, :-2, 1:], before[:-1, 2:, :-1], atol=1e-4)


@pytest.mark.parametrize(
    "spec", [replace(QUIET, orientation="LPS"), replace(SMALL, shift_mm=(2.0, -3.0, 4.0))]
)
def test_what_is_measured_is_what_is_expected(spec: PhantomSpec) -> None:
    patient = make_patient(spec)
    bones = occupancy(patient.bones, patient.pets["naf"].grid)
    seen = dict.fromkeys(range(1, 63), 1.0)
    for tracer, suv in patient.pets.items():
        table = index_table(published_indices(), suv, bones, seen, tracer).set_index("index")
        expected = dict(patient.truth["indices"][tracer])
        whole_ml = expected.pop("skeleton_49_ml")
        assert table.loc["PET15", "denominator_ml"] == pytest.approx(whole_ml["value"], rel=1e-6)
        assert len(expected) >= 3
        for name, truth in expected.items():
            rel = truth["relative_tolerance"]
            assert table.loc[name, "value"] == pytest.approx(truth["value"], rel=rel), name


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_orientation_changes_the_array_and_not_the_place(orientation: str) -> None:
    axes = grid_axes(((-9, 9), (-10, 14), (0, 40)), (2.0, 3.0, 4.0), None)
    data = np.random.default_rng(0).integers(0, 9, axes.shape).astype(np.uint8)
    turned = oriented(data, axes, Unit.LABEL, orientation)
    place = [axes.x[2], axes.y[5], axes.z[1]]
    assert turned.data[tuple(np.rint(turned.grid.ijk(place)).astype(int))] == data[2, 5, 1]
    directions = turned.grid.mm_from_ijk[:3, :3] / turned.grid.spacing_mm
    named = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    for column, letter in enumerate(orientation):
        axis, sign = named[letter]
        assert directions[axis, column] == sign


def test_stature_and_width_scale_the_bones() -> None:
    lumbar = [BY_NAME[f"L{n}"].id for n in range(1, 5)]
    usual = np.isin(anatomy(BELLY).bones, lumbar).sum()
    big = np.isin(anatomy(replace(BELLY, stature_mm=1925.0, width=0.95)).bones, lumbar).sum()
    assert big / usual == pytest.approx(1.1**3 * 0.95**2, rel=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tracers": ("fdg",)}, "tracer 'fdg'"),
        ({"orientation": "RLS"}, "orientation 'RLS'"),
        ({"orientation": "RA"}, "orientation 'RA'"),
        ({"ct_spacing_mm": (1.0, 0.0, 1.0)}, "spacing"),
        ({"hotspots": (Hotspot("patella", 10, {"naf": 20}),)}, "hotspot in 'patella'"),
    ],
)
def test_refusals(change, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_patient(replace(SMALL, **change))


def test_sizes_by_name() -> None:
    assert spec_of_size("small", 4) == replace(SMALL, seed=4)
    large = spec_of_size("large")
    assert (large.ct_shape, large.pet_shape) == ((512, 512, 458), (200, 200, 330))
    with pytest.raises(InputError, match="size 'huge'"):
        spec_of_size("huge")
