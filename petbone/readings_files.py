"""Two segmentations of every patient from files: pairs read one by one, and the folder written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import petbone
from petbone.anatomy import ALL_BONES, BY_ID, SKELETON_49
from petbone.errors import InputError
from petbone.folders import write_tables
from petbone.label_doubts import doubts_of_one, doubts_of_two_scans
from petbone.lattice import in_order_of
from petbone.mask_files import OF_A_CASE, read_mask, without_path
from petbone.pairing import find_images, pair_images
from petbone.pipeline import versions
from petbone.places import labels_of
from petbone.readings import Readings, readings_of, rows_of_readings
from petbone.steps import Steps
from petbone.validation_notes import merged, of_lacking, of_same_files

DEFINITIONS = {
    "difference": "second minus first",
    "volume_difference_percent": "100 |V1 - V2| / ((V1 + V2) / 2)",
    "volume": "voxels times the volume of a voxel (determinant of the matrix)",
    "cut": "a bone that touches a face of the grid of either scan is in no mean",
    "repeatability_coefficient": "1.96 sqrt(2) within-subject SD, with SD^2 = sum of d^2 / (2 n)",
    "limits_of_agreement": "bias -+ 1.96 SD; exact 95 % intervals of each limit by the noncentral t",
}


def read_readings(
    first: Path, second: Path, labels: str | None, bones: tuple[int, ...], every: bool, steps: Steps
) -> tuple[Readings, dict[str, Any]]:
    """All pairs compared, and the provenance. `bones`: labels, none for the paper's 49; `every`: all.

    Raises InputError for what cannot be compared.
    """
    asked = tuple(bone.id for bone in ALL_BONES) if every else bones or SKELETON_49
    sides = (find_images(first, OF_A_CASE), find_images(second, OF_A_CASE))
    pairing = pair_images(*sides, ("first", "second"))
    lacking = [(case, side, "file") for case, side in pairing.unpaired]
    told: list[tuple[str, str]] = []
    rows: list[dict[str, Any]] = []
    inputs: dict[str, dict[str, Any]] = {}
    with steps("compare"):
        for n, pair in enumerate(pairing.pairs, start=1):
            case = pair.case
            one, two = (read_mask(path, labels) for path in (pair.first, pair.second))
            rows += rows_of_readings(case, one.reading, two.reading, asked, one_scan=False)
            for side, mask in (("first", one), ("second", two)):
                notes = [*mask.notes, *doubts_of_one(mask.reading.bones)]
                notes += [] if labels_of(mask.reading.bones) else ["the mask holds no bone"]
                told += [(case, f"{side}: {note}") for note in notes]
            cut = one.reading.cut.keys() | two.reading.cut.keys()
            slid = doubts_of_two_scans(one.reading.bones, two.reading.bones, cut)
            told += [(case, note) for note in slid]
            if in_order_of(two.reading.bones, one.reading.bones.grid) is not None:
                told.append((case, "both masks are on one grid: are they of two scans?"))
            inputs[case] = {"first": one.facts, "second": two.facts}
            steps.progress(n / len(pairing.pairs))
    if all(row["found"] == "neither" for row in rows):
        names = "any bone" if every or not bones else ", ".join(BY_ID[label].name for label in asked)
        raise InputError(
            f"{first}: neither it nor {second} holds {names}; expected label maps of bones: say whose labels "
            "they have with --labels"
        )
    warnings = [*sides[0].notes, *sides[1].notes, *of_lacking(lacking), *of_same_files(inputs), *merged(told)]
    with steps("tables"):
        found = readings_of(rows, lacking, list(dict.fromkeys(warnings)), every=every)
    stated = {"bones": list(dict.fromkeys(map(str, found.volumes["bone"]))), "labels": without_path(labels)}
    return found, {
        "petbone": petbone.__version__,
        "options": stated,
        "definitions": DEFINITIONS,
        "inputs": inputs,
        "warnings": list(found.warnings),
        "versions": versions(),
    }


def write_readings(found: Readings, provenance: Mapping[str, Any], folder: Path) -> None:
    """Write every file into `folder`, which exists. Raises ResourceError when it cannot."""
    tables = {
        "volumes": found.volumes,
        "agreement": found.agreement,
        "families": found.families,
        "missing": found.missing,
    }
    write_tables(tables, {}, provenance, folder)
