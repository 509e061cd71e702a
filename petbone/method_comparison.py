"""Whether two methods are the same line: Lin's concordance correlation, Passing and Bablok's regression.

A figure that does not exist is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.agreement import F64, NORMAL_95, pairs

Interval = tuple[float, float]

_NAN = float("nan")
_NO_INTERVAL = (_NAN, _NAN)
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Concordance:
    """Lin's coefficient with its 95 % interval, and Pearson's r, which it cannot pass."""

    value: float
    interval: Interval
    r: float


def concordance_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Concordance:
    """Lin's concordance correlation 2 s12 / (s1^2 + s2^2 + (m1 - m2)^2), variances over n.

    Lin, Biometrics 45, 1989, 255; the interval by Fisher's z with the standard error as corrected in
    Biometrics 56, 2000, 324: with c the coefficient, u^2 = (m1 - m2)^2 / (s1 s2),

        var z = ((1 - r^2) c^2 / ((1 - c^2) r^2) + 2 c^3 (1 - c) u^2 / (r (1 - c^2)^2)
                 - c^4 u^4 / (2 r^2 (1 - c^2)^2)) / (n - 2)

    NaN where neither varies and both are the same; the interval is NaN where r or 1 - c is 0. Raises
    ValueError for fewer than three pairs, numbers that are missing, unequal lengths.
    """
    one, two = pairs(first, second, 3, "a concordance")
    small = _ROUNDING * max(np.abs(one).max(), np.abs(two).max())
    if max(np.ptp(one), np.ptp(two), np.abs(one - two).max()) <= small:
        return Concordance(_NAN, _NO_INTERVAL, _NAN)
    sd1, sd2, shift = float(one.std()), float(two.std()), float(one.mean() - two.mean())
    together = float(np.mean((one - one.mean()) * (two - two.mean())))
    c = 2 * together / (sd1**2 + sd2**2 + shift**2)
    if min(np.ptp(one), np.ptp(two)) <= small:
        return Concordance(0.0, _NO_INTERVAL, _NAN)
    r = together / (sd1 * sd2)
    if abs(r) < _ROUNDING or 1 - abs(c) < _ROUNDING:
        return Concordance(c, _NO_INTERVAL, r)
    u2, rest = shift**2 / (sd1 * sd2), 1 - c**2
    variance = (1 - r**2) * c**2 / (rest * r**2) + 2 * c**3 * (1 - c) * u2 / (r * rest**2)
    variance = (variance - c**4 * u2**2 / (2 * r**2 * rest**2)) / (len(one) - 2)
    half = NORMAL_95 * float(np.sqrt(max(variance, 0)))
    z = float(np.arctanh(c))
    return Concordance(c, (float(np.tanh(z - half)), float(np.tanh(z + half))), r)


@dataclass(frozen=True)
class PassingBablok:
    """The line second = intercept + slope x first, with 95 % intervals."""

    slope: float
    slope_interval: Interval
    intercept: float
    intercept_interval: Interval


def passing_bablok(first: npt.ArrayLike, second: npt.ArrayLike) -> PassingBablok:
    """Passing and Bablok's line, which takes either for the other and bears outliers: medians of slopes.

    J Clin Chem Clin Biochem 21, 1983, 709. Slopes between all two points, but for points that are one and for
    slopes of -1; the median is shifted by the number K of slopes below -1. With N slopes and
    C = 1.96 sqrt(n (n - 1) (2 n + 5) / 18), M = round((N - C) / 2), the interval goes from slope M + K to
    slope N - M + 1 + K in their order. Intercepts are medians of second - slope x first. For methods that go
    the same way. Raises ValueError for fewer than three pairs, numbers that are missing, unequal lengths.
    """
    one, two = pairs(first, second, 3, "Passing and Bablok's line")
    n = len(one)
    slopes = _slopes(one, two)
    count = len(slopes)
    shift = int((slopes < -1).sum())
    reach = NORMAL_95 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    edge = int(np.floor((count - reach) / 2 + 0.5))
    slope = (_nth(slopes, (count + 1) // 2 + shift) + _nth(slopes, count // 2 + 1 + shift)) / 2
    low, high = _nth(slopes, edge + shift), _nth(slopes, count - edge + 1 + shift)

    def intercept(b: float) -> float:
        return float(np.median(two - b * one)) if np.isfinite(b) else _NAN

    return PassingBablok(slope, (low, high), intercept(slope), (intercept(high), intercept(low)))


def _slopes(one: F64, two: F64) -> F64:
    """In order, the slopes that count."""
    i, j = np.triu_indices(len(one), 1)
    dx, dy = one[j] - one[i], two[j] - two[i]
    small_x, small_y = _ROUNDING * np.abs(one).max(), _ROUNDING * np.abs(two).max()
    dx[np.abs(dx) <= small_x] = 0
    dy[np.abs(dy) <= small_y] = 0
    counts = ((dx != 0) | (dy != 0)) & ((np.abs(dx + dy) > small_x + small_y) | (dx == 0) | (dy == 0))
    dx, dy = dx[counts], dy[counts]
    with np.errstate(divide="ignore"):
        # Upright up or down is one: below -1 it would sort first and shift all others by the same one.
        return np.sort(np.where(dx == 0, np.inf, dy / dx))


def _nth(ordered: F64, n: int) -> float:
    """The n-th, from 1; NaN where there is none, and for a line that stands upright."""
    if not 1 <= n <= len(ordered) or not np.isfinite(ordered[n - 1]):
        return _NAN
    return float(ordered[n - 1])
