"""Limits of agreement: published examples to their printed digits, and what must hold of any pairs."""

import json
import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from agreement_data import GIAVARINA, MINI, REPS, WRIGHT
from petbone.bland_altman import (
    INTERVALS,
    REACH,
    bland_altman,
    interval_factors,
    proportional_bias,
    tolerance_factor,
)

NAN = float("nan")


def numbers(found):
    return [x for part in astuple(found)[2:] for x in (part if isinstance(part, tuple) else (part,))]


def test_peak_flow_of_1986():
    """Bland and Altman, Lancet 327, 1986, 307; they print limits at 2 SD, from rounded figures."""
    found = bland_altman(WRIGHT[:, 0], MINI[:, 0], interval="1986")
    assert (round(found.bias, 1), round(found.sd, 1)) == (-2.1, 38.8)
    assert (found.bias, found.sd) == pytest.approx((-2.1176470588, 38.7651298736), abs=1e-10)
    assert (found.low, found.high) == pytest.approx((-78.0973, 73.8620), abs=5e-5)
    assert tuple(round(x, 1) for x in found.bias_interval) == (-22.0, 17.8)
    t = stats.t.ppf(0.975, 16)
    se = (found.high_interval[1] - found.high) / t
    assert round(se, 1) == 16.3
    low, high, half = -2.1 - 2 * 38.8, -2.1 + 2 * 38.8, round(16.3 * t, 1)
    assert (low - half, low + half) == pytest.approx((-114.3, -45.1), abs=1e-9)
    assert (high - half, high + half) == pytest.approx((40.9, 110.1), abs=1e-9)


def test_peak_flow_by_the_other_intervals():
    """Errors of 1999 and exact factors of Carkeet 2015 for 17 pairs."""
    of_1999 = bland_altman(WRIGHT[:, 0], MINI[:, 0], interval="1999")
    se = (of_1999.high_interval[1] - of_1999.high) / stats.t.ppf(0.975, 16)
    assert round(se, 3) == 16.395
    assert round(of_1999.high_interval[1]) == 109
    exact = bland_altman(WRIGHT[:, 0], MINI[:, 0])
    assert interval_factors(17, "exact")[:2] == pytest.approx((1.31506, 3.14832), abs=5e-6)
    assert exact.high_interval == pytest.approx((48.861, 119.928), abs=5e-4)
    assert exact.low_interval == pytest.approx((-124.163, -53.096), abs=5e-4)
    zou = bland_altman(MINI[:, 0], WRIGHT[:, 0], interval="mover")  # as in SimplyAgree's tests
    assert round(zou.high_interval[1]) == 122
    both = bland_altman(WRIGHT[:, 0], MINI[:, 0], interval="tolerance")
    assert both.high_interval == pytest.approx(
        (exact.bias + 1.49 * exact.sd, exact.bias + 3.0824 * exact.sd), abs=4e-3
    )


@pytest.mark.parametrize(
    ("probability", "factor"),
    [(0.025, 1.4900), (0.05, 1.5619), (0.5, 2.0554), (0.95, 2.8683), (0.975, 3.0824)],
)
def test_carkeets_table(probability, factor):
    """Carkeet, Optom Vis Sci 92, 2015, e71, 16 degrees of freedom, to the digits printed."""
    assert round(tolerance_factor(17, probability), 4) == factor


def test_carkeets_table_in_the_oracles(shared):
    check = json.loads((shared / "oracles/jaketmp__pyCompare/expected.json").read_text(encoding="utf-8"))
    for probability, factor in zip((0.025, 0.05, 0.5, 0.95, 0.975), check["check"]["v=16"], strict=True):
        assert tolerance_factor(17, probability) == pytest.approx(factor, abs=5e-5)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_the_tolerance_factor_holds_what_it_says(n):
    """Part of the samples whose mean -+ K SD holds 95 % of the normal: tried."""
    rng = np.random.default_rng(3)
    mean = rng.standard_normal(20_000) / math.sqrt(n)
    sd = np.sqrt(rng.chisquare(n - 1, 20_000) / (n - 1))
    reach = tolerance_factor(n, 0.8) * sd
    held = stats.norm.cdf(mean + reach) - stats.norm.cdf(mean - reach)
    assert (held >= 0.95).mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 20_000))


@pytest.mark.parametrize("interval", INTERVALS)
def test_of_many_pairs_all_intervals_of_one_limit_are_one(interval):
    """But for that of both limits, which is narrower: one of them alone is off more often; 1986 is wider."""
    inner, outer, reach = interval_factors(4000, interval)
    half = REACH * math.sqrt(1 / 4000 + REACH**2 / 8000)
    if interval == "tolerance":
        half = REACH * REACH / math.sqrt(8000)  # only the SD moves how much lies between both
    elif interval == "1986":
        half = REACH * math.sqrt(3 / 4000)
    assert (REACH - inner, outer - REACH) == pytest.approx((half, half), rel=0.03)
    assert reach == pytest.approx(REACH / math.sqrt(4000), rel=1e-3)


