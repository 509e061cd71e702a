"""The loop of every training, read from top to bottom: budget, rate, averaged weights, checkpoint and log.

A run is its config and its seed, and a checkpoint holds all that the rest of the run depends on (weights,
optimiser, averaged weights, step).
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from petbone.errors import InputError

Net = TypeVar("Net", bound=nn.Module)
Batch = TypeVar("Batch")


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


def rate_factor(config: TrainConfig, step: int, minutes: float) -> float:
    """Warm-up, plateau, cosine to a fiftieth; progress is the further of steps and minutes."""
    warm = min(1.0, (step + 1) / config.warm_up_steps)
    progress = min(1.0, max(step / config.steps, minutes / config.minutes))
    tail = max(0.0, progress - (1 - config.final_part)) / config.final_part
    return warm * (0.02 + 0.98 * float(0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * tail))))


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
