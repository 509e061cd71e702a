"""Soft tissue around a voxelised skeleton: rough shapes, placed by the bones themselves."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay
from voxelise import Frame

from petbone.anatomy import BY_NAME
from petbone.net.anatomies import Tissue

Put = Callable[[np.ndarray, Tissue], None]
COARSE = 3  # hulls are made on every third voxel of the frame (6 mm) and smoothed


class Shapes:
    """Masks in the frame of one skeleton; `x`, `y`, `z` broadcast to the frame in mm."""

    def __init__(self, frame: Frame, labels: np.ndarray) -> None:
        self.frame = frame
        self.labels = labels
        self.x, self.y, self.z = (
            frame.axis_mm(n).reshape([-1 if m == n else 1 for m in range(3)]).astype(np.float32)
            for n in range(3)
        )
        self.boxes = ndimage.find_objects(labels, max_label=62)

    def points(self, names: list[str]) -> np.ndarray:
        """Some surface voxels of bones, (n, 3) mm."""
        found = []
        for name in names:
            box = self.boxes[BY_NAME[name].id - 1]
            if box is None:
                continue
            ijk = np.argwhere(self.labels[box] == BY_NAME[name].id) + [s.start for s in box]
            found.append(ijk[:: max(1, len(ijk) // 600)])
        return np.concatenate(found) * self.frame.spacing_mm + np.array(self.frame.low_mm) + 1.0

    def centre(self, name: str) -> np.ndarray:
        """Mean position of a bone, (3,) mm."""
        return self.points([name]).mean(0)

    def hull(self, points: np.ndarray) -> np.ndarray:
        """Convex hull of points as a mask."""
        hull = Delaunay(points[ConvexHull(points).vertices])
        axes = [self.frame.axis_mm(n)[::COARSE] for n in range(3)]
        low = [np.searchsorted(a, p) for a, p in zip(axes, points.min(0), strict=True)]
        high = [np.searchsorted(a, p) for a, p in zip(axes, points.max(0), strict=True)]
        coarse = np.zeros([len(a) for a in axes], np.float32)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        mesh = np.meshgrid(*[a[s] for a, s in zip(axes, box, strict=True)], indexing="ij")
        places = np.stack(mesh, -1).reshape(-1, 3)
        coarse[box] = (hull.find_simplex(places) >= 0).reshape(mesh[0].shape)
        return self.finer(coarse) > 0.5

    def finer(self, coarse: np.ndarray) -> np.ndarray:
        """A coarse map linearly on the frame."""
        index = [np.arange(n) / COARSE for n in self.frame.shape]
        for axis, where in enumerate(index):
            lower = np.minimum(where.astype(int), coarse.shape[axis] - 1)
            upper = np.minimum(lower + 1, coarse.shape[axis] - 1)
            part = (where - lower).reshape([-1 if n == axis else 1 for n in range(3)]).astype(np.float32)
            coarse = np.take(coarse, lower, axis) * (1 - part) + np.take(coarse, upper, axis) * part
        return coarse

    def ball(self, centre: np.ndarray, radii: tuple[float, float, float]) -> np.ndarray:
        """Ellipsoid."""
        terms = [
            ((axis - c) / r) ** 2 for axis, c, r in zip((self.x, self.y, self.z), centre, radii, strict=True)
        ]
        return terms[0] + terms[1] + terms[2] < 1

    def tube(self, path: np.ndarray, radius: float) -> np.ndarray:
        """Round tube along straight pieces between (n, 3) points."""
        mask = np.zeros(self.frame.shape, bool)
        for a, b in zip(path[:-1], path[1:], strict=True):
            low = np.floor((np.minimum(a, b) - radius - self.frame.low_mm) / self.frame.spacing_mm)
            high = np.ceil((np.maximum(a, b) + radius - self.frame.low_mm) / self.frame.spacing_mm)
            box = tuple(slice(max(int(p), 0), max(int(q), 0)) for p, q in zip(low, high, strict=True))
            x, y, z = self.x[box[0]], self.y[:, box[1]], self.z[:, :, box[2]]
            along = b - a
            t = ((x - a[0]) * along[0] + (y - a[1]) * along[1] + (z - a[2]) * along[2]) / (along @ along)
            t = t.clip(0, 1)
            gap = (x - a[0] - t * along[0]) ** 2 + (y - a[1] - t * along[1]) ** 2
            mask[box] |= gap + (z - a[2] - t * along[2]) ** 2 < radius**2
        return mask


def _ribs(numbers: range, sides: tuple[str, ...] = ("left", "right")) -> list[str]:
    return [f"rib_{side}_{n}" for side in sides for n in numbers]


def _spine(shapes: Shapes) -> np.ndarray:
    """Centre line of the vertebral bodies from L5 up to C2, (n, 3) mm: 16 mm before the bone's mean."""
    order = [f"L{n}" for n in range(5, 0, -1)] + [f"T{n}" for n in range(12, 0, -1)]
    order += [f"C{n}" for n in range(7, 1, -1)]
    centres = np.array([shapes.centre(name) for name in order])
    return np.add(centres, [0, 12, 0])


