"""One rigid motion for the whole body: how the CT has to be moved to lie on the PET.

A picture of the PET is predicted from the CT: bone, soft tissue, fat and gas take up an amount each, which is
fitted. Picture and PET are brought together on voxels of a centimetre, at three blurs one after the other, by
Gauss-Newton steps with the mean of both gradients (efficient second-order minimisation, Malis 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from petbone.tissues import F32, gradient, gradient_at, tissues
from petbone.volume import Box, Grid, Volume

Array = npt.NDArray[np.float64]

COARSE_MM = 12.0
REACH_MM, REACH_WITHOUT_CT_MM = 60.0, 40.0
"""How far from bone the two are compared."""
BLURS_MM = (40.0, 24.0, 14.0)
"""FWHM, one after the other: the wide ones catch motions of centimetres."""
HOT = 2.0
"""What is hotter than this multiple of bone (or of soft tissue, where that is hotter) is left out."""
PRIOR_MM, PRIOR_DEG = 4.0, 2.0
"""What is expected before anything is seen, as standard deviations: patients rarely move by a centimetre."""
LEAST_NOISE = 0.01
"""No picture of the PET is predicted better than to this part of its mean."""
STEPS = 12
POINTS = 15_000
"""Voxels that a step looks at, drawn evenly from those near the body."""


def rigid(parameters: Array, middle_mm: Array) -> Array:
    """(4, 4) motion by three lengths (mm) and a rotation vector (rad) about `middle_mm`."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(parameters[3:]).as_matrix()
    matrix[:3, 3] = middle_mm + parameters[:3] - matrix[:3, :3] @ middle_mm
    return matrix


def parameters(motion: Array, middle_mm: Array) -> Array:
    """The six numbers of which `rigid` makes `motion`."""
    moved = motion[:3, :3] @ middle_mm + motion[:3, 3]
    return np.concatenate([moved - middle_mm, Rotation.from_matrix(motion[:3, :3]).as_rotvec()])


def prior_precision() -> Array:
    """(6, 6) inverse covariance of the six numbers before anything is seen."""
    return np.diag([PRIOR_MM**-2] * 3 + [np.radians(PRIOR_DEG) ** -2] * 3)


def pose(pet: Volume, ct: Volume | None, bones: Volume) -> Array:
    """(4, 4) pet_mm_from_ct_mm, the identity where nothing of the bones is in the PET.

    `pet` in SUV; `bones` a label map on the grid of `ct`. Without a CT only what is near bone is compared.
    """
    grid, factor = coarse_grid(pet.grid, COARSE_MM)
    suv = _block_means(pet.data, factor)
    box = _reach(bones, grid, REACH_MM if ct is not None else REACH_WITHOUT_CT_MM)
    if box is None:
        return np.eye(4)
    grid, suv = grid.cropped(box), suv[box]
    found = tissues(ct, bones, grid, 2)
    if not (found.bone > 0.3).any():
        return np.eye(4)
    seen_parts = [part > 0.3 for part in (found.bone, found.soft) if (part > 0.3).any()]
    level = max(0.1, *(float(np.median(suv[part])) for part in seen_parts))
    # A bladder or a tumour is left out, and what its blur reaches is taken from beside it.
    cool = (suv <= HOT * level).astype(np.float32)
    maps = [found.bone, found.soft] if ct is None else [found.bone, found.soft, found.fat, found.gas]
    near = np.ones(grid.shape, bool)
    if ct is None:
        away_mm = ndimage.distance_transform_edt(found.bone < 0.1, sampling=grid.spacing_mm)
        near = away_mm <= REACH_WITHOUT_CT_MM
    middle = grid.mm(np.argwhere(found.bone > 0.2).mean(axis=0))
    motion = np.eye(4)
    for fwhm_mm in BLURS_MM:
        sigma = fwhm_mm / 2.355 / grid.spacing_mm
        seen = ndimage.gaussian_filter(found.shown, sigma, mode="constant")
        weight = np.maximum(ndimage.gaussian_filter(cool, sigma, mode="nearest"), 0.05)

        def blurred(image: F32, sigma: Array = sigma, weight: F32 = weight) -> F32:
            return np.asarray(ndimage.gaussian_filter(image * cool, sigma, mode="nearest") / weight)

        scale = _Scale(
            grid,
            fwhm_mm,
            blurred(suv),
            [blurred(one) for one in maps],
            np.flatnonzero((near & (seen > 0.95)).ravel()),
        )
        motion = _fitted(scale, motion, middle)
    return motion


