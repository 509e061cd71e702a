from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from fine_fixtures import CARTILAGE_MM, TINY_FINE, TINY_FINE_SYNTH, tiny_fine_anatomy
from net_fixtures import TINY_NET, TINY_TRAIN
from petbone.errors import InputError
from petbone.net.fine import FineConfig, FineNet, build_fine, told_channels
from petbone.net.fine_anatomy import FineAnatomy
from petbone.net.fine_detail import Detail, draw_detail
from petbone.net.fine_synth import FineSynthesizer
from petbone.net.fine_train import fine_loss, patches, train_fine, ways
from petbone.net.kinds import KINDS
from petbone.net.scene import draw_scene
from petbone.net.unet import build_unet
from petbone.net.weights import load_fine, load_weights, save_weights

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def plain(detail: Detail) -> Detail:
    """No mistakes in the coarse answer, little noise."""
    return replace(
        detail,
        boneless=False,
        missing=0.0,
        false=0.0,
        zeros=False,
        shift=(0, 0, 0),
        noise_hu=3.0,
        dark_hu=None,
    )


def rendered(seed: int, at_mm: tuple[float, ...], **changes: object):
    synthesizer = FineSynthesizer([tiny_fine_anatomy()], TINY_FINE_SYNTH)
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, synthesizer.anatomies, synthesizer.config)
    scene = synthesizer._centred(replace(scene, drop_arms=False, metal=0), torch.tensor(at_mm))
    detail = replace(plain(draw_detail(rng, TINY_FINE_SYNTH, CPU)), **changes)
    return synthesizer.render_patch(scene, detail)


def test_a_seed_gives_one_patch_and_another_seed_another():
    synthesizer = FineSynthesizer([tiny_fine_anatomy()], TINY_FINE_SYNTH)
    first, again, other = (synthesizer.patch(n) for n in (3, 3, 4))
    assert torch.equal(first.hu, again.hu)
    assert torch.equal(first.coarse, again.coarse)
    assert not torch.equal(first.hu, other.hu)
    assert first.hu.shape == first.bone.shape == first.coarse.shape == (32, 32, 32)
    assert first.hu.min() >= -1024
    assert first.hu.max() <= 3071
    assert first.coarse.abs().max() <= 6


def test_the_patch_lies_where_it_was_asked_for():
    """Round the middle of a ball of 16 mm all is bone, and as much of the patch as the ball fills."""
    patch = rendered(1, (0.0, -110.0, 190.0))
    assert (patch.bone[14:18, 14:18, 14:18] == 1).all()
    assert 0.06 < patch.bone.float().mean() < 0.35


def test_bone_is_brighter_than_soft_tissue_and_the_coarse_answer_knows_it():
    brighter, related = [], []
    for seed in range(8):
        patch = rendered(seed, (0.0, -110.0, 160.0))
        bone = patch.label > 0
        body = ~bone & (patch.hu > -300)
        brighter.append(float(patch.hu[bone].mean() - patch.hu[body].mean()))
        related.append(float(np.corrcoef(patch.coarse.flatten(), bone.flatten())[0, 1]))
    assert np.mean(brighter) > 80
    assert np.mean(related) > 0.7
    assert min(related) > 0.4


def test_calcified_cartilage_is_bright_and_not_bone():
    bright = []
    for seed in range(4):
        patch = rendered(seed, CARTILAGE_MM, lime=(0.9, 600.0), slice_mm=1.0)
        inner = (slice(11, 21),) * 3
        assert not patch.bone[inner].any()
        bright.append(float((patch.hu[inner] > 300).float().mean()))
    assert np.mean(bright) > 0.05


def test_some_patches_have_no_coarse_answer_or_no_bone():
    synthesizer = FineSynthesizer([tiny_fine_anatomy()], replace(TINY_FINE_SYNTH, zeros_share=1.0))
    assert not synthesizer.patch(0).coarse.any()
    boneless = FineSynthesizer([tiny_fine_anatomy()], replace(TINY_FINE_SYNTH, boneless_share=1.0))
    assert not any(boneless.patch(n).bone.any() or boneless.patch(n).label.any() for n in range(3))


