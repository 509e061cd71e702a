"""Signs that labels do not mean what they should: mirrored, a level off, of another tool, of another scan.

Of two maps of one scan all is told from how many voxels every label of the one shares with every label of the
other, of one map from where its bones lie. Nothing is changed here, and a sign is no proof: a segmentation
that is merely bad can give one, too.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

from petbone.anatomy import BY_ID, BY_NAME, family
from petbone.metrics import dice, overlaps
from petbone.places import middles_mm
from petbone.volume import Volume

Counts = npt.NDArray[np.int64]

LEAST_SHARE = 0.1
"""Of a bone's voxels that must lie on another level, before its name is doubted."""
POOR = 0.3
"""Below this Dice of bone or not the map is tried as its mirror image, which must do better than this."""
SYMMETRIC = 0.7
"""Where the mirror image explains this part of what other names explain, either may be the reason."""
OTHER_KIND = 0.5
"""Of what is bone in both maps: where more lies on bones of another kind, labels may be of another table."""
ROUNDING_MM = 0.1
SLID = 0.6
"""Of a level (middle of a vertebra to the next one): parts of a skeleton that move farther along each other
between two scans than this are not named alike in both."""
_FEWEST = 3
_LISTED = 4
_LEFT = tuple(n for n, bone in BY_ID.items() if bone.side == "left")
_TWIN = {n: BY_NAME[BY_ID[n].name.replace("left", "right")].id for n in _LEFT}
_SERIES = ("vertebra", "left rib", "right rib")
_COLUMN = tuple(
    BY_NAME[name].id
    for name in (f"{part}{n}" for part, last in (("C", 7), ("T", 13), ("L", 6)) for n in range(1, last + 1))
)


def doubts(
    first: Volume,
    second: Volume,
    asked: Collection[int],
    sides: tuple[str, str] = ("reference", "prediction"),
) -> list[str]:
    """What to warn of in two label maps (uint8) on one grid, called by `sides`; names off by a level for
    `asked` alone.
    """
    counts = overlaps(first.data, second.data)
    empty = [
        f"the {side} holds no bone"
        for side, of_label in zip(sides, (counts.sum(axis=1), counts.sum(axis=0)), strict=True)
        if not of_label[1:].any()
    ]
    if empty:
        return empty
    if np.array_equal(counts, np.diag(np.diag(counts))):
        return ["both masks are the same, so Dice is 1 everywhere: was one made from the other?"]
    said = _mirrored(first, second, counts, sides[1])
    if not counts[1:, 1:].any():
        said = said or [f"no bone of the {sides[1]} touches any of the {sides[0]}: are both of one scan?"]
    return said or _levels(counts, asked, sides) or _other_names(counts, sides)


def doubts_of_one(bones: Volume) -> list[str]:
    """What to warn of in a label map (uint8) by itself: left bones on the right, vertebrae upside down, the
    sternum behind them.
    """
    middles = middles_mm(bones)
    said = []
    pairs = [(n, _TWIN[n]) for n in _LEFT if n in middles and _TWIN[n] in middles]
    crossed = sum(middles[left][0] > middles[right][0] for left, right in pairs)
    if 2 * crossed > len(pairs):
        said.append(
            f"{crossed} of {len(pairs)} left bones lie to the patient's right of their twins: is the map "
            "mirrored, or its header wrong?"
        )
    steps = list(pairwise(middles[n][2] for n in _COLUMN if n in middles))
    rising = sum(lower > upper + ROUNDING_MM for upper, lower in steps)
    if 2 * rising > len(steps):
        said.append(
            f"{rising} of {len(steps)} vertebrae lie above the one that should be above them: are its "
            "labels of another tool (--labels), or is its header wrong?"
        )
    thoracic = [middles[n][1] for n in _COLUMN if n in middles and BY_ID[n].group == "thoracic_spine"]
    sternum = middles.get(BY_NAME["sternum"].id)
    if thoracic and sternum is not None and sternum[1] < min(thoracic) - ROUNDING_MM:
        said.append(
            "the sternum lies behind the vertebrae: are front and back of the map swapped, or is its header "
            "wrong?"
        )
    return said


