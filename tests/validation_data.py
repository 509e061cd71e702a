"""Made-up studies: what `petbone.validation` hands to the page, from volumes and Dice that are drawn here."""

from __future__ import annotations

import numpy as np
import pandas as pd

from petbone.anatomy import BONES, BY_NAME, STANDARD_VOLUME_ML
from petbone.bland_altman import proportional_bias
from petbone.metrics import Ruler
from petbone.validation import (
    AGREEMENT_COLUMNS,
    GROUP_COLUMNS,
    MISSING_COLUMNS,
    OVERLAP_COLUMNS,
    PAPER_BONES,
    REPEAT_COLUMNS,
    Study,
    Worst,
)
from petbone.validation_tables import limits
from petbone.volume import Grid, Unit, Volume

FIVE = ("T7", "L3", "sacrum", "rib_left_7", "sternum")
ALL = tuple(bone.name for bone in BONES)
HOSTILE = (
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "very_long_" * 30 + "end",
    'quote" onmouseover="x',
    "A&B </title>",
)
NAN = float("nan")


def overlap_table(
    cases: list[str], bones: tuple[str, ...], seed: int = 0, missed: tuple[tuple[int, str], ...] = ()
) -> pd.DataFrame:
    """A row per case and bone; `missed` are (number of the case, bone)."""
    rng = np.random.default_rng(seed)
    size = rng.normal(1, 0.12, len(cases))
    rows = []
    for number, case in enumerate(cases):
        for bone in bones:
            reference = STANDARD_VOLUME_ML[BY_NAME[bone].id] * size[number] * rng.normal(1, 0.04)
            grows = 0.12 if bone == "sternum" else 0.0
            predicted = reference * rng.normal(1.03 + grows * (size[number] - 1) * 6, 0.05)
            dice = float(np.clip(rng.beta(40, 6), 0, 1))
            row = {"case": case, "bone": bone, "found": "both", "note": None} | dict.fromkeys(
                OVERLAP_COLUMNS[3:-1], NAN
            )
            if (number, bone) in missed:
                row |= {"found": "missed", "dice": 0.0}
                row |= {"volume_reference_ml": reference, "volume_predicted_ml": 0.0}
            else:
                hd95 = float(rng.lognormal(1.0, 0.5))
                row |= {
                    "dice": dice,
                    "volume_reference_ml": reference,
                    "volume_predicted_ml": predicted,
                    "volume_difference_ml": predicted - reference,
                    "volume_difference_percent": 200 * abs(predicted - reference) / (predicted + reference),
                    "hausdorff_mm": 3 * hd95,
                    "hd95_mm": hd95,
                    "assd_mm": hd95 / 4,
                    "masd_mm": hd95 / 4,
                    "nsd_2mm": 0.9,
                }
            rows.append(row)
    return pd.DataFrame(rows, columns=OVERLAP_COLUMNS)


def agreement_table(overlap: pd.DataFrame) -> pd.DataFrame:
    """Limits by the library that the tests of Bland and Altman have checked; the rest near to the truth."""
    rows = []
    for bone, cases in overlap.groupby("bone", sort=False):
        both = cases[cases["found"] == "both"]
        predicted, reference = both["volume_predicted_ml"], both["volume_reference_ml"]
        row = dict.fromkeys(AGREEMENT_COLUMNS, NAN) | {"bone": bone, "n": len(both), "note": None}
        row |= {f"n_{kind}": int((cases["found"] == kind).sum()) for kind in ("missed", "extra", "neither")}
        row |= {"n_cases": len(cases), "n_unpaired": 0}
        dice = cases.loc[cases["found"].isin(["both", "missed"]), "dice"]
        if len(dice):
            low, middle, high = np.percentile(dice, (40, 50, 60))
            row |= {"median_dice": middle, "median_dice_low": low, "median_dice_high": high}
        if len(both):
            row |= {
                "median_reference_ml": reference.median(),
                "median_predicted_ml": predicted.median(),
                "sd_reference_ml": reference.std(),
                "sd_predicted_ml": predicted.std(),
                "bias_ml": (predicted - reference).mean(),
                "mean_volume_difference_percent": both["volume_difference_percent"].mean(),
                "median_hd95_mm": both["hd95_mm"].median(),
                "median_assd_mm": both["assd_mm"].median(),
                "median_nsd_2mm": both["nsd_2mm"].median(),
            }
        if len(both) > 1:
            row |= limits(predicted.to_numpy(float), reference.to_numpy(float)) | {
                "icc_2_1": 0.912,
                "icc_2_1_low": 0.8,
                "icc_2_1_high": 0.96,
                "ccc": 0.91,
                "ccc_low": 0.8,
                "ccc_high": 0.95,
            }
        if len(both) > 2:
            trend = proportional_bias(predicted, reference)
            row |= {"slope": trend.slope, "slope_low": trend.slope_interval[0]}
            row |= {"slope_high": trend.slope_interval[1]}
        rows.append(row)
    return pd.DataFrame(rows, columns=AGREEMENT_COLUMNS)


