"""Repeatability, intraclass correlation, a median's interval: published examples, arithmetic, invariants."""

import math

import numpy as np
import pytest
from scipy import stats

from agreement_data import MINI, SHROUT_FLEISS, WINE, WRIGHT
from petbone.reliability import icc, median_interval, repeatability_coefficient

NAN = float("nan")
PRINTED = {
    "1,1": (0.165742, 1.8, 18, (-0.13, 0.72)),
    "2,1": (0.289764, 11.0, 15, (0.02, 0.76)),
    "3,1": (0.714841, 11.0, 15, (0.34, 0.95)),
    "1,k": (0.442797, 1.8, 18, (-0.88, 0.91)),
    "2,k": (0.620051, 11.0, 15, (0.07, 0.93)),
    "3,k": (0.909316, 11.0, 15, (0.68, 0.99)),
}


def test_peak_flow_of_1986():
    wright, mini = repeatability_coefficient(*WRIGHT.T), repeatability_coefficient(*MINI.T)
    assert (round(wright.within_sd, 4), round(mini.within_sd, 4)) == (15.3067, 19.9108)
    assert (round(wright.coefficient, 2), round(mini.coefficient, 2)) == (42.43, 55.19)
    assert round(2 * math.sqrt(2) * wright.within_sd, 2) == 43.29
    assert round(2 * math.sqrt(2) * mini.within_sd, 2) == 56.32


def test_repeatability_by_hand_and_its_invariants():
    assert repeatability_coefficient([1, 5], [4, 1]).within_sd == pytest.approx(2.5)  # (9 + 16) / 4
    one, two = WRIGHT.T
    here = repeatability_coefficient(one, two).coefficient
    assert repeatability_coefficient(two, one).coefficient == pytest.approx(here)
    assert repeatability_coefficient(3 * one - 7, 3 * two - 7).coefficient == pytest.approx(3 * here)
    assert repeatability_coefficient(one, one).coefficient == 0


def test_shrout_and_fleiss():
    found = icc(SHROUT_FLEISS)
    assert list(found) == list(PRINTED)
    for name, (value, f, df2, interval) in PRINTED.items():
        assert round(found[name].value, 6) == value
        assert (round(found[name].f, 1), found[name].df1, found[name].df2) == (f, 5, df2)
        assert tuple(round(end, 2) for end in found[name].interval) == interval
    assert found["1,1"].f == pytest.approx(11.24167 / 6.26389, rel=1e-6)
    assert found["2,1"].f == pytest.approx(11.24167 / 1.01944, rel=1e-5)


def test_wine():
    values = [round(one.value, 2) for one in icc(WINE).values()]
    assert values == [0.73, 0.73, 0.73, 0.91, 0.91, 0.92]


def ends(table):
    return [x for found in icc(table).values() for x in (found.value, *found.interval, found.f)]


def test_order_scale_and_shift_do_not_matter():
    here, rng = ends(SHROUT_FLEISS), np.random.default_rng(2)
    turned = SHROUT_FLEISS[rng.permutation(6)][:, rng.permutation(4)]
    assert ends(turned) == pytest.approx(here)
    assert ends(2.5 * SHROUT_FLEISS - 40) == pytest.approx(here)


def test_a_reader_that_is_off_by_the_same_is_consistent_but_does_not_agree():
    moved = SHROUT_FLEISS + np.array([0, 20, 0, 0])
    here, there = icc(SHROUT_FLEISS), icc(moved)
    assert there["3,1"].value == pytest.approx(here["3,1"].value)
    assert there["3,1"].interval == pytest.approx(here["3,1"].interval)
    assert there["2,1"].value < here["2,1"].value


@pytest.mark.parametrize(("name", "columns_sd"), [("1,1", 0.0), ("2,1", 0.5), ("3,1", 0.5)])
def test_the_interval_holds_the_truth_19_times_of_20(name, columns_sd):
    """Subjects of SD 1, errors of SD 1, readers of their own SD."""
    rng = np.random.default_rng(5)
    truth = {"1,1": 1 / 2, "2,1": 1 / 2.25, "3,1": 1 / 2}[name]
    held = 0
    for _ in range(400):
        table = rng.standard_normal((12, 1)) + columns_sd * rng.standard_normal((1, 5))
        low, high = icc(table + rng.standard_normal((12, 5)))[name].interval
        held += low <= truth <= high
    assert held / 400 == pytest.approx(0.95, abs=4 * math.sqrt(0.0475 / 400))


def test_readings_that_never_differ():
    found = icc([[0.1, 0.1, 0.1], [0.7, 0.7, 0.7], [0.3, 0.3, 0.3]])
    for one in found.values():
        assert one.value == 1
        assert np.isnan([one.f, *one.interval]).all()
    offset = icc([[1, 2], [3, 4], [7, 8]])
    assert offset["3,1"].value == 1
    assert math.isnan(offset["3,1"].f)
    assert np.isnan([offset["2,1"].interval, offset["2,k"].interval]).all()
    assert 0 < offset["2,1"].value < 1
    assert np.isfinite(offset["1,1"].interval).all()
    nothing = icc([[0.1, 0.1], [0.1, 0.1]])
    assert all(np.isnan([one.value, one.f, *one.interval]).all() for one in nothing.values())


def test_subjects_that_never_differ():
    """No variance between: (3,1) is -1 / (k - 1), and the mean of k has no reliability to speak of."""
    found = icc([[1, 3, 2], [3, 2, 1], [2, 1, 3]])
    assert found["3,1"].value == pytest.approx(-1 / 2)
    assert found["3,1"].f == 0
    assert math.isnan(found["3,k"].value)


@pytest.mark.parametrize("table", [[1, 2, 3], [[1, 2, 3]], [[1], [2]], [], np.zeros((2, 2, 2))])
def test_tables_that_are_none(table):
    with pytest.raises(ValueError, match="at least two subjects by two readers"):
        icc(table)


def test_numbers_that_are_missing():
    with pytest.raises(ValueError, match="1 are not"):
        icc([[1, 2], [3, NAN]])
    with pytest.raises(ValueError, match="1 of 2 pairs"):
        repeatability_coefficient([1, NAN], [1, 2])
    with pytest.raises(ValueError, match="at least 2 pairs"):
        repeatability_coefficient([1], [1])
    for values in ([1, 2, NAN], [[1, 2, 3]], 5.0):
        with pytest.raises(ValueError, match="list of finite numbers"):
            median_interval(values)


def test_the_median_of_resamples_is_binomial():
    """The median of 15 resampled numbers is the k-th or less when 8 or more of them are."""
    chance = stats.binom.sf(7, 15, np.arange(1, 16) / 15)
    low, high = (int(np.searchsorted(chance, p)) for p in (0.025, 0.975))
    values = np.arange(15.0) ** 2
    assert median_interval(values) == (values[low], values[high])


def test_a_medians_interval():
    values = np.random.default_rng(6).standard_normal(21)
    low, high = median_interval(values)
    assert low < np.median(values) < high
    many = np.random.default_rng(7).standard_normal(100)
    assert median_interval(many[::-1]) == median_interval(many)
    assert median_interval(many, seed=1) != median_interval(many)
    assert median_interval(10 * values + 3) == pytest.approx((10 * low + 3, 10 * high + 3))
    assert np.isnan(median_interval([1, 2])).all()
    assert np.isnan(median_interval([])).all()
    assert np.isnan(median_interval([4, 4, 4])).all()
    assert np.isnan(median_interval([0, 0, 0])).all()
