"""How every bone has moved from one CT to another: one rigid motion per bone, from two segmentations.

The patient lies otherwise on another day, so no single motion fits; but a bone is rigid. First the whole
skeleton is laid on the other by the middles of its bones. Then every bone's surface is laid on its own, from
where its neighbours have gone. Bones that cannot be laid well by themselves go with their neighbours.

* *surface* : points of the outline, to a part of a voxel, with their outward normals. Where a bone leaves the
  field of view it has no outline; and a point counts only where the other field of view holds its place.
* *distance* of two surfaces: along the mean of the two normals, from each point to the nearest one whose
  normal is alike; the median over both directions

Method: symmetric point-to-plane ICP (Rusinkiewicz, ACM Trans Graph 38, 2019, 85): of two points of one arc the
distance along the mean of their normals is 0, so that few points do for curved bones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from petbone.anatomy import BY_ID, BY_NAME
from petbone.volume import Grid, Unit, Volume

POINTS = 1500
"""Of each surface. The nearest of the other's is then some 3 mm away, less than a bone bends within."""

_FEW = 30  # points that both must show, else a bone goes with its neighbours
_ALIKE = 0.4  # cosine of the normals of two points that may be one
_TURNING = ("shoulder", "limbs", "head")  # bones that a joint turns far from where their neighbours went

Array = npt.NDArray[np.float64]
Motions = dict[int, Array]


@dataclass(frozen=True, eq=False)
class BoneMotion:
    """Where a bone of the first CT lies in the second.

    `second_mm_from_first_mm`: (4, 4) rigid. `surface_before_mm`: median distance of the surfaces, over the
    part seen in both, by the motion of the skeleton as a whole; `surface_after_mm`: by this motion; NaN
    where too little is seen in both. `own`: whether the bone's own surface was laid; otherwise it goes with
    its neighbours or the whole skeleton, and `note` says why.
    """

    second_mm_from_first_mm: Array
    surface_before_mm: float
    surface_after_mm: float
    own: bool
    note: str


@dataclass(frozen=True, eq=False)
class _Surface:
    """Points of one bone's outline in the field of `grid`."""

    mm: Array  # (n, 3), in an order of which any first part covers the whole bone
    normal: Array  # (n, 3) outward
    middle: Array  # (3,) of all of the outline
    complete: bool
    grid: Grid
    tree: cKDTree
    reach_mm: float  # how far a point of the surface may be from the nearest of `mm`


def bone_motions(first: Volume, second: Volume) -> dict[int, BoneMotion]:
    """The motion of every bone of `first`, by its label.

    `first`, `second`: label maps of the bones, each on its own grid. A bone that `second` lacks goes with
    its neighbours; without any common bone nothing is taken to have moved. Raises ValueError when one of
    them is no label map with values 0 to 255.
    """
    for volume in (first, second):
        if volume.unit is not Unit.LABEL or volume.data.max(initial=0) > 255 or volume.data.min(initial=0) < 0:
            raise ValueError(f"expected a label map with values 0 to 255, got unit {volume.unit.value}")
    ones, twos = _surfaces(first), _surfaces(second)
    whole = _whole_motion(ones, twos)
    found: Motions = {}
    refused: dict[int, str] = {}
    for label in _outward(ones):
        if label not in twos:
            refused[label] = "not in the second CT"
            continue
        one, two = ones[label], twos[label]
        starts = [whole, *_nearest_motions(one, ones, found)]
        best = _best(one, two, [*starts, *_more_starts(label, starts, ones, twos)], starts[-1])
        if _turns(label):
            tried = [_laid(one, two, start, 250) for start in best[:_TRIED]]
            best = _best(one, two, tried, starts[-1])
        motion = _laid(one, two, best[0])
        refused[label] = _objection(one, two, motion, starts)
        if not refused[label]:
            found[label] = motion
    return {label: _motion(label, ones, twos, whole, found, refused) for label in ones}