def outline(shapes: Shapes) -> np.ndarray:
    """Everything under the subcutaneous fat: trunk, neck, head, thighs, arms."""
    pelvis = ["hip_left", "hip_right", "sacrum"]
    belly = np.array([[x, y, 1040.0] for x in (-80.0, 80.0) for y in (-10.0, -15.0)])
    trunk = np.vstack([shapes.points([*_ribs(range(1, 13)), *pelvis, "sternum"]), belly])
    mask = shapes.hull(trunk)
    mask |= shapes.hull(
        shapes.points(
            [
                *_ribs(range(1, 4)),
                "sternum",
                "T1",
                "C7",
                "clavicle_left",
                "clavicle_right",
                "scapula_left",
                "scapula_right",
            ]
        )
    )
    head = shapes.points(["skull", "mandible"])
    mask |= shapes.hull(head)
    neck = np.add(_spine(shapes)[-7:], [0, 18, 0])
    mask |= shapes.tube(np.vstack([neck, neck[-1] + [0, 0, 30]]), 52)
    for side in ("left", "right"):
        for limb, radius, back in (("femur", 62.0, 5.0), ("humerus", 34.0, 0.0)):
            points = shapes.points([f"{limb}_{side}"])
            order = np.argsort(points[:, 2])
            path = np.array([part.mean(0) for part in np.array_split(points[order], 6)])
            mask |= shapes.tube(path - [0, back, 0], radius)
    buttocks = [np.add(shapes.centre(f"hip_{side}"), [0, -45, -40]) for side in ("left", "right")]
    for centre in buttocks:
        mask |= shapes.ball(centre, (75, 60, 85))
    return mask


def lungs(shapes: Shapes) -> np.ndarray:
    """Both lungs: inside the ribs of a side, above the diaphragm, beside the mediastinum."""
    mask = np.zeros(shapes.frame.shape, bool)
    for side, sign, top in (("left", -1, 1205.0), ("right", 1, 1222.0)):
        points = shapes.points(_ribs(range(1, 12), (side,)))
        middle = np.column_stack([np.full(40, sign * 12.0), points[:40, 1:]])
        cage = shapes.hull(np.vstack([points, middle]))
        cage = ndimage.distance_transform_edt(cage, sampling=shapes.frame.spacing_mm) > 9
        x0, y0 = sign * 68.0, -95.0
        away = ((shapes.x - x0) / 62) ** 2 + ((shapes.y - y0) / 78) ** 2
        dome = top - 62 * away.clip(0, 1.6)
        narrow = 22 + 0.06 * (1400 - shapes.z).clip(0, 200)
        mask |= cage & (shapes.z > dome) & (sign * shapes.x > narrow * 0.75)
    return mask


