"""Tiles hold all of a mask, within their limits, for no more than one box round it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petbone.errors import InputError
from petbone.net.tiling import Places, TileRule, tiles_round

RULE = TileRule(core=24, margin=3, least=12, price=500, multiple=4)


def same_grid(mask: np.ndarray) -> list[Places]:
    """A net's grid that is the mask's own."""
    return [Places(np.arange(n), np.arange(n) + 1) for n in mask.shape]


def voxels(tiles) -> int:
    return sum(int(np.prod([s.stop - s.start for s in tile.shown])) for tile in tiles)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 60)] * 3), st.sampled_from([0.0, 0.0005, 0.01, 0.5]))
def test_cores_hold_the_mask_and_what_is_shown_holds_them(seed, shape, share):
    mask = np.random.default_rng(seed).random(shape) < share
    left = mask.copy()
    tiles = tiles_round(mask, same_grid(mask), RULE)
    for tile in tiles:
        left[tile.core] = False
        for core, shown, size in zip(tile.core, tile.shown, shape, strict=True):
            assert 0 <= core.start < core.stop <= size
            assert core.stop - core.start <= RULE.core
            assert core.start - shown.start >= RULE.margin
            assert shown.stop - core.stop >= RULE.margin
            assert (shown.stop - shown.start) % RULE.multiple == 0
            assert shown.stop - shown.start >= RULE.least
    assert not left.any()
    assert bool(tiles) == bool(mask.any())


def test_two_plates_are_not_boxed_together():
    mask = np.zeros((90, 90, 90), bool)
    mask[:6] = mask[:, :6] = True
    rule = TileRule(core=96, margin=3, least=12, price=500, multiple=4)
    assert voxels(tiles_round(mask, same_grid(mask), rule)) < 0.4 * 96**3


def test_a_full_box_is_left_whole():
    mask = np.ones((20, 20, 20), bool)
    (tile,) = tiles_round(mask, same_grid(mask), RULE)
    assert tile.core == (slice(0, 20),) * 3


def test_a_coarser_mask_takes_the_voxels_of_its_places():
    mask = np.zeros((4, 4, 4), bool)
    mask[2, 1, 3] = True
    two = Places(2 * np.arange(4), 2 * np.arange(4) + 3)
    (tile,) = tiles_round(mask, [two] * 3, RULE)
    assert tile.core == (slice(4, 7), slice(2, 5), slice(6, 9))


@pytest.mark.parametrize("wrong", [{"core": 0}, {"margin": -1}, {"least": 0}, {"price": -1}, {"multiple": 0}])
def test_refusals(wrong):
    with pytest.raises(InputError, match="tiles of core"):
        TileRule(**wrong)
