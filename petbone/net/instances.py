"""Single vertebrae and ribs in the coarse answer, whatever their numbers.

Every voxel of a vertebra votes for its middle (the net's `centre`); votes gather where a vertebra is, so one
vertebra is told from the next without knowing either's level. A rib is what can be reached along bone from
its own medial end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

F64 = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class InstanceRule:
    """Lengths in mm."""

    cell_mm: float = 2.0
    blur_mm: tuple[float, float] = (2.5, 4.5)  # of votes, in the neck and below it
    peak_radius_mm: tuple[float, float] = (5.0, 8.0)
    vote_reach_mm: float = 16.0
    least_votes: float = 12.0  # voxels of the coarse grid
    least_share: float = 0.25  # of the votes of the neighbours, below which a heap is no vertebra
    least_step_mm: float = 5.0
    aside_mm: float = 6.0
    aside_slope: float = 0.9
    break_mm: float = 110.0
    medial_mm: float = 48.0
    medial_least_ml: float = 0.5
    jump_mm: float = 18.0
    jump_cost: float = 3.0
    jump_number: float = 0.5  # no jump between voxels that the net numbers more differently than this
    number_cost: float = 6.0
    # By how much the medial end of a rib lies above its vertebra's middle, as a part of the step between two
    # vertebrae: ribs 8 to 12 slope down more and more.
    head_ribs: tuple[float, ...] = (8, 9, 10, 11, 12)
    head_offsets: tuple[float, ...] = (0.42, 0.35, 0.2, 0.0, -0.2)
    head_spread: float = 0.3
    number_spread: float = 1.4
    unmatched: float = 3.0
    shared: float = 1.0  # a vertebra that has two ends of one side
    # Of ends that hang on a vertebra above the first; they are cut by the field, so their place says less.
    above: float = 0.5
    above_spread: float = 0.6


@dataclass(frozen=True, eq=False)
class Column:
    """Vertebrae from head to foot.

    `middles_mm` (n, 3) along the axes of the coarse grid; `along_mm` (n,) arc length from the first; `owner`
    (voxels,) the vertebra of each voxel, -1 for none; `votes` (n,) voxels each; `spread_mm` (n,) standard
    deviation of their votes along the column, 0 where it is not known.
    """

    middles_mm: F64
    along_mm: F64
    owner: Ints
    votes: F64
    spread_mm: F64

    def project(self, points_mm: F64) -> tuple[F64, F64]:
        """Arc length of the nearest point of the column's middle line, and the way from there (n, 3)."""
        line, along = _line(self.middles_mm, self.along_mm)
        _, at = cKDTree(line).query(points_mm)
        return along[at], points_mm - line[at]

    def aside(self, points_mm: F64) -> F64:
        """Distance (n,) from the middle line, which goes straight on beyond both of its ends."""
        line, _ = _line(self.middles_mm, self.along_mm)
        _, at = cKDTree(line).query(points_mm)
        way = points_mm - line[at]
        for end, inner in ((0, 1), (len(line) - 1, len(line) - 2)):
            out = (line[end] - line[inner]) / max(float(np.linalg.norm(line[end] - line[inner])), 1e-6)
            here = at == end
            way[here] -= np.maximum(way[here] @ out, 0)[:, None] * out
        return np.asarray(np.linalg.norm(way, axis=1))


def _line(middles_mm: F64, along_mm: F64) -> tuple[F64, F64]:
    """The middle line every 2 mm, smoothed, drawn out by a vertebra's height at both ends."""
    if len(along_mm) == 1:
        along = np.arange(-30.0, 31.0, 2.0)
        return middles_mm[0] - along[:, None] * np.array([0.0, 0.0, 1.0]), along
    dense = np.arange(along_mm[0], along_mm[-1] + 1, 2.0)
    line = np.stack([np.interp(dense, along_mm, middles_mm[:, axis]) for axis in range(3)], 1)
    line = ndimage.gaussian_filter1d(line, 10.0, axis=0, mode="nearest")
    # Smoothing draws the ends inwards by 16 mm; their arc lengths must go with them.
    dense = ndimage.gaussian_filter1d(dense, 10.0, mode="nearest")
    k = min(len(line) - 1, 15)
    up = (line[0] - line[k]) / max(float(np.linalg.norm(line[0] - line[k])), 1e-6)
    down = (line[-1] - line[-1 - k]) / max(float(np.linalg.norm(line[-1] - line[-1 - k])), 1e-6)
    out = np.arange(2.0, 41.0, 2.0)
    line = np.concatenate([line[0] + out[::-1, None] * up, line, line[-1] + out[:, None] * down])
    along = np.concatenate([dense[0] - out[::-1], dense, dense[-1] + out])
    return line, along


