"""How well two readers, or two tracers, agree on what is diseased: counts in, figures out.

* *agreement* : the part of the cases on which both say the same
* *kappa*     : (agreement - what chance would give) / (1 - what chance would give), Cohen 1960
* *positive agreement* : 2 x both / (2 x both + one only + other only); *negative* likewise, of neither
  (Cicchetti and Feinstein, J Clin Epidemiol 43, 1990, 551)

A figure that does not exist is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

NORMAL_95 = 1.959963984540054
FEWEST_PAIRS = 5
"""Of fewer pairs no rank correlation is given."""

_NAN = float("nan")
_ROUNDING = 1e-6  # of a standard error: the root of what cancels in its variance


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa, its standard error, and the ends of its 95 % interval."""

    value: float
    se: float
    low: float
    high: float


def kappa(counts: npt.ArrayLike) -> Kappa:
    """Cohen's kappa of a square table of counts: rows are the classes of the one, columns of the other.

    Standard error for large samples (Fleiss, Cohen and Everitt, Psychol Bull 72, 1969, 323): with parts
    p_ij, sums p_i. and p_.j, chance e = sum of p_i. p_.i and kappa k,

        A = sum_i p_ii (1 - (p_i. + p_.i) (1 - k))^2
        B = (1 - k)^2 sum_(i != j) p_ij (p_.i + p_j.)^2
        C = (k - e (1 - k))^2
        SE = sqrt(A + B - C) / ((1 - e) sqrt(n))

    The interval is k +- 1.96 SE, no wider than -1 to 1. All NaN without a case, or where both put all cases
    into one class (chance alone would agree). Where SE is 0, as where both agree on every case, it says
    nothing of other samples: it and the interval are NaN. Raises ValueError unless `counts` is square, at
    least 2 x 2, whole and not negative.
    """
    table = np.asarray(counts, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise ValueError(f"kappa is of a square table of at least two classes, got shape {table.shape}")
    if not (table >= 0).all() or not (table == np.rint(table)).all():
        raise ValueError("kappa is of counts: whole numbers of 0 or more")
    n = table.sum()
    if n == 0:
        return Kappa(_NAN, _NAN, _NAN, _NAN)
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    chance = float(rows @ columns)
    if table.max() == n and np.trace(table) == n:
        return Kappa(_NAN, _NAN, _NAN, _NAN)
    value = float((np.trace(p) - chance) / (1 - chance))
    on = np.diag(p) @ (1 - (rows + columns) * (1 - value)) ** 2
    weights = (columns[:, None] + rows[None, :]) ** 2
    np.fill_diagonal(weights, 0)
    off = (1 - value) ** 2 * (p * weights).sum()
    variance = on + off - (value - chance * (1 - value)) ** 2
    se = float(np.sqrt(max(variance, 0)) / ((1 - chance) * np.sqrt(n)))
    if se < _ROUNDING:
        return Kappa(value, _NAN, _NAN, _NAN)
    reach = NORMAL_95 * se
    return Kappa(value, se, max(value - reach, -1.0), min(value + reach, 1.0))


def two_by_two(both: int, first: int, second: int, neither: int) -> dict[str, float]:
    """Figures of two yes-or-no readings: `both` say yes, `first` or `second` alone, `neither`.

    ``agreement_percent``, ``positive_agreement``, ``negative_agreement``, ``kappa`` and its ``kappa_se``,
    ``kappa_low``, ``kappa_high``. Raises ValueError for counts that are none.
    """
    found = kappa([[both, first], [second, neither]])
    return {
        "agreement_percent": 100 * _part(both + neither, both + first + second + neither),
        "positive_agreement": _part(2 * both, 2 * both + first + second),
        "negative_agreement": _part(2 * neither, 2 * neither + first + second),
        "kappa": found.value,
        "kappa_se": found.se,
        "kappa_low": found.low,
        "kappa_high": found.high,
    }


def _part(some: float, of: float) -> float:
    return some / of if of else _NAN


def dice(shared: float, first: float, second: float) -> float:
    """Twice what two volumes share over their sum, at most 1; NaN where both are 0."""
    return min(_part(2 * shared, first + second), 1.0) if first + second else _NAN


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's rho, ties by their mean rank; NaN for fewer than `FEWEST_PAIRS` pairs or if one is constant.

    Raises ValueError where the lengths differ.
    """
    one, two = _of_one_length(first, second, "a correlation")
    if len(one) < FEWEST_PAIRS or np.ptp(one) == 0 or np.ptp(two) == 0:
        return _NAN
    from scipy.stats import rankdata  # a third of a second, for those who have two tracers

    return float(np.corrcoef(rankdata(one), rankdata(two))[0, 1])


def volume_difference_percent(first: float, second: float) -> float:
    """100 |V1 - V2| / ((V1 + V2) / 2) of two volumes (or two of any size that is not negative); 0 to 200.

    Volume difference over mean volume, as in Lindgren Belal et al., Eur J Radiol 113, 2019, 89. NaN where
    both are 0. Raises ValueError for a negative or missing volume.
    """
    if not (0 <= first < math.inf and 0 <= second < math.inf):
        raise ValueError(f"volumes are finite numbers of 0 or more, got {first:g} and {second:g}")
    return 200 * _part(abs(first - second), first + second)


def pairs(first: npt.ArrayLike, second: npt.ArrayLike, fewest: int, what: str) -> tuple[F64, F64]:
    """Both as (n,) float64. Raises ValueError, naming `what`, unless there are `fewest` pairs, all finite."""
    one, two = _of_one_length(first, second, what)
    if len(one) < fewest:
        raise ValueError(f"{what} is of at least {fewest} pairs, got {len(one)}")
    missing = int((~(np.isfinite(one) & np.isfinite(two))).sum())
    if missing:
        raise ValueError(f"{what} is of finite numbers; {missing} of {len(one)} pairs have one that is not")
    return one, two


def _of_one_length(first: npt.ArrayLike, second: npt.ArrayLike, what: str) -> tuple[F64, F64]:
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.ndim != 1:
        raise ValueError(f"{what} is of pairs, got shapes {one.shape} and {two.shape}")
    return one, two
