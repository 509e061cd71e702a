"""What the pictures of one case show: CT, bones and every PET in the same frame, with their marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.anatomy import BONES
from petbone.beside import beside
from petbone.case import CaseResult, PetResult
from petbone.report import pictures, projections
from petbone.report.pictures import Mark
from petbone.report.projections import FloatPicture, Frame, View
from petbone.report.tables import unsure_bones
from petbone.volume import Volume

CT_WINDOW_HU = (50.0, 1100.0)
SUV_MAX_SHOWN = {"naf": 20.0, "choline": 10.0, "psma": 15.0, "fdg": 8.0}  # white to black in the PET pictures
SUV_MAX_OTHER = 10.0
NUMBERED_HOTSPOTS = 40
PAGE_PX, PAGE_HEIGHT_PX, GAP_PX = 1200, 900, 8
MARGIN_MM = 12.0
MIDLINE = tuple(b.id for b in BONES if b.group.endswith("_spine") or b.name == "sacrum")


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


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Everything of the case on one frame."""

    frame: Frame
    ct: dict[View, FloatPicture]
    bones: dict[View, npt.NDArray[np.uint8]]
    depth_mm: dict[View, FloatPicture]
    suv: tuple[dict[View, FloatPicture], ...]
    hotspots: tuple[dict[View, npt.NDArray[np.int64]], ...]


def suv_max_shown(tracer: str) -> float:
    """SUV that is black in the inverted PET picture."""
    return SUV_MAX_SHOWN.get(tracer, SUV_MAX_OTHER)


def scene(case: CaseResult, processes: int = 2) -> Scene:
    """Project, colour and mark everything; the volumes are read once and never copied whole.

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
    shown = _trimmed(_pictures(case, processes), [suv_max_shown(pet.tracer) for pet in case.pets])
    images: dict[str, str] = {}
    for view in View:
        if shown.ct:
            images[f"ct-{view.value}"] = pictures.grey(shown.ct[view], *CT_WINDOW_HU)
        images[f"bones-{view.value}"] = pictures.bones(shown.bones[view], shown.depth_mm[view])
        for n, measured in enumerate(case.pets, 1):
            top = suv_max_shown(measured.tracer)
            images[f"pet{n}-{view.value}"] = pictures.grey(shown.suv[n - 1][view], 0, top, inverted=True)
            images[f"hot{n}-{view.value}"] = pictures.hotspots(shown.hotspots[n - 1][view])
    columns = 2 + bool(shown.ct) if case.pets else 1 + bool(shown.ct)
    scale = _px_per_mm(shown.frame, columns)
    centres = projections.centres_mm(case.bones)
    unsure = unsure_bones(case)
    bone_marks = {
        view: tuple(pictures.bone_marks(shown.bones[view], centres, shown.frame, view, unsure))
        for view in View
    }
    rows = []
    pets: tuple[PetResult | None, ...] = case.pets or (None,)
    for n, pet in enumerate(pets, 1):
        panels = []
        for view in View:
            row = [_panel(("ct",), "CT, maximum", shown.frame, view, scale)] if shown.ct else []
            row.append(_panel(("bones",), "bones", shown.frame, view, scale, bone_marks[view]))
            if pet is not None:
                marks = _hotspot_marks(pet.hotspot_table, shown.frame, view, 10 / scale)
                row.append(_panel((f"pet{n}", f"hot{n}"), "PET, maximum", shown.frame, view, scale, marks))
            panels.append(tuple(row))
        rows.append(tuple(panels))
    numbered = tuple(min(len(pet.hotspot_table), NUMBERED_HOTSPOTS) for pet in case.pets)
    return Scene(images, tuple(rows), numbered, tuple(spots[View.CORONAL] for spots in shown.hotspots))


def _pictures(case: CaseResult, processes: int) -> _Pictures:
    grids = [
        volume.grid for volume in (case.ct, case.bones, *(pet.suv for pet in case.pets)) if volume is not None
    ]
    frame = projections.frame_around(grids)
    with beside(partial(_bones_on, case.bones, frame), processes=processes) as skeleton:
        ct = _maximum_on(case.ct, frame) if case.ct is not None else {}
        hotspots = []
        for pet in case.pets:
            sheets = projections.maximum(pet.hotspots)
            hotspots.append({view: projections.numbers_on(sheets[view], frame) for view in View})
        suv = tuple(_maximum_on(pet.suv, frame) for pet in case.pets)
        bones, depth_mm = skeleton()
    return _Pictures(frame, ct, bones, depth_mm, suv, tuple(hotspots))


def _maximum_on(volume: Volume, frame: Frame) -> dict[View, FloatPicture]:
    sheets = projections.maximum(volume)
    return {view: projections.picture(sheets[view], frame) for view in View}


def _bones_on(
    bones: Volume, frame: Frame
) -> tuple[dict[View, npt.NDArray[np.uint8]], dict[View, FloatPicture]]:
    """Front-most labels and their distance towards the eye in mm (NaN outside the field of view).

    From the side the spine is drawn in front of the ribs and the arms, which would hide it.
    """
    fine = projections.strided(bones, frame.pixel_mm)
    sheets = projections.frontmost(fine, lambda view: MIDLINE if view is View.SAGITTAL else ())
    step_mm = projections.closest_ras(fine).grid.spacing_mm
    labels, depth_mm = {}, {}
    for view in View:
        labels[view], rank = projections.labels_on(sheets[view], frame)
        depth_mm[view] = np.where(rank < 0, np.nan, rank * step_mm[view.through]).astype(np.float32)
    return labels, depth_mm


def _trimmed(shown: _Pictures, suv_tops: Sequence[float]) -> _Pictures:
    """Without the empty columns at the sides: no body, no bone, no uptake of a tenth of the window."""
    frame = shown.frame
    cuts = {}
    for view in View:
        filled = (shown.bones[view] > 0).any(axis=0)
        if shown.ct:
            filled |= (np.nan_to_num(shown.ct[view], nan=-1024) > -300).any(axis=0)
        for picture, top in zip(shown.suv, suv_tops, strict=True):
            filled |= (np.nan_to_num(picture[view]) > top / 10).any(axis=0)
        margin = round(MARGIN_MM / frame.pixel_mm)
        at = np.flatnonzero(filled) if filled.any() else np.arange(filled.size)
        cuts[view] = slice(max(0, int(at[0]) - margin), min(filled.size, int(at[-1]) + 1 + margin))
    for view in View:
        frame = frame.trimmed(view, cuts[view])
    return _Pictures(
        frame,
        {view: picture[:, cuts[view]] for view, picture in shown.ct.items()},
        {view: picture[:, cuts[view]] for view, picture in shown.bones.items()},
        {view: picture[:, cuts[view]] for view, picture in shown.depth_mm.items()},
        tuple({view: picture[:, cuts[view]] for view, picture in pet.items()} for pet in shown.suv),
        tuple({view: picture[:, cuts[view]] for view, picture in pet.items()} for pet in shown.hotspots),
    )


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
