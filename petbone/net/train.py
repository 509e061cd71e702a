"""Train the bone net on synthetic CT, on real cases, or on both: one loop, read from top to bottom.

A run is its config and its seed: sample number k of a run is always the same, whoever generates it, and a
checkpoint holds all that the rest of the run depends on (weights, optimiser, averaged weights, step).
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Full
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, multiprocessing, nn

from petbone.anatomy import BONES
from petbone.errors import InputError
from petbone.net.anatomies import Anatomy
from petbone.net.cases import Case, CaseConfig, CaseSample, CaseSampler
from petbone.net.device import mixed_precision
from petbone.net.scene import SynthConfig
from petbone.net.synth import Sample, Synthesizer
from petbone.net.unet import CENTRE_UNIT_MM, Answer, BoneNet, UNetConfig, build_unet
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
    """How to train. The rate warms up, stays, and falls by a cosine over the last part of the budget.

    The budget is of steps and of minutes, whichever is used up first. Without a limit of minutes (infinite) a
    run does not depend on the clock, and repeats bit for bit on a CPU.
    """

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
    """The parts of the loss, and two shares worth plotting; NaN where a sample has nothing to tell."""

    loss: Tensor
    bone: float
    dice: float
    which: float
    place: float
    centre: float
    bone_dice: float
    name_share: float


def coarse_names(bone: Tensor) -> Tensor:
    """Name (X/2, Y/2, Z/2) of every 2 x 2 x 2 block of labels (X, Y, Z): the most frequent bone in it.

    Of two bones in a block the one with the larger label wins ties.
    """
    blocks = _blocks(bone)
    same = (blocks[..., :, None] == blocks[..., None, :]).sum(-1) * 64 * (blocks > 0)
    best = (same * 4 + blocks).argmax(-1, keepdim=True)
    return blocks.gather(-1, best)[..., 0]


def _blocks(voxels: Tensor) -> Tensor:
    """(X, Y, Z) as (X/2, Y/2, Z/2, 8)."""
    x, y, z = voxels.shape
    return voxels.reshape(x // 2, 2, y // 2, 2, z // 2, 2).permute(0, 2, 4, 1, 3, 5).flatten(3)


def centre_targets(bone: Tensor, name: Tensor) -> tuple[Tensor, Tensor]:
    """Which blocks are vertebra (X/2, Y/2, Z/2), and their way to its middle (3, n) in voxels of the sample.

    The middle is the mean of the vertebra's voxels in the field; `name` is `coarse_names` of `bone`.
    """
    flat = bone.flatten().long()
    index = torch.stack(
        torch.meshgrid(*[torch.arange(n, device=flat.device) for n in bone.shape], indexing="ij")
    ).flatten(1)
    count = torch.bincount(flat, minlength=256).clamp(min=1)
    middle = torch.stack([torch.bincount(flat, axis.float(), minlength=256) for axis in index]) / count
    is_vertebra = torch.zeros(256, dtype=torch.bool, device=flat.device)
    is_vertebra[list(VERTEBRAE)] = True
    where = is_vertebra[name.long()]
    here = torch.nonzero(where).T * 2 + 0.5
    return where, middle[:, name[where].long()] - here


def loss_of(
    model: BoneNet, sample: Sample | CaseSample, config: TrainConfig, dtype: torch.dtype | None
) -> Losses:
    """Loss of one sample: bone or not (cross-entropy and soft Dice), which bone, place, way to the middle."""
    context = torch.autocast(sample.hu.device.type, dtype) if dtype else nullcontext()
    with context:
        answer = model(sample.hu[None, None])
    return losses_of(answer, sample, config, model.config.input_mm)


def losses_of(answer: Answer, sample: Sample | CaseSample, config: TrainConfig, input_mm: float) -> Losses:
    """Loss of an answer. Voxels that a real case does not know have no part in it; it has no place either."""
    known = sample.known.float()[None, None] if isinstance(sample, CaseSample) else None
    truth = (sample.bone > 0).float()[None, None]
    logits = answer.bone.float()
    cross, dice, bone_dice = _bone_or_not(logits, truth, known)
    name = coarse_names(sample.bone)
    # Supernumerary bones are bone, but the net has no name for them.
    where = (name > 0) & (name <= answer.which.shape[1])
    vertebra, way = centre_targets(sample.bone, name)
    if isinstance(sample, CaseSample):
        # A block that is mostly unknown may be mostly another bone.
        sure = (_blocks(sample.bone) > 0).sum(-1) >= (~_blocks(sample.known)).sum(-1)
        where = where & sure
        way, vertebra = way[:, sure[vertebra]], vertebra & sure
    loss = config.bone_weight * (cross + dice)
    which_loss = place_loss = centre_loss = logits.sum() * 0
    share, place_said = float("nan"), float("nan")
    if bool(where.any()):
        scores = answer.which.float()[0][:, where].T
        wanted = name[where].long() - 1
        # A rib has a hundredth of the voxels of a pelvis; by the root of its size a bone weighs in between.
        weight = torch.bincount(wanted, minlength=scores.shape[1]).float().rsqrt()[wanted]
        each = nnf.cross_entropy(scores, wanted, label_smoothing=0.02, reduction="none")
        which_loss = (each * weight).sum() / weight.sum()
        share = float((scores.argmax(1) == wanted).float().mean())
        if isinstance(sample, Sample):
            place = nnf.avg_pool3d(sample.place[None], 2)[0]
            place_loss = nnf.smooth_l1_loss(answer.place.float()[0][:, where], place[:, where], beta=0.3)
            place_said = place_loss.item()
    loss = loss + config.which_weight * which_loss + config.place_weight * place_loss
    if bool(vertebra.any()):
        # Voxels of a sample are as large as the net's input voxels: a unit is a fixed number of them.
        wanted_way = way * (input_mm / CENTRE_UNIT_MM)
        said_way = answer.centre.float()[0][:, vertebra]
        # By the root of its size, too: five vertebrae of a neck have fewer blocks than one of a loin.
        own = name[vertebra].long()
        weight = torch.bincount(own, minlength=256).float().rsqrt()[own]
        each = nnf.smooth_l1_loss(said_way, wanted_way, beta=0.3, reduction="none").mean(0)
        centre_loss = (each * weight).sum() / weight.sum()
    loss = loss + config.centre_weight * centre_loss
    return Losses(
        loss=loss,
        bone=cross.item(),
        dice=dice.item(),
        which=which_loss.item(),
        place=place_said,
        centre=centre_loss.item(),
        bone_dice=bone_dice,
        name_share=share,
    )


def _bone_or_not(logits: Tensor, truth: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor, float]:
    """Cross-entropy, soft Dice loss and hard Dice over what is known (None: everywhere)."""
    chance = logits.sigmoid()
    hard = (chance > 0.5).float()
    rise = torch.tensor(3.0, device=logits.device)
    cross = nnf.binary_cross_entropy_with_logits(logits, truth, known, pos_weight=rise)
    if known is not None:
        cross = cross * (known.numel() / known.sum().clamp(min=1))
        chance, hard = chance * known, hard * known
    overlap = 2 * (chance * truth).sum()
    dice = 1 - (overlap + 20) / (chance.sum() + truth.sum() + 20)
    hard_dice = (2 * (hard * truth).sum() + 1) / (hard.sum() + truth.sum() + 1)
    return cross, dice, float(hard_dice)


def rate_factor(config: TrainConfig, step: int, minutes: float) -> float:
    """Warm-up, plateau, cosine to a fiftieth; progress is the further of steps and minutes."""
    warm = min(1.0, (step + 1) / config.warm_up_steps)
    progress = min(1.0, max(step / config.steps, minutes / config.minutes))
    tail = max(0.0, progress - (1 - config.final_part)) / config.final_part
    return warm * (0.02 + 0.98 * float(0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * tail))))


@dataclass(frozen=True, eq=False)
class Sources:
    """Where samples come from: anatomies to render, prepared cases (`cases.prepare`) to cut from, or both;
    `share` of the samples are real cases.

    Raises InputError for a share that is none, or of something that is not there.
    """

    anatomies: tuple[Anatomy, ...] = ()
    synth: SynthConfig = field(default_factory=SynthConfig)
    cases: tuple[Path, ...] = ()
    augment: CaseConfig = field(default_factory=CaseConfig)
    share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"the share of real cases must lie from 0 to 1, got {self.share}")
        if self.share > 0 and not self.cases:
            raise InputError(f"a share of {self.share} real cases was asked for, but there are none")
        if self.share < 1 and not self.anatomies:
            raise InputError("no anatomies to draw samples from; make them with scripts/build_anatomy.py")

    def said(self) -> dict[str, Any]:
        """What a run must find unchanged to go on: in plain values."""
        cases = {path.stem: Case.load(path).digest() for path in self.cases if self.share > 0}
        names = [anatomy.name for anatomy in self.anatomies if self.share < 1]
        return {"anatomies": names, "cases": cases, "share": self.share}


class Sampler:
    """Draws the samples of sources on a device."""

    def __init__(self, sources: Sources, device: torch.device | str = "cpu") -> None:
        self.share = sources.share
        rendered, cut = sources.share < 1, sources.share > 0
        self.synthesizer = Synthesizer(sources.anatomies, sources.synth, device) if rendered else None
        self.cutter = CaseSampler(sources.cases, sources.augment, device) if cut else None

    def sample(self, seed: int) -> Sample | CaseSample:
        """The sample of a seed, rendered or cut: the seed decides that too."""
        # A stream of its own, so that a synthetic sample is the same in a mixture and without.
        real = self.share > 0 and np.random.default_rng([seed, 1]).random() < self.share
        if real and self.cutter is not None:
            return self.cutter.sample(seed)
        assert self.synthesizer is not None  # Sources has seen to it
        sample = self.synthesizer.sample(seed)
        # Rounded as what travels between processes, so that both ways give the same run.
        return Sample(sample.hu, sample.bone, sample.place.half().float())


def _generate(sources: Sources, seeds: Sequence[int], queue: Any) -> None:
    """Body of a generating process."""
    torch.set_num_threads(1)
    parent = os.getppid()
    sampler = Sampler(sources)
    for seed in seeds:
        sample = sampler.sample(seed)
        # Places in half precision are good to a tenth of a millimetre and halve the traffic.
        more = sample.known if isinstance(sample, CaseSample) else sample.place.half()
        item = (seed, sample.hu.numpy(), sample.bone.numpy(), more.numpy())
        while True:
            try:
                queue.put(item, timeout=5)
                break
            except Full:
                # A trainer that was killed leaves its generators behind; they end by themselves.
                if os.getppid() != parent:
                    queue.cancel_join_thread()  # nobody will read what is still on its way
                    return


def sample_seed(config: TrainConfig, step: int) -> int:
    """Seed of the sample of a step."""
    return config.seed * 10_000_019 + config.first_sample + step


def samples(
    sources: Sources, config: TrainConfig, first_step: int, device: torch.device
) -> Iterator[Sample | CaseSample]:
    """Samples of the run from `first_step` on, in order; without workers they are made on the device."""
    if config.workers == 0:
        sampler = Sampler(sources, device)
        for step in range(first_step, config.steps):
            yield sampler.sample(sample_seed(config, step))
        return
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=6) for _ in range(config.workers)]
    processes = []
    for n, queue in enumerate(queues):
        seeds = range(sample_seed(config, first_step + n), sample_seed(config, config.steps), config.workers)
        process = context.Process(target=_generate, args=(sources, seeds, queue), daemon=True)
        process.start()
        processes.append(process)
    try:
        for step in range(first_step, config.steps):
            seed, hu, bone, more = queues[(step - first_step) % config.workers].get(timeout=300)
            if seed != sample_seed(config, step):
                raise RuntimeError(f"sample {seed} came for step {step}")
            tensors = [torch.from_numpy(part).to(device) for part in (hu, bone, more)]
            if tensors[2].dtype == torch.bool:
                yield CaseSample(*tensors)
            else:
                yield Sample(tensors[0], tensors[1], tensors[2].float())
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


def _weights_of(path: Path, net: UNetConfig, device: torch.device) -> dict[str, Any]:
    """Averaged weights of a checkpoint, or those of a weights file as it ships, of a net as `net`."""
    if path.suffix == ".safetensors":
        model = load_weights(path, device)[0]
        theirs, weights = model.config.as_dict(), model.state_dict()
    else:
        state = load_checkpoint(path, device)
        theirs, weights = _whole(state["net"]), state["average"]
    if theirs != net.as_dict():
        raise InputError(
            f"{path.name} holds a net of other size {_differing(theirs, net.as_dict())}; give the config "
            "its [net], or leave out --start-from"
        )
    return weights


def _whole(net: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a net as a checkpoint tells them, with those that it is too old to know."""
    return UNetConfig.from_dict(net).as_dict()


