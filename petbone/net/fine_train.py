"""Train the fine net on synthetic patches: the loop of `train.py`, with batches of patches and one head.

As there, patch number k of a run is always the same, and a checkpoint holds all that the rest depends on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Full
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, multiprocessing

from petbone.errors import InputError
from petbone.net.device import mixed_precision
from petbone.net.fine import FineConfig, FineNet, build_fine
from petbone.net.fine_anatomy import FineAnatomy
from petbone.net.fine_synth import FineSample, FineSynthConfig, FineSynthesizer
from petbone.net.train import Kind, TrainConfig, load_checkpoint, run, sample_seed
from petbone.net.weights import load_fine

LOG_COLUMNS = ("step", "minutes", "rate", "loss", "bone", "dice", "bone_dice", "found_share", "false_share")


@dataclass(frozen=True)
class FineLosses:
    """The parts of the loss, and shares worth plotting: hard Dice, truth found, and what was said that is
    false; the last two are NaN in a batch without bone."""

    loss: Tensor
    bone: float
    dice: float
    bone_dice: float
    found_share: float
    false_share: float


def stacked(patches: Sequence[FineSample]) -> tuple[Tensor, Tensor, Tensor]:
    """HU, coarse logit and truth of a batch, (N, 1, X, Y, Z) float32."""
    hu, coarse, bone = (
        torch.stack([getattr(p, name) for p in patches])[:, None] for name in ("hu", "coarse", "bone")
    )
    return hu.float(), coarse.float(), bone.float()


def fine_loss(model: FineNet, patches: Sequence[FineSample], dtype: torch.dtype | None) -> FineLosses:
    """Cross-entropy and soft Dice over the batch."""
    hu, coarse, truth = stacked(patches)
    with torch.autocast(hu.device.type, dtype) if dtype else nullcontext():
        logits = model(hu, coarse)
    logits = logits.float()
    chance = logits.sigmoid()
    cross = nnf.binary_cross_entropy_with_logits(logits, truth)
    # Over the whole batch: a patch without bone would otherwise weigh as much as one full of it.
    overlap = 2 * (chance * truth).sum()
    dice = 1 - (overlap + 200) / (chance.sum() + truth.sum() + 200)
    # A mean of the cross-entropy over mostly easy voxels is small; the factor brings the two into balance.
    loss = 4 * cross + dice
    hard, is_bone = logits > 0, truth > 0
    both, said, there = (int(n) for n in ((hard & is_bone).sum(), hard.sum(), is_bone.sum()))
    return FineLosses(
        loss=loss,
        bone=cross.item(),
        dice=dice.item(),
        bone_dice=(2 * both + 1) / (said + there + 1),
        found_share=both / there if there else float("nan"),
        false_share=(said - both) / said if said and there else float("nan"),
    )


def _generate(
    anatomies: Sequence[Path | FineAnatomy], synth: FineSynthConfig, seeds: Sequence[int], queue: Any
) -> None:
    """Body of a generating process."""
    torch.set_num_threads(1)
    parent = os.getppid()
    synthesizer = FineSynthesizer(_opened(anatomies), synth)
    for seed in seeds:
        patch = synthesizer.patch(seed)
        item = (seed, patch.hu.half().numpy(), patch.bone.numpy(), patch.coarse.half().numpy())
        while True:
            try:
                queue.put(item, timeout=5)
                break
            except Full:
                # A trainer that was killed leaves its generators behind; they end by themselves.
                if os.getppid() != parent:
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
    """Batches of the run from `first_step` on, in order. On a GPU, or with no workers, made in place."""
    first, last = sample_seed(config, first_step * batch), sample_seed(config, config.steps * batch)
    if device.type != "cpu" or config.workers == 0:
        synthesizer = FineSynthesizer(_opened(anatomies), synth, device)
        for start in range(first, last, batch):
            yield [_halved(synthesizer.patch(seed)) for seed in range(start, start + batch)]
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
                came, hu, bone, coarse = queues[(seed - first) % config.workers].get(timeout=300)
                if came != seed:
                    raise RuntimeError(f"patch {came} came for patch {seed}")
                found.append(
                    FineSample(
                        torch.from_numpy(hu).float(), torch.from_numpy(bone), torch.from_numpy(coarse).float()
                    )
                )
            yield found
    finally:
        for process in processes:
            process.terminate()


def _halved(patch: FineSample) -> FineSample:
    """Rounded as patches are that travel between processes, so that both ways give the same run."""
    return FineSample(patch.hu.half().float(), patch.bone, patch.coarse.half().float())


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
