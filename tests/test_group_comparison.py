"""Groups compared by their ranks: R's answers, textbook examples, arithmetic, invariants, coverage."""

import itertools
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from petbone.group_comparison import (
    _rank_of_limit,
    adjusted,
    compare_more,
    compare_two,
    is_constant,
    middle,
)

NAN = float("nan")
# Hollander and Wolfe, Nonparametric Statistical Methods, table 4.1: permeability of the human chorioamnion.
TERM = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
EARLY = [1.15, 0.88, 0.90, 0.74, 1.21]
# The same, table 6.1: half-time of mucociliary clearance.
MUCOCILIARY = [[2.9, 3.0, 2.5, 2.6, 3.2], [3.8, 2.7, 4.0, 2.4], [2.8, 3.4, 3.7, 2.2, 2.0]]
# R's datasets.
PLANTS = {
    "ctrl": [4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14],
    "trt1": [4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69],
    "trt2": [6.31, 5.12, 5.54, 5.50, 5.37, 5.29, 4.92, 6.15, 5.80, 5.26],
}
AUTOMATIC = [21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3, 15.2, 10.4, 10.4, 14.7, 21.5, 15.5,
             15.2, 13.3, 19.2]  # fmt: skip
MANUAL = [21, 21, 22.8, 32.4, 30.4, 33.9, 27.3, 26, 30.4, 15.8, 19.7, 15, 21.4]
SPRAYS = [
    [10, 7, 20, 14, 14, 12, 10, 23, 17, 20, 14, 13],
    [11, 17, 21, 11, 16, 14, 17, 17, 19, 21, 7, 13],
    [0, 1, 7, 2, 3, 1, 2, 1, 3, 0, 1, 4],
    [3, 5, 12, 6, 4, 3, 5, 5, 5, 5, 2, 4],
    [3, 5, 3, 5, 3, 6, 1, 1, 3, 2, 6, 4],
    [11, 9, 15, 22, 15, 16, 13, 10, 26, 26, 24, 13],
]
P = [0.01, 0.02, 0.03, 0.04, 0.05, 0.001, 0.9, 0.2]

# What tests/oracles/group_comparison.R prints (R 4.2.2): U, p, shift and its interval; H and p; adjusted p.
TWO = {
    "water": (TERM, EARLY, 35, 0.254412254412, 0.305, -0.15, 0.76),
    "plants": (PLANTS["trt1"], PLANTS["trt2"], 16, 0.00893069778519, -0.945, -1.5, -0.31),
    "plants_tied": (PLANTS["ctrl"], PLANTS["trt2"], 25, 0.0630128385546, -0.49, -1.0, 0.04),
    "cars": (AUTOMATIC, MANUAL, 42, 0.00187139133318, -6.79996297991, -11.6999423421, -2.90004228387),
}  # fmt: skip
MORE = {
    "plants": (list(PLANTS.values()), 7.9882287494437, 0.0184237557315),
    "mucociliary": (MUCOCILIARY, 0.771428571429, 0.679964773579),
    "sprays": (SPRAYS, 54.6913446224, 1.51084443942e-10),
}
HOLM = [0.07, 0.12, 0.15, 0.16, 0.16, 0.008, 0.9, 0.4]
BH = [0.04, 0.05333333333333, 0.06, 0.064, 0.06666666666667, 0.008, 0.9, 0.22857142857143]
LIMITS = {(3, 3): 0, (3, 4): 0, (4, 4): 1, (5, 5): 3, (5, 10): 9, (20, 30): 201, (49, 49): 925}


@pytest.mark.parametrize("name", TWO)
def test_two_groups_as_in_r(name):
    first, second, u, p, shift, low, high = TWO[name]
    found = compare_two(first, second)
    assert found.u == u
    assert found.p == pytest.approx(p, rel=1e-10)
    tied = len({*first, *second}) < len(first) + len(second)
    assert found.exact is not tied
    if not tied:
        assert (found.shift, *found.shift_interval) == pytest.approx((shift, low, high))
        return
    # With ties R inverts the corrected test, by root-finding to 1e-4: a wider interval, if another one.
    assert found.shift == pytest.approx(shift, abs=2e-4)
    assert low - 2e-4 <= found.shift_interval[0] <= found.shift <= found.shift_interval[1] <= high + 2e-4


@pytest.mark.parametrize("name", MORE)
def test_more_groups_as_in_r(name):
    groups, h, p = MORE[name]
    found = compare_more(groups)
    assert found.h == pytest.approx(h, rel=1e-10)
    assert found.p == pytest.approx(p, rel=1e-10)


def test_p_adjusted_as_in_r():
    holm, hochberg = adjusted(P)
    assert holm == pytest.approx(HOLM)
    assert hochberg == pytest.approx(BH)


