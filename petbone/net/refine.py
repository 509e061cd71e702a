"""The fine net's answer round the bones of a CT, tile by tile, for `border.draw_border`.

Where the coarse net allows bone, the fine one says how likely it is, of what kind, and where the middle of
its vertebra lies. A voxel takes the coarse name of its kind that is nearest; one of a vertebra that of the
vertebra to whose middle it points.

Terms: the *fine grid* has steps of the fine net's spacing along the CT's canonical axes; it spans the box in
which the coarse answer allows bone. A tile has a core, for which it is asked, and margins, which it only sees
(`tiling.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from petbone.components import label_boxes
from petbone.net.border import FINE_STEPS, NOT_BONE, FineGuide, Guide
from petbone.net.fine import FineNet, told_channels
from petbone.net.kinds import KINDS, VERTEBRA_KIND, kind_of_label
from petbone.net.tiling import Box, Places, Tile, TileRule, tiles_round
from petbone.net.unet import CENTRE_UNIT_MM
from petbone.thinned import AIR_HU, F32
from petbone.volume import Grid

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
LEAST_VOTES = 50  # voxels that move the middle of a vertebra


@dataclass(frozen=True)
class RefineRule:
    """`hat` is the half width of the look-up of HU, in voxels of the fine grid. Voxels with a lower `logit`
    keep their coarse name; others look for one of their kind within `reach_mm`, and for the middle of a
    vertebra within `vote_reach_mm`.
    """

    tile: TileRule = field(default_factory=TileRule)
    hat: float = 0.8
    logit: float = -2.0
    reach_mm: float = 12.0
    vote_reach_mm: float = 25.0
    rounds: int = 2


@dataclass(frozen=True)
class _Axis:
    """Fine index to CT voxel along one axis: `ct = low + index * step`, both in CT voxels."""

    low: float
    step: float
    count: int

    def ct(self, index: npt.NDArray[np.number]) -> F64:
        return np.asarray(self.low + index * self.step)


def fine_axes(guide: Guide, spacing_mm: F64, step_mm: float) -> list[_Axis] | None:
    """The fine grid over the box where the coarse answer allows bone; None where it does not at all."""
    near = guide.labels > 0
    axes = []
    for axis in range(3):
        seen = np.flatnonzero(near.any(tuple(a for a in range(3) if a != axis)))
        if len(seen) == 0:
            return None
        # Half a voxel more on both sides: a voxel of the CT takes the nearest of the guide's.
        ends = (np.array([seen[0] - 0.6, seen[-1] + 0.6]) - guide.offset[axis]) / guide.scale[axis]
        step = step_mm / float(spacing_mm[axis])
        axes.append(_Axis(float(ends[0]), step, int(np.ceil((ends[1] - ends[0]) / step)) + 1))
    return axes


def tiles(guide: Guide, axes: list[_Axis], rule: TileRule) -> list[Tile]:
    """Tiles of the fine grid whose cores together hold all that may be bone."""
    places = []
    for n, axis in enumerate(axes):
        where = guide.scale[n] * axis.ct(np.arange(axis.count)) + guide.offset[n]
        along = np.arange(guide.labels.shape[n])
        # A little more than half a voxel: a voxel of the CT takes the nearest of the guide's, and reads the
        # fine grid on both of its sides.
        first, last = np.searchsorted(where, along - 0.61), np.searchsorted(where, along + 0.61, "right")
        places.append(Places(first, last))
    return tiles_round(guide.labels > 0, places, rule)


def look_up(view: npt.NDArray[np.generic], where: list[F64], half_width: F64) -> F32:
    """HU at the places where[0] x where[1] x where[2] (CT voxels): means weighted by hats of `half_width` CT
    voxels, at least 1, which is a linear look-up; past the CT its border goes on."""
    box, weights = [], []
    for axis, places in enumerate(where):
        size = view.shape[axis]
        inside = places.clip(0, size - 1)
        half = max(1.0, float(half_width[axis]))
        low = max(0, int(np.floor(inside.min() - half)))
        high = min(size, int(np.ceil(inside.max() + half)) + 1)
        weight = 1 - np.abs(inside[:, None] - np.arange(low, high)[None]) / half
        weight = weight.clip(0, None)
        weights.append((weight / weight.sum(1, keepdims=True)).astype(np.float32))
        box.append(slice(low, high))
    part = np.ascontiguousarray(view[tuple(box)], np.float32)
    part = np.nan_to_num(part, copy=False, nan=AIR_HU).clip(-1024, 3071)
    # By torch, which keeps to the threads that it is given: numpy's own get in each other's way.
    first, second, third = (torch.from_numpy(weight) for weight in weights)
    values = second @ (torch.from_numpy(part) @ third.T)
    values = (first @ values.flatten(1)).reshape(len(first), *values.shape[1:])
    return np.asarray(values.numpy())


@dataclass(frozen=True, eq=False)
class _Said:
    """What the fine net says of the voxels of a tile that may be bone: `index` (n, 3) of the fine grid,
    `kind` (n,), and `middle_mm` (n, 3) that they point to, along the CT's axes."""

    index: npt.NDArray[np.int16]
    kind: U8
    middle_mm: F32


