"""How much of a cut bone was seen, against bones that are whole and cut at known places."""

from dataclasses import replace

import numpy as np
import pytest

from petbone.anatomy import BONES, BY_ID, BY_NAME, STANDARD_VOLUME_ML
from petbone.completeness import SPREAD, twin, what_was_seen, whole_volume
from petbone.io import read_labels
from petbone.labels import LabelTable
from petbone.phantom import SMALL, make_patient
from petbone.volume import Volume

LEAST_ML = 2.0  # of a whole bone: smaller ones are a few voxels


def cuts(bones: Volume, planes: dict[int, list[float]]) -> list[tuple[str, float, float, float, float, str]]:
    """Name, true fraction, estimate, low, high and sides of every whole bone of `bones` that is cut when the
    map ends at each of the `planes`, as shares of its length, by axis."""
    whole = what_was_seen(bones, None)
    rows = []
    for axis, shares in planes.items():
        for share in shares:
            at = round(bones.grid.shape[axis] * share)
            for part in (slice(0, at), slice(at, None)):
                box = [slice(None)] * 3
                box[axis] = part
                seen = what_was_seen(bones.cropped(tuple(box)), None)
                for bone in BONES:
                    one, all_ = seen[bone.id], whole[bone.id]
                    if all_.status != "complete" or one.status != "cut" or all_.volume_ml < LEAST_ML:
                        continue
                    true = one.volume_ml / all_.volume_ml
                    rows.append((bone.name, true, one.fraction, one.low, one.high, one.cut_by))
    return rows


def errors(rows) -> tuple[float, float]:
    """Mean error of the estimate, and the share of ranges that hold the truth."""
    wrong = [abs(true - likely) for _, true, likely, *_ in rows]
    held = [low - 1e-9 <= true <= high + 0.01 for _, true, _, low, high, _ in rows]
    return float(np.mean(wrong)), float(np.mean(held))


PLANES = {2: [0.25, 0.4, 0.5, 0.6, 0.75], 0: [0.3, 0.45, 0.55], 1: [0.4, 0.6]}


def test_a_cut_person_of_other_proportions():
    """Vertebrae, ribs and the rest of a short and broad phantom, cut through at ten planes."""
    patient = make_patient(replace(SMALL, stature_mm=1580.0, width=1.1, tracers=(), hotspots=()))
    rows = cuts(patient.bones, PLANES)
    error, held = errors(rows)
    print(f"{len(rows)} cut bones, mean error {error:.3f}, ranges that hold the truth {held:.2f}")
    assert len(rows) > 100
    assert error < 0.06
    assert held > 0.9


def test_a_real_chest(shared):
    """Whole bones of another tool's mask of a chest CT: people are less regular than phantoms."""
    mask = read_labels(shared / "scans/lidc_0001/totalsegmentator_labels.nii.gz").volume
    rows = cuts(LabelTable.load("totalsegmentator").apply(mask), PLANES)
    error, held = errors(rows)
    print(f"{len(rows)} cut bones, mean error {error:.3f}, ranges that hold the truth {held:.2f}")
    assert len(rows) > 50
    assert error < 0.12
    assert held > 0.75


def test_the_sides_are_the_patients():
    patient = make_patient(replace(SMALL, tracers=(), hotspots=()))
    half = patient.bones.grid.shape[2] // 2
    lower = what_was_seen(patient.bones.cropped((slice(None), slice(None), slice(0, half))), None)
    cut = [one.cut_by for one in lower.values() if "superior" in one.cut_by]
    assert cut
    assert not any("left" in sides or "right" in sides for sides in cut)


def test_the_twin_is_asked_first_then_the_group_then_the_skeleton():
    humerus = BY_NAME["humerus_left"]
    assert twin(humerus) is BY_NAME["humerus_right"]
    assert twin(BY_NAME["T7"]) is None
    alone = whole_volume(humerus, {})
    assert (alone.by, alone.ml) == ("standard", STANDARD_VOLUME_ML[humerus.id])
    small = {BY_NAME[f"L{n}"].id: 0.8 * STANDARD_VOLUME_ML[BY_NAME[f"L{n}"].id] for n in (1, 2, 3)}
    assert whole_volume(humerus, small).by == "skeleton"
    l4 = whole_volume(BY_NAME["L4"], small)
    assert l4.by == "group"
    assert l4.ml == pytest.approx(0.8 * STANDARD_VOLUME_ML[BY_NAME["L4"].id])
    both = whole_volume(humerus, small | {BY_NAME["humerus_right"].id: 200.0})
    assert (both.by, both.ml) == ("twin", 200.0)
    assert both.high_ml == pytest.approx(200 * SPREAD["twin"])
    ranges = [w.high_ml / w.ml for w in (both, l4, whole_volume(humerus, small))]
    assert ranges == sorted(ranges)


def test_bones_that_are_whole_were_seen_whole():
    patient = make_patient(replace(SMALL, tracers=(), hotspots=()))
    seen = what_was_seen(patient.bones, None)
    for label, one in seen.items():
        if one.status == "complete":
            assert (one.fraction, one.low, one.high) == (1, 1, 1), BY_ID[label].name
        if one.status == "cut":
            assert 0 < one.low <= one.fraction <= one.high < 1
        if one.status == "absent":
            assert one.fraction is one.low is one.high is None
