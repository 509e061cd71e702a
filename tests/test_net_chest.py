from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from net_fixtures import tiny_anatomy
from petbone.anatomy import BY_NAME
from petbone.net.anatomies import Anatomy, Tissue
from petbone.net.chest import STERNUM, Chest, ChestMarks, Turn, draw_chest, moved_ribs
from petbone.net.scene import SynthConfig, draw_scene
from petbone.net.synth import Synthesizer

RIB_6, RIB_12 = BY_NAME["rib_left_6"].id, BY_NAME["rib_left_12"].id
STEP_MM = 2.0


def chest() -> Anatomy:
    """A sternum that is 16 mm wide at either side where no cartilage meets it and 26 where it does; a rib
    that ends before its cartilage; and a rib 12 of 40 mm."""
    anatomy = tiny_anatomy()
    shape = (80, 60, 70)
    labels, cortex, tissue = (np.zeros(shape, np.uint8) for _ in range(3))
    low = np.array([-80.0, -130.0, 1200.0])
    x, y, z = (low[a] + (np.arange(n) + 0.5) * STEP_MM for a, n in enumerate(shape))
    x, y, z = x[:, None, None], y[None, :, None], z[None, None]
    wide = np.where((z > 1250) & (z < 1262), 26, 16)
    sternum = (np.abs(x) < wide) & (y > -30) & (y < -18) & (z > 1220) & (z < 1330)
    rib = (np.abs(x + 60) < 6) & (y > -110) & (y < -50) & (np.abs(z - 1256) < 6)
    lowest = (x < -20) & (x > -60) & (np.abs(y + 120) < 5) & (np.abs(z - 1230) < 5)
    for part, label in ((sternum, STERNUM), (rib, RIB_6), (lowest, RIB_12)):
        labels[np.broadcast_to(part, shape)], cortex[np.broadcast_to(part, shape)] = label, 255
    beyond = (np.abs(x + 60) < 6) & (y > -48) & (y < -16) & (np.abs(z - 1256) < 6)
    tissue[:] = int(Tissue.MUSCLE)
    tissue[np.broadcast_to(beyond, shape)] = int(Tissue.CARTILAGE)
    empty = np.zeros(shape, np.uint8)
    return replace(
        anatomy,
        low_mm=(float(low[0]), float(low[1]), float(low[2])),
        spacing_mm=STEP_MM,
        labels=labels,
        cortex=cortex,
        spongiosa=empty,
        tissue=tissue,
        outside_mm=empty,
    )


def voxels(different: Chest) -> dict[int, int]:
    """How many voxels of 2 mm each bone has in a plain sample of the chest."""
    anatomy = chest()
    synthesizer = Synthesizer([anatomy], SynthConfig(variants=0))
    size = anatomy.labels.shape
    scene = draw_scene(np.random.default_rng(1), [anatomy], SynthConfig(variants=0))
    zeros, along = np.zeros(size[2]), anatomy.low_mm[2] + (np.arange(size[2]) + 0.5) * STEP_MM
    scene = replace(
        scene,
        shape=(80, 60, 70),
        spacing_mm=STEP_MM,
        centre_mm=np.array([0.0, -70.0, 1270.0]),
        rotation=np.eye(3),
        scale=np.ones(3),
        z_curve=along,
        x_scale=zeros + 1,
        y_scale=zeros + 1,
        x_bend_mm=zeros,
        y_bend_mm=zeros,
        slope=zeros,
        warp_mm=np.zeros((3, 3, 3, 3), np.float32),
        drop_arms=False,
        chest=different,
    )
    found = synthesizer.render(scene).bone.flatten()
    return {n: int((found == n).sum()) for n in (STERNUM, RIB_6, RIB_12)}


def longer(mm: float) -> Chest:
    table = np.zeros(256)
    table[RIB_6] = mm
    return Chest(longer_mm=table)


def test_the_sternum_ends_where_no_cartilage_meets_it():
    marks = ChestMarks.of(chest())
    at = int((1256 - 1200) / STEP_MM)
    assert marks.half_mm[at] == pytest.approx(16, abs=2)
    plain, cut = voxels(Chest()), voxels(Chest(wider_mm=0.0))
    assert 0.75 < cut[STERNUM] / plain[STERNUM] < 0.97
    assert cut[RIB_6] == plain[RIB_6]


def test_ribs_end_earlier_or_go_on_into_their_cartilage():
    plain = voxels(Chest())[RIB_6]
    section = 36  # voxels of 2 mm that 12 x 12 mm hold
    assert voxels(longer(-10))[RIB_6] == pytest.approx(plain - 5 * section, abs=2.5 * section)
    assert voxels(longer(20))[RIB_6] == pytest.approx(plain + 10 * section, abs=3.5 * section)


def test_a_rib_12_is_turned_about_its_joint_and_stretched():
    turn = Turn(steeper_deg=0, roll_deg=0, out_deg=0, long=1.5, thick=1.0)
    plain, long = voxels(Chest()), voxels(Chest(lowest=(turn, None)))
    assert long[RIB_12] == pytest.approx(1.5 * plain[RIB_12], rel=0.15)
    assert long[STERNUM] == plain[STERNUM]
    marks = ChestMarks.of(chest())
    # Where the tip of a rib is that was turned down by 30 degrees, the anatomy's own tip is looked up.
    way = marks.tip_mm[0] - marks.joint_mm[0]
    down = Chest(lowest=(Turn(30, 0, 0, 1.0, 1.0), None))
    flat = np.hypot(way[0], way[1])
    angle = np.arctan2(-way[2], flat) + np.radians(30)
    new = np.append(way[:2] / flat * np.cos(angle), -np.sin(angle)) * np.linalg.norm(way)
    place = torch.from_numpy(marks.joint_mm[0] + new).float()[:, None]
    (found,) = moved_ribs(down, marks, place)
    assert np.abs(found.standard[:, 0].numpy() - marks.tip_mm[0]).max() < 0.01


def test_a_seed_has_its_own_chest_and_some_are_as_in_the_anatomy():
    drawn = [draw_chest(np.random.default_rng(n)) for n in range(300)]
    again = draw_chest(np.random.default_rng(7))
    assert again.lowest == drawn[7].lowest
    assert np.array_equal(again.longer_mm, drawn[7].longer_mm)
    assert 0.03 < np.mean([c.wider_mm is None for c in drawn]) < 0.2
    assert 0.25 < np.mean([not c.longer_mm.any() for c in drawn]) < 0.42
    assert max(float(c.longer_mm.max()) for c in drawn) <= 40


def test_an_anatomy_without_a_chest_stays_as_it_is():
    marks = ChestMarks.of(tiny_anatomy())
    assert len(marks.half_mm) == 0
    assert np.isnan(marks.ends_mm).all()
    assert moved_ribs(draw_chest(np.random.default_rng(3)), marks, torch.zeros(3, 2, 2, 2)) == []