def _reach(bones: Volume, grid: Grid, margin_mm: float) -> Box | None:
    """Box of `grid` that holds the bones and `margin_mm` around them; None where they do not meet."""
    # Two passes over a large map, without a mask of it: first lines along one axis, then what is left.
    lines = np.any(bones.data, axis=2)
    planes = [lines.any(axis=1), lines.any(axis=0), np.any(bones.data, axis=(0, 1))]
    used = [np.flatnonzero(plane) for plane in planes]
    if not all(one.size for one in used):
        return None
    ends = np.stack(np.meshgrid(*[(one[0], one[-1]) for one in used], indexing="ij"), axis=-1).reshape(8, 3)
    ijk = grid.ijk(bones.grid.mm(ends))
    margin = np.ceil(margin_mm / grid.spacing_mm)
    low = np.clip(np.floor(ijk.min(axis=0) - margin), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(ijk.max(axis=0) + margin) + 1, 0, grid.shape).astype(int)
    if (high - low < 2).any():
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def coarse_grid(grid: Grid, step_mm: float) -> tuple[Grid, tuple[int, int, int]]:
    """A grid of whole blocks of voxels about `step_mm` wide, and how many voxels a block has."""
    factor = np.clip(np.round(step_mm / grid.spacing_mm), 1, grid.shape).astype(int)
    matrix = grid.mm_from_ijk.copy()
    matrix[:3, 3] = grid.mm((factor - 1) / 2)
    matrix[:3, :3] *= factor
    shape = np.array(grid.shape) // factor
    blocks = (int(factor[0]), int(factor[1]), int(factor[2]))
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), matrix), blocks


def _block_means(data: npt.NDArray[np.floating], factor: tuple[int, int, int]) -> F32:
    """Means over whole blocks; voxels beyond the last whole block are left out."""
    shape = [n // f for n, f in zip(data.shape, factor, strict=True)]
    part = data[tuple(slice(0, n * f) for n, f in zip(shape, factor, strict=True))]
    blocks = part.reshape(shape[0], factor[0], shape[1], factor[1], shape[2], factor[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


@dataclass(frozen=True, eq=False)
class _Scale:
    """PET and tissues at one blur, and the voxels (flat indices) at which they are compared."""

    grid: Grid
    fwhm_mm: float
    picture: F32
    maps: list[F32]
    used: npt.NDArray[np.int64]


def _fitted(scale: _Scale, motion: Array, middle: Array) -> Array:
    """`motion` improved at one blur; as it was where too little is seen."""
    grid, used = scale.grid, scale.used
    if used.size < 500:
        return motion
    # Neighbours err together, organs more than noise: so many voxels make one independent observation.
    alike = max((4.0 * scale.fwhm_mm) ** 3 / (1000 * grid.voxel_ml), 1.0)
    if used.size > POINTS:
        alike = max(alike * POINTS / used.size, 1.0)
        used = used[np.random.default_rng(0).choice(used.size, POINTS, replace=False)]
    here = np.unravel_index(used, grid.shape)
    place = grid.mm(np.array(here).T)
    basis = np.stack([one[here] for one in scale.maps], axis=1).astype(np.float64)
    far = (place - place.mean(axis=0)) / place.std(axis=0).max()
    trend = np.concatenate([far, far**2, far * np.roll(far, 1, axis=1)], axis=1)
    # Soft tissue and fat are not uniform over a body.
    uneven = [trend * basis[:, [n]] for n in range(1, min(3, len(scale.maps)))]
    basis = np.concatenate([basis, *uneven], axis=1)
    ijk_from_mm = grid.ijk_from_mm
    per_mm = ijk_from_mm[:3, :3]
    slopes = [gradient_at(one, here) @ per_mm for one in scale.maps]
    images = [scale.picture, *np.moveaxis(gradient(scale.picture), -1, 0)]
    for _ in range(STEPS):
        to = (ijk_from_mm @ motion)[:3, :3] @ place.T + (ijk_from_mm @ motion)[:3, 3:]
        known = ((to > 0) & (to < np.array(grid.shape)[:, None] - 1)).all(axis=0)
        if known.sum() < 500:
            return motion
        value, *theirs = (ndimage.map_coordinates(image, to[:, known], order=1) for image in images)
        design = basis[known]
        plain = design.T @ design
        plain[np.diag_indices(len(plain))] += 1e-9 * np.trace(plain)
        amount = np.linalg.solve(plain, design.T @ value)
        rest = np.abs(value - design @ amount)
        spread = max(2 * 1.4826 * float(np.median(rest)), 1e-6)
        weight = np.minimum(1.0, spread / np.maximum(rest, 1e-9))
        slope = sum(a * s[known] for a, s in zip(amount, slopes, strict=False))
        slope = (slope + np.stack(theirs, axis=1) @ per_mm @ motion[:3, :3]) / 2
        # Moved by a further d, the PET is met at x + d(x), d(x) = t + w x (x - middle).
        turning = np.cross(place[known] - middle, slope)
        full = np.concatenate([design, -slope, -turning], axis=1)
        normal = full.T @ (full * weight[:, None])
        side = (full * weight[:, None]).T @ value
        least = (LEAST_NOISE * float(np.abs(value).mean())) ** 2 + 1e-12
        noise = alike * max(float((weight * rest**2).sum() / weight.sum()), least)
        normal, side = normal / noise, side / noise
        normal[np.diag_indices(len(normal))] *= 1 + 1e-6
        normal[-6:, -6:] += prior_precision()
        side[-6:] -= prior_precision() @ parameters(motion, middle)
        step = np.linalg.solve(normal, side)[-6:]
        motion = motion @ rigid(step, middle)
        if np.abs(step[:3]).max() < 0.02 and np.abs(step[3:]).max() < 1e-4:
            break
    return motion
