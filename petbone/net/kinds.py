"""Kinds of bone: what can be told from a few centimetres of CT, where the number of a rib cannot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from petbone.anatomy import ALL_BONES

KINDS: tuple[str, ...] = (
    "vertebra",
    "rib",
    "sternum",
    "clavicle",
    "scapula",
    "hip",
    "sacrum",
    "head",
    "humerus",
    "femur",
)
"""Kind number n is `KINDS[n - 1]`; 0 is none."""

VERTEBRA_KIND = KINDS.index("vertebra") + 1


def _kind(name: str, group: str) -> str:
    if group.endswith("_spine"):
        return "vertebra"
    return "head" if group == "head" else name.split("_")[0]


def kind_of_label() -> npt.NDArray[np.uint8]:
    """(256,) number of the kind of every label, 0 for what is no bone's."""
    table = np.zeros(256, np.uint8)
    for bone in ALL_BONES:
        table[bone.id] = KINDS.index(_kind(bone.name, bone.group)) + 1
    return table
