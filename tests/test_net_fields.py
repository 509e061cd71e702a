"""Scans that hold little: 15 cm of a patient, no bone at all, a few slices; and scans that are mirrored."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy.spatial import cKDTree

from petbone.anatomy import BY_NAME, LOW_CONFIDENCE
from petbone.io import read_ct, read_labels
from petbone.labels import LabelTable
from petbone.net.coarse import Coarse
from petbone.net.names import Named, name_voxels
from petbone.net.segment import Segmenter
from petbone.net.sides import Sides, aorta_ml, liver_ml, side_note
from petbone.phantom import SMALL, make_patient
from petbone.thinned import canonical, thinned
from petbone.volume import Grid, Unit, Volume

LEAST_VOXELS = 8
NEAR_MM = 6.0


@pytest.fixture(scope="module")
def segmenter(one_thread: None) -> Segmenter:
    return Segmenter.load(device="cpu", threads=1)


def windows(ct: Volume, length_mm: float = 150.0, step_mm: float = 50.0):
    """Parts of a scan along the patient, from foot to head."""
    view, grid, _, _ = canonical(ct)
    size, step = (round(mm / grid.spacing_mm[2]) for mm in (length_mm, step_mm))
    last = grid.shape[2] - size
    for start in dict.fromkeys([*range(0, last, step), last]):
        box = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(start, start + size))
        yield Volume(view[box], grid.cropped(box), Unit.HU)


def against_mask(coarse: Coarse, named: Named, mask: Volume) -> list[tuple[int, int]]:
    """(bone of the mask that most of it lies in, label) of each bone that was found."""
    where = np.argwhere(named.labels > 0)
    at = np.rint(mask.grid.ijk(coarse.grid.mm(where))).astype(int)
    inside = ((at >= 0) & (at < mask.grid.shape)).all(1)
    truth = np.zeros(len(where), np.uint8)
    truth[inside] = mask.data[tuple(at[inside].T)]
    found, pairs = named.labels[tuple(where.T)], []
    for label in named.confidence:
        under = np.bincount(truth[found == label], minlength=256)
        under[0] = 0
        if under.sum() >= LEAST_VOXELS:
            pairs.append((int(under.argmax()), label))
    return pairs


def against_landmarks(part: Volume, coarse: Coarse, named: Named, path) -> list[tuple[int, int]]:
    """(bone of the landmark, label there or nearest to it) of each sure landmark in the field that has bone
    near it."""
    where = np.argwhere(named.labels > 0)
    tree = cKDTree(coarse.grid.mm(where))
    pairs = []
    for row in csv.DictReader(path.read_text("utf-8").splitlines()):
        at = np.array([float(row[axis]) for axis in ("x_mm", "y_mm", "z_mm")])
        near = tree.query_ball_point(at, NEAR_MM)
        ijk = part.grid.ijk(at[None])[0]
        seen = ((ijk > -0.5) & (ijk < np.array(part.grid.shape) - 0.5)).all()
        if row["certainty"] != "sure" or not near or not seen:
            continue
        labels = named.labels[tuple(where[near].T)]
        truth = BY_NAME[row["name"]].id
        nearest = int(named.labels[tuple(where[tree.query(at)[1]])])
        pairs.append((truth, truth if truth in labels else nearest))
    return pairs


@pytest.mark.parametrize("scan", ["lidc_0001", "tcga_ov_abdomen"])
def test_fifteen_centimetres_keep_their_names_or_say_unsure(segmenter, shared, scan):
    """Of more than 100 names a scan."""
    ct = read_ct(shared / f"scans/{scan}/ct.nii.gz").volume
    right = wrong = unsure = 0
    for part in windows(ct):
        coarse = segmenter.answer(part)
        named = name_voxels(coarse, segmenter.config.name)
        if scan == "lidc_0001":
            mask = read_labels(shared / f"scans/{scan}/totalsegmentator_labels.nii.gz").volume
            pairs = against_mask(coarse, named, LabelTable.load("totalsegmentator").apply(mask))
        else:
            pairs = against_landmarks(part, coarse, named, shared / f"scans/landmarks/{scan}.csv")
        for truth, label in pairs:
            sure = named.confidence.get(label, 0.0) >= LOW_CONFIDENCE
            unsure += not sure
            right += sure and truth == label
            wrong += sure and truth != label
    print(f"{scan}: right and sure {right}, wrong and sure {wrong}, unsure {unsure}")
    assert right + wrong + unsure > 60
    assert wrong == 0


def cylinder(hu: float, noise: float = 12.0) -> Volume:
    """A round body of one tissue in air, 3 mm voxels."""
    grid = Grid((100, 80, 60), np.diag([3.0, 3.0, 3.0, 1.0]))
    x, y = np.meshgrid(np.arange(100) - 50, np.arange(80) - 40, indexing="ij")
    body = ((x / 45) ** 2 + (y / 32) ** 2 < 1)[..., None]
    data = np.where(body, hu, -1000.0) + np.random.default_rng(0).normal(0, noise, grid.shape)
    return Volume(data.astype(np.int16), grid, Unit.HU)


@pytest.mark.parametrize("hu", [-1000.0, 0.0, 45.0, -90.0], ids=["air", "water", "muscle", "fat"])
def test_a_scan_without_bones_has_none(segmenter, hu):
    found = segmenter.segment(cylinder(hu))
    assert not found.bones.data.any()
    assert found.confidence == {}
    assert found.notes[0] == "no bone was found"


@pytest.fixture(scope="module")
def patient():
    return make_patient(SMALL)


@pytest.mark.parametrize(
    "shape", [(120, 80, 2), (2, 80, 120), (10, 10, 10), (2, 2, 2), (30, 3, 60)], ids=lambda shape: str(shape)
)
def test_a_tiny_field_is_answered(segmenter, patient, shape):
    """A slice or two, or a finger's breadth, anywhere: something or nothing, and no crash."""
    size = patient.ct.grid.shape
    box = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(size, shape, strict=True))
    part = patient.ct.cropped(box)
    if part.data.min() > -50:  # a field of bone and muscle alone is refused: no air, no fat
        part = part.with_data(
            np.where(np.arange(part.data.size).reshape(part.data.shape) == 0, -1000, part.data)
        )
    found = segmenter.segment(part)
    assert found.bones.grid.shape == part.grid.shape
    assert set(found.confidence) == set(np.unique(found.bones.data)) - {0}


