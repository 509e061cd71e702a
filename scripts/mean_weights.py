"""The mean of two weights files of the same nets: often better than both where one went on from the other.

python scripts/mean_weights.py petbone/weights/bones.safetensors runs/next/bones.safetensors mean.safetensors

After Wortsman et al. 2022 (arXiv:2203.05482), "model soups"; docs/decisions/0010 has what was seen.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import torch

from petbone.errors import InputError
from petbone.net.weights import load_fine, load_weights, save_weights


@torch.no_grad()
def mix(one: torch.nn.Module, other: torch.nn.Module, share: float) -> None:
    """Move the parameters of `one` by `share` of the way to those of `other`."""
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        mine.lerp_(theirs, share)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("weights", type=Path, help="the file to write")
    parser.add_argument("--share", type=float, default=0.5, help="of the second file; 0.5 is the mean")
    options = parser.parse_args()
    if not 0 <= options.share <= 1:
        parser.error(f"--share must lie from 0 to 1, got {options.share:g}")
    cpu = torch.device("cpu")
    try:
        one, other = (load_weights(path, cpu)[0] for path in (options.first, options.second))
        fine, fine_other = (load_fine(path, cpu) for path in (options.first, options.second))
    except InputError as error:
        sys.exit(f"mean_weights: {error}")
    if one.config != other.config or (fine is None) != (fine_other is None):
        parser.error("the two files hold nets of different sizes; expected those of one training")
    if fine is not None and fine_other is not None:
        if fine.config != fine_other.config:
            parser.error("the two files hold fine nets of different sizes; expected those of one training")
        mix(fine, fine_other, options.share)
    mix(one, other, options.share)
    save_weights(one, options.weights, fine)
    sha256 = hashlib.sha256(options.weights.read_bytes()).hexdigest()
    print(f"{options.weights.name}: {options.weights.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256}")


if __name__ == "__main__":
    main()
