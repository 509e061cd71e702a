"""Voxel grids and the images that live on them.

Terms used in names, here and everywhere else in petbone:

* *ijk* : voxel indices, the order of ``data``'s axes; integers are voxel centres
* *mm*  : world coordinates, RAS+ : x grows to the patient's right, y to the front, z to the head
* *a_from_b* : 4 x 4 matrix taking coordinates in b to coordinates in a
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

Box = tuple[slice, slice, slice]


class Unit(Enum):
    """What one voxel value means; decides how it may be interpolated."""

    HU = "HU"
    BQ_PER_ML = "Bq/mL"
    SUV = "g/mL"
    LABEL = "label"

    @property
    def fill(self) -> float:
        """Value of a voxel outside the field of view."""
        return -1024.0 if self is Unit.HU else 0.0


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """View of `array` that refuses writes; the caller's own array stays writable and is not copied.

    numpy cannot tell when somebody writes into an array, so a derived quantity could go stale.
    A copy would be safer and costs one CT (240 MB); see docs/decisions/0002.
    """
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels are: `shape` voxels placed in the world by `mm_from_ijk`.

    `mm_from_ijk` is a (4, 4) affine in RAS millimetres; any orientation, oblique and sheared included.

    Raises ValueError if the shape is not three positive integers or the matrix is not an invertible,
    finite affine.
    """

    shape: tuple[int, int, int]
    mm_from_ijk: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid has three axes of at least one voxel, got shape {self.shape}")
        matrix = np.array(self.mm_from_ijk, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.array_equal(matrix[3], [0, 0, 0, 1]):
            raise ValueError(f"mm_from_ijk must be a 4x4 affine, got {matrix.tolist()}")
        if not np.isfinite(matrix).all():
            raise ValueError(f"mm_from_ijk must be finite, got {matrix.tolist()}")
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        # Judged on unit columns, so that a small voxel is not mistaken for a flat one.
        if (lengths == 0).any() or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3:
            raise ValueError(f"mm_from_ijk must be invertible, got {matrix.tolist()}")
        object.__setattr__(self, "mm_from_ijk", _frozen(matrix))
        object.__setattr__(self, "shape", shape)

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        """(3,) voxel edge along each array axis: the column lengths of the matrix."""
        squares: npt.NDArray[np.float64] = (self.mm_from_ijk[:3, :3] ** 2).sum(axis=0)
        return np.sqrt(squares)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres (1 mL = 1000 mm^3), by the determinant."""
        return float(abs(np.linalg.det(self.mm_from_ijk[:3, :3]))) / 1000

    @property
    def ijk_from_mm(self) -> npt.NDArray[np.float64]:
        """(4, 4) inverse of `mm_from_ijk`."""
        return np.linalg.inv(self.mm_from_ijk).astype(np.float64)

    @property
    def shear_deg(self) -> float:
        """Largest departure from right angles between two array axes (gantry tilt), in degrees."""
        axes = self.mm_from_ijk[:3, :3] / self.spacing_mm
        cosines = np.abs((axes.T @ axes)[np.triu_indices(3, 1)])
        return float(np.degrees(np.arcsin(cosines.clip(0, 1))).max())

    def mm(self, ijk: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """World position of voxel indices; (..., 3) in, (..., 3) out."""
        points = np.asarray(ijk, dtype=np.float64)
        return points @ self.mm_from_ijk[:3, :3].T + self.mm_from_ijk[:3, 3]

    def ijk(self, mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Continuous voxel index of world positions; (..., 3) in, (..., 3) out."""
        points = np.asarray(mm, dtype=np.float64)
        inverse = self.ijk_from_mm
        return points @ inverse[:3, :3].T + inverse[:3, 3]

    def corners_mm(self) -> npt.NDArray[np.float64]:
        """(8, 3) world positions of the outer corners of the field of view (voxel edges, not centres)."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        return self.mm(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3))

    def same_as(self, other: Grid, atol_mm: float = 1e-3) -> bool:
        """True when every voxel of the two grids is at the same place, within `atol_mm`."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners_mm() - other.corners_mm()).max() <= atol_mm)

    def cropped(self, box: Box) -> Grid:
        """Grid of ``data[box]``; voxels keep their world positions. Refuses steps other than 1."""
        if any(s.step not in (None, 1) for s in box):
            raise ValueError(f"a crop has step 1 along every axis, got {box}")
        start = [s.indices(n)[0] for s, n in zip(box, self.shape, strict=True)]
        stop = [s.indices(n)[1] for s, n in zip(box, self.shape, strict=True)]
        matrix = self.mm_from_ijk.copy()
        matrix[:3, 3] = self.mm(start)
        shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
        return Grid(shape, matrix)


@dataclass(frozen=True, eq=False)
class Volume:
    """An array, the grid it lives on, and the unit of its values. Never changes.

    Raises ValueError if the array does not fit the grid, TypeError if labels are not integers.
    """

    data: npt.NDArray[Any]
    grid: Grid
    unit: Unit

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise ValueError(f"data is {self.data.shape} but its grid is {self.grid.shape}")
        if self.unit is Unit.LABEL and not np.issubdtype(self.data.dtype, np.integer):
            raise TypeError(f"labels must be integers, got {self.data.dtype}")
        object.__setattr__(self, "data", _frozen(self.data))

    def with_data(self, data: npt.NDArray[Any], unit: Unit | None = None) -> Volume:
        """Same grid, new values."""
        return replace(self, data=data, unit=unit or self.unit)

    def cropped(self, box: Box) -> Volume:
        """The part inside `box`; voxels keep their world positions."""
        return replace(self, data=self.data[box], grid=self.grid.cropped(box))
