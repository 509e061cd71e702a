"""A displacement that was measured: how far, and how sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtr

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shift:
    """The shift at one bone: `mm` (3,) at `place_mm`, its middle, and `covariance` (3, 3) mm^2.

    The covariance holds what Student's t has over the normal distribution: 1.96 standard deviations by it
    are 95 %.
    """

    place_mm: Array
    mm: Array
    covariance: Array
    misfit: float = 0.0  # what the prediction leaves of the PET there, in parts of bone's usual uptake


def length_and_interval(shift: Shift) -> tuple[float, float]:
    """Length of a shift in mm, and the half-width of its 95 % interval.

    The length of a noisy vector is no normal quantity: near 0 it is always too long. So the interval holds
    every true length (in the direction found) that would give a length like the one found in 95 of 100
    cases; its farther end counts. Lengths squared are taken as scaled chi-squared (Patnaik 1949).
    """
    length = float(np.linalg.norm(shift.mm))
    direction = shift.mm / length if length > 0 else np.array([1.0, 0.0, 0.0])
    total = float(np.trace(shift.covariance))
    along = float(direction @ shift.covariance @ direction)
    reach = length + 5 * np.sqrt(total) + 1e-9
    true = np.linspace(0.0, reach, 400)
    mean = true**2 + total
    variance = 2 * float((shift.covariance**2).sum()) + 4 * true**2 * along
    scale, degrees = variance / (2 * mean), 2 * mean**2 / variance
    chance = chdtr(degrees, length**2 / scale)
    inside = true[(chance > 0.025) & (chance < 0.975)]
    if not inside.size:
        inside = true[[int(np.abs(chance - 0.5).argmin())]]
    # One much shorter than chance would have it is no surer than along the direction found.
    least = 1.96 * float(np.sqrt(along))
    return length, float(max(length - inside.min(), inside.max() - length, least))
