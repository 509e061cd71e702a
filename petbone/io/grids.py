"""The grid that a header describes, judged in one place for every format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from petbone.errors import InputError
from petbone.volume import Grid

SMALLEST_MM, LARGEST_MM = 0.05, 50.0


def checked_grid(path: Path, shape: Sequence[int], mm_from_ijk: npt.NDArray[np.float64]) -> Grid:
    """Grid (RAS, mm). Raises InputError where the matrix is singular or the voxels cannot be a scan's."""
    i, j, k = shape
    try:
        grid = Grid((i, j, k), mm_from_ijk)
    except ValueError as error:
        raise InputError(f"{path}: zero voxel size or singular orientation in the header: {error}") from None
    if grid.spacing_mm.min() < SMALLEST_MM or grid.spacing_mm.max() > LARGEST_MM:
        size = " x ".join(f"{s:g}" for s in grid.spacing_mm)
        raise InputError(
            f"{path}: voxels of {size} mm; expected {SMALLEST_MM:g} to {LARGEST_MM:g}: probably not "
            "millimetres"
        )
    return grid
