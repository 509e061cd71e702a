from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from net_fixtures import BALLS, TINY_SYNTH, tiny_anatomy
from petbone.errors import InputError
from petbone.net.anatomies import Anatomy, Tissue
from petbone.net.clutter import Clutter, Rest, draw_clutter, paint
from petbone.net.scene import Scene, SynthConfig, draw_scene
from petbone.net.synth import PLACE_ORIGIN_MM, Synthesizer
from petbone.net.variants import SHARES, Implant, eleven_ribs, kyphosis, scoliosis, squeezed, with_variants


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


PLAIN = replace(TINY_SYNTH, variants=0.0)


def plain_scene(seed: int = 4) -> Scene:
    """A sample without variants, noise, blur and metal, so that what a variant does can be seen."""
    scene = draw_scene(np.random.default_rng(seed), [tiny_anatomy()], PLAIN)
    return replace(
        scene, noise_hu=0.0, streak_hu=0.0, metal=0, round_field=False, blur=(0, 0, 0), lesions=(0, 0)
    )


def test_every_variant_keeps_samples_sound_and_repeatable():
    anatomy = tiny_anatomy()
    synthesizer = Synthesizer([anatomy], PLAIN)
    for n, (_, change) in enumerate(SHARES):
        first, again = (change(np.random.default_rng(n), plain_scene(), anatomy) for _ in range(2))
        samples = [synthesizer.render(scene) for scene in (first, again)]
        assert torch.equal(samples[0].hu, samples[1].hu)
        assert torch.isfinite(samples[0].hu).all()
        assert torch.isfinite(samples[0].place).all()
        assert set(samples[0].bone.unique().tolist()) <= {0, *BALLS}


def test_variants_are_as_frequent_as_asked():
    def changed(factor: float) -> int:
        scene = plain_scene()
        drawn = [
            with_variants(np.random.default_rng(n), scene, tiny_anatomy(), factor) is scene for n in range(60)
        ]
        return drawn.count(False)

    assert changed(0.0) == 0
    assert 5 < changed(1.0) < 50
    assert changed(1e9) == 60


def test_a_collapsed_vertebra_is_lower_and_the_rest_is_not():
    curve = np.arange(100.0, 300.0, 2.0)
    flat = squeezed(curve, 150.0, 170.0, 0.5, 250.0)
    inside = (flat > 150) & (flat <= 170)
    assert inside.sum() == pytest.approx(((curve > 150) & (curve <= 170)).sum() / 2, abs=1)
    assert np.allclose(flat[curve >= 180], curve[curve >= 180])
    assert np.allclose(np.diff(flat[flat < 148]), 2.0)


def test_a_wedge_is_lower_in_front_than_at_the_back():
    scene, anatomy = plain_scene(), tiny_anatomy()
    synthesizer = Synthesizer([anatomy], PLAIN)
    plain = synthesizer.render(scene)
    changed = squeezed(scene.z_curve, 140.0, 160.0, 0.5, float(scene.z_curve[-1]))
    wedged = synthesizer.render(replace(scene, wedge_mm=changed - scene.z_curve))
    moved = (wedged.place - plain.place)[2].abs()
    back = plain.place[1] < (-110 - PLACE_ORIGIN_MM[1] - 10) / 100
    assert float(moved[back].max()) == 0
    assert float(moved.max()) == pytest.approx(0.1, abs=0.02)  # half of 20 mm, in units of 100 mm


def test_bends_move_the_spine_sideways_and_backwards():
    scene, anatomy, rng = plain_scene(), tiny_anatomy(), np.random.default_rng(0)
    assert np.array_equal(scoliosis(rng, scene, anatomy).y_bend_mm, scene.y_bend_mm)
    high = replace(anatomy, low_mm=(-90.0, -190.0, 1100.0), spacing_mm=4.0)
    assert np.ptp(scoliosis(rng, scene, high).x_bend_mm - scene.x_bend_mm) > 5
    assert (kyphosis(rng, scene, high).y_bend_mm - scene.y_bend_mm).min() < -5


