"""Lin's coefficient, Passing and Bablok's line: published examples, arithmetic, invariants."""

import math

import numpy as np
import pytest

from agreement_data import GIAVARINA, MINI, NCSS, REPS, WRIGHT
from petbone.method_comparison import concordance_correlation, passing_bablok

NAN = float("nan")
PEAK_FLOW = WRIGHT[:, 0], MINI[:, 0]


def test_lin_of_published_pairs():
    assert round(concordance_correlation(*REPS).value, 3) == 0.479
    assert round(concordance_correlation(*PEAK_FLOW).value, 6) == 0.942742
    assert round(concordance_correlation(*PEAK_FLOW).r, 6) == 0.943279
    assert round(concordance_correlation(*GIAVARINA).value, 6) == 0.991543


def test_lin_by_hand():
    """0 1 2 and 1 2 4: variances 2/3 and 14/9, covariance 1, means 4/3 apart."""
    found = concordance_correlation([0, 1, 2], [1, 2, 4])
    assert found.value == pytest.approx(2 / (2 / 3 + 14 / 9 + 16 / 9))
    assert found.r == pytest.approx(1 / math.sqrt(28 / 27))


@pytest.mark.parametrize("pair", [PEAK_FLOW, REPS, GIAVARINA], ids=["peak flow", "reps", "giavarina"])
def test_lins_error_is_that_of_the_delta_method(pair):
    """By numerical derivatives in means, variances, covariance of a normal sample, (n - 2) for n."""
    one, two = pair
    moments = np.array([one.mean(), two.mean(), one.var(), two.var(), np.cov(one, two, ddof=0)[0, 1]])

    def z(m):
        return math.atanh(2 * m[4] / (m[2] + m[3] + (m[0] - m[1]) ** 2))

    a, b, c = moments[2:]
    spread = np.zeros((5, 5))
    spread[:2, :2] = [[a, c], [c, b]]
    spread[2:, 2:] = [
        [2 * a * a, 2 * c * c, 2 * a * c],
        [2 * c * c, 2 * b * b, 2 * b * c],
        [2 * a * c, 2 * b * c, a * b + c * c],
    ]
    slopes = np.zeros(5)
    for n in range(5):
        step = np.zeros(5)
        step[n] = 1e-5 * math.sqrt(spread[n, n])
        slopes[n] = (z(moments + step) - z(moments - step)) / (2 * step[n])
    error = math.sqrt(slopes @ spread @ slopes / (len(one) - 2))
    found = concordance_correlation(one, two)
    centre = math.atanh(found.value)
    ends = math.tanh(centre - 1.959964 * error), math.tanh(centre + 1.959964 * error)
    assert found.interval == pytest.approx(ends, rel=1e-5)


def test_lin_is_symmetric_and_knows_no_unit():
    one, two = PEAK_FLOW
    here = concordance_correlation(one, two)
    order = np.random.default_rng(1).permutation(17)
    for other in (
        concordance_correlation(two, one),
        concordance_correlation(one[order], two[order]),
        concordance_correlation(0.1 * one + 9, 0.1 * two + 9),
        concordance_correlation(-one, -two),
    ):
        assert (other.value, other.r, *other.interval) == pytest.approx((here.value, here.r, *here.interval))
    against = concordance_correlation(one, 2 * two.mean() - two)
    assert against.r == pytest.approx(-here.r)
    assert concordance_correlation(one + 100, two).value < here.value


