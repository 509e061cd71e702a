"""How good the weights are on real CT: what is found and what is named right.

    python scripts/evaluate_bones.py --scans ../shared/scans --out evaluation.csv

A scan with masks of another tool gives Dice and shares per family of bones; a scan with landmarks gives the
share of them that lie in (or within 5 mm of) a bone, and in one of the right name. The reference masks are
themselves a net's output, the landmarks were placed by eye.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from petbone.anatomy import BONES, BY_NAME
from petbone.io.nifti import read_nifti
from petbone.labels import LabelTable
from petbone.net.segment import Segmentation, Segmenter
from petbone.volume import Unit, Volume

MASKED = {"lidc_0001": ("totalsegmentator_labels.nii.gz", "totalsegmentator")}
WITH_LANDMARKS = ("tcga_ov_abdomen", "tcga_thca_neck")
NEAR_MM = 5.0
COLUMNS = ("scan", "family", "n", "found", "named", "dice", "seconds")
LEVELS = {"S1": "sacrum", "S2": "sacrum", "S3": "sacrum"}


def read(path: Path, unit: Unit) -> Volume:
    """A NIfTI file as a volume."""
    image = read_nifti(path, (np.int16, np.float32) if unit is Unit.HU else (np.uint8, np.int16))
    return Volume(image.data, image.grid, unit)


def families() -> dict[str, list[int]]:
    """Labels by group, cut to what is worth a row."""
    found: dict[str, list[int]] = {}
    for bone in BONES:
        found.setdefault(f"{bone.group}_{bone.side}" if bone.group == "ribs" else bone.group, []).append(
            bone.id
        )
    return {"all": [bone.id for bone in BONES], **found}


def against_mask(
    scan: str, truth: np.ndarray, result: Segmentation, seconds: float
) -> list[dict[str, object]]:
    """Rows of a scan with masks: `n` is mL of reference, `dice` the mean over the family's bones."""
    found = result.bones.data
    rows = []
    for family, ids in families().items():
        here = np.isin(truth, ids)
        if not here.any():
            continue
        scores = []
        for bone in ids:
            one, two = truth == bone, found == bone
            if one.any():
                scores.append(2 * (one & two).sum() / (one.sum() + two.sum()))
        named = (found == truth)[here & (found > 0)]
        rows.append(
            {
                "scan": scan,
                "family": family,
                "n": round(here.sum() * result.bones.grid.voxel_ml, 1),
                "found": round(float((found[here] > 0).mean()), 3),
                "named": round(float(named.mean()), 3) if named.size else "",
                "dice": round(float(np.mean(scores)), 3),
                "seconds": round(seconds, 1),
            }
        )
    whole = 2 * ((truth > 0) & (found > 0)).sum() / ((truth > 0).sum() + (found > 0).sum())
    precision = ((truth > 0) & (found > 0)).sum() / max((found > 0).sum(), 1)
    rows.append(
        {
            "scan": scan,
            "family": "bone or not",
            "n": "",
            "found": "",
            "named": "",
            "dice": round(float(whole), 3),
            "seconds": f"precision {precision:.3f}",
        }
    )
    return rows


def against_landmarks(scan: str, path: Path, result: Segmentation, seconds: float) -> list[dict[str, object]]:
    """Rows of a scan with landmarks: `n` is their number."""
    bones = result.bones
    reach = np.ceil(NEAR_MM / bones.grid.spacing_mm).astype(int)
    per: dict[str, list[tuple[bool, bool]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            name = LEVELS.get(row["name"], row["name"])
            at = bones.grid.ijk([float(row[k]) for k in ("x_mm", "y_mm", "z_mm")])
            at = np.round(at).astype(int)
            if name not in BY_NAME or (at < 0).any() or (at >= bones.grid.shape).any():
                continue
            box = tuple(slice(max(0, a - r), a + r + 1) for a, r in zip(at, reach, strict=True))
            around = np.bincount(bones.data[box].ravel(), minlength=256)[1:]
            here = int(bones.data[tuple(at)]) or (int(around.argmax()) + 1 if around.any() else 0)
            bone = BY_NAME[name]
            family = f"{bone.group}_{bone.side}" if bone.group == "ribs" else bone.group
            for key in ("all", family):
                per.setdefault(key, []).append((here > 0, here == bone.id))
    return [
        {
            "scan": scan,
            "family": family,
            "n": len(hits),
            "found": round(float(np.mean([h[0] for h in hits])), 3),
            "named": round(float(np.mean([h[1] for h in hits])), 3),
            "dice": "",
            "seconds": round(seconds, 1),
        }
        for family, hits in per.items()
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="default: the packaged weights")
    parser.add_argument("--out", type=Path, help="CSV file for the table")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    segmenter = Segmenter.load(options.weights, options.device, options.threads)
    rows: list[dict[str, object]] = []
    for scan in (*MASKED, *WITH_LANDMARKS):
        ct = read(options.scans / scan / "ct.nii.gz", Unit.HU)
        start = time.perf_counter()
        result = segmenter.segment(ct)
        seconds = time.perf_counter() - start
        if scan in MASKED:
            file, table = MASKED[scan]
            truth = LabelTable.load(table).apply(read(options.scans / scan / file, Unit.LABEL))
            rows += against_mask(scan, truth.data, result, seconds)
        else:
            path = options.scans / "landmarks" / f"{scan}.csv"
            rows += against_landmarks(scan, path, result, seconds)
    print(" ".join(f"{name:>16}" for name in COLUMNS))
    for row in rows:
        print(" ".join(f"{row[name]!s:>16}" for name in COLUMNS))
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
