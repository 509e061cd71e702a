"""The log of a training run as a picture: three panels over the steps. PNG bytes; no files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from petbone.errors import InputError

F64 = npt.NDArray[np.float64]
WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 250, 70, 130, 34, 26
INK, FAINT = (40, 40, 40), (225, 225, 225)
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (90, 90, 90))
SHARES = ("bone_dice", "name_share")
GAP = 14  # px between the names of two curves


@dataclass(frozen=True)
class Panel:
    """A title and its curves, columns of the log; `logarithmic` along y."""

    title: str
    columns: tuple[str, ...]
    logarithmic: bool = False


def training_curves(log: str) -> bytes:
    """PNG of a training log (the text of log.csv: ``step``, ``minutes``, ``rate``, losses, shares).

    Shares (Dice of bone, part of the bone that is named right) in one panel from 0 to 1, the parts of the
    loss in another, the rate in a third. Curves are means over a fiftieth of the run, over pale single rows.
    Raises InputError if the text holds no row of a log.
    """
    table = _columns(log)
    losses = tuple(name for name in table if name not in ("step", "minutes", "rate", *SHARES))
    panels = [
        Panel(
            "over the steps: Dice of bone (bone_dice), part of the bone that is named right (name_share)",
            tuple(n for n in SHARES if n in table),
        ),
        Panel("parts of the loss", losses, logarithmic=True),
        Panel("rate of learning", ("rate",), logarithmic=True),
    ]
    image = Image.new("RGB", (WIDTH, PANEL_HEIGHT * len(panels)), "white")
    draw = ImageDraw.Draw(image)
    for number, panel in enumerate(panels):
        _draw(draw, panel, table, number * PANEL_HEIGHT)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _columns(log: str) -> dict[str, F64]:
    rows = list(csv.DictReader(log.splitlines()))
    if not rows or "step" not in rows[0]:
        raise InputError("log.csv: holds no rows of a training log; expected a column step")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def _draw(draw: ImageDraw.ImageDraw, panel: Panel, table: dict[str, F64], top: int) -> None:
    font = ImageFont.load_default(13)
    step = table["step"]
    low, high = _limits(panel, table)
    x_end, y_low, y_high = WIDTH - RIGHT, top + PANEL_HEIGHT - BOTTOM, top + TOP
    draw.text((LEFT, top + 8), panel.title, INK, font)

    def place(xs: F64, ys: F64) -> list[tuple[float, float]]:
        part = (_scale(ys, panel) - low) / (high - low)
        across = LEFT + xs / max(step[-1], 1) * (x_end - LEFT)
        return list(zip(across.tolist(), (y_low - part * (y_low - y_high)).tolist(), strict=True))

    for value in _ticks(low, high, panel):
        ((_, y),) = place(np.zeros(1), np.array([value]))
        draw.line((LEFT, y, x_end, y), FAINT)
        draw.text((LEFT - 6, y), f"{value:.3g}", INK, font, anchor="rm")
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.text((LEFT + part * (x_end - LEFT), y_low + 5), f"{part * step[-1]:.0f}", INK, font, anchor="mt")
    draw.line((LEFT, y_low, x_end, y_low), INK)
    names = []
    for colour, column in zip(COLOURS, panel.columns, strict=False):
        seen = np.isfinite(table[column]) & ((table[column] > 0) | (not panel.logarithmic))
        if not seen.any():
            continue
        xs, ys = step[seen], table[column][seen]
        pale = (int(170 + colour[0] / 3), int(170 + colour[1] / 3), int(170 + colour[2] / 3))
        draw.line(place(xs, ys), pale)
        smooth_xs, smooth_ys = _means(xs, ys, max(1, len(step) // 50))
        line = place(smooth_xs, smooth_ys)
        draw.line(line, colour, 2)
        names.append((line[-1][1], column, colour))
    # Names stand at the ends of their curves, pushed apart where these meet.
    lowest = float(y_high - GAP)
    for y, column, colour in sorted(names):
        lowest = max(y, lowest + GAP)
        draw.text((x_end + 6, lowest), column, colour, font, anchor="lm")


def _scale(values: F64, panel: Panel) -> F64:
    return np.log10(values) if panel.logarithmic else values


def _limits(panel: Panel, table: dict[str, F64]) -> tuple[float, float]:
    """Ends of the y axis, as `_scale` gives them."""
    if not panel.logarithmic:
        return 0.0, 1.0
    values = np.concatenate([table[name] for name in panel.columns])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return -1.0, 0.0
    return float(np.floor(np.log10(values.min()) * 4) / 4) - 0.05, float(np.log10(values.max())) + 0.1


def _ticks(low: float, high: float, panel: Panel) -> Sequence[float]:
    if not panel.logarithmic:
        return (0.0, 0.25, 0.5, 0.75, 1.0)
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [value for value in values if low <= np.log10(value) <= high]


def _means(xs: F64, ys: F64, width: int) -> tuple[F64, F64]:
    """Means of both over successive groups of `width` points."""
    starts = np.arange(0, len(xs), width)
    counts = np.diff(np.append(starts, len(xs)))
    return np.add.reduceat(xs, starts) / counts, np.add.reduceat(ys, starts) / counts
