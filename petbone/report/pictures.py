"""Projections as small PNG images inside the page, and where the marks on them go. No files."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from petbone.anatomy import ALL_BONES, BY_ID, colour, spoken_short
from petbone.report.projections import FloatPicture, Frame, View

HOTSPOT_RGB = (225, 20, 20)
OBSTACLE_COST = 1.0  # a number on top of another hotspot is better than a number far away


@dataclass(frozen=True)
class Mark:
    """A word on a picture at (u, v) mm from its left and top, with a line to what it names."""

    text: str
    u_mm: float
    v_mm: float
    to_u_mm: float
    to_v_mm: float
    css: str = ""  # a class for the word


def _data_uri(image: Image.Image, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=False, compress_level=6, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _palette_image(index: npt.NDArray[np.uint8], rgb: npt.NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(index)  # becomes mode L; the palette makes it P
    image.putpalette(rgb.reshape(-1).tolist())
    return image


def grey(values: FloatPicture, low: float, high: float, *, inverted: bool = False, levels: int = 128) -> str:
    """Values `low` to `high` as black to white (`inverted`: white to black); NaN is transparent.

    128 levels are more than a screen shows side by side, and make the file a third smaller than 256.
    """
    ramp = np.round(np.linspace(255, 0, levels) if inverted else np.linspace(0, 255, levels))
    rgb = np.repeat(ramp.astype(np.uint8)[:, None], 3, axis=1)
    scaled = np.nan_to_num((values - low) / (high - low)).clip(0, 1) * (levels - 1)
    index = np.where(np.isnan(values), levels, np.round(scaled)).astype(np.uint8)
    return _data_uri(_palette_image(index, np.vstack([rgb, rgb[:1]])), transparency=levels)


def bones(labels: npt.NDArray[np.uint8], depth_mm: FloatPicture) -> str:
    """Front-most labels in their colours, shaded by the slope and the depth of the surface.

    `depth_mm` is the distance towards the eye; NaN marks what lies outside the field of view, transparent.
    """
    palette = np.zeros((256, 3), np.float32)
    for bone in ALL_BONES:
        palette[bone.id] = colour(bone.id)
    seen = labels > 0
    rgb = palette[labels] * _shade(seen, np.nan_to_num(depth_mm))[..., None]
    rgb[_borders(labels)] *= 0.55
    image = Image.fromarray(np.round(rgb).clip(0, 255).astype(np.uint8)).quantize(
        255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    index = np.asarray(image).copy()
    index[np.isnan(depth_mm)] = 255
    colours = np.zeros((256, 3), np.uint8)
    used = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)[:255]
    colours[: len(used)] = used
    return _data_uri(_palette_image(index, colours), transparency=255)


def _shade(seen: npt.NDArray[np.bool_], depth_mm: FloatPicture) -> FloatPicture:
    """Brightness 0 to 1 of a matt surface lit from the upper left, fading with the distance."""
    if not seen.any():
        return np.zeros(seen.shape, np.float32)
    # Smoothed within the bones only: the steps of single slices are not part of the anatomy.
    weight = ndimage.gaussian_filter(seen.astype(np.float32), 1.0)
    smooth = ndimage.gaussian_filter(np.where(seen, depth_mm, 0), 1.0) / np.maximum(weight, 1e-3)
    down, along = np.gradient(smooth) if min(seen.shape) > 1 else (smooth * 0, smooth * 0)
    down, along = down.clip(-4, 4), along.clip(-4, 4)
    lit = (1.6 + 0.5 * along + 0.5 * down) / np.sqrt(1 + along**2 + down**2) / 1.8
    nearest, farthest = depth_mm[seen].max(), depth_mm[seen].min()
    near = (depth_mm - farthest) / max(float(nearest - farthest), 1.0)
    shade: FloatPicture = (lit.clip(0.35, 1) * (0.55 + 0.45 * near)).astype(np.float32)
    return shade


def _borders(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Labelled pixels with another label, or none, to the right, left, above or below."""
    padded = np.pad(labels, 1)
    inner = padded[1:-1, 1:-1]
    different = np.zeros(labels.shape, bool)
    for other in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        different |= other != inner
    return different & (inner > 0)


