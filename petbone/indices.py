"""Indices of tumour burden in the skeleton: published ones by name, and a researcher's own.

An index is data (`petbone/data/indices.toml`): threshold, operator, bones, reference. Its value is read on
the grid of the PET, every voxel counting by the part of it that bone fills.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.anatomy import (
    ALL_BONES,
    BONES,
    BY_NAME,
    SKELETON_49,
    SPINE_AND_RIB_VARIANTS,
    STANDARD_VOLUME_ML,
)
from petbone.background import TISSUES, NoReference, Reference
from petbone.benign import Flags, Surroundings
from petbone.completeness import Seen
from petbone.hotspots import HotspotRule, absolute, against, core, find_hotspots
from petbone.resample import Occupancy
from petbone.volume import Volume
from petbone.whole import bsi_percent, bsi_weights, merged, whole_amount, whole_ml

Statistic = Literal["volume_percent", "volume_ml", "tlu_g", "bsi_percent", "suv_mean", "suv_max"]

_REGIONS = {
    "spine": ("cervical_spine", "thoracic_spine", "lumbar_spine"),
    "thorax": ("ribs", "sternum", "shoulder"),
    "pelvis": ("pelvis",),
    "limbs": ("limbs",),
    "head": ("head",),
}
BONE_SETS: dict[str, tuple[int, ...]] = {
    name: tuple(bone.id for bone in ALL_BONES if bone.group in groups) for name, groups in _REGIONS.items()
} | {
    "skeleton_49": SKELETON_49 + SPINE_AND_RIB_VARIANTS,
    "skeleton_62": tuple(bone.id for bone in BONES) + SPINE_AND_RIB_VARIANTS,
}

COLUMNS = (
    "index value unit numerator_ml denominator_ml denominator_seen_fraction threshold operator "
    "connectivity min_volume_ml bones reference note whole_estimate whole_low whole_high "
    "value_unflagged flagged_hotspots flagged_ml"
).split()

LEAST_SEEN = 0.5
"""Part of an index's bones that must have been seen for an estimate of the whole; of less it is a guess."""

DEFAULT_INDEX = {"naf": "PET15", "choline": "A50", "psma": "SUV3"}
"""Which index's hotspots are listed when none is named, by tracer."""


@dataclass(frozen=True)
class Index:
    """One index: what is found (`rule`, None for a plain uptake statistic) and what is made of it."""

    name: str
    tracer: str  # the tracer it was published for, or empty
    statistic: Statistic
    unit: str
    bones: str  # how the set was named
    labels: tuple[int, ...]
    rule: HotspotRule | None
    reference: str
    note: str
    missing: str = ""  # why it can have no value, though it has a rule


_RULE_KEYS = (
    *("operator", "method", "fraction", "connectivity", "min_volume_ml", "split"),
    *("relative_to", "sd_multiple"),
)
_KEYS = {"name", "tracer", "statistic", "unit", "threshold", "bones", "reference", "note", *_RULE_KEYS}


