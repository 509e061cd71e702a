"""Families of bones whose members look alike and are told apart by counting: vertebrae, ribs of a side."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from petbone.anatomy import BONES, BY_ID

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.floating[Any]]
U8 = npt.NDArray[np.uint8]

VERTEBRA, RIB_LEFT, RIB_RIGHT = 251, 252, 253
"""Labels of a voxel that is known to be of a vertebra or of a rib of one side, but not yet of which."""

FAMILIES: dict[int, tuple[int, ...]] = {
    VERTEBRA: tuple(bone.id for bone in BONES if bone.group.endswith("_spine")),
    RIB_LEFT: tuple(bone.id for bone in BONES if bone.group == "ribs" and bone.side == "left"),
    RIB_RIGHT: tuple(bone.id for bone in BONES if bone.group == "ribs" and bone.side == "right"),
}


def families(chances: F32) -> U8:
    """(n,) family of every voxel, or its bone where the bone is no vertebra and no rib; chances (n, 62)."""
    whole = chances.copy()
    for ids in FAMILIES.values():
        first = ids[0] - 1
        total = chances[:, np.array(ids) - 1].sum(1)
        whole[:, np.array(ids) - 1] = 0
        whole[:, first] = total
    given: U8 = (whole.argmax(1) + 1).astype(np.uint8)
    for family, ids in FAMILIES.items():
        given[given == ids[0]] = family
    return given


def shares(chances: F32, family: int) -> F64:
    """The net's mean chance of every member of a family among voxels that are of it."""
    own = chances[:, np.array(FAMILIES[family]) - 1].astype(float)
    return np.asarray((own / np.maximum(own.sum(1, keepdims=True), 1e-9)).mean(0))


def mean_chance(given: U8, chances: F32) -> dict[int, float]:
    """By label: mean chance of its family (or of itself) over its voxels."""
    out = {}
    for label in np.unique(given):
        if not label:
            continue
        bone = BY_ID[int(label)]
        same = [
            b.id
            for b in BONES
            if b.id == bone.id or (b.group == bone.group == "ribs" and b.side == bone.side)
        ]
        if bone.group.endswith("_spine"):
            same = list(FAMILIES[VERTEBRA])
        out[int(label)] = float(chances[given == label][:, np.array(same) - 1].sum(1).mean())
    return out
