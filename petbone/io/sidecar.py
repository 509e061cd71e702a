"""BIDS-PET sidecars: the JSON beside a NIfTI PET that says what was injected and when.

Keys and units: BIDS specification, PET. Times are seconds from TimeZero, a clock time without a date.
SUVbw = C x 1000 W / (A0 x 2^(-(ImageDecayCorrectionTime - InjectionStart) / half-life)), C in Bq/mL.
BIDS keeps the weight in participants.tsv; it comes from --weight-kg, from `BodyWeight` in kg, or from there.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

from petbone.errors import InputError
from petbone.io.injection import NO_DATE, Found, Moment, nuclide_of, sex_of, tracer_of
from petbone.io.participants import TABLE, Participant, participant_of
from petbone.suv import DecayCorrection
from petbone.volume import Unit

_BQ_PER = {"Bq": 1.0, "kBq": 1e3, "MBq": 1e6, "GBq": 1e9, "mCi": 3.7e7, "uCi": 3.7e4, "Ci": 3.7e10}
_PER_ML = {"Bq/mL": 1.0, "Bq/ml": 1.0, "BQML": 1.0, "kBq/mL": 1e3, "MBq/mL": 1e6, "Bq/cc": 1.0, "kBq/cc": 1e3}
_SUV_UNITS = ("SUV", "SUVbw", "g/mL", "g/ml", "GML")
_WEIGHT_KEYS = ("BodyWeight", "PatientWeight")
_READ = (
    "Units",
    "TracerName",
    "TracerRadionuclide",
    "InjectedRadioactivity",
    "InjectedRadioactivityUnits",
    "InjectionStart",
    "ScanStart",
    "TimeZero",
    "FrameTimesStart",
    "FrameDuration",
    "ImageDecayCorrected",
    "ImageDecayCorrectionTime",
    "AttenuationCorrection",
    "RadionuclideHalfLife",
    "PatientSex",
    "PatientSize",
    *_WEIGHT_KEYS,
)


def read_sidecar(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises InputError if it is none, or where a key misspells one read."""
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: the sidecar cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); expected a BIDS-PET sidecar") from None
    if not isinstance(sidecar, dict):
        raise InputError(f"{path}: a JSON {type(sidecar).__name__}; expected an object with BIDS-PET keys")
    for key in sidecar:
        # Other keys are BIDS's or the converter's business; a near miss would be lost in silence.
        near = difflib.get_close_matches(key, _READ, 1, cutoff=0.93)
        if key not in _READ and near and near[0] not in sidecar:
            raise InputError(f"{path}: unknown key {key}; did you mean {near[0]}?")
    return sidecar


def unit_and_scale(path: Path, sidecar: dict[str, Any]) -> tuple[Unit, float]:
    """(SUV or Bq/mL, what the values are multiplied by to be in it). Raises InputError for other units."""
    units = _text(path, sidecar, "Units")
    if units in _SUV_UNITS:
        return Unit.SUV, 1.0
    if units in _PER_ML:
        return Unit.BQ_PER_ML, _PER_ML[units]
    raise InputError(f"{path}: Units {units!r}; expected one of {', '.join((*_PER_ML, *_SUV_UNITS))}")


