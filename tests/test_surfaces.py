"""Both definitions of a border against published figures, closed forms and all pairs of points."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.borders import cell_area, figures
from petbone.metrics import Ruler, compare_labels, mean_of
from petbone.surfaces import DEFINITIONS, Directed, cell_areas

NAN = float("nan")
FIGURES = ("hausdorff_mm", "hd95_mm", "assd_mm", "masd_mm", "surface_dice")


def painted(shape, *boxes) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    for box in boxes:
        mask[box] = 1
    return mask


def likeness(one, two, spacing, tolerance=1.0, border="surface elements"):
    return compare_labels(one, two, Ruler(tuple(map(float, spacing)), tolerance, border), [1])[1]


def check(found, expected: dict) -> None:
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-3, nan_ok=True), name


S = np.s_
PIXELS = painted((128, 128), S[50, 70]), painted((128, 128), S[50, 72])
SQUARES = painted((6, 6), S[1:3, 1:3]), painted((6, 6), S[1:4, 1:3])
VOXELS = painted((128,) * 3, S[50, 60, 70]), painted((128,) * 3, S[50, 60, 72])
CUBES = painted((100,) * 3, S[:50]), painted((100,) * 3, S[:51])


@pytest.mark.parametrize(
    ("masks", "spacing", "means", "expected"),
    [
        pytest.param(PIXELS, (2, 1), (1.5, 1.5), {"surface_dice": 0.5, "dice": 0}, id="pixels"),
        pytest.param(
            SQUARES, (2, 1), (0.0954915, 0.4472136), {"surface_dice": 0.8702681, "dice": 0.8}, id="squares"
        ),
        pytest.param(VOXELS, (3, 2, 1), (1.5, 1.5), {"surface_dice": 0.5, "dice": 0}, id="voxels"),
        pytest.param(CUBES, (2, 1, 1), (0.322, 0.339), {"surface_dice": 0.836, "dice": 0.990}, id="cubes"),
    ],
)
def test_cases_of_surface_distance(masks, spacing, means, expected):
    """The tests of DeepMind's surface-distance; HD and HD95 are 2 mm in all of them."""
    found = likeness(*masks, spacing)
    check(found, {"one_to_two_mm": means[0], "two_to_one_mm": means[1], "masd_mm": sum(means) / 2})
    if masks is not CUBES:
        check(found, {"hd95_mm": 2.0})
    check(found, {"hausdorff_mm": 2.0, **expected})


def test_of_pixels_the_line_is_half_a_diagonal_at_every_corner():
    assert cell_areas(np.array([2.0, 1.0]))[[1, 2, 4, 8, 7]] == pytest.approx(0.5 * np.sqrt(5))


FIG10 = painted((11, 11), S[3:8, 3:8]), painted((11, 11), S[3:8, 3:8], S[5, 1:10], S[1:10, 5])
FOUR = painted((14, 14), S[5:9, 5:9])
STRAY = painted((14, 14), S[1, 1], S[9:12, 9:12]), painted((14, 14), S[9:12, 9:12])


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        pytest.param(
            FIG10,
            {"dice": 0.862, "hausdorff_mm": 2, "assd_mm": 0.444, "masd_mm": 0.425, "surface_dice": 0.889},
            id="figure 10",
        ),
        pytest.param(
            (FOUR, painted((14, 14), S[6:8, 6:8])),
            {"hausdorff_mm": 1.41, "masd_mm": 1.07, "assd_mm": 1.10, "surface_dice": 0.75},
            id="SN2.10 under",
        ),
        pytest.param(
            (FOUR, painted((14, 14), S[4:10, 4:10])),
            {"hausdorff_mm": 1.41, "masd_mm": 1.04, "assd_mm": 1.05, "surface_dice": 0.875},
            id="SN2.10 over",
        ),
        pytest.param(STRAY, {"hausdorff_mm": 11.31, "hd95_mm": 6.79}, id="figure 5c"),
    ],
)
def test_cases_of_metrics_reloaded(masks, expected):
    """Figures are printed with few digits: they are met when rounded to those."""
    found = likeness(*masks, (1, 1), border="boundary voxels")
    for name, value in expected.items():
        places = len(str(value).partition(".")[2])
        assert round(getattr(found, name), places) == value, name