def group_table(overlap: pd.DataFrame) -> pd.DataFrame:
    group = overlap["bone"].map(lambda name: BY_NAME[name].group)
    rows = []
    for name, some in [*overlap.groupby(group, sort=False), ("all", overlap)]:
        dice = some.loc[some["found"].isin(["both", "missed"]), "dice"]
        low, middle, high = np.percentile(dice, (25, 50, 75)) if len(dice) else (NAN, NAN, NAN)
        rows.append(
            {
                "group": name,
                "bones": some["bone"].nunique(),
                "n": int((some["found"] == "both").sum()),
                "n_missed": int((some["found"] == "missed").sum()),
                "median_dice": middle,
                "dice_p25": low,
                "dice_p75": high,
                "mean_volume_difference_percent": some["volume_difference_percent"].mean(),
                "median_hd95_mm": some["hd95_mm"].median(),
                "median_assd_mm": some["assd_mm"].median(),
                "median_nsd_2mm": some["nsd_2mm"].median(),
                "note": None,
            }
        )
    return pd.DataFrame(rows, columns=GROUP_COLUMNS)


def study_of(overlap: pd.DataFrame, worst: tuple[Worst, ...] = (), repeated: bool = False, **parts) -> Study:
    """The study of these rows; `parts` replace what is made here."""
    agreement = agreement_table(overlap)
    missed = overlap[overlap["found"] == "missed"]
    missing = pd.DataFrame(
        {"case": missed["case"], "bone": missed["bone"], "side": "predicted", "what": "bone"},
        columns=MISSING_COLUMNS,
    )
    rows = agreement[agreement["bone"].isin(PAPER_BONES)]
    table = pd.DataFrame(
        {
            "bone": rows["bone"],
            "n": rows["n"],
            "predicted_ml": [f"{m:.3g} ({s:.2g})" if s == s else None for m, s in
                             zip(rows["median_predicted_ml"], rows["sd_predicted_ml"], strict=True)],
            "reference_ml": [f"{m:.3g} ({s:.2g})" if s == s else None for m, s in
                             zip(rows["median_reference_ml"], rows["sd_reference_ml"], strict=True)],
            "dice": rows["median_dice"],
            "repeat_predicted_percent": 1.8 if repeated else NAN,
            "repeat_reference_percent": 6.04 if repeated else NAN,
        }
    )  # fmt: skip
    repeat = pd.DataFrame(columns=REPEAT_COLUMNS)
    if repeated:
        repeat = pd.DataFrame([["c1", "T7", "reference", 30.0, 31.0, 3.3, NAN, None]], columns=REPEAT_COLUMNS)
    found = {
        "overlap": overlap,
        "agreement": agreement,
        "groups": group_table(overlap),
        "missing": missing,
        "repeat": repeat,
        "table": table,
        "ruler": Ruler((1.0, 1.0, 1.0), 2.0),
        "worst": worst,
        "warnings": (),
    }
    return Study(**(found | parts))


def paper_study(**parts) -> Study:
    """46 cases, five bones, three of them missed."""
    cases = [f"case_{n:02d}" for n in range(1, 47)]
    missed = ((3, "T7"), (11, "rib_left_7"), (30, "rib_left_7"))
    return study_of(overlap_table(cases, FIVE, missed=missed), **parts)


def worst_case(
    mm_from_ijk: np.ndarray,
    shape: tuple[int, int, int] = (70, 60, 50),
    ct: bool = True,
    missed: bool = False,
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    bump_mm: tuple[float, float, float] = (24.0, 0.0, 0.0),
    case: str = "case_07",
    bone: str = "L3",
    noise: float = 25.0,
) -> Worst:
    """A ball of 18 mm in both, to which the prediction adds a small one at `bump_mm` from its middle."""
    grid = Grid(shape, mm_from_ijk)
    mm = grid.mm(np.moveaxis(np.indices(shape), 0, -1)) - np.array(centre_mm)
    away = np.linalg.norm(mm, axis=-1)
    reference = away <= 18
    predicted = (reference & (mm[..., 2] < 12)) | (np.linalg.norm(mm - np.array(bump_mm), axis=-1) <= 5)
    if missed:
        predicted = np.zeros(shape, bool)
    hu = np.full(shape, 40.0)
    hu[away <= 18] = 250
    hu[(away <= 18) & (away > 15)] = 700
    hu += np.random.default_rng(1).normal(0, noise, shape)
    frame = Volume(hu.astype(np.int16), grid, Unit.HU)
    if not ct:
        frame = Volume(np.zeros(shape, np.uint8), grid, Unit.LABEL)
    dice, hd95 = (0.0, NAN) if missed else (0.91, 6.2)
    why = "missed" if missed else "largest HD95 of the lumbar spine"
    return Worst(case, bone, why, dice, hd95, reference, predicted, frame)
