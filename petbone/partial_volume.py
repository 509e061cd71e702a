"""Partial volume: the mean uptake of bones and hotspots as it would be without the blur of the PET.

* *PSF*      : the blur, a Gaussian whose full width at half maximum (FWHM) is given in mm, alike everywhere
* *region*   : what is taken as uniform: a hotspot, or a bone without its hotspots, by its occupancy of voxels
* *surround* : everything else, which is not uniform: it is estimated voxel by voxel

Method: geometric transfer matrix (Rousset 1998) on fractions of voxels, so that what a region lends to its
neighbours, and what a voxel that it fills in part shows of it, are undone at once. The part of the image that
is no region is estimated in turn: what the regions do not explain, freed of the hole that they leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.special import ndtr

from petbone.resample import Occupancy
from petbone.volume import Box, Unit, Volume

FWHM_PER_SD = 2.3548200450309493
TRUNCATE_SD = 4.0
ROUNDS = 8
"""Turns between regions and surround; on the phantom 20 change no digit that is shown."""
LEAST_VOXELS = 1.0
"""A region that fills less than this is left without a value: noise would be all there is."""

Array = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Regions:
    """What is uniform: entries (region, voxel, fraction); `region` from 0, `voxel` flat index of the grid."""

    count: int
    region: npt.NDArray[np.int64]  # (M,)
    voxel: npt.NDArray[np.int64]  # (M,)
    fraction: Array  # (M,)

    @property
    def sizes(self) -> Array:
        """(count,) voxels that each fills."""
        return _summed(self.region, self.fraction, self.count)


def least_hotspot_ml(psf_fwhm_mm: float) -> float:
    """Volume of a ball two FWHM across.

    Of what is smaller the blur leaves too little to undo: its voxels are a crest of the noise, and their mean
    comes out at twice their maximum."""
    return float(4 / 3 * np.pi * psf_fwhm_mm**3 / 1000)


def regions_of(
    bones: Occupancy, hotspots: Volume, searched: tuple[int, ...], least_ml: float = 0.0
) -> Regions:
    """Regions 0 to 255 are the bones by label, without the voxels of hotspots; 255 + n is hotspot n.

    A hotspot is the part of its voxels that the searched bones fill; other bones keep theirs, and all keep
    those of hotspots smaller than `least_ml` or `LEAST_VOXELS`.
    """
    count = 256 + int(hotspots.data.max(initial=0))
    number = hotspots.data.reshape(-1)[bones.voxel].astype(np.int64)
    inside = (number > 0) & np.isin(bones.label, searched)
    region = np.where(inside, 255 + number, bones.label.astype(np.int64))
    least = max(LEAST_VOXELS, least_ml / bones.grid.voxel_ml)
    large = _summed(region, bones.fraction, count) >= least
    region = np.where(inside & ~large[region], bones.label, region)
    return Regions(count, region, bones.voxel, bones.fraction)


def means_of_bones(bones: Occupancy, regions: Regions, means: Array) -> Array:
    """(256,) mean of every bone, its parts of hotspots included; NaN where a part has no value."""
    weight = _summed(bones.label, bones.fraction, 256)
    uptake = _summed(bones.label, bones.fraction * means[regions.region], 256)
    return np.where(weight > 0, uptake / np.where(weight > 0, weight, 1.0), np.nan)


def corrected_means(
    suv: Volume,
    regions: Regions,
    psf_fwhm_mm: float | tuple[float, float, float],
    voxels_average: bool = True,
) -> Array:
    """(count,) mean SUV of every region without the blur; NaN for what is smaller than `LEAST_VOXELS`.

    `psf_fwhm_mm` is one for all, or one for each axis of the array. The blur of an image is that of the
    scanner and the averaging within its voxels; `voxels_average` is False for images that were blurred on
    their own grid, as PETPVC's test is. Raises ValueError if `suv` is not SUV or a FWHM is not above 0.
    """
    if suv.unit is not Unit.SUV:
        raise ValueError(f"partial volume is corrected in SUV, got {suv.unit.value}")
    if not (np.isfinite(psf_fwhm_mm).all() and np.min(psf_fwhm_mm) > 0):
        raise ValueError(f"the FWHM of the PSF must be above 0 mm, got {psf_fwhm_mm}")
    sd_voxels = np.asarray(psf_fwhm_mm) / FWHM_PER_SD / suv.grid.spacing_mm
    kernels = [_kernel(float(sd), voxels_average) for sd in sd_voxels]
    used = np.flatnonzero(regions.sizes >= LEAST_VOXELS)
    means = np.full(regions.count, np.nan)
    if not used.size:
        return means
    kept = np.isin(regions.region, used)  # the rest is surround
    regions = Regions(regions.count, regions.region[kept], regions.voxel[kept], regions.fraction[kept])
    box, local = _boxed(suv, regions, kernels)
    # Images in single precision: their blurs take most of the time, and sums stay in double.
    measured = suv.data[box].astype(np.float32)
    filled = _summed(local, regions.fraction, measured.size)
    surround = np.clip(1 - filled, 0, 1).reshape(measured.shape).astype(np.float32)
    known = surround > 0.5
    seen_of_surround = _blurred(surround, kernels)
    seen_of_known = _blurred(known.astype(np.float32), kernels)
    own, spread = _regions_and_blur(regions, used, local, measured.shape, kernels)
    sizes = regions.sizes[used]
    transfer = (own.T @ spread).toarray() / sizes[:, None]
    shown = own.T @ measured.reshape(-1) / sizes
    value: Array = shown
    for _ in range(ROUNDS):
        rest = measured - (spread @ value.astype(np.float32)).reshape(measured.shape)
        told = np.where(known, np.clip(rest, 0, None) / np.maximum(seen_of_surround, 0.2), np.float32(0))
        # In a voxel that bone fills for the most part, the surround is what it is nearby.
        told = np.where(known, told, _blurred(told, kernels) / np.maximum(seen_of_known, 1e-3))
        # The blur is its own mirror image: what a region shows of the surround is the surround in its blur.
        spilled = spread.T @ (told * surround).reshape(-1) / sizes
        value = np.asarray(np.linalg.solve(transfer, shown - spilled), np.float64)
    means[used] = value
    return means


def _boxed(suv: Volume, regions: Regions, kernels: Sequence[Array]) -> tuple[Box, npt.NDArray[np.int64]]:
    """The part of the image that matters, and the entries' flat indices in it."""
    ijk = np.array(np.unravel_index(regions.voxel, suv.grid.shape))
    margin = 2 * _reach(kernels)
    low = np.maximum(ijk.min(axis=1) - margin, 0)
    high = np.minimum(ijk.max(axis=1) + margin + 1, suv.grid.shape)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    local = np.ravel_multi_index(tuple(ijk - low[:, None]), tuple(high - low))
    return box, np.asarray(local, dtype=np.int64)