def _motion(
    label: int,
    ones: dict[int, _Surface],
    twos: dict[int, _Surface],
    whole: Array,
    found: Motions,
    refused: dict[int, str],
) -> BoneMotion:
    """The bone's own motion, else its neighbours' or the whole skeleton's, whichever lies better."""
    one, two = ones[label], twos.get(label)
    before = _median(one, two, whole)
    if label in found:
        return BoneMotion(found[label], before, _median(one, two, found[label]), True, "")
    others = [(whole, "the whole skeleton")]
    near = _nearest_motions(one, ones, found)
    others += [(motion, "its neighbours") for motion in near]
    distances = [_median(one, two, motion) for motion, _ in others]
    if np.isfinite(distances[0]):
        best = int(np.argmin(distances))
    else:
        close = [np.linalg.norm(ones[n].middle - one.middle) <= _NEAR_MM for n in found]
        best = -1 if any(close) else 0
    motion, source = others[best]
    return BoneMotion(motion, before, distances[best], False, f"{refused[label]}; goes with {source}")


_NEAR_MM = 120.0  # farther away a neighbour's turn is no guide


# The skeleton as a whole, and what a bone may start from


def _whole_motion(ones: dict[int, _Surface], twos: dict[int, _Surface]) -> Array:
    """The motion that lays the middles of the bones on each other; those that went elsewhere do not count."""
    common = [label for label in ones if label in twos]
    entire = [label for label in common if ones[label].complete and twos[label].complete]
    trunk = [label for label in entire if not _turns(label)]
    for labels in (trunk, entire, common):
        if len(labels) >= 3:
            break
    if not labels:
        return np.eye(4)
    p = np.stack([ones[label].middle for label in labels])
    q = np.stack([twos[label].middle for label in labels])
    if len(labels) < 3:
        return _shift((q - p).mean(axis=0))
    weight = np.ones(len(p))
    for _ in range(30):
        motion = _fitted(p, q, weight)
        away = np.linalg.norm(_moved(p, motion) - q, axis=1)
        weight = 1 / (1 + (away / max(2 * np.median(away), 2.0)) ** 2) ** 2
    return motion


def _outward(ones: dict[int, _Surface]) -> list[int]:
    """Labels in the order in which they are laid: the trunk from its middle, then what hangs on it."""
    hanging = ("sternum", "cervical_spine", "head", "shoulder", "limbs")
    middle = np.mean([one.middle for one in ones.values()], axis=0)

    def place(label: int) -> tuple[int, float]:
        group = BY_ID[label].group if label in BY_ID else ""
        rank = 1 + hanging.index(group) if group in hanging else 0
        return rank, float(np.linalg.norm(ones[label].middle - middle))

    return sorted(ones, key=place)


def _nearest_motions(one: _Surface, ones: dict[int, _Surface], found: Motions) -> list[Array]:
    """The motions of the nearest bones laid so far: each of two, and the mean of up to three."""
    labels = sorted(found, key=lambda label: float(np.linalg.norm(ones[label].middle - one.middle)))[:3]
    motions = [found[label] for label in labels]
    if len(motions) < 2:
        return motions
    mean = np.mean([_moved(one.mm[:200], motion) for motion in motions], axis=0)
    return [*motions[:2], _fitted(one.mm[:200], mean)]


def _more_starts(
    label: int, starts: list[Array], ones: dict[int, _Surface], twos: dict[int, _Surface]
) -> list[Array]:
    """More to start from: middle on middle, and bones that hang in a joint turned about it."""
    one, two = ones[label], twos[label]
    anchors = [(one.middle, two.middle)] if one.complete and two.complete else []
    partner = _partner(label)
    if partner in ones and partner in twos:
        anchors.append((_end_at(one, ones[partner]), _end_at(two, twos[partner])))
    more = []
    for here, there in anchors:
        for start in (starts[0], starts[-1]):
            shifted = _shift(there - _moved(here, start)) @ start
            more.append(shifted)
            if _turns(label):
                axis = [_long_axis(one) @ start[:3, :3].T, _long_axis(two)]
                more += [_about(there, turn) @ shifted for turn in (*_TURNS, *_aligning(*axis))]
    return more


def _turns(label: int) -> bool:
    return label in BY_ID and BY_ID[label].group in _TURNING


_TRIED = 5
_JOINTS = {"humerus": "scapula", "scapula": "clavicle", "clavicle": "sternum", "femur": "hip"}
_HEAD_JOINTS = {"skull": "C1", "mandible": "skull"}
_TURNS = [
    Rotation.from_rotvec(np.radians(18.0) * np.array([a, b, c]))
    for a in (-1, 0, 1)
    for b in (-1, 0, 1)
    for c in (-1, 0, 1)
    if a or b or c
]