def test_figure_10_at_two_pixels():
    assert likeness(*FIG10, (1, 1), 2.0, "boundary voxels").surface_dice == 1.0


OVER = np.array([[0, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]], np.uint8)
INNER = painted((4, 4), S[1:3, 1:3])
APART = np.array([[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 0], [0, 1, 0, 0]], np.uint8)


@pytest.mark.parametrize(
    ("reference", "found", "relative", "expected"),
    [
        pytest.param(INNER, OVER, 1.5, {"dice": 4 / 7, "assd": 0.625, "hausdorff_mm": 1}, id="over"),
        pytest.param(OVER, INNER, -0.6, {"dice": 4 / 7, "assd": 0.625, "hausdorff_mm": 1}, id="under"),
        pytest.param(1 - APART, APART, -0.4, {"dice": 0, "assd": 1.05}, id="no overlap"),
        pytest.param(
            painted((50, 50), S[20:40, 10:20]),
            painted((50, 50), S[20:35, 10:20]),
            -0.25,
            {"dice": 0.857143, "hausdorff_mm": 5, "hd95_mm": 5},
            id="instance",
        ),
    ],
)
def test_cases_of_panoptica(reference, found, relative, expected):
    """What it calls ASSD is the mean of both directed means; its RVD is the difference by the reference."""
    got = likeness(reference, found, (1, 1), border="boundary voxels")
    assert got.difference_ml / got.volume_one_ml == pytest.approx(relative)
    expected = dict(expected)
    if "assd" in expected:
        expected["masd_mm"] = expected.pop("assd")
    check(got, expected)


def test_distances_of_panoptica_scale_with_the_spacing():
    got = likeness(1 - APART, APART, (20, 20), border="boundary voxels")
    assert got.masd_mm == pytest.approx(21.0)


@pytest.mark.parametrize("shift_mm", [0, 1, 2, 5, 10, 20, 40])
def test_dice_of_shifted_spheres(shift_mm):
    """Radius r, shift d: the lens is pi (4 r + d) (2 r - d)^2 / 12; a grid of 0.5 mm."""
    r, d, step = 20.0, float(shift_mm), 0.5
    axes = [np.arange(-21, end + 21, step) + 0.17 for end in (d, 0, 0)]
    x, y, z = np.ix_(*axes)
    one, two = (((x - at) ** 2 + y**2 + z**2 <= r * r).astype(np.uint8) for at in (0, d))
    found = likeness(one, two, (step,) * 3)
    assert found.dice == pytest.approx((4 * r + d) * (2 * r - d) ** 2 / (16 * r**3), abs=1e-3)
    assert found.hausdorff_mm == pytest.approx(d, abs=step)
    assert found.volume_one_ml == pytest.approx(4 / 3 * np.pi * r**3 / 1000, rel=1e-3)


@pytest.mark.parametrize("border", DEFINITIONS)
def test_empty_masks(border):
    full, empty = VOXELS[0], np.zeros_like(VOXELS[0])
    distances = dict.fromkeys((*FIGURES[:4], "one_to_two_mm", "two_to_one_mm"), NAN)
    nothing = likeness(empty, empty, (3, 2, 1), border=border)
    check(
        nothing,
        {**distances, "dice": NAN, "surface_dice": NAN, "difference_percent": NAN, "difference_ml": 0},
    )
    for pair, sign in (((full, empty), -1), ((empty, full), 1)):
        missed = likeness(*pair, (3, 2, 1), border=border)
        expected = {"dice": 0, "surface_dice": 0, "difference_percent": 200, "difference_ml": sign * 0.006}
        check(missed, {**distances, **expected})


