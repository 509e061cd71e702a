"""What lies round a patient in the scanner: table, head rest, pads, clothes, electrodes, cables.

Nothing of it is bone, and much of it is as bright and as thin. `draw_clutter` takes every number from the
generator of the scene, `paint` puts the things into the air round the body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FOAM_HU = -930.0


@dataclass(frozen=True)
class Rest:
    """A shell under the head, an arm or the whole body, open to the front: the lower part of an ellipse.

    `z_mm` is its range in patient coordinates; `open_mm` how far its rim lies above (or below) its middle.
    """

    z_mm: tuple[float, float]
    half_mm: tuple[float, float]
    gap_mm: float
    open_mm: float
    wall_mm: float
    shell_hu: float
    pad_hu: float


@dataclass(frozen=True)
class Clutter:
    """Rails are (x, height above the back, half width, half height) in mm; `hu` of each thing is its own."""

    rest: Rest | None = None
    rails: tuple[tuple[float, float, float, float, float], ...] = ()  # and HU
    boxes: tuple[tuple[float, float, float, float], ...] = ()  # half sizes in mm, HU of the shell
    cables: tuple[tuple[float, float], ...] = ()  # radius in mm, HU
    electrodes: tuple[float, ...] = ()  # HU
    cloth: tuple[float, float, float] | None = None  # gap and thickness in mm, HU


def draw_clutter(rng: np.random.Generator, head_mm: float, half_mm: float) -> Clutter:
    """Draw what lies round the patient.

    `head_mm` is where the head begins, `half_mm` half the length of the field, both patient z in mm. Half of
    the heads in a field lie in a rest, some other parts of bodies in one too.
    """
    rest = None
    sees_head = head_mm < half_mm
    if rng.random() < (0.5 if sees_head else 0.05):
        low = head_mm + rng.uniform(-40, 60) if sees_head else rng.uniform(-half_mm, half_mm)
        wide = 1.0 if sees_head else rng.uniform(1.0, 2.2)
        rest = Rest(
            z_mm=(low, low + rng.uniform(80, 260)),
            half_mm=(wide * rng.uniform(85, 140), rng.uniform(70, 120)),
            gap_mm=rng.uniform(2, 40),
            open_mm=rng.uniform(-60, 50),
            wall_mm=rng.uniform(3, 9),
            shell_hu=rng.uniform(-400, 600),
            pad_hu=rng.uniform(-980, -700),
        )
    rails = []
    if rng.random() < 0.08:
        x, height = rng.uniform(170, 240), rng.uniform(-30, 60)
        size = (rng.uniform(3, 12), rng.uniform(3, 20), rng.uniform(-200, 1200))
        rails = [(sign * x, height, *size) for sign in (-1.0, 1.0) if rng.random() < 0.8]
    boxes = []
    if rng.random() < 0.06:
        for _ in range(int(rng.integers(1, 3))):
            a, b, c = (float(n) for n in rng.uniform(12, 70, 3))
            boxes.append((a, b, c, rng.uniform(-400, 600)))
    cables = []
    if rng.random() < 0.08:
        cables = [(rng.uniform(1.5, 4), rng.uniform(-200, 2500)) for _ in range(rng.integers(1, 4))]
    electrodes = []
    if rng.random() < 0.06:
        electrodes = [rng.uniform(200, 3000) for _ in range(rng.integers(2, 6))]
    cloth = None
    if rng.random() < 0.25:
        cloth = (rng.uniform(0, 25), rng.uniform(2, 6), rng.uniform(-850, -250))
    return Clutter(rest, tuple(rails), tuple(boxes), tuple(cables), tuple(electrodes), cloth)


def paint(
    clutter: Clutter,
    hu: Tensor,
    off_skin_mm: Tensor,
    patient: Tensor,
    folds: Tensor,
    noise: torch.Generator,
) -> Tensor:
    """`hu` (X, Y, Z) with the clutter in the air, which is where `off_skin_mm` is positive.

    `patient` (3, X, Y, Z) mm; `folds` (X, Y, Z) smooth noise of about unit variance, for folds of cloth.
    """
    away = off_skin_mm > 0
    x, y = patient[0], patient[1]
    if clutter.cloth is not None:
        gap, thick, bright = clutter.cloth
        gap_mm = gap * (0.6 + 0.4 * folds).clamp(min=0.0) * (y > y.mean())
        layer = (1 - (off_skin_mm - gap_mm - thick / 2).abs() / (thick / 2 + 1)).clamp(0, 1)
        hu = torch.where(away, torch.maximum(hu, -1000 + (bright + 1000) * layer), hu)
    if clutter.rest is not None:
        hu = _rest(clutter.rest, hu, away, patient)
    back = _back_mm(away, patient)
    for rail_x, height, half_x, half_y, bright in clutter.rails:
        rail = ((x - rail_x).abs() < half_x) & ((y - back - height).abs() < half_y)
        hu = torch.where(rail & away, torch.full_like(hu, bright), hu)
    if not (clutter.boxes or clutter.cables or clutter.electrodes):
        return hu
    near = torch.nonzero(away & (off_skin_mm < 12))
    if len(near) == 0:
        return hu

    def skin_point() -> Tensor:
        pick = int(torch.randint(len(near), (1,), generator=noise, device=noise.device))
        i, j, k = (int(n) for n in near[pick])
        return patient[:, i, j, k, None, None, None]

    for *half, bright in clutter.boxes:
        middle = skin_point()
        side = torch.sign(middle) * torch.tensor([1.0, 1.0, 0.0], device=hu.device)[:, None, None, None]
        size = torch.tensor(half, device=hu.device)[:, None, None, None]
        depth = (size - (patient - middle - side * size).abs()).amin(0)
        hu = torch.where(away & (depth > 0), torch.full_like(hu, FOAM_HU), hu)
        hu = torch.where(away & (depth > 0) & (depth < 4), torch.full_like(hu, bright), hu)
    for radius, bright in clutter.cables:
        start, end = skin_point(), skin_point()
        along = end - start
        part = ((patient - start) * along).sum(0) / along.square().sum().clamp(min=1.0)
        gap_mm = (patient - start - part.clamp(0, 1) * along).square().sum(0).sqrt()
        hu = _thin(hu, away, gap_mm, radius, bright)
    for bright in clutter.electrodes:
        gap_mm = (patient - skin_point()).square().sum(0).sqrt()
        hu = _thin(hu, away, gap_mm, 4.0, bright)
    return hu


def _thin(hu: Tensor, away: Tensor, gap_mm: Tensor, radius_mm: float, bright: float) -> Tensor:
    """A thing about as thin as a voxel, `gap_mm` from its middle: partial volume included."""
    share = ((radius_mm + 2 - gap_mm) / 4).clamp(0, 1)
    return torch.where(away, hu + (bright - hu) * share, hu)


def _back_mm(away: Tensor, patient: Tensor) -> Tensor:
    """Patient y of the lowest voxel of the body."""
    inside = torch.nonzero((~away).any(2).any(0))
    return patient[1, 0, int(inside[0]), 0] if len(inside) else patient[1].min()


def _rest(rest: Rest, hu: Tensor, away: Tensor, patient: Tensor) -> Tensor:
    """The shell and the pad in it."""
    x, y, z = patient
    slab = (z > rest.z_mm[0]) & (z < rest.z_mm[1])
    body = slab & ~away
    if not bool(body.any()):
        return hu
    middle_x = x[body].mean()
    middle_y = y[body].min() - rest.gap_mm + rest.half_mm[1]
    way = (((x - middle_x) / rest.half_mm[0]).square() + ((y - middle_y) / rest.half_mm[1]).square()).sqrt()
    off_mm = (way - 1) * min(rest.half_mm)
    here = slab & away & (y < middle_y + rest.open_mm)
    hu = torch.where(here & (off_mm <= 0), torch.full_like(hu, rest.pad_hu), hu)
    share = ((rest.wall_mm / 2 + 2 - (off_mm - rest.wall_mm / 2).abs()) / 4).clamp(0, 1)
    return torch.where(here, hu + (rest.shell_hu - hu) * share, hu)
