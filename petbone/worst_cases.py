"""Which bones of which cases a person should look at first, and the part of the images around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from petbone.anatomy import BY_NAME
from petbone.components import label_boxes
from petbone.resample import resample
from petbone.validation import Masks, Worst
from petbone.validation_tables import members
from petbone.volume import Box, Grid, Unit, Volume

MOST = 8
MARGIN_MM = 15.0


def choose(overlap: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of an overlap table with ``why``, at most `MOST`, each once.

    In this order: the lowest Dice of all bones in both masks, the largest HD95, the largest missed bone, then
    the lowest Dice of each group, lowest first. Ties go by the order of the table.
    """
    both = overlap[overlap["found"] == "both"]
    missed = overlap[overlap["found"] == "missed"]
    chosen = [(both.sort_values("dice", kind="stable"), "lowest Dice of all")]
    far = both[both["hd95_mm"].notna()].sort_values("hd95_mm", ascending=False, kind="stable")
    chosen.append((far, "largest HD95 of all"))
    largest = missed.sort_values("volume_reference_ml", ascending=False, kind="stable")
    chosen.append((largest, "missed"))
    by_group = [
        (both[both["bone"].isin(names)].sort_values("dice", kind="stable"), f"lowest Dice: {_words(group)}")
        for group, names in members(list(dict.fromkeys(overlap["bone"]))).items()
        if group not in ("all", "skeleton_49")
    ]
    by_group = [(rows, why) for rows, why in by_group if len(rows)]
    chosen += sorted(by_group, key=lambda one: float(one[0]["dice"].iloc[0]))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for rows, why in chosen:
        for row in rows.head(1).to_dict("records"):
            found.setdefault((row["case"], row["bone"]), {str(k): v for k, v in row.items()} | {"why": why})
    return list(found.values())[:MOST]


def _words(group: str) -> str:
    return group.replace("_", " ")


def cut_out(rows: Sequence[dict[str, Any]], masks: Masks, ct: Volume | None) -> list[Worst]:
    """Rows of `choose` of one case, with its masks and the CT around them; without a CT the frame is 0.

    The CT is brought to the grid of the reference (exactly, where it holds the same voxels).
    """
    found = [label_boxes(masks.reference.data), label_boxes(masks.predicted.data)]
    worst = []
    for row in rows:
        label = BY_NAME[row["bone"]].id
        box = _around([own[label] for own in found if label in own], masks.reference.grid)
        grid = masks.reference.grid.cropped(box)
        nothing = Volume(np.zeros(grid.shape, np.uint8), grid, Unit.LABEL)
        worst.append(
            Worst(
                case=row["case"],
                bone=row["bone"],
                why=row["why"],
                dice=float(row["dice"]),
                hd95_mm=float(row["hd95_mm"]),
                reference=masks.reference.data[box] == label,
                predicted=masks.predicted.data[box] == label,
                frame=nothing if ct is None else resample(ct, grid),
            )
        )
    return worst


def _around(found: list[tuple[slice, ...]], grid: Grid) -> Box:
    """The box that holds all of them, and `MARGIN_MM` more on every side within the grid."""
    sides = []
    for of_axis, n, mm in zip(zip(*found, strict=True), grid.shape, grid.spacing_mm, strict=True):
        more = int(np.ceil(MARGIN_MM / mm))
        low, high = min(side.start for side in of_axis), max(side.stop for side in of_axis)
        sides.append(slice(max(low - more, 0), min(high + more, n)))
    return sides[0], sides[1], sides[2]
