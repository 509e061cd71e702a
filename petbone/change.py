"""What has changed between two dates, by hotspot, bone and index: tables in, tables out.

* *family*  : two matched hotspots with what has split off from the one or merged into the other; a ratio is
  of families, so that a focus that falls into two has not shrunk
* *there*   : the same place at the other date (`places.look_up`)
* *change*  : ``new``, ``gone``, ``grown``, ``shrunk``, ``stable``, ``split``, ``merged``, or that the other
  date did not see the place; grown, shrunk and stable are judged by limits of repeatability, not by per cent

Suffix 1 is the first date, suffix 2 the second; ratios are second over first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.anatomy import BY_ID
from petbone.bone_motion import BoneMotion
from petbone.repeatability import MEASURES, Interval, Limits, verdict

UNSEEN_1, UNSEEN_2 = "not seen in the first", "not seen in the second"
CHANGES = ("new", "grown", "stable", "shrunk", "gone", "split", "merged", UNSEEN_1, UNSEEN_2)
MOSTLY = 0.5
"""Part of a hotspot that the other date must see before it can be new or gone."""
WHOLLY = 0.9
"""Part of a hotspot that the other date must see before its uptake is compared: less is cut by the field."""
ALIKE = 0.02
"""Two dates that saw parts of a bone, or of an index's bones, that differ by less saw the same."""

HOTSPOT_COLUMNS = (
    "change relation hotspot_1 hotspot_2 parts_1 parts_2 bone_1 bone_2 volume_ml_1 volume_ml_2 suv_max_1 "
    "suv_max_2 suv_mean_1 suv_mean_2 tlu_g_1 tlu_g_2 volume_ratio tlu_ratio suv_max_ratio suv_mean_ratio "
    "suv_max_change suv_mean_change suv_max_there seen_there both_seen limits_hold overlap distance_mm "
    "perhaps_same note"
).split()
BONE_COLUMNS = (
    "id name status_1 status_2 seen_fraction_1 seen_fraction_2 suv_mean_1 suv_mean_2 suv_mean_ratio "
    "suv_max_1 suv_max_2 hotspot_count_1 hotspot_count_2 hotspot_volume_ml_1 hotspot_volume_ml_2 "
    "hotspot_volume_change_ml hotspot_tlu_g_1 hotspot_tlu_g_2 hotspot_tlu_change_g note"
).split()
INDEX_COLUMNS = "index unit value_1 value_2 difference ratio verdict limits seen_1 seen_2 note".split()
MOTION_COLUMNS = (
    "id name translation_mm x_mm y_mm z_mm rotation_deg surface_before_mm surface_after_mm own note"
).split()

_CHANGE_OF = {"up": "grown", "down": "shrunk", "within": "stable", None: None}


@dataclass(frozen=True, eq=False)
class Side:
    """One date: its hotspots (`burden.hotspot_table`), and their places at the other date.

    `there`, a row per hotspot in the same order: ``bone_there`` (the other date saw the bone at all),
    ``way_known`` (the bone's own motion or its neighbours' leads there),
    ``seen_there`` (part of the hotspot in the other's field of view; empty where nobody knows) and
    ``suv_max_there``.
    """

    hotspots: pd.DataFrame
    there: pd.DataFrame

    def sums(self, numbers: Iterable[int]) -> dict[str, float]:
        """The hotspots of these numbers taken as one: volume_ml, suv_max, suv_mean, tlu_g."""
        part = self.hotspots[self.hotspots["hotspot"].isin(list(numbers))]
        volume_ml, tlu_g = float(part["volume_ml"].sum()), float(part["tlu_g"].sum())
        mean = tlu_g / volume_ml if volume_ml else float("nan")
        return {"volume_ml": volume_ml, "suv_max": part["suv_max"].max(), "suv_mean": mean, "tlu_g": tlu_g}

    def place(self, number: int) -> pd.Series:
        """What is known of the hotspot's place at the other date."""
        found: pd.Series = self.there[(self.hotspots["hotspot"] == number).to_numpy()].iloc[0]
        return found

    def least_seen(self, numbers: Iterable[int]) -> float:
        """The least part of any of these hotspots that the other date saw; NaN: not known of any."""
        part = self.there[self.hotspots["hotspot"].isin(list(numbers)).to_numpy()]
        return float(part["seen_there"].min())

    def all_there(self, numbers: Iterable[int]) -> bool:
        """Whether the other date saw the bone of every one of these hotspots."""
        part = self.there[self.hotspots["hotspot"].isin(list(numbers)).to_numpy()]
        return bool(part["bone_there"].all())


