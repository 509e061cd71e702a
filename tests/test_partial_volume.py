"""Means without the blur: the recipe of PETPVC, closed forms, a rib, and what must hold of any image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.special import erf

from petbone.anatomy import BONES
from petbone.hotspots import HotspotRule, find_hotspots
from petbone.partial_volume import (
    FWHM_PER_SD,
    Regions,
    corrected_means,
    least_hotspot_ml,
    means_of_bones,
    regions_of,
)
from petbone.phantom import HOTSPOTS, SMALL, anatomy, make_patient
from petbone.phantom.activity import BONE_SUV
from petbone.phantom.patient import _rng
from petbone.resample import Occupancy, occupancy
from petbone.volume import Grid, Unit, Volume

Array = npt.NDArray[np.float64]
RIB, HOT_SUV, REST_SUV = 21, 20.0, 4.0
FOCUS = HotspotRule("42 %", 5.0, method="fraction_of_max", fraction=0.42)


def blurred(truth: Array, fwhm_mm: object, spacing_mm: object) -> Array:
    sd = np.asarray(fwhm_mm) / FWHM_PER_SD / np.asarray(spacing_mm)
    return np.asarray(ndimage.gaussian_filter(truth, sd, mode="nearest", truncate=6))


def petpvc() -> tuple[Array, Array]:
    """(label, truth) of the recipe: a sphere and two capsules of radius 20 mm, with 2, 3 and 4."""
    shape, spacing = (50, 40, 60), np.array([2, 2.5, 5.0])
    x, y, z = np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    label = np.zeros(shape)
    for number, (middle_y, low, high) in enumerate(((25, 150, 150), (70, 60, 100), (70, 190, 230)), start=1):
        at = np.clip(z, low, high)
        label[(x - 50) ** 2 + (y - middle_y) ** 2 + (z - at) ** 2 <= 400] = number
    return label, np.array([0.0, 2, 3, 4])[label.astype(int)]


def regions_by_label(label: Array) -> Regions:
    voxel = np.flatnonzero(label)
    return Regions(4, label.reshape(-1)[voxel].astype(int), voxel, np.ones(voxel.size))


def test_recipe_of_petpvc(shared: Path) -> None:
    """With the right PSF the means come back; with a wrong one they stay within the limits of upstream."""
    expected = json.loads((shared / "oracles/UCL__PETPVC/expected.json").read_text())
    recipe, limits = expected["recipe"], expected["upstream_thresholds_max_abs_diff_vs_original"]
    label, truth = petpvc()
    assert list(label.shape) == recipe["grid"]
    grid = Grid(label.shape, np.diag([*recipe["spacing_mm"], 1.0]))
    image = blurred(truth, recipe["simulate_fwhm_mm"], recipe["spacing_mm"])
    uncorrected = [image[label == n].mean() for n in (1, 2, 3)]
    assert uncorrected == pytest.approx(expected["reproduced_here"]["region_means_uncorrected"][1:], abs=0.06)
    suv = Volume(image.astype(np.float32), grid, Unit.SUV)
    for how, fwhm in recipe["correct_fwhm_mm"].items():
        means = corrected_means(suv, regions_by_label(label), tuple(fwhm), voxels_average=False)[1:]
        off = np.abs(means - [2, 3, 4]).max()
        assert off <= limits["iterative_yang"][how], how
    fwhm = tuple(recipe["simulate_fwhm_mm"])
    matched = corrected_means(suv, regions_by_label(label), fwhm, voxels_average=False)[1:]
    assert matched == pytest.approx([2, 3, 4], abs=1e-3)


@pytest.mark.parametrize(("diameter_mm", "recovery"), [(10, 0.7220), (17, 0.9890), (28, 0.9999)])
def test_blur_is_that_of_the_closed_form(diameter_mm: float, recovery: float) -> None:
    """Centre recovery of a uniform sphere at 6 mm FWHM (design's table): erf(x) - 2x/sqrt(pi) exp(-x^2)."""
    x = diameter_mm / 2 / (np.sqrt(2) * 6 / FWHM_PER_SD)
    assert erf(x) - 2 * x / np.sqrt(np.pi) * np.exp(-(x**2)) == pytest.approx(recovery, abs=1e-4)
    away = np.linalg.norm(np.indices((61, 61, 61)) - 30.0, axis=0)
    sphere = np.clip(diameter_mm / 2 - away + 0.5, 0, 1)
    image = blurred(sphere, 6, 1)
    assert image[30, 30, 30] == pytest.approx(recovery, abs=0.01)
    voxel = np.flatnonzero(sphere)
    region = Regions(1, np.zeros(voxel.size, int), voxel, sphere.reshape(-1)[voxel])
    suv = Volume(image.astype(np.float32), Grid(image.shape, np.eye(4)), Unit.SUV)
    assert corrected_means(suv, region, 6.0, voxels_average=False) == pytest.approx([1.0], abs=0.01)


def rib(fwhm_mm: float, pet_mm: int, noise: float = 0.0) -> tuple[Volume, Occupancy]:
    """PET of an arc of 8 x 14 mm between lung and muscle, a focus of 28 mm in it, something hot beside it."""
    shape = (160, 120, 120)
    x, y, z = np.meshgrid(*[np.arange(n) + 0.5 for n in shape], indexing="ij")
    radius = np.hypot(x - 80, y + 20)
    bone = ((radius - 90) / 4) ** 2 + ((z - 60) / 7) ** 2 <= 1
    truth = np.where(radius > 90, 1.5, 0.4)
    truth[(x - 30) ** 2 + (y - 95) ** 2 + (z - 60) ** 2 <= 225] = 12
    truth[bone] = REST_SUV
    truth[bone & (np.abs(np.arctan2(x - 80, y + 20) * 90) < 14)] = HOT_SUV
    image = blurred(truth, fwhm_mm, 1)
    n = [size // pet_mm for size in shape]
    pet = image.reshape(n[0], pet_mm, n[1], pet_mm, n[2], pet_mm).mean((1, 3, 5))
    pet += noise * np.random.default_rng(0).normal(size=pet.shape) * np.sqrt(pet)
    matrix = np.diag([pet_mm, pet_mm, pet_mm, 1.0])
    matrix[:3, 3] = pet_mm / 2
    fine = np.eye(4)
    fine[:3, 3] = 0.5
    labels = Volume(bone.astype(np.uint8) * RIB, Grid(shape, fine), Unit.LABEL)
    grid = Grid(pet.shape, matrix)
    return Volume(pet.astype(np.float32), grid, Unit.SUV), occupancy(labels, grid)


@pytest.mark.parametrize(("noise", "within"), [(0.0, 0.05), (0.1, 0.12)])
@pytest.mark.parametrize("pet_mm", [2, 4])
def test_focus_in_a_rib(pet_mm: int, noise: float, within: float) -> None:
    """At 6 mm FWHM the mean of the focus is within 5 % of the truth, where without it is 40 % low.

    Within 12 % where noise (3 % at the focus) lifts its maximum and with it the contour.

    Delineated at 42 % of its maximum, which gives about its true volume: a contour further in leaves its rim
    to the bone and makes it too hot (11 % where the contour is at 50 %, on voxels of 4 mm).
    """
    suv, bones = rib(6.0, pet_mm, noise)
    rule = FOCUS
    hotspots = find_hotspots(suv, bones, rule)
    regions = regions_of(bones, hotspots, rule.bones)
    means = corrected_means(suv, regions, 6.0)
    entries = regions.region == 256
    shown = np.average(suv.data.reshape(-1)[regions.voxel[entries]], weights=regions.fraction[entries])
    assert shown < 0.65 * HOT_SUV
    assert means[256] == pytest.approx(HOT_SUV, rel=within)
    assert means[RIB] == pytest.approx(REST_SUV, rel=0.1)
    whole = means_of_bones(bones, regions, means)[RIB]
    sizes = regions.sizes
    assert whole == pytest.approx(
        (means[256] * sizes[256] + means[RIB] * sizes[RIB]) / (sizes[256] + sizes[RIB]), rel=1e-9
    )


def test_linear_in_uptake_and_blind_to_the_order_of_axes() -> None:
    suv, bones = rib(6.0, 4)
    rule = HotspotRule("8", 8.0)
    hotspots = find_hotspots(suv, bones, rule)
    regions = regions_of(bones, hotspots, rule.bones)
    means = corrected_means(suv, regions, 6.0)
    double = corrected_means(suv.with_data(suv.data * 2), regions, 6.0)
    assert double[[RIB, 256]] == pytest.approx(2 * means[[RIB, 256]], rel=1e-5)
    axes, shape = (2, 0, 1), suv.grid.shape
    turned = suv.data.transpose(axes)[:, ::-1]
    ijk = np.array(np.unravel_index(regions.voxel, shape))[list(axes)]
    ijk[1] = turned.shape[1] - 1 - ijk[1]
    voxel = np.ravel_multi_index(tuple(ijk), turned.shape)
    other = Volume(np.ascontiguousarray(turned), Grid(turned.shape, np.diag([4.0, 4, 4, 1])), Unit.SUV)
    again = corrected_means(other, Regions(regions.count, regions.region, voxel, regions.fraction), 6.0)
    assert again[[RIB, 256]] == pytest.approx(means[[RIB, 256]], rel=1e-6)


def test_uniform_image_stays_as_it_is() -> None:
    suv, bones = rib(6.0, 4)
    even = suv.with_data(np.full_like(suv.data, 3.0))
    none = suv.with_data(np.zeros(suv.grid.shape, np.uint16), Unit.LABEL)
    regions = regions_of(bones, none, ())
    assert corrected_means(even, regions, 6.0)[RIB] == pytest.approx(3.0, rel=0.02)


def test_regions_too_small_for_a_value() -> None:
    """A focus of less than a voxel stays with its bone; a bone of less than a voxel has no mean."""
    grid = Grid((12, 12, 12), np.diag([4.0, 4, 4, 1]))
    values = np.full(grid.shape, 2.0, np.float32)
    values[6, 6, 6] = 30
    middle = int(np.ravel_multi_index((6, 6, 6), grid.shape))
    voxel = np.array([middle, middle + 1, middle + 2, 0])
    bones = Occupancy(grid, np.array([5, 5, 5, 9], np.uint8), voxel, np.array([0.8, 0.9, 0.9, 0.4]))
    suv = Volume(values, grid, Unit.SUV)
    hotspots = np.zeros(grid.shape, np.uint16)
    hotspots[6, 6, 6] = 1
    regions = regions_of(bones, suv.with_data(hotspots, Unit.LABEL), (5, 9))
    assert regions.sizes[[5, 9, 256]] == pytest.approx([2.6, 0.4, 0])
    means = corrected_means(suv, regions, 6.0)
    assert np.isfinite(means[5])
    assert np.isnan(means[[9, 256]]).all()
    assert np.isnan(means_of_bones(bones, regions, means)[9])
    empty = Regions(4, np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    assert np.isnan(corrected_means(suv, empty, 6.0)).all()


def test_focus_that_the_blur_has_swallowed_has_no_value() -> None:
    """Below a ball two FWHM across it stays with its bone; the rib's is larger at 6 mm, not at 9."""
    suv, bones = rib(6.0, 4)
    hotspots = find_hotspots(suv, bones, FOCUS)
    for psf_mm, has_value in ((6.0, True), (9.0, False)):
        regions = regions_of(bones, hotspots, FOCUS.bones, least_hotspot_ml(psf_mm))
        assert (regions.sizes[256] > 0) == has_value
        means = corrected_means(suv, regions, psf_mm)
        assert np.isfinite(means[256]) == has_value
        assert np.isfinite(means_of_bones(bones, regions, means)[RIB])
    assert least_hotspot_ml(6.0) == pytest.approx(0.9048, abs=1e-4)


def test_what_cannot_be() -> None:
    suv, bones = rib(6.0, 4)
    none = suv.with_data(np.zeros(suv.grid.shape, np.uint16), Unit.LABEL)
    regions = regions_of(bones, none, ())
    with pytest.raises(ValueError, match="in SUV, got"):
        corrected_means(none, regions, 6.0)
    for fwhm in (0.0, -1.0, np.nan, (6.0, 6.0, 0.0)):
        with pytest.raises(ValueError, match="FWHM of the PSF"):
            corrected_means(suv, regions, fwhm)


def test_bones_of_the_phantom() -> None:
    """Voxels of 6 mm, a blur of 6 mm: a rib shows 60 % of its uptake, and has nearly all of it corrected."""
    patient = make_patient(replace(SMALL, noise=0.0))
    suv = patient.pets["naf"]
    bones = occupancy(patient.bones, suv.grid)
    none = suv.with_data(np.zeros(suv.grid.shape, np.uint16), Unit.LABEL)
    regions = regions_of(bones, none, ())
    means = corrected_means(suv, regions, SMALL.psf_fwhm_mm)
    diseased = {spot.bone for spot in HOTSPOTS}
    rng = _rng(SMALL, "uptake")  # every bone's uptake varies by 8 % about that of its group
    varied = {label: rng.uniform(0.92, 1.08) for label in anatomy(SMALL).skeleton.solids}
    off = {"shown": [], "corrected": []}  # type: dict[str, list[float]]
    for bone in BONES:
        if bone.name in diseased or regions.sizes[bone.id] < 20:
            continue
        entries = regions.region == bone.id
        weight = regions.fraction[entries]
        shown = np.average(suv.data.reshape(-1)[regions.voxel[entries]], weights=weight)
        truth = BONE_SUV["naf"][bone.group] * varied[bone.id]
        off["shown"].append(shown / truth - 1)
        off["corrected"].append(means[bone.id] / truth - 1)
    assert len(off["shown"]) > 30
    assert np.median(off["shown"]) < -0.2
    assert np.max(np.abs(off["corrected"])) < 0.05
