"""What is known of one patient when all has been measured. No paths, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from petbone.volume import Volume


@dataclass(frozen=True, eq=False)
class PetResult:
    """One PET of the patient: images on its own grid and the three tables of the contract."""

    tracer: str  # naf, choline, psma, fdg or other
    suv: Volume  # SUVbw, Unit.SUV
    hotspots: Volume  # hotspot numbers, Unit.LABEL, 1 = highest SUVmax
    bone_table: pd.DataFrame  # a row per bone, all 62 (and the variants found)
    hotspot_table: pd.DataFrame  # a row per hotspot
    index_table: pd.DataFrame  # a row per index
    facts: dict[str, Any]  # SUV factor and its rule, hotspot rule, definitions of every column
    alignment_table: pd.DataFrame | None = None  # PET against CT, the whole and every bone; None: unknown


@dataclass(frozen=True, eq=False)
class CaseResult:
    """Everything that the report, the files and the cohort need."""

    ct: Volume | None  # None when somebody else's bones came without a CT
    bones: Volume  # label map on its own grid, Unit.LABEL
    pets: tuple[PetResult, ...]
    warnings: tuple[str, ...]
    provenance: dict[str, Any]
    candidates: dict[int, tuple[int, ...]] | None = None  # what each bone may be; None: masks made elsewhere
