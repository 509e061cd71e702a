"""Ribs by their order: the one above rib 8 is rib 7.

For pieces of ribs of which nothing else is known: the chest's side is cut off at the back, the rib has a
gap, or two ribs touch.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.components import connected

F64 = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

REACH_MM = 48.0
BESIDE_MM = 16.0
LEAST_VOTES = 3
LEAST_GAP = 1  # voxels
LEAST_GAP_BESIDE = 2
ONE_RIB = 0.1  # of the columns of one rib, fewer than this cross it twice


def number_by_order(index: Ints, number: Ints, guess: Ints, step_mm: float) -> Ints:
    """Numbers for the voxels `index` (n, 3) of the ribs of one side, z to the head.

    `number` (n,) is 0 where it is not known. What is not known and hangs together is one rib, unless parts of
    it lie above each other: then `guess` (n,) parts it. The guess, or its mean over one rib, is the answer
    for what has no numbered rib above or below within `REACH_MM`.
    """
    out = np.array(number)
    open_ = np.flatnonzero(out == 0)
    if len(open_) == 0:
        return out
    low = index.min(0)
    shape = tuple(int(n) for n in index.max(0) - low + 1)
    at = tuple((index - low).T)
    stack = np.zeros(shape, np.int16)
    stack[at] = out
    unknown = np.zeros(shape, np.uint8)
    unknown[tuple(a[open_] for a in at)] = guess[open_]
    unknown = _whole_ribs(unknown)
    guess = np.where(out == 0, unknown[at], guess)
    pieces = connected(unknown, 26).astype(np.int32)
    stack[pieces > 0] = -pieces[pieces > 0]
    reach = round(REACH_MM / step_mm)
    boxes = ndimage.find_objects(pieces)
    left = set(range(1, len(boxes) + 1))
    far = round(BESIDE_MM / step_mm)
    # A chest grows wider downwards: the next rib may lie just beside what is right above or below.
    aside = [(a, b) for a in range(-far, far + 1) for b in range(-far, far + 1) if (a, b) != (0, 0)]
    straight_votes: dict[int, Ints] = {}
    aside_votes: dict[int, Ints] = {}
    while left:
        for beside, votes in (([(0, 0)], straight_votes), (aside, aside_votes)):
            for piece in left - votes.keys():
                votes[piece] = _votes(stack, piece, boxes[piece - 1], reach, beside)
            # The piece with most numbered neighbours first: what it gets may then help the others.
            piece = max(sorted(left), key=lambda one: int(votes[one].max(initial=0)))
            tally = votes[piece]
            if tally.sum() >= LEAST_VOTES:
                break
        else:
            break
        stack[stack == -piece] = int(tally.argmax())
        left.remove(piece)
        for other in left:
            if _in_reach(boxes[piece - 1], boxes[other - 1], far, reach):
                straight_votes.pop(other, None)
                aside_votes.pop(other, None)
    found = stack[at]
    return np.where(found > 0, found, guess)


def second_ribs(index: Ints, number: Ints, away: F64, least: int) -> npt.NDArray[np.bool_]:
    """Which of the voxels `index` (n, 3) are of a second rib under one `number` (n,; 0 is none): pieces of
    `least` voxels and more that lie above or below another, which comes nearer to its vertebra. `away` (n,):
    how far each voxel is from that."""
    second = np.zeros(len(index), bool)
    for own in (np.flatnonzero(number == one) for one in np.unique(number[number > 0])):
        at = index[own] - index[own].min(0)
        box = np.zeros(at.max(0) + 1, np.uint8)
        box[tuple(at.T)] = 1
        piece = connected(box, 26)[tuple(at.T)].astype(np.intp)
        size = np.bincount(piece)
        large = [n for n in np.flatnonzero(size >= least).tolist() if n]
        if len(large) < 2:
            continue
        best = min(large, key=lambda n: float(away[own[piece == n]].min()))
        columns = np.zeros(box.shape[:2], bool)
        columns[tuple(at[piece == best, :2].T)] = True
        for n in large:
            part = piece == n
            if n != best and columns[tuple(at[part, :2].T)].mean() > ONE_RIB:
                second[own[part]] = True
    return second


def _in_reach(one: tuple[slice, ...], other: tuple[slice, ...], far: int, reach: int) -> bool:
    """Whether two boxes are not further apart than `far` voxels sideways and `reach` up and down."""
    return all(
        a.start <= b.stop + most and b.start <= a.stop + most
        for a, b, most in zip(one, other, (far, far, reach), strict=True)
    )


def _whole_ribs(guess: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`guess` (X, Y, Z) with one number, the mean, in each piece that is a single rib; 0 is no rib."""
    out = guess.copy()
    pieces = connected((guess > 0).astype(np.uint8), 26)
    for n, box in enumerate(ndimage.find_objects(pieces.astype(np.int32)), start=1):
        here = pieces[box] == n
        column = np.concatenate([np.zeros((*here.shape[:2], 1), bool), here], axis=2)
        runs = (~column[..., :-1] & column[..., 1:]).sum(2)
        if np.count_nonzero(runs > 1) < ONE_RIB * np.count_nonzero(runs):
            out[box][here] = round(float(guess[box][here].mean()))
    return out


def _votes(
    stack: npt.NDArray[np.int16],
    piece: int,
    box: tuple[slice, ...],
    reach: int,
    beside: list[tuple[int, int]],
) -> Ints:
    """How often each number, 0 to 13, follows from the ribs above and below a piece, straight (0, 0) or so
    many voxels `beside` it."""
    own = [at + part.start for at, part in zip(np.nonzero(stack[box] == -piece), box, strict=True)]
    tally = np.zeros(14, np.int64)
    for (aside_x, aside_y), sign in itertools.product(beside, (1, -1)):
        x, y, z = own[0] + aside_x, own[1] + aside_y, own[2]
        free = (x >= 0) & (x < stack.shape[0]) & (y >= 0) & (y < stack.shape[1])
        gap = np.zeros(len(x), np.int64)
        for step in range(1, reach + 1):
            there = z + sign * step
            free &= (there >= 0) & (there < stack.shape[2])
            value = np.zeros(len(x), np.int64)
            value[free] = stack[x[free], y[free], there[free]]
            hit = free & (value != 0) & (value != -piece)
            # Beside it, what is hardly above or below may be the rest of the same rib: that says nothing.
            seen = hit & (value > 0) & ((aside_x == aside_y == 0) | (gap >= LEAST_GAP_BESIDE))
            # Between two ribs there is a gap; without one it is the rest of the same rib.
            numbers = value[seen] + np.where(gap[seen] >= LEAST_GAP, sign, 0)
            np.add.at(tally, numbers[(numbers >= 1) & (numbers <= 12)], 1)
            free &= ~hit
            gap = np.where(value == 0, gap + 1, 0)
    return tally
