"""How well a measurement repeats: repeatability, intraclass correlation, the interval of a median.

A figure that does not exist is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from petbone.agreement import F64, pairs

Interval = tuple[float, float]

_NAN = float("nan")
_NO_INTERVAL = (_NAN, _NAN)
_ROUNDING = 1e-12
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Repeatability:
    """Within-subject SD and the coefficient, which 95 % of repeats differ by less than; of the unit
    measured."""

    within_sd: float
    coefficient: float


def repeatability_coefficient(first: npt.ArrayLike, second: npt.ArrayLike) -> Repeatability:
    """CR = 1.96 sqrt(2) Sw of each measured twice, with Sw^2 = sum of d^2 / (2 n).

    Bland and Altman, Lancet 327, 1986, 307, and Stat Methods Med Res 8, 1999, 135, section 2. A difference
    between the first and the second time counts as error. Raises ValueError for fewer than two pairs, numbers
    that are missing, unequal lengths.
    """
    one, two = pairs(first, second, 2, "a repeatability")
    within = float(np.sqrt(np.mean((one - two) ** 2) / 2))
    return Repeatability(within, 1.96 * float(np.sqrt(2)) * within)


@dataclass(frozen=True)
class Icc:
    """An intraclass correlation with its 95 % interval, and the F (of `df1` and `df2`) it comes from."""

    value: float
    interval: Interval
    f: float
    df1: int
    df2: int


@dataclass(frozen=True)
class _Squares:
    """Mean squares of an n x k table: between rows, within rows, between columns, left over."""

    n: int
    k: int
    rows: float
    within: float
    columns: float
    error: float


def icc(table: npt.ArrayLike) -> dict[str, Icc]:
    """The six intraclass correlations of n subjects (rows) by k readers (columns): ``1,1`` to ``3,k``.

    ``1``: other readers for each subject; ``2``: these readers stand for others, absolute agreement; ``3``:
    these readers alone, consistency. ``1`` after the comma is of one reading, ``k`` of the mean of k. Shrout
    and Fleiss, Psychol Bull 86, 1979, 420; the interval of ``2,1`` is that of McGraw and Wong, Psychol
    Methods 1, 1996, 30, and ``2,k`` its Spearman-Brown. Raises ValueError unless there are at least two rows,
    two columns, and no number is missing. Where the readings of a subject never differ F and interval are
    NaN, and all is where no number differs from another.
    """
    m = _mean_squares(np.asarray(table, np.float64))
    one = _part(m.rows - m.within, m.rows + (m.k - 1) * m.within)
    two = _part(m.rows - m.error, m.rows + (m.k - 1) * m.error + m.k * (m.columns - m.error) / m.n)
    three = _part(m.rows - m.error, m.rows + (m.k - 1) * m.error)
    df1, df_within, df_error = m.n - 1, m.n * (m.k - 1), (m.n - 1) * (m.k - 1)
    f_within, f_error = _part(m.rows, m.within), _part(m.rows, m.error)
    found = {}
    for name, value, interval, f, df2 in (
        ("1", one, _of_f(f_within, df1, df_within, m.k), f_within, df_within),
        ("2", two, _absolute(two, m), f_error, df_error),
        ("3", three, _of_f(f_error, df1, df_error, m.k), f_error, df_error),
    ):
        found[f"{name},1"] = Icc(value, interval, f, df1, df2)
        low, high = (_of_mean(end, m.k) for end in interval)
        found[f"{name},k"] = Icc(_of_mean(value, m.k), (low, high), f, df1, df2)
    return {name: found[name] for name in sorted(found, key=lambda name: (name[2:], name))}


def _mean_squares(x: F64) -> _Squares:
    if x.ndim != 2 or min(x.shape) < 2:
        raise ValueError(f"an ICC is of at least two subjects by two readers, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"an ICC is of finite numbers; {int((~np.isfinite(x)).sum())} are not")
    n, k = x.shape
    scale = float(np.abs(x).max())
    x = x - x.mean()
    rows, columns = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)

    def square(part: F64, df: int) -> float:
        # What rounding leaves is no difference.
        return 0.0 if np.abs(part).max() <= _ROUNDING * scale else float((part**2).sum() / df)

    return _Squares(
        n,
        k,
        rows=square(rows, n - 1) * k,
        within=square(x - rows, n * (k - 1)),
        columns=square(columns, k - 1) * n,
        error=square(x - rows - columns, (n - 1) * (k - 1)),
    )


def _part(some: float, of: float) -> float:
    return some / of if of else _NAN


def _of_mean(value: float, k: int) -> float:
    """Spearman and Brown: reliability of the mean of k from that of one; NaN below what a mean can have."""
    return k * value / (1 + (k - 1) * value) if 1 + (k - 1) * value > _ROUNDING else _NAN


def _of_f(f: float, df1: int, df2: int, k: int) -> Interval:
    from scipy import stats  # a third of a second, for those who compare

    low, high = f / stats.f.ppf(0.975, df1, df2), f * stats.f.ppf(0.975, df2, df1)
    return float((low - 1) / (low + k - 1)), float((high - 1) / (high + k - 1))


def _absolute(value: float, m: _Squares) -> Interval:
    """McGraw and Wong 1996, table 7, ICC(A,1), with Satterthwaite's degrees of freedom."""
    if not m.error or value == 1:
        return _NO_INTERVAL
    from scipy import stats

    n, k = m.n, m.k
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    squares = (a * m.columns) ** 2 / (k - 1) + (b * m.error) ** 2 / ((n - 1) * (k - 1))
    df = _part((a * m.columns + b * m.error) ** 2, squares)
    rest = k * m.columns + (k * n - k - n) * m.error
    below, above = stats.f.ppf(0.975, n - 1, df), stats.f.ppf(0.975, df, n - 1)
    low = n * (m.rows - below * m.error) / (below * rest + n * m.rows)
    return float(low), float(n * (above * m.rows - m.error) / (rest + n * above * m.rows))


def median_interval(values: npt.ArrayLike, seed: int = 0) -> Interval:
    """95 % interval of the median of (n,) numbers: the percentile bootstrap, 10 000 times, the same each
    time.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. NaN for fewer than three
    numbers, and where all are the same: that says nothing of others. Raises ValueError for numbers that are
    missing.
    """
    given = np.asarray(values, np.float64)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError("a median's interval is of a list of finite numbers")
    if len(given) < 3 or np.ptp(given) <= _ROUNDING * np.abs(given).max():
        return _NO_INTERVAL
    given = np.sort(given)  # so that their order does not matter
    lower, upper = _median_ranks(len(given), seed)
    low, high = np.quantile((given[lower] + given[upper]) / 2, (0.025, 0.975))
    return float(low), float(high)


@lru_cache(maxsize=64)
def _median_ranks(n: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ranks (from 0) of the two middle ones, the same one where n is odd, of each of the bootstrap's samples.

    They depend on n alone, so that the medians of many measures of one group are drawn once.
    """
    rng = np.random.default_rng(seed)
    middle = [(n - 1) // 2, n // 2]
    # A hundred at once: as fast as all at once, without their memory.
    drawn = (rng.choice(n, (100, n)) for _ in range(_RESAMPLES // 100))
    ranks = np.concatenate([np.partition(some, middle, axis=1)[:, middle] for some in drawn])
    return ranks[:, 0], ranks[:, 1]
