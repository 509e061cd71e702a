"""Masks of many cases in files and folders: found, paired by name, read in petbone's labels."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petbone.anatomy import BY_NAME
from petbone.completeness import border_sides
from petbone.errors import InputError, UsageError
from petbone.folders import MARK
from petbone.io import Scan, read_labels
from petbone.io.scan import orientation_code
from petbone.labels import bone_named
from petbone.pairing import ONLY_CASE
from petbone.pipeline import bones_of
from petbone.readings import Reading
from petbone.volume import Grid

ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
OF_A_CASE = "bones.nii.gz"  # what petbone run calls it
_BESIDE = (".json", ".raw", ".zraw")  # belong to masks, and need no word
_TOOLS = {"petbone": "petbone", "totalsegmentator": "TotalSegmentator", "moose": "MOOSE", "nnunet": "nnU-Net"}
_LISTED = 3


@dataclass(frozen=True)
class Found:
    """Masks by the name of their case. `single`: one mask was named, so its name need not pair."""

    masks: dict[str, Path]
    single: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ReadMask:
    """A mask as it was read: petbone's labels, which tool seems to have made it, and what there is to say."""

    reading: Reading
    facts: dict[str, Any]
    maker: str  # empty: nothing says that a tool made it
    notes: tuple[str, ...]


def find_masks(place: Path) -> Found:
    """The masks in a file or a folder: files, and folders of cases that hold ``bones.nii.gz``.

    A case is called by the name of its file without endings, or by that of its folder. Raises InputError
    where there is no mask, and where two of a folder have one name.
    """
    if place.is_file():
        return Found({name_of(place): place}, True)
    if not place.is_dir():
        raise InputError(f"{place}: no such file or folder; expected a mask, or a folder of masks")
    if (place / OF_A_CASE).is_file():
        return Found({place.resolve().name: place / OF_A_CASE}, True)
    masks: dict[str, Path] = {}
    passed: list[str] = []
    for path in sorted(place.iterdir()):
        if path.name.startswith("."):
            continue
        mask = path / OF_A_CASE if path.is_dir() else path
        name = path.name if path.is_dir() else name_of(path)
        if path.is_dir() and not mask.is_file():
            passed.append("folder")
        elif not mask.name.lower().endswith(ENDINGS):
            passed += [] if mask.suffix.lower() in _BESIDE else [mask.suffix.lower() or "no ending"]
        elif name in masks:
            raise InputError(
                f"{mask}: the case {name} is in {masks[name].name}, too; expected one mask of each case"
            )
        else:
            masks[name] = mask
    if not masks:
        raise InputError(
            f"{place}: holds no mask; expected files ({', '.join(ENDINGS[1:])}) or folders of petbone run "
            f"with a {OF_A_CASE}"
        )
    notes = []
    if passed:
        kinds = ", ".join(sorted(set(passed)))
        notes.append(
            f"{len(passed)} entries of a folder of masks are no masks and were passed over ({kinds})"
        )
    return Found({name: masks[name] for name in sorted(masks, key=_natural)}, False, tuple(notes))


def name_of(path: Path) -> str:
    """The file's name without its endings."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def _natural(name: str) -> list[tuple[int, str]]:
    """case_2 comes before case_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def pair(first: Found, second: Found, places: tuple[Path, Path]) -> dict[str, tuple[Path, Path]]:
    """Both masks of every case that both sides have. Two that were named one by one are a pair by that.

    Nobody has paired those by their names, which can be a patient's: their case is called `ONLY_CASE`. Raises
    InputError where there is no pair.
    """
    if first.single and second.single:
        return {ONLY_CASE: (next(iter(first.masks.values())), next(iter(second.masks.values())))}
    both = {name: (one, second.masks[name]) for name, one in first.masks.items() if name in second.masks}
    if not both:
        raise InputError(
            f"{places[1]}: no name of its masks ({_some(second.masks)}) is one of {places[0]} "
            f"({_some(first.masks)}); expected the two masks of a case under one name"
        )
    return both


def unpaired(
    first: Found, second: Found, both: Collection[str], sides: tuple[str, str]
) -> list[tuple[str, str, str]]:
    """(case, side where it is not, ``file``) of every mask without a partner."""
    if first.single and second.single:
        return []
    alone = [(name, sides[1], "file") for name in first.masks if name not in both]
    return alone + [(name, sides[0], "file") for name in second.masks if name not in both]


def read_mask(path: Path, labels: str | None, flag: str = "") -> ReadMask:
    """A mask in petbone's labels; `flag` is the option that says whose labels this side alone has.

    Raises InputError for what cannot be read and for labels that are not known.
    """
    scan = read_labels(path)
    try:
        bones, table = bones_of(scan, path, labels)
    except InputError as error:
        raise InputError(f"{error}{f'; for this side alone: {flag}' if flag else ''}") from error
    facts = {key: scan.source[key] for key in ("format", "sha256", "shape", "spacing_mm", "orientation")}
    return ReadMask(
        Reading(bones, border_sides(bones)),
        facts | {"labels": table.name},
        maker_of(path, scan),
        (*scan.warnings, *table.notes(scan.volume)),
    )


def maker_of(path: Path, scan: Scan) -> str:
    """The automatic tool that made a mask, as its header or a file beside it says; else empty."""
    if path.name == OF_A_CASE:
        told = _json(path.parent / MARK)
        if told.get("petbone") and told.get("weights"):
            return "petbone"
    if scan.source.get("label_names"):
        return "a tool that writes its labels' names into the header, as TotalSegmentator does"
    if (path.parent / "predict_from_raw_data_args.json").is_file():
        return "nnU-Net"
    words = json.dumps(_json(path.parent / f"{name_of(path)}.json")).lower()
    return next((tool for word, tool in _TOOLS.items() if word in words), "")


def _json(path: Path) -> Mapping[str, Any]:
    """What a JSON file says; nothing where there is none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def grid_in_words(grid: Grid) -> str:
    """Voxels, their size, their order, and where they lie."""
    low, high = grid.corners_mm().min(axis=0), grid.corners_mm().max(axis=0)
    where = ", ".join(f"{axis} {a:.1f} to {b:.1f}" for axis, a, b in zip("xyz", low, high, strict=True))
    size = " x ".join(f"{mm:.4g}" for mm in grid.spacing_mm)
    return f"{' x '.join(map(str, grid.shape))} voxels of {size} mm, {orientation_code(grid)}, {where} mm"


def _some(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def labels_named(text: str | None) -> tuple[tuple[int, ...], bool]:
    """Labels of ``T7,L3,...`` in this order, each once, and whether ``all`` was asked; none for no text.

    Raises UsageError for a name that is no bone's.
    """
    if text is None or text.strip().lower() == "all":
        return (), text is not None
    names = [name.strip() for name in text.split(",") if name.strip()]
    labels = [BY_NAME[name].id if name in BY_NAME else bone_named(name) or 0 for name in names]
    wrong = [name for name, label in zip(names, labels, strict=True) if not label]
    if wrong or not names:
        raise UsageError(
            f"--bones: {', '.join(wrong) or 'nothing'} is no bone; known are C1 to C7, T1 to T12, L1 to L5, "
            "rib_left_1 to rib_right_12, sternum, sacrum, skull, mandible, and clavicle, scapula, hip, "
            "humerus, femur with _left or _right; or all"
        )
    return tuple(dict.fromkeys(labels)), False


def without_path(labels: str | None) -> str | None:
    """The name of a label table for a provenance file; of a user's own file just that it is one."""
    return labels if labels is None or not Path(labels).suffix else "csv"
