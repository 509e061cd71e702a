"""Is the PET on the CT? One rigid motion for the whole, a shift for every bone, and how sure both are.

The scanner's frame of reference is the default, and a measurement of it changes no number. A motion may be
applied where somebody asks for it and where it is surer than what it corrects (`Alignment.verdict`); it moves
the frame of the PET, never a voxel of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation
from scipy.special import chdtri, stdtrit

from petbone.anatomy import BY_ID
from petbone.bone_shift import bone_shifts, wanted_tissues
from petbone.pose import parameters, pose, prior_precision, rigid
from petbone.resample import Occupancy
from petbone.shift import Shift, length_and_interval
from petbone.tissues import tissues
from petbone.volume import Box, Grid, Volume

Array = npt.NDArray[np.float64]

FLOOR_VOXELS = 0.02
"""Standard deviation along an axis below which no shift is claimed to be known, in voxels of the PET."""
DECILES = (0.5, 0.9)
LEAST_BONES = 1
LEAST_GAIN = 1 / 3
MOST_WORSE = 0.05
"""Part of the bones that a motion may take from where they lie well."""
FAR_MM, FAR_DEG = 25.0, 10.0
"""No patient moves farther between CT and PET."""
NEAR_MM = 2.0
"""Two starts nearer to each other than this are one."""
REACH_MM = 60.0
"""How far beyond the bones the PET is looked at: motions, surroundings and blur."""
MANY_BONES, SPREAD_OF_FEW_MM = 10, 2.0
"""How far bones depart from the whole is judged from ten of them or more; of fewer it is taken as this."""
WORST_SD_MM = 8.0
"""A bone whose shift is less sure than this tells nothing, and has none."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the PET lies to the CT.

    `pet_mm_from_ct_mm` (4, 4) is the rigid motion of the whole; `middle_mm` the middle of the bones,
    `covariance` (6, 6) that of its translation there (mm) and rotation vector (rad). `spread_mm` is the
    standard deviation along an axis by which bones depart from it beyond their own uncertainty, which
    their covariances hold.
    """

    pet_mm_from_ct_mm: Array
    middle_mm: Array
    covariance: Array
    spread_mm: float
    bones: dict[int, Shift]
    voxel_mm: float

    @property
    def shift(self) -> Shift:
        """The motion of the whole at the middle of the bones."""
        moved = _place_of(self.pet_mm_from_ct_mm, self.middle_mm)
        return Shift(self.middle_mm, moved - self.middle_mm, self.covariance[:3, :3])

    @property
    def rotation_deg(self) -> Array:
        """(3,) rotation vector of the whole, RAS, degrees."""
        vector = Rotation.from_matrix(self.pet_mm_from_ct_mm[:3, :3]).as_rotvec()
        return np.asarray(np.degrees(vector))

    def by_whole(self, place_mm: Array) -> Shift:
        """What the motion of the whole says of one place."""
        moved = _place_of(self.pet_mm_from_ct_mm, place_mm)
        part = _lever(place_mm - self.middle_mm)
        return Shift(place_mm, moved - place_mm, part @ self.covariance @ part.T)

    def corrected(self) -> Alignment:
        """What is left when the motion of the whole has been applied (`moved_frame`)."""
        back = np.linalg.inv(self.pet_mm_from_ct_mm)
        turn = back[:3, :3]

        def left(shift: Shift) -> Shift:
            place = shift.place_mm
            mm = turn @ (place + shift.mm) + back[:3, 3] - place
            return replace(shift, mm=mm, covariance=turn @ shift.covariance @ turn.T)

        bones = {label: left(shift) for label, shift in self.bones.items()}
        return replace(self, pet_mm_from_ct_mm=np.eye(4), bones=bones)

    def own(self, shift: Shift) -> Shift:
        """A bone's shift with the uncertainty of its own alone, without that of bones from one motion.

        As it is where bones are few: then by how much they depart is not measured but taken.
        """
        if len(self.bones) < MANY_BONES:
            return shift
        return replace(shift, covariance=shift.covariance - self.spread_mm**2 * np.eye(3))

    @property
    def is_far(self) -> bool:
        """Farther than patients move: the images hardly belong together."""
        moved = _rms(self.by_whole(shift.place_mm).mm for shift in self.bones.values())
        return moved > FAR_MM or float(np.linalg.norm(self.rotation_deg)) > FAR_DEG

    def made_worse(self) -> list[int]:
        """Bones that lie well, within half a voxel, and would lie worse by the motion of the whole."""
        worse = []
        for label, shift in self.bones.items():
            own = self.own(shift)
            rest = replace(own, mm=own.mm - self.by_whole(shift.place_mm).mm)
            length, interval = length_and_interval(rest)
            if np.linalg.norm(own.mm) <= self.voxel_mm / 2 < length - interval:
                worse.append(label)
        return worse

    def verdict(self) -> tuple[bool, str]:
        """Whether the whole may be moved, and why: the rule of ``--align rigid``.

        It may where over the bones its motion is (root mean square) at least half a voxel of the PET, more
        than its own 95 % uncertainty there, no more than patients move, leaves bones' shifts smaller by at
        least a third (where they disagree, one motion is no answer), and takes hardly a bone from where it
        lies well.
        """
        if not self.bones:
            return False, f"no bone shows where it is to {WORST_SD_MM:g} mm"
        at = [self.by_whole(shift.place_mm) for shift in self.bones.values()]
        moved = _rms(shift.mm for shift in at)
        unsure = _rms(np.array([length_and_interval(shift)[1]]) for shift in at)
        before = _rms(shift.mm for shift in self.bones.values())
        after = _rms(one.mm - other.mm for one, other in zip(self.bones.values(), at, strict=True))
        worse = self.made_worse()
        said = f"measured {moved:.1f} mm over the bones, sure to {unsure:.1f} mm (95 %)"
        if moved < self.voxel_mm / 2:
            return False, f"{said}: less than half a voxel of the PET ({self.voxel_mm / 2:.1f} mm)"
        if moved <= unsure:
            return False, f"{said}: less than its uncertainty"
        if self.is_far:
            return False, f"{said}: the PET and the bones hardly belong together"
        if after > before * (1 - LEAST_GAIN):
            return False, f"{said}: bones would lie {after:.1f} mm off instead of {before:.1f} mm"
        if len(worse) > MOST_WORSE * len(self.bones):
            return False, f"{said}: {len(worse)} bones that lie well would lie worse"
        return True, f"{said}; bones lie {before:.1f} mm off without it, {after:.1f} mm with it"


def align(pet: Volume, ct: Volume | None, bones: Volume, occupied: Occupancy) -> Alignment | None:
    """How `pet` lies to `ct` and `bones` (one grid); None where too few bones tell anything.

    `occupied` are the bones on the grid of the PET. Without a CT bones are compared with what is near them.
    """
    motion = pose(pet, ct, bones)
    box = _around(occupied)
    pet, occupied = pet.cropped(box), occupied.cropped(box)
    around = tissues(ct, bones, pet.grid, 2, wanted_tissues(occupied))
    found = bone_shifts(pet, occupied, around, motion)
    if (
        ct is None
        and _rms(_place_of(motion, one.place_mm) - one.place_mm for one in found.values()) > NEAR_MM
    ):
        # Bones alone tell little along a shaft: the scanner's frame is tried, too, and the better fit counts.
        found = _better(found, bone_shifts(pet, occupied, around, np.eye(4)))
    floor = (FLOOR_VOXELS * float(pet.grid.spacing_mm.mean())) ** 2
    found = {
        label: replace(shift, covariance=shift.covariance + floor * np.eye(3))
        for label, shift in found.items()
    }
    if len(found) < LEAST_BONES:
        return None
    lies = _whole(found, float(pet.grid.spacing_mm.max()))
    # A shaft that tells all but how far it has slid has told the whole something; it has no shift itself.
    sure = {n: shift for n, shift in lies.bones.items() if np.trace(shift.covariance) <= 3 * WORST_SD_MM**2}
    return replace(lies, bones=sure)


def _place_of(motion: Array, mm: Array) -> Array:
    """Where a (4, 4) motion takes a place."""
    return np.asarray(motion[:3, :3] @ mm + motion[:3, 3])


def _better(one: dict[int, Shift], other: dict[int, Shift]) -> dict[int, Shift]:
    """Of two searches from two places the one whose bones fit better, by the bones that both have found."""
    common = one.keys() & other.keys()
    if not common:
        return one or other
    gains = [np.log(max(one[n].misfit, 1e-9) / max(other[n].misfit, 1e-9)) for n in common]
    return other if np.median(gains) >= 0 else one


def _around(occupied: Occupancy) -> Box:
    """Box of the PET that holds the bones, and what they can be displaced by around them."""
    shape = occupied.grid.shape
    ijk = np.array(np.unravel_index(occupied.voxel, shape)).reshape(3, -1)
    if not ijk.size:
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    margin = np.ceil(REACH_MM / occupied.grid.spacing_mm).astype(int)
    low = np.maximum(ijk.min(axis=1) - margin, 0)
    high = np.minimum(ijk.max(axis=1) + margin + 1, shape)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _whole(found: dict[int, Shift], voxel_mm: float) -> Alignment:
    """One rigid motion through the bones' shifts, and by how much bones depart from it."""
    shifts = list(found.values())
    place = np.array([shift.place_mm for shift in shifts])
    mm = np.array([shift.mm for shift in shifts])
    own = np.array([shift.covariance for shift in shifts])
    middle = np.average(place, axis=0, weights=1 / np.trace(own, axis1=1, axis2=2))
    motion, spread = np.eye(4), 0.0
    for _ in range(6):
        rest = place + mm - (place @ motion[:3, :3].T + motion[:3, 3])
        inverse = np.linalg.inv(own + spread**2 * np.eye(3))
        away = np.einsum("ni,nij,nj->n", rest, inverse, rest)
        weight = np.minimum(1.0, np.sqrt(chdtri(3, 0.05) / np.maximum(away, 1e-12)))
        levers = np.stack([_lever(p - middle) for p in place @ motion[:3, :3].T + motion[:3, 3]])
        normal = np.einsum("n,nai,nab,nbj->ij", weight, levers, inverse, levers)
        side = np.einsum("n,nai,nab,nb->i", weight, levers, inverse, rest)
        normal += prior_precision()
        side -= prior_precision() @ parameters(motion, middle)
        motion = rigid(np.linalg.solve(normal, side), middle) @ motion
        rest = place + mm - (place @ motion[:3, :3].T + motion[:3, 3])
        spread = _spread(rest, own) if len(found) >= MANY_BONES else max(_spread(rest, own), SPREAD_OF_FEW_MM)
    pull = prior_precision() @ parameters(motion, middle)
    covariance = _of_groups(list(found), levers, inverse * weight[:, None, None], normal, rest, pull)
    covariance[:3, :3] += (FLOOR_VOXELS * voxel_mm) ** 2 * np.eye(3)
    # Bones depart from the whole by what their own uncertainty does not explain; it is part of it, then.
    widened = {
        label: replace(shift, covariance=shift.covariance + spread**2 * np.eye(3))
        for label, shift in found.items()
    }
    return Alignment(motion, middle, covariance, spread, widened, voxel_mm)


