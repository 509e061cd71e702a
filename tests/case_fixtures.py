"""A made-up patient of four balls of bone, as a hospital would bring it: CT and mask, in LPS order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from petbone.io import write_nifti
from petbone.labels import LabelTable
from petbone.net.cases import case_of
from petbone.volume import Grid, Unit, Volume

# Label and centre in RAS mm: two vertebrae, a hip on either side, the left one nearer to the middle.
BALLS = {16: (0, 0, 40), 17: (0, 0, 0), 47: (-40, 10, -20), 48: (48, 10, -20)}
RADIUS_MM = 14.0
SHAPE, SPACING_MM = (56, 44, 50), 3.0
GRID = Grid(
    SHAPE,
    np.array([[-3.0, 0, 0, 82.5], [0, -3.0, 0, 64.5], [0, 0, 3.0, -73.5], [0, 0, 0, 1]]),
)


def patient() -> tuple[Volume, Volume]:
    """CT in HU and mask in petbone labels: balls of 350 HU in muscle of 50 HU, fat of -100 HU at the back."""
    index = np.indices(SHAPE).reshape(3, -1)
    x, y, z = (GRID.mm_from_ijk @ np.vstack([index, np.ones(index.shape[1])]))[:3].reshape(3, *SHAPE)
    hu = np.full(SHAPE, 50, np.int16)
    hu[y < -30] = -100
    hu[np.hypot(x, y) > 62] = -1000
    labels = np.zeros(SHAPE, np.uint8)
    for label, (a, b, c) in BALLS.items():
        ball = (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < RADIUS_MM**2
        hu[ball], labels[ball] = 350, label
    return Volume(hu, GRID, Unit.HU), Volume(labels, GRID, Unit.LABEL)


def write_patient(folder: Path, labels: Volume | None = None) -> Path:
    """The patient as a case folder, with other labels if given."""
    ct, own = patient()
    folder.mkdir(parents=True)
    write_nifti(ct, folder / "ct.nii.gz")
    write_nifti(labels or own, folder / "labels.nii.gz")
    return folder


def prepared(path: Path, annotated: frozenset[int] = frozenset(range(1, 67))) -> Path:
    """The patient as the file that training reads."""
    ct, labels = patient()
    case_of(path.stem, ct, labels, LabelTable.load("petbone"), annotated).save(path)
    return path
