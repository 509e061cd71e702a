"""SUVpeak against the IBSI phantom and against counting by hand."""

import nibabel
import numpy as np
import pytest

from conftest import affine
from petbone.peak import EANM_RADIUS_MM, IBSI_RADIUS_MM, Spheres, sphere_rows
from petbone.volume import Grid, Unit, Volume


def test_ibsi_digital_phantom(shared):
    # IBSI-1 reference values: local peak 2.6, global peak 3.1, mean 2.15, median 1, volume 592 mm3.
    folder = shared / "oracles/theibsi__data_sets/ibsi_1_digital_phantom/nifti"
    image = nibabel.load(folder / "image/phantom.nii.gz")
    mask = np.asarray(nibabel.load(folder / "mask/mask.nii.gz").dataobj).astype(bool)
    phantom = Volume(np.asarray(image.dataobj).astype(np.float32), Grid(image.shape, image.affine), Unit.SUV)
    voxels = np.flatnonzero(mask)
    values = phantom.data.reshape(-1)[voxels]
    peaks = Spheres(phantom, voxels).means(voxels, IBSI_RADIUS_MM)
    assert round(float(peaks[values == values.max()].max()), 1) == 2.6
    assert round(float(peaks.max()), 1) == 3.1
    assert peaks.max() == pytest.approx(3.103448, abs=1e-6)
    assert voxels.size * phantom.grid.voxel_ml == pytest.approx(0.592)


@pytest.mark.parametrize("radius_mm", [IBSI_RADIUS_MM, EANM_RADIUS_MM])
def test_sphere_means_are_those_of_counting_voxels(axes, radius_mm):
    grid = Grid((9, 8, 10), affine(axes, (2.1, 3.0, 4.1), (5.0, 6.0, 7.0)))
    image = Volume(np.random.default_rng(1).random(grid.shape).astype(np.float32), grid, Unit.SUV)
    every = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    places = grid.mm(every)
    chosen = np.array([0, 37, 355, 719])
    expected = [
        image.data.reshape(-1)[np.linalg.norm(places - places[n], axis=1) <= radius_mm + 1e-6].mean()
        for n in chosen
    ]
    np.testing.assert_allclose(Spheres(image, chosen).means(chosen, radius_mm), expected, rtol=1e-6)
    for n in (0, 2):  # sums are made around the voxels alone
        one = chosen[n : n + 1]
        np.testing.assert_allclose(Spheres(image, one).means(one, radius_mm), expected[n], rtol=1e-6)


def test_the_sphere_holds_a_cubic_centimetre():
    rows = sphere_rows(Grid((1, 1, 1), np.diag([0.1, 0.1, 0.1, 1])), IBSI_RADIUS_MM)
    assert sum(row.high - row.low + 1 for row in rows) * 0.001 == pytest.approx(1000, rel=3e-3)


def test_no_voxels_no_peaks():
    image = Volume(np.ones((2, 2, 2), np.float32), Grid((2, 2, 2), np.eye(4)), Unit.SUV)
    none = np.zeros(0, np.int64)
    assert Spheres(image, none).means(none, EANM_RADIUS_MM).size == 0
