"""Train the fine net for the border of bone: see docs/training.md.

python scripts/train_fine.py --cache ~/.cache/petbone/anatomy_fine --out runs/fine --minutes 60
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from petbone.net.device import choose_device
from petbone.net.fine import FineConfig
from petbone.net.fine_detail import FineSynthConfig
from petbone.net.fine_train import train_fine
from petbone.net.loop import TrainConfig


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/petbone/anatomy_fine"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumes if it is one")
    parser.add_argument("--minutes", type=float, default=TrainConfig.minutes)
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--batch", type=int, default=2, help="patches per step; keep it when resuming")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--final-part", type=float, default=TrainConfig.final_part)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--start-from", type=Path, help="checkpoint or weights file whose weights start this run"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folders = sorted(path.parent for path in options.cache.expanduser().glob("*/place.json"))
    if not folders:
        parser.error(f"no fine anatomies in {options.cache}; make them with scripts/build_fine_anatomy.py")
    config = TrainConfig(
        steps=options.steps,
        minutes=options.minutes,
        rate=options.rate,
        final_part=options.final_part,
        seed=options.seed,
        workers=options.workers,
    )
    train_fine(
        folders,
        options.out,
        FineConfig(),
        FineSynthConfig(),
        config,
        choose_device(options.device),
        options.batch,
        options.start_from,
    )


if __name__ == "__main__":
    main()
