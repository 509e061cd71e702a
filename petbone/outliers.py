"""Which values of many lie far from the rest, by measures that such values themselves do not move."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FAR = 3.5
"""A modified z-score beyond which a value lies far out (Iglewicz and Hoaglin 1993)."""
FEWEST = 10
"""Of fewer values none is said to lie far out."""
_NORMAL = 0.6745  # of a normal distribution, MAD / SD


def modified_z(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """0.6745 (x - median) / MAD of (n,) values; MAD is the median distance from the median.

    Iglewicz and Hoaglin, "How to detect and handle outliers", 1993. NaN where a value is NaN, where fewer
    than `FEWEST` exist, and for all where half of them are the same, so that MAD is 0.
    """
    found = np.asarray(values, np.float64)
    known = found[~np.isnan(found)]
    nothing = np.full(found.shape, np.nan)
    if len(known) < FEWEST:
        return nothing
    middle = np.median(known)
    spread = np.median(np.abs(known - middle))
    if spread == 0:
        return nothing
    scores: npt.NDArray[np.float64] = _NORMAL * (found - middle) / spread
    return scores


def modified_z_of_logs(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The same of the logarithms: volumes and uptakes spread by factors. What is not above 0 is NaN."""
    found = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.where(found > 0, np.log(found), np.nan)
    return modified_z(logs)
