"""Figures of agreement: against arithmetic, published examples, and what must hold of any table."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from petbone.agreement import (
    FEWEST_PAIRS,
    dice,
    kappa,
    rank_correlation,
    two_by_two,
    volume_difference_percent,
)

COUNTS = st.lists(st.integers(0, 40), min_size=4, max_size=4)


def test_the_example_of_grant_proposals():
    """Wikipedia, "Cohen's kappa": fifty proposals, 20 5 10 15; agreement 0.7, chance 0.5, kappa 0.4."""
    found = two_by_two(20, 5, 10, 15)
    assert found["kappa"] == pytest.approx(0.4, abs=1e-12)
    assert found["agreement_percent"] == pytest.approx(70)
    assert found["positive_agreement"] == pytest.approx(40 / 55)
    assert found["negative_agreement"] == pytest.approx(30 / 45)
    # By hand: A = .4 (1 - 1.1 x .6)^2 + .3 (1 - .9 x .6)^2, B = .36 (.1 x 1.1^2 + .2 x .9^2), C = .1^2.
    se = math.sqrt(0.10972 + 0.10188 - 0.01) / (0.5 * math.sqrt(50))
    assert found["kappa_se"] == pytest.approx(se, rel=1e-12)
    assert (found["kappa_low"], found["kappa_high"]) == pytest.approx(
        (0.4 - 1.959964 * se, 0.4 + 1.959964 * se)
    )


def test_three_classes():
    """Agreement .89, chance .80 x .80 + .05 x .10 + .10... by hand from the sums of rows and columns."""
    counts = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    chance = 0.80 * 0.80 + 0.10 * 0.05 + 0.10 * 0.15
    assert kappa(counts).value == pytest.approx((0.89 - chance) / (1 - chance))


@example([0, 0, 6, 15])  # an error of 0, but for rounding
@given(COUNTS)
def test_the_error_is_that_of_the_delta_method(counts):
    """The variance by numerical derivatives of kappa in the four parts: Fleiss's formula is no other."""
    table = np.array(counts, float).reshape(2, 2)
    found = kappa(table)
    if math.isnan(found.se):
        return

    def value(p):
        chance = p.sum(axis=1) @ p.sum(axis=0)
        return (np.trace(p) - chance) / (1 - chance)

    p, step = table / table.sum(), 1e-6
    slopes = np.zeros(4)
    for n in range(4):
        change = np.zeros(4)
        change[n] = step
        change = change.reshape(2, 2)
        slopes[n] = (value(p + change) - value(p - change)) / (2 * step)
    parts = p.ravel()
    variance = (parts @ slopes**2 - (parts @ slopes) ** 2) / table.sum()
    assert found.se == pytest.approx(math.sqrt(max(variance, 0)), rel=1e-4, abs=1e-6)


@given(COUNTS)
def test_neither_order_nor_naming_matters(counts):
    both, first, second, neither = counts
    one = two_by_two(both, first, second, neither)
    swapped = two_by_two(both, second, first, neither)
    assert one == pytest.approx(swapped, nan_ok=True)
    other = two_by_two(neither, first, second, both)
    assert one["kappa"] == pytest.approx(other["kappa"], nan_ok=True)
    assert one["positive_agreement"] == pytest.approx(other["negative_agreement"], nan_ok=True)
    if not math.isnan(one["kappa_low"]):
        assert -1 <= one["kappa_low"] <= one["kappa"] <= one["kappa_high"] <= 1


def test_what_does_not_exist_is_no_number():
    assert all(math.isnan(value) for value in two_by_two(0, 0, 0, 0).values())
    healthy = two_by_two(0, 0, 0, 49)  # neither has a hotspot: chance alone agrees
    assert math.isnan(healthy["kappa"])
    assert math.isnan(healthy["positive_agreement"])
    assert (healthy["agreement_percent"], healthy["negative_agreement"]) == (100, 1)
    perfect = two_by_two(5, 0, 0, 44)
    assert perfect["kappa"] == 1
    assert math.isnan(perfect["kappa_se"])
    assert math.isnan(perfect["kappa_low"])
    nothing = two_by_two(0, 4, 0, 45)  # one tracer shows nothing
    assert nothing["kappa"] == 0
    assert nothing["positive_agreement"] == 0
    assert two_by_two(0, 25, 25, 0)["kappa"] == -1


@pytest.mark.parametrize(
    "counts", [[1, 2, 3], [[1]], [[1, 2, 3], [4, 5, 6]], [[1, -1], [2, 3]], [[0.5, 1], [1, 1]]]
)
def test_what_is_no_table_of_counts_is_refused(counts):
    with pytest.raises(ValueError, match="kappa is of"):
        kappa(counts)


def test_dice():
    assert dice(2, 3, 5) == 0.5
    assert dice(0, 3, 0) == 0
    assert dice(4.0001, 4, 4) == 1
    assert math.isnan(dice(0, 0, 0))


def test_rank_correlation():
    x = [1.0, 2.0, 3.0, 4.0, 50.0]
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert rank_correlation(x, x[::-1]) == pytest.approx(-1)
    # Ties by their mean rank: ranks 1.5 1.5 3 4 5 and 1 to 5; 9.5 / sqrt(9.5 x 10).
    assert rank_correlation([1, 1, 2, 3, 4], [1, 2, 3, 4, 5]) == pytest.approx(9.5 / math.sqrt(95))
    assert math.isnan(rank_correlation(x[: FEWEST_PAIRS - 1], x[: FEWEST_PAIRS - 1]))
    assert math.isnan(rank_correlation(x, [7.0] * 5))
    with pytest.raises(ValueError, match="pairs"):
        rank_correlation(x, x[:4])


def test_volume_difference():
    """Th7 of Lindgren Belal 2019 by its two means: 41 and 36 mL differ by 13 %."""
    assert volume_difference_percent(41, 36) == pytest.approx(500 / 38.5)
    assert (
        volume_difference_percent(36, 41) == volume_difference_percent(410, 360) == pytest.approx(500 / 38.5)
    )
    assert volume_difference_percent(7, 7) == 0
    assert volume_difference_percent(0, 3) == 200
    assert math.isnan(volume_difference_percent(0, 0))
    for first, second in ((-1, 2), (2, math.nan), (math.inf, 1)):
        with pytest.raises(ValueError, match="0 or more"):
            volume_difference_percent(first, second)
