"""What has changed, in words: the line at the top, and what a reader must know before she believes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from petbone.case import CaseResult, PetResult
from petbone.change import UNSEEN_1, UNSEEN_2, counts
from petbone.repeatability import Limits

UPTAKE_MINUTES = 15.0
"""PERCIST 1.0 wants uptake times that differ by no more; it is for FDG, and nothing allows more elsewhere."""

FLARE = (
    "Flare: with a treatment that works, uptake of NaF may rise by week 6 and fall again by week 12 (seen in "
    "14 of 23 men on CYP17A1 inhibitors and in none of 6 on enzalutamide, PMC7490782). A rise early in "
    "treatment may be healing."
)


def remarks(tracer: str, changes: pd.DataFrame, limits: Limits | None, rule: Mapping[str, Any]) -> list[str]:
    """What the classes of one tracer mean and do not mean."""
    said = []
    if limits is None:
        said.append(
            f"No limits of repeatability are known for the tracer '{tracer}': whether a hotspot has grown or "
            "shrunk is not judged. Give limits of your own with --limits."
        )
    else:
        said.append(f"Judged by limits of repeatability: {limits.reference or 'without a reference'}.")
        if limits.threshold is not None and (
            rule.get("method") != "fixed" or rule.get("threshold") != limits.threshold or rule.get("split")
        ):
            said.append(
                f"Those limits are of lesions outlined at SUV {limits.threshold:g}; these hotspots are by "
                f"{rule.get('name')} and may repeat better or worse."
            )
        small = int((changes["limits_hold"] == False).fillna(False).sum())  # noqa: E712  three-valued
        if small and limits.min_volume_ml is not None:
            said.append(
                f"{small} of the matched hotspots {'is' if small == 1 else 'are'} not above the "
                f"{limits.min_volume_ml:g} mL of the study's lesions; small ones repeat worse."
            )
    number = counts(changes)
    if number["new"] >= 2:
        said.append(
            f"{number['new']} new hotspots. PCWG3 counts two or more new lesions, to be confirmed on the "
            "next scan, at least 6 weeks later, when they were first seen within 12 weeks. Whether a hotspot "
            "is a lesion is for a reader to say: this is no verdict."
        )
    if number["perhaps same"]:
        pairs = "pair" if number["perhaps same"] == 1 else "pairs"
        said.append(
            f"{number['perhaps same']} {pairs} of a hotspot of the first date alone and one of the second "
            "alone: perhaps one focus each, for by the motion of other bones they lie within 8 mm. Names of "
            "bones may differ between the dates; these count as neither new nor gone."
        )
    crossed = int((changes["change"].isin(["new", "gone"]) & (changes["suv_max_change"] == "within")).sum())
    if crossed:
        said.append(
            f"{crossed} of the new and gone hotspots may have crossed the threshold only: SUVmax at their "
            "place differs by no more than repeating the scan explains."
        )
    if tracer == "naf":
        said.append(FLARE)
    return said


def differences(first: CaseResult, second: CaseResult, pairs: list[tuple[PetResult, PetResult]]) -> list[str]:
    """What was not the same at the two dates, though no reason to refuse them."""
    said = []
    one, two = first.provenance, second.provenance
    if one.get("petbone") != two.get("petbone"):
        said.append(f"different versions of petbone: {one.get('petbone')} and {two.get('petbone')}")
    if one.get("weights") != two.get("weights"):
        sources = (str(facts.get("weights") or "a mask made elsewhere") for facts in (one, two))
        said.append(f"bones by different weights: {' and '.join(source[:21] for source in sources)}")
    psf = [(facts.get("options") or {}).get("psf_mm") for facts in (one, two)]
    if psf[0] != psf[1]:
        words = ("none" if mm is None else f"{mm:g} mm" for mm in psf)
        said.append(f"different --psf-mm: {' and '.join(words)}; suv_mean_pvc does not compare")
    align = [str((facts.get("options") or {}).get("align") or "report") for facts in (one, two)]
    if align[0] != align[1]:
        said.append(f"different --align: {' and '.join(align)}; PET and CT lie to each other otherwise")
    for before, after in pairs:
        said += [f"{before.tracer}: {line}" for line in _pet_differences(before, after)]
    return said


def _pet_differences(one: PetResult, two: PetResult) -> list[str]:
    said = []
    grids = one.suv.grid.spacing_mm, two.suv.grid.spacing_mm
    if np.abs(grids[0] - grids[1]).max() > 0.01:
        sizes = (" x ".join(f"{edge:.2f}" for edge in grid) for grid in grids)
        said.append(f"voxels of {' and '.join(sizes)} mm; SUVmax and volumes depend on the voxel")
    thresholds = one.facts["rule"].get("threshold"), two.facts["rule"].get("threshold")
    if thresholds[0] != thresholds[1]:
        region = two.facts["rule"].get("reference_region")
        tissue = region.get("tissue") if isinstance(region, Mapping) else "bone"
        said.append(
            f"the threshold follows the patient's own {tissue}: SUV {thresholds[0]:.2f} and "
            f"{thresholds[1]:.2f}"
        )
    moved = [was_moved(pet) for pet in (one, two)]
    if moved[0] != moved[1]:
        which = "first" if moved[0] else "second"
        said.append(
            f"the PET was moved onto the CT at the {which} date only; small hotspots may differ by that"
        )
    suv = one.facts.get("suv") or {}, two.facts.get("suv") or {}
    if suv[0].get("rule") != suv[1].get("rule"):
        said.append(f"SUV by different rules: {suv[0].get('rule')}; {suv[1].get('rule')}")
    minutes = [
        facts["decay_s"] / 60
        for facts in suv
        if facts.get("decay_correction") == "START" and facts.get("decay_s") is not None
    ]
    if len(minutes) == 2 and abs(minutes[0] - minutes[1]) > UPTAKE_MINUTES:
        said.append(
            f"the scans began {minutes[0]:.0f} and {minutes[1]:.0f} min after the injection; PERCIST (for "
            f"FDG) wants at most {UPTAKE_MINUTES:.0f} min between the two"
        )
    return said


def was_moved(pet: PetResult) -> bool:
    """Whether the PET was moved onto the CT before it was measured (`--align rigid`)."""
    told = pet.facts.get("alignment")
    return isinstance(told, Mapping) and bool(told.get("applied"))


def headline(name: str, changes: pd.DataFrame, indices: pd.DataFrame) -> str:
    """What has changed in the tracer called `name`, in words and numbers.

    `indices` holds the rows of `change.total_changes`.
    """
    number = counts(changes)
    total = indices[indices["index"] == "hotspots_tlu_g"].to_dict("records")[0]
    parts = [f"{name}: {_total_words(total)}"]
    judged = [f"{number[key]} {key}" for key in ("grown", "stable", "shrunk") if number[key]]
    if number["not judged"]:
        judged.append(f"{number['not judged']} not judged")
    matched = sum(number[key] for key in ("grown", "stable", "shrunk", "not judged"))
    both = f"{matched} {'hotspot' if matched == 1 else 'hotspots'} at both dates"
    parts.append(f"{both}: {', '.join(judged)}" if judged else both)
    parts.append(f"{number['new']} new, {number['gone']} gone")
    if number["perhaps same"]:
        parts.append(f"{number['perhaps same']} gone and new in one place, perhaps the same under two names")
    unseen = number[UNSEEN_1] + number[UNSEEN_2]
    if unseen:
        parts.append(f"{unseen} where one of the dates did not look")
    return ". ".join(parts) + "."


def _total_words(total: Mapping[Any, Any]) -> str:
    one, two, ratio = total["value_1"], total["value_2"], total["ratio"]
    words = f"total uptake of all hotspots {one:.4g} g, then {two:.4g} g"
    if pd.isna(ratio):
        return words
    words += f" (× {ratio:.2f}"
    meaning = {
        "within": f", within the limits of repeatability {total['limits']}",
        "up": f", past the limits of repeatability {total['limits']}: a rise",
        "down": f", past the limits of repeatability {total['limits']}: a fall",
    }
    return words + meaning.get(total["verdict"], ", not judged: no limits are known") + ")"
