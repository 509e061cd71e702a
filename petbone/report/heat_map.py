"""The standard skeleton from the front and from behind, its bones coloured by a number. Numbers for an SVG.

The outlines are those of petbone's phantom (``scripts/draw_skeleton.py``), not of any patient.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

STEPS = 8
"""Colours above 0; 0 has one of its own, and so has a bone of which nothing is known."""
_ROUND = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class Outline:
    """A bone as one view shows it: an SVG path in mm."""

    key: str
    bone: str
    path: str


@dataclass(frozen=True)
class View:
    """The skeleton from one side; the patient's right is at `ends[0]`, or at the other."""

    name: str
    width_mm: int
    height_mm: int
    ends: tuple[str, str]
    outlines: tuple[Outline, ...]


@dataclass(frozen=True)
class HeatMap:
    """What the template draws beside the views: by bone a CSS class, and what a pointer shows."""

    title: str
    css: Mapping[str, str]
    words: Mapping[str, str]
    legend: tuple[tuple[str, str], ...]  # CSS class and what it means


@cache
def views() -> tuple[View, ...]:
    """The outlines that come with petbone."""
    text = resources.files("petbone").joinpath("data/skeleton.json").read_text(encoding="utf-8")
    ends = {"front": ("R", "L"), "back": ("L", "R")}
    return tuple(
        View(
            name,
            int(view["size_mm"][0]),
            int(view["size_mm"][1]),
            ends[name],
            tuple(Outline(f"{name[0]}-{bone}", bone, path) for bone, path in view["bones"].items()),
        )
        for name, view in json.loads(text).items()
    )


def heat_map(title: str, unit: str, values: Mapping[str, float | None], words: Mapping[str, str]) -> HeatMap:
    """Colours for the `values` (0 or more) by bone; None, or no value, is a bone that nothing is known of."""
    known = {bone: value for bone, value in values.items() if value is not None}
    width = _step(max(known.values(), default=0.0))
    css = {bone: f"h{min(STEPS, math.ceil(value / width - 1e-9))}" for bone, value in known.items()}
    used = max((int(name[1:]) for name in css.values()), default=0)
    legend = [("h0", "0")]
    legend += [(f"h{n}", f"{_word((n - 1) * width)}–{_word(n * width)}") for n in range(1, used + 1)]
    if unit and used:
        legend[-1] = (legend[-1][0], f"{legend[-1][1]} {unit}")
    every = {outline.bone for view in views() for outline in view.outlines}
    if not every <= set(known):
        legend.append(("hn", "not searched"))
    return HeatMap(
        title,
        {bone: css.get(bone, "hn") for bone in every},
        {bone: words.get(bone, f"{bone}: not seen or not searched") for bone in every},
        tuple(legend),
    )


def _step(most: float) -> float:
    """The least round width of a colour so that all of them reach `most`."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most / STEPS))
    return next(power * step for step in _ROUND if power * step * STEPS >= most * (1 - 1e-9))


def _word(value: float) -> str:
    return f"{value:.4g}"