def found_in_sidecar(path: Path, sidecar: dict[str, Any]) -> Found:
    """What the sidecar says of injection and scan. Raises InputError naming a missing or malformed key."""
    _refuse_without_attenuation(path, sidecar)
    decay = _flag(path, sidecar, "ImageDecayCorrected")
    said: list[str] = []
    zero = _time_zero(path, sidecar)
    injection_s = _number(path, sidecar, "InjectionStart")
    frame_s: float | None = None
    if decay:
        reference_s = _number(path, sidecar, "ImageDecayCorrectionTime")
    else:
        starts, durations = (_numbers(path, sidecar, k) for k in ("FrameTimesStart", "FrameDuration"))
        if len(starts) != 1 or len(durations) != 1:
            raise InputError(
                f"{path}: not decay-corrected, with {len(starts)} FrameTimesStart and {len(durations)} "
                "FrameDuration; expected one frame"
            )
        reference_s, frame_s = starts[0], durations[0]
    weights = [k for k in _WEIGHT_KEYS if k in sidecar]
    weight = _number(path, sidecar, weights[0]) if weights else None
    person = participant_of(path) or Participant()
    if weight is None and person.weight_kg is not None:
        said.append(f"weight {person.weight_kg:g} kg from {TABLE}")
    return Found(
        dose=_dose_bq(path, sidecar, said),
        half_life_s=_number(path, sidecar, "RadionuclideHalfLife"),
        nuclide=nuclide_of(str(sidecar.get("TracerRadionuclide", ""))),
        injected=None if injection_s is None else Moment(zero + timedelta(seconds=injection_s), True),
        reference=None if reference_s is None else Moment(zero + timedelta(seconds=reference_s), True),
        weight=weight or person.weight_kg,
        height_m=_number(path, sidecar, "PatientSize") or person.height_m,
        sex=sex_of(str(sidecar.get("PatientSex", ""))) or person.sex,
        tracer=tracer_of(str(sidecar.get("TracerName", ""))),
        decay_correction=DecayCorrection.START if decay else DecayCorrection.NONE,
        frame_s=frame_s,
        relative_times=True,
        said=tuple(said),
        names={
            "dose": "InjectedRadioactivity",
            "half_life_s": "TracerRadionuclide",
            "injected": "InjectionStart",
            "reference": "ImageDecayCorrectionTime",
            "weight": "BodyWeight, or weight in participants.tsv",
        },
    )


def _refuse_without_attenuation(path: Path, sidecar: dict[str, Any]) -> None:
    word = str(sidecar.get("AttenuationCorrection", "")).strip()
    if word.lower() in ("none", "no", "false", "n/a"):
        raise InputError(f"{path}: AttenuationCorrection {word!r}; expected attenuation-corrected PET")


def _time_zero(path: Path, sidecar: dict[str, Any]) -> datetime:
    """Clock time of TimeZero on a day that stands for none; midnight if absent: only differences count."""
    start = datetime.combine(NO_DATE, time())
    if "TimeZero" not in sidecar:
        return start
    text = str(sidecar["TimeZero"])
    found = re.fullmatch(r"(\d{2}):(\d{2}):(\d{2})(\.\d+)?", text.strip())
    if not found:
        raise InputError(f"{path}: TimeZero {text!r}; expected HH:MM:SS")
    hours, minutes, seconds = (int(found[n]) for n in (1, 2, 3))
    return start + timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _dose_bq(path: Path, sidecar: dict[str, Any], said: list[str]) -> float | None:
    value = _number(path, sidecar, "InjectedRadioactivity")
    if value is None:
        return None
    units = _text(path, sidecar, "InjectedRadioactivityUnits")
    if units not in _BQ_PER:
        raise InputError(
            f"{path}: InjectedRadioactivityUnits {units!r}; expected one of {', '.join(_BQ_PER)}"
        )
    if units == "MBq" and 1e6 <= value <= 1e11:
        # dcm2niix wrote RadionuclideTotalDose, which is Bq, under the label MBq.
        said.append(f"InjectedRadioactivity {value:g} is taken as Bq although labelled MBq, being too large")
        return value
    return value * _BQ_PER[units]


# Values of keys


def _text(path: Path, sidecar: dict[str, Any], key: str) -> str:
    value = sidecar.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{path}: the key {key} is missing; expected text")
    return value.strip()


def _flag(path: Path, sidecar: dict[str, Any], key: str) -> bool:
    value = sidecar.get(key)
    if not isinstance(value, bool):
        raise InputError(f"{path}: the key {key} is missing or not true or false")
    return value


def _number(path: Path, sidecar: dict[str, Any], key: str) -> float | None:
    """A finite number; None where the key is absent, so that an option can fill it."""
    value = sidecar.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{path}: {key} is {json.dumps(value)[:60]}; expected a number")
    return float(value)


def _numbers(path: Path, sidecar: dict[str, Any], key: str) -> list[float]:
    value = sidecar.get(key)
    if not isinstance(value, list) or not all(isinstance(v, int | float) for v in value):
        raise InputError(f"{path}: the key {key} is missing or not a list of numbers")
    return [float(v) for v in value]
