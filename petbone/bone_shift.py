"""How far the PET lies from the CT at every single bone, and how sure that is.

Every bone is looked at with what surrounds it. The PET there is predicted as a sum: the bone, its neighbours
with the uptake of each, soft tissue with a slope of its uptake, fat and gas, all blurred. Where the
prediction has to be moved to fit the PET is the *shift*: the place at which the tracer of a point of the CT
is found, less that point; RAS mm. What is far hotter than bone (foci, a bladder, a liver) is left out with
what its blur reaches. Residuals are not independent, so the covariance is that of a jackknife over cubes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import stdtrit

from petbone.resample import Occupancy
from petbone.shift import Shift
from petbone.tissues import F32, Tissues, gradient_at
from petbone.volume import Box, Volume

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NEAR_MM = 16.0
"""What surrounds a bone and is compared with it."""
PSF_MM = 8.0
"""FWHM of the prediction. A wrong one makes the fit worse; it displaces nothing."""
HOT = 2.0
"""Voxels above this multiple of the bone's usual uptake are left out."""
HOT_REACH_MM = 16.0
"""And those as near to them as this: a tumour's rim is no edge of a bone."""
BLOCK_MM = 24.0
"""Edge of the cubes whose residuals count as independent of each other's."""
STEPS = 10
COOL_STEPS = (0, 2, 4)
"""What is hot is looked for anew in these steps; later the bone lies where it lies."""
WANDERING_MM = 2.0
"""A search whose last step is longer has found nothing."""
SHOWN = 0.5
"""Voxels of whose surroundings less is known are left out."""
LEAST_VOXELS = 60
POINTS = 6000
"""Voxels that a fit looks at, drawn evenly from those near the bone."""
LEAST_SLOPE = 2e-3
"""Change of the prediction per mm, in parts of bone's usual uptake, below which there is nothing to see."""
LEAST_BLOCKS = 3


@dataclass(frozen=True, eq=False)
class _Window:
    """A bone on the PET's grid: how much of each voxel it fills, blurred; what is near; what is mostly it."""

    box: Box
    own: F32
    near: Mask
    mostly: Mask
    place_mm: Array


def wanted_tissues(occupied: Occupancy) -> Mask:
    """Voxels of the PET of which `bone_shifts` asks what they hold."""
    bone = np.zeros(occupied.grid.shape, bool)
    bone.reshape(-1)[occupied.voxel] = True
    reach = np.ceil((NEAR_MM + 1.3 * PSF_MM) / occupied.grid.spacing_mm).astype(int)
    for axis, n in enumerate(reach):
        bone = ndimage.maximum_filter1d(bone, 2 * int(n) + 1, axis=axis)
    return bone


def bone_shifts(pet: Volume, occupied: Occupancy, around: Tissues, motion: Array) -> dict[int, Shift]:
    """The shift at every bone, by label; bones that tell too little are missing.

    `motion` (4, 4) pet_mm_from_ct_mm is where the search starts, to within some 4 mm; `around` the tissues on
    the grid of the PET. Raises ValueError when the grids of `pet`, `occupied` and `around` differ.
    """
    grid = pet.grid
    if not (grid.same_as(occupied.grid) and grid.same_as(around.grid)):
        raise ValueError("PET, occupancy and tissues must lie on one grid")
    labels = [int(label) for label in np.unique(occupied.label)]
    windows = {label: _window(label, occupied) for label in labels}
    sigma = PSF_MM / 2.355 / grid.spacing_mm
    soft = [_blurred(one, sigma) for one in (around.soft, around.fat, around.gas)]
    skeleton = np.zeros(grid.shape, np.float32)
    for window in windows.values():
        skeleton[window.box] += window.own
    # At the rim of the CT, which is no edge of anything, what is known stands for what is not.
    known = skeleton + sum(soft)
    shown = known > SHOWN
    whole = np.where(shown, 1 / np.maximum(known, SHOWN), 0).astype(np.float32)
    soft = [one * whole for one in soft]
    skeleton *= whole
    windows = {label: replace(w, own=w.own * whole[w.box]) for label, w in windows.items()}
    usual = _usual_uptake(pet, occupied, motion)

    # First what each bone takes up, so that it is seen as it is where it is another's neighbour.
    def fit_of(label: int, bones: F32, own: np.float32) -> _Fit | None:
        window = windows[label]
        maps = [window.own, bones[window.box] - own * window.own, *(one[window.box] for one in soft)]
        return _Fit.of(pet, window, maps, shown[window.box], motion, usual)

    def uptake_of(label: int) -> np.float32:
        fit = fit_of(label, skeleton, np.float32(1))
        return np.float32(usual if fit is None else fit.uptake())

    uptake = {label: uptake_of(label) for label in labels}
    hot_skeleton = np.zeros(grid.shape, np.float32)
    for label, window in windows.items():
        hot_skeleton[window.box] += uptake[label] * window.own
    found = {}
    for label in labels:
        fit = fit_of(label, hot_skeleton, uptake[label])
        shift = None if fit is None else fit.shift()
        if shift is not None:
            found[label] = shift
    return found


