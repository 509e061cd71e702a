"""An overlay of found bones on a CT, to be looked at: maximum projections from the front and the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from segmentation_scores import Answer

from petbone.anatomy import ALL_BONES, BY_ID, colour
from petbone.report import projections
from petbone.report.projections import Frame, View
from petbone.volume import Volume

WINDOW_HU = (-200.0, 1000.0)
ROWS = 800
FINEST_MM = 0.25
FONT_PIXELS = 13
HIT_RGB, MISS_RGB = (90, 255, 90), (255, 60, 60)
MIDLINE = tuple(bone.id for bone in ALL_BONES if bone.group.endswith("_spine") or bone.name == "sacrum")


@dataclass(frozen=True)
class Spot:
    """A landmark to be drawn: a green cross, or a red one with the name that should be there."""

    mm: tuple[float, float, float]
    name: str
    hit: bool


def overlay(ct: Volume, answer: Answer, spots: Sequence[Spot] = ()) -> Image.Image:
    """Both views side by side; names that petbone doubts have a question mark.

    The spine is drawn over what lies in front of it from the left; from the front it is as it lies.
    """
    frame = projections.frame_around([ct.grid], ROWS, FINEST_MM)
    sheets = projections.maximum(projections.strided(ct, frame.pixel_mm))
    bones = projections.strided(answer.bones, frame.pixel_mm)
    labelled = projections.frontmost(bones, lambda view: MIDLINE if view is View.SAGITTAL else ())
    panels = []
    for view in View:
        labels, _ = projections.labels_on(labelled[view], frame)
        panel = _outlined(projections.picture(sheets[view], frame), labels)
        _write_names(panel, labels, answer, view)
        _cross(panel, spots, frame, view)
        panels.append(panel)
    both = Image.new("RGB", (sum(panel.width for panel in panels) + 6, panels[0].height), (255, 255, 255))
    both.paste(panels[0], (0, 0))
    both.paste(panels[1], (panels[0].width + 6, 0))
    return both


def _outlined(hu: projections.FloatPicture, labels: npt.NDArray[np.uint8]) -> Image.Image:
    """The CT in grey with every visible bone outlined, and lightly filled, in its colour."""
    low, high = WINDOW_HU
    grey = np.nan_to_num((hu - low) / (high - low)).clip(0, 1) * 255
    rgb = np.repeat(grey[..., None], 3, axis=2)
    palette = np.zeros((256, 3))
    for bone in ALL_BONES:
        palette[bone.id] = colour(bone.id)
    padded = np.pad(labels, 1)
    edge = np.zeros(labels.shape, bool)
    for other in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        edge |= other != labels
    seen = labels > 0
    rgb[seen] = 0.8 * rgb[seen] + 0.2 * palette[labels[seen]]
    rgb[edge & seen] = palette[labels[edge & seen]]
    return Image.fromarray(rgb.round().astype(np.uint8))


def _write_names(panel: Image.Image, labels: npt.NDArray[np.uint8], answer: Answer, view: View) -> None:
    """Numbers of the ribs at their outer ends, from the front; other names in the middle of what is seen."""
    for label in map(int, np.unique(labels[labels > 0])):
        bone = BY_ID[label]
        rows, columns = np.nonzero(labels == label)
        row, column, name = float(np.median(rows)), float(np.median(columns)), bone.name
        if bone.group == "ribs":
            if view is View.SAGITTAL:
                continue
            outer = int(columns.argmin() if bone.side == "right" else columns.argmax())
            row, column, name = float(rows[outer]), float(columns[outer]), name.rsplit("_", 1)[-1]
        _write(panel, name + ("?" if answer.unsure(label) else ""), column, row, (255, 255, 255))


def _write(panel: Image.Image, text: str, column: float, row: float, rgb: tuple[int, int, int]) -> None:
    ImageDraw.Draw(panel).text(
        (column, row),
        text,
        fill=rgb,
        anchor="mm",
        font=ImageFont.load_default(FONT_PIXELS),
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )


def _cross(panel: Image.Image, spots: Sequence[Spot], frame: Frame, view: View) -> None:
    draw = ImageDraw.Draw(panel)
    for spot in spots:
        row, column = (int(n) for n in frame.pixel(view, spot.mm))
        rgb = HIT_RGB if spot.hit else MISS_RGB
        draw.line([(column - 4, row), (column + 4, row)], fill=rgb, width=1)
        draw.line([(column, row - 4), (column, row + 4)], fill=rgb, width=1)
        if not spot.hit:
            _write(panel, spot.name, column, row + FONT_PIXELS, rgb)