def test_lin_where_it_does_not_exist():
    same = concordance_correlation([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert same.value == pytest.approx(1)
    assert np.isnan(same.interval).all()
    flat = concordance_correlation([1, 2, 3], [0.7, 0.7, 0.7])
    assert flat.value == 0
    assert np.isnan([flat.r, *flat.interval]).all()
    crossed = concordance_correlation([-1, 0, 1], [1, 0, 1])
    assert crossed.value == pytest.approx(0)
    assert np.isnan(crossed.interval).all()
    nothing = concordance_correlation([0.1] * 3, [0.1] * 3)
    assert np.isnan([nothing.value, nothing.r, *nothing.interval]).all()


def test_passing_and_bablok_of_ncss():
    """Slope and intercept are in SimplyAgree's tests."""
    found = passing_bablok(*NCSS)
    assert (round(found.slope, 2), round(found.intercept, 2)) == (1.00, -0.15)
    assert tuple(round(x, 3) for x in found.slope_interval) == (0.988, 1.012)
    assert tuple(round(x, 3) for x in found.intercept_interval) == (-0.853, 0.655)


def test_passing_and_bablok_by_hand():
    """Slopes 1, 1.5, 2 of three points; of four, -2 is below -1 and shifts the median up by one."""
    three = passing_bablok([0, 1, 2], [0, 1, 3])
    assert (three.slope, three.intercept) == (1.5, 0)
    assert np.isnan(three.slope_interval).all()  # C is 3.8, past the three slopes
    # (0,0) (1,1) (2,-1) (4,4): slopes 1, -.5, 1, -2, 1, 2.5; in order -2 -.5 1 1 1 2.5
    assert passing_bablok([0, 1, 2, 4], [0, 1, -1, 4]).slope == 1
    # (0,0) (1,3) (2,1) (4,9): slopes 3, .5, 2.25, -2, 2, 4; -2 .5 2 2.25 3 4; 3rd and 4th, shifted by one
    assert passing_bablok([0, 1, 2, 4], [0, 3, 1, 9]).slope == pytest.approx((2.25 + 3) / 2)


def test_pairs_that_give_no_slope():
    """A point twice gives none, nor does a slope of -1; an upright one is steeper than all."""
    # (0,0) (0,0) (1,2) (.7,2.3): 2 2 2.3/.7 2.3/.7, and -1 between the last two
    found = passing_bablok([0, 0, 1, 0.7], [0, 0, 2, 2.3])
    assert found.slope == pytest.approx((2 + 2.3 / 0.7) / 2)
    # (0,0) (0,1) (1,3) (2,5): inf 3 2.5 2 2 2
    assert passing_bablok([0, 0, 1, 2], [0, 1, 3, 5]).slope == pytest.approx((2 + 2.5) / 2)
    upright = passing_bablok([1, 1, 1], [1, 2, 3])
    same = passing_bablok([1, 1, 1], [2, 2, 2])
    for none in (upright, same):
        assert np.isnan([none.slope, none.intercept, *none.slope_interval, *none.intercept_interval]).all()


def test_passing_and_bablok_take_either_for_the_other():
    one, two = NCSS
    here, there = passing_bablok(one, two), passing_bablok(two, one)
    low, high = here.slope_interval
    assert there.slope_interval == pytest.approx((1 / high, 1 / low))
    assert there.slope == pytest.approx(1 / here.slope, rel=1e-3)
    order = np.random.default_rng(1).permutation(30)
    assert passing_bablok(one[order], two[order]) == here
    moved = passing_bablok(4 * one + 8, 4 * two)
    assert moved.slope == pytest.approx(here.slope)
    assert moved.intercept == pytest.approx(4 * here.intercept - 8 * here.slope)
    line = passing_bablok(one, 1.25 * one - 3)
    assert (line.slope, line.intercept) == pytest.approx((1.25, -3))
    assert line.slope_interval == pytest.approx((1.25, 1.25))
    wild = two.copy()
    wild[3] = 900
    assert passing_bablok(one, wild).slope == pytest.approx(here.slope, abs=0.01)


@pytest.mark.parametrize("of", [concordance_correlation, passing_bablok])
def test_what_is_refused(of):
    with pytest.raises(ValueError, match="at least 3 pairs, got 2"):
        of([1, 2], [1, 3])
    with pytest.raises(ValueError, match="shapes"):
        of([1, 2, 3], [1, 3])
    with pytest.raises(ValueError, match="1 of 3 pairs"):
        of([1, 2, 3], [1, NAN, 3])
