"""Numbers of two or more independent groups compared by their ranks. Arrays in, figures out.

* *group*   : (n,) numbers, one of each patient; the order within it does not matter
* *midrank* : place among all numbers, from 1; equal ones share the mean of their places
* *U*       : pairs of a number of the first and one of the second group of which the first is greater; an
  equal pair counts half

A figure that does not exist is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from petbone.agreement import NORMAL_95
from petbone.reliability import median_interval

F64 = npt.NDArray[np.float64]
Interval = tuple[float, float]

FEWEST = 3
"""A group of fewer numbers is not tested."""
FEWEST_FOR_INTERVAL = 6
"""From the least to the greatest of fewer numbers is no 95 % interval of their median: 1 - 2 / 2^5 = 0.94."""
EXACT_BELOW = 50
"""Without ties the p of two groups is exact where both are smaller, as in R's wilcox.test."""

_NAN = float("nan")
_NO_INTERVAL = (_NAN, _NAN)


@dataclass(frozen=True)
class Two:
    """Two groups compared. `effect` and `shift` are positive where the first is greater.

    `effect`: rank-biserial correlation. `shift`: Hodges and Lehmann's, in the unit of the numbers, with its
    95 % interval.
    """

    u: float
    p: float
    exact: bool
    effect: float
    shift: float
    shift_interval: Interval


@dataclass(frozen=True)
class More:
    """Three groups or more compared: Kruskal and Wallis' H, its p, and epsilon squared."""

    h: float
    p: float
    effect: float


def middle(values: npt.ArrayLike) -> tuple[float, Interval]:
    """The median of (n,) numbers and its 95 % interval (`petbone.reliability.median_interval`).

    Of 6 to 10 log-normal numbers it holds the truth in 87 to 94 %, from 15 on in 95 to 97 %. NaN of none; no
    interval of fewer than `FEWEST_FOR_INTERVAL` numbers, or where all are the same. Raises ValueError for
    numbers that are missing.
    """
    given = _group(values)
    if not given.size:
        return _NAN, _NO_INTERVAL
    interval = median_interval(given) if given.size >= FEWEST_FOR_INTERVAL else _NO_INTERVAL
    return float(np.median(given)), interval


def is_constant(groups: Sequence[npt.ArrayLike]) -> bool:
    """True where all numbers of all groups are the same: then there is nothing to test."""
    together = np.concatenate([_group(values) for values in groups])
    return bool((together == together[:1]).all())


def compare_two(first: npt.ArrayLike, second: npt.ArrayLike) -> Two:
    """Mann and Whitney's test, two-sided, with its effect and the shift.

    p (Ann Math Stat 18, 1947, 50) is exact where no two numbers are equal and both groups have fewer than
    `EXACT_BELOW`; else by the normal distribution with the correction for ties and for continuity. Both as in
    R's ``wilcox.test``.

    Effect: the rank-biserial correlation r = 2 U / (n1 n2) - 1, the part of the pairs of which the first is
    greater less the part of which the second is (Wendt, Eur J Soc Psychol 2, 1972, 463; Kerby, Compr Psychol
    3, 2014, 11.IT.3.1). It is Cliff's delta (Psychol Bull 114, 1993, 494): -1 to 1, 0 where none is greater.

    Shift: the median of all n1 n2 differences, first less second (Hodges and Lehmann, Ann Math Stat 34, 1963,
    598). Its interval is from the C-th smallest to the C-th greatest of them (Moses; Hollander and Wolfe,
    Nonparametric Statistical Methods, 2nd ed. 1999, section 4.3): C the greatest with P(U < C) <= 0.025, or
    for groups of `EXACT_BELOW` and more n1 n2 / 2 - 1.96 sqrt(n1 n2 (n1 + n2 + 1) / 12), rounded down. With
    ties it holds at least as often. NaN where even C = 1 does not reach 95 %: 3 against 3, or 3 against 4.

    Raises ValueError for groups of fewer than `FEWEST`, numbers that are missing, and where all are the same.
    """
    from scipy import stats  # a third of a second, for those who compare

    one, two = _groups([first, second])
    together = np.concatenate([one, two])
    ties = np.unique(together).size < together.size
    exact = not ties and max(one.size, two.size) < EXACT_BELOW
    found = stats.mannwhitneyu(one, two, alternative="two-sided", method="exact" if exact else "asymptotic")
    pairs = one.size * two.size
    differences = np.sort(np.subtract.outer(one, two), axis=None)
    inner = _rank_of_limit(*sorted((one.size, two.size)))
    interval = (float(differences[inner - 1]), float(differences[-inner])) if inner else _NO_INTERVAL
    u = float(found.statistic)
    return Two(u, float(found.pvalue), exact, 2 * u / pairs - 1, float(np.median(differences)), interval)


