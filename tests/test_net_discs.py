"""Discs between vertebral bodies, on columns of which every voxel is known."""

from __future__ import annotations

import numpy as np
import pytest

from petbone.anatomy import BY_NAME
from petbone.net.border import FINE_STEPS, NOT_BONE, FineGuide
from petbone.net.discs import DiscRule, find_disc, part_at_discs

T8, T9, T10, L5, L6 = (BY_NAME[name].id for name in ("T8", "T9", "T10", "L5", "L6"))
FINE_MM = 2.0
SIZE_MM = (60.0, 80.0, 90.0)
DISC_MM, PLATE_MM = 45.0, 1.5
LEVEL = (np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]))
KINDS = {"dark disc": (220.0, 60.0, 4.0), "bright disc": (90.0, 140.0, 2.5)}


def axes_mm(spacing_mm):
    counts = [round(size / step) for size, step in zip(SIZE_MM, spacing_mm, strict=True)]
    axes = [np.arange(n) * step for n, step in zip(counts, spacing_mm, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


def column(spacing_mm, marrow_hu=220.0, disc_hu=60.0, half_mm=4.0, plate_hu=420.0, slope=0.0):
    """HU and truth (1 above, 2 below, 0 no bone) of two bodies and, behind them, a bar of both arches."""
    x, y, z = axes_mm(spacing_mm)
    body = np.hypot(x - 30, y - 50) < 16
    arch = (np.abs(x - 30) < 10) & (np.abs(y - 16) < 16)
    height = (z - DISC_MM - slope * (x - 30)) / np.sqrt(1 + slope**2)
    plate = np.abs(np.abs(height) - half_mm) < PLATE_MM
    hu = np.full(x.shape, 40.0)
    hu[arch] = 300
    hu[body] = np.where(plate, plate_hu, np.where(np.abs(height) < half_mm, disc_hu, marrow_hu))[body]
    truth = np.where(height > 0, 1, 2) * (arch | (body & (np.abs(height) > half_mm - PLATE_MM)))
    return hu.astype(np.float32), truth, body


def named(upper, lower, off_mm):
    """What a fine net may say: all is bone, and the border of the names lies `off_mm` too high."""
    step = (FINE_MM,) * 3
    x, y, z = axes_mm(step)
    bone = (np.hypot(x - 30, y - 50) < 16) | ((np.abs(x - 30) < 10) & (np.abs(y - 16) < 16))
    labels = np.where(z > DISC_MM + off_mm, upper, lower) * bone
    return np.where(bone, 3 * FINE_STEPS, NOT_BONE).astype(np.int8), labels.astype(np.uint8)


def guide(spacing_mm, upper=T8, lower=T9, off_mm=7.0):
    logit, labels = named(upper, lower, off_mm)
    return FineGuide(logit, labels, np.array(spacing_mm) / FINE_MM, np.zeros(3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.7, 2.5), (1.5, 1.0, 1.5)])
@pytest.mark.parametrize("off_mm", [-7.0, 0.0, 7.0])
def test_bodies_are_parted_where_the_disc_is(kind, spacing_mm, off_mm):
    marrow_hu, disc_hu, half_mm = KINDS[kind]
    hu, _, _ = column(spacing_mm, marrow_hu, disc_hu, half_mm)
    fine = guide(spacing_mm, off_mm=off_mm)
    parted = part_at_discs(hu, np.array(spacing_mm), fine, DiscRule())
    _, y, z = axes_mm((FINE_MM,) * 3)
    body = (fine.labels > 0) & (y > 34)
    far = body & (np.abs(z - DISC_MM) > 2.0)
    assert np.array_equal(parted.labels[far], np.where(z > DISC_MM, T8, T9)[far])


def test_the_disc_itself_is_no_bone_and_the_rest_stays():
    spacing_mm = (1.0, 1.0, 1.0)
    hu, _, _ = column(spacing_mm)
    fine = guide(spacing_mm)
    parted = part_at_discs(hu, np.ones(3), fine, DiscRule())
    _, y, z = axes_mm((FINE_MM,) * 3)
    body = (fine.labels > 0) & (y > 34)
    assert (parted.logit[body & (np.abs(z - DISC_MM) < 1.0)] == NOT_BONE).all()
    kept = ~(body & (np.abs(z - DISC_MM) < 4.0))
    assert np.array_equal(parted.logit[kept], fine.logit[kept])
    assert (fine.logit[body] > 0).all()  # what was given is not changed


def test_what_lies_behind_the_bodies_keeps_its_name():
    hu, _, _ = column((1.0, 1.0, 1.0))
    fine = guide((1.0, 1.0, 1.0))
    parted = part_at_discs(hu, np.ones(3), fine, DiscRule())
    behind = axes_mm((FINE_MM,) * 3)[1] < 30
    assert np.array_equal(parted.labels[behind], fine.labels[behind])
    assert np.array_equal(parted.logit[behind], fine.logit[behind])


def test_a_disc_may_slope():
    hu, _, _ = column((1.0, 1.0, 1.0), slope=0.3)
    start = np.array([30.0, 50.0, DISC_MM + 4])
    disc = find_disc(hu, np.ones(3), start, LEVEL, DiscRule())
    assert disc.middle_mm[2] == pytest.approx(DISC_MM, abs=1.0)
    normal = np.array([-0.3, 0, 1]) / np.hypot(0.3, 1)
    assert disc.across @ normal > np.cos(np.radians(4))


def test_end_plates_are_found_where_they_are():
    hu, _, _ = column((1.0, 1.0, 1.0))
    disc = find_disc(hu, np.ones(3), np.array([30.0, 50.0, DISC_MM - 6]), LEVEL, DiscRule())
    assert disc.middle_mm == pytest.approx([30, 50, DISC_MM], abs=1.01)
    assert disc.half_mm == pytest.approx(4.0, abs=1.0)


@pytest.mark.parametrize(
    ("upper", "lower", "change"),
    [(T8, T9, True), (L5, L6, True), (T8, T10, False), (BY_NAME["C6"].id, BY_NAME["C7"].id, False)],
)
def test_neighbours_below_the_neck_alone_are_parted(upper, lower, change):
    hu, _, _ = column((1.0, 1.0, 1.0))
    fine = guide((1.0, 1.0, 1.0), upper, lower)
    parted = part_at_discs(hu, np.ones(3), fine, DiscRule())
    assert (not np.array_equal(parted.labels, fine.labels)) == change


@pytest.mark.parametrize("disc", ["none", "air"])
def test_without_end_plates_nothing_changes(disc):
    hu, _, body = column((1.0, 1.0, 1.0))
    hu[body] = 200.0 if disc == "none" else np.nan
    fine = guide((1.0, 1.0, 1.0))
    parted = part_at_discs(hu, np.ones(3), fine, DiscRule())
    assert np.array_equal(parted.labels, fine.labels)
    assert np.array_equal(parted.logit, fine.logit)


def test_bodies_without_depth_are_left_alone():
    hu, _, _ = column((1.0, 1.0, 1.0))
    fine = guide((1.0, 1.0, 1.0))
    behind = axes_mm((FINE_MM,) * 3)[1] < 30
    few = FineGuide(fine.logit, np.where(behind, fine.labels, 0).astype(np.uint8), fine.scale, fine.offset)
    crumbs = np.zeros_like(fine.labels)
    crumbs[10:12, 20, 30], crumbs[10:12, 20, 20] = T8, T9
    for labels in (few.labels, crumbs, np.zeros_like(crumbs)):
        one = FineGuide(fine.logit, labels, fine.scale, fine.offset)
        parted = part_at_discs(hu, np.ones(3), one, DiscRule(reach=1.0))
        assert np.array_equal(parted.labels, labels)
