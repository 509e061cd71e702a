"""The row of a participant in a BIDS data set: the body's size, which BIDS keeps apart from the PET.

BIDS fixes `participant_id` and `sex`; `weight` (kg) and `height` (cm) are what data sets call the size.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

from petbone.errors import InputError
from petbone.io.injection import sex_of

TABLE = "participants.tsv"
FOLDERS_UP = 5  # DATASET/derivatives/PIPELINE/sub-01/ses-1/pet


@dataclass(frozen=True)
class Participant:
    """What the table says of a person; None where it is silent."""

    weight_kg: float | None = None
    height_m: float | None = None
    sex: str | None = None


def participant_of(file: Path) -> Participant | None:
    """The row of the subject whose `sub-...` stands in the file's name or its folders; None if there is no
    such table or row.

    Raises InputError for a table that cannot be read, that has two rows for the subject, or whose numbers are
    none. The subject's label stays in here.
    """
    file = file.resolve()
    labels = [m for part in reversed(file.parts) if (m := re.match(r"sub-[A-Za-z0-9]+", part))]
    table = next((t for parent in file.parents[:FOLDERS_UP] if (t := parent / TABLE).is_file()), None)
    if not labels or table is None:
        return None
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{TABLE}: cannot be read ({type(error).__name__}); expected a table of BIDS"
        ) from None
    own = [row for row in rows if (row.get("participant_id") or "").strip() == labels[0][0]]
    if not own:
        return None
    if len(own) > 1:
        raise InputError(f"{TABLE}: {len(own)} rows for this participant; expected one")
    row = own[0]
    height_cm = _number(row, "height")
    return Participant(
        weight_kg=_number(row, "weight"),
        height_m=None if height_cm is None else height_cm / 100,
        sex=sex_of(row.get("sex")),
    )


def _number(row: dict[str, str], column: str) -> float | None:
    text = (row.get(column) or "").strip()
    if text.lower() in ("", "n/a", "na", "nan", "-"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{TABLE}: the participant's {column} is no number; expected kg and cm, or n/a")
    return value
