"""Arrays of one lattice are brought to each other exactly, and others are not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from conftest import affine, rotation
from petbone.lattice import in_order_of, share_outside
from petbone.volume import Grid, Unit, Volume


def some_volume(axes: np.ndarray, spacing=(2.0, 2.0, 2.5)) -> Volume:
    rng = np.random.default_rng(0)
    grid = Grid((3, 4, 5), affine(axes, spacing, (10.0, -20.0, 30.0)))
    return Volume(rng.integers(0, 9, grid.shape).astype(np.uint8), grid, Unit.LABEL)


def turned(volume: Volume, axes: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same voxels in another order, by the place of every voxel."""
    data = volume.data.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    mm = volume.grid.mm(np.moveaxis(np.indices(volume.grid.shape), 0, -1))
    mm = mm.transpose(*axes, 3)[tuple(slice(None, None, sign) for sign in signs)]
    matrix = np.eye(4)
    matrix[:3, 3] = mm[0, 0, 0]
    matrix[:3, :3] = np.stack([mm[1, 0, 0], mm[0, 1, 0], mm[0, 0, 1]], axis=1) - mm[0, 0, 0][:, None]
    return Volume(data, Grid(data.shape, matrix), Unit.LABEL)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_every_turn_of_the_axes_is_undone(axes, order, signs):
    volume = some_volume(axes)
    back = in_order_of(turned(volume, order, signs), volume.grid)
    assert back is not None
    assert np.array_equal(back.data, volume.data)
    assert back.grid.same_as(volume.grid, 1e-9)


def test_the_same_grid_is_itself(axes):
    volume = some_volume(axes)
    same = in_order_of(volume, Grid(volume.grid.shape, volume.grid.mm_from_ijk))
    assert same is not None
    assert np.array_equal(same.data, volume.data)
    assert np.shares_memory(same.data, volume.data)


def test_a_turn_of_45_degrees_is_undone():
    """Where closest to RAS is nobody's guess, the lattice still is one."""
    quarter = rotation(45.0)
    volume = some_volume(quarter, (2.0, 2.0, 2.0))
    back = in_order_of(turned(volume, (2, 0, 1), (-1, 1, -1)), volume.grid)
    assert back is not None
    assert np.array_equal(back.data, volume.data)


def test_other_lattices_are_none(axes):
    volume = some_volume(axes)
    shape, matrix = volume.grid.shape, volume.grid.mm_from_ijk
    shifted, stretched = matrix.copy(), matrix.copy()
    shifted[:3, 3] += 0.5
    stretched[:3, 0] *= 1.1
    whole_voxel = matrix.copy()
    whole_voxel[:3, 3] += matrix[:3, 0]
    rolled = matrix.copy()
    rolled[:3, :3] = rotation(3.0) @ matrix[:3, :3]
    sheared = matrix.copy()
    sheared[:3, 1] += matrix[:3, 0]
    for other in (shifted, stretched, whole_voxel, rolled, sheared):
        assert in_order_of(volume, Grid(shape, other)) is None
    assert in_order_of(volume, Grid((3, 4, 6), matrix)) is None


def test_what_a_smaller_field_does_not_reach(axes):
    volume = some_volume(axes)
    small = volume.grid.cropped((slice(1, 3), slice(0, 4), slice(0, 3)))
    seen = np.zeros(volume.grid.shape, bool)
    seen[1:3, 0:4, 0:3] = True
    shares = {n: float(np.mean(~seen[volume.data == n])) for n in range(1, 9)}
    assert share_outside(volume, small) == pytest.approx({n: one for n, one in shares.items() if one})
    assert share_outside(volume, volume.grid) == {}
    assert share_outside(volume, turned(volume, (2, 0, 1), (1, -1, -1)).grid) == {}