def _window(label: int, occupied: Occupancy) -> _Window:
    grid = occupied.grid
    entries = occupied.of(label)
    fraction = occupied.fraction[entries]
    ijk = np.array(np.unravel_index(occupied.voxel[entries], grid.shape))
    sigma = PSF_MM / 2.355 / grid.spacing_mm
    margin = np.ceil(NEAR_MM / grid.spacing_mm + 3 * sigma).astype(int)
    low = np.maximum(ijk.min(axis=1) - margin, 0)
    high = np.minimum(ijk.max(axis=1) + margin + 1, grid.shape)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    own = np.zeros(high - low, np.float32)
    own[tuple(ijk - low[:, None])] = fraction
    near = ndimage.distance_transform_edt(own < 0.1, sampling=grid.spacing_mm) <= NEAR_MM
    mostly = own >= min(0.5, 0.75 * float(own.max()))
    place = grid.mm(np.average(ijk, axis=1, weights=fraction))
    return _Window(box, ndimage.gaussian_filter(own, sigma, mode="constant"), near, mostly, place)


def _blurred(image: F32, sigma: Array) -> F32:
    """Blurred in the box that holds something, 0 elsewhere."""
    found = np.zeros_like(image)
    used = [np.flatnonzero(image.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if all(one.size for one in used):
        box = tuple(slice(one[0], one[-1] + 1) for one in used)
        found[box] = ndimage.gaussian_filter(image[box], sigma, mode="constant")
    return found


def _usual_uptake(pet: Volume, occupied: Occupancy, motion: Array) -> float:
    """Median SUV of voxels mostly of bone, with the PET where `motion` says."""
    voxel, fraction = occupied.total()
    inside = voxel[fraction >= min(0.5, float(fraction.max(initial=0.5)))]
    place = pet.grid.mm(np.array(np.unravel_index(inside, pet.grid.shape)).T)
    value, known = _sampled(pet, place @ motion[:3, :3].T + motion[:3, 3])
    return float(np.median(value[known])) if known.any() else 0.0


def _sampled(pet: Volume, mm: Array) -> tuple[Array, Mask]:
    """The PET at places (n, 3), and which of them lie in it."""
    ijk = pet.grid.ijk(mm)
    known = np.all((ijk >= 0) & (ijk <= np.array(pet.grid.shape) - 1), axis=1)
    return ndimage.map_coordinates(pet.data, ijk.T, np.float64, order=1, mode="nearest"), known


@dataclass(frozen=True, eq=False)
class _Fit:
    """One bone and its surroundings, point by point: what the PET is predicted from."""

    pet: Volume
    window: _Window
    usual: float
    motion: Array
    everywhere: tuple[npt.NDArray[np.int64], ...]  # indices in the window's box
    everywhere_mm: Array  # (m, 3) places of them in the CT
    drawn: npt.NDArray[np.int64]  # which of them the fit looks at
    mm: Array  # (n, 3) places in the CT of those that were drawn
    design: Array  # (n, k) parts; the bone itself comes first
    maps: tuple[F32, ...]  # of the first parts, in the window's box

    @classmethod
    def of(
        cls, pet: Volume, window: _Window, maps: list[F32], shown: Mask, motion: Array, usual: float
    ) -> _Fit | None:
        """None where too little is to be seen. `maps`: bone, other bones, soft tissue, fat, gas."""
        grid = pet.grid
        every = np.argwhere(window.near & shown)
        if len(every) < LEAST_VOXELS:
            return None
        drawn = np.arange(len(every))
        if len(every) > POINTS:
            drawn = np.sort(np.random.default_rng(0).choice(len(every), POINTS, replace=False))
        every_mm = grid.mm(every + np.array([s.start for s in window.box]))
        here = tuple(every[drawn].T)
        parts = [one[here].astype(np.float64) for one in maps]
        kept = [n for n, part in enumerate(parts) if n == 0 or part.max() > 1e-3]
        mm = every_mm[drawn]
        # Soft tissue and fat are not uniform, and a slope of them is no edge.
        away = (mm - window.place_mm) / NEAR_MM
        trend = [away * parts[n][:, None] for n in kept if n in (2, 3)]
        design = np.concatenate([np.stack([parts[n] for n in kept], axis=1), *trend], axis=1)
        kept_maps = tuple(maps[n] for n in kept)
        return cls(pet, window, usual, motion, tuple(every.T), every_mm, drawn, mm, design, kept_maps)

    @property
    def here(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Indices, in the window's box, of the points that the fit looks at."""
        return tuple(at[self.drawn] for at in self.everywhere)

    def seen_at(self, shift: Array) -> tuple[Array, Mask]:
        """PET at the points moved by `shift` (in the CT's frame), and which of them lie in it."""
        return _sampled(self.pet, (self.mm + shift) @ self.motion[:3, :3].T + self.motion[:3, 3])

    def cool(self, shift: Array) -> Mask:
        """Points that are neither hot, with the PET moved by `shift`, nor near to what is."""
        moved = (self.everywhere_mm + shift) @ self.motion[:3, :3].T + self.motion[:3, 3]
        value, known = _sampled(self.pet, moved)
        mostly = self.window.mostly[self.everywhere] & known
        level = max(self.usual, float(np.median(value[mostly])) if mostly.any() else 0.0)
        if known.any():  # bone colder than muscle: muscle is not hot, but a liver all around is
            level = max(level, min(float(np.median(value[known])), 1.5 * level))
        hot = np.zeros(self.window.near.shape, bool)
        hot[self.everywhere] = value > HOT * level
        if hot.any():
            reach = int(np.ceil(HOT_REACH_MM / self.pet.grid.spacing_mm.mean()))
            hot = ndimage.binary_dilation(hot, iterations=reach)
        return np.asarray(~hot[self.here])

    def amounts(self, value: Array, weight: Array) -> tuple[Array, Array]:
        """Uptake of each part, and Huber's weights by what is left (times those that are 0)."""
        weighted = self.design * weight[:, None]
        amount = _solved(self.design.T @ weighted, weighted.T @ value)
        rest = np.abs(value - self.design @ amount)
        spread = max(2.5 * 1.4826 * float(np.median(rest[weight > 0])), 1e-6)
        return amount, np.where(weight > 0, np.minimum(1.0, spread / np.maximum(rest, 1e-9)), 0.0)

    def uptake(self) -> float:
        """What the bone takes up, freed of blur, where the PET is now; not below 0."""
        value, known = self.seen_at(np.zeros(3))
        known &= self.cool(np.zeros(3))
        if known.sum() < LEAST_VOXELS:
            return self.usual
        _, weight = self.amounts(value, known.astype(float))
        amount, _ = self.amounts(value, weight)
        return max(float(amount[0]), 0.0)

    def shift(self) -> Shift | None:
        """Gauss-Newton to the shift at which the prediction fits; None where too little is left to see."""
        per_mm = np.linalg.inv(self.pet.grid.mm_from_ijk[:3, :3])
        slopes = [gradient_at(one, self.here) @ per_mm for one in self.maps]
        moved = np.zeros(3)
        weight = np.ones(len(self.mm))
        for count in range(STEPS):
            value, known = self.seen_at(moved)
            if count in COOL_STEPS:
                cool = self.cool(moved)
            known &= cool
            if known.sum() < LEAST_VOXELS:
                return None
            amount, weight = self.amounts(value, np.where(known, np.maximum(weight, 1e-3), 0.0))
            slope = sum(a * s for a, s in zip(amount, slopes, strict=False))
            full = np.concatenate([self.design, -slope], axis=1)
            scale = np.sqrt((full**2).mean(axis=0)).clip(1e-9)
            if scale[-3:].max() <= max(LEAST_SLOPE * self.usual, 1e-8):
                return None
            full /= scale
            weighted = full * weight[:, None]
            step = _solved(full.T @ weighted, weighted.T @ value)[-3:] / scale[-3:]
            length = float(np.linalg.norm(step))
            step *= min(1.0, 4.0 / max(length, 1e-9)) * (0.5 if count > STEPS / 2 else 1.0)
            moved = moved + step
            if length < 0.03:
                break
        if length > WANDERING_MM:
            return None
        # The cubes' places are chance: of two layers of them the less sure one counts.
        layers = [_jackknife(list(self._blocks(full, value, weight, start))) for start in (0.0, 0.5)]
        sure = [one for one in layers if one is not None]
        if not sure:
            return None
        covariance = max(sure, key=np.trace)
        covariance = covariance / np.outer(scale[-3:], scale[-3:]) + np.outer(step, step)
        turn, far = self.motion[:3, :3], self.motion[:3, 3]
        place = self.window.place_mm
        rest = value - full @ _solved(full.T @ weighted, weighted.T @ value)
        misfit = float(np.sqrt((weight * rest**2).sum() / weight.sum())) / max(self.usual, 1e-9)
        return Shift(place, turn @ (place + moved) + far - place, turn @ covariance @ turn.T, misfit)

    def _blocks(
        self, full: Array, value: Array, weight: Array, start: float
    ) -> Iterator[tuple[Array, Array]]:
        """Normal matrix and right-hand side of each cube that holds points which count.

        `start` moves the cubes by a part of their edge.
        """
        cube = np.floor((self.mm - self.mm.min(axis=0)) / BLOCK_MM + start).astype(int)
        number = np.ravel_multi_index(tuple(cube.T), tuple(cube.max(axis=0) + 1))
        counts = np.flatnonzero(weight)
        order = counts[np.argsort(number[counts], kind="stable")]
        full, value, weighted = full[order], value[order], full[order] * weight[order, None]
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        for first, after in zip(starts, [*starts[1:], order.size], strict=True):
            part = weighted[first:after].T
            yield part @ full[first:after], part @ value[first:after]


def _solved(normal: Array, side: Array) -> Array:
    """Answer of normal equations; a part that nothing shows stays where it is."""
    return np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(len(normal)), side)


def _jackknife(blocks: list[tuple[Array, Array]]) -> Array | None:
    """(3, 3) covariance of the last three unknowns, by leaving out one block after the other.

    It is widened to Student's t with as many degrees of freedom as there are blocks that carry the answer,
    less one. None where there are too few of them.
    """
    if len(blocks) < LEAST_BLOCKS:
        return None
    normals, sides = (np.array(one) for one in zip(*blocks, strict=True))
    normal, side = normals.sum(axis=0), sides.sum(axis=0)
    normal = normal + 1e-9 * np.trace(normal) * np.eye(len(normal))
    without = np.linalg.solve(normal - normals, (side - sides)[..., None])[:, -3:, 0]
    away = without - np.linalg.solve(normal, side)[-3:]
    n = len(blocks)
    # Few of them may carry it all (Satterthwaite).
    share = (away**2).sum(axis=1)
    carried = float(share.sum() ** 2 / max(float((share**2).sum()), 1e-30))
    wider = float(stdtrit(max(carried - 1, 1.0), 0.975)) / 1.96
    return np.asarray((n - 1) / n * away.T @ away * wider**2)
