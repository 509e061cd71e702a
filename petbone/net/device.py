"""Which device and which arithmetic."""

from __future__ import annotations

import torch

from petbone.errors import InputError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda`. Raises InputError if the device is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda was asked for but torch finds no usable GPU; use --device cpu")
    return torch.device(name)


def mixed_precision(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies it, None for plain float32.

    A CPU without AMX or AVX512-BF16 emulates bfloat16 convolutions hundreds of times more slowly.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    cpu = torch.cpu
    amx = getattr(cpu, "_is_amx_tile_supported", lambda: False)()
    avx512 = getattr(cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if amx or avx512 else None
