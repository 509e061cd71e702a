"""Figures of overlap and of borders, worked out by hand or by brute force."""

import numpy as np
import pytest
from scipy import ndimage

from petbone.metrics import border, count_farther, dice, overlaps, surface_dice

SPACING_MM = (0.7, 1.1, 2.5)


def cube(
    start: tuple[int, int, int], edge: int = 6, shape: tuple[int, int, int] = (24, 22, 20)
) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(s, s + edge) for s in start)] = True
    return mask


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Two ragged masks that partly overlap and touch the ends of the array."""
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 30, 26, 18)), (0, 2, 2, 1))
    return smooth[0] > 0.05, smooth[0] + 0.5 * smooth[1] > 0.06


@pytest.mark.parametrize("k", range(7))
def test_dice_of_shifted_cubes(k):
    # Edge 6, shifted by k along one axis: 6 - k of 6 layers are shared.
    assert dice(cube((5, 5, 5)), cube((5 + k, 5, 5))) == pytest.approx((6 - k) / 6)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("slack_mm", [-0.01, 0.0, 0.01])
def test_surface_dice_of_shifted_cubes(axis, k, slack_mm):
    """Edge n = 6, shift k along one axis, tolerance about k voxels of that axis.

    At a tolerance of the shift every border voxel of one cube has its own copy in the other within reach; a
    little below it, those of the face left behind are k layers away from the other cube and have nothing.
    """
    first, second = cube((5, 5, 5)), cube(tuple(5 + k * (a == axis) for a in range(3)))
    spacing = np.array(SPACING_MM)
    tolerance = float(k * spacing[axis] + slack_mm)
    got = surface_dice(first, second, spacing, tolerance)
    if slack_mm >= 0:
        assert got == 1.0
        return
    assert got == pytest.approx(brute_force(first, second, spacing, tolerance))
    assert got < 1.0


def test_a_face_out_of_reach_counts_by_its_voxels():
    """Spacing 1 mm, edge 6, shift 2, tolerance 1 mm, all by hand.

    Each border has 6^3 - 4^3 = 152 voxels. The shared layers are 2 to 5 of the first cube. In its layer 0 the
    nearest voxel of the other border is 2 layers away: 36 misses. In layer 1 the rim of 20 voxels is 1 mm
    from the rim of the other cube's first face: hits. Layers 2 to 4: rims coincide, hits. Layer 5: a full
    face of 36; its rim of 20 coincides with the other's rim, the next ring of 12 is 1 mm from that rim, and
    the inner 2 x 2 is 2 mm from it and from the other's faces: 4 misses. So 40 of 152 miss, in both cubes by
    symmetry.
    """
    got = surface_dice(cube((5, 5, 5)), cube((7, 5, 5)), (1, 1, 1), 1.0)
    assert got == pytest.approx((152 - 40) / 152)


@pytest.mark.parametrize(
    ("one", "two", "spacing_mm", "tolerance_mm", "expected"),
    [
        pytest.param([(50, 70)], [(50, 72)], (2, 1), 1.0, 0.0, id="pixels 2 mm apart, tolerance 1"),
        pytest.param([(50, 70)], [(50, 72)], (2, 1), 2.0, 1.0, id="pixels 2 mm apart, tolerance 2"),
        pytest.param([(50, 70)], [(51, 70)], (2, 1), 1.9, 0.0, id="one row of 2 mm apart"),
        pytest.param([(0, 0), (9, 9)], [(0, 0)], (1, 1), 1.0, 2 / 3, id="one of two found"),
    ],
)
def test_surface_dice_of_pixels(one, two, spacing_mm, tolerance_mm, expected):
    masks = np.zeros((2, 128, 128), bool)
    for mask, points in zip(masks, (one, two), strict=True):
        for point in points:
            mask[point] = True
    assert surface_dice(*masks, spacing_mm, tolerance_mm) == pytest.approx(expected)


def test_surface_dice_of_the_published_figure():
    """MetricsReloaded, figure 10: a square of 5 x 5 and the same with spikes; 0.89 at 1 pixel, 1.0 at 2."""
    reference = np.zeros((11, 11), bool)
    reference[3:8, 3:8] = True
    spiked = reference.copy()
    spiked[5, 1:10] = spiked[1:10, 5] = True
    assert round(surface_dice(reference, spiked, (1, 1), 1.0), 2) == 0.89
    assert surface_dice(reference, spiked, (1, 1), 2.0) == 1.0
    assert round(dice(reference, spiked), 3) == 0.862


def brute_force(one: np.ndarray, two: np.ndarray, spacing: np.ndarray, tolerance: float) -> float:
    """The same figure by distance maps of the whole array."""
    borders = []
    for mask in (one, two):
        padded = np.pad(mask, 1)
        inner = np.ones_like(mask)
        for axis in range(3):
            for step in (-1, 1):
                inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        borders.append(mask & ~inner)
    reach = [ndimage.distance_transform_edt(~b, sampling=spacing) <= tolerance + 1e-9 for b in borders]
    hits = (borders[0] & reach[1]).sum() + (borders[1] & reach[0]).sum()
    return float(hits / (borders[0].sum() + borders[1].sum()))


@pytest.mark.parametrize("tolerance_mm", [0.0, 0.7, 1.2, 2.0, 4.0])
def test_surface_dice_is_that_of_distance_maps(blobs, tolerance_mm):
    expected = brute_force(*blobs, np.array(SPACING_MM), tolerance_mm)
    assert surface_dice(*blobs, SPACING_MM, tolerance_mm) == pytest.approx(expected, abs=1e-12)


def test_identity_symmetry_and_order(blobs):
    one, two = blobs
    assert dice(one, one) == surface_dice(one, one, SPACING_MM, 0.0) == 1.0
    assert dice(one, two) == dice(two, one)
    assert surface_dice(one, two, SPACING_MM, 1.0) == surface_dice(two, one, SPACING_MM, 1.0)
    rising = [surface_dice(one, two, SPACING_MM, mm) for mm in (0, 1, 2, 4)]
    assert rising == sorted(rising)
    turned = [mask.transpose(2, 0, 1)[::-1] for mask in blobs]
    spacing = tuple(SPACING_MM[a] for a in (2, 0, 1))
    assert surface_dice(*turned, spacing, 1.2) == surface_dice(one, two, SPACING_MM, 1.2)


def test_empty_masks():
    full, empty = cube((5, 5, 5)), np.zeros((24, 22, 20), bool)
    assert np.isnan(dice(empty, empty))
    assert np.isnan(surface_dice(empty, empty, SPACING_MM, 2.0))
    assert dice(full, empty) == dice(empty, full) == 0.0
    assert surface_dice(full, empty, SPACING_MM, 99.0) == surface_dice(empty, full, SPACING_MM, 99.0) == 0.0
    assert border(empty).shape == (0, 3)


def test_border_is_closed_at_the_end_of_the_array():
    whole = np.ones((4, 4, 4), bool)
    assert len(border(whole)) == 64 - 8
    assert len(border(cube((5, 5, 5)))) == 152
    corner = cube((0, 0, 0))
    assert len(border(corner)) == 152
    assert border(cube((5, 6, 7))).min(axis=0).tolist() == [5, 6, 7]


def test_voxels_farther_than_a_distance():
    # A bar of 12 voxels along the axis of 2.5 mm, three of them inside the cube, which ends at 10.
    reference, bar = cube((5, 5, 5)), np.zeros((24, 22, 20), bool)
    bar[7, 7, 8:20] = True
    assert count_farther(bar, reference, SPACING_MM, 2.0) == 9
    assert count_farther(bar, reference, SPACING_MM, 2.5) == 8
    assert count_farther(bar, reference, SPACING_MM, 5.0) == 7
    assert count_farther(bar, np.zeros_like(bar), SPACING_MM, 5.0) == 12
    assert count_farther(np.zeros_like(bar), reference, SPACING_MM, 5.0) == 0


def test_voxels_farther_than_a_distance_are_those_of_a_distance_map(blobs):
    one, two = blobs
    map_mm = ndimage.distance_transform_edt(~two, sampling=SPACING_MM)
    assert count_farther(one, two, SPACING_MM, 1.5) == (one & (map_mm > 1.5)).sum() > 0


@pytest.mark.parametrize("order", ["C", "F"])
def test_overlaps_count_every_pair_of_labels(order):
    rng = np.random.default_rng(3)
    reference, found = (np.array(rng.integers(0, 4, (9, 8, 7)), np.uint8, order=order) for _ in range(2))
    counts = overlaps(reference, found)
    for a, b in np.ndindex(4, 4):
        expected = ((reference == a) & (found == b)).sum() if a or b else 0
        assert counts[a, b] == expected
    assert counts[4:].sum() == counts[:, 4:].sum() == 0


def test_refusals():
    one = np.ones((3, 3, 3), bool)
    other = np.ones((3, 3, 4), bool)
    for compare in (dice, overlaps):
        with pytest.raises(ValueError, match="got shapes"):
            compare(one, other)
    for compare in (surface_dice, count_farther):
        with pytest.raises(ValueError, match="got shapes"):
            compare(one, other, SPACING_MM, 1.0)
        with pytest.raises(ValueError, match="positive spacings"):
            compare(one, one, (1.0, 0.0, 1.0), 1.0)
        with pytest.raises(ValueError, match="positive spacings"):
            compare(one, one, (1.0, 1.0), 1.0)
        with pytest.raises(ValueError, match="0 mm or more"):
            compare(one, one, SPACING_MM, -1.0)
