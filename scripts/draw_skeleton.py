"""The outlines of the standard skeleton from the front and from behind, for pages that colour its bones.

python scripts/draw_skeleton.py petbone/data/skeleton.json

The standard skeleton is that of the phantom, made of formulas alone. Each view holds, by bone, the outline of
what is seen of it (an SVG path in whole millimetres, the patient's head at the top), and its own size.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage import measure

from petbone.anatomy import BONES
from petbone.phantom import PhantomSpec, anatomy

SPACING_MM = 2.0
SMOOTH_MM = 1.0
LEAST_MM2 = 20  # smaller outlines are crumbs between two bones
MARGIN_MM = 8


def seen(bones: npt.NDArray[np.uint8], from_behind: bool) -> npt.NDArray[np.uint8]:
    """The labels that are nearest to the eye, (rows, columns); `bones` lies in RAS."""
    looked = bones if from_behind else bones[:, ::-1]
    first = (looked > 0).argmax(axis=1)
    labels = np.take_along_axis(looked, first[:, None], axis=1)[:, 0]
    # From the front the patient's right is on the left, from behind on the right.
    across = labels if from_behind else labels[::-1]
    return across[:, ::-1].T


def outline(mask: npt.NDArray[np.bool_]) -> str:
    """An SVG path round a mask (rows, columns), millimetres."""
    parts = []
    for line in measure.find_contours(np.pad(mask, 1).astype(float), 0.5):
        mm = (line - 0.5) * SPACING_MM
        area = abs(np.sum(mm[:-1, 0] * mm[1:, 1] - mm[1:, 0] * mm[:-1, 1])) / 2
        few = measure.approximate_polygon(mm, SMOOTH_MM)
        if area < LEAST_MM2 or len(few) < 4:
            continue
        points = [f"{round(x)} {round(y)}" for y, x in few[:-1]]
        parts.append("M" + "L".join(points) + "Z")
    return "".join(parts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path)
    spec = replace(PhantomSpec(), ct_spacing_mm=(SPACING_MM,) * 3)
    bones = np.asarray(anatomy(spec).bones)
    found = np.argwhere(bones > 0)
    margin = int(MARGIN_MM / SPACING_MM)
    low, high = found.min(axis=0) - margin, found.max(axis=0) + margin + 1
    bones = bones[tuple(slice(max(0, a), b) for a, b in zip(low, high, strict=True))]
    views = {}
    for name, behind in (("front", False), ("back", True)):
        labels = seen(bones, behind)
        paths = {bone.name: outline(labels == bone.id) for bone in BONES}
        height, width = labels.shape
        views[name] = {
            "size_mm": [round(width * SPACING_MM), round(height * SPACING_MM)],
            "bones": {bone: path for bone, path in paths.items() if path},
        }
    lines = json.dumps(views, indent=0)
    parser.parse_args().output.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
