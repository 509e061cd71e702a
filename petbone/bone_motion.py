"""Stand-in: how each bone lies at the second date. To be replaced by the module of that name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.volume import Volume


@dataclass(frozen=True, eq=False)
class BoneMotion:
    """How one bone of the first image lies in the second, and how well the surfaces meet."""

    second_mm_from_first_mm: npt.NDArray[np.float64]  # (4, 4)
    surface_before_mm: float
    surface_after_mm: float
    own: bool
    note: str


def bone_motions(first_bones: Volume, second_bones: Volume) -> dict[int, BoneMotion]:
    """By label, for every bone of both images: here nothing moves."""
    both = np.intersect1d(np.unique(first_bones.data), np.unique(second_bones.data))
    return {int(n): BoneMotion(np.eye(4), float("nan"), float("nan"), False, "") for n in both if n}
