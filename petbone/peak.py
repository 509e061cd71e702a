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


def sphere_means(volume: Volume, voxels: npt.NDArray[np.int64], radius_mm: float) -> npt.NDArray[np.float64]:
    """Mean of `volume` over the sphere centred on each of `voxels` (flat indices, C order), in their order.

    Voxels of the sphere outside the image do not count. Sums along the last axis come from one running sum
    of the part of the image that is needed, so the cost does not grow with the length of the rows.
    """
    if voxels.size == 0:
        return np.zeros(0)
    shape = volume.grid.shape
    i, j, k = np.unravel_index(voxels, shape)
    rows = sphere_rows(volume.grid, radius_mm)
    reach = max(max(abs(row.di), abs(row.dj)) for row in rows)
    i0, i1 = max(int(i.min()) - reach, 0), min(int(i.max()) + reach + 1, shape[0])
    j0, j1 = max(int(j.min()) - reach, 0), min(int(j.max()) + reach + 1, shape[1])
    running = np.zeros((i1 - i0, j1 - j0, shape[2] + 1))
    np.cumsum(volume.data[i0:i1, j0:j1], axis=2, out=running[..., 1:])
    total, count = np.zeros(voxels.size), np.zeros(voxels.size)
    for row in rows:
        at_i, at_j = i + row.di, j + row.dj
        inside = (at_i >= 0) & (at_i < shape[0]) & (at_j >= 0) & (at_j < shape[1])
        at_i, at_j = np.where(inside, at_i, i) - i0, np.where(inside, at_j, j) - j0
        low = np.maximum(k + row.low, 0)
        after = np.minimum(k + row.high + 1, shape[2])
        total += np.where(inside, running[at_i, at_j, after] - running[at_i, at_j, low], 0)
        count += np.where(inside, after - low, 0)
    return total / count
