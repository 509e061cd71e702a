"""Turn a training checkpoint into the weights file that petbone loads.

python scripts/export_weights.py runs/first/checkpoint.pt petbone/weights/bones.safetensors \\
    --fine runs/fine/checkpoint.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from petbone.net.train import load_checkpoint
from petbone.net.weights import save_average


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--fine", type=Path, help="checkpoint of scripts/train_fine.py for the same file")
    options = parser.parse_args()
    state = load_checkpoint(options.checkpoint, torch.device("cpu"))
    fine_state = None
    if options.fine is not None:
        fine_state = load_checkpoint(options.fine, torch.device("cpu"))
        print(f"fine net: step {fine_state['step']}, {fine_state['minutes']:.0f} minutes")
    save_average(state, options.weights, fine_state)
    size = options.weights.stat().st_size / 1e6
    print(f"{options.weights.name}: step {state['step']}, {state['minutes']:.0f} minutes, {size:.1f} MB")


if __name__ == "__main__":
    main()
