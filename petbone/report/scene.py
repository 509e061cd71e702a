"""What the pictures of one case show: CT, bones and every PET in the same frame, with their marks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.case import CaseResult, PetResult
from petbone.report import pictures
from petbone.report.backdrop import Backdrop, backdrop
from petbone.report.pictures import Mark
from petbone.report.projections import Frame, View
from petbone.report.tables import unsure_bones

NUMBERED_HOTSPOTS = 40
PAGE_PX, PAGE_HEIGHT_PX, GAP_PX = 1200, 900, 8


@dataclass(frozen=True)
class Panel:
    """One picture on the page: which images, its size and the marks on it."""

    images: tuple[str, ...]  # names of images, the first at the back
    view: str
    title: str
    width_mm: float
    height_mm: float
    width_px: float
    bar_mm: int
    ends: tuple[str, str]  # what is at the left and at the right
    marks: tuple[Mark, ...] = ()

    @property
    def mm_per_px(self) -> float:
        """How many millimetres of the patient one CSS pixel shows."""
        return self.width_mm / self.width_px


@dataclass(frozen=True, eq=False)
class Scene:
    """The images by name, as data URIs, and per PET (or once, without one) the rows of panels."""

    images: dict[str, str]
    rows: tuple[tuple[tuple[Panel, ...], ...], ...]
    numbered: tuple[int, ...]  # per PET: how many hotspots may carry a number
    numbers: tuple[npt.NDArray[np.int64], ...]  # per PET: hotspot numbers as seen from the front


def scene(case: CaseResult, processes: int = 2) -> Scene:
    """Project, colour and mark everything, but for what was drawn while the case was measured.

    Rows of a second examination follow those of the first, on a frame of their own. `processes` is that of
    `beside`.
    """
    first = _scene(case, processes)
    if case.second is None:
        return first
    second = _scene(case.second, processes)
    rows = tuple(
        tuple(tuple(replace(panel, images=_apart(panel.images)) for panel in row) for row in view)
        for view in second.rows
    )
    images = dict(zip(_apart(second.images), second.images.values(), strict=True))
    return Scene(
        first.images | images,
        first.rows + rows,
        first.numbered + second.numbered,
        first.numbers + second.numbers,
    )


def _apart(names: Iterable[str]) -> tuple[str, ...]:
    """Names of images of a second examination."""
    return tuple(f"{name}-second" for name in names)


def _scene(case: CaseResult, processes: int) -> Scene:
    seen = [(pet.tracer, pet.suv) for pet in case.pets]
    behind = case.backdrop
    if not isinstance(behind, Backdrop) or not behind.shows([suv.grid for _, suv in seen]):
        behind = backdrop(case.ct, case.bones, seen, processes)
    images = dict(behind.images)
    numbers = [behind.numbers(pet.hotspots) for pet in case.pets]
    for n, one in enumerate(numbers, 1):
        images |= {f"hot{n}-{view.value}": pictures.hotspots(one[view]) for view in View}
    has_ct = case.ct is not None
    scale = _px_per_mm(behind.trimmed, 1 + bool(case.pets) + has_ct)
    unsure = unsure_bones(case)
    bone_marks = {
        view: tuple(pictures.bone_marks(behind.bones[view], behind.centres_mm, behind.trimmed, view, unsure))
        for view in View
    }
    rows = []
    pets: tuple[PetResult | None, ...] = case.pets or (None,)
    for n, pet in enumerate(pets, 1):
        panels = []
        for view in View:
            row = [_panel(("ct",), "CT, maximum", behind.trimmed, view, scale)] if has_ct else []
            row.append(_panel(("bones",), "bones", behind.trimmed, view, scale, bone_marks[view]))
            if pet is not None:
                marks = _hotspot_marks(pet.hotspot_table, behind.trimmed, view, 10 / scale)
                row.append(_panel((f"pet{n}", f"hot{n}"), "PET, maximum", behind.trimmed, view, scale, marks))
            panels.append(tuple(row))
        rows.append(tuple(panels))
    numbered = tuple(min(len(pet.hotspot_table), NUMBERED_HOTSPOTS) for pet in case.pets)
    return Scene(images, tuple(rows), numbered, tuple(one[View.CORONAL] for one in numbers))


def _px_per_mm(frame: Frame, columns: int) -> float:
    """Scale of the pictures: both views in one row when that shows them larger, else one below the other."""
    widths = [frame.size_mm(view)[0] for view in View]
    height = frame.size_mm(View.CORONAL)[1]
    beside = (PAGE_PX - GAP_PX * 2 * columns) / (columns * sum(widths))
    below = (PAGE_PX - GAP_PX * columns) / (columns * max(widths))
    return max(min(beside, PAGE_HEIGHT_PX / height), min(below, PAGE_HEIGHT_PX / 2 / height))


def _panel(
    kinds: tuple[str, ...], title: str, frame: Frame, view: View, scale: float, marks: tuple[Mark, ...] = ()
) -> Panel:
    width_mm, height_mm = frame.size_mm(view)
    return Panel(
        images=tuple(f"{kind}-{view.value}" for kind in kinds),
        view=view.value,
        title=title,
        width_mm=width_mm,
        height_mm=height_mm,
        width_px=width_mm * scale,
        bar_mm=100 if width_mm > 220 else 50 if width_mm > 100 else 10,
        ends=("R", "L") if view is View.CORONAL else ("A", "P"),
        marks=marks,
    )


def _hotspot_marks(table: pd.DataFrame, frame: Frame, view: View, font_mm: float) -> tuple[Mark, ...]:
    """Numbers of the hottest hotspots beside their hottest voxel."""
    needed = ["hotspot", "x_mm", "y_mm", "z_mm"]
    if not set(needed) <= set(table.columns):
        return ()
    known = table[needed].dropna().astype(float).sort_values("hotspot").head(NUMBERED_HOTSPOTS)
    points = frame.picture_mm(view, known[needed[1:]].to_numpy().reshape(-1, 3))
    numbers = [int(number) for number in known["hotspot"]]
    spots = [(float(u), float(v)) for u, v in points]
    return tuple(pictures.number_marks(numbers, spots, frame.size_mm(view), font_mm))
