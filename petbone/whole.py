"""From the bones that were seen to the whole skeleton: weights of the bone scan index, and estimates.

* *amount*   : what is summed of every bone: volume of hotspots in mL, or their uptake in g
* *involved* : the part of a bone's seen volume that hotspots fill

Weights: Imbriaco et al., Clin Cancer Res 4 (1998) 1765, from Spiers' masses of the reference man, in per cent
of the skeleton; forearms, hands, legs and feet (32.8 %) are not among petbone's bones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.anatomy import BONES, BY_ID, BY_NAME, STANDARD_VOLUME_ML
from petbone.completeness import Seen, whole_volume

Array = npt.NDArray[np.float64]

SINGLE_PERCENT = {"skull": 16.6, "mandible": 1.8, "sternum": 0.3}
EACH_PERCENT = {"clavicle": 0.5, "scapula": 1.5, "humerus": 3.3, "femur": 8.9, "hip": 3.75}
RIBS_PERCENT, SPINE_AND_SACRUM_PERCENT = 4.4, 8.3
NEIGHBOUR = {"T13": "T12", "L6": "L5", "rib_left_13": "rib_left_12", "rib_right_13": "rib_right_12"}
"""Supernumerary bones have no weight of their own: they count with their neighbour."""


@dataclass(frozen=True)
class Estimate:
    """An amount of the whole skeleton: `likely` if what was not seen is like its kin, `low` if it is free of
    disease, `high` if it is as diseased as the worst of its kin. Three suppositions, and no interval of
    confidence: what was not seen may hold anything.
    """

    likely: float
    low: float
    high: float


def bsi_weights() -> dict[int, float]:
    """Per cent of the skeleton by label; ribs and vertebrae share theirs by their standard volumes."""
    weights = {BY_NAME[name].id: share for name, share in SINGLE_PERCENT.items()}
    for name, share in EACH_PERCENT.items():
        weights |= {BY_NAME[f"{name}_{side}"].id: share for side in ("left", "right")}
    spine = [b.id for b in BONES if b.group.endswith("_spine") or b.name == "sacrum"]
    ribs = [b.id for b in BONES if b.group == "ribs"]
    for labels, share in ((ribs, RIBS_PERCENT), (spine, SPINE_AND_SACRUM_PERCENT)):
        whole = sum(STANDARD_VOLUME_ML[label] for label in labels)
        weights |= {label: share * STANDARD_VOLUME_ML[label] / whole for label in labels}
    return weights


def merged(amount: Array) -> Array:
    """(256,) with what supernumerary bones have given to their neighbours."""
    amount = amount.copy()
    for name, neighbour in NEIGHBOUR.items():
        amount[BY_NAME[neighbour].id] += amount[BY_NAME[name].id]
        amount[BY_NAME[name].id] = 0
    return amount


def bsi_percent(hot_ml: Array, seen_ml: Array, seen: dict[int, float], labels: Iterable[int]) -> float:
    """Sum of involved x seen part x weight over bones, in per cent of the skeleton's mass.

    `hot_ml`, `seen_ml`: (256,) volume of hotspots and of bone on the PET, by label; `seen`: part of each bone
    in the images. What was not seen counts as free of disease.
    """
    hot_ml, seen_ml = merged(hot_ml), merged(seen_ml)
    weights = bsi_weights()
    parts = [
        weights[label] * seen.get(label, 0.0) * hot_ml[label] / seen_ml[label]
        for label in labels
        if label in weights and seen_ml[label] > 0
    ]
    return float(sum(parts))


def whole_ml(states: dict[int, Seen], labels: Iterable[int]) -> Array:
    """(256,) volume that each bone has, or would have if all of it were seen; 0 for absent variants."""
    complete = {n: s.volume_ml for n, s in states.items() if s.status == "complete" and s.volume_ml}
    volume = np.zeros(256)
    for label in labels:
        state = states[label]
        if state.status == "complete" and state.volume_ml:
            volume[label] = state.volume_ml
        elif BY_ID[label] in BONES:
            guess = whole_volume(BY_ID[label], {n: ml for n, ml in complete.items() if BY_ID[n] in BONES}).ml
            volume[label] = max(guess, state.volume_ml or 0.0)
        else:
            volume[label] = state.volume_ml or 0.0
    return volume


def whole_amount(amount: Array, seen_ml: Array, whole: Array, labels: Iterable[int]) -> Estimate:
    """Amount in all of `labels`, from what was seen of them.

    `amount`, `seen_ml`, `whole`: (256,) by label. The kin of a bone is its group among `labels`, or all of
    them where nothing of its group was seen.
    """
    labels = list(labels)
    kin: dict[str, list[int]] = {}
    for label in labels:
        if seen_ml[label] > 0:
            kin.setdefault(BY_ID[label].group, []).append(label)
    everything = [label for found in kin.values() for label in found]
    low = likely = high = float(amount[labels].sum())
    for label in labels:
        missing_ml = whole[label] - seen_ml[label]
        if missing_ml <= 1e-6 * whole[label] or not everything:
            continue
        near = kin.get(BY_ID[label].group, everything)
        per_ml = amount[near] / seen_ml[near]
        usual = float(amount[near].sum() / seen_ml[near].sum())
        own = float(amount[label] / seen_ml[label]) if seen_ml[label] > 0 else usual
        likely += missing_ml * own
        high += missing_ml * max(own, float(per_ml.max()))
    return Estimate(likely, low, high)