def refine(
    view: npt.NDArray[np.generic],
    grid: Grid,
    guide: Guide,
    model: FineNet,
    device: torch.device,
    rule: RefineRule,
    progress: Callable[[float], None] | None = None,
    workers: int = 1,
) -> FineGuide | None:
    """Ask the fine net wherever the coarse answer allows bone; None where it does not at all.

    `view` is the CT along the canonical axes of `grid`. Beside the answer (two bytes per voxel of the fine
    grid, about a hundred for those that may be bone) each of the `workers`, which are threads, holds two
    tiles. How many they are changes nothing in the answer.
    """
    spacing_mm = np.asarray(grid.spacing_mm)
    axes = fine_axes(guide, spacing_mm, model.config.input_mm)
    if axes is None:
        return None
    logit = np.full([a.count for a in axes], NOT_BONE, np.int8)
    said = []
    asked = _Asked(view, guide, model, device, rule, axes, spacing_mm, _middles_mm(guide, spacing_mm))
    cut = tiles(guide, axes, replace(rule.tile, multiple=model.config.multiple))
    with ThreadPoolExecutor(workers) as pool:
        # Taken in order: where cores overlap, the later one counts.
        for done, (tile, (bone, found)) in enumerate(zip(cut, pool.map(asked.tell, cut), strict=True), 1):
            logit[tile.core] = bone
            said.append(found)
            if progress is not None:
                progress(done / len(cut))
    labels = _named(said, guide, axes, spacing_mm, rule)
    steps = np.array([a.step for a in axes])
    return FineGuide(logit, labels, 1 / steps, -np.array([a.low for a in axes]) / steps)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A CT and the net that is asked about its tiles."""

    view: npt.NDArray[np.generic]
    guide: Guide
    model: FineNet
    device: torch.device
    rule: RefineRule
    axes: list[_Axis]
    spacing_mm: F64
    middle_mm: F32

    @torch.inference_mode()
    def tell(self, tile: Tile) -> tuple[npt.NDArray[np.int8], _Said]:
        """The logit in the core of a tile, and what is said of its bone."""
        features = self.model.features(*(part[None].to(self.device) for part in self._shown(tile.shown)))
        corner = [core.start - shown.start for core, shown in zip(tile.core, tile.shown, strict=True)]
        inner = tuple(slice(c, c + s.stop - s.start) for c, s in zip(corner, tile.core, strict=True))
        bone = self.model.bone_logit(features)[0, 0][inner].float()
        may = torch.nonzero(bone > self.rule.logit)
        which, way = self.model.which_at(features, 0, may + torch.tensor(corner, device=self.device))
        kind = (which.argmax(1) + 1).to(torch.uint8).cpu().numpy()
        way_mm = way.float().cpu().numpy() * CENTRE_UNIT_MM
        here = np.add(may.cpu().numpy(), [s.start for s in tile.core])
        middle_mm = (_mm(here, self.axes, self.spacing_mm) + way_mm).astype(np.float32)
        steps = (bone * FINE_STEPS).round().clamp(-127, 127).to(torch.int8).cpu().numpy()
        return steps, _Said(here.astype(np.int16), kind, middle_mm)

    def _shown(self, box: Box) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """HU, coarse logit and coarse names of what a tile is shown."""
        guide = self.guide
        index = [np.arange(s.start, s.stop) for s in box]
        where = [a.ct(i) for a, i in zip(self.axes, index, strict=True)]
        in_guide = [guide.scale[a] * where[a] + guide.offset[a] for a in range(3)]
        coarse = look_up(guide.logit, in_guide, np.ones(3))
        step_mm, kinds = self.model.config.input_mm, self.model.config.kinds
        hu = look_up(self.view, where, self.rule.hat * step_mm / self.spacing_mm)
        told = _told(index, self.axes, guide, self.spacing_mm, self.middle_mm, kinds)
        hu_tensor, coarse_tensor = (
            torch.from_numpy(np.ascontiguousarray(v, np.float32))[None] for v in (hu, coarse)
        )
        return hu_tensor, coarse_tensor, told


def _middles_mm(guide: Guide, spacing_mm: F64) -> F32:
    """Middles (256, 3) of the coarse vertebrae, mm along the CT's axes; NaN for all other labels."""
    middle_mm = np.full((256, 3), np.nan, np.float32)
    kinds = kind_of_label()
    for label, box in label_boxes(guide.labels).items():
        if kinds[label] == VERTEBRA_KIND:
            inside = np.argwhere(guide.labels[box] == label)
            index = (inside + [s.start for s in box]).mean(0)
            middle_mm[label] = (index - guide.offset) / guide.scale * spacing_mm
    return middle_mm


