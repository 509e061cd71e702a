"""How every bone has moved from one CT to another: one rigid motion per bone, from two segmentations.

The patient lies otherwise on another day, so no single motion fits; but a bone is rigid. First the whole
skeleton is laid on the other by the middles of its bones. Then every bone's surface is laid on its own, from
where its neighbours have gone. Bones that cannot be laid well by themselves go with their neighbours.

* *surface*  : points of the outline, to a part of a voxel, with their outward normals. Where a bone leaves
  the field of view it has no outline; and a point counts only where the other field of view holds its place.
* *distance* : from a point to the nearest one of the other surface, along the mean of their two normals, and
  across it as far as that is more than points lie apart; of two surfaces the median, from both sides

Method: symmetric point-to-plane ICP (Rusinkiewicz, ACM Trans Graph 38, 2019, 85): of two points of one arc
the distance along the mean of their normals is 0, so that few points do for curved bones.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from petbone.anatomy import BY_ID, BY_NAME, family
from petbone.volume import Grid, Unit, Volume

POINTS = 1500
"""Of each surface. The nearest of the other's is then some 3 mm away, less than a bone bends within."""

APART_MM = 2.0
"""Surfaces that stay farther apart than this get a note."""

_FEW = 30  # points that both must show, else a bone goes with its neighbours
_ALIKE = 0.4  # cosine of the normals of two points that may be one
_NEAR_MM = 120.0  # farther away a neighbour's turn is no guide
_AROUND, _STRAY_MM = 4, 12.0  # a vertebra does not part from four neighbours by half its height
_JOINTS = {"humerus": "scapula", "scapula": "clavicle", "clavicle": "sternum", "femur": "hip"}
_HEAD_JOINTS = {"skull": "C1", "mandible": "skull"}
_TURN_MM_PER_DEG = 0.01  # of two equally good starts the one that turns less
_MOST_TURN_DEG = (30.0, 60.0)  # beside its neighbours: a bone of the trunk, and one in a joint
_FARTHEST_MM = 40.0
_TRIED = 5  # starts of a bone in a joint
_AS_GOOD, _ELSEWHERE_MM = 1.15, 6.0  # two places of a bone that cannot be told apart
_FAR_BETTER = 3.0
_MOST_STEPS = 20
_STAY, _STAY_IN_JOINT = 0.02, 0.004  # see _laid; a joint's start is a guess, a neighbour's motion is none

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BoneMotion:
    """Where a bone of the first CT lies in the second.

    `second_mm_from_first_mm`: (4, 4) rigid. `surface_before_mm`: median distance of the surfaces, over the
    part seen in both, by the motion of the skeleton as a whole; `surface_after_mm`: by this motion; NaN
    where too little is seen in both. `own`: whether the bone's own surface was laid; otherwise it goes with
    its neighbours or the whole skeleton, and `note` says why. Otherwise `note` is empty, or says what is odd.
    `near`: whether the bone lies well on the other, or has one that does within `_NEAR_MM`; farther away
    nothing tells where it has gone.
    """

    second_mm_from_first_mm: Array
    surface_before_mm: float
    surface_after_mm: float
    own: bool
    note: str
    near: bool = True


@dataclass(frozen=True, eq=False)
class _Surface:
    """Points of one bone's outline in the field of `grid`; at least one."""

    mm: Array  # (n, 3), in an order of which any first part covers the whole bone
    normal: Array  # (n, 3) outward
    middle: Array  # (3,) of all of the outline
    complete: bool
    grid: Grid
    tree: cKDTree
    reach_mm: float  # how far a point of the surface may be from the nearest of `mm`


@dataclass(frozen=True, eq=False)
class _Both:
    """The surfaces of the bones in the two CTs by label, the motion of the whole, and of bones so far."""

    ones: dict[int, _Surface]
    twos: dict[int, _Surface]
    whole: Array
    found: dict[int, Array] = field(default_factory=dict)


