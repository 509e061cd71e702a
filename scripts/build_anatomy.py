"""Voxelise the skeleton meshes and put a body around them: the anatomies that training samples from.

    python scripts/build_anatomy.py --meshes ../shared/anatomy/skeleton --lumbosacral PATH/TO/lumbosacral

Reads the 62 binary STL files (LPS mm, one frame), and the lower back of a second person if it is there;
writes one compressed .npz per body that is not there yet (arms down, up, wide and so on) with the maps that
`petbone.net.synth.Anatomy` holds. Sources and licences: docs/training.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import body
import lumbosacral
import numpy as np
import phantom_anatomy
import voxelise
from voxelise import Frame

from petbone.anatomy import BONES, BY_NAME
from petbone.net.anatomies import Anatomy

# Shell of compact bone in mm; spongiosa inside. Rough adult values, varied per sample through the HU.
CORTEX_MM = {"femur": 4.5, "humerus": 3.5, "skull": 2.0, "mandible": 2.5, "rib": 1.2, "clavicle": 1.8}
CORTEX_DEFAULT_MM = 1.2
SKULL_WALL_MM = 7.0
FRAME = Frame(low_mm=(-270.0, -290.0, 640.0), shape=(270, 205, 530), spacing_mm=2.0)


def mesh_name(bone: str) -> str:
    """File stem of a bone's mesh."""
    if bone == "sternum":
        return "sternum_and_costal_cartilage"
    return f"vertebra_{bone}" if bone[0] in "CTL" and bone[1:].isdigit() else bone


def load_meshes(folder: Path) -> dict[str, np.ndarray]:
    """Triangles of the 62 bones, (n, 3, 3) RAS mm, by bone name."""
    meshes = {b.name: voxelise.read_stl(folder / f"{mesh_name(b.name)}.stl") for b in BONES}
    for triangles in meshes.values():
        triangles[..., :2] *= -1  # LPS to RAS
    return meshes


def turn(points: np.ndarray, centre: np.ndarray, axis: int, degrees: float) -> np.ndarray:
    """`points` (..., 3) turned about a coordinate axis through `centre`, right-handed."""
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    turned = points - centre
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = turned[..., a].copy(), turned[..., b].copy()
    turned[..., a], turned[..., b] = cos * first - sin * second, sin * first + cos * second
    return turned + centre


@dataclass(frozen=True)
class Raise:
    """Degrees by which clavicle, scapula and humerus turn outwards, and the elbow goes back (or forward)."""

    clavicle: float
    scapula: float
    humerus: float
    back: float


POSTURES = {
    "arms_up": Raise(22, 40, 150, 12),
    "arms_wide": Raise(15, 28, 110, -25),
    "arms_over": Raise(28, 44, 186, 8),  # elbows close to the skull
    "arms_front": Raise(2, 4, 3, 24),  # as when the hands lie on the belly
    "arms_forward": Raise(24, 42, 158, -42),  # over the head and to the front, on a rest
}
# The lower ribs of the meshes lie too high on their vertebrae. By rib, mm by which all of it comes down, and
# by which it comes down more behind its joint. Both grow downwards, so that ribs keep clear of each other.
RIB_DROP_MM = {
    7: (2.0, 4.0),
    8: (3.5, 8.0),
    9: (4.0, 9.0),
    10: (9.0, 19.0),
    11: (13.0, 28.0),
    12: (18.0, 34.0),
}
RIB_BEND_MM = 18.0
# How far they come down in each posture: raised arms lift the ribs.
RIB_DROPS = {
    "arms_down": 1.1,
    "arms_up": 0.9,
    "arms_wide": 1.0,
    "arms_over": 0.85,
    "arms_front": 1.15,
    "arms_forward": 0.9,
}


def raise_arms(meshes: dict[str, np.ndarray], by: Raise) -> dict[str, np.ndarray]:
    """Arms above the head, or out beside it."""
    moved = dict(meshes)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        clavicle, scapula = meshes[f"clavicle_{side}"], meshes[f"scapula_{side}"]
        humerus = meshes[f"humerus_{side}"]
        inner = clavicle.reshape(-1, 3)[np.argmin(np.abs(clavicle.reshape(-1, 3)[:, 0]))]
        head = humerus.reshape(-1, 3)[humerus.reshape(-1, 3)[:, 2] > humerus[..., 2].max() - 40].mean(0)
        lifted_head = turn(head, inner, 1, sign * by.clavicle)
        shift = lifted_head - head + [sign * 12, 6, 0]
        moved[f"clavicle_{side}"] = turn(clavicle, inner, 1, sign * by.clavicle)
        moved[f"scapula_{side}"] = turn(scapula, head, 1, sign * by.scapula) + shift
        raised = turn(turn(humerus, head, 1, sign * by.humerus), head, 0, by.back)
        moved[f"humerus_{side}"] = raised + shift
    return moved


def lower_ribs(meshes: dict[str, np.ndarray], part: float) -> dict[str, np.ndarray]:
    """Ribs 7 to 12 bent downwards behind their joints with the spine, by `part` of `RIB_DROP_MM`.

    A rib's slope grows at its joint and is as before beyond: turned as a whole, the tips of the long ribs
    would reach the pelvis. Front ends that meet the costal cartilage stay where they are.
    """
    moved = dict(meshes)
    for number, (all_mm, bend_mm) in RIB_DROP_MM.items():
        for side in ("left", "right"):
            rib = meshes[f"rib_{side}_{number}"].copy()
            points = rib.reshape(-1, 3)
            middle = np.abs(points[:, 0])
            joint = points[middle < middle.min() + 6].mean(0)
            away_mm = np.linalg.norm(rib[..., :2] - joint[:2], axis=-1)
            drop = all_mm + bend_mm * (1 - np.exp(-away_mm / RIB_BEND_MM))
            if number <= 10:
                front = rib[..., 1].max()
                back = ((front - rib[..., 1]) / (0.5 * (front - joint[1]))).clip(0, 1)
                drop = drop * back**2 * (3 - 2 * back)
            rib[..., 2] -= part * drop
            moved[f"rib_{side}_{number}"] = rib
    return moved


