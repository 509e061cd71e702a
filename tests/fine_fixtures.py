"""The made-up person of balls with a depth map, and a fine net small enough to train in seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from net_fixtures import BALLS, TINY_SYNTH, tiny_anatomy
from petbone.net.anatomies import Tissue
from petbone.net.fine import FineConfig
from petbone.net.fine_anatomy import FineAnatomy, pack_depth
from petbone.net.fine_detail import FineSynthConfig

TINY_FINE = FineConfig(widths=(8, 16, 16), groups=4, input_mm=1.5)
TINY_SCENE = replace(TINY_SYNTH, spacing_mm=1.5, warp_spacing_mm=30.0)
TINY_FINE_SYNTH = FineSynthConfig(scene=TINY_SCENE)
CARTILAGE_MM = (0.0, -75.0, 150.0)


def tiny_fine_anatomy() -> FineAnatomy:
    """Four balls of bone and one of cartilage, depth at 2 mm."""
    base = tiny_anatomy()
    shape = tuple(2 * n for n in base.labels.shape)
    axes = [base.low_mm[n] + (np.arange(shape[n]) + 0.5) * 2.0 for n in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    gaps = [np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) for a, b, c in BALLS.values()]
    coarse = [base.low_mm[n] + (np.arange(base.labels.shape[n]) + 0.5) * 4.0 for n in range(3)]
    p = np.meshgrid(*coarse, indexing="ij")
    ball = sum((a - b) ** 2 for a, b in zip(p, CARTILAGE_MM, strict=True)) < 12**2
    tissue = np.where(ball, Tissue.CARTILAGE, base.tissue).astype(np.uint8)
    return FineAnatomy.of(replace(base, tissue=tissue), pack_depth(16.0 - np.min(gaps, 0)), base.low_mm, 2.0)