def test_a_middle_is_where_the_ball_is():
    """The ball of the asked-for place lies in the middle of the patch, the next one 40 mm away from it."""
    for seed in range(3):
        patch = rendered(seed, (0.0, -110.0, 190.0))
        inside = torch.nonzero(patch.label == 16).float().mean(0)
        assert torch.linalg.norm(patch.middle[16] - inside) < 2
        assert torch.linalg.norm(patch.middle[16] - 15.5) < 4
        assert 30 < 1.5 * torch.linalg.norm(patch.middle[16] - patch.middle[17]) < 50
        assert patch.middle[3].isnan().all()


def test_the_way_leads_from_every_voxel_to_the_middle_of_its_vertebra():
    patch = rendered(1, (0.0, -110.0, 175.0))
    index, way = ways(patch)
    assert len(index) == int(((patch.label == 16) | (patch.label == 17)).sum()) > 100
    there = torch.stack(torch.unravel_index(index, patch.label.shape)) + way
    label = patch.label.flatten()[index].long()
    assert torch.allclose(there.T, patch.middle[label], atol=1e-4)


def test_the_part_of_a_voxel_that_is_bone_tells_the_border_between_voxels():
    """The parts of bone add up to the volume of the ball better than whole voxels need to."""
    patch = rendered(4, (0.0, -110.0, 190.0))
    assert ((patch.bone > 0.05) & (patch.bone < 0.95)).any()
    assert torch.equal(patch.label > 0, patch.bone > 0.5)


def test_made_up_coarse_names_are_mostly_true_and_their_borders_are_not():
    """Where a patch has two vertebrae, most voxels carry the right one's name; some do not."""
    right = []
    for seed in range(6):
        patch = rendered(seed, (0.0, -110.0, 172.0), told_shift_mm=4.0, told_slip_mm=0.0)
        told = patch.told.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
        both = (patch.label > 0) & (told > 0)
        assert both.sum() > 200
        right.append(float((told == patch.label)[both].float().mean()))
        assert (patch.told_middle[16] - patch.middle[16]).abs().max() < 12
    assert 0.75 < np.mean(right) < 1
    assert not rendered(1, (0.0, -110.0, 172.0), zeros=True).told.any()


def test_what_the_net_is_told_is_the_kind_and_the_way():
    label = torch.zeros((2, 2, 2), dtype=torch.uint8)
    label[0], label[1, 0] = 7, 24  # T7, a rib
    way = torch.full((3, 2, 2, 2), 0.5)
    way[2, 0, 1] = torch.nan
    told = told_channels(label, way, len(KINDS))
    assert told.shape == (len(KINDS) + 3, 2, 2, 2)
    assert torch.equal(told[: len(KINDS)].sum(0), (label > 0).float())
    assert torch.equal(told[0], (label == 7).float())
    assert torch.equal(told[1], (label == 24).float())
    assert torch.equal(told[-3], 0.5 * (label == 7))
    assert not told[-1, 0, 1].any()


def test_dark_marrow_stays_bone():
    """The middle of a ball whose marrow is as dark as fat is bone all the same."""
    patch = rendered(2, (0.0, -110.0, 190.0), dark_hu=0.0, trabecular=0.0, slice_mm=1.0)
    middle = (slice(14, 18),) * 3
    assert patch.hu[middle].mean() < 90
    assert (patch.label[middle] > 0).all()


def test_every_weight_gets_a_gradient_and_the_loss_falls_on_one_patch():
    torch.manual_seed(0)
    patch = rendered(1, (0.0, -110.0, 175.0))
    model = build_fine(TINY_FINE)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    seen = []
    for _ in range(20):
        optimiser.zero_grad()
        losses = fine_loss(model, [patch], None)
        losses.loss.backward()
        optimiser.step()
        seen.append(float(losses.loss.detach()))
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    assert seen[-1] < 0.5 * seen[0]


def losses_of(out) -> list[str]:
    with (out / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


class Interrupted(Exception):
    pass


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path):
    tiny_fine_anatomy().save(tmp_path / "tiny")

    def run(out, **more):
        folders = [tmp_path / "tiny"]
        return train_fine(folders, tmp_path / out, TINY_FINE, TINY_FINE_SYNTH, TINY_TRAIN, CPU, 2, **more)

    def stop(_model: FineNet, step: int) -> None:
        if step == 3:
            raise Interrupted

    whole = run("whole")
    with pytest.raises(Interrupted):
        run("cut", on_save=stop)
    resumed = run("cut")
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")
    assert len(losses_of(tmp_path / "whole")) == TINY_TRAIN.steps
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    warm = run("warm", start_from=tmp_path / "whole" / "checkpoint.pt")
    assert not torch.equal(warm.bone.weight, whole.bone.weight)


