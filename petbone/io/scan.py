"""What reading a file gives, and what a person can add that the file does not say. No reading here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from petbone.suv import Acquisition, SuvFactor
from petbone.volume import Grid, Volume


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume in its final unit, and how it came to be. Nothing in it identifies the patient.

    `acquisition` holds times with dates and stays in memory; `source` is fit for a provenance file: format,
    sha256, shape, spacing_mm, orientation, seconds, and for PET how SUV was obtained (no date, no path).
    """

    volume: Volume
    acquisition: Acquisition | None
    suv: SuvFactor | None
    source: dict[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PetOptions:
    """What a person says about a PET; completes the file, and wins over it where both speak.

    Times are ISO date-times or HH:MM:SS. `half_life_s` is needed only where the tracer does not tell it.
    """

    units: str | None = None
    sidecar: Path | None = None
    tracer: str | None = None
    weight_kg: float | None = None
    height_cm: float | None = None
    sex: str | None = None
    dose_mbq: float | None = None
    injected_at: str | None = None
    scan_start: str | None = None
    half_life_s: float | None = None
    series: str | None = None  # number or UID of the DICOM series that is meant

    def __post_init__(self) -> None:
        if self.units not in (None, "suv", "bqml"):
            raise ValueError(f"units must be suv or bqml, got {self.units!r}")

    def of_injection(self) -> list[str]:
        """Flags of what was given that only activity (Bq/mL) needs, and SUV does not."""
        given = {
            "--dose-mbq": self.dose_mbq,
            "--injected-at": self.injected_at,
            "--scan-start": self.scan_start,
            "--half-life-s": self.half_life_s,
        }
        return [flag for flag, value in given.items() if value is not None]


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels as a file holds them, rescaled, before anybody says what they mean.

    `data` is (i, j, k), first axis fastest in memory unless somebody asked otherwise; `low` and `high` its
    extremes. `whole_numbers` is true when the file stores integers without a fractional scale. `label_names`
    is what the file itself calls its labels, where it does.
    """

    data: npt.NDArray[Any]
    grid: Grid
    low: float
    high: float
    whole_numbers: bool
    format: str
    sha256: str
    warnings: tuple[str, ...] = ()
    label_names: dict[int, str] = field(default_factory=dict)
    series_left: tuple[str, ...] = ()  # other DICOM series that lay beside this one

    def source(self, seconds: float) -> dict[str, Any]:
        """Facts for a provenance file."""
        left = {"series_left": list(self.series_left)} if self.series_left else {}
        return left | {
            "format": self.format,
            "sha256": self.sha256,
            "shape": list(self.grid.shape),
            "spacing_mm": [round(float(s), 6) for s in self.grid.spacing_mm],
            "orientation": orientation_code(self.grid),
            "file_range": [self.low, self.high],
            "seconds": round(seconds, 3),
        }


def orientation_code(grid: Grid) -> str:
    """Three letters, one per array axis: the direction it grows to (R or L, A or P, S or I)."""
    axes = grid.mm_from_ijk[:3, :3] / grid.spacing_mm
    # Each world axis is named once, strongest first, so that an oblique grid never gets a letter twice.
    letters = ["", "", ""]
    strength = np.abs(axes)
    for _ in range(3):
        world, array = np.unravel_index(int(strength.argmax()), (3, 3))
        letters[array] = ("LR", "PA", "IS")[world][int(axes[world, array] > 0)]
        strength[world, :] = strength[:, array] = -1
    return "".join(letters)