def doubts_of_two_scans(first: Volume, second: Volume, cut: Collection[int]) -> list[str]:
    """What to warn of in label maps (uint8) of two scans of one patient: vertebrae that slid along the ribs.

    Bones that the end of either scan has `cut` have no middle, and tell nothing.

    The patient lies elsewhere in the second scan, but column, ribs and pelvis move together; each by the
    median of how far its bones have moved along the axis to the head. Where all three are named wrongly alike
    nothing is seen.
    """
    middles = middles_mm(first), middles_mm(second)
    common = [n for n in middles[0] if n in middles[1] and n not in cut]
    levels = [n for n in _COLUMN if n in middles[0]]
    between = [middles[0][one][2] - middles[0][two][2] for one, two in pairwise(levels)]
    if len(between) < _FEWEST:
        return []
    level_mm = float(np.median(np.abs(between)))
    moved: dict[str, float] = {}
    for part, fewest, named in (
        ("vertebrae", _FEWEST, _COLUMN),
        ("ribs", _FEWEST, tuple(n for n in common if BY_ID[n].group == "ribs")),
        ("sacrum and hips", 1, tuple(n for n in common if BY_ID[n].group == "pelvis")),
    ):
        slid = [middles[1][n][2] - middles[0][n][2] for n in named if n in common]
        if len(slid) >= fewest:
            moved[part] = float(np.median(slid))
    said = [
        f"{one} against {two} by {abs(moved[one] - moved[two]):.0f} mm"
        for one, two in combinations(moved, 2)
        if abs(moved[one] - moved[two]) > SLID * level_mm
    ]
    if not said:
        return []
    return [
        f"names seem to be a level off in one of the scans: between the two moved {', '.join(said)} (a level "
        f"is {level_mm:.0f} mm)"
    ]


def mask_mirrored(first: Volume, second: Volume) -> bool:
    """Whether the second of two maps on one grid fits far better as its mirror image, names left aside."""
    masks = first.data > 0, second.data > 0
    as_it_is, turned = dice(*masks), dice(masks[0], np.flip(masks[1], left_right(second)))
    return turned >= POOR and turned > 2 * as_it_is


def _mirrored(first: Volume, second: Volume, counts: Counts, side: str) -> list[str]:
    same, crossed = _paired(counts)
    total = int(counts[1:].sum() + counts[:, 1:].sum())
    poor = 2 * int(counts[1:, 1:].sum()) < POOR * total
    if crossed <= same and not poor:
        return []
    turned = overlaps(first.data, np.flip(second.data, left_right(second)))
    renamed = _agreeing(counts) + crossed - same  # what would agree with the names of the sides exchanged
    if _agreeing(turned) > max(renamed, 2 * _agreeing(counts), POOR * total / 2):
        return [f"the {side} seems to be the mirror image (left and right of the map itself are swapped)"]
    if crossed > same:
        either = ", in the names or in the map itself" if _agreeing(turned) > SYMMETRIC * renamed else ""
        return [f"left and right seem to be swapped{either}: left bones of the {side} lie on right ones"]
    return []


def _agreeing(counts: Counts) -> int:
    return int(np.diag(counts)[1:].sum())


def _paired(counts: Counts) -> tuple[int, int]:
    """Voxels of paired bones that lie on the same side, and on the other one."""
    same = sum(int(counts[n, n] + counts[_TWIN[n], _TWIN[n]]) for n in _LEFT)
    left, right = list(_LEFT), [_TWIN[n] for n in _LEFT]
    return same, int(counts[np.ix_(left, right)].sum() + counts[np.ix_(right, left)].sum())


def left_right(volume: Volume) -> int:
    """The array axis that runs from left to right."""
    axes = volume.grid.mm_from_ijk[:3, :3] / volume.grid.spacing_mm
    return int(np.abs(axes[0]).argmax())


def _levels(counts: Counts, asked: Collection[int], sides: tuple[str, str]) -> list[str]:
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
    listed = f"{', '.join(found[:_LISTED])}{more}"
    return [f"names seem to be a level off: of the {sides[1]}, {listed} of the {sides[0]}"]


def _other_names(counts: Counts, sides: tuple[str, str]) -> list[str]:
    """Bone lies on bone, and most of it on bones of another kind: a rib on a vertebra."""
    shared = int(counts[1:, 1:].sum())
    smaller = min(int(counts[1:].sum()), int(counts[:, 1:].sum()))
    kinds = {n: family([n]) for n in BY_ID}
    present = [(one, two) for one, two in np.argwhere(counts[1:, 1:]) + 1 if kinds[one] != kinds[two]]
    other = sum(int(counts[pair]) for pair in present)
    if shared < POOR * smaller or other <= OTHER_KIND * shared:
        return []
    return [
        f"{100 * other / shared:.0f} % of what is bone in both lies under names of other kinds of bones: are "
        f"the labels of the {sides[1]}, or of the {sides[0]}, those of another tool? (--labels)"
    ]
