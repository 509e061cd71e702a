"""What the net says of a CT, on a 4 mm grid.

Terms: *canonical* as in `petbone.thinned`. The *net grid* is isotropic, along the canonical axes where these
are within `MAX_TILT_DEG` of RAS and at right angles, along RAS itself otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, sparse, special

from petbone.anatomy import BONES, BY_NAME
from petbone.net.unet import CENTRE_UNIT_MM, BoneNet
from petbone.thinned import AIR_HU, F32, block_means
from petbone.volume import Grid

MAX_TILT_DEG = 10.0
_MIRRORED = {
    bone.id: BY_NAME[bone.name.replace(bone.side, {"left": "right", "right": "left"}[bone.side])].id
    for bone in BONES
    if bone.side
}
BODY_HU = -400.0
RAMP = 48  # slices at a cut end of a window over which it gains weight


@dataclass(frozen=True, eq=False)
class Coarse:
    """The net's answer on the net grid.

    `bone` (X, Y, Z) chance of bone; `which` (62, X/2, Y/2, Z/2) chances of each name given bone, on blocks
    of 2 x 2 x 2 voxels; `centre_mm`
    (3, X/2, Y/2, Z/2) the way from a block to the middle of its vertebra, along the axes of the grid.
    `medium` (X, Y, Z): where contrast medium lies that is no bone, whatever `bone` says; None for nowhere.
    """

    grid: Grid
    hu: F32
    bone: F32
    which: F32
    centre_mm: F32
    medium: npt.NDArray[np.bool_] | None = None


def net_grid(grid: Grid, step_mm: float, multiple: int) -> Grid:
    """Isotropic grid over a canonical `grid`: x and y are multiples of `multiple`, z even or one multiple."""
    directions = grid.mm_from_ijk[:3, :3] / grid.spacing_mm
    tilt = np.degrees(np.arccos(np.abs(np.diag(directions)).clip(-1, 1))).max()
    corners = grid.corners_mm()
    if tilt > MAX_TILT_DEG or grid.shear_deg > 0.05:
        axes = np.eye(3)
    else:
        axes, _ = np.linalg.qr(directions)
        axes = axes * np.sign(np.diag(axes))
    along = corners @ axes
    low, high = along.min(0), along.max(0)
    count = np.maximum(np.ceil((high - low) / step_mm - 1e-6).astype(int), 1)
    # Along z the net runs in windows of whole multiples, so an even number does: rounding up further would
    # put air above and below the body, where in training it was cut.
    rounding = np.array([multiple, multiple, 2 if count[2] > multiple else multiple])
    count = (np.ceil(count / rounding) * rounding).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = axes * step_mm
    # The surplus of the rounding lies evenly on both sides.
    middle = axes @ ((low + high) / 2)
    matrix[:3, 3] = middle - matrix[:3, :3] @ ((count - 1) / 2)
    return Grid((int(count[0]), int(count[1]), int(count[2])), matrix)


def hu_on(view: npt.NDArray[np.generic], grid: Grid, target: Grid) -> F32:
    """CT on the net grid: block means to about half a step, a small blur, linear look-up.

    Beside the answer at most one slice of the CT is held as float, unless the target is oblique to it.
    """
    step = float(target.spacing_mm[0])
    factors = [max(1, int(step / 2 / s + 0.25)) for s in grid.spacing_mm]
    spacing = grid.spacing_mm * factors
    # A 4 mm voxel averages over 4 mm (sd 4 / sqrt 12); the blocks did part of that already.
    sigma = np.sqrt(np.maximum(step**2 - spacing**2, 0) / 12) / spacing
    scale = np.diag([*factors, 1.0])
    scale[:3, 3] = (np.array(factors) - 1) / 2
    matrix = np.linalg.inv(grid.mm_from_ijk @ scale) @ target.mm_from_ijk
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    if np.abs(linear - np.diag(np.diag(linear))).max() < 1e-6:
        # Past the field of view its border goes on, as a cut body does.
        where = [linear[a, a] * np.arange(target.shape[a]) + offset[a] for a in range(3)]
        weights = [_weights(view.shape[a], factors[a], float(sigma[a]), where[a]) for a in range(3)]
        return _weighted(view, weights)
    blocks = block_means(view, (factors[0], factors[1], factors[2]))
    blocks = ndimage.gaussian_filter(blocks, sigma, mode="nearest", truncate=3)
    # Round an oblique field of view there is air.
    padded = np.pad(blocks, 1, mode="edge")
    hu = ndimage.affine_transform(
        padded, linear, offset + 1, target.shape, np.float32, order=1, mode="constant", cval=AIR_HU
    )
    return np.asarray(hu)


def _weights(size: int, factor: int, sigma: float, where: npt.NDArray[np.float64]) -> sparse.csr_array:
    """(len(where), size) weights of an axis' voxels: what means over `factor` voxels, a blur of `sigma`
    blocks and a linear look-up at the blocks `where` come to, found by doing them to the identity."""
    starts = np.arange(0, size, factor)
    counts = np.diff(np.append(starts, size))
    blocks = np.add.reduceat(np.eye(size, dtype=np.float32), starts, axis=0) / counts[:, None]
    if sigma > 0:
        blocks = ndimage.gaussian_filter1d(blocks, sigma, axis=0, mode="nearest", truncate=3)
    inside = where.clip(0, len(blocks) - 1)
    low = np.minimum(inside.astype(np.intp), max(len(blocks) - 2, 0))
    high = np.minimum(low + 1, len(blocks) - 1)
    part = (inside - low)[:, None]
    return sparse.csr_array(((1 - part) * blocks[low] + part * blocks[high]).astype(np.float32))


def _weighted(view: npt.NDArray[np.generic], weights: list[sparse.csr_array]) -> F32:
    """Sums of HU, clipped to CT's range, with weights (new, old) along each axis; slice by slice along the
    axis with the largest stride, and in the order of memory within a slice."""
    order = np.argsort([-abs(stride) for stride in view.strides], kind="stable")
    slow, middle, fast = (weights[a] for a in order)
    slices = np.empty((slow.shape[1], fast.shape[0], middle.shape[0]), np.float32)
    for n, part in enumerate(view.transpose(order)):
        flat = part.astype(np.float32)
        if np.issubdtype(view.dtype, np.inexact):
            np.nan_to_num(flat, copy=False, nan=AIR_HU)
        slices[n] = fast @ (middle @ flat.clip(-1024, 3071, out=flat)).T
    out = (slow @ slices.reshape(len(slices), -1)).reshape(-1, *slices.shape[1:])
    del slices
    # Now along slow, fast, middle.
    return np.ascontiguousarray(out.transpose(np.argsort(order[[0, 2, 1]])))


def _body_box(hu: F32, multiple: int) -> tuple[slice, slice, slice]:
    """Box of what is not air, with its sides rounded outwards to `multiple`; all of z."""
    body = ndimage.binary_opening(hu > BODY_HU, iterations=1)
    box = []
    for axis in range(2):
        seen = np.flatnonzero(body.any(tuple(a for a in range(3) if a != axis)))
        size = hu.shape[axis]
        low, high = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, size)
        need = min(size, -(-(high - low) // multiple) * multiple)
        start = min(max(0, (low + high - need) // 2), size - need)
        box.append(slice(start, start + need))
    return box[0], box[1], slice(0, hu.shape[2])


def _windows(length: int, sizes: tuple[int, ...], overlap: int, multiple: int) -> list[tuple[slice, F32]]:
    """Windows along z, evenly spaced, that overlap by `overlap` or more, and their weights: flat in the
    middle, low at cut ends. Of the `sizes` the one that comes to the fewest slices in all."""
    plans = []
    for most in sizes:
        size = min(most, length // multiple * multiple)
        count = 1 if length <= size else -(-(length - size) // max(size - overlap, 1)) + 1
        plans.append((count * size, size, count))
    _, size, count = min(plans)
    found = []
    for n in range(count):
        # Even: answers have half the slices.
        start = round((length - size) * n / max(count - 1, 1) / 2) * 2
        weight = np.ones(size, np.float32)
        ramp = np.linspace(0.02, 1, RAMP, dtype=np.float32)[: size // 2]
        if start > 0:
            weight[: len(ramp)] = ramp
        if start + size < length:
            weight[-len(ramp) :] = ramp[::-1]
        found.append((slice(start, start + size), weight))
    return found


def _look(model: BoneNet, hu: torch.Tensor, mirrored: bool) -> tuple[torch.Tensor, ...]:
    """What the net says of (1, 1, X, Y, Z), or of its mirror image, left for right, told of the image itself:
    logit of bone (X, Y, Z), chance of each name, and way to the middle (n, X/2, Y/2, Z/2)."""
    answer = model(hu.flip(2) if mirrored else hu)
    bone, which, centre = answer.bone[0, 0].float(), answer.which[0].float(), answer.centre[0].float()
    which = which.softmax(0)
    if not mirrored:
        return bone, which, centre
    sides = [_MIRRORED.get(bone, bone) - 1 for bone in range(1, model.config.classes + 1)]
    across = torch.tensor([-1.0, 1.0, 1.0], device=hu.device)[:, None, None, None]
    return bone.flip(0), which[sides].flip(1), across * centre.flip(1)


def ask(
    model: BoneNet,
    hu: F32,
    grid: Grid,
    device: torch.device,
    sizes: tuple[int, ...] = (96, 112, 128),
    overlap: int = 12,
    progress: Callable[[float], None] | None = None,
    workers: int = 1,
) -> Coarse:
    """Run the net over a volume on its grid, in overlapping windows along z, `workers` threads at a time; how
    many they are changes nothing in the answer.

    The mean of two looks is taken, at each window and at its mirror image: a skeleton is nearly symmetric, so
    the second costs as much as the first and steadies the votes.
    """
    box = _body_box(hu, model.config.multiple)
    inner = hu[box]
    x, y, z = inner.shape
    bone = np.zeros((x, y, z), np.float32)
    which = np.zeros((model.config.classes, x // 2, y // 2, z // 2), np.float32)
    centre = np.zeros((3, x // 2, y // 2, z // 2), np.float32)
    total = np.zeros(z, np.float32)
    multiple = model.config.multiple
    windows = _windows(z, sizes, overlap, multiple)

    @torch.inference_mode()
    def tell(look: tuple[slice, bool]) -> tuple[F32, ...]:
        part, mirrored = look
        tensor = torch.from_numpy(np.ascontiguousarray(inner[:, :, part]))[None, None].to(device)
        return tuple(answer.cpu().numpy() for answer in _look(model, tensor, mirrored))

    with ThreadPoolExecutor(workers) as pool:
        answers = pool.map(tell, ((part, mirrored) for part, _ in windows for mirrored in (False, True)))
        for n, (part, weight) in enumerate(windows):
            logit, which_here, centre_here = (
                (one + other) / 2 for one, other in zip(next(answers), next(answers), strict=True)
            )
            half = slice(part.start // 2, part.stop // 2)
            pair = weight.reshape(-1, 2).mean(1)
            bone[:, :, part] += special.expit(logit) * weight
            which[..., half] += which_here * pair
            centre[..., half] += centre_here * pair
            total[part] += weight
            if progress is not None:
                progress((n + 1) / len(windows))
    half_total = total.reshape(-1, 2).mean(1)
    return Coarse(
        grid=grid.cropped(box),
        hu=inner,
        bone=bone / total,
        which=which / half_total,
        centre_mm=centre / half_total * CENTRE_UNIT_MM,
    )
