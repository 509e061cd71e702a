"""A study of segmentations against reference masks: tables of bones, cases and agreement. No paths.

One case at a time goes in (`rows_of_case`), since the masks of a study do not fit into memory; what comes out
is a `Study` (its tables: `petbone.validation_tables`), from which the page and the files are made.

What is counted, and where:

| bone in                | Dice                      | volumes and limits of agreement | distances, NSD |
|------------------------|---------------------------|---------------------------------|----------------|
| both masks             | yes                       | yes                             | yes            |
| the reference alone    | 0 (missed), in medians    | no; counted in `n_missed`       | no             |
| the prediction alone   | 0 (extra), not in medians | no; counted in `n_extra`        | no             |
| neither                | no; `n_neither`           | no                              | no             |
| a case without partner | no; `n_unpaired`          | no                              | no             |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.anatomy import BY_ID
from petbone.metrics import Likeness, Ruler, compare_labels
from petbone.surfaces import Definition
from petbone.volume import Volume

TOLERANCE_MM = 2.0
"""Of `nsd_2mm`."""

UNSEEN = "is outside of the prediction's field"
LOST = "is outside of the reference's field, so not counted"
"""In notes."""

SHEAR_DEG = 1.0
"""On a grid whose axes are farther than this from right angles no distance is given."""

PAPER_BONES = ("T7", "L3", "sacrum", "rib_left_7", "rib_right_7", "sternum")
"""Bones of Lindgren Belal et al. 2019. The paper does not say the side of its rib 7: both stand here, and a
side that no reference mask of a study holds is left out of its tables."""

OVERLAP_COLUMNS = (
    "case", "bone", "found", "dice", "volume_reference_ml", "volume_predicted_ml", "volume_difference_ml",
    "volume_difference_percent", "hausdorff_mm", "hd95_mm", "assd_mm", "masd_mm", "nsd_2mm", "note",
)  # fmt: skip
"""A row per case and bone. `found`: ``both``, ``missed``, ``extra``, ``neither``; difference is predicted
minus reference; the percentage is 100 |V1 - V2| / ((V1 + V2) / 2); `note` says what a reader must know, as
"cut by the end of the scan"."""

AGREEMENT_COLUMNS = (
    "bone", "n", "n_cases", "n_missed", "n_extra", "n_neither", "n_unpaired", "median_reference_ml",
    "sd_reference_ml", "median_predicted_ml", "sd_predicted_ml", "median_dice", "median_dice_low",
    "median_dice_high", "bias_ml", "bias_low_ml", "bias_high_ml", "sd_ml", "loa_low_ml",
    "loa_low_ci_low_ml", "loa_low_ci_high_ml", "loa_high_ml", "loa_high_ci_low_ml", "loa_high_ci_high_ml",
    "bias_percent", "loa_low_percent", "loa_high_percent", "slope", "slope_low", "slope_high",
    "mean_volume_difference_percent", "icc_2_1", "icc_2_1_low", "icc_2_1_high", "ccc", "ccc_low", "ccc_high",
    "median_hd95_mm", "median_assd_mm", "median_nsd_2mm", "note",
)  # fmt: skip
"""A row per bone; `n` pairs of volumes enter bias, limits, ICC and CCC. `slope`: of the difference over
the mean (`bland_altman.proportional_bias`)."""

GROUP_COLUMNS = (
    "group", "bones", "n", "n_missed", "median_dice", "dice_p25", "dice_p75",
    "mean_volume_difference_percent", "median_hd95_mm", "median_assd_mm", "median_nsd_2mm", "note",
)  # fmt: skip
"""A row per group of `anatomy`, ``all`` asked bones, and ``skeleton_49`` where others were asked, too.
`bones` is how many of the group were asked; figures are over all cases and bones together, `n` pairs in both
masks."""

REPEAT_COLUMNS = (
    "case", "bone", "method", "volume_1_ml", "volume_2_ml", "volume_difference_percent", "dice", "note",
)  # fmt: skip
"""A row per case, bone and `method` (``reference`` or ``predicted``) of two readings. Dice is empty where the
two readings are of two scans."""

TABLE_COLUMNS = (
    "bone", "n", "predicted_ml", "reference_ml", "dice", "repeat_predicted_percent",
    "repeat_reference_percent", "n_repeat_predicted", "n_repeat_reference",
)  # fmt: skip
"""The table of 2019: median (SD) of the volumes as text, median Dice, mean volume difference of two readings
and how many of these there are."""

MISSING_COLUMNS = ("case", "bone", "side", "what")
"""What a study lacks: `what` is ``file``, ``bone`` or ``first reading`` (of a second one); `side` is where it
is not: ``reference``, ``predicted``, ``both``."""


@dataclass(frozen=True, eq=False)
class Worst:
    """A bone of a case to be drawn: masks of both on one grid, cropped around it, and the CT if known."""

    case: str
    bone: str
    why: str  # as "lowest Dice of all", "largest HD95 of the ribs", "missed"
    dice: float
    hd95_mm: float
    reference: npt.NDArray[np.bool_]
    predicted: npt.NDArray[np.bool_]
    frame: Volume  # HU on the same grid; a map of 0 where no CT was given (unit LABEL)


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that a validation has found; tables with the columns above."""

    overlap: pd.DataFrame
    agreement: pd.DataFrame
    groups: pd.DataFrame
    missing: pd.DataFrame
    repeat: pd.DataFrame  # empty where there was one reading
    table: pd.DataFrame
    ruler: Ruler
    worst: tuple[Worst, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Masks:
    """Both maps of a case in petbone's labels, uint8, on the grid of the reference.

    `cut_reference`, `cut_predicted`: by label, the sides by which it leaves its own scan. `resampled`: the
    prediction was brought here from another grid; `unseen`: by label, the part of the reference that lies
    outside of the field of that grid, which the prediction could not find; `lost`: by label, the part of the
    prediction that lies outside of the reference's field, and so was left behind.
    """

    case: str
    reference: Volume
    predicted: Volume
    cut_reference: Mapping[int, tuple[str, ...]]
    cut_predicted: Mapping[int, tuple[str, ...]]
    resampled: bool = False
    unseen: Mapping[int, float] = field(default_factory=dict)
    lost: Mapping[int, float] = field(default_factory=dict)


def rows_of_case(masks: Masks, labels: Sequence[int], border: Definition) -> list[dict[str, Any]]:
    """A row of `OVERLAP_COLUMNS` for each of `labels`. Distances, volumes and Dice: `petbone.metrics`.

    Volumes are by the determinant of the grid, so that a tilted gantry does not enlarge them.
    """
    grid = masks.reference.grid
    ruler = Ruler(_three(grid.spacing_mm), TOLERANCE_MM, border)
    upright = float(np.prod(ruler.spacing_mm)) / 1000
    alike = compare_labels(masks.reference.data, masks.predicted.data, ruler, labels)
    return [
        _row(masks, label, alike[label], grid.voxel_ml / upright, grid.shear_deg > SHEAR_DEG)
        for label in labels
    ]


def _three(spacing_mm: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(mm) for mm in spacing_mm)


def _row(masks: Masks, label: int, alike: Likeness, scale: float, sheared: bool) -> dict[str, Any]:
    nan = float("nan")
    found = {
        (True, True): "both",
        (True, False): "missed",
        (False, True): "extra",
        (False, False): "neither",
    }[alike.volume_one_ml > 0, alike.volume_two_ml > 0]
    row = {
        "case": masks.case,
        "bone": BY_ID[label].name,
        "found": found,
        "dice": alike.dice,
        "volume_reference_ml": alike.volume_one_ml * scale or nan,
        "volume_predicted_ml": alike.volume_two_ml * scale or nan,
    }
    of_both = {
        "volume_difference_ml": alike.difference_ml * scale,
        "volume_difference_percent": alike.difference_percent,
        "hausdorff_mm": nan if sheared else alike.hausdorff_mm,
        "hd95_mm": nan if sheared else alike.hd95_mm,
        "assd_mm": nan if sheared else alike.assd_mm,
        "masd_mm": nan if sheared else alike.masd_mm,
        "nsd_2mm": nan if sheared else alike.surface_dice,
    }
    row |= of_both if found == "both" else dict.fromkeys(of_both, nan)
    return row | {"note": _note(masks, label, found, sheared)}


def _note(masks: Masks, label: int, found: str, sheared: bool) -> str:
    lost = [f"{_percent(masks.lost[label])} of the prediction {LOST}"] if label in masks.lost else []
    if found == "neither":
        return "".join(lost)
    cut = [masks.cut_reference.get(label, ()), masks.cut_predicted.get(label, ())]
    said = []
    if cut[0] and cut[0] == cut[1]:
        said.append(f"cut by the end of the scan ({', '.join(cut[0])})")
    else:
        whose = zip(("reference", "prediction"), cut, strict=True)
        said += [f"{one} cut by the end of the scan ({', '.join(sides)})" for one, sides in whose if sides]
    if label in masks.unseen:
        said.append(f"{_percent(masks.unseen[label])} of the reference {UNSEEN}")
    said += lost
    if masks.resampled:
        said.append("prediction resampled to the grid of the reference")
    if sheared and found == "both":
        said.append("axes not at right angles: no distances")
    return "; ".join(said)


def _percent(share: float) -> str:
    return f"{f'{100 * share:.0f}' if share >= 0.01 else 'less than 1'} %"
