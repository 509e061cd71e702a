"""The Bland-Altman plot of a bone's volumes: difference over mean, bias and limits. Numbers for an SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from petbone.report.scales import Scale
from petbone.report.tables import shown

WIDTH, HEIGHT = 384.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 58.0, 24.0, 40.0
STRIP = 18.0  # height of the margin that holds the bones of one mask alone
MARGIN = 0.06  # of the span, around all that is drawn
REACH = (
    0.6  # of the span: an interval that goes farther is cut at the frame, for it would press the points flat
)
LINE_HEIGHT = 12.0


@dataclass(frozen=True)
class Point:
    """A case, with the words that a pointer held over it shows."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Level:
    """Bias or a limit: a line across the plot, the band of its 95 % interval, and its value beside it."""

    kind: str  # bias, low or high
    y: float
    band: tuple[float, float] | None  # top and bottom; None where there is no interval
    text: str
    text_y: float


@dataclass(frozen=True)
class DifferencePlot:
    """Everything that the template draws; lengths in the units of its view box."""

    bone: str
    n: int
    left: float
    right: float
    top: float
    bottom: float
    zero: float
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    points: tuple[Point, ...]
    levels: tuple[Level, ...]
    trend: tuple[float, float, float, float] | None  # x, y of both ends
    missed: tuple[Point, ...]
    extra: tuple[Point, ...]
    words: tuple[str, ...]


def difference_plot(
    bone: str, cases: pd.DataFrame, agreement: Mapping[Any, Any], name: str = ""
) -> DifferencePlot:
    """Predicted minus reference over their mean, in mL.

    `cases` are the rows of `validation.OVERLAP_COLUMNS` of the bone, `agreement` its row of
    `AGREEMENT_COLUMNS`; `name` is how the bone is called, where not by `bone`. A figure that is NaN is not
    drawn. What one mask alone has is a mark in the margin at its volume.
    """
    both = cases[cases["found"] == "both"].dropna(subset=["volume_reference_ml", "volume_predicted_ml"])
    mean = (both["volume_reference_ml"] + both["volume_predicted_ml"]) / 2
    difference = both["volume_predicted_ml"] - both["volume_reference_ml"]
    missed = cases[(cases["found"] == "missed") & cases["volume_reference_ml"].notna()]
    extra = cases[(cases["found"] == "extra") & cases["volume_predicted_ml"].notna()]
    known = [*mean, *missed["volume_reference_ml"], *extra["volume_predicted_ml"]]
    x_of = Scale(*_span(known, []), LEFT + 6, WIDTH - RIGHT - 6)
    top, bottom = TOP + STRIP * bool(len(extra)), HEIGHT - BOTTOM - STRIP * bool(len(missed))
    ends = [_number(agreement, key) for key in ("bias_ml", "loa_low_ml", "loa_high_ml")]
    wide = [_number(agreement, key) for key in ("loa_low_ci_low_ml", "loa_high_ci_high_ml")]
    shown = [0.0, *difference, *_known(ends)] if len(both) else [-1.0, 1.0]
    y_of = Scale(*_span(shown, _known(wide)), bottom, top)
    points = [
        Point(x_of(m), y_of(d), f"{case}: {_ml(p)} predicted, {_ml(r)} reference, {_signed(d)} mL")
        for case, m, d, p, r in zip(
            both["case"], mean, difference, both["volume_predicted_ml"], both["volume_reference_ml"],
            strict=True,
        )
    ]  # fmt: skip
    return DifferencePlot(
        bone=name or bone,
        n=len(both),
        left=LEFT,
        right=WIDTH - RIGHT,
        top=top,
        bottom=bottom,
        zero=y_of(0.0),
        x_ticks=x_of.ticks(6),
        y_ticks=y_of.ticks(7),
        points=tuple(points),
        levels=_levels(agreement, y_of),
        trend=_trend(agreement, mean, x_of, y_of) if len(both) else None,
        missed=tuple(
            Point(x_of(ml), bottom + STRIP / 2, f"{case}: missed, {_ml(ml)} in the reference")
            for case, ml in zip(missed["case"], missed["volume_reference_ml"], strict=True)
        ),
        extra=tuple(
            Point(x_of(ml), top - STRIP / 2, f"{case}: in the prediction alone, {_ml(ml)}")
            for case, ml in zip(extra["case"], extra["volume_predicted_ml"], strict=True)
        ),
        words=_words(agreement, len(both), len(missed), len(extra)),
    )