def bone_motions(first: Volume, second: Volume) -> dict[int, BoneMotion]:
    """The motion of every bone of `first`, by its label.

    `first`, `second`: label maps of the bones, each on its own grid. A bone that `second` lacks goes with
    its neighbours. Without any common bone no motion is known, and the answer is empty. Raises ValueError
    when one of them is no label map with values 0 to 255.
    """
    for volume in (first, second):
        data = volume.data
        if volume.unit is not Unit.LABEL or data.max(initial=0) > 255 or data.min(initial=0) < 0:
            raise ValueError(f"expected a label map with values 0 to 255, got unit {volume.unit.value}")
    ones, twos = _surfaces(first), _surfaces(second)
    if not set(ones) & set(twos):
        return {}
    both = _Both(ones, twos, _whole_motion(ones, twos))
    notes: dict[int, str] = {}
    for label in _outward(ones):
        motion, taken, notes[label] = _own_motion(label, both)
        if taken:
            both.found[label] = motion
    for label, mm in _strays(both).items():
        notes[label] = f"by itself it goes {mm:.0f} mm elsewhere than its neighbours, its name may be wrong"
        del both.found[label]
    settled = {label: _settled(label, both, notes[label]) for label in ones}
    # One that the whole skeleton's motion lays as well needs none of its own.
    laid = [label for label, bone in settled.items() if bone.own or bone.surface_after_mm <= APART_MM]
    return {label: replace(bone, near=_is_near(label, ones, laid)) for label, bone in settled.items()}


def _own_motion(label: int, both: _Both) -> tuple[Array, bool, str]:
    """The motion that a bone's own surface tells, whether it is to be taken, and why not, or what is odd."""
    one, two = both.ones[label], both.twos.get(label)
    if two is None:
        return both.whole, False, "not in the second CT"
    starts = [both.whole, *_nearest_motions(one, both)]
    usual = starts[-1]
    best = _best_first(one, two, [*starts, *_more_starts(label, starts, both)], usual)
    # Laid by some points, then by all from there: what a start holds back is a few per cent of the way.
    stay = _STAY_IN_JOINT if _in_joint(label) else _STAY
    tried = [_laid(one, two, start, stay, 250) for start in best[: _TRIED if _in_joint(label) else 1]]
    likely = [motion for motion in tried if not _unlikely(label, motion, usual, both)]
    best = _best_first(one, two, likely or tried, usual)
    motion = _laid(one, two, best[0], stay)
    unlikely = _unlikely(label, motion, usual, both)
    if unlikely:
        return motion, False, unlikely
    after = _median(one, two, motion)
    if not np.isfinite(after):
        return motion, False, "too little of it is seen in both"
    before = min(_median(one, two, start) for start in starts)
    if after >= before:
        return motion, False, "by itself it lies no better"
    if _ambiguous(one, two, best, usual):
        # Where its neighbours went it may not be at all, as an arm that was put down.
        return motion, before > _FAR_BETTER * after, "what is seen of it fits in several ways"
    return motion, True, ""


def _unlikely(label: int, motion: Array, usual: Array, both: _Both) -> str:
    """Why no bone can have gone so, beside its neighbours (`usual`); empty where it can."""
    one, partner = both.ones[label], _partner(label)
    turn = _turn_deg(motion, usual)
    if turn > _MOST_TURN_DEG[_in_joint(label)] and not _is_arm(label):
        return f"by itself it would turn by {turn:.0f} degrees"
    if one.complete and both.twos[label].complete:
        return ""
    # Of a bone that is cut another part may look alike; in its joint, or at its middle, it is held.
    place = _end_at(one, both.ones[partner]) if partner in both.found else one.middle
    went = np.linalg.norm(_moved(place, motion) - _moved(place, both.found.get(partner, usual)))
    return f"by itself it would go {went:.0f} mm away" if went > _FARTHEST_MM else ""


def _ambiguous(one: _Surface, two: _Surface, best: list[Array], usual: Array) -> bool:
    """Whether another motion, that takes the bone elsewhere, fits as well as the best."""
    mm, enough = one.mm[:200], _AS_GOOD * _cost(one, two, best[0], usual)
    for other in best[1:]:
        away = np.linalg.norm(_moved(mm, other) - _moved(mm, best[0]), axis=1).mean()
        if away > _ELSEWHERE_MM and _cost(one, two, other, usual) <= enough:
            return True
    return False