def find_column(points_mm: F64, votes_mm: F64, weights: F64, neck: F64, rule: InstanceRule) -> Column:
    """Gather the votes of vertebra voxels (n, 3) into vertebrae.

    `neck` (n,) is each voxel's chance of being cervical: vertebrae there are half as high, and close.
    """
    none = np.full(len(points_mm), -1, np.intp)
    empty = Column(np.zeros((0, 3)), np.zeros(0), none, np.zeros(0), np.zeros(0))
    if len(points_mm) == 0:
        return empty
    peaks = _peaks(votes_mm, weights, neck, rule)
    if len(peaks) == 0:
        return empty
    distance, owner = cKDTree(peaks).query(votes_mm)
    owner = np.where(distance <= rule.vote_reach_mm, owner, -1)
    votes = np.zeros(len(peaks))
    np.add.at(votes, owner[owner >= 0], weights[owner >= 0])
    keep = np.flatnonzero(votes >= rule.least_votes)
    if len(keep) == 0:
        return empty
    middles = np.array([np.average(votes_mm[owner == k], axis=0, weights=weights[owner == k]) for k in keep])
    order = _path(middles, votes[keep], rule)
    keep, middles = keep[order], middles[order]
    number = np.full(len(peaks) + 1, -1, np.intp)
    number[keep] = np.arange(len(keep))
    steps = np.linalg.norm(np.diff(middles, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    column = Column(middles, along, number[owner], votes[keep], np.zeros(len(keep)))
    at_mm, _ = column.project(votes_mm)
    spread = [float(np.std(at_mm[column.owner == k])) for k in range(len(keep))]
    return replace(column, spread_mm=np.array(spread))


def _path(middles_mm: F64, votes: F64, rule: InstanceRule) -> Ints:
    """The vertebrae from head to foot: of all ways down from heap to heap the one with most votes.

    A kidney or a bowel loop that passes for a vertebra lies beside the way; so does what is left of a
    vertebra whose votes did not meet.
    """
    order = np.argsort(-middles_mm[:, 2])
    at = middles_mm[order]
    best = votes[order].astype(float)
    before = np.full(len(order), -1)
    for k in range(1, len(order)):
        down = at[:k, 2] - at[k, 2]
        aside = np.linalg.norm(at[:k, :2] - at[k, :2], axis=1)
        straight = aside <= rule.aside_mm + rule.aside_slope * down
        ok = (down >= rule.least_step_mm) & (down <= rule.break_mm) & straight
        if ok.any():
            before[k] = np.where(ok, best[:k], -1).argmax()
            best[k] += best[before[k]]
    way = [int(best.argmax())]
    while before[way[-1]] >= 0:
        way.append(int(before[way[-1]]))
    way.reverse()
    # Few votes are few beside those of the neighbours: a neck's vertebra is a fifth of a loin's.
    heap = votes[order][way]
    near = [np.median(heap[max(0, k - 2) : k + 3]) for k in range(len(heap))]
    return np.asarray(order[np.array(way)[heap >= rule.least_share * np.array(near)]])


def reveal(column: Column, points_mm: F64, after: dict[int, int], rule: InstanceRule) -> Column:
    """The column with `after[k]` more vertebrae between vertebra k and the next, evenly spaced.

    Where the votes of two vertebrae met in one heap, the count says that one is missing. Voxels of the two
    beside it, and those between them whose votes met nowhere, take the nearest of them along the column.
    Without bone enough for a vertebra between them nothing is added: that is a gap.
    """
    middles, owner, votes, spread = column.middles_mm, column.owner.copy(), column.votes, column.spread_mm
    along, _ = column.project(points_mm)
    for k in sorted(after, reverse=True):  # from the foot, so that numbers above stay as they are
        parts = np.arange(after[k] + 2) / (after[k] + 1)
        between = middles[k] + parts[:, None] * (middles[k + 1] - middles[k])
        steps = column.along_mm[k] + parts * (column.along_mm[k + 1] - column.along_mm[k])
        lost = (owner < 0) & (along > column.along_mm[k]) & (along < column.along_mm[k + 1])
        here = np.flatnonzero((owner == k) | (owner == k + 1) | lost)
        nearest = np.abs(along[here, None] - steps).argmin(1)
        counts = np.bincount(nearest, minlength=len(parts)).astype(float)
        if counts.min() < 2 * rule.least_share * np.median(votes):
            continue
        for _ in range(5):  # the heap of two lies between them: let all move to the middle of their voxels
            steps = np.bincount(nearest, along[here], len(parts)) / counts
            nearest = np.abs(along[here, None] - steps).argmin(1)
            counts = np.bincount(nearest, minlength=len(parts)).astype(float).clip(1)
        sums = [np.bincount(nearest, points_mm[here, axis], len(parts)) for axis in range(3)]
        between = np.stack(sums, 1) / counts[:, None]
        owner[owner > k + 1] += after[k]
        owner[here] = k + nearest
        middles = np.concatenate([middles[:k], between, middles[k + 2 :]])
        spread = np.concatenate([spread[:k], np.zeros(len(between)), spread[k + 2 :]])
        votes = np.concatenate([votes[:k], counts, votes[k + 2 :]])
    steps_mm = np.linalg.norm(np.diff(middles, axis=0), axis=1)
    return Column(middles, np.concatenate([[0.0], np.cumsum(steps_mm)]), owner, votes, spread)


def _peaks(votes_mm: F64, weights: F64, neck: F64, rule: InstanceRule) -> F64:
    """Where votes gather, (peaks, 3): heaped on a fine grid, blurred by the size of the vertebrae there."""
    low = votes_mm.min(0) - 10 * rule.cell_mm
    cell = np.round((votes_mm - low) / rule.cell_mm).astype(np.intp)
    shape = cell.max(0) + 11
    heap, cervical = np.zeros(shape), np.zeros(shape)
    np.add.at(heap, tuple(cell.T), weights)
    np.add.at(cervical, tuple(cell.T), weights * neck)
    wide = max(rule.blur_mm) / rule.cell_mm
    in_neck = ndimage.gaussian_filter(cervical, wide) > 0.5 * ndimage.gaussian_filter(heap, wide)
    top = np.zeros(shape, bool)
    for blur, radius, here in zip(rule.blur_mm, rule.peak_radius_mm, (in_neck, ~in_neck), strict=True):
        smooth = ndimage.gaussian_filter(heap, blur / rule.cell_mm)
        size = 2 * round(radius / rule.cell_mm) + 1
        top |= here & (smooth == ndimage.maximum_filter(smooth, size)) & (smooth > 1e-3 * smooth.max())
    return np.asarray(np.argwhere(top) * rule.cell_mm + low)


@dataclass(frozen=True, eq=False)
class Ribs:
    """Ribs of one side.

    `owner` (voxels,) the vertebra on which a voxel's rib hangs, -1 for none; of n vertebrae, n means the one
    above the first, which is not seen. `seen` (vertebrae,) whether a rib hangs on each; `ends` (medial ends,
    2) the vertebra of each end and the number that the net expects.
    """

    owner: Ints
    seen: npt.NDArray[np.bool_]
    ends: F64


def find_ribs(
    index: Ints, number: F64, column: Column, column_number: F64, step_mm: float, rule: InstanceRule
) -> Ribs:
    """Follow the ribs of one side from their medial ends.

    `index` (n, 3): voxels of ribs of that side; `number` (n,): the rib number that the net expects at each,
    `column_number` (vertebrae,): the same for vertebrae, T1 being 1.
    """
    count = len(column.along_mm)
    nothing = Ribs(np.full(len(index), -1, np.intp), np.zeros(count, bool), np.zeros((0, 2)))
    if len(index) == 0 or count == 0:
        return nothing
    points = index * step_mm
    along, way = column.project(points)
    medial = np.flatnonzero(np.linalg.norm(way, axis=1) < rule.medial_mm)
    if len(medial) == 0:
        return nothing
    graph = _graph(index, number, step_mm, rule)
    _, part = csgraph.connected_components(_graph(index[medial], number[medial], step_mm, rule, jump=False))
    sizes = np.bincount(part) * step_mm**3 / 1000
    parts = [medial[part == k] for k in np.flatnonzero(sizes >= rule.medial_least_ml)]
    if not parts:
        return nothing
    at = np.array([along[p].mean() for p in parts])
    numbers = np.array([number[p].mean() for p in parts])
    order = np.argsort(at)
    hangs = _match(at[order], numbers[order], column, column_number, rule)
    source = np.full(len(index), -1, np.intp)
    for k, on in zip(order, hangs, strict=True):
        if on >= 0:
            source[parts[k]] = on
    seeds = np.flatnonzero(source >= 0)
    if len(seeds) == 0:
        return nothing
    distance, _, nearest = csgraph.dijkstra(
        graph, directed=False, indices=seeds, min_only=True, return_predecessors=True
    )
    reached = np.isfinite(distance)
    owner = np.full(len(index), -1, np.intp)
    owner[reached] = source[nearest[reached]]
    ends = np.array([(on, n) for on, n in zip(hangs, numbers[order], strict=True) if on >= 0], float)
    seen = np.zeros(count + 1, bool)
    seen[ends[:, 0].astype(int)] = True
    return Ribs(owner, seen[:count], ends)


def _match(at_mm: F64, numbers: F64, column: Column, column_number: F64, rule: InstanceRule) -> list[int]:
    """The vertebra of each medial end, from head to foot, as in `Ribs.owner`; order is kept."""
    steps = np.diff(column.along_mm)
    count = len(column.along_mm)
    pitch = np.array([np.median(steps[max(0, k - 3) : k + 3]) if len(steps) else 25.0 for k in range(count)])
    # One more vertebra above the first: the end of a rib lies above the middle of its vertebra, so at the top
    # of a field it may be seen where the vertebra is not. At the bottom it is the other way round.
    pitch = np.concatenate([pitch[:1], pitch])
    along = np.concatenate([[column.along_mm[0] - pitch[0]], column.along_mm])
    says = np.concatenate([[column_number[0] - 1], column_number])
    spread = np.full(count + 1, rule.head_spread)
    spread[0] = rule.above_spread
    offset = np.interp(numbers, rule.head_ribs, rule.head_offsets)
    place = (along[None] - at_mm[:, None]) / pitch[None] - offset[:, None]
    differ = numbers[:, None] - says[None]
    cost = (place / spread) ** 2 / 2 + (differ / rule.number_spread).clip(-3, 3) ** 2 / 2
    cost[:, 0] += rule.above
    n, m = cost.shape
    # best[k, j]: the least cost of the first k ends, with vertebrae up to j used.
    best = np.zeros((n + 1, m + 1))
    choice = np.zeros((n + 1, m + 1), int)  # 0 skip the vertebra, 1 skip the end, 2 match and go on, 3 match
    best[1:, 0] = np.arange(1, n + 1) * rule.unmatched
    choice[1:, 0] = 1
    for k in range(1, n + 1):
        for j in range(1, m + 1):
            options = (
                best[k, j - 1],
                best[k - 1, j] + rule.unmatched,
                best[k - 1, j - 1] + cost[k - 1, j - 1],
                best[k - 1, j] + cost[k - 1, j - 1] + rule.shared,
            )
            choice[k, j] = int(np.argmin(options))
            best[k, j] = options[choice[k, j]]
    out = [-1] * n
    k, j = n, m
    while k > 0:
        move = choice[k, j]
        if move == 0:
            j -= 1
            continue
        k -= 1
        if move >= 2:
            out[k] = j - 1
        if move == 2:
            j -= 1
    return [{-1: -1, 0: count}.get(k, k - 1) for k in out]


def _graph(
    index: Ints, number: F64, step_mm: float, rule: InstanceRule, jump: bool = True
) -> sparse.csr_matrix:
    """Neighbouring voxels, joined by their distance and by how differently the net numbers them.

    With `jump` also voxels of different pieces with a gap between them, at a price.
    """
    tree = cKDTree(index)
    pairs = tree.query_pairs(1.8, output_type="ndarray")
    n = len(index)
    near = sparse.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (n, n))
    price = np.ones(len(pairs))
    if jump:
        _, piece = csgraph.connected_components(near, directed=False)
        far = tree.query_pairs(rule.jump_mm / step_mm, output_type="ndarray")
        far = far[piece[far[:, 0]] != piece[far[:, 1]]]
        far = far[np.abs(number[far[:, 0]] - number[far[:, 1]]) < rule.jump_number]
        pairs = np.concatenate([pairs, far])
        price = np.concatenate([price, np.full(len(far), rule.jump_cost)])
    distance = np.linalg.norm((index[pairs[:, 0]] - index[pairs[:, 1]]) * step_mm, axis=1)
    differ = np.abs(number[pairs[:, 0]] - number[pairs[:, 1]])
    cost = distance * price * (1 + rule.number_cost * differ)
    return sparse.csr_matrix((cost, (pairs[:, 0], pairs[:, 1])), (n, n))
