"""Depth in bone at 1 mm beside the 2 mm anatomies of the coarse net: what fine patches are drawn from.

    python scripts/build_fine_anatomy.py --meshes ../shared/anatomy/skeleton \\
        --base ~/.cache/petbone/anatomy --cache ~/.cache/petbone/anatomy_fine

Needs the anatomies of scripts/build_anatomy.py; writes one folder of uncompressed arrays for each of them
(about 0.4 GB), and leaves out those that are already there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import phantom_anatomy
import voxelise
from build_anatomy import FRAME, SKULL_WALL_MM, body_meshes, make_missing, refuse_missing
from scipy import ndimage
from voxelise import Frame

from petbone.anatomy import BONES
from petbone.net.anatomies import Anatomy
from petbone.net.fine_anatomy import FineAnatomy, pack_depth
from petbone.phantom import solids
from petbone.phantom.patient import PhantomSpec, grid_axes
from petbone.phantom.skeleton import build as build_skeleton
from petbone.phantom.solids import Axes

SPACING_MM = 1.0
MARGIN_MM = 10.0
SMOOTH_MM = 0.7  # takes the steps of the voxels off the surface
STERNUM_HALF_MM = 26.0  # beyond it the mesh of the sternum is costal cartilage

Part = tuple[tuple[slice, ...], np.ndarray]


def signed_depth(solid: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Distance in mm from the surface of a mask, positive inside, smoothed."""
    inner = ndimage.distance_transform_edt(solid) - 0.5
    outer = ndimage.distance_transform_edt(~solid) - 0.5
    depth = np.where(solid, inner, -outer).astype(np.float32) * spacing_mm
    return ndimage.gaussian_filter(depth, SMOOTH_MM / spacing_mm)


def mesh_part(triangles: np.ndarray, frame: Frame, bone: str) -> Part:
    """Packed depth in one bone of the mesh skeleton, and its box in the frame."""
    step = frame.spacing_mm
    low = np.floor((triangles.min((0, 1)) - frame.low_mm - MARGIN_MM) / step).astype(int).clip(0)
    high = np.ceil((triangles.max((0, 1)) - frame.low_mm + MARGIN_MM) / step).astype(int)
    high = np.minimum(high, frame.shape)
    box = tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))
    shape = tuple(s.stop - s.start for s in box)
    if 0 in shape:
        return box, np.zeros(shape, np.uint8)
    solid = voxelise.inside_by_vote(triangles, np.array(frame.low_mm) + low * step, shape, step)
    if bone == "skull":  # the mesh is its outer surface only
        solid &= ndimage.distance_transform_edt(solid) * step <= SKULL_WALL_MM
    if bone == "sternum":
        solid &= (np.abs(frame.axis_mm(0)[box[0]]) <= STERNUM_HALF_MM)[:, None, None]
    return box, pack_depth(signed_depth(solid, step))


def painted(shape: tuple[int, ...], parts: Iterable[Part]) -> np.ndarray:
    """The greatest depth in any bone."""
    depth = np.zeros(shape, np.uint8)
    for box, part in parts:
        np.maximum(depth[box], part, out=depth[box])
    return depth


def make_mesh_body(name: str, folder: Path, lower_back: Path | None, base: Path, cache: Path) -> str:
    """Make and keep the depth map of one body of meshes; how well it agrees with the coarse one."""
    ratio = round(FRAME.spacing_mm / SPACING_MM)
    x, y, z = FRAME.shape
    frame = replace(FRAME, shape=(x * ratio, y * ratio, z * ratio), spacing_mm=SPACING_MM)
    meshes = body_meshes(name, folder, lower_back)
    depth = painted(frame.shape, (mesh_part(meshes[b.name], frame, b.name) for b in BONES))
    return keep(Anatomy.load(base / f"{name}.npz"), depth, frame.low_mm, cache)


