"""Limits of agreement of two measurements of the same things (Bland and Altman).

* *difference* : first minus second; *percent*, 100 x difference / mean of both; *ratio*, first / second
* *bias*       : mean difference; its interval is Student's
* *limits*     : bias -+ 1.96 SD of the differences (n - 1): where 95 % of the differences of normal data lie
* *interval of a limit* : how well these n pairs know it; five formulas, by name, see `INTERVALS`

Bland and Altman, Lancet 327, 1986, 307, and Stat Methods Med Res 8, 1999, 135. A figure that does not exist
is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.agreement import F64, pairs

Interval = tuple[float, float]

REACH = 1.96
"""SDs from the bias to a limit, as the authors print it."""
KINDS = ("difference", "percent", "ratio")
INTERVALS = ("exact", "tolerance", "mover", "1999", "1986")
"""``exact``: each limit for itself, by the noncentral t. ``tolerance``: both limits at once, Carkeet's
two-sided tolerance factors. ``mover``: Zou's from the intervals of mean and SD. ``1999`` and ``1986``: the
approximations of Bland and Altman."""

_NAN = float("nan")
_ROUNDING = 1e-12
_NODES = 64
_WIDEST = 1e4


@dataclass(frozen=True)
class Agreement:
    """Bias, SD, and limits of agreement with their 95 % intervals, in the unit of `kind`.

    As ``ratio``, all are ratios (1 is no bias), but `sd` is that of the natural logarithm of the ratio.
    """

    kind: str
    n: int
    bias: float
    bias_interval: Interval
    sd: float
    low: float
    low_interval: Interval
    high: float
    high_interval: Interval


@dataclass(frozen=True)
class Trend:
    """The line of the difference over the mean, the slope's 95 % interval and its p (slope 0)."""

    slope: float
    slope_interval: Interval
    intercept: float
    p: float


def bland_altman(
    first: npt.ArrayLike, second: npt.ArrayLike, kind: str = "difference", interval: str = "exact"
) -> Agreement:
    """Limits of agreement of pairs, (n,) and (n,): `kind` is one of `KINDS`, `interval` one of `INTERVALS`.

    The intervals are NaN where all differences are the same: that SD of 0 says nothing of other pairs.
    Percentages are of the mean of the pair (Giavarina, Biochem Med 25, 2015, 141); a ratio has its limits
    on the natural logarithm and back (Bland and Altman 1999). Raises ValueError for fewer than two pairs,
    numbers that are missing, unequal lengths, means that are not above 0 for a percentage and numbers that
    are not above 0 for a ratio.
    """
    one, two = pairs(first, second, 2, "a limit of agreement")
    values = _differences(one, two, kind)
    n, bias, sd = len(values), float(values.mean()), float(values.std(ddof=1))
    inner, outer, reach = interval_factors(n, interval)
    if np.ptp(values) <= _ROUNDING * max(np.abs(one).max(), np.abs(two).max(), np.abs(values).max()):
        sd, inner, outer, reach = 0.0, _NAN, _NAN, _NAN

    def ends(low: float, high: float) -> Interval:
        return back(bias + low * sd), back(bias + high * sd)

    def back(value: float) -> float:
        with np.errstate(over="ignore"):  # of two pairs an interval can be wider than numbers go
            return float(np.exp(value)) if kind == "ratio" else value

    low, high = ends(-REACH, REACH)
    return Agreement(
        kind, n, back(bias), ends(-reach, reach), sd, low, ends(-outer, -inner), high, ends(inner, outer)
    )


def _differences(one: F64, two: F64, kind: str) -> F64:
    if kind == "difference":
        return one - two
    if kind == "percent":
        if not (one + two > 0).all():
            raise ValueError("a difference in percent is of pairs with a mean above 0")
        return 200 * (one - two) / (one + two)
    if kind == "ratio":
        if not ((one > 0) & (two > 0)).all():
            raise ValueError("a ratio is of numbers above 0")
        return np.log(one) - np.log(two)
    raise ValueError(f"limits of agreement are of {', '.join(KINDS)}, got {kind!r}")


