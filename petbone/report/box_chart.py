"""Box plots of a figure of overlap, a row per bone, with a point for every case. Numbers for an SVG.

* box      : quartiles and median as numpy's percentiles (linear); drawn from 5 values on
* whiskers : the farthest values within 1.5 times the height of the box (Tukey)
* zero     : a place of its own beside the axis, for bones that were missed and masks that do not meet
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.report.difference_plot import Point
from petbone.report.scales import Scale
from petbone.report.tables import shown

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 600.0, 116.0, 104.0, 8.0, 42.0
ROW, BOX = 30.0, 16.0
ZERO_GAP = 26.0  # from the place of 0 to where the axis begins
SPREAD = 11.0  # of the points, up and down
ROWS = 16  # in one chart; more go into the next, so that each fits a printed page
FEWEST_FOR_A_BOX = 5
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Box:
    """One row: a bone, or a group of cases.

    A box has five numbers: whisker, quartile, median, quartile, whisker.
    """

    name: str
    y: float
    box: tuple[float, float, float, float, float] | None
    median: float | None
    points: tuple[Point, ...]
    crosses: tuple[Point, ...]  # missed bones
    note: str
    half: float = BOX / 2  # of the height of the box


@dataclass(frozen=True)
class BoxChart:
    """Everything that the template draws; lengths in the units of its view box."""

    title: str
    height: float
    left: float
    right: float
    top: float
    bottom: float
    ticks: tuple[tuple[float, str], ...]
    zero: float | None
    boxes: tuple[Box, ...]
    rows_are: str = "bone"


@dataclass(frozen=True)
class _Kind:
    column: str
    title: str
    unit: str
    digits: int
    logarithmic: bool
    missed_are_zero: bool


DICE = _Kind("dice", "Dice", "", 3, False, True)
HD95 = _Kind("hd95_mm", "HD95, mm (logarithmic)", " mm", 1, True, False)


def box_charts(overlap: pd.DataFrame, bones: Sequence[str], kind: _Kind) -> tuple[BoxChart, ...]:
    """Charts of `kind` (`DICE` or `HD95`), all on one axis; empty without a bone.

    `overlap` has the columns of `validation.OVERLAP_COLUMNS`. A missed bone is a 0 of Dice and counts in its
    box; it has no distance, and is but counted there.
    """
    values = overlap[kind.column].to_numpy(np.float64)
    positive = values[np.isfinite(values) & (values > 0)]
    missed = overlap["found"] == "missed"
    zeros = bool((values == 0).any()) or (kind.missed_are_zero and bool(missed.any()))
    start = LEFT + (ZERO_GAP if zeros else 0.0)
    low, high = _ends(positive, kind)
    x_of = Scale(low, high, start, WIDTH - RIGHT, kind.logarithmic)
    rows_of = {str(bone): rows for bone, rows in overlap.groupby("bone", sort=False)}
    none = overlap.iloc[:0]
    charts = []
    for first in range(0, len(bones), ROWS):
        part = bones[first : first + ROWS]
        boxes = [
            _box(bone, rows_of.get(bone, none), TOP + (n + 0.5) * ROW, x_of, kind)
            for n, bone in enumerate(part)
        ]
        bottom = TOP + len(part) * ROW
        charts.append(
            BoxChart(
                title=kind.title,
                height=bottom + BOTTOM,
                left=start,
                right=WIDTH - RIGHT,
                top=TOP,
                bottom=bottom,
                ticks=x_of.ticks(6),
                zero=LEFT if zeros else None,
                boxes=tuple(boxes),
            )
        )
    return tuple(charts)


def _ends(positive: npt.NDArray[np.float64], kind: _Kind) -> tuple[float, float]:
    if not kind.logarithmic:
        low = float(positive.min()) if len(positive) else 0.0
        return max(0.0, np.floor(low * 20 - 0.5) / 20), 1.0
    if not len(positive):
        return 1.0, 10.0
    return float(positive.min()) / 1.15, float(positive.max()) * 1.15


def _box(bone: str, rows: pd.DataFrame, y: float, x_of: Scale, kind: _Kind) -> Box:
    missed = rows[rows["found"] == "missed"]
    measured = rows[(rows["found"] == "both") & rows[kind.column].notna()]
    values = measured[kind.column].to_numpy(np.float64)
    if kind.missed_are_zero:
        values = np.append(values, np.zeros(len(missed)))

    def place(value: float) -> float:
        return x_of(value) if value > 0 else LEFT

    median = float(np.median(values)) if len(values) else None
    points = [
        Point(place(value), y + jitter(n), f"{case}: {shown(value, kind.digits)}{kind.unit}")
        for n, (case, value) in enumerate(zip(measured["case"], measured[kind.column], strict=True))
    ]
    crosses = [Point(LEFT, y + jitter(n), f"{case}: missed") for n, case in enumerate(missed["case"])]
    counts = {"missed": len(missed), "extra": int((rows["found"] == "extra").sum())}
    return Box(
        name=bone,
        y=y,
        box=five_numbers(values, place) if len(values) >= FEWEST_FOR_A_BOX else None,
        median=None if median is None else place(median),
        points=tuple(points),
        crosses=tuple(crosses) if kind.missed_are_zero else (),
        note=_note(len(values), counts),
    )


def five_numbers(
    values: npt.NDArray[np.float64], place: Callable[[float], float] = float
) -> tuple[float, float, float, float, float]:
    """Whisker, quartile, median, quartile, whisker of (n,) values, each taken through `place`."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    found = (inside.min(), low, middle, high, inside.max())
    first, second, third, fourth, fifth = (place(float(value)) for value in found)
    return first, second, third, fourth, fifth


def jitter(n: int, spread: float = SPREAD) -> float:
    """How far the n-th point of a row is moved up or down: evenly spread, the same each time."""
    return ((n + 1) * _GOLDEN % 1 - 0.5) * spread


def _note(n: int, counts: Mapping[str, int]) -> str:
    return ", ".join([f"n {n}", *(f"{count} {word}" for word, count in counts.items() if count)])