def make_phantom(name: str, base: Path, cache: Path) -> str:
    """The same of a phantom."""
    anatomy = Anatomy.load(base / f"{name}.npz")
    depth, low_mm = phantom_depth(name, anatomy)
    return keep(anatomy, depth, low_mm, cache)


def phantom_parts(axes: Axes, skeleton_solids: dict[int, list[solids.Solid]]) -> Iterator[Part]:
    """Packed depths of the phantom's bones, boxes widened so that the surroundings have a depth too."""
    wide = round(MARGIN_MM / SPACING_MM / 2)
    for bone_solids in skeleton_solids.values():
        found = solids.field(bone_solids, axes)
        if not found.bone.size:
            continue
        box, pads = [], []
        for s, n in zip(found.box, axes.shape, strict=True):
            start, stop = max(0, s.start - wide), min(n, s.stop + wide)
            box.append(slice(start, stop))
            pads.append((s.start - start, stop - s.stop))
        yield tuple(box), pack_depth(signed_depth(np.pad(found.bone < 0, pads), SPACING_MM))


def phantom_depth(name: str, base: Anatomy) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Depth map of one phantom and its corner in the frame of `base`."""
    spec = PhantomSpec(
        ct_spacing_mm=(phantom_anatomy.SPACING_MM,) * 3,
        stature_mm=phantom_anatomy.STATURE_MM,
        shape=phantom_anatomy.SHAPES[name],
    )
    coarse = grid_axes(spec.fov_mm, spec.ct_spacing_mm, None)
    own_low = np.array([a[0] for a in (coarse.x, coarse.y, coarse.z)]) - phantom_anatomy.SPACING_MM / 2
    shift = np.array(base.low_mm) - own_low
    world = grid_axes(spec.fov_mm, (SPACING_MM,) * 3, None)
    size = spec.stature_mm / 1750.0
    axes = Axes(world.x / (size * spec.width), world.y / (size * spec.width), world.z / size)
    depth = painted(axes.shape, phantom_parts(axes, build_skeleton(spec.shape).solids))
    low = np.array([a[0] for a in (world.x, world.y, world.z)]) - SPACING_MM / 2 + shift
    return depth, (float(low[0]), float(low[1]), float(low[2]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--meshes", type=Path, required=True, help="folder with the STL files")
    parser.add_argument("--lumbosacral", type=Path, help="folder with the second person's OBJ files, if any")
    parser.add_argument("--base", type=Path, default=Path("~/.cache/petbone/anatomy"))
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/petbone/anatomy_fine"))
    parser.add_argument("--jobs", type=int, default=2, help="bodies at a time, 2 GB each")
    options = parser.parse_args()
    refuse_missing(parser, options.lumbosacral)
    base, cache = options.base.expanduser(), options.cache.expanduser()
    mesh = partial(
        make_mesh_body, folder=options.meshes, lower_back=options.lumbosacral, base=base, cache=cache
    )
    phantom = partial(make_phantom, base=base, cache=cache)
    make_missing(
        options.jobs, mesh, phantom, options.lumbosacral, lambda name: (cache / name / "place.json").exists()
    )


def keep(base: Anatomy, depth: np.ndarray, low_mm: tuple[float, float, float], cache: Path) -> str:
    """Write an anatomy; how well its two resolutions agree."""
    fine = FineAnatomy.of(base, depth, low_mm, SPACING_MM)
    fine.save(cache / base.name)
    at = np.floor((fine.bone_points[:, :3] - low_mm) / SPACING_MM).astype(int)
    inside = (depth[tuple(at.clip(0, np.array(depth.shape) - 1).T)] > 86).mean()
    size = sum(path.stat().st_size for path in (cache / base.name).iterdir())
    return (
        f"{base.name}: {size / 1e6:.0f} MB, {len(fine.bone_points)} + {len(fine.tissue_points)} points, "
        f"{inside:.3f} of the bone points in bone"
    )


if __name__ == "__main__":
    main()
