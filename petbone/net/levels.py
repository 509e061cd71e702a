"""Numbers for the vertebrae and ribs of the coarse answer: instances first, then one count for them all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from petbone.anatomy import BONES, BY_ID, BY_NAME
from petbone.audit import LEVELS, Chain, ChainRule, Seen, hidden_after, number_column
from petbone.components import connected
from petbone.net.families import FAMILIES, RIB_LEFT, RIB_RIGHT, VERTEBRA, mean_chance, shares
from petbone.net.instances import Column, InstanceRule, Ribs, find_column, find_ribs, reveal
from petbone.net.stacking import number_by_order, second_ribs
from petbone.net.tally import Counted, Tally

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
U8 = npt.NDArray[np.uint8]

LEAST_LANDMARK_MM3 = 5000.0  # of skull or sacrum, before a vertebra is numbered by it

_SACRUM = BY_NAME["sacrum"].id
_SKULL = BY_NAME["skull"].id
_T1 = BY_NAME["T1"].id
_USUAL_NUMBER = {BY_NAME[f"T{n}"].id: n for n in range(1, 13)} | {
    BY_NAME[f"C{n}"].id: n - 7 for n in range(1, 8)
}
_USUAL = tuple(label for label in LEVELS if label and label not in (BY_NAME["T13"].id, BY_NAME["L6"].id))
_UPPER_NECK = tuple(BY_NAME[name].id for name in ("C1", "C2", "C3"))
_NECK = [BY_NAME[f"C{n}"].id - 1 for n in range(1, 8)]


@dataclass(frozen=True)
class LevelRule:
    """`edge_mm`: so near to the end of the field nobody can say whether a rib hangs there."""

    instances: InstanceRule = field(default_factory=InstanceRule)
    chain: ChainRule = field(default_factory=ChainRule)
    edge_mm: float = 16.0
    beside_mm: float = 60.0
    cut_mm: float = 8.0  # so near to a side of the field a rib may go on beyond
    # A vertebra nearer to the sacrum than the first is the last one, beyond the second it is not; in steps
    # between vertebrae of the loin, which are at least `loin_mm`.
    sacrum_steps: tuple[float, float] = (1.0, 1.5)
    loin_mm: float = 28.0
    # A vertebra whose middle is nearer to the skull than the first is C1 or C2, beyond the second neither.
    skull_mm: tuple[float, float] = (32.0, 60.0)
    far_mm: float = 65.0  # no voxel of a vertebra is so far from the middle line of the column,
    piece_mm: float = 38.0  # and no piece of one begins so far from it
    # A thoracic vertebra that reaches further to a side than the first holds a rib: what lies further than
    # the second. Transverse processes end 24 to 40 mm from the middle line.
    rib_mm: tuple[float, float] = (45.0, 30.0)
    rib_ml: float = 2.0  # less may be a transverse process: no evidence of a rib, nor that there is none
    rib_sure: float = 0.6  # that such a rib is the one of its vertebra
    above_sure: float = 0.8  # that a rib which seems to hang on the vertebra above the first does so
    # What lies beyond the first or last vertebra by so much of a step between two is of the next one, which
    # the field cuts; below the last only near the middle line: processes hang down behind.
    next_steps: float = 0.55
    next_aside_mm: float = 22.0
    next_ml: float = 1.0
    next_sure: float = 0.6  # that it is not of the outermost itself
    candidate: float = 0.05


def count_levels(
    index: Ints,
    chances: F32,
    family: U8,
    votes_mm: F32,
    shape: tuple[int, ...],
    step_mm: float,
    rule: LevelRule,
) -> Counted:
    """Number the vertebrae and ribs among the voxels `index` (n, 3) of a grid of `shape`.

    `chances` (n, 62) the net's; `family` (n,) as `families` gives it; `votes_mm` (n, 3) the way from each
    voxel to the middle of its vertebra.
    """
    points = index * step_mm
    spine = np.flatnonzero(family == VERTEBRA)
    weight = chances[spine][:, np.array(FAMILIES[VERTEBRA]) - 1].sum(1).astype(np.float64)
    neck = chances[spine][:, _NECK].sum(1) / np.maximum(weight, 1e-6)
    column = find_column(points[spine], points[spine] + votes_mm[spine], weight, neck, rule.instances)
    scene = _Voxels(index, chances, family, shape, step_mm)
    sides, chain = _decide(column, spine, scene, rule)
    hidden = hidden_after(chain)
    if hidden:
        column = reveal(column, points[spine], hidden, rule.instances)
        sides, chain = _decide(column, spine, scene, rule)
    given = family.copy()
    _name_vertebrae(given, spine, points, column, chain, chances)
    line = column.project(points[spine]) if len(column.along_mm) else (np.zeros(0), np.zeros((0, 3)))
    cut = _name_cut_ends(given, spine, line, column, chain, step_mm, rule)
    beside, beyond = _off_column(index[spine], points[spine], line, column, shape, rule)
    ids = np.array(FAMILIES[VERTEBRA])
    given[spine[beyond]] = ids[chances[spine[beyond]][:, ids - 1].argmax(1)]
    given[spine[beside]] = 0
    given[_below_neck(index, family, column, chain, shape, step_mm)] = 0
    merged = _part_ribs(given, spine, line, chain, rule)
    tally = Tally(rule.candidate)
    for k, level in enumerate(chain.levels):
        tally.note(level, chain.chances[k], LEVELS)
    for k, moved in cut.items():
        here = chain.chances[k]
        both = np.concatenate([rule.next_sure * here, (1 - rule.next_sure) * here])
        tally.note(_moved(chain.levels[k], moved), both, (*_all_moved(moved), *LEVELS))
    uncounted = spine[beyond] if chain.levels else spine
    for label in np.unique(given[uncounted]).tolist():
        own = uncounted[given[uncounted] == label]
        tally.note(label, shares(chances[own], VERTEBRA), FAMILIES[VERTEBRA])
    for one in sides:
        hangs = tuple(_rib_of(level, one.name) for level in LEVELS)
        for k in np.flatnonzero(one.ribs.seen).tolist():
            tally.note(_rib_of(chain.levels[k], one.name), chain.chances[k], hangs)
        if (one.ribs.owner == len(chain.levels)).any():
            above = tuple(_rib_of(_moved(level, -1), one.name) for level in LEVELS)
            first = _rib_of(_moved(chain.levels[0], -1), one.name)
            tally.note(first, chain.chances[0] * rule.above_sure, above)
        for k in merged[one.name] - set(np.flatnonzero(one.ribs.seen).tolist()):
            tally.note(_rib_of(chain.levels[k], one.name), rule.rib_sure * chain.chances[k], hangs)
        expected, known = _name_ribs(given, index, one, chain, column, step_mm, rule)
        _note_uncounted(tally, given, one, scene, expected, known)
    return tally.counted(given, mean_chance(given, chances))


@dataclass(frozen=True, eq=False)
class _Voxels:
    """What `count_levels` is given."""

    index: Ints
    chances: F32
    family: U8
    shape: tuple[int, ...]
    step_mm: float

    def bone(self, label: int) -> cKDTree | None:
        """Where a bone is, in mm; None where there is too little of it to believe in."""
        points = self.index[self.family == label] * self.step_mm
        return cKDTree(points) if len(points) * self.step_mm**3 > LEAST_LANDMARK_MM3 else None


def _decide(column: Column, spine: Ints, scene: _Voxels, rule: LevelRule) -> tuple[list[_Side], Chain]:
    """The ribs of both sides and the levels of a column."""
    levels = _level_chances(scene.chances[spine], column)
    sides = []
    for name, side in (("left", RIB_LEFT), ("right", RIB_RIGHT)):
        here = np.flatnonzero(scene.family == side)
        number = _rib_number(scene.chances[here], side)
        ribs = find_ribs(
            scene.index[here], number, column, _column_number(levels), scene.step_mm, rule.instances
        )
        sides.append(_Side(name, here, number, ribs))
    seen = _seen(column, levels, sides, scene, rule)
    return sides, number_column(seen, rule.chain)


@dataclass(frozen=True, eq=False)
class _Side:
    """Ribs of one side: `here` (n,) which voxels, `number` (n,) the rib that the net expects at each."""

    name: str
    here: Ints
    number: F64
    ribs: Ribs


def _level_chances(chances: F32, column: Column) -> F64:
    """(vertebrae, LEVELS) mean chance of every level over a vertebra's voxels."""
    out = np.zeros((len(column.along_mm), len(LEVELS)))
    known = [n for n, label in enumerate(LEVELS) if 0 < label <= chances.shape[1]]
    for k in range(len(out)):
        own = chances[column.owner == k]
        if len(own):
            out[k, known] = own[:, [LEVELS[n] - 1 for n in known]].mean(0)
    return np.asarray(out / np.maximum(out.sum(1, keepdims=True), 1e-9))