def _differing(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What differs between two tables, as (key: found, expected wanted)."""
    keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    return "(" + "; ".join(f"{key}: {found.get(key)}, expected {wanted.get(key)}" for key in keys[:3]) + ")"


def _refuse_another_run(
    path: Path, header: dict[str, Any], config: TrainConfig, device: torch.device
) -> None:
    """Raise InputError if the checkpoint `path` is of a run that `config` and `header` do not go on with."""
    if not path.exists():
        return
    state = load_checkpoint(path, device)
    begun = {"seed": state["train"]["seed"], "net": _whole(state["net"]), **state.get("sources", {})}
    wanted = {"seed": config.seed, "net": header["net"], **header["sources"]}
    differing = [key for key in begun if begun[key] != wanted[key]]
    if differing:
        raise InputError(
            f"{path.parent}: holds a run that was begun with other {', '.join(differing)}; undo the change, "
            f"or take another folder (with --start-from {path} to build on it)"
        )


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
    _forget_after(out / "log.csv", step)
    if step >= config.steps or minutes >= config.minutes:
        return average
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
    sources: Sources,
    out: Path,
    net: UNetConfig,
    config: TrainConfig,
    device: torch.device,
    start_from: Path | None = None,
    on_save: Callable[[BoneNet, int], None] | None = None,
) -> BoneNet:
    """Train until the budget of steps or minutes is used; returns the averaged net.

    Leaves `checkpoint.pt` and `log.csv` in `out` and goes on from them when they are there. `start_from`
    is a checkpoint of another run, or a weights file, whose averaged weights are the start of this one.
    `on_save` is called with the averaged net and the step whenever a checkpoint is written.

    Raises InputError if `out` holds a run with another net, other sources or another seed, and if the
    weights of `start_from` are those of another net.
    """
    header = {"net": net.as_dict(), "synth": asdict(sources.synth), "sources": sources.said()}
    _refuse_another_run(out / "checkpoint.pt", header, config, device)
    weights = None if start_from is None else lambda: _weights_of(start_from, net, device)
    dtype = mixed_precision(device)
    return run(
        lambda: build_unet(net),
        lambda step: samples(sources, config, step, device),
        lambda model, sample: loss_of(model, sample, config, dtype),
        out,
        config,
        device,
        Kind(LOG_COLUMNS, header, weights, on_save),
    )


def _forget_after(path: Path, step: int) -> None:
    """Leave out the rows of the log that a killed run wrote after its last checkpoint: they come again."""
    if not path.exists():
        return
    head, *rows = path.read_text("utf-8").splitlines()
    kept = [row for row in rows if row.split(",")[0].isdigit() and int(row.split(",")[0]) <= step]
    if len(kept) < len(rows):
        path.write_text("\n".join([head, *kept, ""]), encoding="utf-8")


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
