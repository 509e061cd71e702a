"""From values to places in a figure: one axis, and where its ticks stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

STEPS = (1.0, 2.0, 5.0, 10.0)
MOST_OF_DECADES = 10
MINUS = "−"


@dataclass(frozen=True)
class Scale:
    """An axis that draws `low` at `start` and `high` at `end` (in the units of a view box).

    `end` may be the smaller one, as of an axis upwards. Raises ValueError unless low < high, and 0 < low for
    a logarithmic one.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.logarithmic and not self.low > 0):
            raise ValueError(f"an axis rises, and a logarithmic one above 0: got {self.low} to {self.high}")

    def __call__(self, value: float) -> float:
        """Where `value` is drawn; what lies beyond an end is drawn at that end."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> tuple[tuple[float, str], ...]:
        """Places and words of round values between the ends."""
        values = _decades(self.low, self.high) if self.logarithmic else _steps(self.low, self.high, most)
        return tuple((self(value), words(value)) for value in values)


def words(value: float) -> str:
    """A tick's value in as few digits as it takes.

    >>> words(0.30000000000000004), words(-5.0), words(1200.0)
    ('0.3', '−5', '1200')
    """
    return f"{value:.10g}".replace("-", MINUS)


def _steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most `most` of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * s for s in (*STEPS, 20.0) if (high - low) / (power * s) <= most - 1 or s == 20.0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) + 0.0 for n in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    powers = [10.0**n for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    values = [s * power for power in powers for s in STEPS[:3]]
    inside = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    # Of many decades only the powers of ten have room.
    return inside if len(inside) <= MOST_OF_DECADES else [v for v in inside if v in powers]