def _column_number(levels: F64) -> F64:
    """Number of the rib that the net expects on each vertebra; below 1 in the neck, above 12 in the loin."""
    usual = [n for n, label in enumerate(LEVELS) if 0 < label <= len(BONES)]
    number = np.zeros(len(LEVELS))
    number[usual] = np.arange(len(usual)) - [LEVELS[n] for n in usual].index(_T1) + 1
    return np.asarray(levels @ number)


def _rib_number(chances: F32, side: int) -> F64:
    own = chances[:, np.array(FAMILIES[side]) - 1].astype(float)
    return np.asarray((own * np.arange(1, 13)).sum(1) / np.maximum(own.sum(1), 1e-9))


def _seen(
    column: Column,
    levels: F64,
    sides: list[_Side],
    scene: _Voxels,
    rule: LevelRule,
) -> list[Seen]:
    """What is seen of every vertebra."""
    size = np.array(scene.shape) * scene.step_mm
    lowest = np.diff(column.along_mm)[-4:]
    pitch = max(rule.loin_mm, float(np.median(lowest)) if len(lowest) else 0.0)
    sacrum, skull = scene.bone(_SACRUM), scene.bone(_SKULL)
    out = []
    for k, middle in enumerate(column.middles_mm):
        inside = rule.edge_mm < middle[2] < size[2] - rule.edge_mm
        ribs: list[bool | None] = []
        for side, sign in zip(sides, (-1, 1), strict=True):
            across = middle[0] + sign * rule.beside_mm
            visible = inside and 0 < across < size[0]
            hangs = side.ribs.seen[k]
            small = hangs and (side.ribs.owner == k).sum() * scene.step_mm**3 < rule.rib_ml * 1000
            ribs.append(None if small else True if hangs else False if visible else None)
        below: bool | None = None
        if sacrum is not None:
            steps_away = float(sacrum.query(middle)[0]) / pitch
            near, far = rule.sacrum_steps
            below = True if steps_away < near else False if steps_away > far else None
        above: bool | None = None
        if skull is not None:
            away_mm = float(skull.query(middle)[0])
            above = True if away_mm < rule.skull_mm[0] else False if away_mm > rule.skull_mm[1] else None
        whole = float(column.votes[k]) if inside else None
        rib = _rib_size(k, sides, scene, rule)
        seen = Seen(levels[k], float(column.along_mm[k]), (ribs[0], ribs[1]), below, whole, above, rib)
        out.append(replace(seen, spread_mm=float(column.spread_mm[k]) or None))
    return out


