"""What the benchmark `segmentation.py` counts: found bones against a mask, landmarks, and common sense.

Arrays in, rows (dictionaries) out. A name is *unsure* where petbone's own confidence in it is below the
threshold from which petbone shows it to people; a wrong name that is sure is the worst that can happen.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from segmentation_scans import FAMILY_OF

from petbone.anatomy import BY_ID, BY_NAME, STANDARD_VOLUME_ML
from petbone.components import connected
from petbone.errors import InputError
from petbone.metrics import count_farther, overlaps, surface_dice
from petbone.report.projections import closest_ras, strided
from petbone.volume import Volume

Row = dict[str, Any]

TOLERANCE_MM = 2.0
"""Of surface Dice, and how far from every reference bone false bone begins."""
NEAR_MM = 5.0
"""A landmark as near as this to a bone counts as lying in it: landmarks were placed by eye."""
CERTAINTIES = ("sure", "plausible", "unsure")
SOFT_HU = 100.0
OVERSIZE = 2.0
BODY_HU = -300.0
_BODY_STEP_MM = 4.0
_HIGHEST = max(BY_ID)


@dataclass(frozen=True, eq=False)
class Answer:
    """A segmentation without the network that made it; see `petbone.net.segment.Segmentation`."""

    bones: Volume
    confidence: Mapping[int, float]
    candidates: Mapping[int, tuple[int, ...]]
    unsure_below: float

    def unsure(self, label: int) -> bool:
        """Whether petbone itself doubts the name."""
        return self.confidence.get(label, 0.0) < self.unsure_below

    def word(self, label: int) -> str:
        """`sure` or `unsure`, empty for no bone."""
        return ("unsure" if self.unsure(label) else "sure") if label else ""

    def could_be(self, label: int, truth: int) -> bool:
        """Whether the true name is among those that petbone offers for the bone."""
        return truth in self.candidates.get(label, ())


def bone_rows(answer: Answer, reference: Volume | None) -> list[Row]:
    """A row for every bone found or in the reference.

    `found_share`: share of the reference's voxels found as any bone; `named_share`: of those found, share
    with the right name; `overlaps_most`: the reference bone that most voxels of the found one lie in
    (`none`: in none).
    """
    found = answer.bones
    counts = overlaps(found.data if reference is None else reference.data, found.data)
    found_voxels = counts.sum(0)
    reference_voxels = counts.sum(1) if reference is not None else np.zeros_like(found_voxels)
    rows = []
    for label in range(1, _HIGHEST + 1):
        if not found_voxels[label] and not reference_voxels[label]:
            continue
        row: Row = {
            "bone": BY_ID[label].name,
            "family": FAMILY_OF[label],
            "found_ml": found_voxels[label] * found.grid.voxel_ml,
            "confidence": answer.confidence.get(label),
            "name": answer.word(label) if found_voxels[label] else "",
        }
        if reference is not None:
            row |= _against(label, counts)
            row["reference_ml"] = reference_voxels[label] * found.grid.voxel_ml
            if row["overlaps_most"] not in ("", "none", row["bone"]):
                row["candidates_hold_truth"] = answer.could_be(label, BY_NAME[row["overlaps_most"]].id)
        rows.append(row)
    if reference is not None:
        _add_surface_dice(rows, reference, found)
    return rows


def _against(label: int, counts: npt.NDArray[np.int64]) -> Row:
    """What the table of overlaps (reference, found) says of a bone."""
    here, mine, right = counts[label], counts[:, label], int(counts[label, label])
    seen, total = int(here[1:].sum()), int(here.sum())
    most = int(mine[1:].argmax()) + 1 if mine[1:].any() else 0
    return {
        "dice": 2 * right / (total + int(mine.sum())),
        "found_share": seen / total if total else None,
        "named_share": right / seen if seen else None,
        "overlaps_most": (BY_ID[most].name if most else "none") if mine.any() else "",
    }


def _add_surface_dice(rows: Sequence[Row], reference: Volume, found: Volume) -> None:
    boxes = [ndimage.find_objects(volume.data, _HIGHEST) for volume in (reference, found)]
    for row in rows:
        label = BY_NAME[row["bone"]].id
        both = [b[label - 1] for b in boxes if b[label - 1] is not None]
        box = tuple(
            slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*both, strict=True)
        )
        one, two = reference.data[box] == label, found.data[box] == label
        row["surface_dice_2mm"] = surface_dice(one, two, found.grid.spacing_mm, TOLERANCE_MM)


def skeleton_row(answer: Answer, reference: Volume) -> Row:
    """Bone or not, names apart: Dice, precision, share found, and false bone.

    False bone is what was found more than 2 mm away from any reference bone of any name, in mL and in % of
    the reference's volume. TotalSegmentator's masks lack heads and necks of ribs, so with them a part of it
    is not false.
    """
    truth, found = reference.data > 0, answer.bones.data > 0
    both, some = int(np.count_nonzero(truth & found)), int(np.count_nonzero(found))
    total = int(np.count_nonzero(truth))
    right = int(np.count_nonzero((reference.data == answer.bones.data) & truth))
    far = count_farther(found, truth, answer.bones.grid.spacing_mm, TOLERANCE_MM)
    voxel_ml = answer.bones.grid.voxel_ml
    return {
        "reference_ml": total * voxel_ml,
        "bone_dice": 2 * both / max(total + some, 1),
        "precision": both / some if some else None,
        "found_share": both / total if total else None,
        "named_share": right / both if both else None,
        "false_ml": far * voxel_ml,
        "false_percent": 100 * far / total if total else None,
    }


def landmark_rows(answer: Answer, landmarks: Path) -> list[Row]:
    """A row for every landmark.

    `result`: inside (in the bone of its name), near (within 5 mm of it), misnamed (in or within 5 mm of
    another bone), missed (no bone within 5 mm). `found` is the bone at the point, or else the nearest
    within 5 mm. Raises InputError for a name that is no bone and for a point outside the scan.
    """
    with landmarks.open(newline="", encoding="utf-8") as file:
        return [_landmark(answer, row, f"{landmarks.name}: {row['name']}") for row in csv.DictReader(file)]


def _landmark(answer: Answer, point: Mapping[str, str], where: str) -> Row:
    if point["name"] not in BY_NAME or point["certainty"] not in CERTAINTIES:
        raise InputError(f"{where}, {point['certainty']}: no bone's name or no certainty known")
    truth, grid = BY_NAME[point["name"]].id, answer.bones.grid
    at_mm = np.array([float(point[axis]) for axis in ("x_mm", "y_mm", "z_mm")])
    ijk = np.rint(grid.ijk(at_mm)).astype(int)
    if (ijk < 0).any() or (ijk >= grid.shape).any():
        raise InputError(f"{where}: the landmark lies outside the scan; expected RAS mm")
    distance_mm = _distances(answer.bones, at_mm, ijk)
    inside = int(answer.bones.data[tuple(ijk)])
    found = inside or min(distance_mm, key=distance_mm.__getitem__, default=0)
    if inside == truth:
        result = "inside"
    elif truth in distance_mm:
        result = "near"
    else:
        result = "misnamed" if found else "missed"
    return {
        "bone": point["name"],
        "family": FAMILY_OF[truth],
        "kind": point["kind"],
        "certainty": point["certainty"],
        "result": result,
        "found": BY_ID[found].name if found else "",
        "name": answer.word(found),
        "confidence": answer.confidence.get(found) if found else None,
        "candidates_hold_truth": answer.could_be(found, truth) if found else None,
    }


def _distances(bones: Volume, at_mm: npt.NDArray[np.float64], ijk: npt.NDArray[Any]) -> dict[int, float]:
    """By label, the distance of its nearest voxel centre, for all within reach of the point."""
    reach = np.ceil(NEAR_MM / bones.grid.spacing_mm).astype(int) + 1
    start = np.maximum(ijk - reach, 0)
    labels = bones.data[tuple(slice(s, i + r + 1) for s, i, r in zip(start, ijk, reach, strict=True))]
    index = np.argwhere(labels > 0)
    mm = np.linalg.norm(bones.grid.mm(index + start) - at_mm, axis=1)
    nearest: dict[int, float] = {}
    for label, distance in zip(labels[tuple(index.T)].tolist(), mm.tolist(), strict=True):
        if distance <= NEAR_MM:
            nearest[label] = min(distance, nearest.get(label, np.inf))
    return nearest


def plausibility_row(answer: Answer, ct: Volume) -> Row:
    """What can be told without any reference.

    `names`, `unsure`: bones found and how many of these are unsure. `oversized`: bones of more than twice
    their volume in petbone's standard skeleton. `soft_ml`: pieces (of one name, 26-connected) whose median
    is below 100 HU: bone marrow is, but with its cortex hardly a whole piece of bone. `outside_ml`: found
    outside the body, that is in air or in the table; the body is what has more than -300 HU on every 4 mm,
    opened by 8 mm so that table tops and sheets go, without pieces below a twentieth of the largest, with
    holes of axial slices filled and 4 mm added. Estimated from the voxels every 4 mm.
    """
    bones = answer.bones
    volume_ml = np.bincount(bones.data[bones.data > 0], minlength=_HIGHEST + 1) * bones.grid.voxel_ml
    labels = [int(label) for label in np.flatnonzero(volume_ml)]
    return {
        "found_ml": float(volume_ml.sum()),
        "names": len(labels),
        "unsure": sum(answer.unsure(label) for label in labels),
        "oversized": sum(volume_ml[label] > OVERSIZE * STANDARD_VOLUME_ML[label] for label in labels),
        "soft_ml": _soft_ml(bones, ct),
        "outside_ml": _outside_ml(bones, ct),
    }


def _soft_ml(bones: Volume, ct: Volume) -> float:
    here = bones.data > 0
    if not here.any():
        return 0.0
    pieces = connected(bones.data.copy(order="K"), 26)[here]  # cc3d refuses arrays that it could not write to
    sizes = np.bincount(pieces)
    medians = ndimage.median(ct.data[here], pieces, np.arange(1, len(sizes)))
    return float(sizes[1:][np.asarray(medians) < SOFT_HU].sum() * bones.grid.voxel_ml)


def _outside_ml(bones: Volume, ct: Volume) -> float:
    sample = strided(closest_ras(bones), _BODY_STEP_MM)
    hu = strided(closest_ras(ct), _BODY_STEP_MM)
    outside = (sample.data > 0) & ~_body(hu.data)
    return float(np.count_nonzero(outside)) * sample.grid.voxel_ml


def _body(hu: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The body on a grid of about 4 mm whose last axis runs along the patient; see `plausibility_row`."""
    cross = ndimage.generate_binary_structure(3, 1)
    core = ndimage.binary_erosion(hu > BODY_HU, cross, iterations=2, border_value=1)
    opened = ndimage.binary_dilation(core, cross, iterations=2)
    pieces, _ = ndimage.label(opened)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    body = (sizes >= max(1, sizes.max() / 20))[pieces]
    for k in range(body.shape[2]):
        body[..., k] = ndimage.binary_fill_holes(body[..., k])
    grown: npt.NDArray[np.bool_] = ndimage.binary_dilation(body, cross)
    return grown


