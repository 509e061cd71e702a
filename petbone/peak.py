"""SUVpeak: the mean over a small sphere. The same lesion has different peaks by definition, so each is named.

* ``ibsi``: unweighted mean of the voxels whose centre lies within 6.2 mm of the centre voxel (1 cm^3);
  the sphere may leave the region, not the image. *Local* is at the voxel of SUVmax (of several, the highest),
  *global* is the highest over the region. Image Biomarker Standardisation Initiative, arXiv:1612.07003.
* ``eanm``: the same with the 12 mm sphere of the EANM guideline (Boellaard et al. 2015), 6.0 mm radius,
  positioned for the highest mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.volume import Grid, Volume

IBSI_RADIUS_MM = 6.2
EANM_RADIUS_MM = 6.0


@dataclass(frozen=True)
class _Row:
    """Voxels of a sphere that share their first two offsets: from `low` to `high` along the last axis."""

    di: int
    dj: int
    low: int
    high: int


def sphere_rows(grid: Grid, radius_mm: float) -> list[_Row]:
    """The voxels whose centre is within `radius_mm` of a voxel's centre, as rows along the last axis."""
    inverse = np.linalg.inv(grid.mm_from_ijk[:3, :3])
    reach = np.ceil(np.sqrt((inverse**2).sum(axis=1)) * radius_mm + 1e-9).astype(int)
    offsets = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), axis=-1)
    squared_mm = (offsets @ grid.mm_from_ijk[:3, :3].T) ** 2
    within = squared_mm.sum(axis=-1) <= (radius_mm + 1e-6) ** 2
    rows = []
    for i, j in np.argwhere(within.any(axis=2)):
        k = np.flatnonzero(within[i, j])
        rows.append(_Row(int(i - reach[0]), int(j - reach[1]), int(k[0] - reach[2]), int(k[-1] - reach[2])))
    return rows


class Spheres:
    """Means over spheres of up to 6.2 mm around voxels that bone touches, in one image.

    Its running sums are made once, where they are needed, and serve every region and radius.
    """

    def __init__(self, volume: Volume, near: npt.NDArray[np.int64]) -> None:
        """`near` are the voxels to be asked for, (n,) flat indices in C order."""
        self._shape = np.array(volume.grid.shape)
        self._rows = {r: sphere_rows(volume.grid, r) for r in (IBSI_RADIUS_MM, EANM_RADIUS_MM)}
        offsets = [(row.di, row.dj, end) for row in self._rows[IBSI_RADIUS_MM] for end in (row.low, row.high)]
        ijk = np.array(np.unravel_index(near, volume.grid.shape)).reshape(3, -1)
        reach = np.abs(offsets).max(axis=0)
        self._low = np.maximum(ijk.min(axis=1, initial=self._shape.max()) - reach, 0)
        high = np.minimum(ijk.max(axis=1, initial=-1) + reach + 1, self._shape)
        part = volume.data[tuple(slice(a, b) for a, b in zip(self._low, high, strict=True))]
        self._running = np.zeros((*part.shape[:2], part.shape[2] + 1))
        np.cumsum(part, axis=2, out=self._running[..., 1:])

    def means(self, voxels: npt.NDArray[np.int64], radius_mm: float) -> npt.NDArray[np.float64]:
        """Mean over the sphere centred on each of `voxels` (flat indices, C order), in their order.

        Voxels of the sphere outside the image do not count. `radius_mm` is that of IBSI or of EANM.
        """
        i, j, k = np.array(np.unravel_index(voxels, self._shape)) - self._low[:, None]
        total, count = np.zeros(voxels.size), np.zeros(voxels.size)
        shape = self._running.shape
        for row in self._rows[radius_mm]:
            at_i, at_j = i + row.di, j + row.dj
            inside = (at_i >= 0) & (at_i < shape[0]) & (at_j >= 0) & (at_j < shape[1])
            at_i, at_j = np.where(inside, at_i, i), np.where(inside, at_j, j)
            low = np.maximum(k + row.low, 0)
            after = np.minimum(k + row.high + 1, shape[2] - 1)
            total += np.where(inside, self._running[at_i, at_j, after] - self._running[at_i, at_j, low], 0)
            count += np.where(inside, after - low, 0)
        return total / count
