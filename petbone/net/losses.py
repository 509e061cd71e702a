"""What the bone net learns: to tell bone, name it, place it, and point to the middle of its vertebra."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor

from petbone.anatomy import BONES
from petbone.net.cases import CaseSample
from petbone.net.loop import TrainConfig
from petbone.net.synth import Sample
from petbone.net.unet import CENTRE_UNIT_MM, Answer, BoneNet

VERTEBRAE = tuple(bone.id for bone in BONES if bone.group.endswith("_spine"))


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
