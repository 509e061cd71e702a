"""Weights on disk: safetensors (no pickle), float16, with the network's numbers in the header."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from petbone.errors import InputError
from petbone.net.fine import FineConfig, FineNet, build_fine
from petbone.net.unet import BoneNet, UNetConfig, build_unet

FORMAT = "petbone-bones-1"
FINE_PREFIX = "fine_net."


PACKAGED_SHA256 = "59ef7256598d0bc728cbaeae340c7e2b7a6d83e82e49007080a01647da4fe54b"
"""Of the file that ships; scripts/export_weights.py prints that of a new one."""


def packaged_weights() -> Path:
    """Path of the weights that ship with the package. Raises InputError if they do not."""
    path = resources.files("petbone") / "weights" / "bones.safetensors"
    if not path.is_file():
        raise InputError(
            "this installation has no bones.safetensors; give weights of your own or segment with "
            "another tool and pass --bones"
        )
    return Path(str(path))


def save_weights(model: BoneNet, path: Path, fine: FineNet | None = None) -> None:
    """Write `model` as float16 safetensors: half the size, and the difference in the answers is noise.

    A fine net goes into the same file, its names behind `FINE_PREFIX` and its numbers in `fine_config`.
    """
    state = dict(model.state_dict())
    header = {"format": FORMAT, "config": json.dumps(model.config.as_dict())}
    if fine is not None:
        state |= {FINE_PREFIX + name: value for name, value in fine.state_dict().items()}
        header["fine_config"] = json.dumps(fine.config.as_dict())
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in state.items()}
    save_file(tensors, path, metadata=header)


def averaged(state: dict[str, Any]) -> BoneNet:
    """The averaged coarse net of a checkpoint (`train.load_checkpoint`)."""
    model = build_unet(UNetConfig.from_dict(state["net"]))
    model.load_state_dict(state["average"])
    return model


def averaged_fine(state: dict[str, Any]) -> FineNet:
    """The averaged net of a checkpoint of the fine net."""
    model = build_fine(FineConfig.from_dict(state["net"]))
    model.load_state_dict(state["average"])
    return model


def load_weights(path: Path, device: torch.device) -> tuple[BoneNet, str]:
    """The coarse net of a weights file in float32, ready to answer, and the file's SHA-256.

    Raises InputError if the file is missing, is not safetensors, or is not a net of ours.
    """
    header, tensors = _read(path)
    coarse = {name: value for name, value in tensors.items() if not name.startswith(FINE_PREFIX)}
    try:
        model = build_unet(UNetConfig.from_dict(json.loads(header["config"])))
        model.load_state_dict(coarse)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path.name} does not fit its own configuration ({reason})") from error
    return model.to(device).eval(), hashlib.sha256(path.read_bytes()).hexdigest()


def load_fine(path: Path, device: torch.device) -> FineNet | None:
    """The fine net of a weights file in float32, ready to answer; None if it holds none.

    Raises InputError if the file is missing, is not safetensors, or is not a net of ours.
    """
    header, tensors = _read(path)
    if "fine_config" not in header:
        return None
    own = {n.removeprefix(FINE_PREFIX): v for n, v in tensors.items() if n.startswith(FINE_PREFIX)}
    try:
        model = build_fine(FineConfig.from_dict(json.loads(header["fine_config"])))
        model.load_state_dict(own)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path.name}: its fine net does not fit its configuration ({reason})") from error
    return model.to(device).eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Header and tensors (float32) of a weights file of ours."""
    if not path.is_file():
        raise InputError(f"{path.name}: no such weights file; leave it out to use the packaged weights")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path.name} is not a safetensors file ({error}); expected petbone weights"
        ) from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path.name} has format {header.get('format')!r}, expected {FORMAT!r}")
    return header, tensors
