"""A made-up person of a few balls, and a net small enough to train in seconds."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from petbone.net.anatomies import Anatomy, Tissue
from petbone.net.loop import TrainConfig
from petbone.net.scene import SynthConfig
from petbone.net.unet import UNetConfig

TINY_NET = UNetConfig(stem=4, widths=(8, 16), fine=4, groups=4)
TINY_SYNTH = SynthConfig(
    sizes_x=(32,),
    sizes_y=(32,),
    sizes_z=(32,),
    z_low_mm=100.0,
    z_high_mm=220.0,
    z_usual_mm=(150.0,),
    crop_share=0.0,
    rotation_deg=3.0,
    log_scale=(0.0, 0.0),
    scale_sd=0.02,
    height_sd=0.0,
    level_sd=0.0,
    stretch_sd=0.01,
    bend_mm=2.0,
    slope_sd=0.0,
    warp_mm=1.0,
)
TINY_TRAIN = TrainConfig(steps=6, minutes=1e9, warm_up_steps=2, workers=0, log_every=1, save_every=3)
# Label and centre in mm (x, y, z): two vertebrae in a column, a hip on either side.
BALLS = {16: (0, -110, 190), 17: (0, -110, 150), 47: (-40, -100, 130), 48: (40, -100, 130)}


def tiny_anatomy() -> Anatomy:
    """Four balls of bone in a cylinder of muscle, 4 mm voxels."""
    low, spacing, shape = (-90.0, -190.0, 60.0), 4.0, (45, 45, 50)
    axes = [low[n] + (np.arange(shape[n]) + 0.5) * spacing for n in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    solid = np.zeros(shape, np.float32)
    labels = np.zeros(shape, np.uint8)
    for label, (a, b, c) in BALLS.items():
        gap = np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)
        solid[gap < 16] = 1
        labels[gap < 20] = label
    body = (x / 70) ** 2 + ((y + 100) / 60) ** 2 < 1
    outside = ndimage.distance_transform_edt(~body, sampling=spacing).clip(0, 255)
    core = ndimage.binary_erosion(solid > 0)
    return Anatomy(
        name="tiny",
        low_mm=low,
        spacing_mm=spacing,
        labels=labels,
        cortex=((solid - core) * 255).astype(np.uint8),
        spongiosa=(core * 255).astype(np.uint8),
        tissue=np.where(body, Tissue.MUSCLE, Tissue.FAT).astype(np.uint8),
        outside_mm=outside.astype(np.uint8),
    )
