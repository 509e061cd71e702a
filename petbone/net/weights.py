"""Weights on disk: safetensors (no pickle), float16, with the network's numbers in the header."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from petbone.errors import InputError
from petbone.net.unet import BoneNet, UNetConfig, build_unet

FORMAT = "petbone-bones-1"


def packaged_weights() -> Path:
    """Path of the weights that ship with the package. Raises InputError if they do not."""
    path = resources.files("petbone") / "weights" / "bones.safetensors"
    if not path.is_file():
        raise InputError(
            "this installation has no bones.safetensors; give weights of your own or segment with "
            "another tool and pass --bones"
        )
    return Path(str(path))


def save_weights(model: BoneNet, path: Path) -> None:
    """Write `model` as float16 safetensors: half the size, and the difference in the answers is noise."""
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    header = {"format": FORMAT, "config": json.dumps(model.config.as_dict())}
    save_file(tensors, path, metadata=header)


def load_weights(path: Path, device: torch.device) -> tuple[BoneNet, str]:
    """The net of a weights file in float32, ready to answer, and the file's SHA-256.

    Raises InputError if the file is missing, is not safetensors, or is not a net of ours.
    """
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
    try:
        model = build_unet(UNetConfig.from_dict(json.loads(header["config"])))
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path.name} does not fit its own configuration ({reason})") from error
    return model.to(device).eval(), hashlib.sha256(path.read_bytes()).hexdigest()
