from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from petbone.net.fine import FineConfig, build_fine
from petbone.net.unet import UNetConfig, build_unet
from petbone.net.weights import load_fine, load_weights, save_weights

SCRIPT = Path(__file__).parents[1] / "scripts" / "mean_weights.py"
CPU = torch.device("cpu")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def files(tmp_path):
    """Two weights files of the same nets, and one without a fine net."""
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.safetensors"
        save_weights(build_unet(UNetConfig()), path, build_fine(FineConfig()))
        paths.append(path)
    save_weights(build_unet(UNetConfig()), tmp_path / "coarse.safetensors", None)
    return [*paths, tmp_path / "coarse.safetensors"]


def parameters(path: Path) -> torch.Tensor:
    nets = (load_weights(path, CPU)[0], load_fine(path, CPU))
    return torch.cat([p.detach().flatten() for net in nets if net is not None for p in net.parameters()])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_mean_lies_between(files, tmp_path, share):
    first, second, _ = files
    out = tmp_path / "mean.safetensors"
    done = run(first, second, out, "--share", share)
    assert done.returncode == 0, done.stderr
    wanted = (1 - share) * parameters(first) + share * parameters(second)
    assert torch.allclose(parameters(out), wanted, atol=1e-3)


def test_refusals(files, tmp_path):
    first, second, coarse = files
    out = tmp_path / "mean.safetensors"
    for arguments, said in (
        ((first, second, out, "--share", 2), "--share must lie from 0 to 1, got 2"),
        ((first, coarse, out), "nets of different sizes"),
        ((first, tmp_path / "none.safetensors", out), "none.safetensors"),
    ):
        done = run(*arguments)
        assert done.returncode != 0
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert not out.exists()
