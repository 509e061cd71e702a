"""The net that draws the border of bone: a small U-Net at 1.5 mm that is shown the coarse net's answer.

It needs detail more than context (where bone may be is told to it), so it is narrow; one level at 12 mm costs
next to nothing and lets it see a whole kidney.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from petbone.net.unet import Block

LOGIT_UNIT = 3.0


@dataclass(frozen=True)
class FineConfig:
    """Every number of the network. `widths`: channels at 1, 2, 4, 8 times `input_mm`."""

    widths: tuple[int, ...] = (16, 32, 64, 96)
    groups: int = 8
    input_mm: float = 1.5

    @property
    def multiple(self) -> int:
        """Every input axis is a multiple of this many voxels."""
        return int(2 ** (len(self.widths) - 1))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {**asdict(self), "widths": list(self.widths)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> FineConfig:
        """Inverse of `as_dict`. Raises TypeError for an unknown key."""
        return FineConfig(**{**values, "widths": tuple(values["widths"])})


def _pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """A linear layer over channels: with channels last no copy, where a 1 x 1 x 1 convolution makes two."""
    mixed: Tensor = layer(x.movedim(1, -1))
    return mixed.movedim(-1, 1)


class FineNet(nn.Module):
    """See the module's first line."""

    def __init__(self, config: FineConfig) -> None:
        super().__init__()
        self.config = config
        widths, groups = config.widths, config.groups
        self.stem = nn.Conv3d(3, widths[0], 3, 1, 1)
        self.stem_norm = nn.GroupNorm(min(groups, widths[0]), widths[0])
        self.down = nn.ModuleList(
            Block(before, width, groups, stride=2) for before, width in zip(widths, widths[1:], strict=False)
        )
        pairs = list(zip(widths[1:], widths, strict=False))
        self.narrow = nn.ModuleList(nn.Linear(deep, skip) for deep, skip in pairs)
        # Skips are added, not joined, and one convolution follows: half the arithmetic at full resolution.
        self.up = nn.ModuleList(nn.Conv3d(skip, skip, 3, 1, 1, bias=False) for _, skip in pairs)
        self.up_norm = nn.ModuleList(nn.GroupNorm(min(groups, skip), skip) for _, skip in pairs)
        self.bone = nn.Linear(widths[0], 1)
        nn.init.constant_(self.bone.bias, -2.0)  # most voxels are no bone

    def windows(self, hu: Tensor, coarse: Tensor) -> Tensor:
        """The two windows of the coarse net, and its logit (N, 1, X, Y, Z)."""
        wide = (hu / 1000).clamp(-1.0, 1.6)
        narrow = ((hu - 80) / 160).clamp(-1.5, 1.5)
        shown = torch.cat([wide, narrow, (coarse / LOGIT_UNIT).clamp(-2.0, 2.0)], 1)
        return shown.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, hu: Tensor, coarse: Tensor) -> Tensor:
        """HU and coarse bone logit to bone logit, all (N, 1, X, Y, Z) with voxels of `input_mm`."""
        x = nnf.silu(self.stem_norm(self.stem(self.windows(hu, coarse))))
        skips = [x]
        for down in self.down:
            x = down(x)
            skips.append(x)
        levels = list(zip(self.narrow, self.up, self.up_norm, skips[:-1], strict=True))
        for narrow, up, norm, skip in reversed(levels):
            x = nnf.interpolate(_pointwise(narrow, x), scale_factor=2, mode="nearest").add_(skip)
            x = nnf.silu(norm(up(x)))
        return _pointwise(self.bone, x)


def build_fine(config: FineConfig) -> FineNet:
    """A net with fresh weights from torch's global generator; seed it first."""
    return FineNet(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
