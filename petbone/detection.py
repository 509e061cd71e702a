"""Which lesions of a reference map were found: a record per lesion, from which all else follows. No paths.

* *overlap*   : of two lesions, by the `Criterion`: IoU (shared / union), Dice, or any (shared / smaller one)
* *found*     : a reference lesion that has a partner; one to one, pairs of enough overlap alone, first as
  many pairs as there can be, then the largest sum of overlaps (linear assignment)
* *missed*, *false* : a reference lesion, a predicted lesion without partner
* *split*     : a false one that lies mostly in a reference lesion found by another (as in `matching`)
* *merged*    : the reverse, a missed one that lies mostly in a predicted lesion that has found another
* *ignored*   : below the minimal volume: neither found, nor missed, nor false; see `compare_hotspots`

Splits are false and merges are missed, since one lesion is one finding; they are named so that a reader can
count otherwise, and `detection_figures` gives sensitivity and precision without them as well.

What there is to say of a patient, by what the two maps hold:

| reference | predicted | sensitivity | precision | F1  | false | Dice of the total | mL  | the patient    |
|-----------|-----------|-------------|-----------|-----|-------|-------------------|-----|----------------|
| lesions   | lesions   | yes         | yes       | yes | yes   | yes               | yes | true positive  |
| lesions   | nothing   | 0           | NaN       | 0   | 0     | 0                 | yes | false negative |
| nothing   | lesions   | NaN         | 0         | 0   | yes   | 0                 | yes | false positive |
| nothing   | nothing   | NaN         | NaN       | NaN | 0     | NaN               | 0   | true negative  |

(*yes*: a value; *mL*: difference of the total volumes.)

The record is that of picai_eval (github.com/DIAGNijmegen/picai_eval, Bosma et al.): (is it a lesion,
confidence, overlap). There what is left and overlaps enough is not counted; here it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from petbone.components import connected
from petbone.matching import MOSTLY

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

OVERLAPS = ("iou", "dice", "any")
READINGS = ("auto", "numbers", "parts")
_NAN = float("nan")
_ROUNDING_ML = 1e-9


@dataclass(frozen=True)
class Criterion:
    """When a predicted lesion is a reference lesion, and from which volume on a lesion counts.

    The default, an IoU of at least 0.1, is that of the PI-CAI challenge (Saha et al., Lancet Oncol 25, 2024,
    879; picai_eval's `min_overlap`): lenient, since a hotspot is a few voxels that another threshold grows or
    shrinks, but more than a touch. ``any`` takes one shared voxel and does not look at `least`.

    Raises ValueError for an unknown overlap, `least` outside of (0, 1] or a volume that is negative.
    """

    overlap: str = "iou"
    least: float = 0.1
    min_volume_ml: float = 0.0

    def __post_init__(self) -> None:
        if self.overlap not in OVERLAPS:
            raise ValueError(f"an overlap is one of {', '.join(OVERLAPS)}, got {self.overlap!r}")
        if not 0 < self.least <= 1:
            raise ValueError(f"the least overlap is above 0 and at most 1, got {self.least:g}")
        if not 0 <= self.min_volume_ml < math.inf:
            raise ValueError(f"a minimal volume is 0 mL or more, got {self.min_volume_ml:g}")

    def words(self) -> str:
        """The criterion for a person."""
        if self.overlap == "any":
            return "at least one voxel shared"
        return f"{'IoU' if self.overlap == 'iou' else 'Dice'} at least {self.least:g}"


@dataclass(frozen=True)
class Lesion:
    """One lesion of the reference, or a predicted one without partner; a number is 0 and a volume NaN where
    it has none.

    `overlap` without a partner is the largest with any lesion of the other map.
    """

    what: Literal["found", "missed", "false", "ignored"]
    reference: int
    predicted: int
    overlap: float
    reference_ml: float = _NAN
    predicted_ml: float = _NAN
    reference_suv_max: float = _NAN
    predicted_suv_max: float = _NAN
    relation: Literal["", "split", "merged"] = ""
    whole: int = 0  # number of the lesion that a split or merged one is a part of, in the other map

    @property
    def record(self) -> tuple[bool, float, float]:
        """(is it a lesion, confidence, overlap): confidence is the predicted SUVmax, NaN where there is
        none."""
        return self.what in ("found", "missed"), self.predicted_suv_max, self.overlap


@dataclass(frozen=True)
class Patient:
    """All lesions of a patient and the volumes of the two maps as they are, ignored lesions among them."""

    case: str
    lesions: tuple[Lesion, ...]
    reference_ml: float
    predicted_ml: float
    shared_ml: float

    def count(self, what: str) -> int:
        """How many lesions are `what`."""
        return sum(lesion.what == what for lesion in self.lesions)

    def parts(self, relation: str) -> int:
        """How many are split, or merged."""
        return sum(lesion.relation == relation for lesion in self.lesions)


@dataclass(frozen=True, eq=False)
class Lesions:
    """A map of lesions, 0 where there is none, and how it was read (`READINGS`, never ``auto``).

    `in_parts` counts lesions that are of more than one part (26 neighbours).
    """

    numbers: npt.NDArray[Any]
    reading: str
    in_parts: int


@dataclass(frozen=True, eq=False)
class _Side:
    """The lesions of one map: their numbers in it, voxels, SUVmax (NaN without SUV)."""

    numbers: I64
    voxels: I64
    suv_max: F64


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Of each two lesions, (n, m): shared voxels, overlap, and whether that is enough."""

    shared: I64
    overlap: F64
    enough: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Found:
    """Partner of each reference lesion that counts, and of each ignored one; positions, not numbers."""

    pairs: dict[int, int]
    ignored: dict[int, int]


def lesions_in(labels: npt.NDArray[Any], reading: str = "auto") -> Lesions:
    """The lesions of a 3-D map of whole numbers from 0.

    ``numbers``: each number above 0 is a lesion. ``parts``: each part (26 neighbours) of all that is above 0
    is one. ``auto``: parts where the map holds 0 and 1 alone, numbers otherwise. Raises ValueError for
    another reading, a map that is not 3-D or that holds other than whole numbers from 0.
    """
    if reading not in READINGS:
        raise ValueError(f"a map of lesions is read by {', '.join(READINGS)}, got {reading!r}")
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
        raise ValueError(
            f"a map of lesions is 3-D, of whole numbers from 0, got {labels.ndim}-D {labels.dtype}"
        )
    if reading == "auto":
        reading = "parts" if labels.max(initial=0) <= 1 else "numbers"
    if reading == "parts":
        return Lesions(connected(np.asarray(labels > 0, np.uint8), 26), "parts", 0)
    parts = connected(labels.copy(order="K"), 26)  # cc3d takes no array that refuses writes
    first = np.unique(parts[labels > 0], return_index=True)[1]
    owners = np.unique(labels[labels > 0][first], return_counts=True)[1]
    return Lesions(labels, "numbers", int((owners > 1).sum()))


def compare_hotspots(
    case: str,
    reference: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    voxel_ml: float,
    suv: npt.NDArray[Any] | None = None,
    criterion: Criterion | None = None,
) -> Patient:
    """Every lesion of two maps (X, Y, Z) of lesion numbers on one grid, 0 where there is none.

    With `suv` (same grid) each lesion has its SUVmax, and that of a predicted one is its confidence.

    A reference lesion below ``criterion.min_volume_ml`` is ignored, and so is a predicted one that has no
    partner among the others and is below that volume, or overlaps an ignored one enough, or lies mostly in
    one (the rule of COCO: Lin et al., ECCV 2014, "ignore"). A small predicted lesion that finds a counted one
    stays.

    Numbers may have gaps, and do not matter: which one of several best assignments is taken depends on
    SUVmax, volume and place of the lesions. Raises ValueError if shapes differ or the volume of a voxel is
    not above 0.
    """
    criterion = criterion or Criterion()
    for name, other in (("predicted", predicted), ("SUV", suv)):
        if other is not None and other.shape != reference.shape:
            raise ValueError(f"maps of one grid are compared; {name} is {other.shape}, not {reference.shape}")
    if not 0 < voxel_ml < math.inf:
        raise ValueError(f"the volume of a voxel is above 0 mL, got {voxel_ml:g}")
    rows, columns = _side(reference, suv), _side(predicted, suv)
    shared = _shared(reference, predicted, rows, columns)
    overlap = _overlap(shared, rows, columns, criterion)
    small = [side.voxels * voxel_ml < criterion.min_volume_ml - _ROUNDING_ML for side in (rows, columns)]
    enough = overlap > 0 if criterion.overlap == "any" else overlap >= criterion.least
    found = _partners(np.where(enough, overlap, 0.0), small[0])
    lesions = _lesions(rows, columns, _Pairs(shared, overlap, enough), small, found, voxel_ml)
    totals = (int(np.count_nonzero(reference)), int(np.count_nonzero(predicted)), int(shared.sum()))
    return Patient(case, tuple(lesions), *(total * voxel_ml for total in totals))


def assign(overlap: npt.ArrayLike) -> dict[int, int]:
    """Partner of each row: as many pairs above 0 as there can be, then the largest sum of overlaps.

    `overlap` is (n, m), 0 to 1, 0 where two may not be paired. Raises ValueError for other numbers.
    """
    scores = np.asarray(overlap, np.float64)
    if scores.ndim != 2 or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("overlaps to be assigned are a table of numbers from 0 to 1")
    # No sum of overlaps is worth one more pair: picai_eval adds 1, which is not quite enough for that.
    worth = np.where(scores > 0, scores + min(scores.shape) + 1, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if scores[i, j] > 0}


def _side(labels: npt.NDArray[Any], suv: npt.NDArray[Any] | None) -> _Side:
    """Lesions in the order that decides between equally good assignments, whatever their numbers are."""
    some = np.flatnonzero(labels)
    numbers, first, where, voxels = np.unique(
        labels.ravel()[some], return_index=True, return_inverse=True, return_counts=True
    )
    highest = np.full(len(numbers), _NAN)
    if suv is not None:
        highest = np.full(len(numbers), -np.inf)
        np.maximum.at(highest, where, suv.ravel()[some])
    order = np.lexsort((some[first], -voxels, -highest))
    return _Side(numbers[order].astype(np.int64), voxels[order].astype(np.int64), highest[order])


def _shared(reference: npt.NDArray[Any], predicted: npt.NDArray[Any], rows: _Side, columns: _Side) -> I64:
    """(n, m) voxels that each two lesions share."""
    shared = np.zeros((len(rows.numbers), len(columns.numbers)), np.int64)
    both = (reference > 0) & (predicted > 0)
    np.add.at(shared, (_position(reference[both], rows), _position(predicted[both], columns)), 1)
    return shared


def _position(numbers: npt.NDArray[Any], side: _Side) -> I64:
    """Where each number stands among the lesions of a side."""
    rank = np.argsort(side.numbers)
    return np.asarray(rank[np.searchsorted(side.numbers[rank], numbers)], np.int64)


def _overlap(shared: I64, rows: _Side, columns: _Side, criterion: Criterion) -> F64:
    one, two = rows.voxels[:, None], columns.voxels[None, :]
    if criterion.overlap == "iou":
        return np.asarray(shared / (one + two - shared), np.float64)
    if criterion.overlap == "dice":
        return np.asarray(2 * shared / (one + two), np.float64)
    return np.asarray(shared / np.minimum(one, two), np.float64)


def _partners(allowed: F64, small: npt.NDArray[np.bool_]) -> _Found:
    """Counted reference lesions choose first; ignored ones take of what is left."""
    counted, ignored = np.flatnonzero(~small), np.flatnonzero(small)
    pairs = {int(counted[i]): j for i, j in assign(allowed[counted]).items()}
    left = np.setdiff1d(np.arange(allowed.shape[1]), list(pairs.values()))
    taken = assign(allowed[np.ix_(ignored, left)])
    return _Found(pairs, {int(ignored[i]): int(left[j]) for i, j in taken.items()})


def _lesions(
    rows: _Side,
    columns: _Side,
    pairs: _Pairs,
    small: Sequence[npt.NDArray[np.bool_]],
    found: _Found,
    voxel_ml: float,
) -> list[Lesion]:
    into_rows = pairs.shared / columns.voxels[None, :]
    into_columns = pairs.shared / rows.voxels[:, None]
    overlap = pairs.overlap
    finder = {j: i for i, j in found.pairs.items()}

    def lesion(what: Any, i: int, j: int, relation: Any = "", whole: int = 0) -> Lesion:
        facts: dict[str, Any] = {"reference": 0, "predicted": 0}
        for name, n, side in (("reference", i, rows), ("predicted", j, columns)):
            if n >= 0:
                facts |= {name: int(side.numbers[n]), f"{name}_ml": float(side.voxels[n] * voxel_ml)}
                facts[f"{name}_suv_max"] = float(side.suv_max[n])
        best = overlap[i, j] if i >= 0 and j >= 0 else overlap[i] if i >= 0 else overlap[:, j]
        return Lesion(what, overlap=float(np.max(best, initial=0.0)), relation=relation, whole=whole, **facts)

    lesions = []
    for i in range(len(rows.numbers)):
        if i in found.pairs:
            lesions.append(lesion("found", i, found.pairs[i]))
        elif small[0][i]:
            lesions.append(lesion("ignored", i, found.ignored.get(i, -1)))
        else:
            whole = _mostly_in(into_columns[i], finder.keys())
            part = ("merged", int(columns.numbers[whole])) if whole >= 0 else ("", 0)
            lesions.append(lesion("missed", i, -1, *part))
    lesions.sort(key=lambda one: one.reference)
    ignored = np.flatnonzero(small[0])
    touched = set(np.flatnonzero(pairs.enough[ignored].any(axis=0)).tolist())
    false = []
    for j in sorted(range(len(columns.numbers)), key=lambda j: int(columns.numbers[j])):
        if j in finder or j in found.ignored.values():
            continue
        whole = _mostly_in(into_rows[:, j], found.pairs.keys())
        if whole >= 0 and not small[1][j]:
            false.append(lesion("false", -1, j, "split", int(rows.numbers[whole])))
        elif small[1][j] or j in touched or _mostly_in(into_rows[:, j], ignored) >= 0:
            false.append(lesion("ignored", -1, j))
        else:
            false.append(lesion("false", -1, j))
    return lesions + false


def _mostly_in(parts: F64, among: Any) -> int:
    """Which of some lesions holds the most of another, if that is at least half; -1 for none."""
    some = sorted(among)
    if not some:
        return -1
    best = max(some, key=lambda n: (parts[n], -n))
    return int(best) if parts[best] >= MOSTLY else -1