def hotspot_changes(
    matches: pd.DataFrame, first: Side, second: Side, limits: Limits | None = None
) -> pd.DataFrame:
    """A row per row of `matches` (`matching.match_hotspots`), the columns of `HOTSPOT_COLUMNS`.

    In the rows of matched hotspots the numbers are those of the two families (`parts_1` and `parts_2` name
    the further hotspots in them). Without `limits` for a measure its class is empty.
    """
    records = matches.to_dict("records")
    split: dict[int, list[int]] = {}  # by hotspot_1
    merged: dict[int, list[int]] = {}  # by hotspot_2
    for match in records:
        if match["relation"] == "split":
            split.setdefault(int(match["hotspot_1"]), []).append(int(match["hotspot_2"]))
        elif match["relation"] == "merged":
            merged.setdefault(int(match["hotspot_2"]), []).append(int(match["hotspot_1"]))
    rows = []
    for match in records:
        row: dict[str, Any] = dict.fromkeys(HOTSPOT_COLUMNS)
        row |= {name: match[name] for name in _FROM_MATCHES}
        if match["relation"] == "matched":
            one, two = int(match["hotspot_1"]), int(match["hotspot_2"])
            parts = sorted(merged.get(two, [])), sorted(split.get(one, []))
            row |= {"parts_1": _words(parts[0]), "parts_2": _words(parts[1])}
            row |= _compared(first, [one, *parts[0]], second, [two, *parts[1]], limits)
            if match["bone_1"] != match["bone_2"]:
                other = f"in {match['bone_1']} at the first date, in {match['bone_2']} at the second"
                row["note"] = "; ".join(filter(None, (row["note"], other)))
        elif match["relation"] in ("split", "merged"):
            side, suffix = (second, 2) if match["relation"] == "split" else (first, 1)
            own = side.sums([int(match[f"hotspot_{suffix}"])])
            row |= {f"{name}_{suffix}": value for name, value in own.items()}
            row["change"] = match["relation"]
        elif match["relation"] == "first only":
            row |= _alone(first, int(match["hotspot_1"]), 1, limits)
        else:
            row |= _alone(second, int(match["hotspot_2"]), 2, limits)
        rows.append(row)
    # A part that split off or merged was seen as its family was.
    families = {key: row for row in rows if row["relation"] == "matched" for key in _keys(row)}
    for row in rows:
        if row["relation"] in ("split", "merged"):
            column = "hotspot_1" if row["relation"] == "split" else "hotspot_2"
            row["both_seen"] = families[column, row[column]]["both_seen"]
    return _ordered(pd.DataFrame(rows, columns=HOTSPOT_COLUMNS))


_FROM_MATCHES = ("relation", "hotspot_1", "hotspot_2", "bone_1", "bone_2", "overlap", "distance_mm")


def _keys(row: dict[str, Any]) -> list[tuple[str, int]]:
    """By what the parts of a matched pair find it."""
    return [(column, int(row[column])) for column in ("hotspot_1", "hotspot_2")]


def _words(numbers: list[int]) -> str | None:
    return " ".join(map(str, numbers)) or None