def test_a_big_belly_leaves_the_spine_alone():
    scene = plain_scene()
    synthesizer = Synthesizer([tiny_anatomy()], PLAIN)
    slim = synthesizer.render(scene)
    big = synthesizer.render(replace(scene, belly=np.full(len(scene.z_curve), 0.5)))
    spine = (slim.bone == 16) | (slim.bone == 17)
    assert torch.equal(big.place[:, spine], slim.place[:, spine])
    assert (big.hu > -500).sum() > (slim.hu > -500).sum()


def test_organs_slide_and_bones_and_walls_stay():
    """A lung over a liver in a wall of muscle: 20 mm up in the standard body is 20 mm down in the patient."""
    anatomy = tiny_anatomy()
    tissue = anatomy.tissue.copy()
    tissue[15:30, 27:33, 10:40] = Tissue.LIVER
    tissue[15:30, 27:33, 25:40] = Tissue.LUNG
    synthesizer = Synthesizer([replace(anatomy, tissue=tissue)], PLAIN)
    scene = plain_scene()
    still, none, slid = (
        synthesizer.render(replace(scene, organs_mm=slide))
        for slide in (np.zeros(1), np.zeros(anatomy.labels.shape[2]), np.full(anatomy.labels.shape[2], 20.0))
    )
    assert torch.equal(still.hu, none.hu)
    assert torch.equal(still.bone, slid.bone)
    assert torch.equal(still.place, slid.place)
    x, y, _ = still.place
    inside = (x.abs() < 0.2) & (y > 0.22) & (y < 0.38) & (still.bone == 0)
    lung, more = ((one.hu < -500) & inside for one in (still, slid))
    assert not (lung & ~more).any()
    end_mm = [float(still.place[2][one].quantile(0.02)) * 100 for one in (lung, more)]
    assert end_mm[0] - end_mm[1] == pytest.approx(20, abs=PLAIN.spacing_mm)


def test_organs_slide_by_as_much_as_asked():
    """And whether they do changes nothing else of a scene."""
    anatomy = tiny_anatomy()
    config = replace(TINY_SYNTH, organ_slide_mm=16.0)
    means = []
    for seed in range(300):
        scene = draw_scene(np.random.default_rng(seed), [anatomy], config)
        means.append(scene.organs_mm[25])
        if seed < 5:
            fixed = draw_scene(np.random.default_rng(seed), [anatomy], replace(config, organ_slide_mm=0.0))
            assert not fixed.organs_mm.any()
            assert fixed.clutter == scene.clutter
            assert np.array_equal(fixed.bone_gain, scene.bone_gain)
    assert np.std(means) == pytest.approx(16.0, rel=0.2)
    assert abs(np.mean(means)) < 4


def test_an_absent_bone_is_soft_tissue():
    scene = plain_scene()
    synthesizer = Synthesizer([tiny_anatomy()], PLAIN)
    full, without = synthesizer.render(scene), synthesizer.render(replace(scene, absent=(17,)))
    here = full.bone == 17
    assert bool(here.any())
    assert not (without.bone == 17).any()
    assert float(without.hu[here].mean()) < float(full.hu[here].mean())
    assert torch.equal(without.bone[~here], full.bone[~here])
    for seed in range(8):
        labels = eleven_ribs(np.random.default_rng(seed), scene, tiny_anatomy()).absent
        assert set(labels) <= {29, 41}
        assert labels


def test_lime_brightens_its_tissue_only():
    anatomy = tiny_anatomy()
    tissue = anatomy.tissue.copy()
    tissue[:, 30:35, 10:40] = Tissue.CARTILAGE
    synthesizer = Synthesizer([replace(anatomy, tissue=tissue)], PLAIN)
    scene = plain_scene()
    before, after = (
        synthesizer.render(replace(scene, lime=lime)) for lime in ({}, {Tissue.CARTILAGE: (0.9, 400.0)})
    )
    brighter = after.hu != before.hu
    assert 0 < brighter.float().mean() < 0.3
    assert float(after.hu[brighter].min()) > 100
    assert torch.equal(before.bone, after.bone)


