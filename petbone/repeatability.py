"""Limits of repeatability: how far a number moves between two scans of a patient who has not changed.

* *ratio*   : the number at the second date over that at the first
* *limits*  : limits of agreement of the ratio; what lies past them is more than repeating the scan explains
* *verdict* : ``up``, ``down`` or ``within``; equal to a limit is within
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

MEASURES = ("suv_max", "suv_mean", "tlu_g")
LEVELS = ("lesion", "patient")
DUST = 1e-9
"""What rounding adds to a ratio: 17.1 / 10 is a hair above 1.71."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Limits:
    """Limits of one tracer by measure, of a lesion and of a patient; what is not there has no limits.

    `threshold` and `min_volume_ml` tell how the lesions of the study were outlined (None: not said).
    """

    tracer: str
    lesion: dict[str, Interval] = field(default_factory=dict)
    patient: dict[str, Interval] = field(default_factory=dict)
    threshold: float | None = None
    min_volume_ml: float | None = None
    reference: str = ""
    note: str = ""


def verdict(ratio: float | None, limits: Interval | None) -> str | None:
    """``up``, ``down`` or ``within``; None where there is no ratio or there are no limits.

    >>> verdict(1.71, (0.63, 1.71)), verdict(1.72, (0.63, 1.71)), verdict(0.6, (0.63, 1.71)), verdict(2, None)
    ('within', 'up', 'down', None)
    """
    if ratio is None or limits is None or math.isnan(ratio):
        return None
    low, high = limits
    if ratio > high * (1 + DUST):
        return "up"
    return "down" if ratio < low * (1 - DUST) else "within"


def published_limits() -> dict[str, Limits]:
    """The limits that come with petbone, by tracer."""
    text = resources.files("petbone").joinpath("data/repeatability.toml").read_text(encoding="utf-8")
    return parse_limits(text, "repeatability.toml")


_KEYS = ("tracer", "threshold", "min_volume_ml", "reference", "note", *LEVELS)


def parse_limits(text: str, source: str) -> dict[str, Limits]:
    """By tracer, the limits of a TOML text with one ``[[limits]]`` table each.

    Raises ValueError, naming `source`, on unknown or missing keys and values that make no sense.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not TOML: {error}") from error
    tables = document.get("limits")
    proper = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
    if not proper or not tables or set(document) != {"limits"}:
        raise ValueError(f"{source}: expected [[limits]] tables and nothing else, found {sorted(document)}")
    found: dict[str, Limits] = {}
    for table in tables:
        limits = _parse(table, source)
        if limits.tracer in found:
            raise ValueError(f"{source}: two tables of limits for {limits.tracer}; expected one")
        found[limits.tracer] = limits
    return found


def _parse(table: dict[str, Any], source: str) -> Limits:
    tracer = table.get("tracer")
    if not isinstance(tracer, str) or not tracer:
        raise ValueError(f"{source}: a [[limits]] has no tracer")
    where = f"{source}: limits of {tracer}"
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(_KEYS)}")
    if not any(table.get(level) for level in LEVELS):
        raise ValueError(f"{where}: neither lesion nor patient has limits; expected at least one")
    return Limits(
        tracer=tracer,
        lesion=_intervals(table.get("lesion", {}), f"{where}: lesion"),
        patient=_intervals(table.get("patient", {}), f"{where}: patient"),
        threshold=_positive(table.get("threshold"), f"{where}: threshold"),
        min_volume_ml=_positive(table.get("min_volume_ml"), f"{where}: min_volume_ml"),
        reference=str(table.get("reference", "")),
        note=str(table.get("note", "")),
    )


def _intervals(value: Any, where: str) -> dict[str, Interval]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected {{ suv_max = [low, high], ... }}, got {value!r}")
    unknown = sorted(set(value) - set(MEASURES))
    if unknown:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(MEASURES)}")
    return {measure: _interval(pair, f"{where}: {measure}") for measure, pair in value.items()}


def _interval(value: Any, where: str) -> Interval:
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
        raise ValueError(f"{where}: expected [low, high], got {value!r}")
    low, high = (float(number) for number in value)
    if not 0 < low <= 1 <= high or low == high:
        raise ValueError(f"{where}: limits of a ratio lie on either side of 1, got {low:g} and {high:g}")
    return low, high


def _positive(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if not _is_number(value) or value <= 0:
        raise ValueError(f"{where}: expected a number above 0, got {value!r}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