def _span(values: list[float], wide: list[float]) -> tuple[float, float]:
    """Ends of an axis that holds all `values`, and of `wide` what is not too far from them."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    least = max(0.02 * max(abs(low), abs(high)), 0.1)  # one case, or many of one size
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    reach = REACH * (high - low)
    low, high = max(low - reach, min([low, *wide])), min(high + reach, max([high, *wide]))
    margin = MARGIN * (high - low)
    return low - margin, high + margin


def _levels(agreement: Mapping[Any, Any], y_of: Scale) -> tuple[Level, ...]:
    keys = {
        "high": ("loa_high_ml", "loa_high_ci_low_ml", "loa_high_ci_high_ml"),
        "bias": ("bias_ml", "bias_low_ml", "bias_high_ml"),
        "low": ("loa_low_ml", "loa_low_ci_low_ml", "loa_low_ci_high_ml"),
    }
    levels: list[Level] = []
    for kind, names in keys.items():
        value, low, high = (_number(agreement, key) for key in names)
        if math.isnan(value):
            continue
        band = None if math.isnan(low) or math.isnan(high) else (y_of(high), y_of(low))
        # Words of levels that lie close are pushed apart, downwards.
        text_y = max([y_of(value) + 4, *(level.text_y + LINE_HEIGHT for level in levels)])
        levels.append(Level(kind, y_of(value), band, _signed(value), text_y))
    return tuple(levels)


def _trend(
    agreement: Mapping[Any, Any], mean: pd.Series[float], x_of: Scale, y_of: Scale
) -> tuple[float, float, float, float] | None:
    """The line of least squares, which passes the mean of both, where its slope is not 0 by its interval."""
    slope, low, high, bias = (
        _number(agreement, key) for key in ("slope", "slope_low", "slope_high", "bias_ml")
    )
    if any(map(math.isnan, (slope, low, high, bias))) or low <= 0 <= high:
        return None
    first, last, middle = float(mean.min()), float(mean.max()), float(mean.mean())
    ends = [(x_of(at), y_of(bias + slope * (at - middle))) for at in (first, last)]
    return (*ends[0], *ends[1])


def _words(agreement: Mapping[Any, Any], n: int, missed: int, extra: int) -> tuple[str, ...]:
    bias, low, high, slope = (
        _number(agreement, key) for key in ("bias_ml", "loa_low_ml", "loa_high_ml", "slope")
    )
    found = [f"n = {n}" + (f", {missed} missed" if missed else "") + (f", {extra} extra" if extra else "")]
    if not math.isnan(bias):
        told = interval(agreement, "bias_low_ml", "bias_high_ml")
        found.append(f"bias {_signed(bias)} mL" + (f" ({told})" if told else ""))
    if not math.isnan(low) and not math.isnan(high):
        ends = (
            interval(agreement, "loa_low_ci_low_ml", "loa_low_ci_high_ml"),
            interval(agreement, "loa_high_ci_low_ml", "loa_high_ci_high_ml"),
        )
        told_low, told_high = (f" ({end})" if end else "" for end in ends)
        found.append(f"limits {_signed(low)}{told_low} to {_signed(high)}{told_high}")
    told = interval(agreement, "slope_low", "slope_high", 2)
    if told and not math.isnan(slope) and not _holds_zero(agreement):
        found.append(f"slope {shown(slope, 2)} ({told})")
    return tuple(found)


def _holds_zero(agreement: Mapping[Any, Any]) -> bool:
    return _number(agreement, "slope_low") <= 0 <= _number(agreement, "slope_high")


def interval(record: Mapping[Any, Any], low: str, high: str, digits: int = 1) -> str:
    """Both ends in words; empty where an end has no value."""
    ends = _number(record, low), _number(record, high)
    if any(map(math.isnan, ends)):
        return ""
    return f"{fixed(ends[0], digits)} to {fixed(ends[1], digits)}"


def _number(record: Mapping[Any, Any], key: str) -> float:
    """The figure as a number; NaN for every kind of gap, and where it is endless."""
    value = record.get(key)
    return float(value) if value is not None and pd.notna(value) and math.isfinite(value) else float("nan")


def _known(values: list[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _ml(value: float) -> str:
    return f"{shown(value, 1)} mL"


def fixed(value: float, digits: int) -> str:
    """With all its decimals, also where these are 0; -0.0 is 0.0."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _signed(value: float) -> str:
    text = fixed(value, 1)
    return text if text.startswith("−") or not float(text) else f"+{text}"
