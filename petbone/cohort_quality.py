"""Which scans of a cohort are to be trusted: what each case says of itself, held against limits.

* *check*   : one question about one PET of a case, or about the case (then its tracer is empty)
* *verdict* : ``ok``, ``warn`` (look at it), ``bad`` (do not trust it), or empty where nothing is known
* *overall* : the last row of a case, the worst of its verdicts, with the reasons in words

Limits are this program's own, chosen so that the numbers of a scan within them hold; none is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from petbone.anatomy import LOW_CONFIDENCE, SKELETON_49
from petbone.report.privacy import plain

OVERALL = "overall"
VERDICTS = ("ok", "warn", "bad")
NAMED = 6
"""So many bones or reasons are named in a note; the rest are counted."""
SWAPPED = "left and right may be swapped"
IMPOSSIBLE = "which cannot be: check unit, dose and weight"
NO_COMMON = "THE TWO EXAMINATIONS HAVE NO BONE IN COMMON"
ELSEWHERE = "THE VERTEBRAE WENT"


@dataclass(frozen=True)
class Limit:
    """A check: its unit, the values beyond which it says warn and bad (None: it never does), and why so.

    `least`: the value must not be below its limits; else it must not be above them.
    """

    title: str
    unit: str
    warn: float | None
    bad: float | None
    why: str
    least: bool = False


CHECKS = {
    "pet_to_ct_mm": Limit(
        "PET off the CT",
        "mm",
        1.0,
        2.0,
        "how far the PET as a whole lies off the CT. Limits are one and two voxels of the PET (its longest "
        "edge), and count only past the 95 % interval of the measurement: usual pairs lie within a voxel, "
        "and two voxels are as much as a rib is thick, so that uptake is given to a neighbour or to no bone",
    ),
    "bones_aside_percent": Limit(
        "bones off the CT",
        "%",
        10.0,
        50.0,
        "of the bones that could be measured, those that lie more than a voxel of the PET off the CT, past "
        "their 95 % interval: a patient who moved a part of the body. One in ten, and half of them",
    ),
    "seen_fraction": Limit(
        "skeleton seen",
        "",
        0.9,
        0.5,
        "part of the 49 bones inside both images, by the standard skeleton. Below 0.9 a volume or an uptake "
        "of the whole lacks more than a tenth, below 0.5 petbone makes no estimate of the whole either",
        least=True,
    ),
    "bones_absent": Limit(
        "bones not found",
        "",
        4,
        24,
        "of the 49 bones, those that are not in the bone map or outside the PET. The last ribs are easily "
        "missed (4 of them); half of the 49 is no skeleton any more",
    ),
    "bones_cut": Limit(
        "bones cut", "", 4, 24, "of the 49 bones, those that the field of view cuts; limits as above"
    ),
    "names_unsure_percent": Limit(
        "names unsure",
        "%",
        10.0,
        50.0,
        f"of the 49 bones, those seen whose name has a confidence below {LOW_CONFIDENCE:g}: about "
        "half are wrong. Totals hold, figures of single bones do not. One in ten, and half of them",
    ),
    "suv_doubts": Limit(
        "SUV assumed",
        "",
        0,
        None,
        "what had to be assumed for the SUV (units, times, decay correction, dose); every one is to be "
        "looked at. An SUV that cannot be is bad at once",
    ),
    "flagged_percent": Limit(
        "uptake flagged",
        "%",
        50.0,
        None,
        "of the uptake of the hotspots, the part of those with a flag of benign uptake: from a half on the "
        "burden may be no tumour",
    ),
    "sides_swapped": Limit(
        "sides swapped",
        "",
        None,
        0,
        "whether liver, or aorta and heart, seem to lie on the wrong side: then left and right of every bone "
        "are not to be trusted",
    ),
    "dates_apart": Limit(
        "two examinations",
        "",
        0,
        1,
        "of two examinations in one case: 1 where names of vertebrae seem to be a level off, 2 where no bone "
        "is common, so that no hotspot was matched",
    ),
    "other_software": Limit(
        "other software",
        "",
        0,
        None,
        "in how many versions of packages, weights, or origin of the bones the case differs from most cases "
        "of the cohort",
    ),
}  # fmt: skip
"""Every check, in the order of the table."""


@dataclass(frozen=True)
class Check:
    """What one check found in a case; `tracer` is empty where it is of the whole case."""

    case: str
    tracer: str
    check: str
    value: float | None
    verdict: str
    note: str = ""
    warn: float | None = None
    bad: float | None = None

    @property
    def cells(self) -> list[str]:
        """The row of the table, behind case and tracer."""
        unit = CHECKS[self.check].unit if self.check in CHECKS else ""
        numbers = ("" if n is None else f"{n:.6g}" for n in (self.value, self.warn, self.bad))
        value, warn, bad = numbers
        return [self.check, value, unit, warn, bad, self.verdict, self.note]


@dataclass(frozen=True)
class CaseFacts:
    """What a case left: ``summary.json``, ``provenance.json``, and by tracer the rows of its alignment."""

    case: str
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]
    placed: Mapping[str, Sequence[Mapping[str, str]]]


def checks_of(facts: CaseFacts) -> list[Check]:
    """Every check of one case but those against the others (`against_others`) and `overall`."""
    found = []
    voxel_mm = _voxels_mm(facts.provenance)
    for pet in facts.summary["pets"]:
        tracer = str(pet["tracer"])
        found += _of_place(pet, facts.placed.get(tracer, ()), voxel_mm.get(tracer))
        found += _of_bones(pet)
        found += [_of_suv(pet, facts.summary["warnings"]), _of_flags(pet)]
    found += _of_case([str(text) for text in facts.summary["warnings"]])
    return [replace(check, case=facts.case) for check in found]


def _judged(check: str, value: float | None, note: str, scale: float = 1.0) -> Check:
    """A value against its limits, which `scale` multiplies."""
    limit = CHECKS[check]
    warn = None if limit.warn is None else limit.warn * scale
    bad = None if limit.bad is None else limit.bad * scale
    return Check("", "", check, value, _verdict(value, warn, bad, limit.least), note, warn, bad)


def _verdict(value: float | None, warn: float | None, bad: float | None, least: bool) -> str:
    if value is None:
        return ""
    sign = -1 if least else 1
    for verdict, limit in (("bad", bad), ("warn", warn)):
        if limit is not None and sign * value > sign * limit:
            return verdict
    return "ok"


def _voxels_mm(provenance: Mapping[str, Any]) -> dict[str, float]:
    """By tracer, the longest edge of a voxel of its PET."""
    examinations = [provenance["inputs"], provenance.get("second", {}).get("inputs") or {}]
    pets = [pet for one in examinations for pet in one.get("pets", ())]
    return {str(pet["tracer"]): max(map(float, pet["spacing_mm"])) for pet in pets}


def _of_place(
    pet: Mapping[str, Any], rows: Sequence[Mapping[str, str]], voxel_mm: float | None
) -> list[Check]:
    """How the PET lies to the CT: as a whole, and bone by bone."""
    whole = [row for row in rows if row["name"] == "whole"]
    if not whole or voxel_mm is None:
        why = "the images tell too little of how the PET lies to the CT"
        checks = [_judged(name, None, why) for name in ("pet_to_ct_mm", "bones_aside_percent")]
        return [replace(check, tracer=str(pet["tracer"])) for check in checks]
    length, interval = float(whole[0]["shift_mm"]), float(whole[0]["shift_uncertainty_mm"])
    note = f"the PET lies {length:.1f} ± {interval:.1f} mm off the CT, its voxel is {voxel_mm:.1f} mm"
    surely = _judged("pet_to_ct_mm", max(length - interval, 0.0), note, voxel_mm)
    known = pet.get("alignment") or {}
    first = replace(surely, value=length)
    if first.verdict == "ok" and first.bad is not None and length + interval > first.bad:
        first = replace(first, verdict="", note=f"{note}: too unsure to judge")
    if known.get("far") and not known.get("applied"):
        first = replace(first, verdict="bad", note=f"{note}: farther than patients move")
    bones = [row for row in rows if row["name"] != "whole"]
    aside = [
        row["name"] for row in bones if float(row["shift_mm"]) - float(row["shift_uncertainty_mm"]) > voxel_mm
    ]
    share = 100 * len(aside) / len(bones) if bones else None
    said = f"{len(aside)} of {len(bones)} bones lie more than a voxel off the CT: {_named(aside)}"
    second = _judged("bones_aside_percent", share, said if aside else "")
    return [replace(check, tracer=str(pet["tracer"])) for check in (first, second)]


def _of_bones(pet: Mapping[str, Any]) -> list[Check]:
    """What was seen of the 49 bones, and how sure their names are."""
    bones = [bone for bone in pet["bones"] if bone["id"] in SKELETON_49]
    seen = [
        index["denominator_seen_fraction"]
        for index in pet["indices"]
        if index["index"] == "skeletal_suv_mean"
    ]
    fraction = None if not seen or seen[0] is None else float(seen[0])
    note = "" if fraction is None else f"{100 * fraction:.0f} % of the skeleton of 49 bones was seen"
    checks = [_judged("seen_fraction", fraction, note)]
    for status, word in (("absent", "not found"), ("cut", "cut by the field of view")):
        names = [str(bone["name"]) for bone in bones if bone["status"] == status]
        said = f"{len(names)} of 49 bones {word}: {_named(names)}" if names else ""
        checks.append(_judged(f"bones_{status}", float(len(names)), said))
    sure = {
        str(bone["name"]): bone["name_confidence"]
        for bone in bones
        if bone["status"] != "absent" and bone["name_confidence"] is not None
    }
    unsure = [name for name, confidence in sure.items() if float(confidence) < LOW_CONFIDENCE]
    share = 100 * len(unsure) / len(sure) if sure else None
    said = f"{len(unsure)} of {len(sure)} bones have unsure names: {_named(unsure)}" if unsure else ""
    said = said if sure else "the bones are from a mask made elsewhere: how sure the names are is not known"
    checks.append(_judged("names_unsure_percent", share, said))
    return [replace(check, tracer=str(pet["tracer"])) for check in checks]


def _of_suv(pet: Mapping[str, Any], warnings: Iterable[str]) -> Check:
    """What was assumed for the SUV; an SUV that cannot be is bad."""
    suv = pet.get("suv") or {}
    assumed = [plain(text) for text in suv.get("assumptions", ())]
    impossible = [plain(text) for text in warnings if IMPOSSIBLE in text]
    count = float(len(assumed) + len(impossible))
    check = _judged("suv_doubts", count, "; ".join([*impossible, *assumed]))
    check = replace(check, tracer=str(pet["tracer"]))
    return replace(check, verdict="bad") if impossible else check


def _of_flags(pet: Mapping[str, Any]) -> Check:
    spots = [spot for spot in pet["hotspots"] if spot["tlu_g"] is not None]
    total = sum(float(spot["tlu_g"]) for spot in spots)
    flagged = [spot for spot in spots if spot.get("flags")]
    part = sum(float(spot["tlu_g"]) for spot in flagged)
    share = 100 * part / total if total else None
    note = (
        f"{len(flagged)} of {len(spots)} hotspots, {share:.0f} % of the uptake, may be benign" if part else ""
    )
    return replace(_judged("flagged_percent", share, note), tracer=str(pet["tracer"]))


def _of_case(warnings: Sequence[str]) -> list[Check]:
    swapped = [text for text in warnings if text.startswith(SWAPPED)]
    no_common = any(text.startswith(NO_COMMON) for text in warnings)
    elsewhere = any(text.startswith(ELSEWHERE) for text in warnings)
    said = "the two examinations have no bone in common" if no_common else ""
    said = said or ("vertebrae of the two examinations seem to be named a level off" if elsewhere else "")
    return [
        _judged("sides_swapped", float(len(swapped)), plain("; ".join(swapped))),
        _judged("dates_apart", float(2 if no_common else int(elsewhere)), said),
    ]


def software_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    """What a case was made with: versions, weights, and whether the bones were found or given."""
    bones = "found" if provenance["inputs"].get("bones") is None else "given"
    made = {"petbone": provenance["petbone"], "weights": provenance.get("weights"), "bones": bones}
    return {key: str(value) for key, value in (made | provenance["versions"]).items()}


def against_others(software: Mapping[str, Mapping[str, str]]) -> list[Check]:
    """By case, in how much it differs from what most cases were made with; the first of equals counts."""
    keys = dict.fromkeys(key for made in software.values() for key in made)
    usual = {
        key: Counter(made.get(key, "") for made in software.values()).most_common(1)[0][0] for key in keys
    }
    checks = []
    for case, made in software.items():
        others = [key for key in keys if made.get(key, "") != usual[key]]
        said = ", ".join(f"{key} {_short(made.get(key, ''))} and not {_short(usual[key])}" for key in others)
        check = _judged(
            "other_software", float(len(others)), f"not made as most cases: {said}" if said else ""
        )
        checks.append(replace(check, case=case))
    return checks


def _short(text: str) -> str:
    return text[:12] or "none"  # of a hash the beginning


def overall(case: str, checks: Sequence[Check]) -> Check:
    """The worst verdict of a case, how many checks are past a limit, and their reasons, the worst first.

    What two PETs of one case say alike is said once.
    """
    reasons = []
    # Where the whole PET lies aside, so do its bones.
    whole = {c.tracer for c in checks if c.check == "pet_to_ct_mm" and c.verdict in VERDICTS[1:]}
    for verdict in reversed(VERDICTS[1:]):
        past = [
            check
            for check in checks
            if check.verdict == verdict
            and not (check.check == "bones_aside_percent" and check.tracer in whole)
        ]
        texts: dict[str, list[str]] = {}
        for check in past:
            texts.setdefault(check.note, []).append(check.tracer)
        several = len({check.tracer for check in checks if check.tracer}) > 1
        for text, tracers in texts.items():
            alone = several and len(tracers) == 1 and tracers[0]
            reasons.append(f"{tracers[0]}: {text}" if alone else text)
    worst = max((VERDICTS.index(check.verdict) for check in checks if check.verdict), default=0)
    past_limits = sum(check.verdict in VERDICTS[1:] for check in checks)
    return Check(case, "", OVERALL, float(past_limits), VERDICTS[worst], "; ".join(reasons))


def judged_together(
    checks: Mapping[str, Sequence[Check]], software: Mapping[str, Mapping[str, str]]
) -> list[Check]:
    """The checks of each case, what tells it from the others, and its `overall`."""
    others = {check.case: check for check in against_others(software)}
    rows: list[Check] = []
    for case, own in checks.items():
        every = [*own, others[case]]
        rows += [*every, overall(case, every)]
    return rows


def _named(names: Sequence[str]) -> str:
    """Bones in words, the first few of many."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def concordance_rows(facts: CaseFacts, bones: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows of a case's ``concordance.csv``, its two tracers as ``_1`` and ``_2``."""
    rows = []
    for pair in facts.summary.get("tracer_agreement", ()):
        tracers = (str(pair["tracer_1"]), str(pair["tracer_2"]))
        for bone in bones:
            row = {"tracer_1": tracers[0], "tracer_2": tracers[1]}
            row |= {name: bone.get(name, "") for name in ("id", "name", "status", "status_2", "concordance")}
            for n, tracer in enumerate(tracers, start=1):
                row |= {f"{name}_{n}": bone[f"{name}_{tracer}"] for name in _OF_A_TRACER}
            rows.append(row)
    return rows


_OF_A_TRACER = ("suv_max", "suv_mean", "hotspot_count", "hotspot_volume_ml")