def mirrored(volume: Volume) -> Volume:
    """What a wrong sign in the affine makes of a patient."""
    view, grid, _, _ = canonical(volume)
    return Volume(view[::-1], grid, volume.unit)


def test_a_mirrored_phantom_is_noticed(patient):
    assert side_note(patient.ct, patient.bones) is None
    note = side_note(mirrored(patient.ct), mirrored(patient.bones))
    assert note is not None
    assert "left and right may be swapped" in note


def test_a_mirrored_chest_is_noticed(shared):
    ct = read_ct(shared / "scans/lidc_0001/ct.nii.gz").volume
    mask = read_labels(shared / "scans/lidc_0001/totalsegmentator_labels.nii.gz").volume
    bones = LabelTable.load("totalsegmentator").apply(mask)
    assert side_note(ct, bones) is None
    assert "may be swapped" in (side_note(mirrored(ct), mirrored(bones)) or "")


def test_a_mirrored_chest_without_liver_is_noticed_by_aorta_and_heart(shared):
    ct = read_ct(shared / "scans/lidc_0001/ct.nii.gz").volume
    mask = read_labels(shared / "scans/lidc_0001/totalsegmentator_labels.nii.gz").volume
    bones = LabelTable.load("totalsegmentator").apply(mask)
    depth = ct.grid.shape[2]
    box = (slice(None), slice(None), slice(depth // 2, depth))
    ct, bones = ct.cropped(box), bones.cropped(box)
    assert liver_ml(thinned(ct, bones)) == Sides(0, 0)
    aorta, heart = aorta_ml(thinned(ct, bones))
    assert aorta.left > 3 * aorta.right
    for here, there in zip((aorta, heart), aorta_ml(thinned(mirrored(ct), mirrored(bones))), strict=True):
        # The blocks of the thinned grid begin at the other side.
        assert (there.right, there.left) == pytest.approx((here.left, here.right), abs=8, rel=0.1)
    assert side_note(ct, bones) is None
    assert "aorta and heart seem to lie on the right" in (side_note(mirrored(ct), mirrored(bones)) or "")


def test_where_there_is_no_liver_nothing_is_said(patient):
    """A head, a pelvis: no liver, no word, mirrored or not."""
    depth = patient.ct.grid.shape[2]
    for part in (slice(depth * 3 // 4, depth), slice(0, depth // 4)):
        box = (slice(None), slice(None), part)
        ct, bones = mirrored(patient.ct.cropped(box)), mirrored(patient.bones.cropped(box))
        assert liver_ml(thinned(ct, bones)) == Sides(0, 0)
        assert side_note(ct, bones) is None
