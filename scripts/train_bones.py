"""Train the bone net: see docs/training.md.

python scripts/train_bones.py --cache ~/.cache/petbone/anatomy --out runs/first --minutes 60
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from petbone.net.anatomies import Anatomy
from petbone.net.device import choose_device
from petbone.net.scene import SynthConfig
from petbone.net.train import TrainConfig, train
from petbone.net.unet import UNetConfig


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/petbone/anatomy"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumes if it is one")
    parser.add_argument("--minutes", type=float, default=TrainConfig.minutes)
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--rate", type=float, default=TrainConfig.rate)
    parser.add_argument("--final-part", type=float, default=TrainConfig.final_part)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--start-from", type=Path, help="checkpoint whose weights start this run")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = sorted(options.cache.expanduser().glob("*.npz"))
    if not paths:
        parser.error(f"no anatomies in {options.cache}; make them with scripts/build_anatomy.py")
    config = TrainConfig(
        steps=options.steps,
        minutes=options.minutes,
        rate=options.rate,
        final_part=options.final_part,
        seed=options.seed,
        workers=options.workers,
    )
    train(
        [Anatomy.load(path) for path in paths],
        options.out,
        UNetConfig(),
        SynthConfig(),
        config,
        choose_device(options.device),
        options.start_from,
    )


if __name__ == "__main__":
    main()
