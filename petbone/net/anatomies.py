"""What training samples are drawn from: a skeleton and its body as voxel maps in a standard pose.

Terms: *standard* coordinates are RAS mm in the frame of the skeleton meshes (the soles are near z = 0, the
spine near x = 0). An anatomy of another person gets them from its own frame by `place_mm_from_mm`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from petbone.errors import InputError

U8 = npt.NDArray[np.uint8]


class Tissue(IntEnum):
    """What surrounds the bones; each kind gets its own HU in each sample."""

    FAT = 0
    MUSCLE = 1
    LUNG = 2
    MEDIASTINUM = 3
    HEART = 4
    ARTERY = 5
    VEIN = 6
    LIVER = 7
    SPLEEN = 8
    KIDNEY = 9
    STOMACH = 10
    BOWEL = 11
    BLADDER = 12
    CARTILAGE = 13
    BRAIN = 14
    AIRWAY = 15
    CANAL = 16
    THYROID = 17
    DISC = 18


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Voxel maps of one person in one posture, arrays (X, Y, Z) uint8 along RAS axes.

    `low_mm` is the outer corner of voxel (0, 0, 0). `labels` reaches some mm beyond the bones, so that a
    voxel that holds a little bone has a name; `cortex` and `spongiosa` are fractions x 255, blurred as a
    CT voxel blurs them; `tissue` holds `Tissue` values; `outside_mm` is the distance outside the muscle
    layer, from which skin and subcutaneous fat are drawn.
    """

    name: str
    low_mm: tuple[float, float, float]
    spacing_mm: float
    labels: U8
    cortex: U8
    spongiosa: U8
    tissue: U8
    outside_mm: U8
    # Of the file that it was read from; a changed copy (`dataclasses.replace`) has none.
    path: Path | None = field(init=False, default=None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Processes that make samples are sent the name of the file, not 150 MB of maps."""
        if self.path is not None:
            return Anatomy.load, (self.path,)
        return Anatomy, tuple(getattr(self, f.name) for f in fields(self) if f.init)

    def __post_init__(self) -> None:
        shapes = {getattr(self, f.name).shape for f in fields(self) if f.name in _MAPS}
        if len(shapes) != 1 or len(self.labels.shape) != 3:
            raise InputError(f"anatomy {self.name}: its maps must share one 3-D shape, got {sorted(shapes)}")

    def save(self, path: Path) -> None:
        """One compressed .npz without pickle, written whole or not at all."""
        maps = {name: getattr(self, name) for name in _MAPS}
        place = np.array([*self.low_mm, self.spacing_mm])
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, name=np.array(self.name), place=place, **maps)
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Anatomy:
        """Read what `save` wrote. Raises InputError if it is something else."""
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                x, y, z, spacing = (float(n) for n in file["place"])
                maps = {name: file[name] for name in _MAPS}
                anatomy = Anatomy(str(file["name"]), (x, y, z), spacing, **maps)
                object.__setattr__(anatomy, "path", path)
                return anatomy
        except (KeyError, ValueError, OSError, BadZipFile) as error:
            raise InputError(
                f"{path.name} is not an anatomy ({error}); make it with scripts/build_anatomy.py"
            ) from error

    def spine_y_mm(self) -> npt.NDArray[np.float64]:
        """(Z,) y of the vertebrae at each z voxel, interpolated; without vertebrae the middle."""
        vertebra = (self.labels <= 17) | ((self.labels >= 50) & (self.labels <= 56))
        vertebra &= (self.labels > 0) & (self.cortex.astype(np.int16) + self.spongiosa > 100)
        count = vertebra.sum((0, 1))
        y_mm = self.low_mm[1] + (np.arange(vertebra.shape[1]) + 0.5) * self.spacing_mm
        seen = np.flatnonzero(count)
        if len(seen) == 0:
            return np.full(len(count), y_mm.mean())
        mean = (vertebra.sum(0) * y_mm[:, None]).sum(0)[seen] / count[seen]
        return np.asarray(np.interp(np.arange(len(count)), seen, mean))


_MAPS = ("labels", "cortex", "spongiosa", "tissue", "outside_mm")
