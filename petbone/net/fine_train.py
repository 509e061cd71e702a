"""Train the fine net on synthetic patches: the loop of `train.py`, with batches of patches.

As there, patch number k of a run is always the same, and a checkpoint holds all that the rest depends on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, multiprocessing

from petbone.errors import InputError
from petbone.net.device import mixed_precision
from petbone.net.fine import FineConfig, FineNet, build_fine, told_channels
from petbone.net.fine_anatomy import FineAnatomy
from petbone.net.fine_detail import FineSynthConfig
from petbone.net.fine_synth import FineSample, FineSynthesizer
from petbone.net.kinds import VERTEBRA_KIND, kind_of_label
from petbone.net.loop import Kind, TrainConfig, load_checkpoint, run
from petbone.net.sources import put, sample_seed
from petbone.net.unet import CENTRE_UNIT_MM
from petbone.net.weights import load_fine

LOG_COLUMNS = (
    "step",
    "minutes",
    "rate",
    "loss",
    "bone",
    "dice",
    "kind",
    "way",
    "bone_dice",
    "found_share",
    "false_share",
    "kind_share",
    "way_mm",
)


@dataclass(frozen=True)
class FineLosses:
    """The parts of the loss, and what is worth plotting: hard Dice, truth found, what was said that is false,
    kinds named right, and the mean error of the way to a vertebra's middle. NaN where a batch has none."""

    loss: Tensor
    bone: float
    dice: float
    kind: float
    way: float
    bone_dice: float
    found_share: float
    false_share: float
    kind_share: float
    way_mm: float


def stacked(patches: Sequence[FineSample]) -> tuple[Tensor, Tensor, Tensor]:
    """HU, coarse logit and part of bone of a batch, (N, 1, X, Y, Z) float32."""
    hu, coarse, bone = (
        torch.stack([getattr(p, name) for p in patches])[:, None] for name in ("hu", "coarse", "bone")
    )
    return hu.float(), coarse.float(), bone.float()


def told(patches: Sequence[FineSample], kinds: int, unit: float) -> Tensor:
    """The coarse names of a batch as the net is told them, (N, kinds + 3, X/2, Y/2, Z/2); a voxel of the
    patch measures `unit` of a way."""
    found = []
    for patch in patches:
        axes = [torch.arange(n, device=patch.told.device) * 2 + 0.5 for n in patch.told.shape]
        here = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        way = patch.told_middle[patch.told.long()].movedim(-1, 0) - here
        found.append(told_channels(patch.told, way * unit, kinds))
    return torch.stack(found)


def ways(patch: FineSample) -> tuple[Tensor, Tensor]:
    """Voxels of vertebrae whose middle is known, flat indices (n,), and the way there (3, n) in voxels."""
    label = patch.label.flatten().long()
    known = ~patch.middle[:, 0].isnan()
    known &= torch.from_numpy(kind_of_label() == VERTEBRA_KIND).to(label.device)
    index = torch.nonzero(known[label])[:, 0]
    here = torch.stack(torch.unravel_index(index, patch.label.shape))
    return index, patch.middle[label[index]].T - here


def fine_loss(model: FineNet, patches: Sequence[FineSample], dtype: torch.dtype | None) -> FineLosses:
    """Cross-entropy and soft Dice over the batch; over its bone the kind, over its vertebrae the way."""
    hu, coarse, truth = stacked(patches)
    unit = model.config.input_mm / CENTRE_UNIT_MM
    names = told(patches, model.config.kinds, unit)
    with torch.autocast(hu.device.type, dtype) if dtype else nullcontext():
        answer = model(hu, coarse, names)
    logits = answer.bone.float()
    chance = logits.sigmoid()
    # The truth is a part of a voxel: a logit of 0 then lies where the border lies, between voxels too.
    cross = nnf.binary_cross_entropy_with_logits(logits, truth)
    # Over the whole batch: a patch without bone would otherwise weigh as much as one full of it.
    overlap = 2 * (chance * truth).sum()
    dice = 1 - (overlap + 200) / (chance.sum() + truth.sum() + 200)
    label = torch.stack([p.label for p in patches])
    kind = torch.from_numpy(kind_of_label()).to(hu.device)[label.long()].long()
    bone = kind > 0
    kind_loss = way_loss = logits.sum() * 0
    kind_share = way_mm = float("nan")
    if bool(bone.any()):
        scores = answer.kind.float().movedim(1, -1)[bone]
        wanted = kind[bone] - 1
        weight = torch.bincount(wanted, minlength=scores.shape[1]).float().rsqrt()[wanted]
        each = nnf.cross_entropy(scores, wanted, reduction="none")
        kind_loss = (each * weight).sum() / weight.sum()
        kind_share = float((scores.argmax(1) == wanted).float().mean())
    errors = []
    for said, patch in zip(answer.way.float(), patches, strict=True):
        index, way = ways(patch)
        errors.append(said.flatten(1)[:, index] - way * unit)
    error = torch.cat(errors, 1)
    if error.shape[1]:
        way_loss = nnf.smooth_l1_loss(error, torch.zeros_like(error), beta=0.1)
        way_mm = float(error.detach().norm(dim=0).mean()) * CENTRE_UNIT_MM
    # A mean of the cross-entropy over mostly easy voxels is small; the factor brings the parts into balance.
    loss = 4 * cross + dice + 0.5 * kind_loss + way_loss
    hard, is_bone = logits > 0, truth > 0.5
    both, said_all, there = (int(n) for n in ((hard & is_bone).sum(), hard.sum(), is_bone.sum()))
    return FineLosses(
        loss=loss,
        bone=cross.item(),
        dice=dice.item(),
        kind=kind_loss.item(),
        way=way_loss.item(),
        bone_dice=(2 * both + 1) / (said_all + there + 1),
        found_share=both / there if there else float("nan"),
        false_share=(said_all - both) / said_all if said_all and there else float("nan"),
        kind_share=kind_share,
        way_mm=way_mm,
    )


