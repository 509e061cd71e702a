"""Masks from files, in petbone's labels, and what tool seems to have made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from petbone.pairing import name_of
from petbone.pipeline import bones_of
from petbone.readings import Reading
from petbone.volume import Grid

OF_A_CASE, HOTSPOTS_OF_A_CASE = "bones.nii.gz", "hotspots.nii.gz"  # what petbone run calls them
_TOOLS = {"petbone": "petbone", "totalsegmentator": "TotalSegmentator", "moose": "MOOSE", "nnunet": "nnU-Net"}


@dataclass(frozen=True, eq=False)
class ReadMask:
    """A mask as it was read: petbone's labels, which tool seems to have made it, and what there is to say.

    `nameable`: labels of the bones that its table of labels has a name for.
    """

    reading: Reading
    facts: dict[str, Any]
    maker: str  # empty: nothing says that a tool made it
    notes: tuple[str, ...]
    nameable: frozenset[int]


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
        frozenset(table.mapping.values()),
    )


def maker_of(path: Path, scan: Scan) -> str:
    """The automatic tool that made a mask, as its header or a file beside it says; else empty."""
    if path.name in (OF_A_CASE, HOTSPOTS_OF_A_CASE):
        told = _json(path.parent / MARK)
        # Bones can be a mask made elsewhere; hotspots never are.
        if told.get("petbone") and (told.get("weights") or path.name == HOTSPOTS_OF_A_CASE):
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
