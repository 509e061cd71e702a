"""Two foci in one bone are two hotspots: by the depth of the saddle, exactly, and without losing a voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from petbone.foci import parted
from petbone.hotspots import HotspotRule, find_hotspots
from petbone.resample import Occupancy
from petbone.volume import Grid, Unit, Volume

CUBE = np.ones((3, 3, 3))


def line(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def one(suv: np.ndarray) -> np.ndarray:
    return np.ones(suv.shape, np.int32)


@pytest.mark.parametrize(
    ("saddle", "split", "foci"),
    [
        (12.0, 0.25, 1),
        (11.24, 0.25, 2),
        (11.26, 0.25, 1),
        (12.0, 0.2, 2),
        (12.01, 0.2, 1),
        (12.0, 0.19, 2),
        (15.0, 0.01, 1),
    ],
)
def test_depth_of_the_saddle_decides(saddle: float, split: float, foci: int) -> None:
    """Peaks of 20 and 15: a saddle of 12 lies 20 % below the lower one."""
    suv = line(10, 20, saddle, 15, 11)
    assert parted(one(suv), suv, split, 26).max() == foci


def test_hotter_neighbour_does_not_need_a_saddle_below_itself() -> None:
    """Prominence is that of the lower peak: 30 and 10 with a saddle of 9.5 are one at a tenth."""
    suv = line(30, 9.5, 10, 8)
    assert parted(one(suv), suv, 0.1, 26).max() == 1
    assert parted(one(suv), suv, 0.04, 26).max() == 2


def scene(seed: int = 0) -> np.ndarray:
    """Four foci on a background with a little noise."""
    at = np.indices((30, 24, 26)).astype(float)
    suv = np.full(at.shape[1:], 2.0)
    for centre, height in (((8, 8, 8), 20), ((8, 16, 8), 14), ((20, 10, 18), 25), ((21, 19, 18), 12)):
        away = sum((a - c) ** 2 for a, c in zip(at, centre, strict=True))
        suv += height * np.exp(-away / 2 / 2.4**2)
    return (suv + np.random.default_rng(seed).normal(0, 0.1, suv.shape)).astype(np.float32)


def components(suv: np.ndarray, threshold: float) -> np.ndarray:
    return np.asarray(ndimage.label(suv >= threshold, CUBE)[0], np.int32)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_every_voxel_stays_and_every_focus_is_connected(connectivity: int) -> None:
    suv = scene()
    whole = components(suv, 5)
    assert whole.max() == 2
    parts = parted(whole, suv, 0.2, connectivity)
    assert parts.max() == 4
    assert np.array_equal(parts > 0, whole > 0)
    for number in range(1, 5):
        inside = parts == number
        assert ndimage.label(inside, CUBE)[1] == 1
        assert len(np.unique(whole[inside])) == 1
    # Every focus holds one of the four centres.
    assert len({int(parts[c]) for c in ((8, 8, 8), (8, 16, 8), (20, 10, 18), (21, 19, 18))}) == 4


def test_flips_and_scale_do_not_matter() -> None:
    suv = scene()
    parts = parted(components(suv, 5), suv, 0.2, 26)
    flipped = parted(components(suv[::-1, :, ::-1], 5), suv[::-1, :, ::-1], 0.2, 26)[::-1, :, ::-1]
    scaled = parted(components(suv, 5), suv * 3, 0.2, 26)
    for other in (flipped, scaled):
        same = {(int(a), int(b)) for a, b in zip(parts[parts > 0], other[parts > 0], strict=True)}
        assert len(same) == parts.max()


def test_two_foci_of_one_bone_are_two_rows() -> None:
    suv = scene()
    grid = Grid(suv.shape, np.diag([4.0, 4, 4, 1]))
    voxel = np.arange(suv.size)
    bones = Occupancy(grid, np.full(suv.size, 5, np.uint8), voxel, np.ones(suv.size))
    image = Volume(suv, grid, Unit.SUV)
    together = find_hotspots(image, bones, HotspotRule("one", 5.0)).data
    apart = find_hotspots(image, bones, HotspotRule("two", 5.0, split=0.2)).data
    assert (together.max(), apart.max()) == (2, 4)
    assert np.array_equal(together > 0, apart > 0)
    highest = [suv[apart == n].max() for n in range(1, 5)]
    assert highest == sorted(highest, reverse=True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"split": 1.0}, "split must be"),
        ({"split": -0.1}, "split must be"),
        ({"threshold": 0.0}, "split needs"),
    ],
)
def test_rules_that_cannot_be(fields: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HotspotRule("x", **({"threshold": 5.0, "split": 0.2} | fields))  # type: ignore[arg-type]
