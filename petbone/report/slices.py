"""Three slices through the place where two masks differ most: CT in a bone window, outlines of both masks.

The slices are those of the grid, with its axes in the order closest to right, front and head. An outline
passes the middles between voxel centres inside and outside, as the border by surface elements does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial import cKDTree

from petbone.metrics import Mask, border
from petbone.report import pictures
from petbone.report.projections import closest_ras
from petbone.validation import Worst
from petbone.volume import Grid, Unit, Volume

WINDOW_HU = (-450.0, 1050.0)
LEVELS = 64  # noise of a CT is wider than a step of the window's 64th part
MOST_PIXELS = 240  # along an edge; outlines are not reduced
MARGIN_MM = 18.0
ROW_PX, HEIGHT_PX, MOST_PX_PER_MM = 900.0, 300.0, 4.0
BARS_MM = (100, 50, 20, 10, 5)


@dataclass(frozen=True)
class View:
    """A direction to look along: the axes of RAS across and upwards, and what stands at the four edges."""

    name: str
    through: int
    across: int
    upwards: int
    edges: tuple[str, str, str, str]  # left, right, top, bottom


VIEWS = (
    View("axial", 2, 0, 1, ("R", "L", "A", "P")),
    View("coronal", 1, 0, 2, ("R", "L", "H", "F")),
    View("sagittal", 0, 1, 2, ("A", "P", "H", "F")),
)


@dataclass(frozen=True)
class Place:
    """A voxel of two masks in RAS order, its position, and how far it is from the other mask in mm."""

    ijk: tuple[int, int, int]
    mm: tuple[float, float, float]
    distance_mm: float  # inf where the other mask is empty, 0 where the two do not differ


@dataclass(frozen=True)
class Slice:
    """One picture. Outlines are paths in half voxels, `half_mm` takes them to mm; (u, v) is the place."""

    view: View
    image: str  # data URI, empty without a CT
    width_mm: float
    height_mm: float
    width_px: float
    half_mm: tuple[float, float]
    reference: str
    predicted: str
    u_mm: float
    v_mm: float
    bar_mm: int

    @property
    def mm_per_px(self) -> float:
        """How many millimetres of the patient one CSS pixel shows."""
        return self.width_mm / self.width_px


@dataclass(frozen=True)
class Pictures:
    """The three slices, the place they pass, and by how many degrees their grid is turned."""

    place: Place
    slices: tuple[Slice, ...]
    turned_deg: float


def pictures_of(worst: Worst) -> Pictures:
    """Slices through `place_of` what is to be drawn, no larger than both masks and some margin."""
    frame = closest_ras(worst.frame)
    reference, predicted = (_in_ras(mask, worst.frame.grid) for mask in (worst.reference, worst.predicted))
    place = place_of(reference, predicted, frame.grid)
    box = _box(reference | predicted, frame.grid)
    shown = frame.cropped((box[0], box[1], box[2]))
    masks = reference[box], predicted[box]
    at = tuple(n - s.start for n, s in zip(place.ijk, box, strict=True))
    size_mm = np.array(shown.grid.shape) * shown.grid.spacing_mm
    scale = min(
        ROW_PX / sum(float(size_mm[view.across]) for view in VIEWS),
        HEIGHT_PX / max(float(size_mm[view.upwards]) for view in VIEWS),
        MOST_PX_PER_MM,
    )
    slices = tuple(_slice(shown, masks, view, at, scale) for view in VIEWS)
    return Pictures(place, slices, _turned_deg(shown.grid))


def place_of(reference: Mask, predicted: Mask, grid: Grid) -> Place:
    """The voxel of one mask alone that is farthest from the other mask.

    Of those that are as far, within half a voxel, it is the one nearest to their middle; the same among all
    voxels of a mask whose other is empty, or that is the other. The middle of the grid without any mask.
    """
    candidates, far = [], []
    for mask, other in ((reference, predicted), (predicted, reference)):
        alone = np.argwhere(mask & ~other)
        goal = grid.mm(border(other))
        # The voxel of a mask that is nearest to one outside it is always on its border.
        near = cKDTree(goal).query(grid.mm(alone))[0] if len(goal) and len(alone) else None
        candidates.append(alone)
        far.append(np.full(len(alone), np.inf) if near is None else near)
    ijk, distance_mm = np.concatenate(candidates), np.concatenate(far)
    if not len(ijk):
        ijk = np.argwhere(reference)
        distance_mm = np.zeros(len(ijk))
    if not len(ijk):
        ijk = np.array([[n // 2 for n in grid.shape]])
        distance_mm = np.zeros(1)
    farthest = float(distance_mm.max())
    ties = distance_mm >= farthest - float(grid.spacing_mm.min()) / 2
    points = grid.mm(ijk[ties])
    best = int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin())
    x, y, z = (float(value) for value in points[best])
    i, j, k = (int(value) for value in ijk[ties][best])
    return Place((i, j, k), (x, y, z), float(distance_mm[ties][best]))


def outline(mask: npt.NDArray[np.bool_]) -> str:
    """An SVG path around a (rows, columns) mask in half pixels from its upper left corner.

    It passes the middles between pixel centres inside and outside (marching squares).
    """
    from skimage.measure import find_contours

    words = []
    contours = find_contours(np.pad(mask, 1).astype(np.uint8), 0.5)  # type: ignore[no-untyped-call]
    for contour in contours:
        # Columns and rows of half pixels: the centre of the first pixel is at (1, 1) of these.
        points = np.rint(2 * (contour[:-1, ::-1] - 0.5)).astype(int)
        steps = np.diff(points, axis=0, append=points[:1])
        corner = (steps != np.roll(steps, 1, axis=0)).any(axis=1)
        points = points[corner]
        moves = " ".join(f"{du} {dv}" for du, dv in np.diff(points, axis=0))
        words.append(f"M{points[0][0]} {points[0][1]}l{moves}z")
    return "".join(words)


def _in_ras(mask: Mask, grid: Grid) -> Mask:
    turned: Mask = closest_ras(Volume(mask.astype(np.uint8), grid, Unit.LABEL)).data > 0
    return turned


def _box(mask: Mask, grid: Grid) -> tuple[slice, ...]:
    """Around all that the mask holds, with a margin; everything without a mask."""
    margin = np.ceil(MARGIN_MM / grid.spacing_mm).astype(int)
    box = []
    for axis, count in enumerate(mask.shape):
        seen = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = (int(seen[0]), int(seen[-1])) if len(seen) else (0, count - 1)
        box.append(slice(max(0, first - int(margin[axis])), min(count, last + 1 + int(margin[axis]))))
    return tuple(box)


def _slice(frame: Volume, masks: tuple[Mask, Mask], view: View, at: tuple[int, ...], scale: float) -> Slice:
    spacing = frame.grid.spacing_mm
    across_mm, up_mm = float(spacing[view.across]), float(spacing[view.upwards])
    columns, rows = frame.grid.shape[view.across], frame.grid.shape[view.upwards]
    width_mm, height_mm = columns * across_mm, rows * up_mm
    reference, predicted = (outline(_plane(mask, view, at)) for mask in masks)
    return Slice(
        view=view,
        image=_grey(_plane(frame.data, view, at)) if frame.unit is Unit.HU else "",
        width_mm=width_mm,
        height_mm=height_mm,
        width_px=width_mm * scale,
        half_mm=(across_mm / 2, up_mm / 2),
        reference=reference,
        predicted=predicted,
        u_mm=(columns - at[view.across] - 0.5) * across_mm,
        v_mm=(rows - at[view.upwards] - 0.5) * up_mm,
        bar_mm=next((bar for bar in BARS_MM if bar <= width_mm / 3), BARS_MM[-1]),
    )


def _plane(data: npt.NDArray[Any], view: View, at: tuple[int, ...]) -> npt.NDArray[Any]:
    """(rows, columns) as they are drawn: high coordinates on the left and at the top."""
    flat: npt.NDArray[Any] = np.take(data, at[view.through], axis=view.through)
    return flat[::-1, ::-1].T


def _grey(hu: npt.NDArray[Any]) -> str:
    image = Image.fromarray(np.ascontiguousarray(hu, np.float32))
    if max(image.size) > MOST_PIXELS:
        size = min(image.width, MOST_PIXELS), min(image.height, MOST_PIXELS)
        image = image.resize(size, Image.Resampling.BOX)
    return pictures.grey(np.asarray(image), *WINDOW_HU, levels=LEVELS)


def _turned_deg(grid: Grid) -> float:
    """The largest angle between an axis of the grid and that of the patient."""
    cosines = np.diagonal(grid.mm_from_ijk[:3, :3] / grid.spacing_mm)
    return float(np.degrees(np.arccos(cosines.clip(-1, 1))).max())