def parse_indices(text: str, source: str) -> tuple[Index, ...]:
    """The indices of a TOML text with one ``[[index]]`` table each.

    Raises ValueError, naming `source`, on unknown or missing keys and values that make no sense.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not TOML: {error}") from error
    tables = document.get("index")
    proper = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
    if not proper or not tables or set(document) != {"index"}:
        raise ValueError(f"{source}: expected [[index]] tables and nothing else, found {sorted(document)}")
    indices = tuple(_parse(table, source) for table in tables)
    names = [index.name for index in indices]
    if len(set(names)) != len(names):
        raise ValueError(f"{source}: every index needs a name of its own, found {names}")
    return indices


def _parse(table: dict[str, Any], source: str) -> Index:
    name = str(table.get("name", ""))
    if not name:
        raise ValueError(f"{source}: an [[index]] has no name")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ValueError(f"{source}: index {name}: unknown {', '.join(unknown)}; known are {sorted(_KEYS)}")
    statistic: Statistic = table.get("statistic", "")
    if statistic not in get_args(Statistic):
        raise ValueError(
            f"{source}: index {name}: statistic must be one of {get_args(Statistic)}, got {statistic!r}"
        )
    bones, labels = _bone_set(table.get("bones", "skeleton_49"), f"{source}: index {name}")
    rule = None
    pointless = sorted(set(table) & {"threshold", *_RULE_KEYS}) if statistic.startswith("suv_") else []
    if pointless:
        raise ValueError(f"{source}: index {name}: {statistic} has no {', '.join(pointless)}; leave it out")
    if not statistic.startswith("suv_"):
        if "threshold" not in table:
            raise ValueError(f"{source}: index {name}: {statistic} needs a threshold")
        options = {key: table[key] for key in _RULE_KEYS if key in table}
        try:
            rule = HotspotRule(name, float(table["threshold"]), bones=labels, **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source}: index {name}: {error}") from error
    return Index(
        name=name,
        tracer=str(table.get("tracer", "")),
        statistic=statistic,
        unit=str(table.get("unit", "")),
        bones=bones,
        labels=labels,
        rule=rule,
        reference=str(table.get("reference", "")),
        note=str(table.get("note", "")),
    )


def _bone_set(value: object, where: str) -> tuple[str, tuple[int, ...]]:
    if isinstance(value, str) and value in BONE_SETS:
        return value, BONE_SETS[value]
    if isinstance(value, list) and value and all(isinstance(name, str) and name in BY_NAME for name in value):
        return " ".join(value), tuple(BY_NAME[name].id for name in value)
    raise ValueError(
        f"{where}: bones must be one of {sorted(BONE_SETS)} or a list of bone names, got {value!r}"
    )


def published_indices() -> tuple[Index, ...]:
    """The indices that come with petbone."""
    text = resources.files("petbone").joinpath("data/indices.toml").read_text(encoding="utf-8")
    return parse_indices(text, "indices.toml")


def choose_index(indices: Iterable[Index], tracer: str, name: str | None) -> tuple[Index, str]:
    """The index whose hotspots are listed, and a remark when that was a guess (else empty).

    Raises ValueError when `name` is not among `indices` or has no hotspots.
    """
    by_name = {index.name: index for index in indices if index.rule is not None}
    if name is not None:
        if name not in by_name:
            raise ValueError(f"no index {name!r} with a hotspot rule; there are {', '.join(by_name)}")
        return by_name[name], ""
    usual = DEFAULT_INDEX.get(tracer, "SUV3")
    if usual not in by_name:
        raise ValueError(f"{usual} has no hotspot rule here; there are {', '.join(by_name)}")
    if tracer in DEFAULT_INDEX:
        return by_name[usual], ""
    return by_name[usual], (
        f"Hotspots are listed by SUV3, a rule made for PSMA: none is known for the tracer '{tracer}'. "
        "Choose one with --index NAME."
    )


def resolved(
    indices: Iterable[Index], references: Mapping[str, Reference | NoReference]
) -> tuple[Index, ...]:
    """The indices with thresholds relative to liver or muscle as SUV, `references` being by tissue.

    Where the tissue could not be read, `missing` says why. The threshold's origin is told in the note.
    """
    return tuple(_resolved(index, references) for index in indices)


def _resolved(index: Index, references: Mapping[str, Reference | NoReference]) -> Index:
    rule = index.rule
    if rule is None or rule.relative_to not in references:
        return index
    found = references[rule.relative_to]
    if isinstance(found, NoReference):
        return replace(index, missing=f"no reference region in {TISSUES[found.tissue]}: {found.reason}")
    spread = f" + {rule.sd_multiple:g} x its SD ({found.sd:.3g})" if rule.sd_multiple else ""
    mean = f"the mean SUV of {TISSUES[found.tissue]} ({found.mean:.3g})"
    said = f"The threshold is {rule.threshold:g} x {mean}{spread}."
    return replace(index, rule=against(rule, found), note=f"{said} {index.note}".strip())


def index_table(
    indices: Iterable[Index],
    suv: Volume,
    bones: Occupancy,
    seen: dict[int, float],
    tracer: str,
    states: dict[int, Seen] | None = None,
    surroundings: Surroundings | None = None,
    known: Mapping[HotspotRule, tuple[Volume, Flags]] = MappingProxyType({}),
) -> pd.DataFrame:
    """A row per index, the columns of `COLUMNS`.

    `seen` gives, per label, the part of the bone that was seen (0 if absent); weighted by the volumes of the
    standard skeleton it says how much of the index's denominator the field of view holds. With `states` the
    sums of hotspots are estimated for the whole of the bones, too, if `LEAST_SEEN` of them was seen. With
    `surroundings` hotspots are flagged (`benign`), and what is left without them is said; `value` holds all.
    `known` are hotspots and flags of rules that were searched before.
    """
    found = {replace(rule, name=""): hotspots for rule, (hotspots, _) in known.items()}
    flags = {replace(rule, name=""): flagged for rule, (_, flagged) in known.items()}
    rows = []
    for index in indices:
        voxel, fraction = bones.total(index.labels)
        value = suv.data.reshape(-1)[voxel].astype(np.float64)
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"index": index.name, "unit": index.unit, "bones": index.bones, "reference": index.reference}
        row["note"] = _note(index, tracer)
        row["denominator_ml"] = float(fraction.sum() * suv.grid.voxel_ml) if voxel.size else None
        row["denominator_seen_fraction"] = seen_fraction(index.labels, seen)
        if index.missing:
            row["note"] = f"No value: {index.missing}. {row['note']}".strip()
        elif index.rule is not None:
            rule = absolute(index.rule, suv, bones)
            # Two indices of one rule (FTV10 and TLF10) share the search.
            key = replace(rule, name="")
            if key not in found:
                found[key] = find_hotspots(suv, bones, rule)
                if surroundings is not None:
                    flags[key] = surroundings.flags(found[key], rule.bones)
            if index.rule.relative_to:
                multiple = f"The threshold is {index.rule.threshold:g} times the median SUV of these bones."
                row["note"] = f"{multiple} {row['note']}".strip()
            hot = found[key].data.reshape(-1)[voxel] > 0
            numerator_ml = float(fraction[hot].sum() * suv.grid.voxel_ml)
            row["numerator_ml"] = numerator_ml if voxel.size else None
            row |= {
                "threshold": rule.threshold,
                "operator": index.rule.operator,
                "connectivity": index.rule.connectivity,
                "min_volume_ml": index.rule.min_volume_ml,
            }
            burden = _burden(found[key], suv, bones, index.labels)
            row["value"] = _hotspot_value(index, burden, seen) if voxel.size else None
            if states is not None and voxel.size and row["denominator_seen_fraction"] >= LEAST_SEEN:
                row |= _estimate(index, burden, states)
            if surroundings is not None and voxel.size:
                rest = _burden(found[key], suv, bones, index.labels, flags[key]) if flags[key] else burden
                row["value_unflagged"] = _hotspot_value(index, rest, seen)
                row["flagged_hotspots"] = len(flags[key])
                row["flagged_ml"] = float((burden.hot_ml - rest.hot_ml).sum())
        elif voxel.size:
            mean = float((fraction * value).sum() / fraction.sum())
            row["value"] = mean if index.statistic == "suv_mean" else float(value[core(fraction)].max())
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["flagged_hotspots"] = table["flagged_hotspots"].astype("Int64")
    return table


def seen_fraction(labels: Iterable[int], seen: dict[int, float]) -> float:
    """Part of the volume of these bones that was seen, by the standard skeleton, which has no variants."""
    labels = [label for label in labels if label not in SPINE_AND_RIB_VARIANTS]
    whole = sum(STANDARD_VOLUME_ML[label] for label in labels)
    return sum(STANDARD_VOLUME_ML[label] * seen.get(label, 0.0) for label in labels) / whole


@dataclass(frozen=True)
class _Burden:
    """(256,) by label: volume of bone, and volume and uptake of hotspots in it, on the PET."""

    bone_ml: npt.NDArray[np.float64]
    hot_ml: npt.NDArray[np.float64]
    hot_g: npt.NDArray[np.float64]


def _burden(
    hotspots: Volume, suv: Volume, bones: Occupancy, labels: tuple[int, ...], left_out: Iterable[int] = ()
) -> _Burden:
    """What lies in the bones `labels`, without the hotspots whose numbers are `left_out`."""
    inside = np.isin(bones.label, labels)
    label, voxel = bones.label[inside], bones.voxel[inside]
    ml = bones.fraction[inside] * suv.grid.voxel_ml
    counts = np.ones(int(hotspots.data.max(initial=0)) + 1, dtype=bool)
    counts[[0, *left_out]] = False
    hot = counts[hotspots.data.reshape(-1)[voxel]]
    grams = ml[hot] * suv.data.reshape(-1)[voxel[hot]].astype(np.float64)
    parts = ((label, ml), (label[hot], ml[hot]), (label[hot], grams))
    return _Burden(*(np.bincount(at, what, minlength=256).astype(np.float64) for at, what in parts))


def _hotspot_value(index: Index, burden: _Burden, seen: dict[int, float]) -> float:
    """An index of hotspots, of what was seen."""
    if index.statistic == "volume_percent":
        return float(100 * burden.hot_ml.sum() / burden.bone_ml.sum())
    if index.statistic == "bsi_percent":
        return bsi_percent(burden.hot_ml, burden.bone_ml, seen, index.labels)
    return float((burden.hot_ml if index.statistic == "volume_ml" else burden.hot_g).sum())


def _estimate(index: Index, burden: _Burden, states: dict[int, Seen]) -> dict[str, float]:
    """The index for the whole of its bones, and its bounds."""
    whole, seen_ml = whole_ml(states, index.labels), burden.bone_ml
    amount, scale = burden.hot_ml, 1.0
    if index.statistic == "volume_percent":
        scale = 100 / float(whole.sum())
    elif index.statistic == "tlu_g":
        amount = burden.hot_g
    elif index.statistic == "bsi_percent":
        # Every bone's weight is spread over its volume.
        whole, seen_ml = merged(whole), merged(seen_ml)
        weight = np.zeros(256)
        for label, percent in bsi_weights().items():
            weight[label] = percent / whole[label] if whole[label] > 0 else 0.0
        amount = merged(amount) * weight
    found = whole_amount(amount, seen_ml, whole, index.labels)
    return {
        "whole_estimate": scale * found.likely,
        "whole_low": scale * found.low,
        "whole_high": scale * found.high,
    }


def _note(index: Index, tracer: str) -> str:
    if not index.tracer or index.tracer == tracer:
        return index.note
    return f"Defined for {index.tracer}, not for {tracer}. {index.note}".strip()