def _compared(
    first: Side, ones: list[int], second: Side, twos: list[int], limits: Limits | None
) -> dict[str, Any]:
    """Numbers of two families and what has become of the first."""
    before, after = first.sums(ones), second.sums(twos)
    row: dict[str, Any] = {f"{k}_1": v for k, v in before.items()} | {f"{k}_2": v for k, v in after.items()}
    for name, key in (("volume_ml", "volume"), ("tlu_g", "tlu"), ("suv_max", "suv_max")):
        row[f"{key}_ratio"] = _ratio(before[name], after[name])
    row["suv_mean_ratio"] = _ratio(before["suv_mean"], after["suv_mean"])
    seen = np.array([first.least_seen(ones), second.least_seen(twos)])
    known = seen[np.isfinite(seen)]
    row["seen_there"] = float(known.min()) if known.size else None
    # Where a bone is missing at one date the pair stands on the way there: that must be of bones nearby.
    led = any(side.place(some[0])["way_known"] for side, some in ((first, ones), (second, twos)))
    missing = [
        word
        for side, some, word in ((first, ones, "second"), (second, twos, "first"))
        if not side.all_there(some)
    ]
    row["both_seen"] = (led or not missing) and (not known.size or bool(known.min() >= WHOLLY))
    notes = []
    if missing and not led:
        notes.append(f"its bone was not seen at the {missing[0]} date, nor one near it: not judged")
    elif not row["both_seen"]:
        which = "second" if np.nan_to_num(seen[0], nan=1) <= np.nan_to_num(seen[1], nan=1) else "first"
        notes.append(f"reaches out of what the {which} date saw: not judged")
    elif limits is not None:
        for name in ("suv_max", "suv_mean"):
            row[f"{name}_change"] = verdict(row[f"{name}_ratio"], limits.lesion.get(name))
        row["change"] = _CHANGE_OF[verdict(row["tlu_ratio"], limits.lesion.get("tlu_g"))]
    if limits is not None and limits.min_volume_ml is not None:
        row["limits_hold"] = min(before["volume_ml"], after["volume_ml"]) > limits.min_volume_ml
        if not row["limits_hold"]:
            notes.append(f"not above the {limits.min_volume_ml:g} mL of the lesions behind the limits")
    row["note"] = "; ".join(notes) or None
    return row


def _alone(side: Side, number: int, suffix: int, limits: Limits | None) -> dict[str, Any]:
    """A hotspot that one date shows alone: new, gone, or where the other date did not look."""
    own, place = side.sums([number]), side.place(number)
    row: dict[str, Any] = {f"{key}_{suffix}": value for key, value in own.items()}
    seen = float(place["seen_there"])
    row["seen_there"] = None if np.isnan(seen) else seen
    row["both_seen"] = bool(place["bone_there"]) and not seen < MOSTLY
    other = "first" if suffix == 2 else "second"
    if not row["both_seen"]:
        row["change"] = UNSEEN_1 if suffix == 2 else UNSEEN_2
        why = "lies outside its field of view" if place["bone_there"] else "its bone was not seen there"
        row["note"] = why
        return row
    row["change"] = "new" if suffix == 2 else "gone"
    there = float(place["suv_max_there"])
    row["suv_max_there"] = None if np.isnan(there) else there
    row["suv_max_ratio"] = _ratio(there, own["suv_max"]) if suffix == 2 else _ratio(own["suv_max"], there)
    if limits is not None:
        row["suv_max_change"] = verdict(row["suv_max_ratio"], limits.lesion.get("suv_max"))
    if row.get("suv_max_change") == "within":
        row["note"] = f"SUVmax at its place differs from the {other} date's within the limits: it may have "
        row["note"] += "crossed the threshold only"
    return row


def _ratio(before: float | None, after: float | None) -> float | None:
    """Second over first; None where there is nothing to divide, or nothing to divide by."""
    if before is None or after is None or not np.isfinite(before) or not np.isfinite(after) or before <= 0:
        return None
    return float(after / before)


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """By change, what grew most first; numbers of hotspots whole, flags true, false or empty."""
    rank = {name: n for n, name in enumerate(CHANGES)}
    judged = rank["stable"]  # a pair without limits stands where the stable ones do
    table = table.assign(
        _rank=[rank.get(change, judged) for change in table["change"]],
        _ratio=-table["tlu_ratio"].astype(float),
    )
    table = table.sort_values(["_rank", "_ratio", "hotspot_2", "hotspot_1"], ignore_index=True)
    table = table.drop(columns=["_rank", "_ratio"])
    for column in ("hotspot_1", "hotspot_2", "perhaps_same"):
        table[column] = table[column].astype("Int64")
    for column in ("both_seen", "limits_hold"):
        table[column] = table[column].astype("boolean")
    for column in table.columns[table.columns.str.contains("_ml_|suv_m.*_[12]$|tlu_g_|_ratio|_there$|_mm$")]:
        table[column] = table[column].astype(float)
    return table.astype({"overlap": float})


def counts(changes: pd.DataFrame) -> dict[str, int]:
    """How many hotspots have each of `CHANGES`, and ``not judged``: matched, but without a class.

    Two that are perhaps the same focus (`misnamed`) are no new and no gone one: ``perhaps same`` counts them.
    """
    doubtful = changes["perhaps_same"].notna()
    found = changes.loc[~doubtful, "change"].value_counts()
    return {name: int(found.get(name, 0)) for name in CHANGES} | {
        "not judged": int(changes["change"].isna().sum()),
        "perhaps same": int((doubtful & (changes["relation"] == "first only")).sum()),
    }


