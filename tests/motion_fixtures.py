"""A phantom of two days: painted twice on other grids, moved as a whole, its arms and head by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from petbone.anatomy import BY_NAME
from petbone.phantom import SMALL, PhantomSpec, Shape, anatomy
from petbone.phantom.patient import oriented
from petbone.phantom.skeleton import Skeleton
from petbone.phantom.solids import Frame
from petbone.resample import resample
from petbone.volume import Grid, Unit, Volume

FINE = replace(SMALL, ct_spacing_mm=(2.5, 2.5, 3.0), hotspots=())
SHIFTED = {"ct_spacing_mm": (2.7, 2.7, 2.5), "fov_mm": ((-241.3, 239.0), (-171.0, 181.0), (-349.0, 785.7))}
SIDES = ("left", "right")
PARTS = {"head": ["skull", "mandible", "C1"]}
PARTS |= {f"{bone}_{side}": [f"{bone}_{side}"] for bone in ("humerus", "femur") for side in SIDES}
PARTS |= {f"shoulder_{side}": [f"scapula_{side}", f"clavicle_{side}"] for side in SIDES}


@dataclass(frozen=True, eq=False)
class Days:
    """Bone maps of two days and the true motion of every bone that moved rigidly."""

    first: Volume
    second: Volume
    truth: dict[int, np.ndarray]
    skeleton: Skeleton


def rigid(turn_deg: Sequence[float], shift_mm: Sequence[float], about_mm: Any = (0, 0, 0)) -> np.ndarray:
    """A turn about a place (rotation vector in degrees), then a shift."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(np.radians(turn_deg)).as_matrix()
    motion[:3, 3] = np.asarray(about_mm) + np.asarray(shift_mm) - motion[:3, :3] @ np.asarray(about_mm)
    return motion


def random_rigid(rng: np.random.Generator, deg: float, mm: float, about_mm: Any = (0, 0, 0)) -> np.ndarray:
    """Up to `deg` and `mm`, in any direction."""
    turn, shift = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    return rigid(turn * deg * rng.uniform(0.3, 1), shift * mm * rng.uniform(0.3, 1), about_mm)


@cache
def _painted(spec: PhantomSpec) -> tuple[Volume, Skeleton]:
    body = anatomy(spec)
    return oriented(body.bones, body.axes, Unit.LABEL, spec.orientation), body.skeleton


def at(grid: Grid, motion: np.ndarray) -> Grid:
    return Grid(grid.shape, motion @ grid.mm_from_ijk)


def moved_days(seed: int, fov_mm: Any = None, **second: Any) -> Days:
    """The whole by up to 20 degrees and 50 mm; arms, head and legs by up to 20 degrees more in their joints.

    `fov_mm`: what the second field of view holds, ends along x, y and z; `second`: what is otherwise in the
    specification of the second day.
    """
    rng = np.random.default_rng(seed)
    first, skeleton = _painted(FINE)
    two, _ = _painted(replace(FINE, **(SHIFTED | second)))
    whole = random_rigid(rng, 20, 50)
    truth = dict.fromkeys(range(1, 67), whole)
    labels = two.data.copy()
    places = skeleton.places | {"head": skeleton.places["C2"]}
    places |= {f"shoulder_{side}": places[f"scapula_{side}"] for side in SIDES}
    for part, names in PARTS.items():
        own = random_rigid(rng, 10 if part.startswith("shoulder") else 20, 5, places[part])
        bones = [BY_NAME[name].id for name in names]
        truth |= dict.fromkeys(bones, whole @ own)
        here = np.isin(two.data, bones)
        alone = two.with_data(np.where(here, two.data, 0).astype(np.uint8))
        there = resample(alone, two.grid, source_mm_from_target_mm=np.linalg.inv(own)).data
        labels[np.isin(labels, bones)] = 0
        labels[there > 0] = there[there > 0]
    two = two.with_data(labels)
    if fov_mm is not None:
        two = two.cropped(_box(two.grid, np.array(fov_mm)))
    return Days(first, Volume(two.data, at(two.grid, whole), Unit.LABEL), truth, skeleton)


def _box(grid: Grid, fov_mm: np.ndarray) -> tuple[slice, slice, slice]:
    """Voxels of a grid parallel to the world whose middles lie between the ends."""
    ends = np.sort(grid.ijk(fov_mm.T), axis=0)
    low = np.maximum(np.ceil(ends[0]), 0).astype(int)
    high = np.minimum(np.floor(ends[1]), np.array(grid.shape) - 1).astype(int) + 1
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def bent_days(seed: int, arms_up: bool = True) -> Days:
    """Another curve of the spine, so that no single motion fits, and arms up or down on the second day.

    The truth holds the bones of which the phantom knows the frame.
    """
    rng = np.random.default_rng(seed)
    kyphosis, lordosis = rng.uniform(0.8, 1.25, 2)
    shape = Shape(kyphosis, lordosis, rng.uniform(-10, 10), arms_up)
    first, one = _painted(FINE)
    second, two = _painted(replace(FINE, shape=shape, **SHIFTED))
    whole = random_rigid(rng, 15, 30)
    frames = {name: (one.spine[name].at, two.spine[name].at) for name in one.spine}
    frames["sternum"] = one.sternum.at, two.sternum.at
    frames["scapula_right"] = one.shoulder.at, two.shoulder.at
    heads = one.head.at(0, 0, 0), two.head.at(0, 0, 0)
    still = Frame(np.zeros(3), np.eye(3))
    pelvis = ["sacrum", *(f"{bone}_{side}" for bone in ("hip", "femur") for side in SIDES)]
    frames |= {"skull": heads, "mandible": heads} | dict.fromkeys(pelvis, (still, still))
    truth = {BY_NAME[n].id: whole @ _matrix(b) @ np.linalg.inv(_matrix(a)) for n, (a, b) in frames.items()}
    return Days(first, Volume(second.data, at(second.grid, whole), Unit.LABEL), truth, one)


def _matrix(frame: Frame) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.asarray(frame.axes).T, frame.origin
    return matrix


def moved(mm: np.ndarray, motion: np.ndarray) -> np.ndarray:
    return mm @ motion[:3, :3].T + motion[:3, 3]


def targets(days: Days, label: int, count: int = 40) -> np.ndarray:
    """Points of a bone of the first day, of those that the second field of view holds; empty below 20."""
    ijk = np.argwhere(days.first.data == label)
    there = days.second.grid.ijk(moved(days.first.grid.mm(ijk), days.truth[label]))
    seen = ((there >= -0.5) & (there <= np.array(days.second.grid.shape) - 0.5)).all(axis=1)
    ijk = ijk[seen] if seen.sum() >= 20 else ijk[:0]
    chosen = np.random.default_rng(label).choice(len(ijk), min(count, len(ijk)), replace=False)
    return days.first.grid.mm(ijk[chosen])


def error_mm(days: Days, label: int, motion: np.ndarray) -> np.ndarray:
    """Distance from the truth at every target of the bone."""
    mm = targets(days, label)
    return np.linalg.norm(moved(mm, motion) - moved(mm, days.truth[label]), axis=1)