def test_patches_of_workers_are_those_made_in_place():
    config = replace(TINY_TRAIN, steps=2)
    anatomies = [tiny_fine_anatomy()]
    here = list(patches(anatomies, TINY_FINE_SYNTH, config, 2, 0, CPU))
    there = list(patches(anatomies, TINY_FINE_SYNTH, replace(config, workers=1), 2, 0, CPU))
    for one, other in zip(here, there, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.hu, b.hu)
            assert torch.equal(a.bone, b.bone)
            assert torch.equal(a.coarse, b.coarse)
            assert torch.equal(a.label, b.label)
            assert torch.equal(a.told, b.told)
            assert torch.equal(a.middle.nan_to_num(-1), b.middle.nan_to_num(-1))


def test_both_nets_live_in_one_file(tmp_path):
    torch.manual_seed(0)
    coarse, fine = build_unet(TINY_NET), build_fine(TINY_FINE)
    both, alone = tmp_path / "both.safetensors", tmp_path / "alone.safetensors"
    save_weights(coarse, both, fine)
    save_weights(coarse, alone)
    assert load_fine(alone, CPU) is None
    read = load_fine(both, CPU)
    assert read is not None
    assert read.config == TINY_FINE
    for name, value in fine.state_dict().items():
        assert torch.allclose(value, read.state_dict()[name], atol=1e-3)
    for name, value in load_weights(alone, CPU)[0].state_dict().items():
        assert torch.equal(value, load_weights(both, CPU)[0].state_dict()[name])


def test_asked_for_some_voxels_it_says_what_it_says_of_all():
    torch.manual_seed(0)
    net = build_fine(TINY_FINE).eval()
    hu, coarse = torch.randn(2, 1, 16, 16, 24) * 200, torch.randn(2, 1, 16, 16, 24)
    told = torch.randn(2, TINY_FINE.kinds + 3, 8, 8, 12)
    at = torch.stack([torch.randint(0, n, (50,)) for n in (16, 16, 24)], 1)
    with torch.inference_mode():
        answer = net(hu, coarse, told)
        features = net.features(hu, coarse, told)
        kind, way = net.which_at(features, 1, at)
        bone = net.bone_logit(features)
    assert torch.equal(bone, answer.bone)
    assert torch.allclose(kind, answer.kind[1][:, *at.T].T, atol=1e-5)
    assert torch.allclose(way, answer.way[1][:, *at.T].T, atol=1e-5)


def test_the_net_is_small():
    model = build_fine(FineConfig())
    assert sum(p.numel() for p in model.parameters()) * 2 < 3e6
    assert FineConfig.from_dict(FineConfig().as_dict()) == FineConfig()


def test_refusals(tmp_path):
    anatomy = tiny_fine_anatomy()
    with pytest.raises(InputError, match="3-D uint8"):
        replace(anatomy, depth=anatomy.depth.astype(np.float32))
    with pytest.raises(InputError, match="no points"):
        replace(anatomy, bone_points=anatomy.bone_points[:0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is not a fine anatomy"):
        FineAnatomy.load(tmp_path / "empty")
    with pytest.raises(ValueError, match="no anatomy"):
        FineSynthesizer([])
    torch.manual_seed(0)
    save_weights(build_unet(TINY_NET), tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match="holds no fine net"):
        train_fine(
            [anatomy],
            tmp_path / "run",
            TINY_FINE,
            TINY_FINE_SYNTH,
            TINY_TRAIN,
            CPU,
            start_from=tmp_path / "alone.safetensors",
        )
    other = build_fine(replace(TINY_FINE, widths=(8, 16)))
    other.config = TINY_FINE
    save_weights(build_unet(TINY_NET), tmp_path / "wrong.safetensors", other)
    with pytest.raises(InputError, match="fine net does not fit"):
        load_fine(tmp_path / "wrong.safetensors", CPU)
