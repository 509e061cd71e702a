"""The bones: one table, and how other tools number them.

Identifiers and names are the contract of every output. SNOMED CT codes are those that TotalSegmentator
and MOOSE agree on; a paired bone has one code and the side is a modifier (Left 7771000, Right 24028007).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Bone:
    """One bone: label value, name, side (``left``, ``right`` or empty), group and SNOMED CT code."""

    id: int
    name: str
    side: str
    group: str
    snomed: str


_VERTEBRAE = {
    "C": "14806007 39976000 113205007 5329002 36978003 36054005 87391001",
    "T": "64864005 53733008 1626008 73071006 56401006 45296009 "
    "62487009 11068009 82687006 7610001 12989004 23215003",
    "L": "66794005 14293000 36470004 11994002 49668003",
}
_RIBS = [
    "48535007",
    "78247007",
    "25888004",
    "25523003",
    "15339008",
    "59558009",
    "24915002",
    "5953002",
    "22565002",
    "77644006",
    "58830002",
    "43993008",
]


def _spine(first_id: int, letter: str, group: str) -> list[Bone]:
    codes = _VERTEBRAE[letter].split()
    return [Bone(first_id + n, f"{letter}{n + 1}", "", group, code) for n, code in enumerate(codes)]


def _ribs(first_id: int, side: str) -> list[Bone]:
    return [Bone(first_id + n, f"rib_{side}_{n + 1}", side, "ribs", code) for n, code in enumerate(_RIBS)]


def _pair(first_id: int, name: str, group: str, snomed: str) -> list[Bone]:
    return [
        Bone(first_id + n, f"{name}_{side}", side, group, snomed) for n, side in enumerate(("left", "right"))
    ]


BONES: tuple[Bone, ...] = (
    *_spine(1, "T", "thoracic_spine"),
    *_spine(13, "L", "lumbar_spine"),
    *_ribs(18, "left"),
    *_ribs(30, "right"),
    Bone(42, "sternum", "", "sternum", "56873002"),
    *_pair(43, "clavicle", "shoulder", "51299004"),
    *_pair(45, "scapula", "shoulder", "79601000"),
    *_pair(47, "hip", "pelvis", "29836001"),
    Bone(49, "sacrum", "", "pelvis", "54735007"),
    *_spine(50, "C", "cervical_spine"),
    Bone(57, "skull", "", "head", "89546000"),
    Bone(58, "mandible", "", "head", "91609006"),
    *_pair(59, "humerus", "limbs", "85050009"),
    *_pair(61, "femur", "limbs", "71341001"),
)
"""The 62 bones in order of their label, 1 to 62."""

VARIANTS: tuple[Bone, ...] = (
    Bone(63, "T13", "", "thoracic_spine", ""),
    Bone(64, "L6", "", "lumbar_spine", "1156198008"),
    Bone(65, "rib_left_13", "left", "ribs", "1193560003"),
    Bone(66, "rib_right_13", "right", "ribs", "1193560003"),
)
"""Supernumerary bones, labels 63 to 66."""

ALL_BONES: tuple[Bone, ...] = BONES + VARIANTS
BY_ID: dict[int, Bone] = {bone.id: bone for bone in ALL_BONES}
BY_NAME: dict[str, Bone] = {bone.name: bone for bone in ALL_BONES}

SKELETON_49: tuple[int, ...] = tuple(range(1, 50))
"""Labels of the 49 bones of Lindgren Belal et al. 2019: the default denominator of a skeletal index."""

SPINE_AND_RIB_VARIANTS: tuple[int, ...] = (63, 64, 65, 66)
"""A 13th thoracic or 6th lumbar vertebra and 13th ribs: spine and ribs like the 49, and counted with them."""

LOW_CONFIDENCE = 0.65
"""Of names with a lower chance about half are wrong: people are told only what the bone may be."""


def _series() -> dict[str, dict[int, float]]:
    """The counted bones: by label, the place in the series; neighbours are at most 1 apart.

    T13 and L6 stand half a step behind T12 and L5, so that T12 and L1 are neighbours with and without T13.
    """
    spine = [bone.id for bone in (*BONES[49:56], *BONES[:17])]
    places = {label: float(n) for n, label in enumerate(spine)}
    places |= {63: places[12] + 0.5, 64: places[17] + 0.5}
    left, right = (*range(18, 30), 65), (*range(30, 42), 66)
    ribs = [{label: float(n) for n, label in enumerate(side)} for side in (left, right)]
    return {"vertebra": places, "left rib": ribs[0], "right rib": ribs[1]}


_SERIES = _series()


def spoken(candidates: Iterable[int]) -> str:
    """What is known of a bone that may be any of the labels `candidates`, and no more.

    One label: its name. Neighbours: a range. What falls into two parts: both. Into more: the family.
    Raises ValueError where `candidates` is empty, KeyError for a label that is no bone's.

    >>> spoken([7]), spoken([7, 6, 8]), spoken([13, 12]), spoken([24, 23]), spoken([5, 9]), spoken([2, 5, 9])
    ('T7', 'T6-T8', 'T12-L1', 'rib_left 6-7', 'T5 or T9', 'vertebra')
    """
    labels = set(candidates)
    runs = _runs(labels)
    if len(labels) == 1:
        return runs[0][0]
    if len(runs) > 2:
        return family(labels)
    stem = "" if family(labels) in ("vertebra", "rib", "bone") else f"rib_{family(labels).split()[0]}_"
    words = ["-".join(dict.fromkeys(name.removeprefix(stem) for name in run)) for run in runs]
    return f"{stem[:-1]} {' or '.join(words)}".lstrip()


def spoken_short(candidates: Iterable[int]) -> str:
    """The same where there is little room: ribs by their number alone, always with a question mark.

    A bone of a single candidate is a mere ``?``: this is for names that are unsure.

    >>> spoken_short([7, 6, 8]), spoken_short([13, 12]), spoken_short([24, 23]), spoken_short([7])
    ('T6-8?', 'T12-L1?', '6-7?', '?')
    """
    labels = set(candidates)
    runs = _runs(labels)
    if len(labels) == 1 or len(runs) > 2 or family(labels) in ("rib", "bone"):
        return "?"
    words = []
    for first, last in runs:
        first, last = first.rsplit("_", 1)[-1], last.rsplit("_", 1)[-1]
        shorter = last[1:] if first[0] == last[0] and first[0].isalpha() else last
        words.append(first if first == last else f"{first}-{shorter}")
    return "/".join(words) + "?"


def unsure_name(candidates: Iterable[int]) -> str:
    """What stands for a name that is unsure: all that the bone may be, never one name alone.

    >>> unsure_name([7, 6]), unsure_name([7]), unsure_name([24]), unsure_name([42])
    ('T6-T7', 'vertebra, level unsure', 'left rib, number unsure', 'bone, name unsure')
    """
    labels = set(candidates)
    kind = family(labels)
    said = kind if len(labels) == 1 else spoken(labels)
    what = {"bone": "name", "vertebra": "level"}.get(kind, "number")
    return f"{kind}, {what} unsure" if said == kind else said


def known_place(candidates: Iterable[int]) -> tuple[str, str]:
    """Side and group of a bone whose name is unsure: what all that it may be have in common, else empty.

    A single candidate may be any of its family. Vertebrae of several groups are of the group ``spine``.

    >>> known_place([7, 6]), known_place([13, 12]), known_place([7]), known_place([24]), known_place([47])
    (('', 'thoracic_spine'), ('', 'spine'), ('', 'spine'), ('left', 'ribs'), ('', ''))
    """
    labels = set(candidates)
    if len(labels) == 1:
        labels = set(_SERIES.get(family(labels), BY_ID))
    sides, groups = {BY_ID[label].side for label in labels}, {BY_ID[label].group for label in labels}
    side = sides.pop() if len(sides) == 1 else ""
    if len(groups) == 1:
        return side, groups.pop()
    return side, "spine" if family(labels) == "vertebra" else ""


def family(candidates: Iterable[int]) -> str:
    """What all `candidates` are: ``vertebra``, ``left rib``, ``right rib``, ``rib``, or else ``bone``."""
    labels = set(candidates)
    for name, places in _SERIES.items():
        if labels <= places.keys():
            return name
    return "rib" if all(BY_ID[label].group == "ribs" for label in labels) else "bone"


def _runs(labels: set[int]) -> list[tuple[str, str]]:
    """First and last name of every run of neighbours, in the order of the series; others by themselves."""
    if not labels:
        raise ValueError("expected at least one label that the bone may be")
    places = _SERIES.get(family(labels), {label: 2.0 * label for label in labels})
    runs: list[list[int]] = []
    for label in sorted(labels, key=places.__getitem__):
        if runs and places[label] - places[runs[-1][-1]] <= 1:
            runs[-1].append(label)
        else:
            runs.append([label])
    return [(BY_ID[run[0]].name, BY_ID[run[-1]].name) for run in runs]


def _standard_volumes_ml() -> dict[int, float]:
    spine = {"C": (11, 13, 10, 10, 11, 12, 13), "L": (54, 57, 59, 60, 56), "T": (24, 25, 26, 28, 29, 30)}
    spine["T"] += (31, 32, 33, 35, 35, 39)
    by_name: dict[str, float] = {f"{k}{n}": ml for k, mls in spine.items() for n, ml in enumerate(mls, 1)}
    ribs = (8, 13, 16, 20, 23, 25, 26, 26, 24, 18, 13, 7)
    paired = {f"rib_{{}}_{n}": float(ml) for n, ml in enumerate(ribs, 1)}
    paired |= {"clavicle_{}": 26, "scapula_{}": 70, "hip_{}": 301, "humerus_{}": 180, "femur_{}": 500}
    by_name |= {name.format(side): ml for name, ml in paired.items() for side in ("left", "right")}
    by_name |= {"sternum": 71, "sacrum": 241, "skull": 624, "mandible": 68}
    by_name |= {"T13": 39, "L6": 56, "rib_left_13": 7, "rib_right_13": 7}
    return {bone.id: float(by_name[bone.name]) for bone in ALL_BONES}


STANDARD_VOLUME_ML: dict[int, float] = _standard_volumes_ml()
"""Volume of each bone of the standard skeleton, that of petbone's phantom (a man of 1.75 m).

Only ratios of these enter a result: how much of a cut bone, and of the skeleton, was seen.
"""


def colour(bone_id: int) -> tuple[int, int, int]:
    """Display colour of a label, RGB 0 to 255: hue steps by the golden angle so that neighbours differ."""
    hue = (bone_id * 0.61803398875) % 1.0
    value = 0.95 if bone_id % 2 else 0.78
    sector, part = divmod(hue * 6, 1)
    low, falling, rising = 0.35 * value, value * (1 - 0.65 * part), value * (0.35 + 0.65 * part)
    red, green, blue = [
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    ][int(sector)]
    return round(red * 255), round(green * 255), round(blue * 255)