def surround(
    frame: Frame, labels: np.ndarray, bone: np.ndarray, cartilage: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tissue map and distance outside the muscle layer (mm, uint8) of one skeleton."""
    shapes = Shapes(frame, labels)
    spine = _spine(shapes)
    inner = outline(shapes) | (bone > 0.2)
    inner = ndimage.gaussian_filter(inner.astype(np.float32), 4) > 0.45
    outside = ndimage.distance_transform_edt(~inner, sampling=frame.spacing_mm)
    depth = ndimage.distance_transform_edt(inner, sampling=frame.spacing_mm)
    tissue = np.where(inner, Tissue.MUSCLE, Tissue.FAT).astype(np.uint8)

    def put(mask: np.ndarray, kind: Tissue) -> None:
        tissue[mask & inner] = kind

    front = np.interp(shapes.z.ravel(), spine[:, 2], spine[:, 1]).astype(np.float32)[None, None] + 22
    chest = (shapes.z > 1150) & (shapes.z < 1425) & (depth > 14) & (np.abs(shapes.x) < 125)
    belly = (shapes.z > 850) & (shapes.z <= 1235) & (depth > 16) & (np.abs(shapes.x) < 122)
    put(belly & (shapes.y > front - 8 - 0.1 * np.abs(shapes.x)) & (shapes.z > 900), Tissue.BOWEL)
    put((shapes.z <= 900) & belly & (np.abs(shapes.x) < 52) & (shapes.y > -120), Tissue.BOWEL)
    flank = belly & (np.abs(shapes.x) > 38) & (shapes.y > front - 45) & (shapes.z > 1020)
    put(flank, Tissue.BOWEL)
    put(chest & (np.abs(shapes.x) < 40) & (shapes.y > front), Tissue.MEDIASTINUM)
    put(chest & (shapes.z < 1240) & (shapes.z > 1150) & (shapes.y > front - 60), Tissue.BOWEL)
    put(lungs(shapes), Tissue.LUNG)
    put(
        shapes.ball(np.array([62, -88, 1162]), (66, 72, 62)) & (depth > 12) & (tissue != Tissue.LUNG),
        Tissue.LIVER,
    )
    put(
        shapes.ball(np.array([10, -60, 1178]), (70, 42, 34)) & (depth > 12) & (tissue != Tissue.LUNG),
        Tissue.LIVER,
    )
    put(shapes.ball(np.array([-50, -65, 1175]), (45, 42, 42)) & (tissue == Tissue.BOWEL), Tissue.STOMACH)
    put(
        shapes.ball(np.array([-88, -128, 1172]), (28, 38, 48)) & (depth > 12) & (tissue == Tissue.BOWEL),
        Tissue.SPLEEN,
    )
    for x in (-58, 60):
        put(shapes.ball(np.array([x, -128, 1110]), (27, 25, 56)), Tissue.KIDNEY)
    for x in (-36, 36):
        put(
            shapes.tube(np.array([[x, -95, 1105], [x * 1.25, -80, 1010], [x * 2.0, -50, 930]]), 20),
            Tissue.MUSCLE,
        )
    put(shapes.ball(np.array([0, -35, 885]), (42, 34, 34)), Tissue.BLADDER)
    put(shapes.ball(np.array([-24, -64, 1262]), (60, 50, 60)) & (shapes.y > front), Tissue.HEART)
    vessels(shapes, spine, put)
    cranium = ndimage.binary_fill_holes(labels == BY_NAME["skull"].id)
    put(cranium & (bone < 0.5), Tissue.BRAIN)
    put(cartilage > 0.3, Tissue.CARTILAGE)
    canal = ndimage.binary_closing(bone > 0.4, iterations=4) & (bone < 0.2)
    put(canal & (np.abs(shapes.x) < 14) & (shapes.y < front - 30) & (shapes.z < 1540), Tissue.CANAL)
    put(discs(frame, labels, bone), Tissue.DISC)
    return tissue, outside.clip(0, 255).astype(np.uint8)


def discs(frame: Frame, labels: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """What lies between the bodies of two neighbouring vertebrae, seen along z."""
    out = np.zeros(labels.shape, bool)
    names = [*(f"C{n}" for n in range(2, 8)), *(f"T{n}" for n in range(1, 13))]
    names += [*(f"L{n}" for n in range(1, 6)), "sacrum"]
    for upper, lower in itertools.pairwise(names):
        ids = [BY_NAME[upper].id, BY_NAME[lower].id]
        box = ndimage.find_objects(np.isin(labels, ids).astype(np.uint8))[0]
        above, below = ((labels[box] == n) & (bone[box] > 0.4) for n in ids)
        x = np.nonzero(above)[0].mean()
        wide = np.abs(np.arange(above.shape[0]) - x) * frame.spacing_mm < 22
        # A body is the front two fifths of its vertebra; the rest is arch and processes.
        rows = np.flatnonzero(above.any((0, 2)))
        front = np.arange(above.shape[1]) > rows[-1] - 0.45 * (rows[-1] - rows[0])
        z = np.arange(above.shape[2])
        top = np.where(below.any(2), below.shape[2] - 1 - below[:, :, ::-1].argmax(2), z[-1] + 1)
        bottom = np.where(above.any(2), above.argmax(2), -1)
        near = (bottom > top) & ((bottom - top) * frame.spacing_mm <= 20) & wide[:, None] & front[None]
        between = (z > top[..., None]) & (z < bottom[..., None]) & near[..., None]
        out[box] |= between & (bone[box] < 0.5)
    return out


def vessels(shapes: Shapes, spine: np.ndarray, put: Put) -> None:
    """Aorta, caval veins, iliac and neck vessels, trachea, oesophagus, thyroid."""
    low = spine[(spine[:, 2] > 1025) & (spine[:, 2] < 1370)]
    aorta = np.add(low, [-13, 32, 0])
    arch = np.array([[-14, aorta[-1, 1], 1350], [-5, -85, 1368], [12, -62, 1345], [5, -58, 1290]])
    put(shapes.tube(np.vstack([aorta, arch]), 11), Tissue.ARTERY)
    cava = low[low[:, 2] < 1230] + [16, 34, 0]
    put(shapes.tube(cava, 11), Tissue.VEIN)
    put(shapes.tube(np.array([[24, -68, 1290], [24, -72, 1385]]), 9), Tissue.VEIN)
    for sign in (-1, 1):
        put(
            shapes.tube(
                np.array(
                    [
                        [sign * 6, -68, 1025],
                        [sign * 45, -75, 950],
                        [sign * 72, -35, 880],
                        [sign * 80, -40, 780],
                        [sign * 85, -45, 650],
                    ]
                ),
                6,
            ),
            Tissue.ARTERY,
        )
        put(
            shapes.tube(
                np.array([[sign * 20, -70, 1385], [sign * 26, -90, 1420], [sign * 30, -75, 1520]]), 5
            ),
            Tissue.VEIN,
        )
        put(
            shapes.tube(
                np.array([[sign * 20, -78, 1395], [sign * 60, -90, 1420], [sign * 120, -100, 1390]]), 5
            ),
            Tissue.VEIN,
        )
        put(shapes.ball(np.array([sign * 18, -72, 1435]), (10, 10, 22)), Tissue.THYROID)
    top = np.array([[0, -72, 1500], [0, -80, 1430], [3, -92, 1370], [3, -100, 1330]])
    put(shapes.tube(top, 8), Tissue.AIRWAY)
    put(shapes.tube(np.array([[3, -100, 1330], [35, -105, 1300]]), 6), Tissue.AIRWAY)
    put(shapes.tube(np.array([[3, -100, 1330], [-35, -105, 1300]]), 6), Tissue.AIRWAY)
    put(shapes.tube(np.array([[0, -75, 1500], [0, -78, 1560]]), 11), Tissue.AIRWAY)
    put(shapes.ball(np.array([0, -30, 1585]), (14, 28, 18)), Tissue.AIRWAY)
