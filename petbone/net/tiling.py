"""Boxes round scattered voxels, for a net that is asked of boxes.

A rib cage is a thin shell: one box round all of it is nearly empty. A box is cut in two, each drawn tight
round what it holds, wherever its parts together cost less than it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.errors import InputError

Box = tuple[slice, slice, slice]
Mask = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TileRule:
    """Tiles in voxels of the net's grid: `core` is the most along an axis that one answers for, `margin` what
    it sees beyond at least, `least` the smallest that the net is shown. `price` is what a tile costs beside
    its voxels, in voxels."""

    core: int = 96
    margin: int = 4
    least: int = 40
    price: int = 40_000
    multiple: int = 8

    def __post_init__(self) -> None:
        if min(self.core, self.least, self.multiple) < 1 or min(self.margin, self.price) < 0:
            raise InputError(
                f"tiles of core {self.core}, margin {self.margin}, least {self.least}, price {self.price}, "
                f"multiple {self.multiple}; expected core, least and multiple of at least 1, and no negative "
                "margin or price"
            )

    def shown(self, size: I64) -> I64:
        """What the net is shown of a core of `size`, margins included."""
        whole = np.maximum(size + 2 * self.margin, self.least)
        return np.asarray(-(-whole // self.multiple) * self.multiple)


@dataclass(frozen=True)
class Tile:
    """`core`, for which the net answers, and the larger box that it is `shown`, which may pass the grid."""

    core: Box
    shown: Box


@dataclass(frozen=True, eq=False)
class Places:
    """Where the voxels of a mask lie on the net's grid, along one axis: mask voxel i takes
    first[i] .. last[i] - 1."""

    first: I64
    last: I64


def tiles_round(mask: Mask, places: list[Places], rule: TileRule) -> list[Tile]:
    """Tiles whose cores together hold all of `mask`, in the order of z, y, x of their cores' corners."""
    whole = (slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    tight = _tight(mask, whole)
    if tight is None:
        return []
    cores = [_on_net_grid(box, places) for box in _cut(mask, tight, places, rule)[1]]
    cores.sort(key=lambda core: (core[2].start, core[1].start, core[0].start))
    return [Tile(core, _shown(core, rule)) for core in cores]


def _on_net_grid(box: Box, places: list[Places]) -> Box:
    x, y, z = (
        slice(int(p.first[s.start]), int(p.last[s.stop - 1])) for s, p in zip(box, places, strict=True)
    )
    return x, y, z


def _shown(core: Box, rule: TileRule) -> Box:
    """What is more than the margins lies evenly on both sides."""
    sizes = rule.shown(np.array([s.stop - s.start for s in core]))
    starts = [s.start - (int(n) - (s.stop - s.start)) // 2 for s, n in zip(core, sizes, strict=True)]
    x, y, z = (slice(start, start + int(n)) for start, n in zip(starts, sizes, strict=True))
    return x, y, z


def _tight(mask: Mask, box: Box) -> Box | None:
    """The box round what `box` holds; None where that is nothing."""
    part, found = mask[box], []
    for axis in range(3):
        seen = np.flatnonzero(part.any(tuple(a for a in range(3) if a != axis)))
        if len(seen) == 0:
            return None
        found.append(slice(box[axis].start + int(seen[0]), box[axis].start + int(seen[-1]) + 1))
    return found[0], found[1], found[2]


def _cost(low: I64, high: I64, places: list[Places], rule: TileRule) -> I64:
    """Of boxes from `low` (n, 3) up to but not with `high`, in voxels that the net is shown."""
    size = np.stack([p.last[high[:, a] - 1] - p.first[low[:, a]] for a, p in enumerate(places)], 1)
    return np.asarray(rule.shown(size).prod(1) + rule.price)


def _cut(mask: Mask, box: Box, places: list[Places], rule: TileRule) -> tuple[int, list[Box]]:
    """What `box` costs, and the boxes to take in its place: it, or those that its parts come to."""
    low, high = np.array([[s.start for s in box]]), np.array([[s.stop for s in box]])
    own = int(_cost(low, high, places, rule)[0])
    fits = all(s.stop - s.start <= rule.core for s in _on_net_grid(box, places))
    if fits and own <= 2 * (rule.least**3 + rule.price):
        return own, [box]
    parts = _cheapest_cut(mask, box, places, rule)
    if parts is None:
        return own, [box]
    # To the end, even if this cut alone does not pay: the next ones may.
    found = [_cut(mask, part, places, rule) for part in parts]
    cost = sum(f[0] for f in found)
    if fits and own <= cost:
        return own, [box]
    return cost, [piece for f in found for piece in f[1]]


def _cheapest_cut(mask: Mask, box: Box, places: list[Places], rule: TileRule) -> tuple[Box, Box] | None:
    """Both sides, drawn tight, of the cut across an axis that costs least; None where nothing can be cut."""
    part = mask[box]
    start = np.array([s.start for s in box])
    found = []
    for axis in range(3):
        if part.shape[axis] < 2:
            continue
        low, high = _extents(part, axis)
        before = np.minimum.accumulate(low)[:-1] + start, np.maximum.accumulate(high)[:-1] + start
        back = np.minimum.accumulate(low[::-1])[::-1], np.maximum.accumulate(high[::-1])[::-1]
        after = back[0][1:] + start, back[1][1:] + start
        cost = _cost(*before, places, rule) + _cost(*after, places, rule)
        n = int(cost.argmin())
        found.append((int(cost[n]), (_box(before[0][n], before[1][n]), _box(after[0][n], after[1][n]))))
    return min(found, key=lambda f: f[0])[1] if found else None


def _box(low: I64, high: I64) -> Box:
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _extents(part: Mask, axis: int) -> tuple[I64, I64]:
    """Of each slice across `axis`, where what it holds begins and ends, (n, 3); an empty one begins past the
    end."""
    low, high = np.empty((part.shape[axis], 3), np.int64), np.empty((part.shape[axis], 3), np.int64)
    filled = part.any(tuple(a for a in range(3) if a != axis))
    here = np.arange(part.shape[axis])
    low[:, axis], high[:, axis] = here, here + 1
    for other in range(3):
        if other != axis:
            seen = np.asarray(part.any(3 - axis - other))
            seen = seen if axis < other else seen.T
            low[:, other] = seen.argmax(1)
            high[:, other] = seen.shape[1] - seen[:, ::-1].argmax(1)
    low[~filled], high[~filled] = max(part.shape), 0
    return low, high
