"""How often hotspots at joints are flagged, and those elsewhere: balls of heat put into the bones of a mask.

python benchmarks/flags.py BONES [LABELS]     (LABELS: the mask's label table, such as totalsegmentator)
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from petbone.anatomy import ALL_BONES, BY_ID
from petbone.benign import Surroundings
from petbone.endplates import box_of, find_bodies
from petbone.hotspots import HotspotRule, find_hotspots
from petbone.io import read_labels
from petbone.joints import JOINTS
from petbone.labels import LabelTable
from petbone.resample import Occupancy, occupancy
from petbone.volume import Grid, Unit, Volume

EVERY_BONE = tuple(bone.id for bone in ALL_BONES)
RULE = HotspotRule("8", 8.0, bones=EVERY_BONE)
PET_MM, FWHM_MM = 4.0, 5.0
BALL_MM, SUV, SUV_OF_BONE = 10.0, 44.0, 4.0
AT_MM, AWAY_MM, APART_MM = 5.0, 15.0, 35.0
PER_PAIR, AT_ONCE, ROUNDS = 30, 25, 6


def pet_grid(bones: Volume) -> Grid:
    """The grid of a PET round the bone map, without noise or a bed."""
    corners = bones.grid.corners_mm()
    matrix = np.diag([PET_MM, PET_MM, PET_MM, 1.0])
    matrix[:3, 3] = corners.min(axis=0)
    size = np.ceil(np.ptp(corners, axis=0) / PET_MM).astype(int)
    return Grid(tuple(size), matrix)


def places(bones: Volume, occupied: Occupancy, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Middles for balls (mm), by what they test."""
    grid = bones.grid
    ijk = np.argwhere(bones.data[::2, ::2])
    label = bones.data[::2, ::2][tuple(ijk.T)]
    mm = grid.mm(ijk * [2, 2, 1])
    points = {int(n): mm[label == n] for n in np.unique(label)}
    trees = {n: cKDTree(own) for n, own in points.items()}
    bodies = find_bodies(bones, occupied)
    found = defaultdict(list)

    def some(own: np.ndarray, count: int) -> list[np.ndarray]:
        return list(own[rng.permutation(len(own))[:count]])

    for joint in JOINTS:
        for pair in joint.pairs():
            for one, other in (pair, pair[::-1]):
                if one not in points or other not in points:
                    continue
                near = points[one][trees[other].query(points[one])[0] < AT_MM]
                for body in (bodies[n] for n in pair if joint.behind and n in bodies):
                    near = near[body.is_behind(near)]
                found[joint.name] += some(near, PER_PAIR)
    for n, own in points.items():
        if BY_ID[n].group != "head":
            others = np.min([trees[m].query(own)[0] for m in trees if m != n], axis=0)
            found["away from all other bones"] += some(own[others > AWAY_MM], 8)
    for n, body in bodies.items():
        if BY_ID[n].group == "cervical_spine":
            continue
        found["middle of a vertebral body"] += list(body.centre_mm + rng.uniform(-4, 4, (3, 3)))
        behind = (points[n] - body.centre_mm) @ body.back - body.rear_mm
        found["pedicles and just behind"] += some(points[n][(behind > 1) & (behind < 8)], 4)
    return found


def flagged(bones: Volume, occupied: Occupancy, middles: list[np.ndarray]) -> list[bool]:
    """Whether the hotspot of each ball has a flag; balls that make no hotspot are left out."""
    grid = occupied.grid
    full = np.zeros(int(np.prod(grid.shape)))
    voxel, fraction = occupied.total()
    full[voxel] = fraction
    full = full.reshape(grid.shape)
    suv = 1.0 + (SUV_OF_BONE - 1.0) * full
    boxes = [box_of(grid, middle[None], BALL_MM) for middle in middles]
    away = []
    for middle, box in zip(middles, boxes, strict=True):
        part = grid.cropped(box)
        away.append(np.linalg.norm(part.mm(np.moveaxis(np.indices(part.shape), 0, -1)) - middle, axis=-1))
        suv[box] += (SUV - SUV_OF_BONE) * full[box] * np.clip((BALL_MM / 2 + 1.5 - away[-1]) / 3, 0, 1)
    blurred = ndimage.gaussian_filter(suv, FWHM_MM / 2.355 / PET_MM).astype(np.float32)
    pet = Volume(blurred, grid, Unit.SUV)
    hotspots = find_hotspots(pet, occupied, RULE)
    flags = Surroundings(pet, occupied, bones).flags(hotspots, EVERY_BONE)
    found = []
    for box, far in zip(boxes, away, strict=True):
        near = hotspots.data[box][far <= BALL_MM]
        if near.any():
            found.append(int(np.bincount(near[near > 0]).argmax()) in flags)
    return found


def main(path: Path, table: str) -> None:
    bones = LabelTable.load(table, path.name).apply(read_labels(path).volume)
    occupied = occupancy(bones, pet_grid(bones))
    rng = np.random.default_rng(1)
    for name, middles in places(bones, occupied, rng).items():
        waiting = [middles[n] for n in rng.permutation(len(middles))]
        found: list[bool] = []
        for _ in range(ROUNDS):
            # Far enough apart that each is a hotspot of its own.
            chosen: list[int] = []
            for n, middle in enumerate(waiting):
                if len(chosen) < AT_ONCE and all(
                    np.linalg.norm(middle - waiting[m]) > APART_MM for m in chosen
                ):
                    chosen.append(n)
            if chosen:
                found += flagged(bones, occupied, [waiting[n] for n in chosen])
            waiting = [middle for n, middle in enumerate(waiting) if n not in chosen]
        print(f"{name}: {sum(found)} of {len(found)} flagged")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "petbone")