def interval_factors(n: int, interval: str) -> tuple[float, float, float]:
    """How many SDs from the bias the upper limit's 95 % interval begins and ends, and the bias's own reaches.

    With t the 97.5 % point of Student's t of n - 1 degrees of freedom, limits at z = 1.96 and N = sqrt(n):

    * exact: q / N, where q is the 2.5 % and the 97.5 % point of the noncentral t, n - 1 degrees of freedom,
      noncentrality z N (Carkeet, Optom Vis Sci 92, 2015, e71)
    * tolerance: `tolerance_factor` of .025 and .975 (the same paper; both limits taken as a pair)
    * mover: z -+ sqrt(z^2 / n + z^2 (sqrt((n - 1) / c) - 1)^2), c the 2.5 % point of chi2 of n - 1 degrees of
      freedom for the outer end, the 97.5 % point for the inner (Zou, Stat Methods Med Res 22, 2013, 630)
    * 1999: z -+ t sqrt(1 / n + z^2 / (2 (n - 1)))
    * 1986: z -+ t sqrt(3 / n)

    Raises ValueError for n below 2 or an unknown name.
    """
    if interval not in INTERVALS:
        raise ValueError(f"intervals of limits are {', '.join(INTERVALS)}, got {interval!r}")
    if n < 2:
        raise ValueError(f"an interval of a limit is of at least 2 pairs, got {n}")
    from scipy import stats  # a third of a second, for those who compare

    root = np.sqrt(n)
    t = float(stats.t.ppf(0.975, n - 1))
    if interval == "exact":
        inner, outer = (float(q) / root for q in stats.nct.ppf((0.025, 0.975), n - 1, REACH * root))
    elif interval == "tolerance":
        inner, outer = tolerance_factor(n, 0.025), tolerance_factor(n, 0.975)
    elif interval == "mover":
        ratio = np.sqrt((n - 1) / stats.chi2.ppf((0.975, 0.025), n - 1))
        inner, outer = REACH + np.array([-1, 1]) * REACH * np.hypot(1 / root, ratio - 1)
    else:
        part = 3 / n if interval == "1986" else 1 / n + REACH**2 / (2 * (n - 1))
        inner, outer = REACH - t * np.sqrt(part), REACH + t * np.sqrt(part)
    return float(inner), float(outer), float(t / root)


def tolerance_factor(n: int, probability: float) -> float:
    """K such that mean -+ K SD of n normal numbers holds 95 % of all others with this probability.

    Exact: K solves E_x P(chi2_v > v r(x)^2 / K^2) = probability, with v = n - 1, x normal of variance 1 / n
    and Phi(x + r) - Phi(x - r) = .95 (Carkeet 2015; Krishnamoorthy and Mathew, Statistical Tolerance Regions,
    2009, 2.3). r^2 is the 95 % point of the noncentral chi2 of 1 degree of freedom and noncentrality x^2.
    Raises ValueError for n below 2 or a probability that is not between 0 and 1.
    """
    if n < 2 or not 0 < probability < 1:
        raise ValueError(
            f"a tolerance factor is of 2 numbers or more and 0 < p < 1, got {n}, {probability:g}"
        )
    from scipy import optimize, stats

    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    squared = stats.ncx2.ppf(0.95, 1, nodes**2 / n)

    def surplus(k: float) -> float:
        return float(weights @ stats.chi2.sf((n - 1) * squared / k**2, n - 1)) - probability

    return float(optimize.brentq(surplus, 1 / _WIDEST, _WIDEST, xtol=1e-10))


def proportional_bias(first: npt.ArrayLike, second: npt.ArrayLike) -> Trend:
    """Whether the difference grows with what is measured: least squares of difference on mean.

    Bland and Altman 1999, section 3.2. NaN where all means are the same; interval and p are NaN where the
    line goes through all differences. Raises ValueError for fewer than three pairs, numbers that are missing,
    unequal lengths.
    """
    one, two = pairs(first, second, 3, "a proportional bias")
    mean, difference = (one + two) / 2, one - two
    small = _ROUNDING * max(np.abs(one).max(), np.abs(two).max())
    if np.ptp(mean) <= small:
        return Trend(_NAN, (_NAN, _NAN), _NAN, _NAN)
    from scipy import stats

    line = stats.linregress(mean, difference)
    slope, intercept = float(line.slope), float(line.intercept)
    if np.ptp(difference) <= small:
        return Trend(0.0, (_NAN, _NAN), float(difference.mean()), _NAN)
    if np.abs(difference - intercept - slope * mean).max() <= 10 * small:
        return Trend(slope, (_NAN, _NAN), intercept, _NAN)
    half = float(stats.t.ppf(0.975, len(mean) - 2) * line.stderr)
    return Trend(slope, (slope - half, slope + half), intercept, float(line.pvalue))