def _of_groups(
    labels: list[int], levers: Array, inverse: Array, normal: Array, rest: Array, pull: Array
) -> Array:
    """(6, 6) covariance of the whole's motion by leaving out one part of the skeleton after the other.

    Neighbouring bones err together, so their number says less than it seems to. The bones' own uncertainty
    comes on top. Widened to Student's t with as many degrees of freedom as there are parts, less one.
    """
    own = np.asarray(np.linalg.inv(normal))
    groups = np.array([BY_ID[label].group for label in labels])
    names = np.unique(groups)
    if len(names) < 2:
        return np.asarray(own * 4)
    away = []
    for name in names:
        left = groups != name
        part = np.einsum("nai,nab,nbj->ij", levers[left], inverse[left], levers[left])
        part += prior_precision()
        side = np.einsum("nai,nab,nb->i", levers[left], inverse[left], rest[left]) - pull
        away.append(np.linalg.solve(part, side))
    n = len(names)
    found = (n - 1) / n * np.transpose(away) @ np.array(away)
    return np.asarray(own + found * (float(stdtrit(n - 1, 0.975)) / 1.96) ** 2)


def _spread(rest: Array, own: Array) -> float:
    """Standard deviation along an axis that explains how far bones depart from the whole.

    It makes as much of the median and of the ninth decile of the departures as chance would.
    """
    expected = chdtri(3, 1 - np.array(DECILES))
    low, high = 0.0, 50.0
    for _ in range(40):
        middle = (low + high) / 2
        inverse = np.linalg.inv(own + middle**2 * np.eye(3))
        away = np.einsum("ni,nij,nj->n", rest, inverse, rest)
        if (np.quantile(away, DECILES) > expected).any():
            low = middle
        else:
            high = middle
    return high if high > 1e-6 else 0.0


def _lever(arm: Array) -> Array:
    """(3, 6) how a place at `arm` from the middle moves with translation and rotation vector."""
    x, y, z = arm
    return np.hstack([np.eye(3), np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]])])


def _rms(vectors: Iterable[Array]) -> float:
    """0 where there is none."""
    squares = [float(np.sum(np.square(v))) for v in vectors]
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def moved_frame(volume: Volume, pet_mm_from_ct_mm: Array) -> Volume:
    """The PET in the frame of the CT: the same voxels, placed where the CT shows what they show."""
    matrix = np.linalg.inv(pet_mm_from_ct_mm) @ volume.grid.mm_from_ijk
    return Volume(volume.data, Grid(volume.grid.shape, matrix), volume.unit)
