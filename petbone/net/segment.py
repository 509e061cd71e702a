"""Find and name the bones in a CT: coarse net, consistent names, border on the CT's voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from petbone.anatomy import LOW_CONFIDENCE
from petbone.errors import InputError
from petbone.net import border, names
from petbone.net.border import BorderRule, Guide
from petbone.net.coarse import Coarse, ask, hu_on, net_grid
from petbone.net.device import choose_device
from petbone.net.discs import DiscRule, part_at_discs
from petbone.net.fine import FineNet
from petbone.net.medium import MediumRule, contrast_medium
from petbone.net.names import NameRule
from petbone.net.pages import kept_pages
from petbone.net.refine import RefineRule, refine
from petbone.net.shoulder import name_heads
from petbone.net.unet import BoneNet
from petbone.net.weights import load_fine, load_weights, packaged_weights
from petbone.thinned import canonical
from petbone.volume import Grid, Unit, Volume

DROPPED_ML = 3.0  # of what looked like bone; less is left out without a word


@dataclass(frozen=True)
class SegmentConfig:
    """Options of a segmentation; `windows`, of which the best size is taken, and `overlap` are z voxels of
    the net's 4 mm grid."""

    windows: tuple[int, ...] = (96, 112, 128)
    overlap: int = 12
    name: NameRule = field(default_factory=NameRule)
    border: BorderRule = field(default_factory=BorderRule)
    refine: RefineRule = field(default_factory=RefineRule)
    medium: MediumRule = field(default_factory=MediumRule)
    disc: DiscRule = field(default_factory=DiscRule)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Bones on the CT's grid.

    `bones` is uint8 of Unit.LABEL; `confidence` holds, for each label found, the chance that its name is
    right, and `candidates` the labels that it may be, its own first; `notes` say in one line each what a
    reader should know.
    """

    bones: Volume
    confidence: dict[int, float]
    candidates: dict[int, tuple[int, ...]]
    notes: tuple[str, ...]
    weights_sha256: str


class Segmenter:
    """A net on a device. Make one with `load`; it can be used for any number of CTs.

    With a `fine` net the border is drawn by it, without by the coarse answer and the HU.
    """

    def __init__(
        self,
        model: BoneNet,
        weights_sha256: str,
        device: torch.device,
        threads: int | None = None,
        config: SegmentConfig | None = None,
        fine: FineNet | None = None,
    ) -> None:
        self.model = model
        self.weights_sha256 = weights_sha256
        self.device = device
        self.threads = threads
        self.workers = threads or torch.get_num_threads()
        self.config = config or SegmentConfig()
        self.fine = fine

    @staticmethod
    def load(weights: Path | None = None, device: str = "auto", threads: int | None = None) -> Segmenter:
        """Read weights (None: those that ship with petbone).

        Raises InputError if the file is not a net of ours or the device is not there.
        """
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, got {threads}")
        where = choose_device(device)
        path = weights or packaged_weights()
        model, digest = load_weights(path, where)
        return Segmenter(model, digest, where, threads, fine=load_fine(path, where))

    def segment(self, ct: Volume, progress: Callable[[float], None] | None = None) -> Segmentation:
        """Label every bone voxel of `ct` (Unit.HU; any orientation, spacing and field of view).

        `progress` is called with a share of the work from 0 to 1. Raises InputError if the volume is not
        CT in HU.
        """
        _check(ct)
        report = progress or (lambda _: None)
        view, grid, axes, signs = canonical(ct)
        coarse = self.answer(ct, lambda share: report(0.4 * share))
        named = names.name_voxels(coarse, self.config.name)
        rule = self.config.border
        guide = _guide(coarse, named.labels, grid, rule)
        out = np.zeros_like(ct.data, dtype=np.uint8)
        flips = tuple(slice(None, None, s) for s in signs)
        out_view = out.transpose(axes)[flips]
        threshold = border.threshold_of(coarse.hu, coarse.bone, rule)
        start, fine = 0.45, None
        if self.fine is not None:
            start = 0.75
            with self._threads() as workers:
                fine = refine(
                    view,
                    grid,
                    guide,
                    self.fine,
                    self.device,
                    self.config.refine,
                    lambda share: report(0.45 + 0.3 * share),
                    workers,
                )
        if fine is not None:
            fine = part_at_discs(view, np.asarray(grid.spacing_mm), fine, self.config.disc)
        rest = 0.85 - start
        border.draw_border(
            view, guide, out_view, threshold, rule, lambda s: report(start + rest * s), fine, self.workers
        )
        found = border.tidy(out_view, grid.voxel_ml, rule, self.workers)
        heads = name_heads(out_view, found, np.asarray(grid.spacing_mm), self.config.name.shoulder)
        report(1.0)
        confidence = {n: named.confidence.get(n, 0.0) for n in found}
        for humerus, scapula in heads.items():
            # Of what was called scapula the net is as sure that it is a shoulder.
            confidence[humerus] = max(confidence.get(humerus, 0.0), confidence.get(scapula, 0.0))
            if scapula in found and not (out_view[found[scapula]] == scapula).any():
                confidence.pop(scapula, None)
        candidates = {n: named.candidates.get(n, (n,)) for n in confidence}
        bones = Volume(out, ct.grid, Unit.LABEL)
        return Segmentation(
            bones, confidence, candidates, _notes(confidence, named.dropped_ml), self.weights_sha256
        )

    @contextmanager
    def _threads(self) -> Iterator[int]:
        """How many windows or tiles are looked at at a time. Threads with work of their own get more out of a
        CPU than those that share one convolution; a GPU does one thing at a time."""
        on_cpu = self.device.type == "cpu"
        with _torch_threads(1 if on_cpu else self.threads), kept_pages():
            yield self.workers if on_cpu else 1

    def answer(self, ct: Volume, progress: Callable[[float], None] | None = None) -> Coarse:
        """The net's own answer at 4 mm."""
        view, grid, _, _ = canonical(ct)
        target = net_grid(grid, self.model.config.input_mm, self.model.config.multiple)
        with self._threads() as workers:
            coarse = ask(
                self.model,
                hu_on(view, grid, target),
                target,
                self.device,
                self.config.windows,
                self.config.overlap,
                progress,
                workers,
            )
        medium = contrast_medium(coarse.hu, coarse.bone, coarse.grid.voxel_ml, self.config.medium)
        return replace(coarse, medium=medium)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(ct: Volume) -> None:
    """Refuse what is not a CT."""
    if ct.unit is not Unit.HU:
        raise InputError(f"segmentation needs a CT in HU, got a volume in {ct.unit.value}")
    if min(ct.grid.shape) < 2:
        raise InputError(f"the CT has shape {ct.grid.shape}; segmentation needs at least 2 voxels per axis")
    step = [max(1, n // 64) for n in ct.grid.shape]
    some = np.asarray(ct.data[:: step[0], :: step[1], :: step[2]], np.float32)
    low, high = float(np.nanmin(some)), float(np.nanmax(some))
    if not low < -50:
        raise InputError(
            f"the CT has values from {low:g} to {high:g}, none as low as air or fat (expected HU near "
            "-1000 outside the body and -100 in fat); check the rescale slope and intercept"
        )


def _guide(coarse: Coarse, labels: np.ndarray, grid: Grid, rule: BorderRule) -> Guide:
    """The coarse answer along the axes of the canonical CT grid."""
    # What was left out of the names is not to come back as the rim of a neighbour.
    chance = np.where((coarse.bone > 0.5) & (labels == 0), 0, coarse.bone).clip(0.0025, 0.9975)
    logit = np.log(chance / (1 - chance)).astype(np.float32)
    wide = border.grown(labels, rule)
    if coarse.medium is not None:
        wide[coarse.medium] = 0
    matrix = coarse.grid.ijk_from_mm @ grid.mm_from_ijk
    linear = matrix[:3, :3]
    drift = np.abs(linear - np.diag(np.diag(linear))) * np.array(grid.shape)
    if drift.max() < 0.05:
        return Guide(logit, wide, np.diag(linear).copy(), matrix[:3, 3].copy())
    # An oblique CT: carry the answer to a grid of about the same spacing along the CT's axes.
    step_mm = float(coarse.grid.spacing_mm[0])
    size = np.array(grid.shape) * grid.spacing_mm
    count = np.maximum(np.ceil(size / step_mm).astype(int), 1)
    scale = count / np.array(grid.shape)
    offset = (scale - 1) / 2
    grid_from_local = np.eye(4)
    grid_from_local[:3, :3] = np.diag(1 / scale)
    grid_from_local[:3, 3] = -offset / scale
    coarse_from_local = matrix @ grid_from_local
    turn, shift = coarse_from_local[:3, :3], coarse_from_local[:3, 3]
    low = float(logit.min())
    local = ndimage.affine_transform(logit, turn, shift, tuple(count), np.float32, order=1, cval=low)
    near = ndimage.affine_transform(wide, turn, shift, tuple(count), np.uint8, order=0, cval=0)
    return Guide(local, near, scale, offset)


def _notes(confidence: dict[int, float], dropped_ml: float) -> tuple[str, ...]:
    """What a reader should know."""
    if not confidence:
        return ("no bone was found",)
    unsure = sum(share < LOW_CONFIDENCE for share in confidence.values())
    notes = ["bones were named by a net trained on synthetic CT only; check the numbering"]
    if unsure:
        are = "is unsure; it is shown as a range" if unsure == 1 else "are unsure; they are shown as ranges"
        notes.append(f"{unsure} of {len(confidence)} bone names {are}")
    if dropped_ml > DROPPED_ML:
        notes.append(
            f"{dropped_ml:.0f} mL that the network took for bone were left out: contrast medium, too thick "
            "for a rib, beside the spine, or loose pieces"
        )
    return tuple(notes)