def family_rows(bones: Iterable[Row], points: Iterable[Row]) -> list[Row]:
    """A row for every family, and `all`: means over the bones of the reference, hits among the landmarks.

    `dice` and `surface_dice_2mm` are plain means over the reference's bones, however little of one is in
    the scan. `found_share` and `named_share` are of volume. `misnamed_sure` and `misnamed_unsure` count
    found bones that overlap most with a reference bone of another name. Landmarks by their certainty,
    `sure_points` and so on; a hit is inside or near. Of all misses, `flagged`: the bone there is called
    unsure; `offered`: the true name is among its candidates. `hits_flagged`: hits whose name is unsure all
    the same.
    """
    bones, points = list(bones), list(points)
    rows = []
    for family in ("all", *dict.fromkeys(FAMILY_OF.values())):
        mine = [row for row in bones if family in ("all", row["family"])]
        marks = [row for row in points if family in ("all", row["family"])]
        row: Row = {"family": family}
        if any("reference_ml" in bone for bone in mine):
            row |= _family_of_bones(mine)
        if marks:
            row |= _family_of_points(marks)
        if len(row) > 1:
            rows.append(row)
    return rows


def _family_of_bones(bones: Sequence[Row]) -> Row:
    known = [bone for bone in bones if bone["reference_ml"] > 0]
    total = sum(bone["reference_ml"] for bone in known)
    seen = sum(bone["reference_ml"] * bone["found_share"] for bone in known)
    right = sum(bone["reference_ml"] * bone["found_share"] * (bone["named_share"] or 0) for bone in known)
    wrong = [bone["name"] for bone in misnamed(bones)]
    return {
        "bones": len(known),
        "reference_ml": total,
        "found_ml": sum(bone["found_ml"] for bone in bones),
        "dice": float(np.mean([bone["dice"] for bone in known])) if known else None,
        "surface_dice_2mm": float(np.mean([bone["surface_dice_2mm"] for bone in known])) if known else None,
        "found_share": seen / total if total else None,
        "named_share": right / seen if seen else None,
        "misnamed_sure": wrong.count("sure"),
        "misnamed_unsure": wrong.count("unsure"),
    }


def misnamed(bones: Iterable[Row]) -> list[Row]:
    """The found bones that overlap most with a reference bone of another name."""
    return [bone for bone in bones if bone.get("overlaps_most") not in (None, "", "none", bone["bone"])]


def _family_of_points(points: Sequence[Row]) -> Row:
    row: Row = {}
    for certainty in CERTAINTIES:
        of_it = [point for point in points if point["certainty"] == certainty]
        if of_it:
            row[f"{certainty}_points"] = len(of_it)
            row[f"{certainty}_hits"] = sum(map(is_hit, of_it))
    misses = [point for point in points if not is_hit(point)]
    return row | {
        "missed": sum(point["result"] == "missed" for point in misses),
        "misnamed": sum(point["result"] == "misnamed" for point in misses),
        "flagged": sum(point["name"] == "unsure" for point in misses),
        "offered": sum(bool(point["candidates_hold_truth"]) for point in misses),
        "hits_flagged": sum(point["name"] == "unsure" for point in points if is_hit(point)),
    }


def is_hit(point: Row) -> bool:
    """Whether a landmark lies in or near the bone of its name."""
    return point["result"] in ("inside", "near")
