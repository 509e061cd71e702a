"""The waterfall of a follow-up: a bar per hotspot, by how much its uptake has changed. Numbers for an SVG.

* up    : log of the ratio second / first; new and gone ones fill the height, for they have no ratio
* band  : the limits of repeatability
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

WIDTH, LEFT, RIGHT, TOP, PLOT_HEIGHT = 1160.0, 62.0, 118.0, 20.0, 230.0
WIDEST, LABELLED, VALUED = 54.0, 70, 34
TICKS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0, 16.0)
TICK_WORDS = ("1/16", "1/8", "1/4", "1/2", "1", "2", "4", "8", "16")
LEAST_RATIO, MOST_RATIO = 2.2, 16.0  # the height shows at least and at most this ratio either way


@dataclass(frozen=True)
class Bar:
    """One hotspot. `css` is its change; `value` the ratio as printed beside the end of the bar."""

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


def waterfall(
    changes: pd.DataFrame, limits: tuple[float, float] | None, spoken: Callable[[str], str]
) -> Waterfall | None:
    """The figure of `change.hotspot_changes`; None without a bar. `spoken` says a bone's name for people."""
    new = changes[changes["change"] == "new"].sort_values("tlu_g_2", ascending=False)
    gone = changes[changes["change"] == "gone"].sort_values("tlu_g_1")
    both = changes[changes["tlu_ratio"].notna()].sort_values("tlu_ratio", ascending=False)
    rows = [*new.to_dict("records"), *both.to_dict("records"), *gone.to_dict("records")]
    if not rows:
        return None
    logs = [abs(math.log(row["tlu_ratio"])) for row in both.to_dict("records")]
    ends = [abs(math.log(end)) for end in limits or ()]
    most = min(max(math.log(LEAST_RATIO), *logs, *ends) * 1.1, math.log(MOST_RATIO))
    zero = TOP + PLOT_HEIGHT / 2

    def y_of(ratio: float) -> float:
        return zero - max(-most, min(most, math.log(ratio))) / most * PLOT_HEIGHT / 2

    right = WIDTH - RIGHT
    step = min((right - LEFT) / len(rows), WIDEST)
    labelled = len(rows) <= LABELLED
    bars = []
    for n, row in enumerate(rows):
        change = row["change"] if isinstance(row["change"], str) else "not judged"
        name = spoken(str(row["bone_2"] if isinstance(row["bone_2"], str) else row["bone_1"]))
        if change == "new":
            end, value, words = TOP, "new", f"new, {row['tlu_g_2']:.3g} g"
        elif change == "gone":
            end, value, words = TOP + PLOT_HEIGHT, "gone", f"gone, {row['tlu_g_1']:.3g} g before"
        else:
            end, value = y_of(row["tlu_ratio"]), f"{row['tlu_ratio']:.2f}"
            words = f"{row['tlu_g_1']:.3g} g, then {row['tlu_g_2']:.3g} g, × {value}, {change}"
        top, bottom = min(end, zero), max(end, zero)
        bars.append(
            Bar(
                x=LEFT + (n + 0.12) * step,
                y=top,
                width=0.76 * step,
                height=max(bottom - top, 0.8),
                css=change.replace("not judged", "unjudged"),
                label=name,
                value=value,
                value_y=end - 4 if end <= zero else end + 11,
                title=f"{name}: {words}",
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
        len(rows) <= VALUED,
    )
