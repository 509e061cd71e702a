"""What is said of how a PET lies to the CT: a table, facts for the provenance, notes for a reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from petbone.anatomy import BY_ID
from petbone.register import Alignment
from petbone.shift import Shift, length_and_interval

COLUMNS = (
    "name shift_mm shift_uncertainty_mm shift_x_mm shift_y_mm shift_z_mm shift_x_uncertainty_mm "
    "shift_y_uncertainty_mm shift_z_uncertainty_mm"
).split()


def table_of(alignment: Alignment | None) -> pd.DataFrame:
    """A row for the whole and one per bone, the columns of `COLUMNS`.

    Uncertainties are half-widths of 95 % intervals. No row where nothing is known.
    """
    if alignment is None:
        return pd.DataFrame(columns=COLUMNS)
    rows = [_row("whole", alignment.shift)]
    rows += [_row(BY_ID[label].name, shift) for label, shift in sorted(alignment.bones.items())]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(name: str, shift: Shift) -> dict[str, object]:
    length, interval = length_and_interval(shift)
    row: dict[str, object] = {"name": name, "shift_mm": length, "shift_uncertainty_mm": interval}
    for axis, mm, variance in zip("xyz", shift.mm, np.diag(shift.covariance), strict=True):
        row[f"shift_{axis}_mm"] = float(mm)
        row[f"shift_{axis}_uncertainty_mm"] = 1.96 * float(np.sqrt(variance))
    return row


def facts_of(alignment: Alignment | None, wanted: str) -> dict[str, Any]:
    """For the provenance: what was measured, whether it was applied, and why (`wanted`: report or rigid)."""
    if alignment is None:
        return {"applied": False, "why": "the images tell too little of how the PET lies to the CT"}
    may, why = alignment.verdict()
    return {
        "applied": bool(may and wanted == "rigid"),
        "worth_applying": may,
        "far": alignment.is_far,
        "why": why,
        "pet_mm_from_ct_mm": alignment.pet_mm_from_ct_mm.round(6).tolist(),
        "rotation_deg": alignment.rotation_deg.round(3).tolist(),
        "spread_of_bones_mm": round(alignment.spread_mm, 3),
    }


def notes_of(left: Alignment, facts: dict[str, Any], spoken: Callable[[int], str]) -> list[str]:
    """What a reader must know: a PET that lies aside, and bones where it does (`left` to correct)."""
    notes = []
    if facts["applied"]:
        notes.append(f"the PET was moved onto the CT: {facts['why']}")
    elif facts.get("far"):
        notes.append(f"PET and CT: {facts['why']}; are they of one examination?")
    elif facts["worth_applying"]:
        notes.append(f"the PET does not lie on the CT: {facts['why']}; --align rigid would move it")
    off = []
    for label, shift in left.bones.items():
        length, interval = length_and_interval(left.own(shift))
        if length - interval > left.voxel_mm / 2:
            off.append((length, f"{spoken(label)} ({length:.0f} ± {interval:.0f} mm)"))
    if off and not (facts["worth_applying"] and not facts["applied"]) and not facts.get("far"):
        listed = [text for _, text in sorted(off, reverse=True)]
        more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""
        notes.append(f"PET and CT disagree by more than half a voxel at {', '.join(listed[:6])}{more}")
    return notes
