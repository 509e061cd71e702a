"""Pictures that need no measurement: CT, bones and PETs in one frame, drawn while the PETs are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from petbone.anatomy import BONES
from petbone.beside import beside
from petbone.report import pictures, projections
from petbone.report.projections import FloatPicture, Frame, View
from petbone.volume import Grid, Volume

CT_WINDOW_HU = (50.0, 1100.0)
SUV_MAX_SHOWN = {"naf": 20.0, "choline": 10.0, "psma": 15.0, "fdg": 8.0}  # white to black in the PET pictures
SUV_MAX_OTHER = 10.0
MARGIN_MM = 12.0
MIDLINE = tuple(b.id for b in BONES if b.group.endswith("_spine") or b.name == "sacrum")

Labels = dict[View, npt.NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Backdrop:
    """What lies behind hotspots and names: images by name, as data URIs, and where they are."""

    images: dict[str, str]
    bones: Labels  # front-most labels, as they are shown
    centres_mm: dict[int, npt.NDArray[np.float64]]  # of the bones
    pet_grids: tuple[Grid, ...]
    frame: Frame  # all that was seen
    cuts: dict[View, slice]  # the columns of it that are shown

    @property
    def trimmed(self) -> Frame:
        """The frame of what is shown."""
        frame = self.frame
        for view, cut in self.cuts.items():
            frame = frame.trimmed(view, cut)
        return frame

    def shows(self, grids: Sequence[Grid]) -> bool:
        """Whether the PETs lie where they were drawn."""
        pairs = zip(self.pet_grids, grids, strict=False)
        return len(grids) == len(self.pet_grids) and all(one.same_as(other) for one, other in pairs)

    def numbers(self, hotspots: Volume) -> dict[View, npt.NDArray[np.int64]]:
        """Hotspot numbers on the pictures."""
        sheets = projections.maximum(hotspots)
        return {v: projections.numbers_on(sheets[v], self.frame)[:, cut] for v, cut in self.cuts.items()}


def suv_max_shown(tracer: str) -> float:
    """SUV that is black in the inverted PET picture."""
    return SUV_MAX_SHOWN.get(tracer, SUV_MAX_OTHER)


def backdrop(
    ct: Volume | None, bones: Volume, pets: Sequence[tuple[str, Volume]], processes: int = 2
) -> Backdrop:
    """Project and colour a CT, its bones, and PETs with their tracers; volumes are read once, never copied.

    `processes` is that of `beside`.
    """
    suvs = [suv for _, suv in pets]
    frame = projections.frame_around([one.grid for one in (ct, bones, *suvs) if one is not None])
    with beside(partial(_bones_on, bones, frame), processes=processes) as skeleton:
        grey = {} if ct is None else _maximum_on(ct, frame)
        uptake = [_maximum_on(suv, frame) for suv in suvs]
        labels, depth_mm = skeleton()
    tops = [suv_max_shown(tracer) for tracer, _ in pets]
    cuts = _cuts(frame, labels, grey, list(zip(uptake, tops, strict=True)))
    images = {}
    for view, cut in cuts.items():
        if grey:
            images[f"ct-{view.value}"] = pictures.grey(grey[view][:, cut], *CT_WINDOW_HU)
        images[f"bones-{view.value}"] = pictures.bones(labels[view][:, cut], depth_mm[view][:, cut])
        for n, (one, top) in enumerate(zip(uptake, tops, strict=True), 1):
            images[f"pet{n}-{view.value}"] = pictures.grey(one[view][:, cut], 0, top, inverted=True)
    shown = {view: labels[view][:, cut] for view, cut in cuts.items()}
    grids = tuple(suv.grid for suv in suvs)
    return Backdrop(images, shown, projections.centres_mm(bones), grids, frame, cuts)


def _maximum_on(volume: Volume, frame: Frame) -> dict[View, FloatPicture]:
    sheets = projections.maximum(volume)
    return {view: projections.picture(sheets[view], frame) for view in View}


def _bones_on(bones: Volume, frame: Frame) -> tuple[Labels, dict[View, FloatPicture]]:
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


def _cuts(
    frame: Frame,
    labels: Labels,
    ct: dict[View, FloatPicture],
    pets: Sequence[tuple[dict[View, FloatPicture], float]],
) -> dict[View, slice]:
    """Columns without the empty ones at the sides: no body, no bone, no uptake of a tenth of the window."""
    cuts = {}
    for view in View:
        filled = (labels[view] > 0).any(axis=0)
        if ct:
            filled |= (np.nan_to_num(ct[view], nan=-1024) > -300).any(axis=0)
        for picture, top in pets:
            filled |= (np.nan_to_num(picture[view]) > top / 10).any(axis=0)
        margin = round(MARGIN_MM / frame.pixel_mm)
        at = np.flatnonzero(filled) if filled.any() else np.arange(filled.size)
        cuts[view] = slice(max(0, int(at[0]) - margin), min(filled.size, int(at[-1]) + 1 + margin))
    return cuts