@pytest.mark.parametrize("n", [3, 17])
def test_the_exact_interval_holds_a_limit_19_times_of_20(n):
    rng = np.random.default_rng(4)
    mean = rng.standard_normal(20_000) / math.sqrt(n)
    sd = np.sqrt(rng.chisquare(n - 1, 20_000) / (n - 1))
    inner, outer, _ = interval_factors(n, "exact")
    below, above = mean + inner * sd > REACH, mean + outer * sd < REACH
    wrong = 4 * math.sqrt(0.025 * 0.975 / 20_000)
    assert (below.mean(), above.mean()) == pytest.approx((0.025, 0.025), abs=wrong)


def test_giavarina():
    """Biochem Med 25, 2015, 141. The paper prints 65.36 as the end of the upper limit's interval.

    Its own centre and half width (41.05 + 2.045 x 11.01) make it 63.56: two digits are swapped.
    """
    found = bland_altman(*GIAVARINA, interval="1986")
    assert found.n == 30
    assert (round(found.bias, 2), round(found.sd, 2)) == (-27.17, 34.81)
    assert (round(found.low, 2), round(found.high, 2)) == (-95.39, 41.05)
    t = stats.t.ppf(0.975, 29)
    assert round((found.bias_interval[1] - found.bias) / t, 2) == 6.35
    assert round((found.high_interval[1] - found.high) / t, 2) == 11.01
    assert found.bias_interval == pytest.approx((-40.16, -14.17), abs=0.0051)
    assert found.low_interval == pytest.approx((-117.9, -72.88), abs=0.0051)
    assert found.high_interval == pytest.approx((18.54, 63.56), abs=0.0051)
    percent = bland_altman(*GIAVARINA, kind="percent")
    assert (percent.bias, percent.low, percent.high) == pytest.approx((-17.40, -93.18, 58.38), abs=0.0051)


def test_simplyagree():
    """The tests of the R package SimplyAgree; it takes 1.95996 where the authors take 1.96."""
    found = bland_altman(*REPS, interval="1999")
    assert found.n == 18
    assert found.bias == pytest.approx(0.4383333, abs=5e-8)
    assert (found.low, found.high) == pytest.approx((-1.9470156, 2.8236823), abs=1e-4)
    assert found.low_interval == pytest.approx((-3.001158, -0.8928731), abs=1e-4)
    assert found.high_interval == pytest.approx((1.76954, 3.8778249), abs=1e-4)


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_order_of_methods_and_of_pairs(interval):
    one, two = WRIGHT[:, 0], MINI[:, 0]
    here, there = bland_altman(one, two, interval=interval), bland_altman(two, one, interval=interval)
    assert (here.bias, here.low, here.high) == pytest.approx((-there.bias, -there.high, -there.low))
    assert here.low_interval == pytest.approx(tuple(-x for x in reversed(there.high_interval)))
    assert here.bias_interval == pytest.approx(tuple(-x for x in reversed(there.bias_interval)))
    turn = np.random.default_rng(1).permutation(17)
    assert numbers(bland_altman(one[turn], two[turn], interval=interval)) == pytest.approx(
        numbers(here), rel=1e-9
    )


def test_scale_and_shift():
    one, two = GIAVARINA
    here = numbers(bland_altman(one, two))
    assert numbers(bland_altman(3 * one, 3 * two)) == pytest.approx([3 * x for x in here])
    assert numbers(bland_altman(one + 50, two + 50)) == pytest.approx(here)
    moved = numbers(bland_altman(one + 50, two))
    sd = 3
    assert moved[:sd] == pytest.approx([x + 50 for x in here[:sd]])
    assert moved[sd] == pytest.approx(here[sd])
    assert moved[sd + 1 :] == pytest.approx([x + 50 for x in here[sd + 1 :]])
    for kind in ("percent", "ratio"):
        same = numbers(bland_altman(one, two, kind))
        assert numbers(bland_altman(7 * one, 7 * two, kind)) == pytest.approx(same)