def _settled(label: int, both: _Both, note: str) -> BoneMotion:
    """The bone's own motion, else its neighbours' or the whole skeleton's, whichever lies better."""
    one, two = both.ones[label], both.twos.get(label)
    before = _median(one, two, both.whole)
    if label in both.found:
        motion = both.found[label]
        after = _median(one, two, motion)
        if after > APART_MM:
            note = "; ".join(filter(None, [note, f"its surfaces stay {after:.1f} mm apart"]))
        return BoneMotion(motion, before, after, True, note)
    near = _nearest_motions(one, both)
    others = [both.whole, *near]
    distances = [_median(one, two, motion) for motion in others]
    if np.isfinite(distances).all():
        chosen = int(np.argmin(distances))
    else:
        nearest = min((_apart(both.ones[n], one) for n in both.found), default=np.inf)
        chosen = len(near) if nearest <= _NEAR_MM else 0
    source = "its neighbours" if chosen else "the whole skeleton"
    return BoneMotion(others[chosen], before, distances[chosen], False, f"{note}; goes with {source}")


def _is_near(label: int, ones: dict[int, _Surface], laid: list[int]) -> bool:
    """Whether a bone is one of those that lie well, or has one of them near by."""
    return label in laid or any(_apart(ones[n], ones[label]) <= _NEAR_MM for n in laid)


# Surfaces


def _surfaces(labels: Volume) -> dict[int, _Surface]:
    """The outline of every bone, each looked at in its own box."""
    # Axes in the order of memory, so that nothing is read across it.
    order = np.argsort([-abs(stride) for stride in labels.data.strides], kind="stable")
    data = labels.data.transpose(order)
    mm_from_ijk = labels.grid.mm_from_ijk[:, [*order, 3]]
    found = {}
    for label, box in enumerate(ndimage.find_objects(data), start=1):
        if box is not None:
            inside, at_edge = _margined(data, box, label)
            found[label] = _surface(inside, [s.start - 2 for s in box], mm_from_ijk, labels.grid, at_edge)
    return found


def _margined(data: npt.NDArray[np.integer], box: tuple[slice, ...], label: int) -> tuple[Mask, bool]:
    """The mask of a bone in its box with two voxels around it, and whether it reaches the edge of the field.

    Beyond the edge of the field a bone goes on as it is there: its cut face is no outline.
    """
    outer = [(max(s.start - 2, 0), min(s.stop + 2, n)) for s, n in zip(box, data.shape, strict=True)]
    inside = data[tuple(slice(low, high) for low, high in outer)] == label
    lacking = [(low - s.start + 2, s.stop + 2 - high) for s, (low, high) in zip(box, outer, strict=True)]
    at_edge = any(s.start == 0 or s.stop == n for s, n in zip(box, data.shape, strict=True))
    return np.pad(inside, lacking, mode="edge"), at_edge


def _surface(inside: Mask, offset: list[int], mm_from_ijk: Array, grid: Grid, at_edge: bool) -> _Surface:
    """Points where the smoothed mask is one half, near voxels at its rim; `offset`: index of the mask."""
    rim = np.ones(tuple(n - 4 for n in inside.shape), dtype=bool)
    for axis in range(3):
        for side in (slice(1, -3), slice(3, -1)):
            shifted = [slice(2, -2)] * 3
            shifted[axis] = side
            rim &= inside[tuple(shifted)]
    rim = inside[2:-2, 2:-2, 2:-2] & ~rim
    ijk = np.argwhere(rim) + 2
    if not len(ijk):  # a bone that fills the field
        ijk = np.array(inside.shape)[None] // 2
    middle = ijk.mean(axis=0)
    # Every so many in the order of memory, then shuffled: any first part of the points covers the bone.
    chosen = np.linspace(0, len(ijk) - 1, min(POINTS, len(ijk))).round().astype(int)
    ijk = ijk[np.random.default_rng(0).permutation(chosen)]
    offsets, weight, ramp = _kernel()
    strides = np.array([inside.shape[1] * inside.shape[2], inside.shape[2], 1])
    near = inside.ravel()[(ijk @ strides)[:, None] + offsets @ strides].astype(np.float32)
    value, slope = near @ weight, (near @ ramp).astype(np.float64)
    steep = (slope**2).sum(axis=1)
    kept = steep > 1e-3  # where a bone is one voxel thin it has no sides
    kept[0] |= not kept.any()
    steep = np.maximum(steep, 1e-3)
    step = np.clip((0.5 - value) / steep, -1 / np.sqrt(steep), 1 / np.sqrt(steep))
    places = np.vstack([(ijk + step[:, None] * slope)[kept], middle]) + offset
    places = _moved(places, mm_from_ijk)
    mm, middle = places[:-1], places[-1]
    normal = -slope[kept] @ np.linalg.inv(mm_from_ijk[:3, :3])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    tree = cKDTree(mm)
    gaps = tree.query(mm[:200], k=2)[0][:, 1] if len(mm) > 1 else np.zeros(1)
    return _Surface(mm, normal, middle, not at_edge, grid, tree, 1.5 * float(np.median(gaps)))


