from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from net_fixtures import TINY_NET, TINY_SYNTH, TINY_TRAIN, tiny_anatomy
from petbone.errors import InputError
from petbone.net import device
from petbone.net.synth import Sample, Synthesizer
from petbone.net.train import (
    centre_targets,
    coarse_targets,
    load_checkpoint,
    loss_of,
    rate_factor,
    samples,
    train,
)
from petbone.net.unet import UNetConfig, build_unet
from petbone.net.weights import load_weights, save_weights

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


class Interrupted(Exception):
    pass


def _losses(out: Path) -> list[str]:
    with (out / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = train([tiny_anatomy()], tmp_path / "whole", TINY_NET, TINY_SYNTH, TINY_TRAIN, CPU)

    def stop(_model, step):
        if step == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        train([tiny_anatomy()], tmp_path / "cut", TINY_NET, TINY_SYNTH, TINY_TRAIN, CPU, on_save=stop)
    resumed = train([tiny_anatomy()], tmp_path / "cut", TINY_NET, TINY_SYNTH, TINY_TRAIN, CPU)
    assert _losses(tmp_path / "cut") == _losses(tmp_path / "whole")
    assert len(_losses(tmp_path / "whole")) == TINY_TRAIN.steps
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_loss_falls_on_one_repeated_sample():
    torch.manual_seed(0)
    sample = Synthesizer([tiny_anatomy()], TINY_SYNTH).sample(2)
    model = build_unet(TINY_NET)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    seen = []
    for _ in range(25):
        losses = loss_of(model, sample, TINY_TRAIN, None)
        optimiser.zero_grad()
        losses.loss.backward()
        optimiser.step()
        seen.append(float(losses.loss.detach()))
    assert seen[-1] < 0.5 * seen[0]


def test_samples_of_workers_are_those_made_in_place():
    config = replace(TINY_TRAIN, steps=3)
    anatomies = [tiny_anatomy()]
    here = list(samples(anatomies, TINY_SYNTH, config, 0, CPU))
    there = list(samples(anatomies, TINY_SYNTH, replace(config, workers=2), 0, CPU))
    assert len(here) == len(there) == 3
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.bone, b.bone)
        assert torch.allclose(a.hu, b.hu, atol=1e-2)


def test_coarse_target_is_the_most_frequent_bone_of_a_block():
    bone = torch.zeros((4, 2, 2), dtype=torch.uint8)
    bone[0, :, 0] = 7
    bone[0, 0, 1] = 9
    bone[2:] = 0
    sample = Sample(torch.zeros(4, 2, 2), bone, torch.ones(3, 4, 2, 2))
    name, place = coarse_targets(sample)
    assert name.tolist() == [[[7]], [[0]]]
    assert place.shape == (3, 2, 1, 1)


def test_a_sample_without_bone_has_a_finite_loss():
    sample = Sample(
        torch.full((16, 16, 16), -900.0),
        torch.zeros((16, 16, 16), dtype=torch.uint8),
        torch.zeros(3, 16, 16, 16),
    )
    losses = loss_of(build_unet(TINY_NET), sample, TINY_TRAIN, None)
    assert torch.isfinite(losses.loss)
    assert losses.name_share != losses.name_share


def test_rate_warms_up_and_falls():
    config = replace(TINY_TRAIN, steps=100, warm_up_steps=10)
    rates = [rate_factor(config, step, 0.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[20] == pytest.approx(1.0)
    assert rates[-1] < 0.05
    assert rate_factor(config, 50, 1e9) == pytest.approx(0.02)


def test_weights_survive_their_file(tmp_path):
    torch.manual_seed(1)
    model = build_unet(TINY_NET)
    save_weights(model, tmp_path / "w.safetensors")
    read, digest = load_weights(tmp_path / "w.safetensors", CPU)
    assert read.config == TINY_NET
    assert len(digest) == 64
    for name, value in model.state_dict().items():
        assert torch.allclose(value, read.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_refusals(tmp_path):
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "bad.pt", CPU)
    with pytest.raises(InputError, match="auto, cpu or cuda"):
        device.choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no usable GPU"):
            device.choose_device("cuda")
    with pytest.raises(TypeError):
        UNetConfig.from_dict({**TINY_NET.as_dict(), "depth": 3})


def test_every_head_learns():
    """A head whose loss does not reach its weights would stay at its fresh values for ever."""
    sample = Synthesizer([tiny_anatomy()], TINY_SYNTH).sample(6)
    model = build_unet(TINY_NET)
    loss_of(model, sample, TINY_TRAIN, None).loss.backward()
    for name, weights in model.named_parameters():
        assert weights.grad is not None, name
        assert float(weights.grad.abs().max()) > 0, name


def test_votes_point_to_the_middle_of_the_vertebra():
    labels = torch.zeros(8, 8, 8, dtype=torch.uint8)
    labels[2:6, 2:6, 0:8] = 17
    labels[6:8] = 48  # a hip has no votes
    sample = Sample(torch.zeros(8, 8, 8), labels, torch.zeros(3, 8, 8, 8))
    name, _ = coarse_targets(sample)
    where, way = centre_targets(sample, name)
    assert int(where.sum()) == 16
    here = torch.nonzero(where).T * 2 + 0.5
    assert torch.equal(here + way, torch.tensor([[3.5], [3.5], [3.5]]).expand(3, 16))