def _told(
    index: list[npt.NDArray[np.intp]],
    axes: list[_Axis],
    guide: Guide,
    spacing_mm: F64,
    middle_mm: F32,
    kinds: int,
) -> torch.Tensor:
    """The coarse names of a tile as the fine net is told them, on every second of its voxels."""
    ct = [a.ct(i[::2] + 0.5) for a, i in zip(axes, index, strict=True)]
    near = [
        (guide.scale[n] * c + guide.offset[n]).round().astype(np.intp).clip(0, guide.labels.shape[n] - 1)
        for n, c in enumerate(ct)
    ]
    label = guide.labels[np.ix_(*near)]
    here_mm = np.stack(np.meshgrid(*[c * s for c, s in zip(ct, spacing_mm, strict=True)], indexing="ij"))
    way_mm = (np.moveaxis(middle_mm[label], -1, 0) - here_mm).astype(np.float32)
    return told_channels(torch.from_numpy(label), torch.from_numpy(way_mm / CENTRE_UNIT_MM), kinds)


def _mm(index: npt.NDArray[np.integer], axes: list[_Axis], spacing_mm: F64) -> F64:
    """Places (n, 3) of voxels of the fine grid, mm along the CT's axes from the middle of its first voxel."""
    return np.stack([a.ct(index[:, n]) * spacing_mm[n] for n, a in enumerate(axes)], 1)


def _named(said: list[_Said], guide: Guide, axes: list[_Axis], spacing_mm: F64, rule: RefineRule) -> U8:
    """A name for every voxel of the fine grid that may be bone, 0 elsewhere."""
    labels = np.zeros([a.count for a in axes], np.uint8)
    index = np.concatenate([s.index for s in said])
    kind = np.concatenate([s.kind for s in said])
    here_mm = _mm(index, axes, spacing_mm)
    in_guide = np.round(here_mm / spacing_mm * guide.scale + guide.offset).astype(np.intp)
    name = guide.labels[tuple(in_guide.clip(0, np.array(guide.labels.shape) - 1).T)]
    kinds = kind_of_label()
    coarse_index = np.argwhere(guide.labels > 0)
    coarse_label = guide.labels[tuple(coarse_index.T)]
    coarse_mm = ((coarse_index - guide.offset) / guide.scale * spacing_mm).astype(np.float32)
    for number in range(1, len(KINDS) + 1):
        other = np.flatnonzero((kind == number) & (kinds[name] != number) & (name > 0))
        there = np.flatnonzero(kinds[coarse_label] == number)
        if len(other) and len(there):
            tree = cKDTree(coarse_mm[there])
            distance, nearest = tree.query(here_mm[other], distance_upper_bound=rule.reach_mm)
            near = np.isfinite(distance)
            name[other[near]] = coarse_label[there[nearest[near]]]
    vertebra = np.flatnonzero((kind == VERTEBRA_KIND) & (kinds[name] == VERTEBRA_KIND))
    votes_mm = np.concatenate([s.middle_mm for s in said])[vertebra]
    spine = np.unique(coarse_label[kinds[coarse_label] == VERTEBRA_KIND])
    if len(vertebra) and len(spine):
        middles = _middles_mm(guide, spacing_mm)[spine]
        # The coarse middles are as good as the coarse names; the votes themselves know better.
        for step in range(rule.rounds + 1):
            distance, nearest = cKDTree(middles).query(votes_mm)
            near = distance < rule.vote_reach_mm
            if step < rule.rounds:
                for n in range(len(spine)):
                    own = near & (nearest == n)
                    if np.count_nonzero(own) >= LEAST_VOTES:
                        middles[n] = np.median(votes_mm[own], axis=0)
        name[vertebra[near]] = spine[nearest[near]]
    labels[tuple(index.T)] = name
    return labels
