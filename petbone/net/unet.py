"""The net that finds and names bones: a stem at 4 mm, a U-Net at 8 mm, four heads.

After Ronneberger et al. 2015 (U-Net) with group normalisation (Wu and He 2018). Identity needs context more
than detail, so nearly all of the arithmetic is done at half the input's resolution.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

CENTRE_UNIT_MM = 20.0


@dataclass(frozen=True)
class UNetConfig:
    """Every number of the network. `widths`: channels at 8, 16, 32, 64 mm; `classes`: without background."""

    classes: int = 62
    stem: int = 16
    widths: tuple[int, ...] = (32, 64, 128, 192)
    fine: int = 8
    groups: int = 8
    input_mm: float = 4.0

    @property
    def multiple(self) -> int:
        """Every input axis is a multiple of this many voxels."""
        return int(2 ** len(self.widths))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {**asdict(self), "widths": list(self.widths)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> UNetConfig:
        """Inverse of `as_dict`. Raises TypeError for an unknown key."""
        return UNetConfig(**{**values, "widths": tuple(values["widths"])})


class Answer(NamedTuple):
    """What the net says of (N, 1, X, Y, Z): `bone` logits (N, 1, X, Y, Z); `which` logits
    (N, classes, X/2, Y/2, Z/2); `place` (N, 3, X/2, Y/2, Z/2) in 0.1 m of the standard skeleton; `centre`
    (N, 3, X/2, Y/2, Z/2) the way to the middle of the voxel's own vertebra, in `CENTRE_UNIT_MM`."""

    bone: Tensor
    which: Tensor
    place: Tensor
    centre: Tensor


def normalised(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Group normalisation and rectifier (SiLU) of a convolution's answer (N, C, X, Y, Z).

    On a CPU without gradients it is done in place, and the moments are added up slab by slab: torch's own
    kernel for channels_last adds up millions of values one by one and is off by 0.002 of a standard
    deviation, which is enough to move a name.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
        return nnf.silu(norm(x))
    images, channels = x.shape[:2]
    slabs = x.movedim(1, -1).reshape(images * x.shape[2], -1, channels)
    ones = slabs.new_ones(1, 1, slabs.shape[1]).expand(len(slabs), -1, -1)
    total = torch.bmm(ones, slabs).double().view(images, -1, norm.num_groups, channels // norm.num_groups)
    # A matrix product is the fastest sum of squares there is: they are its diagonal.
    squares = torch.bmm(slabs.mT, slabs).diagonal(dim1=1, dim2=2).double().view_as(total)
    count = x[0].numel() / norm.num_groups
    mean = total.sum((1, 3)) / count
    variance = squares.sum((1, 3)) / count - mean**2
    spread = (variance.clamp(min=0) + norm.eps).sqrt()
    each = (mean, spread)
    mean, spread = (v.repeat_interleave(channels // norm.num_groups, 1).float() for v in each)
    scale = norm.weight / spread
    shift = norm.bias - mean * scale
    torch.addcmul(shift[..., None, None, None], x, scale[..., None, None, None], out=x)
    return nnf.silu(x, inplace=True)


def pointwise(layer: nn.Linear | nn.Conv3d, x: Tensor) -> Tensor:
    """A layer over channels alone, (N, C, X, Y, Z): with channels last a product of matrices and no copy,
    where a 1 x 1 x 1 convolution makes two."""
    mixed = nnf.linear(x.movedim(1, -1), layer.weight.flatten(1), layer.bias)
    return mixed.movedim(-1, 1)


def convolved(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """The layer's answer. For a single small image torch takes a convolution that needs twice the time; on a
    CPU oneDNN is asked for directly where no gradients are wanted."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or not torch._C._has_mkldnn:
        return cast(Tensor, layer(x))
    return torch.mkldnn_convolution(
        x,
        layer.weight,
        layer.bias,
        cast(tuple[int, ...], layer.padding),
        layer.stride,
        layer.dilation,
        layer.groups,
    )


class Block(nn.Module):
    """Convolution, group normalisation, rectifier; twice."""

    def __init__(self, channels_in: int, channels: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels_in, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(groups, channels)
        self.second = nn.Conv3d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, X, Y, Z) to (N, channels, X / stride, ...)."""
        x = normalised(convolved(self.first, x), self.first_norm)
        return normalised(convolved(self.second, x), self.second_norm)


class BoneNet(nn.Module):
    """See the module's first line. Input: HU at 4 mm, (N, 1, X, Y, Z) along RAS axes."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = nn.Conv3d(2, config.stem, 3, 1, 1)
        self.stem_norm = nn.GroupNorm(min(config.groups, config.stem), config.stem)
        self.down = nn.ModuleList(
            Block(before, width, config.groups, stride=2)
            for before, width in zip((config.stem, *widths), widths, strict=False)
        )
        pairs = list(zip(widths[1:], widths, strict=False))
        self.narrow = nn.ModuleList(nn.Conv3d(deep, skip, 1) for deep, skip in pairs)
        self.up = nn.ModuleList(Block(2 * skip, skip, config.groups) for _, skip in pairs)
        self.which = nn.Conv3d(widths[0], config.classes, 1)
        self.place = nn.Conv3d(widths[0], 3, 1)
        self.centre = nn.Conv3d(widths[0], 3, 1)
        self.fine = nn.ConvTranspose3d(widths[0], config.fine, 2, 2)
        self.fine_mix = nn.Conv3d(config.fine + config.stem, config.fine, 3, 1, 1)
        self.bone = nn.Conv3d(config.fine, 1, 1)

    def windows(self, hu: Tensor) -> Tensor:
        """The two windows in which the net reads HU: everything, and soft tissue to spongiosa."""
        return torch.cat([(hu / 1000).clamp(-1.0, 1.6), ((hu - 80) / 160).clamp(-1.5, 1.5)], 1)

    def forward(self, hu: Tensor) -> Answer:
        """Answers on the input's grid (bone) and on every second voxel of it (the others)."""
        stem = normalised(convolved(self.stem, self.windows(hu)), self.stem_norm)
        x, skips = stem, []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for narrow, up, skip in zip(
            reversed(self.narrow), reversed(self.up), reversed(skips[:-1]), strict=True
        ):
            # Fewer channels before there are eight times as many voxels: cheaper, as good.
            x = nnf.interpolate(pointwise(cast(nn.Conv3d, narrow), x), scale_factor=2, mode="nearest")
            x = up(torch.cat([x, skip], 1))
        fine = torch.cat([self.fine(x), stem], 1)
        bone = pointwise(
            self.bone, nnf.silu(convolved(self.fine_mix, fine), inplace=not torch.is_grad_enabled())
        )
        which, place, centre = (pointwise(layer, x) for layer in (self.which, self.place, self.centre))
        return Answer(bone=bone, which=which, place=place, centre=centre)


def build_unet(config: UNetConfig) -> BoneNet:
    """A net with fresh weights from torch's global generator; seed it first."""
    return BoneNet(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