def _rib_size(k: int, sides: list[_Side], scene: _Voxels, rule: LevelRule) -> float | None:
    """Mean number of voxels of the ribs on vertebra k that are not cut; None if there is none."""
    last = np.array(scene.shape) - 1
    sizes = []
    for side in sides:
        own = scene.index[side.here[side.ribs.owner == k]]
        if len(own) and (np.minimum(own, last - own) * scene.step_mm >= rule.cut_mm).all():
            sizes.append(len(own))
    return float(np.mean(sizes)) if sizes else None


def _name_vertebrae(given: U8, spine: Ints, points: F64, column: Column, chain: Chain, chances: F32) -> None:
    """Every vertebra voxel takes the level of its vertebra, or of the nearest voxel that has one."""
    owner = column.owner
    own = owner >= 0
    if not own.any():
        ids = np.array(FAMILIES[VERTEBRA])
        given[spine] = ids[chances[spine][:, ids - 1].argmax(1)]
        return
    _, near = cKDTree(points[spine[own]]).query(points[spine])
    level = np.array(chain.levels, np.uint8)[owner[own][near]]
    # What the count says is no vertebra belongs to what lies at that end of a column.
    end = np.where(owner[own][near] == 0, _SKULL, _SACRUM)
    given[spine] = np.where(level > 0, level, end)


