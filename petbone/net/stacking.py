"""Ribs by their order: the one above rib 8 is rib 7.

For pieces of ribs of which nothing else is known: the chest's side is cut off at the back, the rib has a
gap, or two ribs touch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.components import connected

Ints = npt.NDArray[np.integer[Any]]

REACH_MM = 48.0
LEAST_VOTES = 3
LEAST_GAP = 2  # voxels


def number_by_order(index: Ints, number: Ints, guess: Ints, step_mm: float) -> Ints:
    """Numbers for the voxels `index` (n, 3) of the ribs of one side, z to the head.

    `number` (n,) is 0 where it is not known; `guess` (n,) parts what is not known into pieces of one number,
    and is the answer for those that have no numbered rib above or below them within `REACH_MM`.
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
    pieces = connected(unknown, 26).astype(np.int32)
    stack[pieces > 0] = -pieces[pieces > 0]
    reach = round(REACH_MM / step_mm)
    boxes = ndimage.find_objects(pieces)
    left = dict.fromkeys(range(1, len(boxes) + 1))
    while left:
        votes = {piece: _votes(stack, piece, boxes[piece - 1], reach) for piece in left}
        # The piece with most numbered neighbours first: what it gets may then help the others.
        piece = max(left, key=lambda one: int(votes[one].max(initial=0)))
        tally = votes[piece]
        if tally.sum() < LEAST_VOTES:
            break
        stack[stack == -piece] = int(tally.argmax())
        del left[piece]
    found = stack[at]
    return np.where(found > 0, found, guess)


def _votes(stack: npt.NDArray[np.int16], piece: int, box: tuple[slice, ...], reach: int) -> Ints:
    """How often each number, 0 to 13, follows from the ribs right above and below a piece."""
    x, y, z = (at + part.start for at, part in zip(np.nonzero(stack[box] == -piece), box, strict=True))
    tally = np.zeros(14, np.int64)
    for sign in (1, -1):
        free = np.ones(len(x), bool)
        gap = np.zeros(len(x), np.int64)
        for step in range(1, reach + 1):
            there = z + sign * step
            free &= (there >= 0) & (there < stack.shape[2])
            value = np.zeros(len(x), np.int64)
            value[free] = stack[x[free], y[free], there[free]]
            hit = free & (value != 0) & (value != -piece)
            seen = hit & (value > 0)
            # Between two ribs there is a gap; without one it is the rest of the same rib.
            numbers = value[seen] + np.where(gap[seen] >= LEAST_GAP, sign, 0)
            np.add.at(tally, numbers[(numbers >= 1) & (numbers <= 12)], 1)
            free &= ~hit
            gap = np.where(value == 0, gap + 1, 0)
    return tally
