from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from net_fixtures import BALLS, TINY_SYNTH, tiny_anatomy
from petbone.errors import InputError
from petbone.net.anatomies import Anatomy
from petbone.net.scene import draw_scene
from petbone.net.synth import PLACE_ORIGIN_MM, Synthesizer


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    return Synthesizer([tiny_anatomy()], TINY_SYNTH)


def test_a_seed_gives_one_sample(synthesizer):
    first, again, other = (synthesizer.sample(seed) for seed in (5, 5, 6))
    assert torch.equal(first.hu, again.hu)
    assert torch.equal(first.bone, again.bone)
    assert torch.equal(first.place, again.place)
    assert not torch.equal(first.hu, other.hu)


def test_labels_are_those_of_the_anatomy(synthesizer):
    seen = set()
    for seed in range(8):
        sample = synthesizer.sample(seed)
        assert sample.hu.shape == sample.bone.shape == sample.place.shape[1:] == (32, 32, 32)
        assert float(sample.hu.min()) >= -1024
        assert float(sample.hu.max()) <= 3071
        seen |= set(sample.bone.unique().tolist())
    assert seen == {0, *BALLS}


def test_left_stays_left(synthesizer):
    """RAS: the left hip has the smaller x, in every sample that shows both."""
    shown = 0
    for seed in range(8):
        bone = synthesizer.sample(seed).bone.numpy()
        if (bone == 47).any() and (bone == 48).any():
            shown += 1
            assert np.argwhere(bone == 47)[:, 0].mean() < np.argwhere(bone == 48)[:, 0].mean()
    assert shown > 0


def test_place_is_where_the_bone_stands_in_the_standard_skeleton(synthesizer):
    sample = synthesizer.sample(3)
    for label in set(sample.bone.unique().tolist()) - {0}:
        mean = sample.place[:, sample.bone == label].mean(1).numpy() * 100 + PLACE_ORIGIN_MM
        assert np.abs(mean - BALLS[label]).max() < 14


def test_bone_is_brighter_than_muscle(synthesizer):
    rng = np.random.default_rng(6)
    scene = replace(draw_scene(rng, [tiny_anatomy()], TINY_SYNTH), noise_hu=1.0, spongiosa_hu=300.0)
    sample = synthesizer.render(replace(scene, lesions=(0.0, 0.0), metal=0, round_field=False))
    muscle = (sample.bone == 0) & (sample.hu > 0)
    assert float(sample.hu[sample.bone > 0].mean()) > float(sample.hu[muscle].mean()) + 100


def test_anatomy_survives_its_file(tmp_path):
    anatomy = tiny_anatomy()
    anatomy.save(tmp_path / "tiny.npz")
    read = Anatomy.load(tmp_path / "tiny.npz")
    assert read.low_mm == anatomy.low_mm
    assert np.array_equal(read.labels, anatomy.labels)
    assert np.array_equal(read.tissue, anatomy.tissue)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="no anatomy"):
        Synthesizer([], TINY_SYNTH)
    with pytest.raises(InputError, match="share one"):
        replace(tiny_anatomy(), labels=np.zeros((2, 2, 2), np.uint8))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="not an anatomy"):
        Anatomy.load(tmp_path / "other.npz")