def _generate(
    anatomies: Sequence[Path | FineAnatomy], synth: FineSynthConfig, seeds: Sequence[int], queue: Any
) -> None:
    """Body of a generating process."""
    torch.set_num_threads(1)
    parent = os.getppid()
    synthesizer = FineSynthesizer(_opened(anatomies), synth)
    for seed in seeds:
        item = (seed, *(part.numpy() for part in _packed(synthesizer.patch(seed))))
        if not put(queue, item, parent):
            return


def _opened(anatomies: Sequence[Path | FineAnatomy]) -> list[FineAnatomy]:
    """Folders are mapped by each process for itself, so that no map travels between processes."""
    return [FineAnatomy.load(a) if isinstance(a, Path) else a for a in anatomies]


def patches(
    anatomies: Sequence[Path | FineAnatomy],
    synth: FineSynthConfig,
    config: TrainConfig,
    batch: int,
    first_step: int,
    device: torch.device,
) -> Iterator[list[FineSample]]:
    """Batches of the run from `first_step` on, in order; without workers they are made on the device."""
    first, last = sample_seed(config, first_step * batch), sample_seed(config, config.steps * batch)
    if config.workers == 0:
        synthesizer = FineSynthesizer(_opened(anatomies), synth, device)
        for start in range(first, last, batch):
            yield [_unpacked(_packed(synthesizer.patch(seed))) for seed in range(start, start + batch)]
        return
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=6) for _ in range(config.workers)]
    processes = []
    for n, queue in enumerate(queues):
        seeds = range(first + n, last, config.workers)
        process = context.Process(target=_generate, args=(anatomies, synth, seeds, queue), daemon=True)
        process.start()
        processes.append(process)
    try:
        for start in range(first, last, batch):
            found = []
            for seed in range(start, start + batch):
                came, *parts = queues[(seed - first) % config.workers].get(timeout=300)
                if came != seed:
                    raise RuntimeError(f"patch {came} came for patch {seed}")
                found.append(_unpacked([torch.from_numpy(part).to(device) for part in parts]))
            yield found
    finally:
        for process in processes:
            process.terminate()


def _packed(patch: FineSample) -> list[Tensor]:
    """The parts of a patch as they travel between processes, the first three in half precision."""
    halved = [part.half() for part in (patch.hu, patch.bone, patch.coarse)]
    return [*halved, patch.label, patch.middle, patch.told, patch.told_middle]


def _unpacked(parts: Sequence[Tensor]) -> FineSample:
    """Inverse of `_packed`, but for the rounding; patches made in place are rounded too."""
    return FineSample(*(part.float() for part in parts[:3]), *parts[3:])


def _start(path: Path, device: torch.device) -> dict[str, Any]:
    """Averaged weights of a checkpoint, or those of the fine net in a weights file."""
    if path.suffix == ".safetensors":
        model = load_fine(path, device)
        if model is None:
            raise InputError(
                f"{path.name} holds no fine net; start from a checkpoint of scripts/train_fine.py"
            )
        return model.state_dict()
    weights: dict[str, Any] = load_checkpoint(path, device)["average"]
    return weights


def train_fine(
    anatomies: Sequence[Path | FineAnatomy],
    out: Path,
    net: FineConfig,
    synth: FineSynthConfig,
    config: TrainConfig,
    device: torch.device,
    batch: int = 2,
    start_from: Path | None = None,
    on_save: Callable[[FineNet, int], None] | None = None,
) -> FineNet:
    """Train until the budget of steps or minutes is used; returns the averaged net.

    `anatomies` are folders of scripts/build_fine_anatomy.py. Leaves `checkpoint.pt` and `log.csv` in `out`
    and goes on from them when they are there; otherwise as `train.train`.
    """
    start = None if start_from is None else lambda: _start(start_from, device)
    header = {"net": net.as_dict(), "synth": asdict(synth), "batch": batch}
    dtype = mixed_precision(device)
    return run(
        lambda: build_fine(net),
        lambda step: patches(anatomies, synth, config, batch, step, device),
        lambda model, group: fine_loss(model, group, dtype),
        out,
        config,
        device,
        Kind(LOG_COLUMNS, header, start, on_save),
    )