@cache
def _kernel() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Offsets (125, 3); Gaussian weights for the value of a smoothed mask (125,), for its slope (125, 3)."""
    offsets = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    sigma = 0.8  # voxels
    weight = np.exp(-0.5 * (offsets**2).sum(axis=1) / sigma**2)
    weight /= weight.sum()
    ramp = weight[:, None] * offsets
    ramp /= (ramp * offsets).sum(axis=0)  # exact for a ramp
    return offsets, weight.astype(np.float32), ramp.astype(np.float32)


# The skeleton as a whole, and what a bone may start from


def _whole_motion(ones: dict[int, _Surface], twos: dict[int, _Surface]) -> Array:
    """The motion that lays the middles of the bones on each other; those that went elsewhere do not count."""
    common = [label for label in ones if label in twos]
    entire = [label for label in common if ones[label].complete and twos[label].complete]
    trunk = [label for label in entire if not _in_joint(label)]
    labels = next((some for some in (trunk, entire) if len(some) >= 3), common)
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
    hanging = ("sternum", "C", "skull", "mandible", "clavicle", "scapula", "humerus", "femur")
    middle = np.mean([one.middle for one in ones.values()], axis=0) if ones else np.zeros(3)

    def place(label: int) -> tuple[int, float]:
        stem = BY_ID[label].name.partition("_")[0].rstrip("0123456789") if label in BY_ID else ""
        rank = 1 + hanging.index(stem) if stem in hanging else 0
        return rank, float(np.linalg.norm(ones[label].middle - middle))

    return sorted(ones, key=place)


def _nearest_motions(one: _Surface, both: _Both) -> list[Array]:
    """The motions of the nearest bones laid so far: those of two, and the mean of up to three."""
    labels = sorted(both.found, key=lambda label: _apart(both.ones[label], one))[:3]
    motions = [both.found[label] for label in labels]
    if len(motions) < 2:
        return motions
    mm = np.vstack([one.mm[:200], one.middle + 10 * np.eye(3)])
    mean = np.mean([_moved(mm, motion) for motion in motions], axis=0)
    return [*motions[:2], _fitted(mm, mean, np.ones(len(mm)))]


def _apart(one: _Surface, other: _Surface) -> float:
    return float(np.linalg.norm(one.middle - other.middle))


def _more_starts(label: int, starts: list[Array], both: _Both) -> list[Array]:
    """More to start from: middle on middle, and bones that hang in a joint turned about it."""
    one, two = both.ones[label], both.twos[label]
    anchors = [(one.middle, two.middle)] if one.complete and two.complete else []
    partner = _partner(label)
    if partner in both.ones and partner in both.twos:
        anchors.append((_end_at(one, both.ones[partner]), _end_at(two, both.twos[partner])))
    more = []
    for here, there in anchors:
        for start in (starts[0], starts[-1]):
            shifted = _shift(there - _moved(here, start)) @ start
            more.append(shifted)
            if _in_joint(label):
                more += [_about(there, turn) @ shifted for turn in _turns()]
            if _is_arm(label):
                aligning = _aligning(start[:3, :3] @ _long_axis(one), _long_axis(two))
                more += [_about(there, turn) @ shifted for turn in aligning]
    return more


def _in_joint(label: int) -> bool:
    """Whether a joint turns the bone far from where its neighbours went."""
    return label in BY_ID and BY_ID[label].group in ("shoulder", "limbs", "head")


def _is_arm(label: int) -> bool:
    """A humerus may lie in any direction: arms are up on one day and down on the other."""
    return label in BY_ID and BY_ID[label].name.startswith("humerus")


def _partner(label: int) -> int:
    """The bone in whose joint this one hangs; 0 where it hangs in none."""
    name = BY_ID[label].name if label in BY_ID else ""
    if name in _HEAD_JOINTS:
        return BY_NAME[_HEAD_JOINTS[name]].id
    stem, _, side = name.partition("_")
    partner = _JOINTS.get(stem, "")
    return next((BY_NAME[n].id for n in (f"{partner}_{side}", partner) if n in BY_NAME), 0)


def _end_at(bone: _Surface, partner: _Surface) -> Array:
    """Middle of the twentieth of a bone's surface that is nearest to another bone."""
    away, _ = partner.tree.query(bone.mm)
    end: Array = bone.mm[np.argsort(away)[: max(len(bone.mm) // 20, 1)]].mean(axis=0)
    return end


def _long_axis(bone: _Surface) -> Array:
    axis: Array = np.linalg.svd(np.cov(bone.mm.T) if len(bone.mm) > 1 else np.eye(3))[2][0]
    return axis


@cache
def _turns() -> tuple[Rotation, ...]:
    """Turns by 18 degrees about each axis, and all sums of such."""
    signs = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return tuple(Rotation.from_rotvec(np.radians(18.0) * sign) for sign in signs if sign.any())


def _aligning(axis: Array, target: Array) -> list[Rotation]:
    """The smallest turns that lay one axis along the other, in either direction."""
    turns = []
    for end in (target, -target):
        across = np.cross(axis, end)
        sine = float(np.linalg.norm(across))
        turns.append(Rotation.from_rotvec(np.arctan2(sine, axis @ end) * across / max(sine, 1e-9)))
    return turns


def _strays(both: _Both) -> dict[int, float]:
    """Vertebrae and ribs that went elsewhere than those around them, and by how many mm; the worst first."""
    trunk = [label for label in both.found if family([label]) != "bone"]
    strays: dict[int, float] = {}
    while len(trunk) > _AROUND:
        away = {}
        for label in trunk:
            here = both.ones[label].middle
            near = np.argsort([float(np.linalg.norm(both.ones[n].middle - here)) for n in trunk])
            went = [_moved(here, both.found[trunk[n]]) for n in near[1 : _AROUND + 1]]
            away[label] = float(np.linalg.norm(_moved(here, both.found[label]) - np.median(went, axis=0)))
        worst = max(away, key=away.__getitem__)
        if away[worst] <= _STRAY_MM:
            break
        strays[worst] = away[worst]
        trunk.remove(worst)
    return strays


# Laying one surface on the other


def _laid(one: _Surface, two: _Surface, start: Array, stay: float, count: int = POINTS) -> Array:
    """The motion that lays one surface on the other; what the surfaces do not tell stays as in `start`.

    `stay`: what it costs a point to leave where the start took it, beside leaving the other surface.
    """
    motion = start
    home = _moved(one.mm[:200], start)
    points = 250
    for _ in range(_MOST_STEPS):
        x, y, normal, gap = _pairs(one, two, motion, points)
        if len(x) < _FEW:
            return start
        across = ((y - x) * normal).sum(axis=1)
        scale = max(3 * float(np.median(np.abs(across))), 1.5)
        weight = 1 / (1 + (across / scale) ** 2) * (gap <= max(3 * np.median(gap), one.reach_mm))
        weight /= weight.sum()
        middle = x.mean(axis=0)
        lever = np.hstack([np.cross(x - middle, normal), normal])
        now = _moved(one.mm[:200], motion)
        arm = _levers(now - middle)
        hold = stay / len(now)
        step = np.linalg.solve(
            (lever * weight[:, None]).T @ lever + hold * arm.T @ arm,
            lever.T @ (weight * across) + hold * arm.T @ (home - now).ravel(),
        )
        motion = _shift(step[3:]) @ _about(middle, Rotation.from_rotvec(step[:3])) @ motion
        if np.abs(arm @ step).max() < (0.3 if points < count else 0.05):
            if points >= count:
                break
            points = count
    return motion


def _pairs(one: _Surface, two: _Surface, motion: Array, count: int) -> tuple[Array, Array, Array, Array]:
    """Points of the one surface moved, their partners on the other, mean normals, and how far they are apart.

    From either side, of the first `count` points each, those whose place is in the other's field of view;
    only pairs whose normals are alike.
    """
    back = np.asarray(np.linalg.inv(motion), np.float64)
    x, n = _moved(one.mm[:count], motion), one.normal[:count] @ motion[:3, :3].T
    seen = _seen(x, two.grid)
    x, n = x[seen], n[seen]
    _, at = two.tree.query(x)
    y, m = two.mm[:count], two.normal[:count]
    home = _moved(y, back)
    seen = _seen(home, one.grid)
    y, m = y[seen], m[seen]
    _, at_home = one.tree.query(home[seen])
    x = np.vstack([x, _moved(one.mm[at_home], motion)])
    n = np.vstack([n, one.normal[at_home] @ motion[:3, :3].T])
    y, m = np.vstack([two.mm[at], y]), np.vstack([two.normal[at], m])
    alike = (n * m).sum(axis=1) > _ALIKE
    x, y, normal = x[alike], y[alike], (n + m)[alike]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return x, y, normal, np.sqrt(((y - x) ** 2).sum(axis=1))


def _distances(one: _Surface, two: _Surface, motion: Array, count: int = 500) -> Array:
    """Of the points that both fields hold: how far the other surface is away."""
    x, y, normal, gap = _pairs(one, two, motion, count)
    across = ((y - x) * normal).sum(axis=1)
    along = np.sqrt(np.maximum(gap**2 - across**2, 0))
    # The nearest point is somewhere on the surface; only what is farther than points lie apart tells.
    far: Array = np.hypot(across, np.maximum(along - max(one.reach_mm, two.reach_mm), 0))
    return far


def _median(one: _Surface, two: _Surface | None, motion: Array) -> float:
    found = _distances(one, two, motion) if two is not None else np.zeros(0)
    return float(np.median(found)) if len(found) >= _FEW else float("nan")


def _best_first(one: _Surface, two: _Surface, starts: list[Array], usual: Array) -> list[Array]:
    return sorted(starts, key=lambda start: _cost(one, two, start, usual))


def _cost(one: _Surface, two: _Surface, motion: Array, usual: Array) -> float:
    """The mean distance of the nearer nine tenths; more where fewer points meet, and for turning."""
    found = np.sort(_distances(one, two, motion, 200))
    if len(found) < _FEW:
        return float("inf")
    share = len(found) / (len(one.mm[:200]) + len(two.mm[:200]))
    near = float(found[: int(0.9 * len(found))].mean())
    return near / float(np.sqrt(share)) + _TURN_MM_PER_DEG * _turn_deg(motion, usual)


def _turn_deg(motion: Array, other: Array) -> float:
    return float(np.degrees(Rotation.from_matrix(motion[:3, :3] @ other[:3, :3].T).magnitude()))


# Rigid motions


def _moved(mm: Array, motion: Array) -> Array:
    return mm @ motion[:3, :3].T + motion[:3, 3]


def _shift(mm: Array) -> Array:
    motion = np.eye(4)
    motion[:3, 3] = mm
    return motion


def _about(place: Array, turn: Rotation) -> Array:
    motion = np.eye(4)
    motion[:3, :3] = turn.as_matrix()
    motion[:3, 3] = place - motion[:3, :3] @ place
    return motion


def _fitted(p: Array, q: Array, weight: Array) -> Array:
    """The rigid motion that takes `p` to `q` best: weighted least squares (Kabsch).

    Of turns that the points do not tell, as those about a straight line of points, it takes the smallest.
    """
    p0, q0 = (np.average(points, axis=0, weights=weight) for points in (p, q))
    still = 10 * np.eye(3)  # mm; counts a thousandth
    vectors = [np.vstack([points, still]) for points in (q - q0, p - p0)]
    weights = np.concatenate([weight, np.full(3, 1e-3 * weight.sum())])
    return _shift(q0) @ _about(np.zeros(3), Rotation.align_vectors(*vectors, weights)[0]) @ _shift(-p0)


def _levers(mm: Array) -> Array:
    """(3 n, 6) what a small turn about the origin and a small shift do to points."""
    arm = np.zeros((len(mm), 3, 6))
    x, y, z = mm.T
    arm[:, 0, 1], arm[:, 0, 2] = z, -y
    arm[:, 1, 0], arm[:, 1, 2] = -z, x
    arm[:, 2, 0], arm[:, 2, 1] = y, -x
    arm[:, [0, 1, 2], [3, 4, 5]] = 1
    return arm.reshape(-1, 6)


def _seen(mm: Array, grid: Grid) -> Mask:
    """Which points lie in the field of view."""
    ijk = grid.ijk(mm)
    return np.asarray(((ijk >= -0.5) & (ijk <= np.array(grid.shape) - 0.5)).all(axis=1))
