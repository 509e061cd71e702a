"""How a number is spread over the cases of a cohort: a point per case, a box per group. Numbers for an SVG.

Boxes, whiskers and the place of 0 are those of `box_chart`. Where the values above 0 span more than a factor
of `LOGARITHMIC`, the axis is logarithmic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from petbone.report.box_chart import (
    BOTTOM,
    FEWEST_FOR_A_BOX,
    LEFT,
    TOP,
    WIDTH,
    ZERO_GAP,
    Box,
    BoxChart,
    five_numbers,
    jitter,
)
from petbone.report.difference_plot import Point
from petbone.report.scales import Scale
from petbone.report.tables import called, three

LOGARITHMIC = 20.0
ROW, ALONE = 40.0, 64.0  # height of a row of several, and of one alone
ROOM = 128.0  # right of the axis, for counts and medians
LONGEST = 16  # letters of a name beside the axis
EDGE = 14.0  # left of the axis where no row has a name


def spread_chart(title: str, unit: str, groups: Mapping[str, Sequence[tuple[str, float]]]) -> BoxChart:
    """A row per group of (case, value); values that do not exist are left out by the caller.

    A group's name may be empty. Raises ValueError without any group, and for a value that is no number.
    """
    if not groups:
        raise ValueError("a chart has at least one group")
    values = np.array([value for pairs in groups.values() for _, value in pairs], np.float64)
    if not np.isfinite(values).all():
        raise ValueError("expected finite values")
    positive = values[values > 0]
    wide = len(positive) > 0 and float(positive.max()) > LOGARITHMIC * float(positive.min())
    logarithmic = wide and not (values < 0).any()
    left = LEFT if any(groups) else EDGE
    zero = left if logarithmic and bool((values == 0).any()) else None
    start = left + ZERO_GAP if zero is not None else left
    x_of = Scale(*_ends(values, positive, logarithmic), start, WIDTH - ROOM, logarithmic)

    def place(value: float) -> float:
        return left if logarithmic and value <= 0 else x_of(value)

    height = ALONE if len(groups) == 1 else ROW
    boxes = [
        _box(name, pairs, TOP + (n + 0.5) * height, height, (place, unit))
        for n, (name, pairs) in enumerate(groups.items())
    ]
    bottom = TOP + len(groups) * height
    words = f"{title}, {unit}" if unit else title
    return BoxChart(
        title=f"{words} (logarithmic)" if logarithmic else words,
        height=bottom + BOTTOM,
        left=start,
        right=WIDTH - ROOM,
        top=TOP,
        bottom=bottom,
        ticks=x_of.ticks(6),
        zero=zero,
        boxes=tuple(boxes),
        rows_are="group of cases",
    )


def _ends(
    values: npt.NDArray[np.float64], positive: npt.NDArray[np.float64], logarithmic: bool
) -> tuple[float, float]:
    if logarithmic:
        return float(positive.min()) / 1.1, float(positive.max()) * 1.1
    if not len(values):
        return 0.0, 1.0
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return (low * 1.05, high * 1.05) if high > low else (0.0, 1.0)


def _box(
    name: str,
    pairs: Sequence[tuple[str, float]],
    y: float,
    height: float,
    how: tuple[Callable[[float], float], str],
) -> Box:
    place, unit = how
    values = np.array([value for _, value in pairs], np.float64)
    median = float(np.median(values)) if len(values) else None
    said = f" {unit}" if unit else ""
    points = tuple(
        Point(place(value), y + jitter(n, height * 0.8), f"{case}: {three(value)}{said}")
        for n, (case, value) in enumerate(pairs)
    )
    note = f"n {len(values)}" if median is None else f"n {len(values)}, median {three(median)}"
    return Box(
        name=_short(name),
        y=y,
        box=five_numbers(values, place) if len(values) >= FEWEST_FOR_A_BOX else None,
        median=None if median is None else place(median),
        points=points,
        crosses=(),
        note=note,
        half=height * 0.36,
    )


def _short(name: str) -> str:
    """A group's name as there is room for it."""
    said = called(name) if name else ""
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
