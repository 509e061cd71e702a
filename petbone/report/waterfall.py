"""The waterfall of a follow-up: a bar per hotspot or patient, by how much its uptake has changed, for an SVG.

* up    : log of the ratio second / first; new and gone ones fill the height, for they have no ratio
* band  : the limits of repeatability
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

WIDTH, LEFT, RIGHT, TOP, PLOT_HEIGHT = 1160.0, 62.0, 118.0, 20.0, 230.0
WIDEST, LABELLED, VALUED = 54.0, 70, 34
TICKS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0, 16.0)
TICK_WORDS = ("1/16", "1/8", "1/4", "1/2", "1", "2", "4", "8", "16")
LEAST_RATIO, MOST_RATIO = 2.2, 16.0  # the height shows at least and at most this ratio either way


@dataclass(frozen=True)
class Bar:
    """One hotspot or patient. `css` is its change; `value` the ratio as printed beside the end of the bar."""

    x: float
    y: float
    width: float
    height: float
    css: str
    label: str
    value: str
    value_y: float
    title: str

    @property
    def middle(self) -> float:
        """Where label and value stand."""
        return self.x + self.width / 2


@dataclass(frozen=True)
class Waterfall:
    """Everything that the template draws; lengths in the units of its view box."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    zero: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    band: tuple[float, float, str, str] | None  # top and bottom of the band, and what stands at either
    labelled: bool
    valued: bool


@dataclass(frozen=True)
class Fall:
    """What a bar is of. Without a `ratio` it fills the height above 1, or below it unless `rises`."""

    css: str
    label: str
    title: str
    value: str
    ratio: float | None = None
    rises: bool = True


def waterfall(
    changes: pd.DataFrame, limits: tuple[float, float] | None, spoken: Callable[[str], str]
) -> Waterfall | None:
    """The figure of `change.hotspot_changes`; None without a bar. `spoken` says a bone's name for people."""
    new = changes[changes["change"] == "new"].sort_values("tlu_g_2", ascending=False)
    gone = changes[changes["change"] == "gone"].sort_values("tlu_g_1")
    both = changes[changes["tlu_ratio"].notna()].sort_values("tlu_ratio", ascending=False)
    falls = []
    for row in [*new.to_dict("records"), *both.to_dict("records"), *gone.to_dict("records")]:
        change = row["change"] if isinstance(row["change"], str) else "not judged"
        name = spoken(str(row["bone_2"] if isinstance(row["bone_2"], str) else row["bone_1"]))
        if change == "new":
            fall = Fall("new", name, f"{name}: new, {row['tlu_g_2']:.3g} g", "new")
        elif change == "gone":
            words = f"{name}: gone, {row['tlu_g_1']:.3g} g before"
            fall = Fall("gone", name, words, "gone", rises=False)
        else:
            value = f"{row['tlu_ratio']:.2f}"
            words = f"{row['tlu_g_1']:.3g} g, then {row['tlu_g_2']:.3g} g, × {value}, {change}"
            css = change.replace("not judged", "unjudged")
            fall = Fall(css, name, f"{name}: {words}", value, row["tlu_ratio"])
        falls.append(fall)
    return drawn(falls, limits)


def drawn(falls: Sequence[Fall], limits: tuple[float, float] | None) -> Waterfall | None:
    """A bar each, from left to right; None without one. `limits` are those of repeatability, of the ratio."""
    if not falls:
        return None
    logs = [abs(math.log(fall.ratio)) for fall in falls if fall.ratio is not None]
    ends = [abs(math.log(end)) for end in limits or ()]
    most = min(max(math.log(LEAST_RATIO), *logs, *ends) * 1.1, math.log(MOST_RATIO))
    zero = TOP + PLOT_HEIGHT / 2

    def y_of(ratio: float) -> float:
        return zero - max(-most, min(most, math.log(ratio))) / most * PLOT_HEIGHT / 2

    right = WIDTH - RIGHT
    step = min((right - LEFT) / len(falls), WIDEST)
    labelled = len(falls) <= LABELLED
    bars = []
    for n, fall in enumerate(falls):
        end = y_of(fall.ratio) if fall.ratio is not None else TOP if fall.rises else TOP + PLOT_HEIGHT
        top, bottom = min(end, zero), max(end, zero)
        bars.append(
            Bar(
                x=LEFT + (n + 0.12) * step,
                y=top,
                width=0.76 * step,
                height=max(bottom - top, 0.8),
                css=fall.css,
                label=fall.label,
                value=fall.value,
                value_y=end - 4 if end <= zero else end + 11,
                title=fall.title,
            )
        )
    seen = [(y_of(t), word) for t, word in zip(TICKS, TICK_WORDS, strict=True) if abs(math.log(t)) <= most]
    band = None
    if limits is not None:
        band = (y_of(limits[1]), y_of(limits[0]), f"{limits[1]:.2f}", f"{limits[0]:.2f}")
    longest = max(len(bar.label) for bar in bars) if labelled else 0
    height = TOP + PLOT_HEIGHT + 18 + 6.3 * longest
    return Waterfall(
        WIDTH,
        height,
        LEFT,
        right,
        TOP,
        TOP + PLOT_HEIGHT,
        zero,
        tuple(bars),
        tuple(seen),
        band,
        labelled,
        len(falls) <= VALUED,
    )
