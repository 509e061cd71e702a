"""Carrying images between grids: nothing is lost, nothing moves."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from conftest import affine, rotation
from petbone.resample import occupancy, resample
from petbone.volume import Grid, Unit, Volume


def noise(shape, matrix, unit=Unit.SUV, seed=0):
    data = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    if unit is Unit.LABEL:
        data = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)
    return Volume(data, Grid(shape, matrix), unit)


@pytest.mark.parametrize("unit", [Unit.SUV, Unit.LABEL])
def test_resampling_to_the_same_grid_changes_nothing(axes, unit):
    image = noise((7, 8, 9), affine(axes, (1.1, 2.3, 3.7), (-31.0, 12.5, 7.7)), unit)
    np.testing.assert_array_equal(resample(image, image.grid).data, image.data)


def test_identity_survives_an_affine_in_single_precision(axes):
    # What NIfTI stores; nibabel's own resampling loses whole faces here.
    matrix = affine(axes, (0.97, 0.97, 3.27), (-250.123, -171.4, 903.7)).astype(np.float32)
    image = noise((40, 30, 20), affine(axes, (0.97, 0.97, 3.27), (-250.123, -171.4, 903.7)))
    np.testing.assert_array_equal(resample(image, Grid(image.grid.shape, matrix)).data, image.data)


def test_resampling_to_a_crop_is_cropping(axes):
    image = noise((9, 8, 7), affine(axes, (2.0, 1.5, 3.0), (5.0, -6.0, 40.0)))
    box = (slice(2, 8), slice(0, 5), slice(3, 7))
    np.testing.assert_array_equal(resample(image, image.grid.cropped(box)).data, image.cropped(box).data)


def test_outside_the_field_of_view_is_the_fill_of_the_unit():
    air = resample(
        noise((4, 4, 4), np.eye(4), Unit.HU), Grid((2, 2, 2), affine(np.eye(3), (1, 1, 1), (90, 0, 0)))
    )
    assert (air.data == -1024).all()


def test_linear_resampling_agrees_with_nibabel(axes):
    from nibabel.processing import resample_from_to

    image = noise((12, 11, 10), affine(axes, (2.0, 2.5, 3.0), (4.0, 5.0, 6.0)))
    target = Grid((9, 9, 9), affine(rotation(8.0), (2.2, 2.2, 2.2), (7.0, 9.0, 10.0)))
    theirs = resample_from_to(
        nib.Nifti1Image(image.data, image.grid.mm_from_ijk),
        (target.shape, target.mm_from_ijk),
        order=1,
        mode="grid-constant",
    )
    np.testing.assert_allclose(resample(image, target).data, theirs.get_fdata(), atol=1e-5)


def test_a_known_motion_is_followed():
    image = noise((8, 8, 8), np.eye(4))
    moved = resample(image, image.grid, source_mm_from_target_mm=affine(np.eye(3), (1, 1, 1), (2, 0, -1)))
    np.testing.assert_array_equal(moved.data[:6, :, 1:], image.data[2:, :, :7])


def labels_in(grid):
    return Volume(np.random.default_rng(3).integers(0, 4, grid.shape).astype(np.uint8), grid, Unit.LABEL)


@settings(max_examples=40, deadline=None)
@given(
    degrees=st.sampled_from([0.0, 0.0, 12.0, 45.0]),
    fine_mm=st.tuples(*[st.floats(0.4, 6.0)] * 3),
    coarse_mm=st.tuples(*[st.floats(1.5, 6.0)] * 3),
    shift_mm=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
)
def test_occupancy_conserves_the_volume_of_every_label(degrees, fine_mm, coarse_mm, shift_mm):
    bones = labels_in(Grid((6, 5, 7), affine(rotation(degrees), fine_mm, shift_mm)))
    around = affine(np.eye(3), coarse_mm, (-80.0, -80.0, -80.0))
    shape = tuple(int(np.ceil(160 / mm)) for mm in coarse_mm)
    carried = occupancy(bones, Grid(shape, around)).volumes_ml(5)
    own = np.bincount(bones.data.ravel(), minlength=5) * bones.grid.voxel_ml
    # Grids that nearly fit are the next test's.
    ratio = np.array(fine_mm) / coarse_mm
    off = np.abs(ratio - np.round(ratio)) * bones.grid.shape
    assume(degrees != 0 or ((off < 1e-12) | (off >= 1e-3)).all())
    np.testing.assert_allclose(carried[1:], own[1:], rtol=1e-9)


@pytest.mark.parametrize("noise_mm", [0.0, 1e-7, 1e-5, 1e-4])
def test_grids_that_nearly_fit_count_as_fitting(noise_mm):
    bones = labels_in(Grid((6, 5, 7), affine(np.eye(3), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))))
    target = Grid((6, 5, 7), affine(np.eye(3), (2.0 + noise_mm, 1.0, 1.0), (0.0, 0.0, 0.0)))
    found = occupancy(bones, target)
    assert (found.fraction == 1).all()
    own = np.bincount(bones.data.ravel(), minlength=5) * bones.grid.voxel_ml
    np.testing.assert_allclose(found.volumes_ml(5)[1:], own[1:], rtol=1e-3 / 6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_parallel_occupancy_is_the_exact_overlap(axes, order):
    # Against brute force: every label voxel cut into 10 x 10 x 10 points, grids chosen so that this is exact.
    bones = labels_in(Grid((6, 7, 5), affine(axes, (1.0, 1.5, 2.0), (0.0, 0.0, 0.0))))
    bones = bones.with_data(np.asarray(bones.data, order=order))
    start = axes @ np.array([-0.5, 0.6, -0.4])
    pet = Grid((4, 4, 4), affine(axes, (2.0, 3.0, 4.0), tuple(start)))
    offsets = (np.arange(10) + 0.5) / 10 - 0.5
    points = np.stack(np.meshgrid(*[(np.arange(n)[:, None] + offsets).ravel() for n in bones.grid.shape],
                                  indexing="ij"), axis=-1).reshape(-1, 3)  # fmt: skip
    label = np.kron(bones.data, np.ones((10, 10, 10), np.uint8)).ravel()
    at = np.rint(pet.ijk(bones.grid.mm(points)) + 1e-9).astype(int)
    inside = ((at >= 0) & (at < 4)).all(axis=1) & (label > 0)
    flat = np.ravel_multi_index(tuple(at[inside].T), pet.shape)
    point_ml = bones.grid.voxel_ml / 1000
    expected = np.bincount(label[inside] * 64 + flat, minlength=256).reshape(4, 64) * point_ml / pet.voxel_ml
    found = np.zeros((4, 64))
    entries = occupancy(bones, pet)
    found[entries.label, entries.voxel] = entries.fraction
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_on_its_own_grid_occupancy_is_one(axes):
    bones = labels_in(Grid((6, 7, 5), affine(axes, (0.98, 0.98, 2.0), (-120.4, 33.3, 917.0))))
    entries = occupancy(bones, Grid(bones.grid.shape, bones.grid.mm_from_ijk.astype(np.float32)))
    np.testing.assert_array_equal(entries.fraction, 1.0)
    np.testing.assert_array_equal(entries.label, bones.data.ravel()[entries.voxel])
    assert entries.voxel.size == np.count_nonzero(bones.data)


@pytest.mark.parametrize("bone_mm", [0.8, 2.0, 5.0])
def test_deep_inside_a_bone_an_oblique_voxel_is_full(bone_mm):
    n = round(120 / bone_mm)
    grid = Grid((n, n, n), affine(rotation(23.0), (bone_mm,) * 3, (0, 0, 0)))
    solid = Volume(np.ones(grid.shape, np.uint8), grid, Unit.LABEL)
    middle = grid.mm([n / 2] * 3)
    pet = Grid((10, 10, 10), affine(np.eye(3), (3.0, 3.0, 3.0), tuple(middle - 15)))
    entries = occupancy(solid, pet)
    assert entries.voxel.size == 1000
    assert np.abs(entries.fraction - 1).max() < 0.04
    assert entries.fraction.mean() == pytest.approx(1, abs=2e-3)


def test_entries_of_a_label_and_the_total_over_labels():
    bones = Volume(np.array([[[1, 1, 2, 0]]], np.uint8), Grid((1, 1, 4), np.diag([1.0, 1, 1, 1])), Unit.LABEL)
    pet = Grid((1, 1, 2), affine(np.eye(3), (1, 1, 2), (0, 0, 0.5)))
    entries = occupancy(bones, pet)
    np.testing.assert_allclose(entries.fraction[entries.of(1)], [1.0])
    np.testing.assert_allclose(entries.fraction[entries.of(2)], [0.5])
    assert entries.of(9).stop == entries.of(9).start
    voxel, filled = entries.total([1, 2])
    np.testing.assert_array_equal(voxel, [0, 1])
    np.testing.assert_allclose(filled, [1.0, 0.5])
    assert entries.total([7])[0].size == 0


def test_a_crop_holds_what_lies_in_its_box(axes):
    labels = noise((9, 8, 7), affine(axes, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)), Unit.LABEL)
    whole = occupancy(labels, Grid((6, 5, 4), affine(axes, (3.1, 3.1, 3.1), (1.0, 1.0, 1.0))))
    box = (slice(1, 5), slice(0, 3), slice(2, 4))
    part = whole.cropped(box)
    assert part.grid.same_as(whole.grid.cropped(box))
    dense = [np.zeros((5, *one.grid.shape)) for one in (whole, part)]
    for one, array in zip((whole, part), dense, strict=True):
        array.reshape(5, -1)[one.label, one.voxel] = one.fraction
    np.testing.assert_array_equal(dense[1], dense[0][(slice(None), *box)])
    with pytest.raises(ValueError, match="step 1"):
        whole.cropped((slice(0, 4, 2), slice(0, 3), slice(2, 4)))


def test_what_lies_outside_the_pet_is_left_out():
    bones = Volume(np.ones((4, 4, 4), np.uint8), Grid((4, 4, 4), np.eye(4)), Unit.LABEL)
    half = occupancy(bones, Grid((4, 4, 4), affine(np.eye(3), (1, 1, 1), (2, 0, 0))))
    assert half.volumes_ml(2)[1] == pytest.approx(0.032)
    nothing = occupancy(bones, Grid((4, 4, 4), affine(np.eye(3), (1, 1, 1), (99, 0, 0))))
    assert nothing.voxel.size == 0


def test_a_label_of_the_study_of_soft_tissue_sarcoma_reaches_the_pet(shared):
    # Oracle: the tumour contour drawn on CT and on PET, SUVmean 2.5551 and SUVmax 7.9107 on the PET.
    import nibabel

    folder = shared / "oracles/oncoray__mirp/test/data/sts_images/STS_001"
    ct_mask, pet_mask, pet = [next(folder.glob(p)) for p in ("CT/**/*mask*.nii.gz", "PET/**/*mask*.nii.gz",
                                                           "PET/**/*image*.nii.gz")]  # fmt: skip
    images = [nibabel.load(path) for path in (ct_mask, pet_mask, pet)]
    bones = Volume(np.asarray(images[0].dataobj).astype(np.uint8), Grid(images[0].shape, images[0].affine),
                   Unit.LABEL)  # fmt: skip
    grid = Grid(images[2].shape, images[2].affine)
    entries = occupancy(bones, grid)
    suv = np.asarray(images[2].dataobj).reshape(-1)
    drawn = np.asarray(images[1].dataobj).reshape(-1) > 0
    half = np.zeros(suv.size, bool)
    half[entries.voxel[entries.fraction >= 0.5]] = True
    assert 2 * (half & drawn).sum() / (half.sum() + drawn.sum()) >= 0.99
    assert entries.volumes_ml(2)[1] == pytest.approx(365.3180825, rel=1e-6)
    weighted = (entries.fraction * suv[entries.voxel]).sum() / entries.fraction.sum()
    assert suv[half].mean() == pytest.approx(2.5551, abs=0.01)
    assert weighted == pytest.approx(2.5473, abs=0.01)
    assert suv[half].max() == pytest.approx(7.9107, abs=1e-4)


@pytest.mark.parametrize("data", [np.zeros((2, 2, 2), np.float32), np.full((2, 2, 2), 300, np.int16)])
def test_occupancy_refuses_what_is_no_label_map(data):
    unit = Unit.HU if data.dtype == np.float32 else Unit.LABEL
    with pytest.raises(ValueError, match="label map"):
        occupancy(Volume(data, Grid((2, 2, 2), np.eye(4)), unit), Grid((2, 2, 2), np.eye(4)))


def test_scipy_is_the_only_interpolator_here():
    # The values between two voxels are those of scipy, which has no grid of its own to get wrong.
    image = noise((5, 5, 5), np.eye(4))
    target = Grid((3, 3, 3), affine(np.eye(3), (1, 1, 1), (0.25, 0.5, 0.75)))
    at = np.stack(np.meshgrid(*[np.arange(3) + o for o in (0.25, 0.5, 0.75)], indexing="ij"))
    np.testing.assert_allclose(
        resample(image, target).data, ndimage.map_coordinates(image.data, at, order=1), atol=1e-6
    )