def bone_changes(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """A row per bone of either date, the columns of `BONE_COLUMNS`; empty where a date did not see it."""
    columns = [c.removesuffix("_1") for c in BONE_COLUMNS if c.endswith("_1")]
    wanted = ["id", "name", *columns]
    table = first[wanted].merge(second[wanted], on=["id", "name"], how="outer", suffixes=("_1", "_2"))
    for suffix in ("_1", "_2"):
        table[f"status{suffix}"] = table[f"status{suffix}"].fillna("absent")
    table["suv_mean_ratio"] = [
        _ratio(*pair) for pair in zip(table["suv_mean_1"], table["suv_mean_2"], strict=True)
    ]
    table["hotspot_volume_change_ml"] = table["hotspot_volume_ml_2"] - table["hotspot_volume_ml_1"]
    table["hotspot_tlu_change_g"] = table["hotspot_tlu_g_2"] - table["hotspot_tlu_g_1"]
    table["note"] = [_bone_note(row) for row in table.to_dict("records")]
    for suffix in ("_1", "_2"):
        table[f"hotspot_count{suffix}"] = table[f"hotspot_count{suffix}"].astype("Int64")
    return table.sort_values("id", ignore_index=True)[BONE_COLUMNS]


def _bone_note(row: dict[Any, Any]) -> str | None:
    seen = [float("nan") if row[f"status_{n}"] == "absent" else row[f"seen_fraction_{n}"] for n in (1, 2)]
    if np.isnan(seen).all():
        return None
    if np.isnan(seen).any():
        return f"not seen in the {'first' if np.isnan(seen[0]) else 'second'}"
    if abs(seen[0] - seen[1]) > ALIKE:
        return f"different parts were seen ({seen[0]:.2f} and {seen[1]:.2f}): sums do not compare"
    return None


def index_changes(first: pd.DataFrame, second: pd.DataFrame, limits: Limits | None = None) -> pd.DataFrame:
    """A row per index of either date, the columns of `INDEX_COLUMNS`.

    `verdict` is ``up``, ``down`` or ``within`` the limits of a patient; ``no limits``; ``not comparable``
    where the dates saw different parts of the index's bones or took another threshold; empty without a ratio.
    """
    table = first.merge(second, on="index", how="outer", suffixes=("_1", "_2"), sort=False)
    order = {name: n for n, name in enumerate([*first["index"], *second["index"]][::-1])}
    rows = []
    for row in sorted(table.to_dict("records"), key=lambda row: -order[row["index"]]):
        unit = row["unit_1"] if isinstance(row["unit_1"], str) else row["unit_2"]
        measure = _measure_of(row["index"], unit)
        notes = []
        fixed = ("threshold", "operator", "connectivity", "min_volume_ml", "bones")
        other = [key for key in fixed if not _same(row[f"{key}_1"], row[f"{key}_2"])]
        seen = row["denominator_seen_fraction_1"], row["denominator_seen_fraction_2"]
        both = not pd.isna(row["value_1"]) and not pd.isna(row["value_2"])
        if both and other:
            words = (f"{key} {row[f'{key}_1']} and {row[f'{key}_2']}" for key in other)
            notes.append("defined differently: " + ", ".join(words))
        if both and abs(seen[0] - seen[1]) > ALIKE:
            notes.append(f"of its bones {seen[0]:.2f} and {seen[1]:.2f} were seen")
        found = _patient_row(row["index"], unit, (row["value_1"], row["value_2"]), measure, limits)
        if both and notes:
            found["verdict"] = "not comparable"
        elif found["limits"] is not None and _outlined(limits) and not pd.isna(row["threshold_1"]):
            notes.append(f"the limits are of lesions outlined at SUV {_outlined(limits):g}")
        rows.append(found | {"seen_1": seen[0], "seen_2": seen[1], "note": "; ".join(notes) or None})
    return pd.DataFrame(rows, columns=INDEX_COLUMNS)


def total_changes(
    changes: pd.DataFrame, first: Side, second: Side, limits: Limits | None = None
) -> pd.DataFrame:
    """All hotspots together, as rows of `INDEX_COLUMNS`: those at places that both dates saw."""
    seen = changes[changes["both_seen"].fillna(False)]
    before, after = (side.sums(_numbers(seen, suffix)) for side, suffix in ((first, "1"), (second, "2")))
    found = [len(_numbers(seen, suffix)) for suffix in ("1", "2")]
    left_out = len(first.hotspots) + len(second.hotspots) - sum(found)
    note = f"without {left_out} at places that one of the dates did not see" if left_out else None
    values: dict[str, tuple[str, float, float]] = {
        "hotspots_tlu_g": ("g", before["tlu_g"], after["tlu_g"]),
        "hotspots_suv_max": ("g/mL", before["suv_max"], after["suv_max"]),
        "hotspots_suv_mean": ("g/mL", before["suv_mean"], after["suv_mean"]),
        "hotspots_volume_ml": ("mL", before["volume_ml"], after["volume_ml"]),
        "hotspots_count": ("", found[0], found[1]),
    }
    rows = []
    for name, (unit, one, two) in values.items():
        measure = name.removeprefix("hotspots_")
        known = measure if measure in MEASURES else None
        rows.append(_patient_row(name, unit, (one, two), known, limits) | {"note": note})
    return pd.DataFrame(rows, columns=INDEX_COLUMNS)


def _numbers(changes: pd.DataFrame, suffix: str) -> set[int]:
    """The hotspots of a date that rows of changes stand for."""
    own = changes[f"hotspot_{suffix}"].dropna()
    parts = changes[f"parts_{suffix}"].dropna().astype(str).str.split().explode()
    return {int(n) for n in [*own, *parts]}


def _measure_of(index: str, unit: Any) -> str | None:
    """Which measure of the limits an index is: sums of uptake, the highest SUV; no mean of whole bones."""
    if index == "skeletal_suv_max":
        return "suv_max"
    return "tlu_g" if unit == "g" else None


def _patient_row(
    index: str, unit: Any, values: tuple[Any, Any], measure: str | None, limits: Limits | None
) -> dict[str, Any]:
    one, two = (None if pd.isna(value) else float(value) for value in values)
    interval: Interval | None = None
    if limits is not None and measure is not None:
        interval = limits.patient.get(measure)
    row: dict[str, Any] = dict.fromkeys(INDEX_COLUMNS)
    row |= {"index": index, "unit": None if pd.isna(unit) else unit, "value_1": one, "value_2": two}
    row["difference"] = None if one is None or two is None else two - one
    row["ratio"] = _ratio(one, two)
    row["limits"] = None if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}"
    if one is not None and two is not None:
        row["verdict"] = "no limits" if interval is None else verdict(row["ratio"], interval)
    return row


