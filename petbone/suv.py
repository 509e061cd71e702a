"""Standardised uptake value: what was injected, when, into whom, and the arithmetic that follows.

Terms used in names:

* *decay reference* : the moment to which the image is decay-corrected; activity is counted as of then
* *START*, *ADMIN*, *NONE* : DICOM Decay Correction (0054,1102): to scan start, to injection, not at all
* *factor* : what a voxel value (after rescale) is multiplied by to give SUVbw in g/mL

Formulas: QIBA vendor-neutral SUV pseudo-code (2018-06-26) for START; IBSI SUV manual
(oncoray/suv_computation) for ADMIN, NONE and the judgement of dose and weight by size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import numpy as np

from petbone.volume import Unit, Volume

HALF_LIFE_S: dict[str, float] = {
    "C-11": 1221.84,
    "N-13": 597.9,
    "O-15": 122.24,
    "F-18": 6586.2,
    "Cu-64": 45723.6,
    "Ga-68": 4057.74,
    "Zr-89": 282276.0,
}
"""Physical half-life in seconds by nuclide. F-18 and Ga-68 are the values of the IBSI reference objects."""

TRACER_NUCLIDE: dict[str, str] = {"naf": "F-18", "choline": "F-18", "fdg": "F-18"}
"""Nuclide of a tracer that is nearly always labelled with it. PSMA ligands carry F-18 or Ga-68: not here."""

MAX_HALF_LIVES = 10.0
"""Beyond this many half-lives between injection and scan the times are not believed."""


class DecayTimesError(ValueError):
    """The times of injection and scan cannot be."""


class DecayCorrection(Enum):
    """To which moment the image is decay-corrected (DICOM 0054,1102)."""

    START = "START"
    ADMIN = "ADMIN"
    NONE = "NONE"


@dataclass(frozen=True)
class Acquisition:
    """What SUV needs to know of an injection and a scan, and nothing else.

    `decay_reference_at` is the moment the image is corrected to (START), ignored for ADMIN, and the start of
    the frame for NONE, which also needs `frame_s`. `voxel_unit` says what the image holds. `assumptions` are
    sentences on values that were judged and not read, carried into the factor.

    Raises ValueError where a value is not positive, not finite, out of all reason, or times run backwards.
    """

    dose_bq: float
    half_life_s: float | None
    injected_at: datetime
    decay_reference_at: datetime
    weight_kg: float
    decay_correction: DecayCorrection = DecayCorrection.START
    voxel_unit: Unit = Unit.BQ_PER_ML
    height_m: float | None = None
    sex: str | None = None
    tracer: str | None = None
    frame_s: float | None = None
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _in_range("dose", self.dose_bq, 1e6, 1e11, "Bq")
        if self.half_life_s is not None:
            _in_range("half-life", self.half_life_s, 1.0, 1e8, "s")
        elif self.decay_correction is not DecayCorrection.ADMIN:
            raise ValueError("only an image that is corrected to the injection needs no half-life")
        _in_range("weight", self.weight_kg, 1.0, 700.0, "kg")
        if self.height_m is not None:
            _in_range("height", self.height_m, 0.3, 2.8, "m")
        if self.sex not in (None, "M", "F", "O"):
            raise ValueError(f"sex must be M, F or O, got {self.sex!r}")
        if self.voxel_unit is not Unit.BQ_PER_ML:
            raise ValueError(f"an acquisition describes an image in Bq/mL, got {self.voxel_unit.value}")
        if self.frame_s is not None:
            _in_range("frame duration", self.frame_s, 0.0, 1e6, "s")
        if self.decay_correction is DecayCorrection.NONE and self.frame_s is None:
            raise ValueError("an image without decay correction needs the frame duration in seconds")
        if self.decay_correction is not DecayCorrection.ADMIN:
            self._check_times()

    def _check_times(self) -> None:
        if self.decay_s < 0:
            raise DecayTimesError(f"the injection is {-self.decay_s:g} s after the scan's decay reference")
        assert self.half_life_s is not None  # the constructor saw to it
        if self.decay_s > MAX_HALF_LIVES * self.half_life_s:
            raise DecayTimesError(
                f"the injection is {self.decay_s:g} s before the scan, more than {MAX_HALF_LIVES:g} "
                f"half-lives of {self.half_life_s:g} s"
            )

    @property
    def decay_s(self) -> float:
        """Seconds from the injection to the decay reference."""
        return (self.decay_reference_at - self.injected_at).total_seconds()


@dataclass(frozen=True)
class SuvFactor:
    """SUVbw = voxel value x `factor`; `rule` names the formula, `assumptions` what was judged on the way."""

    factor: float
    rule: str
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"an SUV factor is positive and finite, got {self.factor}")


def suv_bw_factor(acquisition: Acquisition) -> SuvFactor:
    """Factor from Bq/mL to SUVbw (g/mL): 1000 W / dose, the dose taken at the moment the image refers to.

    START: dose x 2^(-(reference - injection) / half-life) (QIBA). ADMIN: the dose as injected (IBSI).
    NONE: 1000 W / dose x lambda T / (1 - exp(-lambda T)) x exp(lambda (start - injection)) (IBSI).
    """
    decay_per_s = math.log(2) / (acquisition.half_life_s or math.inf)  # without one: ADMIN, nothing decays
    factor = 1000.0 * acquisition.weight_kg / acquisition.dose_bq
    kind = acquisition.decay_correction
    if kind is DecayCorrection.START:
        factor *= math.exp(decay_per_s * acquisition.decay_s)
        rule = "1000 x weight / dose decayed from injection to the time the image is corrected to"
    elif kind is DecayCorrection.ADMIN:
        rule = "1000 x weight / injected dose (image decay-corrected to the injection)"
    else:
        assert acquisition.frame_s is not None  # the constructor saw to it
        decay_in_frame = decay_per_s * acquisition.frame_s
        mean = decay_in_frame / -math.expm1(-decay_in_frame) if decay_in_frame else 1.0
        factor *= mean * math.exp(decay_per_s * acquisition.decay_s)
        rule = (
            "1000 x weight / injected dose, voxel values corrected for decay since injection and in the frame"
        )
    return SuvFactor(factor, rule, acquisition.assumptions)


def to_suv(volume: Volume, factor: SuvFactor) -> Volume:
    """`volume` (any numeric type) times the factor, as float32 SUVbw. A volume already in SUV is refused."""
    if volume.unit is not Unit.BQ_PER_ML:
        raise ValueError(f"SUV is computed from Bq/mL, got {volume.unit.value}")
    data = volume.data.astype(np.float32)
    data *= np.float32(factor.factor)
    return volume.with_data(data, Unit.SUV)


def dose_in_bq(value: float) -> tuple[float, str | None]:
    """A dose in Bq from a number that ought to be Bq, and the assumption made if it was judged to be MBq.

    IBSI: 4e8 is Bq, 4e2 is MBq; decide by size and say so. Raises ValueError for what is neither.
    """
    if 1e6 <= value <= 1e11:
        return value, None
    if 1.0 <= value <= 1e5:
        return value * 1e6, f"dose {value:g} is taken as MBq, because it is too small to be Bq"
    raise ValueError(f"a dose of {value:g} is neither Bq (1e6 to 1e11) nor MBq (1 to 1e5)")


def weight_in_kg(value: float) -> tuple[float, str | None]:
    """A weight in kg from a number that ought to be kg; above 1000 it is grams (IBSI)."""
    if value > 1000:
        return value / 1000, f"weight {value:g} is taken as grams, because it is too large to be kg"
    return value, None


def injection_before(injected_at: datetime, scan_at: datetime) -> tuple[datetime, str | None]:
    """Injection time whose date was not recorded, moved to the day before if it is after the scan.

    A clock that says 23:50 for the injection and 00:40 for the scan passed midnight (IBSI).
    """
    if injected_at <= scan_at:
        return injected_at, None
    moved = injected_at - timedelta(days=1)
    return (
        moved,
        "the injection's clock time is after the scan's, so the injection is taken as the day before",
    )


def half_life_of(tracer: str | None) -> tuple[float, str]:
    """Half-life in seconds of a tracer's usual nuclide, and the sentence that says it was assumed.

    Raises ValueError for a tracer that comes with several nuclides (psma) or with none known (other).
    """
    nuclide = TRACER_NUCLIDE.get(tracer or "")
    if nuclide is None:
        raise ValueError(
            f"the tracer {tracer or '(none)'} does not tell the nuclide, so the half-life is unknown"
        )
    seconds = HALF_LIFE_S[nuclide]
    return seconds, f"half-life {seconds:g} s, because {tracer} is taken as labelled with {nuclide}"


def _in_range(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be {low:g} to {high:g} {unit}, got {value:g}")