@pytest.mark.parametrize("sizes", LIMITS)
def test_ends_of_the_shift_as_in_r(sizes):
    assert _rank_of_limit(*sizes) == LIMITS[sizes]


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="no Rscript: R's answers are the frozen ones")
def test_the_frozen_answers_are_those_of_r():
    script = Path(__file__).parent / "oracles/group_comparison.R"
    done = subprocess.run(["Rscript", script], capture_output=True, text=True, check=True)
    told = [
        (name, [float(word) for word in words]) for name, *words in map(str.split, done.stdout.splitlines())
    ]
    expected = [(name, list(case[2:])) for name, case in TWO.items()]
    expected += [(name, list(case[1:])) for name, case in MORE.items()]
    expected += [("holm", HOLM), ("bh", BH), ("limits", list(LIMITS.values()))]
    assert [name for name, _ in told] == [name for name, _ in expected]
    for (_, there), (_, here) in zip(told, expected, strict=True):
        assert here == pytest.approx(there, rel=1e-6)


def test_effect_and_p_by_counting():
    # Of 3 x 3 pairs the first is greater in 7, equal in one: (7 - 1) / 9; U = 7.5.
    found = compare_two([2, 5, 9], [1, 2, 4])
    assert (found.u, found.effect) == (7.5, pytest.approx(6 / 9))
    assert found.shift == 3  # of 1 0 -2, 4 3 1, 8 7 5
    assert math.isnan(found.shift_interval[0])
    rng = np.random.default_rng(1)
    one, two = rng.permutation(40)[:4] / 7, rng.permutation(40)[:6] / 7 + 0.01
    found = compare_two(one, two)
    greater = np.subtract.outer(one, two)
    assert found.effect == pytest.approx(np.mean(greater > 0) - np.mean(greater < 0))
    # All ways to choose who is in the first group: as far from the middle as here, or farther.
    together = np.concatenate([one, two])
    far = []
    for chosen in itertools.combinations(range(10), 4):
        rest = [n for n in range(10) if n not in chosen]
        far.append(abs((together[list(chosen), None] > together[None, rest]).sum() - 12))
    assert found.exact
    assert found.p == pytest.approx(np.mean(np.array(far) >= abs(found.u - 12)))


def test_groups_that_do_not_overlap():
    found = compare_two([4, 5, 6, 7], [0, 1, 2, 3])
    assert (found.u, found.effect, found.shift) == (16, 1, 4)
    assert found.p == pytest.approx(2 / math.comb(8, 4))
    assert found.shift_interval == (1, 7)


def test_epsilon_squared_is_the_part_of_the_variance_between_the_groups():
    ranks = stats.rankdata(np.concatenate(SPRAYS)).reshape(6, 12)
    between = 12 * ((ranks.mean(axis=1) - ranks.mean()) ** 2).sum()
    assert compare_more(SPRAYS).effect == pytest.approx(between / ((ranks - ranks.mean()) ** 2).sum())
    apart = compare_more([[1, 1, 1], [2, 2, 2], [3, 3, 3]])
    assert apart.effect == pytest.approx(1)


def test_order_scale_and_names_of_groups():
    rng = np.random.default_rng(3)
    one, two, three = rng.gamma(2, size=12), np.round(rng.gamma(3, size=9), 1), rng.gamma(2, size=7)
    here, back = compare_two(one, two), compare_two(two, one)
    assert compare_two(rng.permutation(one), rng.permutation(two)) == here
    assert (back.p, back.effect, back.shift) == pytest.approx((here.p, -here.effect, -here.shift))
    assert back.shift_interval == pytest.approx([-end for end in here.shift_interval[::-1]])
    bent = compare_two(np.log(one), np.log(two))  # ranks stay
    assert (bent.u, bent.p, bent.effect) == (here.u, here.p, here.effect)
    moved = compare_two(10 * one + 5, 10 * two + 3)
    assert moved.shift == pytest.approx(10 * compare_two(one + 0.2, two).shift)
    groups = compare_more([one, two, three])
    assert compare_more([three, rng.permutation(two), one]) == groups
    bent = compare_more([np.exp(one), np.exp(two), np.exp(three)])
    assert (bent.h, bent.p, bent.effect) == pytest.approx((groups.h, groups.p, groups.effect))
    # Of two groups H is the square of the normal deviate of U, without the correction for continuity.
    h = stats.kruskal(one, two).statistic
    plain = stats.mannwhitneyu(one, two, method="asymptotic", use_continuity=False)
    assert stats.chi2.sf(h, 1) == pytest.approx(plain.pvalue)


