"""Patients who differ from the rest: bent spines, collapsed vertebrae, thin bone, lime, metal, missing ribs.

Each variant is a function from a scene to a scene; `with_variants` decides which of them a sample has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from petbone.anatomy import BY_NAME
from petbone.net.anatomies import Anatomy, Tissue

if TYPE_CHECKING:
    from petbone.net.scene import Scene

F64 = npt.NDArray[np.float64]
Points = npt.NDArray[np.floating[Any]]
Change = Callable[[np.random.Generator, "Scene", Anatomy], "Scene"]
_TRUNK = (*(f"T{n}" for n in range(4, 13)), *(f"L{n}" for n in range(1, 6)))


@dataclass(frozen=True, eq=False)
class Implant:
    """A hip prosthesis: a ball, and a stem down the shaft. Standard mm (3,)."""

    head_mm: Points
    neck_mm: Points
    tip_mm: Points
    ball_mm: float
    stem_mm: float


def with_variants(rng: np.random.Generator, scene: Scene, anatomy: Anatomy, factor: float = 1.0) -> Scene:
    """The scene with the variants that `rng` draws; `factor` times as often as people have them."""
    for share, change in SHARES:
        own = np.random.default_rng(int(rng.integers(2**31)))
        if own.random() < factor * share:
            scene = change(own, scene, anatomy)
    return scene


def points_mm(anatomy: Anatomy, label: int) -> Points:
    """Some voxels of a bone, (n, 3) standard mm."""
    part = (slice(None, None, 2),) * 3
    at = np.argwhere(anatomy.labels[part] == label) * 2
    solid = anatomy.cortex[tuple(at.T)].astype(int) + anatomy.spongiosa[tuple(at.T)] > 100
    return np.asarray(np.array(anatomy.low_mm) + (at[solid] + 0.5) * anatomy.spacing_mm)


def _along_mm(scene: Scene, anatomy: Anatomy) -> F64:
    at = np.arange(len(scene.z_curve), dtype=np.float64) + 0.5
    return np.asarray(anatomy.low_mm[2] + at * anatomy.spacing_mm, np.float64)


def squeezed(z_curve: F64, low_mm: float, high_mm: float, loss: float, at_mm: float) -> F64:
    """`z_curve` that passes standard `low_mm` to `high_mm` in 1 - `loss` of the way; `at_mm` stays."""
    count = len(z_curve)
    inside = (z_curve > low_mm) & (z_curve <= high_mm)
    where = np.cumsum(np.where(inside, 1 - loss, 1.0))
    at = int(np.abs(z_curve - at_mm).argmin())
    where += at - where[at]
    # The ends go on as they were, to fill what the squeezed part has left.
    before, after = (
        z_curve[0] - count * (z_curve[1] - z_curve[0]),
        z_curve[-1] + count * (z_curve[-1] - z_curve[-2]),
    )
    known_at = np.concatenate([[where[0] - count], where, [where[-1] + count]])
    known = np.concatenate([[before], z_curve, [after]])
    return np.asarray(np.interp(np.arange(count), known_at, known))


def collapse(rng: np.random.Generator, scene: Scene, anatomy: Anatomy) -> Scene:
    """One to three vertebrae that have lost height: in front (wedge) or all over; often denser."""
    curve, wedge = scene.z_curve, np.zeros(len(scene.z_curve)) + scene.wedge_mm
    gain = scene.bone_gain.copy()
    first = int(rng.integers(len(_TRUNK)))
    for name in _TRUNK[first : first + int(rng.integers(1, 4))]:
        points = points_mm(anatomy, BY_NAME[name].id)
        loss, all_over = rng.uniform(0.2, 0.6), rng.random() < 0.4
        if len(points) == 0:
            continue
        body = points[points[:, 1] > np.median(points[:, 1])]
        low, high = np.percentile(body[:, 2], (10, 90))
        changed = squeezed(curve, float(low), float(high), loss, float(scene.centre_mm[2]))
        if all_over:
            curve = changed
        else:
            wedge = wedge + changed - curve
        gain[BY_NAME[name].id] *= rng.uniform(1.0, 1.8)
    scene = replace(scene, z_curve=curve, wedge_mm=wedge, bone_gain=gain)
    return thin_bone(rng, scene, anatomy) if rng.random() < 0.5 else scene


def scoliosis(rng: np.random.Generator, scene: Scene, anatomy: Anatomy) -> Scene:
    """One or two lateral curves between the shoulders and the pelvis."""
    z = _along_mm(scene, anatomy) - rng.uniform(1080, 1300)
    wave = np.sin(2 * np.pi * (z / rng.uniform(300, 650) + rng.random())) * np.exp(-((z / 220) ** 2))
    return replace(scene, x_bend_mm=scene.x_bend_mm + rng.uniform(6, 22) * wave)


def kyphosis(rng: np.random.Generator, scene: Scene, anatomy: Anatomy) -> Scene:
    """A round upper back."""
    z = _along_mm(scene, anatomy) - rng.uniform(1200, 1360)
    hump = np.exp(-((z / rng.uniform(80, 140)) ** 2))
    return replace(scene, y_bend_mm=scene.y_bend_mm - rng.uniform(12, 38) * hump)


def big_belly(rng: np.random.Generator, scene: Scene, anatomy: Anatomy) -> Scene:
    """Everything before the spine deeper, as in a fat or pregnant belly, ascites or a large tumour."""
    z = _along_mm(scene, anatomy) - rng.uniform(980, 1130)
    round_mm = rng.uniform(70, 140)
    return replace(scene, belly=1 - rng.uniform(0.1, 0.5) * np.exp(-((z / round_mm) ** 2)))


def thin_bone(rng: np.random.Generator, scene: Scene, _: Anatomy) -> Scene:
    """Osteoporosis: marrow as dark as fat and water, a thin cortex."""
    return replace(
        scene,
        spongiosa_hu=rng.uniform(-30, 70),
        cortex_share=rng.uniform(0.35, 0.6),
        cortex_hu=rng.uniform(350, 900),
    )


def limed_cartilage(rng: np.random.Generator, scene: Scene, _: Anatomy) -> Scene:
    """Costal cartilage as bright as bone, at its rim or in spots."""
    return replace(
        scene, lime={**scene.lime, Tissue.CARTILAGE: (rng.uniform(0.1, 0.9), rng.uniform(150, 700))}
    )


def limed_arteries(rng: np.random.Generator, scene: Scene, _: Anatomy) -> Scene:
    """Plaques in the walls of the arteries."""
    return replace(scene, lime={**scene.lime, Tissue.ARTERY: (rng.uniform(0.05, 0.5), rng.uniform(250, 900))})


def eleven_ribs(rng: np.random.Generator, scene: Scene, _: Anatomy) -> Scene:
    """No twelfth rib, or only one: its place is muscle."""
    sides = [("left", "right"), ("left", "right"), ("left",), ("right",)][int(rng.integers(4))]
    return replace(scene, absent=scene.absent + tuple(BY_NAME[f"rib_{side}_12"].id for side in sides))


def hip_implant(rng: np.random.Generator, scene: Scene, anatomy: Anatomy) -> Scene:
    """A metal head and stem in one femur, and the streaks that go with it."""
    points = points_mm(anatomy, BY_NAME[("femur_left", "femur_right")[int(rng.integers(2))]].id)
    size, stem, length, streak = (
        rng.uniform(14, 26),
        rng.uniform(4, 8),
        rng.uniform(60, 160),
        rng.uniform(5, 40),
    )
    if len(points) == 0:
        return scene
    top = points[points[:, 2] > points[:, 2].max() - 45]
    by_x = np.abs(top[:, 0])
    head = top[by_x < np.percentile(by_x, 35)].mean(0)
    low = points[np.abs(points[:, 2] - (points[:, 2].max() - 80)) < 20].mean(0)
    tip = points[np.abs(points[:, 2] - (points[:, 2].max() - 60 - length)) < 20]
    implant = Implant(head, low, tip.mean(0) if len(tip) else low, size, stem)
    return replace(scene, implant=implant, streak_hu=max(scene.streak_hu, streak))


SHARES: tuple[tuple[float, Change], ...] = (
    (0.06, collapse),
    (0.06, scoliosis),
    (0.05, kyphosis),
    (0.15, big_belly),
    (0.06, thin_bone),
    (0.3, limed_cartilage),
    (0.12, limed_arteries),
    (0.04, eleven_ribs),
    (0.03, hip_implant),
)
