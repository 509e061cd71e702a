"""Signs that the labels of two maps of one scan do not mean the same: mirrored, a level off, another scan.

All is told from how many voxels every label of the one shares with every label of the other. Nothing is
changed here, and a sign is no proof: a segmentation that is merely bad can give one, too.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from petbone.anatomy import BY_ID, BY_NAME, family
from petbone.metrics import overlaps
from petbone.volume import Volume

Counts = npt.NDArray[np.int64]

LEAST_SHARE = 0.1
"""Of a bone's voxels that must lie on another level, before its name is doubted."""
POOR = 0.3
"""Below this Dice of bone or not the map is tried as its mirror image, which must do better than this."""
SYMMETRIC = 0.7
"""Where the mirror image explains this part of what other names explain, either may be the reason."""
_LISTED = 4
_LEFT = tuple(n for n, bone in BY_ID.items() if bone.side == "left")
_TWIN = {n: BY_NAME[BY_ID[n].name.replace("left", "right")].id for n in _LEFT}
_SERIES = ("vertebra", "left rib", "right rib")


def doubts(reference: Volume, predicted: Volume, asked: Collection[int]) -> list[str]:
    """What to warn of in two label maps (uint8) on one grid; names off by a level for `asked` alone."""
    counts = overlaps(reference.data, predicted.data)
    sizes = counts.sum(axis=1), counts.sum(axis=0)
    empty = [
        f"the {name} mask holds no bone"
        for name, of_label in zip(("reference", "predicted"), sizes, strict=True)
        if not of_label[1:].any()
    ]
    if empty:
        return empty
    if np.array_equal(counts, np.diag(np.diag(counts))):
        return ["both masks are the same, so Dice is 1 everywhere: was one made from the other?"]
    said = _mirrored(reference, predicted, counts)
    if not counts[1:, 1:].any():
        said = said or ["no bone of the prediction touches any of the reference: are both of one scan?"]
    return said or _levels(counts, asked)


def _mirrored(reference: Volume, predicted: Volume, counts: Counts) -> list[str]:
    same, crossed = _paired(counts)
    total = int(counts[1:].sum() + counts[:, 1:].sum())
    poor = 2 * int(counts[1:, 1:].sum()) < POOR * total
    if crossed <= same and not poor:
        return []
    turned = overlaps(reference.data, np.flip(predicted.data, _left_right(predicted)))
    renamed = _agreeing(counts) + crossed - same  # what would agree with the names of the sides exchanged
    if _agreeing(turned) > max(renamed, 2 * _agreeing(counts), POOR * total / 2):
        return ["the prediction seems to be the mirror image (left and right of the map itself are swapped)"]
    if crossed > same:
        either = ", in the names or in the map itself" if _agreeing(turned) > SYMMETRIC * renamed else ""
        return [f"left and right seem to be swapped{either}: left bones of the prediction lie on right ones"]
    return []


def _agreeing(counts: Counts) -> int:
    return int(np.diag(counts)[1:].sum())


def _paired(counts: Counts) -> tuple[int, int]:
    """Voxels of paired bones that lie on the same side, and on the other one."""
    same = sum(int(counts[n, n] + counts[_TWIN[n], _TWIN[n]]) for n in _LEFT)
    left, right = list(_LEFT), [_TWIN[n] for n in _LEFT]
    return same, int(counts[np.ix_(left, right)].sum() + counts[np.ix_(right, left)].sum())


def _left_right(volume: Volume) -> int:
    """The array axis that runs from left to right."""
    axes = volume.grid.mm_from_ijk[:3, :3] / volume.grid.spacing_mm
    return int(np.abs(axes[0]).argmax())


def _levels(counts: Counts, asked: Collection[int]) -> list[str]:
    """Vertebrae and ribs that lie on another level more than on their own."""
    found = []
    for label in sorted(BY_ID):
        series = family([label])
        if series not in _SERIES or not counts[:, label].any():
            continue
        rivals = [n for n in BY_ID if n != label and family([n]) == series]
        other = max(rivals, key=lambda n: counts[n, label])
        shared = counts[other, label]
        enough = shared > counts[label, label] and shared >= LEAST_SHARE * counts[:, label].sum()
        if enough and (label in asked or other in asked):
            found.append(f"{BY_ID[label].name} lies on {BY_ID[other].name}")
    if not found:
        return []
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return [f"names seem to be a level off: predicted {', '.join(found[:_LISTED])} of the reference{more}"]
