from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from net_fixtures import tiny_anatomy
from petbone.net.anatomies import Anatomy, Tissue
from petbone.net.vessels import FOOT, TOP, Front, Vessels, draw_vessels, with_vessels

PLAIN = Vessels(aorta_mm=12.0, cava_mm=9.0, aside_mm=20.0, touch_mm=0.0)


def column() -> Anatomy:
    """The tiny person, its upper ball called T4 and the lower L4."""
    anatomy = tiny_anatomy()
    labels = anatomy.labels.copy()
    labels[anatomy.labels == 16], labels[anatomy.labels == 17] = TOP, FOOT
    return replace(anatomy, labels=labels)


def painted(vessels: Vessels, anatomy: Anatomy) -> tuple[torch.Tensor, np.ndarray]:
    """Tissue with vessels on a lattice of 2 mm, and its places (3, X, Y, Z)."""
    places = np.meshgrid(
        *[np.arange(a, b, 2.0) for a, b in ((-60, 60), (-150, -40), (140, 200))], indexing="ij"
    )
    standard = torch.from_numpy(np.stack(places)).float()
    tissue = torch.full(standard.shape[1:], int(Tissue.MUSCLE), dtype=torch.uint8)
    return with_vessels(vessels, Front.of(anatomy), tissue, standard, anatomy), np.stack(places)


def test_the_front_is_where_the_bodies_end():
    """Balls of 16 mm about y = -110, seen in voxels of 4 mm; the line is smooth, so flatter than they."""
    front = Front.of(column())
    assert front is not None
    anatomy = column()
    z_mm = anatomy.low_mm[2] + (np.arange(len(front.y_mm)) + 0.5) * anatomy.spacing_mm
    at_balls = np.interp([150, 190], z_mm, front.y_mm)
    assert np.abs(at_balls - (-96)).max() < 4
    assert front.y_mm.min() > -112
    assert front.y_mm.max() < -92
    assert abs(front.x_mm) < 1
    assert abs(front.top_mm - 190) < 2
    assert abs(front.foot_mm - 150) < 2


def test_the_aorta_touches_the_bodies_and_lies_to_the_left_higher_up():
    tissue, places = painted(PLAIN, column())
    aorta = (tissue == Tissue.ARTERY).numpy()
    low, high = (aorta & (np.abs(places[2] - z) < 3) for z in (152, 186))
    assert -100 < places[1][low].min() < -92  # the front, give or take a voxel
    assert places[0][high].mean() < places[0][low].mean() - 10
    area_mm2 = 4.0 * aorta[:, :, (np.abs(places[2][0, 0] - 160)).argmin()].sum()
    assert abs(area_mm2 - np.pi * 12**2) < 40


def test_the_vein_lies_to_the_right_of_the_aorta():
    tissue, places = painted(PLAIN, column())
    vein = (tissue == Tissue.VEIN).numpy()
    aorta = (tissue == Tissue.ARTERY).numpy()
    here = np.abs(places[2] - 154) < 3
    assert places[0][vein & here].min() > places[0][aorta & here].max() - 2


def test_without_vessels_or_without_a_spine_nothing_changes():
    assert (painted(Vessels(), column())[0] == Tissue.MUSCLE).all()
    assert Front.of(tiny_anatomy()) is None
    assert (painted(PLAIN, tiny_anatomy())[0] == Tissue.MUSCLE).all()


def test_most_samples_have_vessels_and_a_seed_has_its_own():
    drawn = [draw_vessels(np.random.default_rng(seed)) for seed in range(200)]
    assert 0.7 < np.mean([v.aorta_mm > 0 for v in drawn]) < 0.9
    assert draw_vessels(np.random.default_rng(3)) == drawn[3]