def test_an_implant_is_metal_where_it_is_put():
    where = np.array(BALLS[48], float)
    scene = replace(plain_scene(), implant=Implant(where, where, where - [0, 0, 30], 10.0, 5.0))
    sample = Synthesizer([tiny_anatomy()], PLAIN).render(scene)
    metal = sample.hu > 2500
    assert bool(metal.any())
    middle = sample.place[:, metal].mean(1).numpy() * 100 + PLACE_ORIGIN_MM
    assert np.abs(middle[:2] - where[:2]).max() < 5
    plain = Synthesizer([tiny_anatomy()], PLAIN).render(plain_scene())
    assert torch.equal(sample.bone, plain.bone)


def test_clutter_stays_in_the_air():
    x, y, z = (torch.arange(-80.0, 80.0, 4.0) for _ in range(3))
    patient = torch.stack(torch.meshgrid(x, y, z, indexing="ij"))
    off_skin = patient[:2].square().sum(0).sqrt() - 40
    hu = torch.where(off_skin > 0, -1000.0, 40.0)
    things = Clutter(
        rest=Rest((-40.0, 40.0), (60.0, 60.0), 5.0, 10.0, 6.0, 500.0, -900.0),
        rails=((60.0, 0.0, 8.0, 8.0, 700.0),),
        boxes=((20.0, 20.0, 20.0, 300.0),),
        cables=((3.0, 1500.0),),
        electrodes=(3000.0,),
        cloth=(5.0, 4.0, -500.0),
    )

    def painted(clutter: Clutter) -> torch.Tensor:
        return paint(clutter, hu, off_skin, patient, torch.zeros_like(hu), torch.Generator().manual_seed(1))

    full = painted(things)
    assert torch.equal(full[off_skin <= 0], hu[off_skin <= 0])
    assert torch.equal(full, painted(things))
    assert torch.equal(painted(Clutter()), hu)
    for name in ("rest", "rails", "boxes", "cables", "electrodes", "cloth"):
        only = painted(Clutter(**{name: getattr(things, name)}))
        assert bool((only > -990)[off_skin > 0].any()), name
    rest = painted(Clutter(rest=things.rest)) > 0
    assert not (rest & (off_skin > 0))[:, :, (z < -40) | (z > 40)].any()


def test_half_of_the_heads_lie_in_a_rest():
    seen = [draw_clutter(np.random.default_rng(n), head_mm=0.0, half_mm=100.0).rest for n in range(200)]
    rests = [rest for rest in seen if rest is not None]
    assert 70 < len(rests) < 130
    other = [draw_clutter(np.random.default_rng(n), head_mm=500.0, half_mm=100.0).rest for n in range(200)]
    assert sum(rest is not None for rest in other) < 25


def test_no_variants_when_none_are_wanted():
    scene = draw_scene(np.random.default_rng(2), [tiny_anatomy()], PLAIN)
    assert scene.clutter == Clutter()
    assert scene.implant is None
    assert not scene.lime
    assert SynthConfig().variants == 1.0


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="no anatomy"):
        Synthesizer([], TINY_SYNTH)
    with pytest.raises(InputError, match="share one"):
        replace(tiny_anatomy(), labels=np.zeros((2, 2, 2), np.uint8))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="not an anatomy"):
        Anatomy.load(tmp_path / "other.npz")
    tiny_anatomy().save(tmp_path / "tiny.npz")
    whole = (tmp_path / "tiny.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut.npz is not an anatomy"):
        Anatomy.load(tmp_path / "cut.npz")


def test_an_anatomy_travels_as_its_file_and_a_changed_one_as_itself(tmp_path):
    path = tmp_path / "tiny.npz"
    tiny_anatomy().save(path)
    read = Anatomy.load(path)
    changed = replace(read, tissue=np.zeros_like(read.tissue))
    small, large = pickle.dumps(read), pickle.dumps(changed)
    assert len(small) < 1000 < len(large)
    assert np.array_equal(pickle.loads(small).labels, read.labels)
    assert not pickle.loads(large).tissue.any()
    assert np.array_equal(pickle.loads(pickle.dumps(tiny_anatomy())).cortex, read.cortex)
