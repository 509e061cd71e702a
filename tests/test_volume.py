"""Grids and volumes: places are kept, nonsense is refused."""

import numpy as np
import pytest

from conftest import affine
from petbone.volume import Grid, Unit, Volume


def test_spacing_volume_and_places(axes):
    grid = Grid((4, 5, 6), affine(axes, (1.0, 2.0, 3.0), (7.0, 8.0, 9.0)))
    np.testing.assert_allclose(grid.spacing_mm, [1, 2, 3])
    assert grid.voxel_ml == pytest.approx(0.006)
    np.testing.assert_allclose(grid.mm([0, 0, 0]), [7, 8, 9])
    np.testing.assert_allclose(grid.ijk(grid.mm([[1, 2, 3], [0.5, 4, 2]])), [[1, 2, 3], [0.5, 4, 2]])
    np.testing.assert_allclose(grid.ijk_from_mm @ grid.mm_from_ijk, np.eye(4), atol=1e-12)
    assert grid.shear_deg == pytest.approx(0, abs=1e-5)


def test_shear_is_told_in_degrees():
    matrix = np.eye(4)
    matrix[1, 2] = np.tan(np.radians(12.0))  # a gantry tilt
    assert Grid((2, 2, 2), matrix).shear_deg == pytest.approx(12.0)


def test_a_crop_keeps_every_voxel_in_place(axes):
    grid = Grid((6, 7, 8), affine(axes, (1.5, 2.0, 2.5), (-3.0, 4.0, 5.0)))
    image = Volume(np.arange(336).reshape(6, 7, 8), grid, Unit.SUV)
    part = image.cropped((slice(1, 5), slice(2, None), slice(-3, None)))
    assert part.data.shape == (4, 5, 3)
    np.testing.assert_allclose(part.grid.mm([0, 0, 0]), grid.mm([1, 2, 5]))
    assert part.data[0, 0, 0] == image.data[1, 2, 5]


def test_corners_are_edges_of_voxels():
    corners = Grid((2, 3, 4), np.diag([1.0, 1, 1, 1])).corners_mm()
    np.testing.assert_allclose(corners.min(axis=0), [-0.5, -0.5, -0.5])
    np.testing.assert_allclose(corners.max(axis=0), [1.5, 2.5, 3.5])


def test_same_grid_within_a_micrometre(axes):
    grid = Grid((4, 5, 6), affine(axes, (1.0, 2.0, 3.0), (7.0, 8.0, 9.0)))
    near = grid.mm_from_ijk.copy()
    near[0, 3] += 5e-4
    assert grid.same_as(Grid(grid.shape, near))
    near[0, 3] += 5e-3
    assert not grid.same_as(Grid(grid.shape, near))
    assert not grid.same_as(Grid((4, 5, 7), grid.mm_from_ijk))


def test_nothing_of_a_volume_can_be_written():
    image = Volume(np.zeros((2, 2, 2), np.float32), Grid((2, 2, 2), np.eye(4)), Unit.SUV)
    with pytest.raises(ValueError, match="read-only"):
        image.data[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        image.grid.mm_from_ijk[0, 0] = 2
    with pytest.raises(AttributeError):
        image.unit = Unit.HU


@pytest.mark.parametrize(
    ("shape", "matrix", "said"),
    [
        ((2, 2), np.eye(4), "three axes"),
        ((2, 0, 2), np.eye(4), "three axes"),
        ((2, 2, 2), np.eye(3), "4x4"),
        ((2, 2, 2), np.ones((4, 4)), "4x4"),
        ((2, 2, 2), np.diag([1.0, 1.0, 0.0, 1.0]), "invertible"),
        ((2, 2, 2), np.diag([1.0, np.nan, 1.0, 1.0]), "finite"),
    ],
)
def test_a_grid_refuses_what_is_none(shape, matrix, said):
    with pytest.raises(ValueError, match=said):
        Grid(shape, matrix)


def test_a_tiny_voxel_is_not_a_flat_one():
    assert Grid((2, 2, 2), np.diag([1e-6, 1e-6, 1e-6, 1])).voxel_ml == pytest.approx(1e-21)


def test_a_volume_refuses_another_shape_and_labels_that_are_no_integers():
    grid = Grid((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match="its grid"):
        Volume(np.zeros((2, 2, 3)), grid, Unit.SUV)
    with pytest.raises(TypeError, match="integers"):
        Volume(np.zeros((2, 2, 2)), grid, Unit.LABEL)
    with pytest.raises(ValueError, match="step 1"):
        grid.cropped((slice(0, 2, 2), slice(2), slice(2)))


def test_the_fill_of_a_unit_is_what_lies_outside():
    assert Unit.HU.fill == -1024
    assert Unit.SUV.fill == 0
    image = Volume(np.zeros((2, 2, 2)), Grid((2, 2, 2), np.eye(4)), Unit.HU)
    assert image.with_data(np.ones((2, 2, 2))).unit is Unit.HU
