"""What fine training patches are drawn from: an anatomy, and the depth of every 1 mm voxel in bone.

A depth map, unlike fractions of cortex and spongiosa, lets every patch draw a cortex of its own thickness and
stays sharp at any spacing. The arrays lie uncompressed on disk and are mapped, not read: a patch touches its
own surroundings only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from petbone.errors import InputError
from petbone.net.anatomies import Anatomy, Tissue

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
DEPTH_STEP_MM = 0.1
DEPTH_ZERO = 96
SKIN = 100  # kind of the points behind the back, beside the values of Tissue

BASE_MAPS = ("labels", "cortex", "spongiosa", "tissue", "outside_mm")


def pack_depth(depth_mm: npt.NDArray[np.floating]) -> U8:
    """Signed depth in bone (mm, positive inside) as uint8; cut at -9.6 and 15.9 mm."""
    return np.round(depth_mm / DEPTH_STEP_MM + DEPTH_ZERO).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class FineAnatomy:
    """`base` is the anatomy of the coarse net (2 mm, same frame); `depth` (X, Y, Z) is packed by `pack_depth`
    with voxels of `spacing_mm` from the outer corner `low_mm`.

    `bone_points` and `tissue_points` (n, 4) are places worth a patch: x, y, z in mm, and the label or the
    `Tissue` (or `SKIN`); `spine_y_mm` is that of `base`.
    """

    base: Anatomy
    spacing_mm: float
    low_mm: tuple[float, float, float]
    depth: U8
    bone_points: F32
    tissue_points: F32
    spine_y_mm: F32

    def __post_init__(self) -> None:
        if self.depth.ndim != 3 or self.depth.dtype != np.uint8:
            raise InputError(
                f"anatomy {self.base.name}: depth must be 3-D uint8, "
                f"got {self.depth.ndim}-D {self.depth.dtype}"
            )
        if len(self.bone_points) == 0 or len(self.tissue_points) == 0:
            raise InputError(f"anatomy {self.base.name}: it has no points to draw patches at")

    @staticmethod
    def of(base: Anatomy, depth: U8, low_mm: tuple[float, float, float], spacing_mm: float) -> FineAnatomy:
        """Put the parts together; the points are drawn here, the same every time."""
        bones, tissues = draw_points(base, np.random.default_rng(0))
        spine = base.spine_y_mm().astype(np.float32)
        return FineAnatomy(base, spacing_mm, low_mm, depth, bones, tissues, spine)

    def save(self, folder: Path) -> None:
        """Uncompressed .npy files and a small JSON; the JSON last, so that a broken folder does not load."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in BASE_MAPS:
            np.save(folder / f"{name}.npy", getattr(self.base, name))
        for name in ("depth", "bone_points", "tissue_points", "spine_y_mm"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        place = {
            "name": self.base.name,
            "base_low_mm": list(self.base.low_mm),
            "base_spacing_mm": self.base.spacing_mm,
            "low_mm": list(self.low_mm),
            "spacing_mm": self.spacing_mm,
        }
        (folder / "place.json").write_text(json.dumps(place))

    @staticmethod
    def load(folder: Path) -> FineAnatomy:
        """Map what `save` wrote. Raises InputError if it is something else."""
        try:
            place = json.loads((folder / "place.json").read_text())
            maps = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in BASE_MAPS}
            base = Anatomy(place["name"], tuple(place["base_low_mm"]), place["base_spacing_mm"], **maps)
            return FineAnatomy(
                base=base,
                spacing_mm=place["spacing_mm"],
                low_mm=tuple(place["low_mm"]),
                depth=np.load(folder / "depth.npy", mmap_mode="r"),
                bone_points=np.load(folder / "bone_points.npy"),
                tissue_points=np.load(folder / "tissue_points.npy"),
                spine_y_mm=np.load(folder / "spine_y_mm.npy"),
            )
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{folder.name} is not a fine anatomy ({error}); make it with scripts/build_fine_anatomy.py"
            ) from error


def draw_points(
    base: Anatomy, rng: np.random.Generator, per_bone: int = 80, per_tissue: int = 300
) -> tuple[F32, F32]:
    """Random voxels of every bone, of every tissue and of the fat behind the back, (n, 4): mm and kind."""
    low = np.array(base.low_mm)

    def places(index: npt.NDArray[np.intp], kind: int, count: int) -> npt.NDArray[np.float64]:
        some = np.unravel_index(rng.choice(index, min(count, len(index)), replace=False), base.labels.shape)
        points = (np.stack(some, 1) + 0.5) * base.spacing_mm + low
        return np.column_stack([points, np.full(len(points), float(kind))])

    solid = (base.cortex.astype(np.int16) + base.spongiosa) > 128
    inside = np.flatnonzero(solid)
    label = base.labels.ravel()[inside]
    bones = [places(inside[label == n], int(n), per_bone) for n in np.unique(label) if n]
    kinds = [t for t in Tissue if t is not Tissue.FAT]
    tissues = []
    for kind in kinds:
        index = np.flatnonzero((base.tissue == kind) & ~solid)
        if len(index):
            tissues.append(places(index, int(kind), per_tissue))
    y = base.low_mm[1] + (np.arange(base.labels.shape[1]) + 0.5) * base.spacing_mm
    behind = y[None, :, None] < base.spine_y_mm()[None, None, :] - 30
    skin = np.flatnonzero((base.outside_mm > 3) & (base.outside_mm < 25) & behind)
    if len(skin):
        tissues.append(places(skin, SKIN, per_tissue))
    empty = np.zeros((0, 4))
    return (
        np.concatenate([empty, *bones]).astype(np.float32),
        np.concatenate([empty, *tissues]).astype(np.float32),
    )