def _outlined(limits: Limits | None) -> float | None:
    """The SUV by which the study behind the limits outlined its lesions, as far as that is known."""
    return None if limits is None else limits.threshold


def _same(one: Any, two: Any) -> bool:
    return bool(one == two) or (pd.isna(one) and pd.isna(two))


def motion_table(
    motions: dict[int, BoneMotion], middles_mm: dict[int, npt.NDArray[np.float64]]
) -> pd.DataFrame:
    """A row per bone, the columns of `MOTION_COLUMNS`: how it lies at the second date.

    `middles_mm`: of the bones at the first date, (3,) RAS mm; where the translation is read.
    """
    rows = []
    for label, motion in sorted(motions.items()):
        matrix = motion.second_mm_from_first_mm
        row: dict[str, Any] = dict.fromkeys(MOTION_COLUMNS) | {"id": label, "name": BY_ID[label].name}
        if label in middles_mm:
            middle = middles_mm[label]
            shift = matrix[:3, :3] @ middle + matrix[:3, 3] - middle
            row |= {"translation_mm": float(np.linalg.norm(shift))}
            row |= dict(zip(("x_mm", "y_mm", "z_mm"), map(float, shift), strict=True))
        # The angle of a rotation by its sine and cosine: near 0 the cosine alone has no digits left.
        turn = matrix[:3, :3]
        sine = np.linalg.norm([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        row["rotation_deg"] = float(np.degrees(np.arctan2(sine, np.trace(turn) - 1)))
        row |= {"surface_before_mm": motion.surface_before_mm, "surface_after_mm": motion.surface_after_mm}
        row |= {"own": motion.own, "note": motion.note or None}
        rows.append(row)
    return pd.DataFrame(rows, columns=MOTION_COLUMNS)
