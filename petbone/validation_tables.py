"""The tables of a study, from its rows of cases and bones. What is counted where: `petbone.validation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.anatomy import ALL_BONES, BY_NAME, SKELETON_49
from petbone.bland_altman import bland_altman, proportional_bias
from petbone.method_comparison import concordance_correlation
from petbone.reliability import icc, median_interval
from petbone.validation import (
    AGREEMENT_COLUMNS,
    GROUP_COLUMNS,
    MISSING_COLUMNS,
    OVERLAP_COLUMNS,
    PAPER_BONES,
    TABLE_COLUMNS,
)

F64 = npt.NDArray[np.float64]

SEED = 0
"""Of the bootstrap of median Dice, 10 000 samples of the cases."""
GROUPS = tuple(dict.fromkeys(bone.group for bone in ALL_BONES))
_NAN = float("nan")
_ROUNDING = 1e-12


def overlap_table(
    rows: Sequence[Mapping[str, Any]], default: bool, every: bool
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows as a table without what nobody asked for, and the bones of the paper that it lacks.

    `default`: the bones are the paper's by default, and a side of its rib 7 that no reference holds is left
    out. `every`: all bones were asked for, and those that no mask holds are left out.
    """
    table = pd.DataFrame(rows, columns=OVERLAP_COLUMNS)
    held = set(table.loc[table["found"].isin(("both", "missed")), "bone"])
    left = [name for name in PAPER_BONES if default and name.startswith("rib") and name not in held]
    shown = ~table["bone"].isin(left)
    if every:
        shown &= table["bone"].isin(table.loc[table["found"] != "neither", "bone"])
    return table[shown].reset_index(drop=True), tuple(left)


def agreement_table(overlap: pd.DataFrame, n_unpaired: int) -> pd.DataFrame:
    """A row for each bone of an overlap table, in its order. `n_unpaired`: files without a partner."""
    rows = [_agreement(str(bone), some, n_unpaired) for bone, some in overlap.groupby("bone", sort=False)]
    return pd.DataFrame(rows, columns=AGREEMENT_COLUMNS)


def limits(first: F64, second: F64) -> dict[str, float]:
    """Bias (first minus second), SD and limits with exact 95 % intervals in mL; bias and limits in percent.

    Empty for fewer than two pairs.
    """
    if len(first) < 2:
        return {}
    found, percent = bland_altman(first, second), bland_altman(first, second, kind="percent")
    return {
        "bias_ml": found.bias,
        "bias_low_ml": found.bias_interval[0],
        "bias_high_ml": found.bias_interval[1],
        "sd_ml": found.sd,
        "loa_low_ml": found.low,
        "loa_low_ci_low_ml": found.low_interval[0],
        "loa_low_ci_high_ml": found.low_interval[1],
        "loa_high_ml": found.high,
        "loa_high_ci_low_ml": found.high_interval[0],
        "loa_high_ci_high_ml": found.high_interval[1],
        "bias_percent": percent.bias,
        "loa_low_percent": percent.low,
        "loa_high_percent": percent.high,
    }


def _agreement(bone: str, rows: pd.DataFrame, n_unpaired: int) -> dict[str, Any]:
    both = rows[rows["found"] == "both"]
    dice = _dice(rows)
    reference = both["volume_reference_ml"].to_numpy(float)
    predicted = both["volume_predicted_ml"].to_numpy(float)
    n = len(both)
    found: dict[str, Any] = dict.fromkeys(AGREEMENT_COLUMNS, _NAN)
    found |= {"bone": bone, "n": n, "n_cases": len(rows), "n_unpaired": n_unpaired}
    found |= {f"n_{kind}": int((rows["found"] == kind).sum()) for kind in ("missed", "extra", "neither")}
    found |= {
        "median_reference_ml": median(reference),
        "sd_reference_ml": sd(reference),
        "median_predicted_ml": median(predicted),
        "sd_predicted_ml": sd(predicted),
        "median_dice": median(dice),
    }
    found["median_dice_low"], found["median_dice_high"] = median_interval(dice, SEED)
    found |= limits(predicted, reference)
    if n >= 2:
        correlation = icc(np.column_stack([reference, predicted]))["2,1"]
        found["icc_2_1"] = correlation.value
        found["icc_2_1_low"], found["icc_2_1_high"] = correlation.interval
    if n >= 3:
        trend = proportional_bias(predicted, reference)
        concordance = concordance_correlation(predicted, reference)
        found |= {"slope": trend.slope, "ccc": concordance.value}
        found["slope_low"], found["slope_high"] = trend.slope_interval
        found["ccc_low"], found["ccc_high"] = concordance.interval
    found["mean_volume_difference_percent"] = mean(both["volume_difference_percent"].to_numpy(float))
    for name in ("hd95_mm", "assd_mm", "nsd_2mm"):
        found[f"median_{name}"] = median(both[name].to_numpy(float))
    return found | {"note": _note(both, dice, found["sd_ml"] == 0)}


def _note(both: pd.DataFrame, dice: F64, constant: bool) -> str:
    said = []
    if not len(both):
        said.append("in both masks of no case")
    elif len(both) == 1:
        said.append("1 pair: no SD, limits of agreement, ICC, slope or CCC")
    elif len(both) == 2:
        said.append("2 pairs: no slope or CCC")
    if 0 < len(dice) < 3:
        said.append("no interval of the median Dice of fewer than 3 cases")
    elif len(dice) and np.ptp(dice) <= _ROUNDING:
        said.append("all Dice are the same: no interval of their median")
    if constant:
        said.append("all differences are the same: limits without interval")
    cut = int(both["note"].str.contains("cut by the end", regex=False).sum())
    if cut:
        said.append(f"{cut} of {len(both)} cut by the end of the scan")
    no_distance = int(both["hd95_mm"].isna().sum())
    if no_distance:
        said.append(f"no distances of {no_distance}")
    return "; ".join(said)


