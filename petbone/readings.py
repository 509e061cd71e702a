"""Two readings of one patient, by one method: how far the volumes of the bones differ. No paths.

The readings are of one scan (an observer drew twice) or of two scans (a network segmented two CTs). Of two
scans a bone that leaves either is cut in another place: its volumes are told, their difference is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from petbone.agreement import dice, volume_difference_percent
from petbone.anatomy import BY_ID, BY_NAME
from petbone.label_counts import label_counts
from petbone.metrics import overlaps
from petbone.reliability import repeatability_coefficient
from petbone.validation import MISSING_COLUMNS, REPEAT_COLUMNS
from petbone.validation_tables import limits, mean, median, members, sd
from petbone.volume import Volume

VOLUME_COLUMNS = (
    "case", "bone", "found", "cut", "volume_1_ml", "volume_2_ml", "volume_difference_ml",
    "volume_difference_percent", "note",
)  # fmt: skip
"""A row per case and bone. `found`: ``both``, ``first``, ``second``, ``neither``; difference is second minus
first; the percentage is 100 |V1 - V2| / ((V1 + V2) / 2). Both are empty where the bone is `cut` by the end of
the ``first`` scan, of the ``second`` or of ``both``."""

COLUMNS = (
    "bone", "n", "n_cases", "n_cut", "n_one_only", "n_neither", "n_unpaired", "median_1_ml", "sd_1_ml",
    "median_2_ml", "sd_2_ml", "mean_volume_difference_percent", "median_volume_difference_percent",
    "within_sd_ml", "repeatability_coefficient_ml", "bias_ml", "bias_low_ml", "bias_high_ml", "sd_ml",
    "loa_low_ml", "loa_low_ci_low_ml", "loa_low_ci_high_ml", "loa_high_ml", "loa_high_ci_low_ml",
    "loa_high_ci_high_ml", "bias_percent", "loa_low_percent", "loa_high_percent", "note",
)  # fmt: skip
"""A row per bone over the `n` pairs of both masks that are not cut."""

FAMILY_COLUMNS = (
    "family", "bones", "n", "n_cut", "n_one_only", "mean_volume_difference_percent",
    "median_volume_difference_percent", "note",
)  # fmt: skip
"""``vertebral_column``, ``ribs`` and ``others`` as in Lindgren Belal et al. 2019, the other groups, ``all``,
``skeleton_49``; over all cases and bones together."""

_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Reading:
    """A map in petbone's labels, uint8, and by label the sides by which it leaves its scan."""

    bones: Volume
    cut: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Readings:
    """What two segmentations of every patient have in common; tables with the columns above."""

    volumes: pd.DataFrame
    agreement: pd.DataFrame
    families: pd.DataFrame
    missing: pd.DataFrame
    warnings: tuple[str, ...]


def rows_of_readings(
    case: str, first: Reading, second: Reading, labels: Sequence[int], *, one_scan: bool
) -> list[dict[str, Any]]:
    """A row for each of `labels`: that of `VOLUME_COLUMNS`, and ``dice`` where both are on one grid.

    `one_scan`: both are of one scan and hold the same voxels in the same order.
    """
    counts = [label_counts(one.bones.data) for one in (first, second)]
    shared = np.diag(overlaps(first.bones.data, second.bones.data)) if one_scan else None
    rows = []
    for label in labels:
        of_label = [int(one[label]) for one in counts]
        volumes = [n * one.bones.grid.voxel_ml for n, one in zip(of_label, (first, second), strict=True)]
        found = {(1, 1): "both", (1, 0): "first", (0, 1): "second", (0, 0): "neither"}[
            int(of_label[0] > 0), int(of_label[1] > 0)
        ]
        cut = {(1, 1): "both", (1, 0): "first", (0, 1): "second", (0, 0): ""}[
            int(label in first.cut), int(label in second.cut)
        ]
        compared = found == "both" and (one_scan or not cut)
        rows.append(
            {
                "case": case,
                "bone": BY_ID[label].name,
                "found": found,
                "cut": cut,
                "volume_1_ml": volumes[0] or _NAN,
                "volume_2_ml": volumes[1] or _NAN,
                "volume_difference_ml": volumes[1] - volumes[0] if compared else _NAN,
                "volume_difference_percent": volume_difference_percent(*volumes) if compared else _NAN,
                "dice": _NAN if shared is None else dice(int(shared[label]), *of_label),
                "note": _note(label, found, first, second, compared),
            }
        )
    return rows


