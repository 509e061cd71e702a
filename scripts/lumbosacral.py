"""The lower back of a second person, grafted onto the mesh skeleton: L1 to L5, sacrum and hip bones.

The mesh skeleton's vertebrae are coarse (some 200 points each) and its loin is low; these were traced in a
man's CT, with their processes and facets. Sources and licences: docs/training.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SCALE = 0.93  # from a man of 1.80 m to the 1.67 m of the mesh skeleton
T12_TO_L1_MM = (0.0, 1.0, -31.0)  # from mean to mean of the points, where L1 of the second person goes
LORDOSIS_DEG = 10.0  # turned about L1, so that the pelvis lies under the belly of the mesh skeleton
FILES = {f"L{n}": f"L{n}_Schrumpfverpacken.obj" for n in range(1, 6)} | {
    "sacrum": "S1_Schrumpfverpacken.obj",
    "hips": "Pelvis.obj",
}


def read_obj(path: Path) -> np.ndarray:
    """Triangles of an OBJ file, (n, 3, 3) in the file's frame; other lines than v and f are left out."""
    corners, faces = [], []
    for line in path.read_text().splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            corners.append([float(w) for w in words[1:4]])
        elif words[:1] == ["f"]:
            if len(words) != 4:
                raise ValueError(f"{path.name}: a face of {len(words) - 1} corners, expected triangles")
            faces.append([int(w.split("/")[0]) - 1 for w in words[1:]])
    return np.array(corners)[np.array(faces)]


def missing(folder: Path) -> str:
    """In one line, what of the files is not in the folder; empty if nothing."""
    absent = [file for file in sorted(set(FILES.values())) if not (folder / file).is_file()]
    return f"{folder}: no {', '.join(absent)}; expected the OBJ files as they are published" if absent else ""


def load(folder: Path) -> dict[str, np.ndarray]:
    """Triangles by bone name, RAS mm about an origin of their own; the two hip bones are told apart by x.

    The files have metres, x to the front, y to the left, z to the head.
    """
    found = {}
    for name, file in FILES.items():
        raw = read_obj(folder / file) * 1000 * SCALE
        found[name] = np.stack([-raw[..., 1], raw[..., 0], raw[..., 2]], -1)
    hips = found.pop("hips")
    middle = hips.mean(1)[:, 0]
    return found | {"hip_left": hips[middle < 0], "hip_right": hips[middle >= 0]}


def graft(meshes: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """`meshes` (RAS mm) with the lower back of the second person under their T12; femora follow the hips."""
    lower = load(folder)
    first = lower["L1"].reshape(-1, 3).mean(0)
    shift = meshes["T12"].reshape(-1, 3).mean(0) + T12_TO_L1_MM - first
    shift[0] = 0.0
    grafted = dict(meshes)
    for name, triangles in lower.items():
        grafted[name] = _nodded(triangles, first) + shift
    for side in ("left", "right"):
        # The joint of the hip: its outermost third. Means of points, since both are dense there.
        old, new = (m[f"hip_{side}"].reshape(-1, 3) for m in (meshes, grafted))
        grafted[f"femur_{side}"] = meshes[f"femur_{side}"] + (_socket(new) - _socket(old))
    return grafted


def _nodded(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """`points` (..., 3) turned about the left-right axis through `centre`: what is below comes forward."""
    cos, sin = np.cos(np.radians(LORDOSIS_DEG)), np.sin(np.radians(LORDOSIS_DEG))
    return (points - centre) @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]).T + centre


def _socket(hip: np.ndarray) -> np.ndarray:
    """About the middle of the joint of a hip bone's points (n, 3): the lower half's outermost tenth."""
    lower = hip[hip[:, 2] < (hip[:, 2].min() + hip[:, 2].max()) / 2]
    out = np.abs(lower[:, 0])
    return np.asarray(lower[out > np.quantile(out, 0.9)].mean(0))