def hotspots(
    numbers: npt.NDArray[np.integer],
    colours: Sequence[tuple[int, int, int]] = (HOTSPOT_RGB,),
    kind_of: npt.NDArray[np.integer] | None = None,
) -> str:
    """An overlay: hotspots filled with a translucent colour, with an opaque outline, all else transparent.

    `kind_of[number]` says which of `colours` a hotspot has; without it all have the first.
    """
    kind = 2 * (np.zeros(numbers.shape, np.uint8) if kind_of is None else kind_of[numbers])
    index = np.where(numbers > 0, 1 + kind, 0).astype(np.uint8)
    outline = _borders(numbers)
    index[outline] = (2 + kind)[outline]
    palette = [(0, 0, 0), *(colour for colour in colours for _ in range(2))]
    image = _palette_image(index, np.array(palette, np.uint8))
    buffer = io.BytesIO()
    alpha = bytes([0, *([170, 255] * len(colours))])
    image.save(buffer, format="PNG", compress_level=6, transparency=alpha)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def bone_marks(
    labels: npt.NDArray[np.uint8],
    centres_mm: Mapping[int, npt.NDArray[np.float64]],
    frame: Frame,
    view: View,
    unsure: Mapping[int, Sequence[int]],
) -> list[Mark]:
    """Names of the vertebrae at their centres where they are not hidden, numbers at the ribs' outer ends.

    `unsure` holds what the bones with unsure names may be; that is said instead, in short.
    """
    marks = []
    for bone_id, centre in sorted(centres_mm.items()):
        bone = BY_ID.get(bone_id)
        if bone is None:
            continue
        text = spoken_short(unsure[bone_id]) if bone_id in unsure else bone.name.rsplit("_", 1)[-1]
        if bone.group.endswith("_spine"):
            row, column = frame.pixel(view, centre)
            inside = 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]
            if inside and labels[row, column] == bone_id:
                u, v = (float(mm) for mm in frame.picture_mm(view, centre))
                marks.append(Mark(text, u, v, u, v))
        elif bone.group == "ribs" and view is View.CORONAL and (labels == bone_id).any():
            rows, columns = np.nonzero(labels == bone_id)
            outer = int(columns.argmin() if bone.side == "right" else columns.argmax())
            u, v = (columns[outer] + 0.5) * frame.pixel_mm, (rows[outer] + 0.5) * frame.pixel_mm
            marks.append(Mark(text, float(u), float(v), float(u), float(v)))
    return marks


def number_marks(
    numbers: Sequence[int],
    points_mm: Sequence[tuple[float, float]],
    size_mm: tuple[float, float],
    font_mm: float,
) -> list[Mark]:
    """Numbers beside their hotspots so that no number lies on another; those without room are left out.

    `points_mm` are (u, v) on the picture of `size_mm` (width, height); the order is the order of placing.
    """
    taken = np.empty((len(numbers), 4))  # u, v, half width, half height
    marks: list[Mark] = []
    spots = np.array(points_mm, dtype=float).reshape(-1, 2)
    for number, (u, v) in zip(numbers, points_mm, strict=True):
        half_width, half_height = 0.33 * font_mm * len(str(number)), 0.5 * font_mm
        best: tuple[float, float, float] | None = None
        for reach in (1.0, 1.8, 2.8, 4.0):
            for angle in np.arange(8) * np.pi / 4:
                a = u + np.cos(angle) * (reach * font_mm + half_width)
                b = v + np.sin(angle) * reach * font_mm
                if not (
                    half_width < a < size_mm[0] - half_width and half_height < b < size_mm[1] - half_height
                ):
                    continue
                apart = np.abs(taken[: len(marks), :2] - (a, b))
                if (apart < taken[: len(marks), 2:] + (half_width, half_height)).all(axis=1).any():
                    continue
                covered = (np.abs(spots - (a, b)) < (half_width + 0.3 * font_mm, half_height)).all(axis=1)
                cost = reach + OBSTACLE_COST * float(covered.sum())
                if best is None or cost < best[0]:
                    best = (cost, float(a), float(b))
        if best is not None:
            taken[len(marks)] = best[1], best[2], half_width, half_height
            marks.append(Mark(str(number), best[1], best[2], u, v))
    return marks
