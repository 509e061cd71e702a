"""Contrast medium is left out, and nothing that is bone."""

from __future__ import annotations

import numpy as np
import pytest

from petbone.net.medium import MediumRule, contrast_medium

VOXEL_ML = 0.064
SHAPE = (40, 40, 40)


def scene(noise: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Muscle, a vessel of 28 mm, and a vertebra of marrow and cortex.

    The net takes the vertebra for bone, and the rim of the vessel on that side.
    """
    x, y, _ = np.meshgrid(*[np.arange(n) - 20.0 for n in SHAPE], indexing="ij")
    vessel = np.hypot(x + 5, y) * 4
    vertebra = np.hypot(x - 6, y) * 4
    hu = np.full(SHAPE, 55.0)
    hu[vessel < 14] = 380
    hu[vertebra < 20] = 160
    hu[(vertebra < 20) & (vertebra > 14)] = 600
    hu += np.random.default_rng(0).normal(0, noise, SHAPE)
    bone = np.where(vertebra < 20, 0.95, 0.01)
    bone[(vessel < 14) & (x > -4)] = 0.8
    return hu.astype(np.float32), bone.astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 15.0])
def test_a_vessel_whose_rim_is_taken_for_bone_is_found_whole(noise):
    hu, bone = scene(noise)
    found = contrast_medium(hu, bone, VOXEL_ML, MediumRule())
    x, y, _ = np.meshgrid(*[np.arange(n) - 20.0 for n in SHAPE], indexing="ij")
    assert found[np.hypot(x + 5, y) * 4 < 13].mean() > 0.95
    assert not found[np.hypot(x - 6, y) * 4 < 20].any()
    assert found[hu < 200].mean() < 0.001


def test_an_even_dense_lesion_in_bone_stays():
    """Sclerosis of 20 mL as even as blood: the net takes it for bone, as it lies in one."""
    hu, bone = scene(0.0)
    x, y, z = np.meshgrid(*[np.arange(n) - 20.0 for n in SHAPE], indexing="ij")
    lesion = np.hypot(np.hypot(x - 6, y), z) * 4 < 17
    hu[lesion] = 500
    assert lesion.sum() * VOXEL_ML > MediumRule().least_ml
    assert not contrast_medium(hu, bone, VOXEL_ML, MediumRule())[lesion].any()


@pytest.mark.parametrize("change", ["no medium", "noisy", "small"])
def test_nothing_is_found_where_there_is_nothing(change):
    hu, bone = scene(80.0 if change == "noisy" else 8.0)
    if change == "no medium":
        hu = np.where((hu > 300) & (bone < 0.9), 55, hu).astype(np.float32)
    if change == "small":
        hu[:, :, 6:] = np.where(bone[:, :, 6:] < 0.9, 55, hu[:, :, 6:])
    assert not contrast_medium(hu, bone, VOXEL_ML, MediumRule()).any()
