"""How well lesions are detected: figures of a cohort from the records of `petbone.detection`. No images here.

Lesions of all patients are counted together. Two intervals, 95 %, since lesions of one patient are not
independent:

* *low, high* : Wilson's of a proportion, as if every lesion were of another patient; of a bias and its limits
  those of `bland_altman`
* *bootstrap* : patients drawn with replacement, 10 000 times (the same each time), percentiles; an interval
  of the ratio of two sums over patients. It is the one to quote where patients have several lesions

A figure that does not exist is NaN, and so is the interval that all draws agree on: it says nothing of other
patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.agreement import NORMAL_95, dice, volume_difference_percent
from petbone.bland_altman import bland_altman
from petbone.detection import Criterion, Patient
from petbone.reliability import median_interval

F64 = npt.NDArray[np.float64]
Interval = tuple[float, float]

RATES = (0.5, 1.0, 2.0)
"""False positives per patient at which the curve is read."""

_NAN = float("nan")
_NO_INTERVAL = (_NAN, _NAN)
_RESAMPLES = 10_000
_BLOCK = 1 << 22
_FEWEST = 3


@dataclass(frozen=True)
class Figure:
    """A number, its intervals, and of how many (`n`: lesions, patients; the definition says which) it is."""

    name: str
    value: float
    n: int
    definition: str
    interval: Interval = _NO_INTERVAL
    bootstrap: Interval = _NO_INTERVAL


@dataclass(frozen=True)
class CurvePoint:
    """What is found when only predicted lesions of at least this confidence count."""

    confidence: float
    sensitivity: float
    false_positives_per_patient: float


def wilson_interval(part: int, of: int) -> Interval:
    """95 % interval of a proportion `part` / `of` (Wilson, J Am Stat Assoc 22, 1927, 209), no continuity
    correction.

    NaN for a proportion of nothing. Raises ValueError unless 0 <= part <= of.
    """
    if not 0 <= part <= of:
        raise ValueError(f"a proportion is of counts, the part no more than the whole, got {part} of {of}")
    if of == 0:
        return _NO_INTERVAL
    z2 = NORMAL_95**2
    p = part / of
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = NORMAL_95 * math.sqrt(p * (1 - p) / of + z2 / (4 * of**2)) / (1 + z2 / of)
    # At the ends the formula gives 0 and 1, but for rounding.
    return (0.0 if part == 0 else middle - half), (1.0 if part == of else middle + half)


def ratio_interval(parts: npt.ArrayLike, wholes: npt.ArrayLike, seed: int = 0) -> Interval:
    """95 % interval of sum(parts) / sum(wholes), both (n,), a number of each patient: the percentile
    bootstrap.

    Patients are drawn with replacement, 10 000 times; a draw whose wholes sum to 0 has no ratio and is left
    out (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). The order of patients does
    not matter. NaN for fewer than three patients, and where all draws give the same. Raises ValueError for
    numbers that are missing or not in pairs.
    """
    some, of = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    if some.ndim != 1 or some.shape != of.shape or not np.isfinite(some + of).all():
        raise ValueError("a ratio of sums is of finite numbers, two for each patient")
    n = len(some)
    if n < _FEWEST:
        return _NO_INTERVAL
    order = np.lexsort((of, some))
    table = np.stack([some[order], of[order]], axis=1)
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // n)
    sums = [
        rng.multinomial(n, np.full(n, 1 / n), min(step, _RESAMPLES - start)) @ table
        for start in range(0, _RESAMPLES, step)
    ]
    top, bottom = np.concatenate(sums).T
    ratios = top[bottom > 0] / bottom[bottom > 0]
    if not ratios.size or np.ptp(ratios) <= 1e-12 * np.abs(ratios).max():
        return _NO_INTERVAL
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


def froc(patients: Sequence[Patient]) -> list[CurvePoint]:
    """Sensitivity against false positives per patient (FROC), a point per confidence that occurs, highest
    first.

    As the confidence asked for falls, more predicted lesions count; partners stay what they are. Empty
    without a reference lesion, and where a found or false lesion has no confidence. The last point is the
    whole map.
    """
    lesions = [lesion for patient in patients for lesion in patient.lesions]
    n_lesions = sum(lesion.what in ("found", "missed") for lesion in lesions)
    counted = [lesion for lesion in lesions if lesion.what in ("found", "false")]
    confidence = np.array([lesion.predicted_suv_max for lesion in counted], np.float64)
    if not n_lesions or not len(counted) or np.isnan(confidence).any():
        return []
    order = np.argsort(-confidence, kind="stable")
    confidence = confidence[order]
    hits = np.cumsum([counted[n].what == "found" for n in order])
    false = np.arange(1, len(order) + 1) - hits
    lasts = np.flatnonzero(np.append(np.diff(confidence) != 0, True))  # those of one confidence come together
    return [
        CurvePoint(float(confidence[n]), float(hits[n] / n_lesions), float(false[n] / len(patients)))
        for n in lasts
    ]


def sensitivity_at(curve: Sequence[CurvePoint], rate: float) -> float:
    """Highest sensitivity of the curve with at most `rate` false positives per patient, no interpolation.

    0 where every point has more, NaN for an empty curve.
    """
    if not curve:
        return _NAN
    return max((p.sensitivity for p in curve if p.false_positives_per_patient <= rate), default=0.0)


def patient_figures(patient: Patient) -> dict[str, float]:
    """Counts and figures of one patient; see the table in `petbone.detection` for what has no value."""
    found, missed, false = (patient.count(what) for what in ("found", "missed", "false"))
    ignored = [lesion for lesion in patient.lesions if lesion.what == "ignored"]
    return {
        "reference_lesions": found + missed,
        "predicted_lesions": found + false,
        "found": found,
        "missed": missed,
        "false": false,
        "split": patient.parts("split"),
        "merged": patient.parts("merged"),
        "ignored_reference": sum(lesion.reference > 0 for lesion in ignored),
        "ignored_predicted": sum(lesion.predicted > 0 for lesion in ignored),
        "sensitivity": _part(found, found + missed),
        "precision": _part(found, found + false),
        "f1": _part(2 * found, 2 * found + missed + false),
        "reference_ml": patient.reference_ml,
        "predicted_ml": patient.predicted_ml,
        "shared_ml": patient.shared_ml,
        "dice": dice(patient.shared_ml, patient.reference_ml, patient.predicted_ml),
        "volume_difference_ml": patient.predicted_ml - patient.reference_ml,
        "volume_difference_percent": volume_difference_percent(patient.reference_ml, patient.predicted_ml),
    }


def cohort_figures(patients: Sequence[Patient], criterion: Criterion, n_unpaired: int = 0) -> list[Figure]:
    """All figures of a cohort, each with its definition. `n_unpaired`: cases that had no partner, in no
    figure.

    Raises ValueError without a patient.
    """
    if not patients:
        raise ValueError("figures of detection are of at least one patient")
    rows = [patient_figures(patient) for patient in patients]
    of = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
    return [
        *_counts(of, n_unpaired, criterion),
        *_lesion_figures(of),
        *_patient_level(of),
        *_volumes(of),
        *_curve_figures(patients),
    ]


def _counts(of: dict[str, F64], n_unpaired: int, criterion: Criterion) -> list[Figure]:
    n = len(of["found"])
    told = {
        "patients": "cases with a map on both sides",
        "unpaired": "cases with a map on one side alone: in no figure",
        "reference_lesions": "lesions of the reference that count",
        "predicted_lesions": "predicted lesions that count: found and false",
        "found": f"reference lesions with a partner of their own: {criterion.words()}",
        "missed": "reference lesions without one, merged ones among them",
        "false": "predicted lesions without partner, split ones among them",
        "split": "false lesions that lie mostly in a found reference lesion",
        "merged": "missed lesions that lie mostly in a predicted lesion that found another",
        "ignored_reference": f"reference lesions below {criterion.min_volume_ml:g} mL",
        "ignored_predicted": "predicted lesions without partner, below that volume or in an ignored one",
    }
    values = {name: float(column.sum()) for name, column in of.items()}
    values |= {"patients": float(n), "unpaired": float(n_unpaired)}
    return [Figure(name, values[name], n, definition) for name, definition in told.items()]


def _lesion_figures(of: dict[str, F64]) -> list[Figure]:
    found, missed, false = of["found"], of["missed"], of["false"]
    return [
        _proportion("sensitivity", found, found + missed, "found / reference lesions"),
        _proportion("precision", found, found + false, "found / predicted lesions"),
        _ratio("f1", 2 * found, 2 * found + missed + false, "2 found / (2 found + missed + false)"),
        _proportion(
            "sensitivity_with_merged",
            found + of["merged"],
            found + missed,
            "(found + merged) / reference lesions",
        ),
        _proportion(
            "precision_without_split",
            found,
            found + false - of["split"],
            "found / (predicted lesions - split)",
        ),
        _ratio("false_positives_per_patient", false, np.ones(len(false)), "false / patients; n: patients"),
    ]


def _patient_level(of: dict[str, F64]) -> list[Figure]:
    ill = (of["reference_lesions"] > 0).astype(np.float64)
    shown = (of["predicted_lesions"] > 0).astype(np.float64)
    right = (of["found"] > 0).astype(np.float64)
    return [
        _proportion(
            "patient_sensitivity",
            ill * shown,
            ill,
            "patients with any predicted lesion / patients with a reference lesion",
        ),
        _proportion(
            "patient_sensitivity_located",
            ill * right,
            ill,
            "patients with a found lesion / patients with a reference lesion",
        ),
        _proportion(
            "patient_specificity",
            (1 - ill) * (1 - shown),
            1 - ill,
            "patients without predicted lesion / patients without reference lesion",
        ),
    ]


def _volumes(of: dict[str, F64]) -> list[Figure]:
    """Of the maps as they are; patients whose maps are both empty say nothing of volumes."""
    some = of["reference_ml"] + of["predicted_ml"] > 0
    one, two, shared = (of[name][some] for name in ("reference_ml", "predicted_ml", "shared_ml"))
    n = len(one)
    among = "; n: patients with a lesion in either map"
    each = of["dice"][some]
    figures = [
        _ratio(
            "dice_total", 2 * shared, one + two, f"2 x shared / both volumes, of all patients together{among}"
        ),
        Figure(
            "dice_median",
            float(np.median(each)) if n else _NAN,
            n,
            f"median over patients of Dice of all lesions as one{among}",
            bootstrap=median_interval(each),
        ),
    ]
    agreed = bland_altman(two, one) if n >= 2 else None
    for name, told in (
        ("volume_bias_ml", "mean of predicted minus reference total volume; interval: Student's"),
        ("volume_loa_low_ml", "lower limit of agreement, bias - 1.96 SD; interval: exact"),
        ("volume_loa_high_ml", "upper limit of agreement, bias + 1.96 SD; interval: exact"),
    ):
        value, interval = _NAN, _NO_INTERVAL
        if agreed is not None:
            value, interval = {
                "volume_bias_ml": (agreed.bias, agreed.bias_interval),
                "volume_loa_low_ml": (agreed.low, agreed.low_interval),
                "volume_loa_high_ml": (agreed.high, agreed.high_interval),
            }[name]
        figures.append(Figure(name, value, n, told + among, interval))
    return figures


def _curve_figures(patients: Sequence[Patient]) -> list[Figure]:
    curve = froc(patients)
    if not curve:
        return []
    n = sum(patient.count("found") + patient.count("missed") for patient in patients)
    return [
        Figure(
            f"sensitivity_at_{rate:g}_false",
            sensitivity_at(curve, rate),
            n,
            f"sensitivity with low SUVmax dropped until at most {rate:g} false per patient are left",
        )
        for rate in RATES
    ]


def _proportion(name: str, parts: F64, wholes: F64, definition: str) -> Figure:
    part, of = int(parts.sum()), int(wholes.sum())
    return Figure(
        name, _part(part, of), of, definition, wilson_interval(part, of), ratio_interval(parts, wholes)
    )


def _ratio(name: str, parts: F64, wholes: F64, definition: str) -> Figure:
    top, bottom = float(parts.sum()), float(wholes.sum())
    n = int(bottom) if name == "f1" else len(parts)
    return Figure(name, _part(top, bottom), n, definition, bootstrap=ratio_interval(parts, wholes))


def _part(some: float, of: float) -> float:
    return some / of if of else _NAN
