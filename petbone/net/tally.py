"""How sure the names that were counted are, and what the bones may be instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.floating[Any]]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Counted:
    """`given` (n,) label of every voxel; by label, the chance that its number is right and the labels that it
    may be instead (itself first, the likeliest next)."""

    given: U8
    confidence: dict[int, float]
    candidates: dict[int, tuple[int, ...]]


class Tally:
    """By label: how sure its number is, and what else it may be."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._sure: dict[int, list[float]] = {}
        self._other: dict[int, set[int]] = {}

    def note(self, label: int, chances: F64, labels: tuple[int, ...]) -> None:
        """One vertebra or rib that was given `label`; `chances` of each of `labels` (0: no bone at all)."""
        if not label:
            return
        by_label: dict[int, float] = {label: 0.0}
        for chance, other in zip(chances, labels, strict=True):
            by_label[other] = by_label.get(other, 0.0) + float(chance)
        self._sure.setdefault(label, []).append(by_label[label])
        likely = {other for other, chance in by_label.items() if other and chance >= self._least}
        self._other.setdefault(label, set()).update(likely - {label})

    def sure(self, label: int) -> float | None:
        """Mean chance of a number; None where nothing was noted of it."""
        chances = self._sure.get(label)
        return float(np.mean(chances)) if chances else None

    def counted(self, given: U8, mean_chance: dict[int, float]) -> Counted:
        """Confidence: that of the number times the mean chance of the kind of bone; a bone that has no number
        has the net's own chance of it."""
        confidence = {
            label: chance * float(np.mean(self._sure.get(label, [1.0])))
            for label, chance in mean_chance.items()
        }
        candidates = {label: (label, *sorted(self._other.get(label, ()))) for label in mean_chance}
        return Counted(given, confidence, candidates)