def group_table(overlap: pd.DataFrame) -> pd.DataFrame:
    """A row for each group that has a bone in an overlap table, ``all``, and ``skeleton_49``."""
    names = list(dict.fromkeys(overlap["bone"]))
    groups = members(names)
    rows = [_group(group, overlap[overlap["bone"].isin(some)], len(some)) for group, some in groups.items()]
    return pd.DataFrame(rows, columns=GROUP_COLUMNS)


def members(names: Sequence[str]) -> dict[str, list[str]]:
    """The bones of each group among `names`; ``all``; ``skeleton_49`` where that is less than all."""
    groups = {group: [name for name in names if BY_NAME[name].group == group] for group in GROUPS}
    groups = {group: some for group, some in groups.items() if some}
    groups["all"] = list(names)
    counted = [name for name in names if BY_NAME[name].id in SKELETON_49]
    if counted and len(counted) < len(names):
        groups["skeleton_49"] = counted
    return groups


def _group(group: str, rows: pd.DataFrame, bones: int) -> dict[str, Any]:
    both, dice = rows[rows["found"] == "both"], _dice(rows)
    low, high = np.percentile(dice, (25, 75)) if len(dice) else (_NAN, _NAN)
    extra = int((rows["found"] == "extra").sum())
    found = {
        "group": group,
        "bones": bones,
        "n": len(both),
        "n_missed": int((rows["found"] == "missed").sum()),
        "median_dice": median(dice),
        "dice_p25": float(low),
        "dice_p75": float(high),
        "mean_volume_difference_percent": mean(both["volume_difference_percent"].to_numpy(float)),
        "note": f"{extra} in the prediction alone" if extra else "",
    }
    distances = ("hd95_mm", "assd_mm", "nsd_2mm")
    return found | {f"median_{name}": median(both[name].to_numpy(float)) for name in distances}


def missing_table(overlap: pd.DataFrame, files: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Files (case, side where they are not, what) and bones that a study lacks."""
    side = {"missed": "predicted", "extra": "reference", "neither": "both"}
    rows: list[tuple[str, ...]] = [(case, "", where, what) for case, where, what in files]
    lacking = overlap[overlap["found"] != "both"]
    columns = (lacking["case"], lacking["bone"], lacking["found"])
    rows += [(case, bone, side[found], "bone") for case, bone, found in zip(*columns, strict=True)]
    return pd.DataFrame(rows, columns=MISSING_COLUMNS)


def paper_table(agreement: pd.DataFrame, repeat: pd.DataFrame) -> pd.DataFrame:
    """The table of Lindgren Belal et al. 2019 for the bones of an agreement table."""
    rows = []
    for told in agreement.to_dict("records"):
        row = {"bone": told["bone"], "n": told["n"], "dice": told["median_dice"]}
        for side in ("predicted", "reference"):
            own = repeat[(repeat["bone"] == told["bone"]) & (repeat["method"] == side)]
            percent = own["volume_difference_percent"].to_numpy(float)
            row[f"{side}_ml"] = with_sd(told[f"median_{side}_ml"], told[f"sd_{side}_ml"])
            row[f"repeat_{side}_percent"] = mean(percent)
            row[f"n_repeat_{side}"] = int(np.isfinite(percent).sum())
        rows.append(row)
    return pd.DataFrame(rows, columns=TABLE_COLUMNS)


def with_sd(value: float, deviation: float) -> str:
    """ "41.2 (3.8)": three digits, and two of the SD; empty without a value, no brackets without an SD.

    >>> with_sd(41.23, 3.81), with_sd(1284.4, 140.2), with_sd(7.0, float("nan"))
    ('41.2 (3.8)', '1284 (140)', '7.00')
    """
    if np.isnan(value):
        return ""
    return digits(value, 3) if np.isnan(deviation) else f"{digits(value, 3)} ({digits(deviation, 2)})"


def digits(value: float, count: int) -> str:
    """A number with so many digits that count, never fewer than those before the point."""
    if value == 0:
        return "0"
    return f"{value:.{max(count - 1 - int(np.floor(np.log10(abs(value)))), 0)}f}"


def _dice(rows: pd.DataFrame) -> F64:
    """Of bones that the reference holds: a missed one is 0."""
    return rows.loc[rows["found"].isin(("both", "missed")), "dice"].to_numpy(float)


def _of_known(values: F64, figure: Callable[[F64], Any]) -> float:
    known = values[np.isfinite(values)]
    return float(figure(known)) if len(known) else _NAN


def median(values: F64) -> float:
    """Of those that have a value; NaN if none has."""
    return _of_known(values, np.median)


def mean(values: F64) -> float:
    """Of those that have a value; NaN if none has."""
    return _of_known(values, np.mean)


def sd(values: F64) -> float:
    """Over n - 1, of those that have a value; NaN for fewer than two."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return _NAN
    alike = np.ptp(known) <= _ROUNDING * np.abs(known).max()  # what rounding leaves is no deviation
    return 0.0 if alike else float(known.std(ddof=1))
