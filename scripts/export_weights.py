"""Turn training checkpoints into the weights file that petbone loads.

python scripts/export_weights.py runs/first/checkpoint.pt out.safetensors --fine runs/fine/checkpoint.pt
python scripts/export_weights.py now.safetensors out.safetensors --fine runs/fine/checkpoint.pt

Either net may come from a weights file instead: the second line keeps the coarse net of one.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch

from petbone.net.fine import FineNet
from petbone.net.loop import load_checkpoint
from petbone.net.unet import BoneNet
from petbone.net.weights import averaged, averaged_fine, load_fine, load_weights, save_weights

CPU = torch.device("cpu")


def coarse_net(path: Path) -> BoneNet:
    """The coarse net of a checkpoint or a weights file."""
    if path.suffix == ".safetensors":
        return load_weights(path, CPU)[0]
    state = load_checkpoint(path, CPU)
    print(f"coarse net: step {state['step']}, {state['minutes']:.0f} minutes")
    return averaged(state)


def fine_net(path: Path) -> FineNet | None:
    """The fine net of a checkpoint or a weights file."""
    if path.suffix == ".safetensors":
        return load_fine(path, CPU)
    state = load_checkpoint(path, CPU)
    print(f"fine net: step {state['step']}, {state['minutes']:.0f} minutes")
    return averaged_fine(state)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("coarse", type=Path, help="checkpoint or weights file")
    parser.add_argument("weights", type=Path, help="the file to write")
    parser.add_argument("--fine", type=Path, help="checkpoint of scripts/train_fine.py or weights file")
    options = parser.parse_args()
    fine = fine_net(options.fine) if options.fine else None
    save_weights(coarse_net(options.coarse), options.weights, fine)
    sha256 = hashlib.sha256(options.weights.read_bytes()).hexdigest()
    print(f"{options.weights.name}: {options.weights.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256}")


if __name__ == "__main__":
    main()
