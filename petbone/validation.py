"""A study of segmentations against reference masks: tables of bones, cases and agreement. No paths.

One case at a time goes in (`rows_of_case`), since the masks of a study do not fit into memory; what comes out is
a `Study`, from which the page and the files are made.

What is counted, and where:

| bone in                 | Dice                    | volumes and their limits of agreement | distances |
|-------------------------|-------------------------|---------------------------------------|-----------|
| both masks              | yes                     | yes                                   | yes       |
| the reference alone     | 0 (missed), in medians  | no; counted in `n_missed`             | no        |
| the prediction alone    | 0 (extra), not in medians | no; counted in `n_extra`            | no        |
| neither                 | no; `n_neither`         | no                                    | no        |
| a case without partner  | no; `n_unpaired`        | no                                    | no        |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.metrics import Ruler
from petbone.volume import Volume

PAPER_BONES = ("T7", "L3", "sacrum", "rib_left_7", "rib_right_7", "sternum")
"""Bones of Lindgren Belal et al. 2019. The paper does not say the side of its rib 7: both stand here, and a side
that no reference mask of a study holds is left out of its tables."""

OVERLAP_COLUMNS = (
    "case", "bone", "found", "dice", "volume_reference_ml", "volume_predicted_ml", "volume_difference_ml",
    "volume_difference_percent", "hausdorff_mm", "hd95_mm", "assd_mm", "masd_mm", "nsd_2mm", "note",
)  # fmt: skip
"""A row per case and bone. `found`: ``both``, ``missed``, ``extra``, ``neither``; difference is predicted minus
reference; the percentage is 100 |V1 - V2| / ((V1 + V2) / 2); `note` says what a reader must know, as "cut by the
end of the scan"."""

AGREEMENT_COLUMNS = (
    "bone", "n", "n_cases", "n_missed", "n_extra", "n_neither", "n_unpaired", "median_reference_ml",
    "sd_reference_ml", "median_predicted_ml", "sd_predicted_ml", "median_dice", "median_dice_low",
    "median_dice_high", "bias_ml", "bias_low_ml", "bias_high_ml", "sd_ml", "loa_low_ml", "loa_low_ci_low_ml",
    "loa_low_ci_high_ml", "loa_high_ml", "loa_high_ci_low_ml", "loa_high_ci_high_ml", "bias_percent",
    "loa_low_percent", "loa_high_percent", "slope", "slope_low", "slope_high", "mean_volume_difference_percent",
    "icc_2_1", "icc_2_1_low", "icc_2_1_high", "ccc", "ccc_low", "ccc_high", "median_hd95_mm", "median_assd_mm",
    "median_nsd_2mm", "note",
)  # fmt: skip
"""A row per bone; `n` pairs of volumes enter bias, limits, ICC and CCC. `slope` is that of the difference over the
mean (`bland_altman.proportional_bias`)."""

GROUP_COLUMNS = (
    "group", "bones", "n", "n_missed", "median_dice", "dice_p25", "dice_p75", "mean_volume_difference_percent",
    "median_hd95_mm", "median_assd_mm", "median_nsd_2mm", "note",
)  # fmt: skip
"""A row per group of `anatomy` (and all of the asked bones, and the paper's 49): figures over cases and bones."""

REPEAT_COLUMNS = (
    "case", "bone", "method", "volume_1_ml", "volume_2_ml", "volume_difference_percent", "dice", "note",
)  # fmt: skip
"""A row per case, bone and `method` (``reference`` or ``predicted``) of two readings. Dice is empty where the two
readings are of two scans."""

TABLE_COLUMNS = (
    "bone", "n", "predicted_ml", "reference_ml", "dice", "repeat_predicted_percent", "repeat_reference_percent",
)  # fmt: skip
"""The table of 2019: median (SD) of the volumes as text, median Dice, mean volume difference of two readings."""

MISSING_COLUMNS = ("case", "bone", "side", "what")
"""What a study lacks: a file or a bone; `side` is where it is not: ``reference``, ``predicted``, ``both``."""


@dataclass(frozen=True, eq=False)
class Worst:
    """A bone of a case to be drawn: 0/1 masks of both on one grid, cropped around it, and the CT there if known."""

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
