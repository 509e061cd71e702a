"""The net that draws the borders of bones: a small U-Net at 2 mm that is shown the coarse net's answer.

It needs detail more than context (where bone may be is told to it), so it is narrow; one level at 16 mm costs
next to nothing and lets it see a whole kidney. Beside bone or not it says what tells touching bones apart:
the kind of bone, and for a vertebra the way to its middle. It is told the coarse names too, since which of
two touching bones is which is known from further away; where the one ends it sees better.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from petbone.net.kinds import KINDS, VERTEBRA_KIND, kind_of_label
from petbone.net.unet import Block, convolved, normalised, pointwise

LOGIT_UNIT = 3.0


@dataclass(frozen=True)
class FineConfig:
    """Every number of the network. `widths`: channels at 1, 2, 4, 8 times `input_mm`."""

    widths: tuple[int, ...] = (16, 32, 64, 128)
    groups: int = 8
    kinds: int = len(KINDS)
    input_mm: float = 2.0

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


class FineAnswer(NamedTuple):
    """`bone` logits (N, 1, X, Y, Z); `kind` logits (N, kinds, ...) of `KINDS`, given bone; `way` (N, 3, ...)
    to the middle of the voxel's own vertebra, in `CENTRE_UNIT_MM`."""

    bone: Tensor
    kind: Tensor
    way: Tensor


def told_channels(label: Tensor, way: Tensor, kinds: int) -> Tensor:
    """What the net is told of the coarse names, (kinds + 3, X, Y, Z) at twice `input_mm`.

    `label` (X, Y, Z) uint8 holds coarse names, 0 where there is none; `way` (3, X, Y, Z) leads to the middle
    of the voxel's own vertebra, in `CENTRE_UNIT_MM`; NaN and what is not of a vertebra count as nothing.
    """
    kind = torch.from_numpy(kind_of_label()).to(label.device)[label.long()]
    which = kind[None] == torch.arange(1, kinds + 1, device=label.device)[:, None, None, None]
    way = way.nan_to_num(0.0).clamp(-3.0, 3.0) * (kind == VERTEBRA_KIND)
    return torch.cat([which.to(way.dtype), way])


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
        self.tell = nn.Linear(config.kinds + 3, widths[1], bias=False)
        pairs = list(zip(widths[1:], widths, strict=False))
        self.narrow = nn.ModuleList(nn.Linear(deep, skip) for deep, skip in pairs)
        # Skips are added, not joined, and one convolution follows: half the arithmetic at full resolution.
        self.up = nn.ModuleList(nn.Conv3d(skip, skip, 3, 1, 1, bias=False) for _, skip in pairs)
        self.up_norm = nn.ModuleList(nn.GroupNorm(min(groups, skip), skip) for _, skip in pairs)
        self.bone = nn.Linear(widths[0], 1)
        # Which bone needs more context than where its border runs: both levels have a say.
        self.which = nn.Linear(widths[0], config.kinds + 3)
        self.which_wide = nn.Linear(widths[1], config.kinds + 3)
        nn.init.constant_(self.bone.bias, -2.0)  # most voxels are no bone

    def windows(self, hu: Tensor, coarse: Tensor) -> Tensor:
        """The two windows of the coarse net, and its logit (N, 1, X, Y, Z)."""
        wide = (hu / 1000).clamp(-1.0, 1.6)
        narrow = ((hu - 80) / 160).clamp(-1.5, 1.5)
        shown = torch.cat([wide, narrow, (coarse / LOGIT_UNIT).clamp(-2.0, 2.0)], 1)
        return shown.contiguous(memory_format=torch.channels_last_3d)

    def features(self, hu: Tensor, coarse: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """What the answers are read from, with voxels of `input_mm` and of twice that; input as `forward`."""
        x = normalised(convolved(self.stem, self.windows(hu, coarse)), self.stem_norm)
        skips = [x]
        for level, down in enumerate(self.down):
            x = down(x)
            if level == 0:
                x = x + pointwise(self.tell, told)
            skips.append(x)
        levels = list(zip(self.narrow, self.up, self.up_norm, skips[:-1], strict=True))
        wide = x
        for narrow, up, norm, skip in reversed(levels):
            wide = x
            x = nnf.interpolate(pointwise(cast(nn.Linear, narrow), x), scale_factor=2, mode="nearest").add_(
                skip
            )
            x = normalised(convolved(cast(nn.Conv3d, up), x), cast(nn.GroupNorm, norm))
        return x, wide

    def bone_logit(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """Logit of bone, (N, 1, X, Y, Z)."""
        return pointwise(self.bone, features[0])

    def which_at(self, features: tuple[Tensor, Tensor], image: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the kinds (n, kinds) and ways (n, 3) at voxels `index` (n, 3) of an image alone: most
        voxels are no bone, and need neither."""
        x, wide = (part[image].movedim(0, -1) for part in features)
        near, far = (part[*at.T] for part, at in ((x, index), (wide, index // 2)))
        said: Tensor = self.which(near) + self.which_wide(far)
        return said[:, :-3], said[:, -3:]

    def forward(self, hu: Tensor, coarse: Tensor, told: Tensor) -> FineAnswer:
        """Answers for HU and coarse bone logit, both (N, 1, X, Y, Z) with voxels of `input_mm`, and the
        coarse names, (N, kinds + 3, X/2, Y/2, Z/2) of `told_channels`."""
        features = self.features(hu, coarse, told)
        x, wide = features
        which = nnf.interpolate(pointwise(self.which_wide, wide), scale_factor=2, mode="nearest")
        which = which + pointwise(self.which, x)
        return FineAnswer(self.bone_logit(features), which[:, :-3], which[:, -3:])


def build_fine(config: FineConfig) -> FineNet:
    """A net with fresh weights from torch's global generator; seed it first."""
    return FineNet(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
