"""What is known of one patient: the bones that were found, and all that has been measured. No paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from petbone.anatomy import BY_ID, LOW_CONFIDENCE, unsure_name
from petbone.bone_motion import BoneMotion
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
    second: CaseResult | None = None  # another examination of the patient, with a CT and PETs of its own
    motions: dict[int, BoneMotion] | None = None  # where each bone of this one lies in the second
    backdrop: Any = None  # the report's, drawn while the PETs were measured; None: it is drawn with the rest

    @property
    def all_pets(self) -> tuple[PetResult, ...]:
        """Of both examinations."""
        return self.pets + (self.second.pets if self.second is not None else ())


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The bones of the patient and what is known of their names."""

    bones: Volume
    confidence: dict[int, float] | None  # None for masks made elsewhere
    weights_sha256: str | None
    notes: tuple[str, ...]
    candidates: dict[int, tuple[int, ...]] | None  # what each may be, its own first; None as above

    def is_unsure(self, label: int) -> bool:
        """True where the network gave the bone a name that is more likely wrong than right."""
        return self.confidence is not None and self.confidence.get(label, 1.0) < LOW_CONFIDENCE

    def spoken(self, label: int) -> str:
        """The bone's name, or what it may be where its name is unsure."""
        if self.is_unsure(label):
            return unsure_name((self.candidates or {}).get(label, (label,)))
        return BY_ID[label].name

    def names(self) -> dict[str, dict[str, Any]] | None:
        """By name, its confidence and the names that the bone may have; None for masks made elsewhere."""
        if self.confidence is None:
            return None
        may_be = self.candidates or {}
        return {
            BY_ID[label].name: {
                "confidence": round(float(sure), 6),
                "may_be": [BY_ID[other].name for other in may_be.get(label, (label,))],
            }
            for label, sure in sorted(self.confidence.items())
        }
