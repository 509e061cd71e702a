"""A made-up cohort of hundreds of patients as tables, to look at its page and time it. No number is a result.

python tests/cohort_made_up.py 200 OUTPUT

Two arms, NaF and for every second patient choline, up to three dates, and a few scans that went wrong, each
in a way that the quality checks are there for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petbone.anatomy import BONES, SKELETON_49, STANDARD_VOLUME_ML
from petbone.burden import BONE_COLUMNS
from petbone.cohort_followup import course
from petbone.cohort_page import write_page
from petbone.cohort_quality import CaseFacts, checks_of, judged_together, software_of
from petbone.cohort_review import AGREEMENT, CONCORDANCE, QUALITY
from petbone.repeatability import published_limits, verdict

KEPT = ["arm", "patient", "date"]
WEIGHT = {"thoracic_spine": 3, "lumbar_spine": 4, "pelvis": 5, "ribs": 1.2, "sternum": 2, "shoulder": 1}
WEIGHT |= {"cervical_spine": 1.2, "head": 0.6, "limbs": 1.0}
VERSIONS = {"python": "3.11.7", "numpy": "2.4.6", "torch": "2.13.0"}
SCAN_DATES = ("2024-02-05", "2024-08-09", "2025-03-11")
DAYS = (0, 186, 400)


class MadeUp:
    """The cases as they come, and what is asked of all of them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.bones: list[dict[str, Any]] = []
        self.hotspots: list[dict[str, Any]] = []
        self.indices: list[dict[str, Any]] = []
        self.facts: list[CaseFacts] = []
        self.concordance: list[dict[str, Any]] = []
        self.agreement: list[dict[str, Any]] = []
        self.followup: list[dict[str, Any]] = []
        self.failures: list[dict[str, str]] = []
        self.own: dict[str, dict[str, str]] = {}

    def patient(self, n: int) -> None:
        """One patient with all dates and tracers."""
        rng = self.rng
        arm = "AB"[n // 2 % 2]
        burden = 0.0 if rng.random() < 0.12 else float(rng.lognormal(0.3, 1.1))
        dates = 1 if rng.random() > 0.45 else int(rng.integers(2, 4))
        trend = rng.lognormal(-0.35 if arm == "A" else 0.3, 0.45)
        sick = self._sick(n)
        earlier: list[tuple[str, pd.DataFrame, int]] = []
        for date in range(dates):
            case = f"P{n:03d}" if dates == 1 else f"P{n:03d}-{date + 1}"
            if n % 61 == 60 and date == 0:
                why = "pet: is no image that can be read: the file ends after 1.2 MB; expected 8.4 MB"
                self.failures.append({"case": case, "step": "read", "error": why})
                continue
            self.own[case] = {"arm": arm, "patient": f"P{n:03d}", "date": SCAN_DATES[date]}
            bones = self._case(case, burden * trend**date, "naf choline".split()[: 1 + n % 2], sick)
            for back, (first, before, days) in enumerate(earlier):
                if back in (0, len(earlier) - 1):
                    self._follow((case, bones, DAYS[date]), (first, before, days), back == 0, f"P{n:03d}")
            earlier.append((case, bones, DAYS[date]))
            sick = ""

    def _sick(self, n: int) -> str:
        kinds = {
            7: "shifted",
            23: "chest",
            38: "mirrored",
            51: "units",
            77: "cut",
            90: "impossible",
            111: "torch",
        }
        kinds |= {130: "moved", 149: "unsure", 160: "flagged", 171: "far"}
        return kinds.get(n % 180, "")

    def _case(self, case: str, burden: float, tracers: list[str], sick: str) -> pd.DataFrame:
        rng = self.rng
        seen = {b.id: "complete" for b in BONES if b.group != "head" and b.name not in ("C1", "C2")}
        if sick == "chest":
            seen = dict.fromkeys((*range(1, 11), *range(18, 27), *range(30, 39), 42), "complete")
        if sick == "cut":
            seen |= dict.fromkeys((13, 14, 15, 27, 28, 39), "cut")
        for label in (29, 41):
            if rng.random() < 0.2:
                seen.pop(label, None)
        sure = {label: float(np.clip(rng.normal(0.93, 0.06), 0.3, 1)) for label in seen}
        if sick == "unsure":
            sure |= {label: 0.45 for label in seen if label < 13}
        voxel = float(rng.choice([4.07, 4.0, 5.3]))
        off = {"shifted": 13.4, "far": 31.0}.get(sick, abs(rng.normal(2.2, 1.0)))
        pets, placed = [], {}
        hot = self._hot(list(seen), burden)
        tables = []
        for n, tracer in enumerate(tracers):
            own = (
                hot
                if n == 0
                else {b for b in hot if rng.random() < 0.8} | self._hot(list(seen), burden * 0.1)
            )
            rows = [self._bone(b, seen.get(b.id), b.id in own, sure.get(b.id), tracer) for b in BONES]
            table = pd.DataFrame(rows)
            tables.append(table)
            spots = table[table["hotspot_count"].fillna(0) > 0]
            flagged = sick == "flagged"
            hotspots = [
                {"tlu_g": row["hotspot_tlu_g"], "flags": "joint: 80 % of it" if flagged and k % 4 else None}
                for k, row in enumerate(spots.to_dict("records"))
            ]
            indices = self._indices(
                table, tracer, sum(STANDARD_VOLUME_ML[i] for i in seen if i in SKELETON_49)
            )
            said = (
                ["no sidecar and no --units: values from 0 to 61.2 are taken as SUVbw"]
                if sick == "units"
                else []
            )
            alignment = {"far": sick == "far", "applied": False}
            pets.append(
                {
                    "tracer": tracer,
                    "bones": rows,
                    "hotspots": hotspots,
                    "indices": indices,
                    "alignment": alignment,
                }
                | {"suv": {"assumptions": said}}
            )
            bones_off = [
                {
                    "name": b.name,
                    "shift_mm": abs(rng.normal(2, 1)) + (14 if sick == "moved" and k % 5 == 0 else 0),
                }
                | {"shift_uncertainty_mm": 1.4}
                for k, b in enumerate(BONES)
                if b.id in seen
            ]
            whole = {"name": "whole", "shift_mm": off, "shift_uncertainty_mm": 0.9}
            placed[tracer] = [{k: str(v) for k, v in row.items()} for row in (whole, *bones_off)]
            self.bones += [{"case": case, "tracer": tracer, **row} for row in rows]
            self.indices += [{"case": case, "tracer": tracer, **row} for row in indices]
        warnings = {
            "mirrored": "left and right may be swapped: the liver seems to lie on the left (812 mL deep in "
            "solid tissue there, 95 mL on the right); check the orientation of the CT (or situs inversus)",
            "impossible": "the highest SUV is 61240, which cannot be: check unit, dose and weight",
        }
        versions = VERSIONS | ({"torch": "2.9.1"} if sick == "torch" else {})
        inputs = {"bones": None, "pets": [{"tracer": t, "spacing_mm": [voxel, voxel, 3.0]} for t in tracers]}
        provenance = {"petbone": "0.1.0", "weights": "6f2a" * 16, "inputs": inputs, "versions": versions}
        summary: dict[str, Any] = {"pets": pets, "warnings": [warnings[sick]] if sick in warnings else []}
        self.facts.append(CaseFacts(case, summary, provenance, placed))
        if len(tables) == 2:
            self._together(case, tables)
        return tables[0]

    def _hot(self, labels: list[int], burden: float) -> set[int]:
        group = {bone.id: bone.group for bone in BONES}
        return {n for n in labels if self.rng.random() < 1 - np.exp(-0.035 * burden * WEIGHT[group[n]])}

    def _bone(
        self, bone: Any, status: str | None, hot: bool, sure: float | None, tracer: str
    ) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(BONE_COLUMNS)
        row |= {"id": bone.id, "name": bone.name, "side": bone.side, "group": bone.group}
        row["status"] = status or "absent"
        if status is None:
            return row
        volume = STANDARD_VOLUME_ML[bone.id] * self.rng.normal(1.05, 0.06)
        part = float(self.rng.beta(0.8, 9)) if hot else 0.0
        mean = self.rng.lognormal(2.9 if tracer == "naf" else 1.6, 0.25)
        row |= {"seen_fraction": 1.0, "name_confidence": sure, "volume_ml": volume, "pet_volume_ml": volume}
        row |= {"suv_mean": self.rng.normal(4, 0.8), "suv_max": mean * 1.6 if hot else self.rng.normal(8, 1)}
        row |= {"hotspot_count": int(hot), "hotspot_volume_ml": part * volume, "hotspot_fraction": part}
        row["hotspot_tlu_g"] = part * volume * mean
        return row

    def _indices(self, table: pd.DataFrame, tracer: str, seen_ml: float) -> list[dict[str, Any]]:
        bones = table[table["id"].isin(SKELETON_49)]
        hot_ml, uptake_g = bones["hotspot_volume_ml"].sum(), bones["hotspot_tlu_g"].sum()
        whole_ml = bones["pet_volume_ml"].sum()
        mean = float((bones["suv_mean"] * bones["pet_volume_ml"]).sum() / whole_ml)
        fraction = seen_ml / sum(STANDARD_VOLUME_ML[n] for n in SKELETON_49)
        found = {"skeletal_suv_mean": (mean, "g/mL"), "skeletal_suv_max": (table["suv_max"].max(), "g/mL")}
        if tracer == "naf":
            found = {"PET15": (100 * hot_ml / whole_ml, "%"), "FTV10": (1.3 * hot_ml, "mL")} | found
            found = {"TLF10": (1.2 * uptake_g, "g"), "FTV50": (0.8 * hot_ml, "mL")} | found
        else:
            found = {"A50": (hot_ml, "mL")} | found
        rows = [
            {"index": name, "value": value, "unit": unit, "denominator_seen_fraction": fraction, "note": None}
            for name, (value, unit) in found.items()
        ]
        other = "Defined for psma, not for " + tracer + ". Fixed SUV 3 in bone."
        rows.append({"index": "SUV3", "value": 0.5 * whole_ml, "unit": "mL", "note": other})
        return rows

    def _together(self, case: str, tables: list[pd.DataFrame]) -> None:
        one, two = (table.set_index("id") for table in tables)
        seen = one["hotspot_count"].notna() & two["hotspot_count"].notna()
        hot = [(table["hotspot_volume_ml"] > 0)[seen] for table in (one, two)]
        both, first, second = (hot[0] & hot[1]), (hot[0] & ~hot[1]), (~hot[0] & hot[1])
        words = pd.Series("none", one.index[seen])
        words[both], words[first], words[second] = "all", "naf", "choline"
        for bone in BONES:
            row = {"case": case, "tracer_1": "naf", "tracer_2": "choline", "id": bone.id, "name": bone.name}
            row |= {"status": one.loc[bone.id, "status"], "concordance": words.get(bone.id)}
            self.concordance.append(row)
        row = dict.fromkeys([c.name for c in AGREEMENT], 0) | {
            "case": case,
            "tracer_1": "naf",
            "tracer_2": "choline",
        }
        counts = {"both": both.sum(), "first_only": first.sum(), "second_only": second.sum()}
        counts["neither"] = seen.sum() - both.sum() - first.sum() - second.sum()
        row |= {f"bones_{key}": int(n) for key, n in counts.items()} | {"bones_compared": int(seen.sum())}
        row |= {"hotspots_1": int(hot[0].sum()), "hotspots_2": int(hot[1].sum())}
        row |= {"both_1": int(both.sum()), "both_2": int(both.sum()), "first_only": int(first.sum())}
        row |= {"second_only": int(second.sum()), "second_unseen": int(self.rng.integers(0, 2))}
        row["agreement_percent"] = 100 * (counts["both"] + counts["neither"]) / seen.sum()
        yes = 2 * counts["both"] + counts["first_only"] + counts["second_only"]
        row["positive_agreement"] = 2 * counts["both"] / yes if yes else np.nan
        row["dice"] = float(self.rng.beta(5, 4)) if both.any() else np.nan
        row["suv_max_rho"] = float(np.clip(self.rng.normal(0.6, 0.2), -1, 1)) if both.sum() > 3 else np.nan
        self.agreement.append(row)

    def _follow(self, now: tuple, before: tuple, of_first: bool, patient: str) -> None:
        tables = [one[1] for one in (before, now)]
        uptake = [float(table["hotspot_tlu_g"].sum()) for table in tables]
        count = [int(table["hotspot_count"].sum()) for table in tables]
        ratio = uptake[1] / uptake[0] if uptake[0] else np.nan
        limits = published_limits()["naf"].patient["tlu_g"]
        said = verdict(ratio, limits)
        fresh = tables[1]["hotspot_count"].fillna(0).gt(0) & ~tables[0]["hotspot_count"].fillna(0).gt(0)
        new = int(min(fresh.sum(), max(0, count[1] - count[0])))
        told = {"new": new, "new_crossed": 0, "unseen": 0, "count_1": count[0], "count_2": count[1]}
        told |= {"total_verdict": said, "total_tlu_ratio": ratio, "total_limits": "0.70-1.44"}
        how, why = course(told)
        self.followup.append(
            {"patient": patient, "tracer": "naf", "case_1": before[0], "case_2": now[0]}
            | {"days": now[2] - before[2], "against": "first" if of_first else "previous"}
            | {"total_tlu_g_1": uptake[0], "total_tlu_g_2": uptake[1], "total_tlu_ratio": ratio}
            | {
                "total_limits": "0.70-1.44",
                "total_verdict": said,
                "new": new,
                "gone": max(0, count[0] - count[1]),
                "course": how,
                "why": why,
            }
        )


def write_made_up(part: Path, patients: int, seed: int = 0, groups: bool = True) -> dict[str, Any]:
    """The tables that a page is made of, in `part`; the provenance of the cohort."""
    made = MadeUp(seed)
    for n in range(patients):
        made.patient(n)
    own = made.own
    checks = {facts.case: checks_of(facts) for facts in made.facts}
    software = {facts.case: software_of(facts.provenance) for facts in made.facts}
    quality = [
        dict(zip([c.name for c in QUALITY], [check.case, check.tracer, *check.cells], strict=True))
        for check in judged_together(checks, software)
    ]
    tables = {
        "bones": pd.DataFrame(made.bones),
        "indices": pd.DataFrame(made.indices),
        "quality": pd.DataFrame(quality),
        "concordance": pd.DataFrame(made.concordance, columns=[c.name for c in CONCORDANCE]),
        "tracer_agreement": pd.DataFrame(made.agreement, columns=[c.name for c in AGREEMENT]),
    }
    if made.followup:
        tables["followup"] = pd.DataFrame(made.followup)
    for name in ("value", "limit", "limit_bad"):
        tables["quality"][name] = pd.to_numeric(tables["quality"][name])
    if groups:
        tables["comparisons"] = comparisons(tables["indices"], own)
    part.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        for column in KEPT if "case" in table else []:
            table[column] = [own[case][column] for case in table["case"]]
        table.to_parquet(part / f"{name}.parquet")
    failures = pd.DataFrame(made.failures, columns=["case", "step", "error"])
    failures.to_csv(part / "failures.csv", index=False)
    return {"petbone": "0.1.0", "options": {"align": "report"}, "cases": len(own) + len(failures)}


def comparisons(indices: pd.DataFrame, own: dict[str, dict[str, str]]) -> pd.DataFrame:
    """Made-up rows of the form that comparisons have."""
    rows = []
    for (tracer, name), part in indices.groupby(["tracer", "index"], sort=False):
        arms = part["case"].map(lambda case: own[case]["arm"])
        row = {
            "group_by": "arm",
            "tracer": tracer,
            "measure": name,
            "bone": None,
            "unit": part["unit"].iloc[0],
        }
        for n, arm in enumerate("AB", 1):
            values = part.loc[arms == arm, "value"]
            row |= {f"group_{n}": arm, f"n_{n}": len(values), f"median_{n}": values.median()}
            row |= {f"median_low_{n}": values.quantile(0.45), f"median_high_{n}": values.quantile(0.55)}
        row |= {"test": "Mann-Whitney", "statistic": 4321.0, "p": 0.0004 * 3 ** len(rows), "p_holm": None}
        row |= {
            "effect_name": "rank_biserial",
            "effect": 0.21,
            "shift": 1.2,
            "shift_low": -0.3,
            "shift_high": 2.2,
        }
        rows.append(row | {"note": "first examination of each patient; p not adjusted: indices are few"})
    for bone in BONES[:49]:
        row = rows[0] | {"bone": bone.name, "measure": "hotspot_volume_ml", "p": 0.02, "p_holm": 0.98}
        rows.append(row | {"note": "first examination of each patient; p adjusted for 49 bones"})
    return pd.DataFrame(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("patients", type=int)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    write_page(write_made_up(given.output, given.patients), given.output)
    size_mb = (given.output / "cohort.html").stat().st_size / 1e6
    print(f"{given.patients} patients: cohort.html {size_mb:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
