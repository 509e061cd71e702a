"""The bones: one table, and how other tools number them.

Identifiers and names are the contract of every output. SNOMED CT codes are those that TotalSegmentator
and MOOSE agree on; a paired bone has one code and the side is a modifier (Left 7771000, Right 24028007).
"""

from __future__ import annotations

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
