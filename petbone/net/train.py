"""Train the bone net on synthetic CT: one loop, read from top to bottom.

A run is its config and its seed: sample number k of a run is always the same, whoever generates it, and a
checkpoint holds all that the rest of the run depends on (weights, optimiser, averaged weights, step).
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Full
from typing import Any, TypeVar

import torch
import torch.nn.functional as nnf
from torch import Tensor, multiprocessing, nn

from petbone.anatomy import BONES
from petbone.errors import InputError
from petbone.net.anatomies import Anatomy
from petbone.net.device import mixed_precision
from petbone.net.scene import SynthConfig
from petbone.net.synth import Sample, Synthesizer
from petbone.net.unet import CENTRE_UNIT_MM, BoneNet, UNetConfig, build_unet
from petbone.net.weights import load_weights

Net = TypeVar("Net", bound=nn.Module)
Batch = TypeVar("Batch")
VERTEBRAE = tuple(bone.id for bone in BONES if bone.group.endswith("_spine"))
LOG_COLUMNS = (
    "step",
    "minutes",
    "rate",
    "loss",
    "bone",
    "dice",
    "which",
    "place",
    "centre",
    "bone_dice",
    "name_share",
)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The rate warms up, stays, and falls by a cosine over the last part of the budget."""

    steps: int = 100_000
    minutes: float = 60.0
    rate: float = 1.5e-3
    warm_up_steps: int = 60
    final_part: float = 0.6
    weight_decay: float = 1e-2
    average: float = 0.995
    clip: float = 1.0
    seed: int = 0
    first_sample: int = 0
    workers: int = 1
    log_every: int = 20
    save_every: int = 200
    bone_weight: float = 1.0
    which_weight: float = 1.0
    place_weight: float = 0.5
    centre_weight: float = 1.0


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, and two shares worth plotting."""

    loss: Tensor
    bone: float
    dice: float
    which: float
    place: float
    centre: float
    bone_dice: float
    name_share: float


def coarse_targets(sample: Sample) -> tuple[Tensor, Tensor]:
    """Name (X/2, Y/2, Z/2) and place (3, ...) of every 2 x 2 x 2 block: the most frequent bone in it.

    Of two bones in a block the one with the larger label wins ties; the place is the block's mean.
    """
    x, y, z = sample.bone.shape
    blocks = sample.bone.reshape(x // 2, 2, y // 2, 2, z // 2, 2).permute(0, 2, 4, 1, 3, 5).flatten(3)
    same = (blocks[..., :, None] == blocks[..., None, :]).sum(-1) * 64 * (blocks > 0)
    best = (same * 4 + blocks).argmax(-1, keepdim=True)
    name = blocks.gather(-1, best)[..., 0]
    return name, nnf.avg_pool3d(sample.place[None], 2)[0]


def centre_targets(sample: Sample, name: Tensor) -> tuple[Tensor, Tensor]:
    """Which blocks are vertebra (X/2, Y/2, Z/2), and their way to its middle (3, n) in voxels of the sample.

    The middle is the mean of the vertebra's voxels in the field; `name` is that of `coarse_targets`.
    """
    flat = sample.bone.flatten().long()
    index = torch.stack(
        torch.meshgrid(*[torch.arange(n, device=flat.device) for n in sample.bone.shape], indexing="ij")
    ).flatten(1)
    count = torch.bincount(flat, minlength=256).clamp(min=1)
    middle = torch.stack([torch.bincount(flat, axis.float(), minlength=256) for axis in index]) / count
    is_vertebra = torch.zeros(256, dtype=torch.bool, device=flat.device)
    is_vertebra[list(VERTEBRAE)] = True
    where = is_vertebra[name.long()]
    here = torch.nonzero(where).T * 2 + 0.5
    return where, middle[:, name[where].long()] - here


def loss_of(model: BoneNet, sample: Sample, config: TrainConfig, dtype: torch.dtype | None) -> Losses:
    """Loss of one sample: bone or not (cross-entropy and soft Dice), which bone, place."""
    device = sample.hu.device
    context = torch.autocast(device.type, dtype) if dtype else nullcontext()
    with context:
        answer = model(sample.hu[None, None])
    truth = (sample.bone > 0).float()[None, None]
    logits = answer.bone.float()
    chance = logits.sigmoid()
    cross = nnf.binary_cross_entropy_with_logits(logits, truth, pos_weight=torch.tensor(3.0, device=device))
    overlap = 2 * (chance * truth).sum()
    dice = 1 - (overlap + 20) / (chance.sum() + truth.sum() + 20)
    name, place = coarse_targets(sample)
    where = name > 0
    which_loss = place_loss = centre_loss = logits.sum() * 0
    share = float("nan")
    if bool(where.any()):
        scores = answer.which.float()[0][:, where].T
        wanted = name[where].long() - 1
        # A rib has a hundredth of the voxels of a pelvis; by the root of its size a bone weighs in between.
        weight = torch.bincount(wanted, minlength=scores.shape[1]).float().rsqrt()[wanted]
        each = nnf.cross_entropy(scores, wanted, label_smoothing=0.02, reduction="none")
        which_loss = (each * weight).sum() / weight.sum()
        place_loss = nnf.smooth_l1_loss(answer.place.float()[0][:, where], place[:, where], beta=0.3)
        share = float((scores.argmax(1) == wanted).float().mean())
    loss = config.bone_weight * (cross + dice)
    loss = loss + config.which_weight * which_loss + config.place_weight * place_loss
    vertebra, way = centre_targets(sample, name)
    if bool(vertebra.any()):
        # Voxels of a sample are as large as the net's input voxels: a unit is a fixed number of them.
        wanted_way = way * (model.config.input_mm / CENTRE_UNIT_MM)
        centre_loss = nnf.smooth_l1_loss(answer.centre.float()[0][:, vertebra], wanted_way, beta=0.3)
    loss = loss + config.centre_weight * centre_loss
    hard = chance > 0.5
    hard_dice = (2 * (hard & (truth > 0)).sum() + 1) / (hard.sum() + truth.sum() + 1)
    return Losses(
        loss=loss,
        bone=cross.item(),
        dice=dice.item(),
        which=which_loss.item(),
        place=place_loss.item(),
        centre=centre_loss.item(),
        bone_dice=float(hard_dice),
        name_share=share,
    )


def rate_factor(config: TrainConfig, step: int, minutes: float) -> float:
    """Warm-up, plateau, cosine to a fiftieth; progress is the further of steps and minutes."""
    warm = min(1.0, (step + 1) / config.warm_up_steps)
    progress = min(1.0, max(step / config.steps, minutes / config.minutes))
    tail = max(0.0, progress - (1 - config.final_part)) / config.final_part
    return warm * (0.02 + 0.98 * float(0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * tail))))


def _generate(anatomies: Sequence[Anatomy], config: SynthConfig, seeds: Sequence[int], queue: Any) -> None:
    """Body of a generating process."""
    torch.set_num_threads(1)
    parent = os.getppid()
    synthesizer = Synthesizer(anatomies, config)
    for seed in seeds:
        sample = synthesizer.sample(seed)
        # Half precision carries HU to a quarter of a unit and halves the traffic between processes.
        item = (seed, sample.hu.numpy(), sample.bone.numpy(), sample.place.half().numpy())
        while True:
            try:
                queue.put(item, timeout=5)
                break
            except Full:
                # A trainer that was killed leaves its generators behind; they end by themselves.
                if os.getppid() != parent:
                    return


def sample_seed(config: TrainConfig, step: int) -> int:
    """Seed of the sample of a step."""
    return config.seed * 10_000_019 + config.first_sample + step


def samples(
    anatomies: Sequence[Anatomy],
    synth: SynthConfig,
    config: TrainConfig,
    first_step: int,
    device: torch.device,
) -> Iterator[Sample]:
    """Samples of the run from `first_step` on, in order. On a GPU, or with no workers, made in place."""
    if device.type != "cpu" or config.workers == 0:
        synthesizer = Synthesizer(anatomies, synth, device)
        for step in range(first_step, config.steps):
            yield synthesizer.sample(sample_seed(config, step))
        return
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=6) for _ in range(config.workers)]
    processes = []
    for n, queue in enumerate(queues):
        seeds = range(sample_seed(config, first_step + n), sample_seed(config, config.steps), config.workers)
        process = context.Process(target=_generate, args=(anatomies, synth, seeds, queue), daemon=True)
        process.start()
        processes.append(process)
    try:
        for step in range(first_step, config.steps):
            seed, hu, bone, place = queues[(step - first_step) % config.workers].get(timeout=300)
            if seed != sample_seed(config, step):
                raise RuntimeError(f"sample {seed} came for step {step}")
            yield Sample(torch.from_numpy(hu), torch.from_numpy(bone), torch.from_numpy(place).float())
    finally:
        for process in processes:
            process.terminate()


@torch.no_grad()
def _average_in(average: nn.Module, model: nn.Module, keep: float) -> None:
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint without unpickling code. Raises InputError if it is not one."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or "net" not in state or "model" not in state:
            raise KeyError("net")
    except Exception as error:
        raise InputError(f"{path.name} is not a checkpoint of petbone training ({error})") from error
    return state


def _weights_of(path: Path, device: torch.device) -> dict[str, Any]:
    """Averaged weights of a checkpoint, or those of a weights file as it ships."""
    if path.suffix == ".safetensors":
        return load_weights(path, device)[0].state_dict()
    weights: dict[str, Any] = load_checkpoint(path, device)["average"]
    return weights


@dataclass(frozen=True)
class Kind:
    """What tells one net's training from another's: columns of its log (the first three are step, minutes
    and rate), what its checkpoints say, where to start from, and what to call at every checkpoint."""

    columns: tuple[str, ...]
    header: dict[str, Any]
    start: Callable[[], dict[str, Any]] | None = None
    on_save: Callable[[Any, int], None] | None = None


def run(
    build: Callable[[], Net],
    batches: Callable[[int], Iterator[Batch]],
    loss: Callable[[Net, Batch], Any],
    out: Path,
    config: TrainConfig,
    device: torch.device,
    kind: Kind,
) -> Net:
    """The loop of every training: until the budget of steps or minutes is used; returns the averaged net.

    `batches` gives what is shown from a step on, `loss` an object with `loss` (a tensor) and the columns of
    the log. Leaves `checkpoint.pt` and `log.csv` in `out` and goes on from them when they are there.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model, average = build().to(device), build().to(device)
    average.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=config.weight_decay)
    step, minutes = 0, 0.0
    path = out / "checkpoint.pt"
    if path.exists():
        state = load_checkpoint(path, device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, minutes = state["step"], state["minutes"]
    elif kind.start is not None:
        weights = kind.start()
        model.load_state_dict(weights)
        average.load_state_dict(weights)
    began = time.monotonic() - minutes * 60
    rows: list[Any] = []
    for batch in batches(step):
        factor = rate_factor(config, step, minutes)
        for group in optimiser.param_groups:
            group["lr"] = config.rate * factor
        losses = loss(model, batch)
        optimiser.zero_grad(set_to_none=True)
        losses.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        step += 1
        # Early on the average follows quickly, so that it is of use from the first hundred steps.
        _average_in(average, model, min(config.average, (step + 1) / (step + 10)))
        minutes = (time.monotonic() - began) / 60
        rows.append(losses)
        last = step >= config.steps or minutes >= config.minutes
        if step % config.log_every == 0 or last:
            _log(out / "log.csv", step, minutes, config.rate * factor, rows, kind.columns)
            rows = []
        if step % config.save_every == 0 or last:
            state = {
                **kind.header,
                "train": asdict(config),
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "minutes": minutes,
            }
            save_checkpoint(path, state)
            if kind.on_save is not None:
                kind.on_save(average, step)
        if last:
            break
    return average


def train(
    anatomies: Sequence[Anatomy],
    out: Path,
    net: UNetConfig,
    synth: SynthConfig,
    config: TrainConfig,
    device: torch.device,
    start_from: Path | None = None,
    on_save: Callable[[BoneNet, int], None] | None = None,
) -> BoneNet:
    """Train until the budget of steps or minutes is used; returns the averaged net.

    Leaves `checkpoint.pt` and `log.csv` in `out` and goes on from them when they are there. `start_from`
    is a checkpoint of another run, or a weights file, whose averaged weights are the start of this one.
    `on_save` is called with the averaged net and the step whenever a checkpoint is written.
    """
    weights = None if start_from is None else lambda: _weights_of(start_from, device)
    dtype = mixed_precision(device)
    return run(
        lambda: build_unet(net),
        lambda step: samples(anatomies, synth, config, step, device),
        lambda model, sample: loss_of(model, sample, config, dtype),
        out,
        config,
        device,
        Kind(LOG_COLUMNS, {"net": net.as_dict(), "synth": asdict(synth)}, weights, on_save),
    )


def _log(
    path: Path, step: int, minutes: float, rate: float, rows: Sequence[Any], columns: Sequence[str]
) -> None:
    """Append the means over `rows` to the log."""
    new = not path.exists()
    means: list[float] = []
    for name in columns[3:]:
        values = [float(torch.as_tensor(getattr(row, name)).detach()) for row in rows]
        seen = [v for v in values if v == v]
        means.append(sum(seen) / len(seen) if seen else float("nan"))
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(columns)
        writer.writerow([step, f"{minutes:.2f}", f"{rate:.2e}", *(f"{m:.4f}" for m in means)])
