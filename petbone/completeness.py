"""How much of each bone the images hold: through which sides it leaves the field, and the part that was seen.

Nobody sees the part that is missing. The whole bone is guessed from the patient's own complete bones: from
its twin on the other side, else from complete bones of its group, else from those of the whole skeleton,
these two beside the standard skeleton; without any, from the standard skeleton alone. The range says how far
each guess goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petbone.anatomy import ALL_BONES, BONES, BY_NAME, STANDARD_VOLUME_ML, Bone
from petbone.label_counts import label_counts
from petbone.resample import Occupancy
from petbone.volume import Volume

SKELETON_SIZES = (0.6, 1.6)
"""Bounds of a grown person's skeleton beside the standard one, by volume: fragments do not make a dwarf."""

LEAST_BONES = 3  # complete ones, before a group or a skeleton has a size

MOST_SEEN = 0.99
"""Something is missing from a bone that is cut, however large it is beside its likes."""

SPREAD: dict[str, float] = {"twin": 1.2, "group": 1.4, "skeleton": 1.6}
"""Nine of ten whole bones lie within this factor of the guess, by what it was made from.

Left out one by one of another tool's mask of a chest CT, nine of ten of its whole bones lay within 1.16 (24
bones, by their twins), 1.38 (36, by their group) and 1.61 (38, by the rest of the skeleton).
"""


@dataclass(frozen=True)
class Seen:
    """What of one bone the images hold.

    `fraction`: the part of it that is in the images, 0 to 1; `low` and `high`: nine times out of ten it lies
    between these. None for bones that are absent. `cut_by`: sides of the field, or ``pet``.
    """

    status: str  # complete, cut, absent
    fraction: float | None
    cut_by: str
    volume_ml: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Whole:
    """What a bone would measure if all of it were seen, and the range where nine of ten such bones lie."""

    ml: float
    low_ml: float
    high_ml: float
    by: str  # twin, group, skeleton, or standard


def border_sides(bones: Volume) -> dict[int, tuple[str, ...]]:
    """Which sides of the bone map every label touches, in the patient's terms (``superior``, ``left``...)."""
    names = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
    axes = bones.grid.mm_from_ijk[:3, :3] / bones.grid.spacing_mm
    sides: dict[int, list[str]] = {}
    for axis in range(3):
        world = int(np.abs(axes[:, axis]).argmax())
        for end, sign in ((0, -1), (-1, 1)):
            direction = names[world][int(sign * axes[world, axis] > 0)]
            face = np.moveaxis(bones.data, axis, 0)[end]
            for label in np.flatnonzero(np.bincount(face[face > 0], minlength=1)):
                if direction not in sides.setdefault(int(label), []):
                    sides[int(label)].append(direction)
    return {label: tuple(found) for label, found in sides.items()}


def twin(bone: Bone) -> Bone | None:
    """The same bone of the other side."""
    other = {"left": "right", "right": "left"}.get(bone.side)
    return BY_NAME[bone.name.replace(bone.side, other)] if other else None


def whole_volume(bone: Bone, complete_ml: dict[int, float]) -> Whole:
    """Volume of `bone` by those that are complete in this patient, `complete_ml` by label."""
    standard_ml = STANDARD_VOLUME_ML[bone.id]
    other = twin(bone)
    if other is not None and other.id in complete_ml:
        ml = complete_ml[other.id]
        return Whole(ml, ml / SPREAD["twin"], ml * SPREAD["twin"], "twin")
    kin = [b.id for b in BONES if b.group == bone.group and b.id != bone.id]
    others = [b.id for b in BONES if b.id != bone.id]
    for by, labels in (("group", kin), ("skeleton", others)):
        ratios = [complete_ml[label] / STANDARD_VOLUME_ML[label] for label in labels if label in complete_ml]
        if len(ratios) >= LEAST_BONES:
            ml = standard_ml * float(np.clip(np.median(ratios), *SKELETON_SIZES))
            return Whole(ml, ml / SPREAD[by], ml * SPREAD[by], by)
    return Whole(standard_ml, standard_ml * SKELETON_SIZES[0], standard_ml * SKELETON_SIZES[1], "standard")


def what_was_seen(bones: Volume, occupied: Occupancy | None) -> dict[int, Seen]:
    """Status, seen fraction and volume of each of the bones, by label.

    With `occupied`, a bone that reaches out of the PET is cut too.
    """
    counts = label_counts(bones.data)
    volume_ml = counts * bones.grid.voxel_ml
    in_pet_ml = volume_ml if occupied is None else occupied.volumes_ml()
    sides = border_sides(bones)
    complete_ml = {b.id: float(volume_ml[b.id]) for b in BONES if counts[b.id] and b.id not in sides}
    seen = {}
    for bone in ALL_BONES:
        ml = float(volume_ml[bone.id])
        if not ml:
            seen[bone.id] = Seen("absent", None, "", None)
            continue
        inside = min(float(in_pet_ml[bone.id]) / ml, 1.0)
        cut_by = list(sides.get(bone.id, ()))
        parts = np.ones(3)  # likely, least, most
        if cut_by:
            whole = whole_volume(bone, complete_ml)
            parts = np.minimum(ml / np.array([whole.ml, whole.high_ml, whole.low_ml]), MOST_SEEN)
        if inside < 1 - 1e-3:
            cut_by.append("pet")
        if cut_by:
            parts = inside * parts
        likely, least, most = (float(part) for part in parts)
        status = "cut" if cut_by else "complete"
        seen[bone.id] = Seen(status, likely, " ".join(cut_by), ml, least, most)
    return seen