def _note(label: int, found: str, first: Reading, second: Reading, compared: bool) -> str:
    if found == "neither":
        return ""
    said = [f"in the {found} reading alone"] if found != "both" else []
    for name, one in (("first", first), ("second", second)):
        if label in one.cut:
            said.append(f"{name} cut by the end of the scan ({', '.join(one.cut[label])})")
    if found == "both" and not compared:
        said.append("not compared")
    return "; ".join(said)


def repeat_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of two readings that also say their ``method``, without bones that neither reading has."""
    return pd.DataFrame([row for row in rows if row["found"] != "neither"], columns=REPEAT_COLUMNS)


def readings_of(
    rows: Sequence[Mapping[str, Any]],
    unpaired: Sequence[tuple[str, str, str]],
    warnings: Sequence[str],
    *,
    every: bool,
) -> Readings:
    """All tables. `unpaired`: case, side where it is not, ``file``. `every`: without bones of no mask."""
    volumes = pd.DataFrame(rows, columns=VOLUME_COLUMNS)
    if every:
        held = set(volumes.loc[volumes["found"] != "neither", "bone"])
        volumes = volumes[volumes["bone"].isin(held)].reset_index(drop=True)
    by_bone = volumes.groupby("bone", sort=False)
    agreement = [_agreement(str(bone), some, len(unpaired)) for bone, some in by_bone]
    families = [
        {"family": name, "bones": len(some)} | _differences(volumes[volumes["bone"].isin(some)])
        for name, some in _families(list(dict.fromkeys(volumes["bone"]))).items()
    ]
    return Readings(
        volumes,
        pd.DataFrame(agreement, columns=COLUMNS),
        pd.DataFrame(families, columns=FAMILY_COLUMNS),
        _missing(volumes, unpaired),
        tuple(warnings),
    )


def _families(names: list[str]) -> dict[str, list[str]]:
    spine = [name for name in names if BY_NAME[name].group.endswith("spine")]
    ribs = [name for name in names if BY_NAME[name].group == "ribs"]
    others = [name for name in names if name not in (*spine, *ribs)]
    families = {"vertebral_column": spine, "ribs": ribs, "others": others}
    return {name: some for name, some in families.items() if some} | members(names)


def _differences(rows: pd.DataFrame) -> dict[str, Any]:
    """How many pairs, and the mean and the median of their differences."""
    percent = rows["volume_difference_percent"].to_numpy(float)
    n = int(np.isfinite(percent).sum())
    return {
        "n": n,
        "n_cut": int(((rows["found"] == "both") & (rows["cut"] != "")).sum()),
        "n_one_only": int(rows["found"].isin(("first", "second")).sum()),
        "mean_volume_difference_percent": mean(percent),
        "median_volume_difference_percent": median(percent),
        "note": "" if n else "no pair that is in both masks and not cut",
    }


def _agreement(bone: str, rows: pd.DataFrame, n_unpaired: int) -> dict[str, Any]:
    pairs = rows[rows["volume_difference_percent"].notna()]
    one, two = pairs["volume_1_ml"].to_numpy(float), pairs["volume_2_ml"].to_numpy(float)
    found: dict[str, Any] = dict.fromkeys(COLUMNS, _NAN)
    found |= {"bone": bone, "n_cases": len(rows), "n_unpaired": n_unpaired}
    found |= {"n_neither": int((rows["found"] == "neither").sum())} | _differences(rows)
    found |= {"median_1_ml": median(one), "sd_1_ml": sd(one)}
    found |= {"median_2_ml": median(two), "sd_2_ml": sd(two)} | limits(two, one)
    if len(pairs) >= 2:
        repeats = repeatability_coefficient(one, two)
        found |= {"within_sd_ml": repeats.within_sd, "repeatability_coefficient_ml": repeats.coefficient}
    if len(pairs) == 1:
        found["note"] = "1 pair: no SD, limits of agreement or repeatability"
    if found["sd_ml"] == 0:
        found["note"] = "all differences are the same: limits without interval"
    return found


def _missing(volumes: pd.DataFrame, unpaired: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    side = {"first": "second", "second": "first", "neither": "both"}
    rows: list[tuple[str, ...]] = [(case, "", where, what) for case, where, what in unpaired]
    for row in volumes.to_dict("records"):
        if row["found"] != "both":
            rows.append((row["case"], row["bone"], side[row["found"]], "bone"))
        elif row["cut"]:
            rows.append((row["case"], row["bone"], row["cut"], "cut by the end of the scan"))
    return pd.DataFrame(rows, columns=MISSING_COLUMNS)
