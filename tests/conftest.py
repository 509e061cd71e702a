"""Grids turned every way: a bug of geometry that an axis-aligned grid hides shows on an oblique one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

_AXES = {
    "RAS": np.diag([1.0, 1.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "PIR": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}


def rotation(degrees: float) -> np.ndarray:
    """A turn about an axis that is parallel to none of the grid's."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


_AXES["oblique"] = rotation(17.0)


@pytest.fixture(params=sorted(_AXES))
def axes(request: pytest.FixtureRequest) -> np.ndarray:
    """(3, 3) directions of the array axes in RAS, one column each."""
    return _AXES[request.param]


@pytest.fixture
def shared() -> Path:
    """The folder of oracles and real scans beside the repository; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository: its oracles and scans are not tested")
    return SHARED


def affine(axes: np.ndarray, spacing_mm: tuple[float, float, float], origin_mm: tuple[float, float, float]):
    """mm_from_ijk of a grid with these axes, spacing and first voxel."""
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.array(spacing_mm)
    matrix[:3, 3] = origin_mm
    return matrix
