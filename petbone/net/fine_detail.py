"""What varies from one fine patch to the next beyond its scene: bone, noise, the coarse net's mistakes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from petbone.anatomy import BONES
from petbone.net.scene import SynthConfig

CORTEX_MM = {"femur": 4.0, "humerus": 3.0, "skull": 2.0, "mandible": 2.2, "clavicle": 1.6, "hip": 1.4}
CORTEX_DEFAULT_MM = 1.0


def _scene_config() -> SynthConfig:
    return SynthConfig(
        spacing_mm=2.0,
        sizes_x=(64,),
        sizes_y=(64,),
        sizes_z=(64,),
        crop_share=0.0,
        rotation_deg=25.0,
        warp_mm=2.0,
        warp_spacing_mm=40.0,
    )


@dataclass(frozen=True)
class FineSynthConfig:
    """How patches vary, beyond `scene`. Shares are chances per patch, lengths mm."""

    scene: SynthConfig = field(default_factory=_scene_config)
    bone_share: float = 0.60  # centred near a bone
    skin_share: float = 0.08  # behind the back: skin, air, table
    boneless_share: float = 0.15
    chest_share: float = 0.15  # of all, at ends of ribs, edges of the sternum and ribs 12 instead
    jitter_mm: float = 18.0
    cortex_factor: tuple[float, float] = (0.3, 1.3)
    slice_mm: tuple[float, float] = (0.7, 5.0)
    noise_hu: tuple[float, float] = (3.0, 60.0)
    dark_share: float = 0.35  # marrow darker in the middle of the bones
    lime_share: float = 0.6  # calcified cartilage where there is cartilage
    zeros_share: float = 0.10  # no coarse answer
    missing_share: float = 0.25
    false_share: float = 0.45
    shifted_share: float = 0.30
    slipped_share: float = 0.50


@dataclass(frozen=True, eq=False)
class Detail:
    """What a fine patch draws beyond the scene. `gain` is the coarse logit inside and outside of bone."""

    boneless: bool
    cortex_mm: Tensor  # (256,) by label
    dark_hu: float | None
    shaft_hu: float
    trabecular: float
    lime: tuple[float, float] | None  # share of the rim, HU
    vessel_lime: bool
    slice_mm: float
    noise_hu: float
    grain: float  # sd of the noise's blur in voxels
    gain: tuple[float, float]
    coarse_blur_mm: float
    coarse_noise: float
    coarse_share: float  # of a 4 mm voxel that is bone to the coarse net
    shift: tuple[int, int, int]
    missing: float
    false: float
    zeros: bool
    told_shift_mm: float  # sd by which borders between coarse names are off
    told_slip_mm: float  # the same of what is called by the name of a neighbour
    told_middle_mm: float
    dark_mm: float = 6.0  # depth at which marrow is as dark as it gets
    fatty_clavicle: bool = False


def draw_detail(rng: np.random.Generator, config: FineSynthConfig, device: torch.device) -> Detail:
    """Draw every number of a patch that the scene has not.

    The coarse answer's numbers give about the logits that the real one has on LIDC-0001: in bone 2.7 in the
    middle, below -1.2 in 15 %; within 6 mm outside -5.1 in the middle; at the limit further out.
    """
    cortex = np.full(256, CORTEX_DEFAULT_MM)
    for bone in BONES:
        cortex[bone.id] = CORTEX_MM.get(bone.name.split("_")[0], CORTEX_DEFAULT_MM)
    cortex *= rng.uniform(*config.cortex_factor)
    shift = (0, 0, 0)
    if rng.random() < config.shifted_share:
        x, y, z = (int(n) for n in rng.integers(-2, 3, 3))
        shift = (x, y, z)
    lime = None
    if rng.random() < config.lime_share:
        lime = (float(rng.uniform(0.1, 0.9)), float(rng.uniform(150, 600)))
    low, high = np.log(config.noise_hu)
    detail = Detail(
        boneless=bool(rng.random() < config.boneless_share),
        cortex_mm=torch.from_numpy(cortex).float().to(device),
        dark_hu=float(rng.uniform(0, 100)) if rng.random() < config.dark_share else None,
        shaft_hu=float(rng.uniform(-60, 150)),
        trabecular=float(rng.uniform(0, 50)),
        lime=lime,
        vessel_lime=bool(rng.random() < 0.2),
        slice_mm=float(np.exp(rng.uniform(*np.log(config.slice_mm)))),
        noise_hu=float(np.exp(rng.uniform(low, high))),
        grain=float(rng.uniform(0, 0.6)),
        gain=(float(rng.uniform(3, 9)), float(rng.uniform(6, 12))),
        coarse_blur_mm=float(rng.uniform(4, 7)),
        coarse_noise=float(rng.uniform(0.3, 1.0)),
        coarse_share=float(rng.uniform(0.15, 0.4)),
        shift=shift,
        missing=float(rng.uniform(3, 9)) if rng.random() < config.missing_share else 0.0,
        false=float(rng.uniform(4, 11)) if rng.random() < config.false_share else 0.0,
        zeros=bool(rng.random() < config.zeros_share),
        told_shift_mm=float(rng.uniform(0.5, 5.0)),
        told_slip_mm=float(rng.uniform(5, 20)) if rng.random() < config.slipped_share else 0.0,
        told_middle_mm=float(rng.uniform(0.5, 3.0)),
    )
    # Of a stream of its own, drawn last: the rest of a patch is what it would be without.
    own = np.random.default_rng(int(rng.integers(2**31)))
    dark_mm, darker, fatty = own.uniform(1.5, 6), own.uniform(-50, 60), bool(own.random() < 0.5)
    very, limier = own.random() < 0.4, own.random() < 0.4
    dark_hu = darker if very and detail.dark_hu is not None else detail.dark_hu
    lime = detail.lime
    if limier and lime is not None:  # a shell as bright as cortex
        lime = (float(own.uniform(0.6, 1.0)), float(own.uniform(300, 1000)))
    return replace(detail, dark_mm=float(dark_mm), dark_hu=dark_hu, fatty_clavicle=fatty, lime=lime)