def _moved(level: int, by: int) -> int:
    """The level so many below one in a usual column; 0 where there is none."""
    at = _USUAL.index(level) + by if level in _USUAL else -1
    return _USUAL[at] if 0 <= at < len(_USUAL) else 0


def _all_moved(by: int) -> tuple[int, ...]:
    return tuple(_moved(level, by) for level in LEVELS)


def _name_cut_ends(
    given: U8,
    spine: Ints,
    line: tuple[F64, F64],
    column: Column,
    chain: Chain,
    step_mm: float,
    rule: LevelRule,
) -> dict[int, int]:
    """Rename what of the vertebra beyond the first or last was taken for part of it.

    Returns which vertebra of the column (0 or the last) was parted from its neighbour, and by how many levels
    the neighbour lies below it (-1 or 1).
    """
    count = len(column.along_mm)
    if count < 2:
        return {}
    along, way = line
    aside = np.linalg.norm(way, axis=1)
    # Votes of the neighbour's draw the outermost middle outwards: it lies no further off than a usual step.
    steps = np.diff(column.along_mm)
    first, last = float(np.median(steps[:3])), float(np.median(steps[-3:]))
    top = max(column.along_mm[0], column.along_mm[1] - first)
    foot = min(column.along_mm[-1], column.along_mm[-2] + last)
    above = along < top - rule.next_steps * first
    below = (along > foot + rule.next_steps * last) & (aside < rule.next_aside_mm)
    found = {}
    for k, by, there in ((0, -1, above), (count - 1, 1, below)):
        own = spine[there & (given[spine] == chain.levels[k])]
        level = _moved(chain.levels[k], by)
        if level and len(own) * step_mm**3 / 1000 >= rule.next_ml:
            given[own] = level
            found[k] = by
    return found


def _below_neck(
    index: Ints, family: U8, column: Column, chain: Chain, shape: tuple[int, ...], step_mm: float
) -> Ints:
    """Which voxels are of pieces of skull that lie wholly below the first vertebra, if that is C4 or lower:
    veins full of contrast medium, as a rule."""
    skull = np.flatnonzero(family == _SKULL)
    if len(skull) == 0 or not chain.levels or chain.levels[0] in (0, *_UPPER_NECK):
        return skull[:0]
    box = np.zeros(shape, np.uint8)
    box[tuple(index[skull].T)] = 1
    piece = connected(box, 26)[tuple(index[skull].T)].astype(np.intp)
    top_mm = np.zeros(int(piece.max()) + 1)
    np.maximum.at(top_mm, piece, index[skull, 2] * step_mm)
    return np.asarray(skull[top_mm[piece] < column.middles_mm[0, 2]])


def _part_ribs(
    given: U8, spine: Ints, line: tuple[F64, F64], chain: Chain, rule: LevelRule
) -> dict[str, set[int]]:
    """Rename what of a thoracic vertebra is so far to a side that it is its rib; returns, by side, of which
    vertebrae there was any."""
    found: dict[str, set[int]] = {"left": set(), "right": set()}
    if not chain.levels:
        return found
    across = line[1][:, 0]
    for name, sign in (("left", -1), ("right", 1)):
        aside = sign * across
        for k, level in enumerate(chain.levels):
            rib = _rib_of(level, name)
            own = given[spine] == level
            if rib and own.any() and aside[own].max() > rule.rib_mm[0]:
                given[spine[own & (aside > rule.rib_mm[1])]] = rib
                found[name].add(k)
    return found


def _off_column(
    index: Ints,
    points: F64,
    line: tuple[F64, F64],
    column: Column,
    shape: tuple[int, ...],
    rule: LevelRule,
) -> tuple[Ints, Ints]:
    """Which voxels of vertebrae lie so far beside the column that they are none (a kidney, a bowel loop), and
    which so far beyond its ends that they are of vertebrae that were not counted."""
    if len(column.along_mm) == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    spine = np.zeros(shape, np.uint8)
    spine[tuple(index.T)] = 1
    piece = connected(spine, 26)[tuple(index.T)].astype(np.intp)

    def far(away: F64) -> npt.NDArray[np.bool_]:
        nearest = np.full(int(piece.max(initial=0)) + 1, np.inf)
        np.minimum.at(nearest, piece, away)
        return np.asarray((away > rule.far_mm) | (nearest[piece] > rule.piece_mm))

    beside = far(column.aside(points))
    away = far(np.linalg.norm(line[1], axis=1))
    return np.flatnonzero(beside), np.flatnonzero(away & ~beside)


