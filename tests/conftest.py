"""Grids turned every way: a bug of geometry that an axis-aligned grid hides shows on an oblique one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from petbone.anatomy import BY_NAME
from petbone.volume import Grid, Unit, Volume

SHARED = Path(__file__).resolve().parents[2] / "shared"

_AXES = {
    "RAS": np.diag([1.0, 1.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "PIR": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}


def rotation(degrees: float) -> np.ndarray:
    """A turn about an axis that is parallel to none of the grid's."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


_AXES["oblique"] = rotation(17.0)


@pytest.fixture(params=sorted(_AXES))
def axes(request: pytest.FixtureRequest) -> np.ndarray:
    """(3, 3) directions of the array axes in RAS, one column each."""
    return _AXES[request.param]


@pytest.fixture
def shared() -> Path:
    """The folder of oracles and real scans beside the repository; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository: its oracles and scans are not tested")
    return SHARED


def affine(axes: np.ndarray, spacing_mm: tuple[float, float, float], origin_mm: tuple[float, float, float]):
    """mm_from_ijk of a grid with these axes, spacing and first voxel."""
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.array(spacing_mm)
    matrix[:3, 3] = origin_mm
    return matrix


@dataclass(frozen=True)
class Answer:
    """What a command left: exit status and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command line, in this process: ``cli("quantify", bones, pet)``."""
    from petbone.cli import main

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["petbone", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return Answer(int(left.value.code or 0), printed.out, printed.err)

    return call


@dataclass(frozen=True)
class HandMade:
    """A patient of blocks whose every number is arithmetic; PET voxels of 0.08 mL, bones twice as fine.

    T7, L3 and the sacrum are 1000 PET voxels each, rib_left_7 is 300 and touches the end of the first axis.
    SUV is 5 in bone and 1 elsewhere; 100 voxels of T7 have 20, 50 of L3 have 12.
    """

    bones: Volume
    pet: Volume
    voxel_ml: float = 0.08
    blocks: ClassVar = {
        "T7": slice(2, 12),
        "L3": slice(14, 24),
        "sacrum": slice(26, 36),
        "rib_left_7": slice(37, 40),
    }


@pytest.fixture
def hand_made(axes: np.ndarray) -> HandMade:
    """The hand-made patient in each of four frames."""
    grid = Grid((40, 12, 12), affine(axes, (4.0, 4.0, 5.0), (-70.0, 30.0, 400.0)))
    labels = np.zeros(grid.shape, np.uint8)
    suv = np.ones(grid.shape, np.float32)
    for name, i in HandMade.blocks.items():
        labels[i, 1:11, 1:11] = BY_NAME[name].id
        suv[i, 1:11, 1:11] = 5
    suv[4:9, 3:8, 3:7] = 20
    suv[16:21, 3:8, 3:5] = 12
    fine = np.kron(labels, np.ones((2, 2, 2), np.uint8))
    # The corner of the first fine voxel is the corner of the first PET voxel.
    matrix = affine(axes, (2.0, 2.0, 2.5), tuple(grid.mm([-0.25, -0.25, -0.25])))
    bones = Volume(fine, Grid(fine.shape, matrix), Unit.LABEL)
    return HandMade(bones, Volume(suv, grid, Unit.SUV))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny nets gain nothing from threads and lose much where other work wants the cores."""
    import torch  # most tests need none

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