def test_volumes_by_hand():
    """6 and 10 voxels of 0.5 mL: 3 and 5 mL, 2 mL apart, 50 % of their mean of 4 mL."""
    found = likeness(painted((10, 2, 2), S[:6, 0, 0]), painted((10, 2, 2), S[:, 0, 0]), (10, 10, 5))
    check(found, {"volume_one_ml": 3, "volume_two_ml": 5, "difference_ml": 2, "difference_percent": 50})


def test_means_leave_out_what_has_no_value():
    assert mean_of([1.0, NAN, 3.0]) == (2.0, 2)
    mean, n = mean_of([NAN])
    assert np.isnan(mean)
    assert n == 0


@pytest.mark.parametrize(("count", "weight"), [(20, 1.0), (60, 0.7), (80, 0.9), (120, 0.9)])
def test_a_percentile_that_is_reached_exactly(count, weight):
    """0 to count - 1 mm, 19 of 20 elements are 95 %, though sums of 0.7 and 0.9 are rounded to less."""
    mm = np.random.default_rng(1).permutation(count).astype(float)
    reached = count * 19 // 20 - 1
    assert Directed(mm, np.full(count, weight), "surface elements").percentile_mm(95) == reached
    assert Directed(mm, np.ones(count), "boundary voxels").percentile_mm(95) == pytest.approx(
        0.95 * (count - 1)
    )


def test_a_percentile_goes_by_area_and_not_by_count():
    near_and_far = np.array([7.0, 1.0])
    assert Directed(near_and_far, np.array([5.05, 94.95]), "surface elements").percentile_mm(95) == 7
    assert Directed(near_and_far, np.array([4.95, 95.05]), "surface elements").percentile_mm(95) == 1


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 2, 5), (0.7, 1.1, 2.5), (4, 0.3, 0.9)])
def test_area_of_every_cell(spacing):
    spacing = np.array(spacing, float)
    areas = cell_areas(spacing)
    assert areas[0] == areas[255] == 0
    for code in range(1, 255):
        cell = np.array([code >> bit & 1 for bit in range(8)], bool).reshape(2, 2, 2).T
        assert areas[code] == pytest.approx(cell_area(cell, spacing), rel=1e-12), code


def test_area_of_a_box():
    """Its faces are whole, its edges and corners bevelled by half a voxel."""
    found = cell_areas(np.array([1.0, 1.0, 1.0]))
    flat, edge, corner = found[0b01010101], found[0b00010001], found[1]
    assert (flat, edge, corner) == pytest.approx((1, np.sqrt(2) / 2, np.sqrt(3) / 8))


masks = st.tuples(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1), st.integers(1, 3)
)
spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)
borders = st.sampled_from(DEFINITIONS)


def maps(drawn) -> tuple[np.ndarray, np.ndarray]:
    """Two maps of a few labels on one small grid, each label in many pieces, some missing."""
    *shape, seed, labels = drawn
    one, two = np.random.default_rng(seed).integers(0, labels + 2, (2, *shape)).astype(np.uint8)
    return one % (labels + 1), two % (labels + 1)


def as_rows(found) -> dict:
    return {label: np.array(list(vars(row).values())) for label, row in found.items()}


