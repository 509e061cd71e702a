"""Turn a training checkpoint into the weights file that petbone loads.

python scripts/export_weights.py runs/first/checkpoint.pt petbone/weights/bones.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from petbone.net.train import load_checkpoint
from petbone.net.unet import UNetConfig, build_unet
from petbone.net.weights import save_weights


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path)
    options = parser.parse_args()
    state = load_checkpoint(options.checkpoint, torch.device("cpu"))
    model = build_unet(UNetConfig.from_dict(state["net"]))
    model.load_state_dict(state["average"])
    save_weights(model, options.weights)
    size = options.weights.stat().st_size / 1e6
    print(f"{options.weights.name}: step {state['step']}, {state['minutes']:.0f} minutes, {size:.1f} MB")


if __name__ == "__main__":
    main()