def _partner(label: int) -> int:
    """The bone in whose joint this one hangs; 0 where it hangs in none."""
    name = BY_ID[label].name if label in BY_ID else ""
    stem, _, side = name.partition("_")
    if name in _HEAD_JOINTS:
        return BY_NAME[_HEAD_JOINTS[name]].id
    partner = _JOINTS.get(stem, "")
    return next((BY_NAME[n].id for n in (f"{partner}_{side}", partner) if n in BY_NAME), 0)


def _end_at(bone: _Surface, partner: _Surface) -> Array:
    """Middle of the twentieth of a bone's surface that is nearest to another bone."""
    away, _ = partner.tree.query(bone.mm)
    end: Array = bone.mm[np.argsort(away)[: max(len(bone.mm) // 20, 1)]].mean(axis=0)
    return end


def _long_axis(bone: _Surface) -> Array:
    axis: Array = np.linalg.svd(bone.mm - bone.mm.mean(axis=0), full_matrices=False)[2][0]
    return axis


def _aligning(axis: Array, target: Array) -> list[Rotation]:
    """The smallest turns that lay one axis along the other, in either direction."""
    turns = []
    for sign in (1.0, -1.0):
        across = np.cross(axis, sign * target)
        angle = np.arctan2(np.linalg.norm(across), axis @ (sign * target))
        turns.append(Rotation.from_rotvec(angle * across / max(float(np.linalg.norm(across)), 1e-9)))
    return turns


def _about(place: Array, turn: Rotation) -> Array:
    motion = np.eye(4)
    motion[:3, :3] = turn.as_matrix()
    motion[:3, 3] = place - motion[:3, :3] @ place
    return motion


# Laying one surface on the other


def _laid(one: _Surface, two: _Surface, start: Array, count: int = POINTS) -> Array:
    """The motion that lays one surface on the other; what the surfaces do not tell stays as in `start`."""
    motion = start
    body = _moved(one.mm[:200], start)
    few = 250
    for _ in range(_MOST_TURNS):
        x, q, normal, away = _pairs(one, two, motion, few)
        if len(x) < _FEW:
            return start
        across = ((q - x) * normal).sum(axis=1)
        scale = max(3.0 * float(np.median(np.abs(across))), 1.5)
        weight = 1 / (1 + (across / scale) ** 2) * (away <= max(3 * np.median(away), one.reach_mm))
        share = weight / weight.sum()
        middle = x.mean(axis=0)
        lever = np.concatenate([np.cross(x - middle, normal), normal], axis=1)
        now = _moved(one.mm[:200], motion)
        arm = _levers(now - middle).reshape(-1, 6)
        stay = _STAY / len(now)
        matrix = (lever * share[:, None]).T @ lever + stay * arm.T @ arm
        right = lever.T @ (share * across) + stay * arm.T @ (body - now).ravel()
        step = np.linalg.solve(matrix, right)
        motion = _shift(step[3:]) @ _about(middle, Rotation.from_rotvec(step[:3])) @ motion
        if np.abs(arm @ step).max() < (0.3 if few < count else 0.05):
            if few >= count:
                break
            few = count
    return motion


_MOST_TURNS = 20
_STAY = 0.02
"""How much it costs a point to leave where the start took it, beside leaving the other surface."""


def _pairs(one: _Surface, two: _Surface, motion: Array, count: int) -> tuple[Array, Array, Array, Array]:
    """Points of the one surface moved, their partners on the other, mean normals, and distances.

    From either side, of the first `count` points each; only pairs whose normals are alike.
    """
    x, n = _moved(one.mm[:count], motion), one.normal[:count] @ motion[:3, :3].T
    there = _seen(x, two.grid)
    x, n = x[there], n[there]
    back = np.linalg.inv(motion)
    y, m = two.mm[:count], two.normal[:count]
    home = _moved(y, back)
    there = _seen(home, one.grid)
    y, m, home = y[there], m[there], home[there]
    away_y, at_y = two.tree.query(x) if len(x) and len(two.mm) else (np.zeros(0), np.zeros(0, int))
    away_x, at_x = one.tree.query(home) if len(y) and len(one.mm) else (np.zeros(0), np.zeros(0, int))
    x = np.concatenate([x[: len(at_y)], _moved(one.mm[at_x], motion)])
    n = np.concatenate([n[: len(at_y)], one.normal[at_x] @ motion[:3, :3].T])
    y = np.concatenate([two.mm[at_y], y[: len(at_x)]])
    m = np.concatenate([two.normal[at_y], m[: len(at_x)]])
    away = np.concatenate([away_y, away_x])
    alike = (n * m).sum(axis=1) > _ALIKE
    normal = (n + m)[alike]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return x[alike], y[alike], normal, away[alike]


def _distances(one: _Surface, two: _Surface, motion: Array, count: int = POINTS) -> Array:
    """Of the points that both fields hold: how far the other surface is away."""
    x, q, normal, away = _pairs(one, two, motion, count)
    across = ((q - x) * normal).sum(axis=1)
    along = np.sqrt(np.maximum(away**2 - across**2, 0))
    # The nearest point is somewhere on the surface; only what is farther than points lie apart tells.
    return np.hypot(across, np.maximum(along - max(one.reach_mm, two.reach_mm), 0))


def _median(one: _Surface, two: _Surface | None, motion: Array) -> float:
    found = _distances(one, two, motion) if two is not None else np.zeros(0)
    return float(np.median(found)) if len(found) >= _FEW else float("nan")


def _score(one: _Surface, two: _Surface, motion: Array) -> float:
    """Smaller is better: the mean of the nearer nine tenths, by a part of the points."""
    found = np.sort(_distances(one, two, motion, 200))
    return float(found[: max(int(0.9 * len(found)), 1)].mean()) if len(found) >= _FEW else float("inf")


def _best(one: _Surface, two: _Surface, starts: list[Array], usual: Array) -> list[Array]:
    """The best first. Of equally good ones that which turns least beside the `usual` motion."""

    def cost(motion: Array) -> float:
        turn = Rotation.from_matrix(motion[:3, :3] @ usual[:3, :3].T).magnitude()
        return _score(one, two, motion) + _TURN_MM_PER_DEG * float(np.degrees(turn))

    return sorted(starts, key=cost)


_TURN_MM_PER_DEG = 0.01


def _objection(one: _Surface, two: _Surface, motion: Array, starts: list[Array]) -> str:
    """Why a motion is not taken; empty where it is."""
    after = _median(one, two, motion)
    if not np.isfinite(after):
        return "too little of it is seen in both"
    if after > min(_median(one, two, start) for start in starts):
        return "by itself it lies no better"
    return ""


# Rigid motions


def _moved(mm: Array, motion: Array) -> Array:
    return mm @ motion[:3, :3].T + motion[:3, 3]


def _shift(mm: Array) -> Array:
    motion = np.eye(4)
    motion[:3, 3] = mm
    return motion


def _fitted(p: Array, q: Array, weight: Array | None = None) -> Array:
    """The rigid motion that takes `p` to `q` best (weighted least squares; Kabsch)."""
    weight = np.ones(len(p)) if weight is None else weight
    p0, q0 = (np.average(points, axis=0, weights=weight) for points in (p, q))
    motion = np.eye(4)
    motion[:3, :3] = Rotation.align_vectors(q - q0, p - p0, weight)[0].as_matrix()
    motion[:3, 3] = q0 - motion[:3, :3] @ p0
    return motion


def _levers(mm: Array) -> Array:
    """(n, 3, 6) what a small turn and shift about the origin do to points."""
    arm = np.zeros((len(mm), 3, 6))
    x, y, z = mm.T
    arm[:, 0, 1], arm[:, 0, 2] = z, -y
    arm[:, 1, 0], arm[:, 1, 2] = -z, x
    arm[:, 2, 0], arm[:, 2, 1] = y, -x
    arm[:, [0, 1, 2], [3, 4, 5]] = 1
    return arm


def _seen(mm: Array, grid: Grid) -> npt.NDArray[np.bool_]:
    """Which points lie in the field of view."""
    ijk = grid.ijk(mm)
    inside: npt.NDArray[np.bool_] = ((ijk >= -0.5) & (ijk <= np.array(grid.shape) - 0.5)).all(axis=1)
    return inside


# Surfaces


def _surfaces(labels: Volume) -> dict[int, _Surface]:
    """The outline of every bone, each looked at in its own box."""
    # Axes in the order of memory, so that nothing is read across it.
    order = np.argsort([-abs(stride) for stride in labels.data.strides], kind="stable")
    data = labels.data.transpose(order)
    permuted = labels.grid.mm_from_ijk[:, [*order, 3]]
    found = {}
    for label, box in enumerate(ndimage.find_objects(data), start=1):
        if box is not None:
            found[label] = _surface(data, box, label, permuted, labels.grid)
    return found


def _surface(
    data: npt.NDArray[np.integer], box: tuple[slice, ...], label: int, mm_from_ijk: Array, grid: Grid
) -> _Surface:
    low = np.array([s.start for s in box])
    high = np.array([s.stop for s in box])
    outer = [(max(a - 2, 0), min(b + 2, n)) for a, b, n in zip(low, high, data.shape, strict=True)]
    inside = data[tuple(slice(a, b) for a, b in outer)] == label
    # Beyond the edge of the field a bone goes on as it is there: its cut face is no outline.
    short = [(2 - (a - o), 2 - (p - b)) for a, b, (o, p) in zip(low, high, outer, strict=True)]
    inside = np.pad(inside, short, mode="edge")
    offset = low - 2
    core = np.ones(tuple(n - 4 for n in inside.shape), dtype=bool)
    for axis in range(3):
        for end in (slice(1, -3), slice(3, -1)):
            sides = [slice(2, -2)] * 3
            sides[axis] = end
            core &= inside[tuple(sides)]
    at = np.flatnonzero(inside[2:-2, 2:-2, 2:-2] & ~core)
    shape = np.array(inside.shape)
    ijk = np.stack(np.unravel_index(at, tuple(shape - 4)), axis=1)
    complete = all(a > 0 and b < n for a, b, n in zip(low, high, data.shape, strict=True))
    middle_ijk = ijk.mean(axis=0) + low if len(ijk) else 0.5 * (low + high - 1)
    # In the order of memory every so many, then shuffled: any first part of the points covers the bone.
    chosen = np.linspace(0, len(ijk) - 1, min(POINTS, len(ijk))).round().astype(int)
    ijk = ijk[np.random.default_rng(0).permutation(chosen)] + 2
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    near = inside.ravel()[(ijk @ strides)[:, None] + _KERNEL_IJK @ strides].astype(np.float32)
    value = near @ _KERNEL
    slope = near @ _KERNEL_SLOPES
    steep = np.maximum((slope**2).sum(axis=1), 1e-6)
    step = np.clip((0.5 - value) / steep, -1.0 / np.sqrt(steep), 1.0 / np.sqrt(steep))
    kept = steep > 1e-3  # where a bone is one voxel thin it has no side
    ijk, slope = (ijk + step[:, None] * slope)[kept], slope[kept]
    linear = mm_from_ijk[:3, :3]
    mm = (ijk + offset) @ linear.T + mm_from_ijk[:3, 3]
    normal = -slope @ np.linalg.inv(linear)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    tree = cKDTree(mm)
    gaps = tree.query(mm[:200], k=2)[0][:, 1] if len(mm) > 1 else np.zeros(1)
    middle_mm = linear @ middle_ijk + mm_from_ijk[:3, 3]
    return _Surface(mm, normal, middle_mm, complete, grid, tree, float(1.5 * np.median(gaps)))


def _kernel() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Offsets (125, 3), Gaussian weights for the value of a smoothed mask (125,), and for its slope (125, 3)."""
    offsets = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    sigma = 0.8  # voxels
    weight = np.exp(-0.5 * (offsets**2).sum(axis=1) / sigma**2)
    weight /= weight.sum()
    slopes = weight[:, None] * offsets
    slopes /= (slopes * offsets).sum(axis=0)  # exact for a ramp
    return offsets, weight.astype(np.float32), slopes.astype(np.float32)


_KERNEL_IJK, _KERNEL, _KERNEL_SLOPES = _kernel()