def same(first, second) -> None:
    first, second = as_rows(first), as_rows(second)
    assert first.keys() == second.keys()
    for label, row in first.items():
        np.testing.assert_allclose(row, second[label], rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(masks, spacings, borders, st.floats(0, 5))
def test_all_labels_are_those_of_all_pairs_of_points(drawn, spacing, border, tolerance):
    one, two = maps(drawn)
    found = compare_labels(one, two, Ruler(spacing, tolerance, border))
    assert sorted(found) == [n for n in range(1, 5) if (one == n).any() or (two == n).any()]
    for label, row in found.items():
        a, b = one == label, two == label
        if a.any() and b.any():
            for name, value in figures(a, b, np.array(spacing), border, tolerance).items():
                assert getattr(row, name) == pytest.approx(value, rel=1e-7, abs=1e-9), name
        assert (row.dice == 1) == np.array_equal(a, b)


@settings(deadline=None, max_examples=40)
@given(masks, spacings, borders, st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_symmetry_place_and_orientation(drawn, spacing, border, order, turned):
    one, two = maps(drawn)
    ruler = Ruler(spacing, 1.0, border)
    found = compare_labels(one, two, ruler)
    back = compare_labels(two, one, ruler)
    swapped = {"volume_one_ml": "volume_two_ml", "one_to_two_mm": "two_to_one_mm"}
    for label, row in found.items():
        other = back[label]
        for name in (*FIGURES, "dice", "difference_percent"):
            assert getattr(row, name) == pytest.approx(getattr(other, name), nan_ok=True), name
        for name, partner in swapped.items():
            assert getattr(row, name) == pytest.approx(getattr(other, partner), nan_ok=True)
        assert row.difference_ml == -other.difference_ml
    same(found, compare_labels(*(np.pad(m, ((2, 0), (1, 3), (0, 1))) for m in (one, two)), ruler))
    flips = tuple(slice(None, None, -1 if turn else 1) for turn in turned)
    moved = [m.transpose(order)[flips] for m in (one, two)]
    same(found, compare_labels(*moved, Ruler(tuple(spacing[a] for a in order), 1.0, border)))
    same(found, compare_labels(*(np.asfortranarray(m) for m in (one, two)), ruler))


@settings(deadline=None, max_examples=30)
@given(masks, spacings, borders, st.sampled_from([0.5, 2.0, 4.0]))
def test_distances_scale_with_the_spacing(drawn, spacing, border, factor):
    one, two = maps(drawn)
    found = compare_labels(one, two, Ruler(spacing, 1.0, border))
    scaled = compare_labels(one, two, Ruler(tuple(s * factor for s in spacing), factor, border))
    for label, row in found.items():
        for name, value in vars(row).items():
            power = 1 if name.endswith("_mm") else 3 if name.endswith("_ml") else 0
            assert getattr(scaled[label], name) == pytest.approx(value * factor**power, nan_ok=True), name


def test_labels_that_are_asked_for_and_one_that_is_nowhere():
    one = np.arange(27).reshape(3, 3, 3) % 4
    found = compare_labels(one, one, Ruler((1.0, 1.0, 1.0), 0.0), [3, 9])
    assert list(found) == [3, 9]
    assert found[3].dice == found[3].surface_dice == 1
    assert found[3].hausdorff_mm == found[3].assd_mm == 0
    assert np.isnan(found[9].dice)
    assert found[9].volume_one_ml == 0


def test_a_map_of_yes_and_no_and_wide_numbers():
    one = np.zeros((4, 4, 4), bool)
    one[1:3, 1:3, 1:3] = True
    ruler = Ruler((1.0, 1.0, 1.0), 0.0)
    same(compare_labels(one, one, ruler), compare_labels(one.astype(np.int64), one.astype(np.uint16), ruler))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (((1.0, 0.0, 1.0), 1.0), "positive spacings"),
        (((1.0, float("inf"), 1.0), 1.0), "positive spacings"),
        (((1.0, 1.0, 1.0), -1.0), "0 mm or more"),
        (((1.0, 1.0, 1.0), 1.0, "edges"), "a border is one of"),
    ],
)
def test_rulers_that_are_refused(arguments, line):
    with pytest.raises(ValueError, match=line):
        Ruler(*arguments)


def test_maps_that_are_refused():
    ruler, good = Ruler((1.0, 1.0, 1.0), 1.0), np.ones((3, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="got shapes"):
        compare_labels(good, good[1:], ruler)
    with pytest.raises(ValueError, match="does not fit a grid"):
        compare_labels(good[0], good[0], ruler)
    with pytest.raises(ValueError, match="count from 1"):
        compare_labels(good, good, ruler, [1, 0])
    for bad in (good.astype(float), -good.astype(int)):
        for pair in itertools.permutations((good, bad)):
            with pytest.raises(ValueError, match="whole numbers"):
                compare_labels(*pair, ruler)
