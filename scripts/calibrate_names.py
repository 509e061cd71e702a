"""How far the confidence of a name can be believed: on synthetic patients that no training run has seen.

    python scripts/calibrate_names.py --weights petbone/weights/bones.safetensors --patients 60

For every bone that is found: the confidence of its name, and whether most of its voxels belong to the bone of
that name. Prints the share that is right by confidence and by kind of bone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from petbone.anatomy import BY_ID
from petbone.net.anatomies import Anatomy
from petbone.net.coarse import ask
from petbone.net.names import NameRule, name_voxels
from petbone.net.scene import SynthConfig
from petbone.net.synth import Synthesizer
from petbone.net.unet import BoneNet
from petbone.net.weights import load_weights, packaged_weights
from petbone.volume import Grid

FIRST_SEED = 9_000_000_000  # far above the seeds of training samples
BINS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01)
LEAST_VOXELS = 8


def judged(
    model: BoneNet, synthesizer: Synthesizer, patients: int, rule: NameRule
) -> list[tuple[str, float, bool, bool]]:
    """(kind of bone, confidence, whether the name is right, whether a candidate is) for every bone found."""
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + patients):
        sample = synthesizer.sample(seed)
        x, y, z = sample.hu.shape
        step = synthesizer.config.spacing_mm
        grid = Grid((x, y, z), np.diag([step, step, step, 1.0]))
        coarse = ask(model, sample.hu.numpy(), grid, torch.device("cpu"))
        low = np.round((coarse.grid.mm_from_ijk[:3, 3] - grid.mm_from_ijk[:3, 3]) / step).astype(int)
        box = tuple(slice(a, a + n) for a, n in zip(low, coarse.bone.shape, strict=True))
        truth = sample.bone.numpy()[box]
        named = name_voxels(coarse, rule)
        for label, confidence in named.confidence.items():
            under = np.bincount(truth[named.labels == label], minlength=256)
            under[0] = 0
            if under.sum() < LEAST_VOXELS:
                continue
            most = int(under.argmax())
            rows.append((kind(label), confidence, most == label, most in named.candidates[label]))
    return rows


def kind(label: int) -> str:
    """Vertebra, rib or other."""
    group = BY_ID[label].group
    return "vertebra" if group.endswith("_spine") else "rib" if group == "ribs" else "other"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/petbone/anatomy"))
    parser.add_argument("--weights", type=Path, help="default: the packaged weights")
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, _ = load_weights(options.weights or packaged_weights(), torch.device("cpu"))
    anatomies = [Anatomy.load(path) for path in sorted(options.cache.expanduser().glob("*.npz"))]
    rows = judged(model, Synthesizer(anatomies, SynthConfig()), options.patients, NameRule())
    print(f"{'kind':10}{'confidence':>14}{'n':>7}{'mean':>8}{'right':>8}{'may be':>8}")
    for family in ("vertebra", "rib", "other"):
        for low, high in zip(BINS, BINS[1:], strict=False):
            part = [row for row in rows if row[0] == family and low <= row[1] < high]
            if part:
                mean, right, may_be = (float(np.mean([row[k] for row in part])) for k in (1, 2, 3))
                name = f"{low:.2f}-{min(high, 1):.2f}"
                print(f"{family:10}{name:>14}{len(part):>7}{mean:>8.2f}{right:>8.2f}{may_be:>8.2f}")


if __name__ == "__main__":
    main()