def _rib_of(level: int, side: str) -> int:
    """The rib that hangs on a vertebra; 0 for none."""
    name = BY_ID[level].name if level else "-"
    return BY_NAME[f"rib_{side}_{name[1:]}"].id if name[0] == "T" else 0


def _name_ribs(
    given: U8, index: Ints, one: _Side, chain: Chain, column: Column, step_mm: float, rule: LevelRule
) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Ribs take the number of their vertebra.

    What hangs on none, and what the net numbers quite differently from its way to a vertebra (ribs that
    touch), goes by its order among the others, or else by the net's number, moved as the medial ends were.
    What lies above the lowest vertebra and would be a rib of one well below it is no bone: ribs go down from
    theirs. (What lies below it may hang on a vertebra that was not found.)

    Returns, of the voxels of the side, the number that was expected, and which have it from a vertebra.
    """
    here, number, ribs, side = one.here, one.number, one.ribs, one.name
    if len(here) == 0:
        return number, np.zeros(0, bool)
    first, last = BY_NAME[f"rib_{side}_1"].id, BY_NAME[f"rib_{side}_12"].id
    hangs = [
        _rib_of(level, side) for level in (*chain.levels, *(_moved(level, -1) for level in chain.levels[:1]))
    ]
    rib = np.array([0, *hangs])[ribs.owner + 1]
    value = np.where(rib > last, 13, rib - first + 1)
    on = np.array([hangs[int(k)] for k, _ in ribs.ends], float)
    ends = ribs.ends[on > 0, 1]
    moved = np.where(on > last, 13, on - first + 1)[on > 0] - ends
    expected = number
    if len(ends):
        order = np.argsort(ends)
        expected = number + np.interp(number, ends[order], moved[order])
    known = (rib > 0) & (np.abs(value - expected) <= 1.0)
    # Two ribs may hang on one vertebra, where the other's was not found.
    if known.any():
        away = np.linalg.norm(
            index[here] * step_mm - column.middles_mm[ribs.owner.clip(0, len(chain.levels) - 1)], axis=1
        )
        least = round(rule.rib_ml * 1000 / step_mm**3)
        known &= ~second_ribs(index[here], np.where(known, value, 0), away, least)
    guess = np.round(expected).clip(1, 12).astype(int)
    guess = number_by_order(index[here], np.where(known, value, 0), guess, step_mm)
    given[here] = np.where(known, rib, first - 1 + guess)
    counted = [k for k, level in enumerate(chain.levels) if level]
    if counted:
        lowest = _USUAL_NUMBER.get(chain.levels[counted[-1]], 13)
        above = index[here][:, 2] * step_mm > column.middles_mm[counted[-1], 2]
        given[here[~known & above & (guess > lowest + 2)]] = 0
    return expected, known


def _note_uncounted(
    tally: Tally, given: U8, one: _Side, scene: _Voxels, expected: F64, known: npt.NDArray[np.bool_]
) -> None:
    """Ribs that hang on no vertebra are as sure as the net is, and no surer than those that moved them; of
    several pieces with one number most are other ribs."""
    side = RIB_LEFT if one.name == "left" else RIB_RIGHT
    ids = FAMILIES[side]
    hung = [sure for label in ids if (sure := tally.sure(label)) is not None]
    certain = float(np.mean(hung)) if hung else 1.0
    for label in np.unique(given[one.here[~known]]).tolist():
        if not label or tally.sure(label) is not None:
            continue
        own = given[one.here] == label
        moved = round(float((expected - one.number)[own].mean()))
        labels = tuple(one_id + moved if ids[0] <= one_id + moved <= ids[-1] else 0 for one_id in ids)
        part = certain * _largest_share(scene.index[one.here[own]])
        tally.note(label, shares(scene.chances[one.here[own]], side) * part, labels)


def _largest_share(index: Ints) -> float:
    """Part of the voxels (n, 3) that the largest connected piece of them holds."""
    box = np.zeros(index.max(0) - index.min(0) + 1, np.uint8)
    box[tuple((index - index.min(0)).T)] = 1
    sizes = np.bincount(connected(box, 26).ravel())[1:]
    return float(sizes.max() / sizes.sum())