def test_large_groups_take_the_normal_distribution():
    rng = np.random.default_rng(4)
    small = compare_two(rng.normal(size=49), rng.normal(size=20))
    large = compare_two(rng.normal(size=50), rng.normal(size=20))
    assert (small.exact, large.exact) == (True, False)
    # The exact end of 49 and 20 beside the approximate one.
    reach = stats.norm.ppf(0.975) * math.sqrt(49 * 20 * 70 / 12)
    assert _rank_of_limit(20, 49) == pytest.approx(490 - reach, abs=1.5)
    assert _rank_of_limit(20, 50) == math.floor(500 - stats.norm.ppf(0.975) * math.sqrt(50 * 20 * 71 / 12))
    assert _rank_of_limit(3, 50) > 0


def test_a_median_and_its_interval():
    values = np.random.default_rng(5).gamma(2, size=25)
    median, (low, high) = middle(values)
    assert median == np.median(values)
    theirs = stats.bootstrap((values,), np.median, method="percentile", random_state=0, n_resamples=20_000)
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)
    assert middle(values[::-1]) == (median, (low, high))
    assert middle([1, 2, 3, 4, 9])[0] == 3
    assert np.isnan(middle([1, 2, 3, 4, 9])[1]).all()  # 1 - 2 / 2^5 = 0.9375
    assert np.isfinite(middle([1, 2, 3, 4, 9, 10])[1]).all()
    assert middle([7] * 8)[0] == 7
    assert np.isnan(middle([7] * 8)[1]).all()
    assert np.isnan(middle([])[0])


def test_intervals_hold_as_often_as_they_say():
    rng = np.random.default_rng(6)
    few = medians = shifts = tied = 0
    for _ in range(600):
        low, high = middle(rng.lognormal(size=24))[1]
        medians += low <= 1 <= high
        low, high = middle(rng.lognormal(size=7))[1]
        few += low <= 1 <= high
        low, high = compare_two(rng.lognormal(size=9) + 1, rng.lognormal(size=7)).shift_interval
        shifts += low <= 1 <= high
        low, high = compare_two(rng.poisson(1.0, 9) + 1, rng.poisson(1.0, 11)).shift_interval
        tied += low <= 1 <= high
    # 95 %, of 600 within 3 standard errors (0.9 %); Moses' interval is exact, and no shorter.
    assert 0.92 <= medians / 600 <= 0.98
    assert 0.83 <= few / 600 <= 0.92  # as the documents say
    assert 0.935 <= shifts / 600 <= 0.985
    assert tied / 600 >= 0.94  # with ties it holds more often


def test_p_and_adjusted_p_find_nothing_more_often_than_they_say_where_nothing_is():
    rng = np.random.default_rng(7)
    alone = family = 0
    for _ in range(150):
        p = [compare_two(rng.normal(size=8), rng.normal(size=9)).p for _ in range(10)]
        alone += p[0] <= 0.05
        family += (adjusted(p)[0] <= 0.05).any()
    assert alone / 150 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)
    assert 0.005 <= family / 150 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)


def test_what_is_no_test_stays_none():
    holm, hochberg = adjusted([0.02, NAN, 0.5, NAN])
    assert holm == pytest.approx([0.04, NAN, 0.5, NAN], nan_ok=True)
    assert hochberg == pytest.approx([0.04, NAN, 0.5, NAN], nan_ok=True)
    assert [len(one) for one in adjusted([])] == [0, 0]
    assert np.isnan(adjusted([NAN, NAN])).all()
    assert adjusted([0.3])[0] == [0.3]
    assert adjusted([0.6, 0.7])[0] == pytest.approx([1, 1])


def test_constant():
    assert is_constant([[0, 0], [0.0], []])
    assert is_constant([[], []])
    assert not is_constant([[0, 0], [1]])


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: compare_two([1, 2], [3, 4, 5]), "at least 3 numbers, got 2"),
        (lambda: compare_two([1, 2, NAN], [3, 4, 5]), "finite"),
        (lambda: compare_two([[1, 2, 3]], [3, 4, 5]), "a list"),
        (lambda: compare_two([1, 1, 1], [1, 1, 1]), "all numbers are the same"),
        (lambda: compare_more([[1, 2, 3], [3, 4, 5]]), "three groups or more, got 2"),
        (lambda: compare_more([[1, 2, 3], [3, 4, 5], [1]]), "at least 3 numbers, got 1"),
        (lambda: compare_more([]), "at least 3 numbers, got 0"),
        (lambda: compare_more([[2] * 3] * 3), "all numbers are the same"),
        (lambda: middle([1, NAN]), "finite"),
        (lambda: adjusted([0.5, 1.2]), "from 0 to 1"),
        (lambda: adjusted([-0.1]), "from 0 to 1"),
        (lambda: adjusted([[0.1]]), "a list"),
    ],
)
def test_refusals(call, expected):
    with pytest.raises(ValueError, match=expected):
        call()
