from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from case_fixtures import prepared
from net_fixtures import TINY_NET, TINY_SYNTH, TINY_TRAIN, tiny_anatomy
from petbone.errors import InputError
from petbone.net import device
from petbone.net.cases import CaseSample
from petbone.net.loop import load_checkpoint, rate_factor
from petbone.net.losses import centre_targets, coarse_names, loss_of
from petbone.net.sources import Sampler, Sources, samples
from petbone.net.synth import Sample, Synthesizer
from petbone.net.train import train
from petbone.net.unet import UNetConfig, build_unet
from petbone.net.weights import load_weights, save_weights

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


TINY = Sources((tiny_anatomy(),), TINY_SYNTH)


def mixed(folder: Path) -> Sources:
    """Half of the samples from the made-up anatomy, half from one made-up patient."""
    case = folder / "case.npz"
    return replace(TINY, cases=(case if case.exists() else prepared(case),), share=0.5)


class Interrupted(Exception):
    pass


def _losses(out: Path) -> list[str]:
    with (out / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", ["synthetic", "mixed"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path, kind):
    sources = TINY if kind == "synthetic" else mixed(tmp_path)
    config = replace(TINY_TRAIN, minutes=float("inf"))
    whole = train(sources, tmp_path / "whole", TINY_NET, config, CPU)

    def stop(_model, step):
        if step == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(sources, tmp_path / "cut", TINY_NET, config, CPU, on_save=stop)
    # A run that was killed between two checkpoints has written rows that come again.
    with (tmp_path / "cut" / "log.csv").open("a") as file:
        file.write("4,0.01,1e-3,9,9,9,9,9,9,9,9\n5,0.01,1e-3,9")
    resumed = train(sources, tmp_path / "cut", TINY_NET, config, CPU)
    assert _losses(tmp_path / "cut") == _losses(tmp_path / "whole")
    assert len(_losses(tmp_path / "whole")) == config.steps
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    states = [load_checkpoint(tmp_path / name / "checkpoint.pt", CPU) for name in ("whole", "cut")]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name


def test_a_finished_run_is_left_as_it_is(tmp_path):
    config = replace(TINY_TRAIN, steps=2)
    first = train(TINY, tmp_path, TINY_NET, config, CPU)
    before = (tmp_path / "log.csv").read_text()
    again = train(TINY, tmp_path, TINY_NET, config, CPU)
    assert (tmp_path / "log.csv").read_text() == before
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_a_folder_goes_on_with_its_own_run_only(tmp_path):
    config = replace(TINY_TRAIN, steps=1)
    train(mixed(tmp_path), tmp_path / "run", TINY_NET, config, CPU)
    for sources, net, seed, what in (
        (mixed(tmp_path), TINY_NET, 1, "seed"),
        (mixed(tmp_path), replace(TINY_NET, stem=8), 0, "net"),
        (replace(mixed(tmp_path), share=0.25), TINY_NET, 0, "share"),
        (TINY, TINY_NET, 0, "cases, share"),
    ):
        with pytest.raises(InputError, match=f"begun with other {what};"):
            train(sources, tmp_path / "run", net, replace(config, seed=seed), CPU)
    prepared(tmp_path / "case.npz", annotated=frozenset({16, 17}))
    with pytest.raises(InputError, match="begun with other cases;"):
        train(mixed(tmp_path), tmp_path / "run", TINY_NET, config, CPU)


def test_a_run_starts_from_weights_of_its_own_net(tmp_path):
    config = replace(TINY_TRAIN, steps=1)
    first = train(TINY, tmp_path / "a", TINY_NET, config, CPU)
    save_weights(first, tmp_path / "a.safetensors")
    for start in (tmp_path / "a" / "checkpoint.pt", tmp_path / "a.safetensors"):
        # With a rate of nearly nothing what comes out is what went in.
        still = replace(config, rate=1e-12)
        same = train(TINY, tmp_path / f"from_{start.name}", TINY_NET, still, CPU, start_from=start)
        for name, value in first.state_dict().items():
            assert torch.allclose(value, same.state_dict()[name], rtol=1e-3, atol=1e-6), name
        wider = replace(TINY_NET, stem=8)
        with pytest.raises(InputError, match=r"other size \(stem: 4, expected 8\)"):
            train(TINY, tmp_path / f"bad_{start.name}", wider, config, CPU, start_from=start)


def test_refused_sources(tmp_path):
    with pytest.raises(InputError, match="from 0 to 1, got 2"):
        Sources((tiny_anatomy(),), share=2)
    with pytest.raises(InputError, match="but there are none"):
        Sources((tiny_anatomy(),), share=0.5)
    with pytest.raises(InputError, match="no anatomies"):
        Sources(cases=(tmp_path / "case.npz",), share=0.5)


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


def test_samples_of_workers_are_those_made_in_place(tmp_path):
    config = replace(TINY_TRAIN, steps=4)
    sources = mixed(tmp_path)
    here = list(samples(sources, config, 0, CPU))
    there = list(samples(sources, replace(config, workers=2), 0, CPU))
    assert len(here) == len(there) == 4
    assert {type(sample) for sample in here} == {Sample, CaseSample}
    for a, b in zip(here, there, strict=True):
        assert type(a) is type(b)
        for name in vars(a):
            assert torch.equal(getattr(a, name), getattr(b, name))


def test_a_mixture_has_its_share_and_leaves_synthetic_samples_as_they_are(tmp_path):
    sampler, alone = Sampler(mixed(tmp_path)), Sampler(TINY)
    drawn = [sampler.sample(seed) for seed in range(60)]
    assert 20 <= sum(isinstance(sample, CaseSample) for sample in drawn) <= 40
    for seed, sample in enumerate(drawn[:8]):
        if isinstance(sample, Sample):
            assert torch.equal(sample.hu, alone.sample(seed).hu)


def test_the_name_of_a_block_is_the_most_frequent_bone_in_it():
    bone = torch.zeros((4, 2, 2), dtype=torch.uint8)
    bone[0, :, 0] = 7
    bone[0, 0, 1] = 9
    assert coarse_names(bone).tolist() == [[[7]], [[0]]]


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
    where, way = centre_targets(labels, coarse_names(labels))
    assert int(where.sum()) == 16
    here = torch.nonzero(where).T * 2 + 0.5
    assert torch.equal(here + way, torch.tensor([[3.5], [3.5], [3.5]]).expand(3, 16))