def compare_more(groups: Sequence[npt.ArrayLike]) -> More:
    """Kruskal and Wallis' test of three groups or more (J Am Stat Assoc 47, 1952, 583), with its effect.

    H has the correction for ties; p is by chi squared of one degree less than there are groups, as in R's
    ``kruskal.test``. Effect: epsilon squared = H / (n - 1), n of all groups, 0 to 1: the part of the variance
    of the midranks that lies between the groups (Tomczak and Tomczak, Trends Sport Sci 21, 2014, 19, who
    write H / ((n^2 - 1) / (n + 1))). It is not eta squared, (H - k + 1) / (n - k).

    Raises ValueError for fewer than three groups, groups of fewer than `FEWEST`, numbers that are missing,
    and where all are the same.
    """
    from scipy import stats

    given = _groups(groups)
    if len(given) < 3:
        raise ValueError(f"this test is of three groups or more, got {len(given)}")
    found = stats.kruskal(*given)
    n = sum(values.size for values in given)
    return More(float(found.statistic), float(found.pvalue), float(found.statistic) / (n - 1))


def adjusted(p: npt.ArrayLike) -> tuple[F64, F64]:
    """p of a family of tests, (n,), adjusted by Holm and by Benjamini and Hochberg; NaN is no test and stays.

    Holm (Scand J Stat 6, 1979, 65): of m tests the i-th smallest becomes the greatest of
    (m - j + 1) p_(j), j = 1 ... i, at most 1; it bounds the chance of one false finding or more.
    Benjamini and Hochberg (J R Stat Soc B 57, 1995, 289): the least of m p_(j) / j, j = i ... m; it bounds
    the expected part of false findings among the findings. Both as R's ``p.adjust``. Raises ValueError for
    what is no p.
    """
    from scipy import stats

    given = np.asarray(p, np.float64)
    known = ~np.isnan(given)
    tests = given[known]
    if given.ndim != 1 or ((tests < 0) | (tests > 1)).any():
        raise ValueError("p to be adjusted are a list of numbers from 0 to 1")
    holm, hochberg = np.full(given.shape, _NAN), np.full(given.shape, _NAN)
    if tests.size:
        order = np.argsort(tests, kind="stable")
        stepped = np.maximum.accumulate(tests[order] * np.arange(tests.size, 0, -1))
        by_holm = np.empty_like(tests)
        by_holm[order] = np.minimum(stepped, 1)
        holm[known] = by_holm
        hochberg[known] = stats.false_discovery_control(tests, method="bh")
    return holm, hochberg


@lru_cache(maxsize=256)
def _rank_of_limit(few: int, many: int) -> int:
    """C of `compare_two`, of groups of `few` and `many`; 0 where there is none."""
    pairs = few * many
    if many >= EXACT_BELOW:
        reach = NORMAL_95 * np.sqrt(pairs * (few + many + 1) / 12)
        return max(0, int(np.floor(pairs / 2 - reach)))
    # Ways to reach each U: coefficients of the Gaussian binomial, prod (1 - q^(many + i)) / (1 - q^i). Whole
    # numbers, which floats of 64 bits could not hold.
    ways = [1] + [0] * pairs
    for i in range(1, few + 1):
        for u in range(pairs, many + i - 1, -1):
            ways[u] -= ways[u - many - i]
        for u in range(i, pairs + 1):
            ways[u] += ways[u - i]
    below, total, c = 0, sum(ways), 0
    while 40 * (below + ways[c]) <= total:  # P(U <= c) <= 0.025
        below += ways[c]
        c += 1
    return c


def _groups(groups: Sequence[npt.ArrayLike]) -> list[F64]:
    given = [_group(values) for values in groups]
    small = min((values.size for values in given), default=0)
    if small < FEWEST:
        raise ValueError(f"a group to be tested has at least {FEWEST} numbers, got {small}")
    if is_constant(given):
        raise ValueError("all numbers are the same: there is nothing to test")
    return given


def _group(values: npt.ArrayLike) -> F64:
    given = np.asarray(values, np.float64)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError("a group is a list of finite numbers")
    return given
