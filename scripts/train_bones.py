"""`petbone train` for a machine that has torch, numpy, scipy and safetensors and nothing else.

PYTHONPATH=. python scripts/train_bones.py configs/train_synthetic.toml --anatomies cache/anatomy \\
    --out runs/gpu --minutes 8 --device cuda

See docs/training.md. The figure of the log is drawn by `petbone train` alone: it needs pillow.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from petbone.errors import InputError
from petbone.net.recipe import RunOptions, train_from


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a run in it goes on")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, help="processes that make samples; 0: made on the device")
    parser.add_argument("--start-from", type=Path, help="checkpoint or weights that start a new run")
    parser.add_argument("--anatomies", type=Path, nargs="*", default=[], help="instead of the config's")
    given = parser.parse_args()
    options = RunOptions(
        given.minutes, given.workers, tuple(given.anatomies), given.start_from, given.device, given.threads
    )
    try:
        weights = train_from(given.config, given.out, options, say=print)
        print("weights:", weights, "(no log.png: petbone train draws it)")
    except InputError as error:
        sys.exit(f"train_bones: {error}")


if __name__ == "__main__":
    main()
