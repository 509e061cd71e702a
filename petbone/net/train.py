"""Train the bone net on synthetic CT, on real cases, or on both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from petbone.errors import InputError
from petbone.net.device import mixed_precision
from petbone.net.loop import Kind, TrainConfig, load_checkpoint, run
from petbone.net.losses import loss_of
from petbone.net.sources import Sources, samples
from petbone.net.unet import BoneNet, UNetConfig, build_unet
from petbone.net.weights import load_weights

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