def _regions_and_blur(
    regions: Regions,
    used: npt.NDArray[np.int64],
    local: npt.NDArray[np.int64],
    shape: tuple[int, ...],
    kernels: Sequence[Array],
) -> tuple[sparse.csc_array, sparse.csc_array]:
    """(voxels of the box, n) of the used regions: how much of a voxel each fills, without and with blur."""
    order = np.argsort(regions.region, kind="stable")
    bounds = np.searchsorted(regions.region[order], np.arange(regions.count + 1))
    at = np.array(np.unravel_index(local, shape))
    margin = _reach(kernels)
    filled, blurred = [], []
    for number in used:
        part = order[bounds[number] : bounds[number + 1]]
        filled.append((local[part], regions.fraction[part]))
        low = np.maximum(at[:, part].min(axis=1) - margin, 0)
        high = np.minimum(at[:, part].max(axis=1) + margin + 1, shape)
        own = np.zeros(tuple(high - low), np.float32)
        np.add.at(own, tuple(at[:, part] - low[:, None]), regions.fraction[part])
        own = _blurred(own, kernels)
        some = np.nonzero(own)
        voxel = np.ravel_multi_index(tuple(np.array(some) + low[:, None]), shape)
        blurred.append((voxel, own[some]))
    return _columns(filled, shape), _columns(blurred, shape)


def _columns(
    columns: list[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]], shape: tuple[int, ...]
) -> sparse.csc_array:
    """A sparse matrix of columns (row, value), a row per voxel of `shape`."""
    rows = np.concatenate([voxel for voxel, _ in columns])
    values = np.concatenate([value for _, value in columns])
    ends = np.cumsum([0, *(voxel.size for voxel, _ in columns)])
    return sparse.csc_array((values, rows, ends), shape=(int(np.prod(shape)), len(columns)))


def _summed(at: npt.NDArray[np.integer], weight: Array, count: int) -> Array:
    return np.bincount(at, weight, minlength=count).astype(np.float64)


def _kernel(sd_voxels: float, voxels_average: bool) -> Array:
    """Weights of one axis: what a voxel shows of activity in the middle of its neighbours."""
    reach = int(np.ceil(TRUNCATE_SD * sd_voxels)) + 1
    at = np.arange(-reach, reach + 1)
    if voxels_average:
        weights = ndtr((at + 0.5) / sd_voxels) - ndtr((at - 0.5) / sd_voxels)
    else:
        weights = np.exp(-0.5 * (at / sd_voxels) ** 2)
    return np.asarray(weights / weights.sum(), np.float64)


def _reach(kernels: Sequence[Array]) -> npt.NDArray[np.int64]:
    return np.array([kernel.size // 2 for kernel in kernels])


def _blurred(image: F32, kernels: Sequence[Array]) -> F32:
    for axis, kernel in enumerate(kernels):
        image = ndimage.correlate1d(image, kernel, axis=axis, mode="reflect")
    return image
