"""A thinned CT lies where the CT lies."""

import numpy as np
import pytest

from conftest import affine
from petbone.thinned import Thinned, thinned, upright
from petbone.volume import Grid, Unit, Volume


def ramp(points_mm):
    return 2 * points_mm[..., 0] - 3 * points_mm[..., 1] + points_mm[..., 2]


def slope(axes, shape=(48, 60, 40), spacing=(1.0, 2.0, 3.0)) -> tuple[Volume, Volume]:
    """A CT whose HU are a linear function of the place in the world, and a bone map of its upper half."""
    grid = Grid(shape, affine(axes, spacing, (-20.0, 30.0, 10.0)))
    mm = places(grid)
    labels = (mm[..., 2] > np.median(mm[..., 2])).astype(np.uint8) * 7
    return Volume(ramp(mm).astype(np.float32), grid, Unit.HU), Volume(labels, grid, Unit.LABEL)


def places(grid: Grid):
    return grid.mm(np.moveaxis(np.indices(grid.shape), 0, -1))


def test_blocks_lie_where_their_voxels_do(axes):
    """The value of every whole block is that of the function in its middle, and so is its label."""
    ct, labels = slope(axes)
    scan = thinned(ct, labels)
    assert (scan.spacing_mm > 2.9).all()
    assert (scan.spacing_mm < 6.1).all()
    assert (np.diag(scan.grid.mm_from_ijk[:3, :3] / scan.spacing_mm) > 0.9).all()
    whole = (slice(0, -1),) * 3  # the last block of an axis may be a part
    mm = places(scan.grid)[whole]
    np.testing.assert_allclose(scan.hu[whole], ramp(mm), atol=0.02)
    above = mm[..., 2] - np.median(places(ct.grid)[..., 2])
    clear = np.abs(above) > 3  # a voxel's length from the border of the labels
    assert np.array_equal(scan.labels[whole][clear] == 7, above[clear] > 0)


def test_upright_along_the_world_and_in_the_same_place(axes):
    ct, labels = slope(axes)
    scan = thinned(ct, labels)
    straight = upright(scan, labels)
    off_axis = straight.grid.mm_from_ijk[:3, :3] - np.diag(np.diag(straight.grid.mm_from_ijk[:3, :3]))
    assert np.abs(off_axis).max() < 1e-9
    mm = places(straight.grid)
    ijk = scan.grid.ijk(mm)
    inside = ((ijk >= 0) & (ijk <= np.array(scan.hu.shape) - 2)).all(axis=-1)
    assert inside.any()
    np.testing.assert_allclose(straight.hu[inside], ramp(mm)[inside], atol=0.05)


def test_a_part_keeps_its_place():
    ct, labels = slope(np.eye(3))
    scan = thinned(ct, labels)
    part = scan.cropped((slice(1, 4), slice(2, 9), slice(0, 5)))
    assert np.array_equal(part.hu, scan.hu[1:4, 2:9, :5])
    np.testing.assert_allclose(part.grid.mm([0, 0, 0]), scan.grid.mm([1, 2, 0]))
    assert part.voxel_ml == pytest.approx(scan.voxel_ml)


def test_the_depth_is_the_distance_from_what_is_not_solid():
    grid = Grid((31, 31, 31), np.diag([2.0, 2.0, 2.0, 1.0]))
    hu = np.full(grid.shape, 60.0, np.float32)
    hu[:5] = -100
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, :, 25:] = 7
    depth = Thinned(hu, labels, grid).solid_depth_mm((20.0, 220.0))
    assert depth[2, 15, 15] == 0
    assert depth[15, 15, 30] == 0
    assert depth[15, 15, 15] == pytest.approx(20, abs=2)  # 10 voxels to bone, 11 to fat, less the blur
    assert depth[15, 3, 22] == pytest.approx(6)