def posed(meshes: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The meshes in a posture: `arms_down` or one of `POSTURES`. Bones that stay are the same arrays."""
    lowered = lower_ribs(meshes, RIB_DROPS[name])
    return raise_arms(lowered, POSTURES[name]) if name in POSTURES else lowered


GRAFTED = {
    "lumbosacral_up": "arms_up",
    "lumbosacral_down": "arms_down",
    "lumbosacral_over": "arms_over",
    "lumbosacral_forward": "arms_forward",
}


def mesh_bodies(lower_back: Path | None) -> list[str]:
    """Names of the bodies made of meshes, the standard one first."""
    return ["arms_down", *POSTURES, *(GRAFTED if lower_back is not None else [])]


def body_meshes(name: str, folder: Path, lower_back: Path | None) -> dict[str, np.ndarray]:
    """The meshes of a body of `mesh_bodies`."""
    moved = posed(load_meshes(folder), GRAFTED.get(name, name))
    return lumbosacral.graft(moved, lower_back) if name in GRAFTED and lower_back is not None else moved


def build(meshes: dict[str, np.ndarray], name: str, frame: Frame) -> Anatomy:
    """Voxel maps of one posture."""
    cortex = np.zeros(frame.shape, np.float32)
    spongiosa = np.zeros(frame.shape, np.float32)
    labels = np.zeros(frame.shape, np.uint8)
    best = np.zeros(frame.shape, np.float32)
    cartilage = np.zeros(frame.shape, np.float32)
    for bone in BONES:
        family = bone.name.split("_")[0]
        thickness = CORTEX_MM.get(family, CORTEX_DEFAULT_MM)
        wall = SKULL_WALL_MM if bone.name == "skull" else None
        box, shell, core = voxelise.bone_fractions(meshes[bone.name], frame, thickness, wall)
        if bone.name == "sternum":
            x_mm = frame.axis_mm(0)[box[0]]
            beside = (np.abs(x_mm) > 26)[:, None, None]
            cartilage[box] += np.where(beside, shell + core, 0)
            shell, core = np.where(beside, 0, shell), np.where(beside, 0, core)
        whole = shell + core
        winner = whole > best[box]
        labels[box][winner] = bone.id
        best[box][winner] = whole[winner]
        cortex[box] += shell
        spongiosa[box] += core
    total = np.maximum(cortex + spongiosa, 1)
    cortex, spongiosa = cortex / total, spongiosa / total
    tissue, outside_mm = body.surround(frame, labels, cortex + spongiosa, cartilage)
    return Anatomy(
        name=name,
        low_mm=frame.low_mm,
        spacing_mm=frame.spacing_mm,
        labels=voxelise.grow_labels(labels, best > 0.2, frame.spacing_mm, 6.0),
        cortex=np.round(cortex * 255).astype(np.uint8),
        spongiosa=np.round(spongiosa * 255).astype(np.uint8),
        tissue=tissue,
        outside_mm=outside_mm,
    )


def make_mesh_body(name: str, folder: Path, lower_back: Path | None, cache: Path) -> str:
    """Build and keep one; what is in it."""
    return keep(build(body_meshes(name, folder, lower_back), name, FRAME), cache)


def make_phantom(name: str, cache: Path) -> str:
    """Build and keep one, beside the standard body that is there already; what is in it."""
    return keep(phantom_anatomy.build(name, Anatomy.load(cache / "arms_down.npz")), cache)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--meshes", type=Path, required=True, help="folder with the STL files")
    parser.add_argument("--lumbosacral", type=Path, help="folder with the second person's OBJ files, if any")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/petbone/anatomy"))
    parser.add_argument("--jobs", type=int, default=2, help="bodies at a time, 2 GB each")
    options = parser.parse_args()
    refuse_missing(parser, options.lumbosacral)
    cache = options.cache.expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    mesh = partial(make_mesh_body, folder=options.meshes, lower_back=options.lumbosacral, cache=cache)
    phantom = partial(make_phantom, cache=cache)
    make_missing(
        options.jobs, mesh, phantom, options.lumbosacral, lambda name: (cache / f"{name}.npz").exists()
    )


def refuse_missing(parser: argparse.ArgumentParser, lower_back: Path | None) -> None:
    """Before anything is built: are the second person's files there?"""
    if lower_back is not None and (said := lumbosacral.missing(lower_back)):
        parser.error(said)


def make_missing(
    jobs: int,
    mesh: Callable[[str], str],
    phantom: Callable[[str], str],
    lower_back: Path | None,
    is_there: Callable[[str], bool],
) -> None:
    """Make the bodies that are not there yet, `jobs` at a time; phantoms need the standard body of meshes."""
    with ProcessPoolExecutor(jobs) as pool:
        for make, names in ((mesh, mesh_bodies(lower_back)), (phantom, phantom_anatomy.SHAPES)):
            for said in pool.map(make, [name for name in names if not is_there(name)]):
                print(said, flush=True)


def keep(anatomy: Anatomy, cache: Path) -> str:
    """Write an anatomy; what is in it."""
    path = cache / f"{anatomy.name}.npz"
    anatomy.save(path)
    seen = np.unique(anatomy.labels)
    missing = [n for n, b in BY_NAME.items() if b.id <= 62 and b.id not in seen]
    return f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {len(seen) - 1} bones, missing {missing}"


if __name__ == "__main__":
    main()
