"""How one chest differs from another: edges of the sternum, front ends of the ribs, and the twelfth ribs.

What the real chest scan showed that the bodies lack (decision 0018). The mesh of the sternum holds the costal
cartilage too, and the bodies part them in one plane; each rib ends in one place; rib 12 is short and always
lies the same. Here all of it is drawn for each sample, in standard coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from petbone.anatomy import BY_NAME
from petbone.net.anatomies import Anatomy, Tissue

F64 = npt.NDArray[np.float64]
STERNUM = BY_NAME["sternum"].id
SIDES = ("left", "right")
LOWEST = tuple(BY_NAME[f"rib_{side}_12"].id for side in SIDES)
FRONT_RIBS = tuple(BY_NAME[f"rib_{side}_{n}"].id for side in SIDES for n in range(1, 11))
MANUBRIUM_MM = 30.0  # of the sternum's height from the top: there it is as wide as it looks
MANUBRIUM_HALF_MM = 22.0
XIPHOID_HALF_MM = 7.0
WAIST_MM = 24.0  # cartilages of two ribs lie further apart than that
END_MM = 4.0  # of a rib's foremost part, whose middle is its end
BRIDGE_MM = 4.5  # half the thickness of what joins a rib to its cartilage
FADE_MM = 4.0  # over which a cut passes, as wide as a voxel of the coarse net


@dataclass(frozen=True, eq=False)
class ChestMarks:
    """Where in an anatomy the chest may be changed.

    `half_mm` (Z,) is half the width of the sternum without cartilage at each z voxel; empty without a
    sternum. `ends_mm` (256, 3) are front ends of ribs by label, `forward` (256, 3) unit vectors that go on
    from there, `gap_mm` (256,) from the end to the cartilage; NaN where there is none. `joint_mm`
    and `tip_mm` (2, 3) are of ribs 12, left and right.
    """

    half_mm: npt.NDArray[np.float32]
    ends_mm: F64
    forward: F64
    gap_mm: F64
    joint_mm: F64
    tip_mm: F64

    def places_mm(self) -> F64:
        """Places (n, 3) where chests differ: ends of ribs, edges of the sternum, ribs 12."""
        ends = self.ends_mm[np.isfinite(self.ends_mm).all(1)]
        inner = ends * [0.25, 1.0, 1.0]
        middles = (self.joint_mm + self.tip_mm) / 2
        lowest = np.concatenate([middles, self.tip_mm])
        return np.concatenate([ends, inner, lowest[np.isfinite(lowest).all(1)]])

    @staticmethod
    def of(anatomy: Anatomy) -> ChestMarks:
        """Look at the bones of an anatomy."""
        low, step = np.array(anatomy.low_mm), anatomy.spacing_mm
        solid = np.asarray(anatomy.cortex, np.int16) + anatomy.spongiosa > 128
        named = np.where(solid, anatomy.labels, 0)
        boxes = ndimage.find_objects(named, max_label=int(named.max(initial=0)))
        cartilage = low + (np.argwhere(np.asarray(anatomy.tissue) == Tissue.CARTILAGE) + 0.5) * step

        def points(label: int) -> F64:
            box = boxes[label - 1] if label <= len(boxes) else None
            if box is None:
                return np.zeros((0, 3))
            index = np.argwhere(named[box] == label) + [s.start for s in box]
            return np.asarray(low + (index + 0.5) * step)

        ends, forward = np.full((256, 3), np.nan), np.full((256, 3), np.nan)
        gap = np.full(256, np.nan)
        for label in FRONT_RIBS:
            bone = points(label)
            if not len(bone) or not len(cartilage):
                continue
            end = bone[bone[:, 1] > bone[:, 1].max() - END_MM].mean(0)
            away = np.linalg.norm(bone - end, axis=1)
            behind = bone[(away > 10) & (away < 25)]
            if not len(behind):
                continue
            way = end - behind.mean(0)
            ends[label], forward[label] = end, way / np.linalg.norm(way)
            gap[label] = np.linalg.norm(cartilage - end, axis=1).min()
        joint, tip = np.full((2, 3), np.nan), np.full((2, 3), np.nan)
        for side, label in enumerate(LOWEST):
            bone = points(label)
            if len(bone):
                joint[side] = bone[np.abs(bone[:, 0]).argmin()]
                tip[side] = bone[np.linalg.norm(bone - joint[side], axis=1).argmax()]
        return ChestMarks(_half_width(points(STERNUM), anatomy), ends, forward, gap, joint, tip)


def _half_width(sternum: F64, anatomy: Anatomy) -> npt.NDArray[np.float32]:
    """Half the width of the sternum (Z,): the least within half of `WAIST_MM` of a height, since where
    cartilage meets it the mesh is wider; its top and its lower end are set to usual widths."""
    if not len(sternum):
        return np.zeros(0, np.float32)
    length, step = anatomy.labels.shape[2], anatomy.spacing_mm
    index = ((sternum[:, 2] - anatomy.low_mm[2]) / step).astype(int)
    wide = np.zeros(length)
    np.maximum.at(wide, index, np.abs(sternum[:, 0]))
    foot, top = int(index.min()), int(index.max())
    body = np.arange(foot, max(top - round(MANUBRIUM_MM / step), foot + 1))
    reach = 2 * round(WAIST_MM / 2 / step) + 1
    half = ndimage.minimum_filter1d(wide[body], reach, mode="nearest")
    waist = half.min()
    # Below the lowest waist the cartilages of both sides meet: the xiphoid is what lies between.
    first = int(np.flatnonzero(half < waist + 3)[0])
    half[:first] = np.linspace(XIPHOID_HALF_MM, half[first], first, endpoint=False)
    every = np.full(length, max(MANUBRIUM_HALF_MM, waist))
    every[body] = half
    every[:foot] = half[0]
    return np.asarray(ndimage.gaussian_filter1d(every + 1, 3 / step), np.float32)


@dataclass(frozen=True)
class Turn:
    """How a rib 12 lies beside that of the anatomy: steeper in the wall of the body, rolled, out of the wall
    (degrees), and factors of its length and thickness."""

    steeper_deg: float
    roll_deg: float
    out_deg: float
    long: float
    thick: float


@dataclass(frozen=True, eq=False)
class Chest:
    """How a sample's chest differs. `wider_mm` is added to half the sternum's width, and a wave of `wave_mm`;
    None leaves the sternum as the anatomy has it. `longer_mm` (256,) by label: ribs go on that far into their
    cartilage, or end that much earlier; `end_cortex` is the share of compact bone in what was added. `lowest`
    are ribs 12, left and right, None for those that lie as in the anatomy."""

    wider_mm: float | None = None
    wave_mm: float = 0.0
    phase: float = 0.0
    longer_mm: F64 = field(default_factory=lambda: np.zeros(256))
    end_cortex: float = 0.3
    lowest: tuple[Turn | None, Turn | None] = (None, None)


def draw_chest(rng: np.random.Generator) -> Chest:
    """Draw every number of a sample's chest. A tenth have the sternum, a third the ends of ribs, and two
    fifths each rib 12 of the anatomy itself."""
    wider = float(rng.uniform(-2, 6)) if rng.random() < 0.9 else None
    wave, phase = float(rng.uniform(0, 2.5)), float(rng.uniform(0, 6.28))
    longer = np.zeros(256)
    together, apart = rng.uniform(-10, 32), rng.normal(0, 5, len(FRONT_RIBS))
    if rng.random() < 0.67:
        longer[list(FRONT_RIBS)] = (together + apart).clip(-14, 40)
    cortex = float(rng.uniform(0.1, 0.5))
    turns = []
    for _ in SIDES:
        turn = Turn(
            steeper_deg=float(rng.uniform(-30, 25)),
            roll_deg=float(rng.normal(0, 5)),
            out_deg=float(rng.normal(0, 5)),
            long=float(np.exp(rng.uniform(np.log(0.6), np.log(2.3)))),
            thick=float(rng.uniform(0.75, 1.25)),
        )
        turns.append(turn if rng.random() < 0.6 else None)
    return Chest(wider, wave, phase, longer, cortex, (turns[0], turns[1]))


def _matrix(turn: Turn, way: F64) -> F64:
    """(3, 3) by which the way from the joint to a place in the anatomy's rib becomes that in the sample's;
    `way` leads from joint to tip."""
    along = way / np.linalg.norm(way)
    across = np.cross(along, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    upward = np.cross(across, along)
    basis = np.stack([along, across, upward], 1)
    stretched = basis @ np.diag([turn.long, turn.thick, turn.thick]) @ basis.T
    # `across` points out of the wall: a right-handed turn about it takes the rib upwards.
    rolled = _about(across, -np.radians(turn.steeper_deg)) @ _about(along, np.radians(turn.roll_deg))
    return np.asarray(_about(upward, np.radians(turn.out_deg)) @ rolled @ stretched)


def _about(axis: F64, angle: float) -> F64:
    """Rotation about a unit vector (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def beyond_sternum(chest: Chest, marks: ChestMarks, anatomy: Anatomy, standard: Tensor) -> Tensor | None:
    """How far places `standard` (3, ...) lie beside the edge of the sternum, mm; None where it stays."""
    if chest.wider_mm is None or not len(marks.half_mm):
        return None
    half = torch.from_numpy(marks.half_mm).to(standard.device)
    at = ((standard[2] - anatomy.low_mm[2]) / anatomy.spacing_mm - 0.5).round().long().clamp(0, len(half) - 1)
    wave = chest.wave_mm * torch.sin(standard[2] / 9.0 + chest.phase + 2.0 * (standard[0] > 0))
    return standard[0].abs() - half[at] - chest.wider_mm - wave


def beyond_ends(chest: Chest, marks: ChestMarks, label: Tensor, standard: Tensor) -> Tensor:
    """How far places lie beyond where their own rib ends, mm; far below 0 but in ribs that end early."""
    cut = np.where(chest.longer_mm < 0, -chest.longer_mm, np.nan)
    table = torch.from_numpy(np.column_stack([marks.ends_mm, cut])).float().to(standard.device)
    mine = table[label.long()].movedim(-1, 0)
    away = (standard - mine[:3]).square().sum(0).sqrt()
    return (mine[3] + END_MM / 2 - away).nan_to_num(-99.0)


@dataclass(frozen=True, eq=False)
class Added:
    """What becomes rib: flat `index` (n,) of the voxels, their `label`, by how many mm the new rib goes on
    beyond them, and how deep they lie in the bridge from the old end to the cartilage."""

    index: Tensor
    label: Tensor
    left_mm: Tensor
    bridge_mm: Tensor


def added_ribs(chest: Chest, marks: ChestMarks, near: Tensor, standard: Tensor) -> Added | None:
    """Which voxels of the mask `near` (in or by cartilage) belong to ribs that go on; None without any."""
    labels = [n for n in FRONT_RIBS if chest.longer_mm[n] > 0 and np.isfinite(marks.gap_mm[n])]
    if not labels or not bool(near.any()):
        return None
    device = standard.device
    index = torch.nonzero(near.flatten())[:, 0]
    here = standard.flatten(1)[:, index].T
    ends, forward = (
        torch.from_numpy(table[labels]).float().to(device) for table in (marks.ends_mm, marks.forward)
    )
    way = here[:, None] - ends[None]
    away = way.square().sum(-1).sqrt()
    nearest = away.argmin(1)
    rows = torch.arange(len(index), device=device)
    reach = torch.from_numpy(chest.longer_mm[labels] + marks.gap_mm[labels]).float().to(device)
    left = reach[nearest] - away[rows, nearest]
    # A neighbour's cartilage lies beside a rib, not on its way.
    along = (way * forward[None]).sum(-1)[rows, nearest]
    keep = (left > -FADE_MM) & (along > 0.4 * away[rows, nearest] - 5)
    if not bool(keep.any()):
        return None
    aside = (away[rows, nearest].square() - along.square()).clamp(min=0).sqrt()
    gap = torch.from_numpy(marks.gap_mm[labels]).float().to(device)[nearest]
    bridge = torch.minimum(BRIDGE_MM - aside, torch.minimum(along + BRIDGE_MM, gap + BRIDGE_MM - along))
    label = torch.tensor(labels, dtype=torch.uint8, device=device)[nearest[keep]]
    return Added(index[keep], label, left[keep], bridge[keep])


@dataclass(frozen=True, eq=False)
class Moved:
    """Where to look a rib 12 up: flat `index` (n,) of voxels round it, their `standard` (3, n) places."""

    label: int
    index: Tensor
    standard: Tensor


def moved_ribs(chest: Chest, marks: ChestMarks, standard: Tensor) -> list[Moved]:
    """The ribs 12 that do not lie as in the anatomy, where any voxel is near them."""
    found = []
    for side, turn in enumerate(chest.lowest):
        way = marks.tip_mm[side] - marks.joint_mm[side]
        if turn is None or not np.isfinite(way).all():
            continue
        matrix = _matrix(turn, way)
        joint = torch.from_numpy(marks.joint_mm[side]).float().to(standard.device)
        back = torch.from_numpy(np.linalg.inv(matrix)).float().to(standard.device)
        reach = float(np.linalg.norm(way)) + 12.0
        far = reach * float(np.linalg.norm(matrix, 2))
        flat = standard.flatten(1)
        index = torch.nonzero((flat - joint[:, None]).square().sum(0) < far**2)[:, 0]
        own = back @ (flat[:, index] - joint[:, None])
        inside = own.square().sum(0) < reach**2
        found.append(Moved(LOWEST[side], index[inside], own[:, inside] + joint[:, None]))
    return found