def test_a_ratio_is_limits_of_logarithms():
    one, two = GIAVARINA
    ratio, logs = bland_altman(one, two, "ratio"), bland_altman(np.log(one), np.log(two))
    assert (ratio.bias, ratio.low, ratio.high) == pytest.approx(
        (math.exp(logs.bias), math.exp(logs.low), math.exp(logs.high))
    )
    assert ratio.high_interval == pytest.approx(tuple(np.exp(logs.high_interval)))
    assert ratio.sd == pytest.approx(logs.sd)
    doubled = bland_altman(2 * one, two, "ratio")
    assert (doubled.bias, doubled.low) == pytest.approx((2 * ratio.bias, 2 * ratio.low))
    back = bland_altman(two, one, "ratio")
    assert (back.low, back.bias) == pytest.approx((1 / ratio.high, 1 / ratio.bias))


@pytest.mark.parametrize("kind", ["difference", "percent", "ratio"])
def test_differences_that_are_all_the_same_know_no_interval(kind):
    found = bland_altman([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], kind)
    assert found.sd == 0
    assert found.low == found.bias == found.high == (1 if kind == "ratio" else 0)
    assert np.isnan([found.bias_interval, found.low_interval, found.high_interval]).all()
    tenth = bland_altman(np.array([0.1, 0.2, 0.3]) + 0.7, [0.1, 0.2, 0.3])  # equal but for rounding
    assert tenth.sd == 0
    assert math.isnan(tenth.low_interval[0])


def test_proportional_bias_by_hand():
    """Means 1 2 3, differences 0 1 1: slope 1/2, residual sum 1/6, its error sqrt(1/6/1/2), t of 1 df."""
    mean, difference = np.array([1.0, 2, 3]), np.array([0.0, 1, 1])
    found = proportional_bias(mean + difference / 2, mean - difference / 2)
    assert (found.slope, found.intercept) == pytest.approx((0.5, 2 / 3 - 1))
    half = 12.7062047 * math.sqrt(1 / 12)
    assert found.slope_interval == pytest.approx((0.5 - half, 0.5 + half))
    assert found.p == pytest.approx(1 - 2 * math.atan(math.sqrt(3)) / math.pi)  # Cauchy at t = sqrt(3)


def test_equal_differences_have_no_slope_but_that_of_rounding():
    one = np.array([4.08, 4.32, 4.8])
    found = proportional_bias(one + 0.48, one)
    assert (found.slope, found.intercept) == (0, pytest.approx(0.48))
    assert np.isnan([*found.slope_interval, found.p]).all()


def test_proportional_bias_of_two_scales():
    one = np.array([1.0, 4, 5, 9])
    found = proportional_bias(1.5 * one, one)  # difference .5, mean 1.25 of one
    assert (found.slope, found.intercept) == pytest.approx((0.4, 0))
    assert math.isnan(found.p)
    assert np.isnan(found.slope_interval).all()
    here, there = proportional_bias(WRIGHT[:, 0], MINI[:, 0]), proportional_bias(MINI[:, 0], WRIGHT[:, 0])
    assert (here.slope, here.p) == pytest.approx((-there.slope, there.p))
    moved = proportional_bias(10 * WRIGHT[:, 0] + 5, 10 * MINI[:, 0] + 5)
    assert (moved.slope, *moved.slope_interval) == pytest.approx((here.slope, *here.slope_interval))
    flat = proportional_bias([1, 2, 3], [3, 2, 1])
    assert np.isnan([flat.slope, flat.intercept, flat.p, *flat.slope_interval]).all()


@pytest.mark.parametrize(
    ("one", "two", "kind", "interval", "words"),
    [
        ([1], [2], "difference", "exact", "at least 2 pairs, got 1"),
        ([], [], "difference", "exact", "at least 2 pairs, got 0"),
        ([1, 2], [1, 2, 3], "difference", "exact", r"shapes \(2,\) and \(3,\)"),
        ([[1, 2]], [[1, 2]], "difference", "exact", "of pairs"),
        ([1, NAN, 3], [1, 2, math.inf], "difference", "exact", "2 of 3 pairs"),
        ([0, 1], [0, 2], "percent", "exact", "mean above 0"),
        ([0, 1], [3, 2], "ratio", "exact", "above 0"),
        ([1, 2], [3, 2], "log", "exact", "difference, percent, ratio, got 'log'"),
        ([1, 2], [3, 2], "ratio", "1983", "exact, tolerance, mover, 1999, 1986, got '1983'"),
    ],
)
def test_what_is_refused(one, two, kind, interval, words):
    with pytest.raises(ValueError, match=words):
        bland_altman(one, two, kind, interval)


def test_what_else_is_refused():
    with pytest.raises(ValueError, match="at least 3 pairs"):
        proportional_bias([1, 2], [1, 3])
    with pytest.raises(ValueError, match="at least 2 pairs, got 1"):
        interval_factors(1, "exact")
    for n, probability in ((1, 0.5), (5, 0), (5, 1), (5, NAN)):
        with pytest.raises(ValueError, match="tolerance factor"):
            tolerance_factor(n, probability)
