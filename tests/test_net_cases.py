from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from case_fixtures import BALLS, RADIUS_MM, patient, prepared, write_patient
from net_fixtures import TINY_NET, TINY_TRAIN
from petbone.anatomy import ALL_BONES, BY_ID
from petbone.errors import InputError
from petbone.labels import LabelTable
from petbone.net import cases
from petbone.net.cases import Case, CaseConfig, CaseSample, CaseSampler, bones_named, case_of, prepare
from petbone.net.losses import losses_of
from petbone.net.unet import Answer
from petbone.volume import Unit, Volume

EVERY = frozenset(bone.id for bone in ALL_BONES)
PETBONE = LabelTable.load("petbone")
STILL = CaseConfig(
    sizes_x=(64,),
    sizes_y=(48,),
    sizes_z=(48,),
    rotation_deg=0.0,
    log_scale=(0.0, 0.0),
    mirror_share=0.0,
    shift_hu=0.0,
    gain=0.0,
    noise_hu=(1e-3, 1e-3),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def centre_of(bone: np.ndarray, label: int) -> np.ndarray:
    return np.argwhere(bone == label).mean(0)


def test_a_prepared_case_is_the_patient_at_4_mm_along_ras():
    ct, labels = patient()
    case = case_of("a", ct, labels, PETBONE, EVERY)
    ball_ml = 4 / 3 * np.pi * RADIUS_MM**3 / 1000
    here, there = centre_of(case.bone, 17), np.array(BALLS[17])
    for label, mm in BALLS.items():
        found = centre_of(case.bone, label)
        np.testing.assert_allclose((found - here) * 4, np.array(mm) - there, atol=2)
        # A voxel belongs to bone from 40 % on, so a ball grows a little.
        assert (case.bone == label).sum() * 0.064 == pytest.approx(ball_ml, rel=0.2)
        assert case.hu[tuple(np.round(found).astype(int))] == 350
    assert case.known.mean() > 0.8  # but for what the rounding of the grid adds
    assert case.hu[case.known].min() == -1000


def test_without_all_bones_annotated_only_what_is_surely_no_bone_is_known():
    ct, labels = patient()
    whole = case_of("a", ct, labels, PETBONE, EVERY)
    part = case_of("a", ct, labels, PETBONE, {16, 17})
    assert set(np.unique(part.bone)) == {0, 16, 17}
    hips = np.isin(whole.bone, (47, 48))
    assert not part.known[hips].any()
    away = whole.known & (whole.bone == 0) & (whole.hu > 20)
    touching = away & part.known
    assert 0.02 < touching.sum() / away.sum() < 0.4  # muscle counts where it touches an annotated vertebra
    beside = ndimage.binary_dilation(hips, iterations=2)
    assert part.known[whole.known & (whole.hu < -50) & ~beside].all()


def test_an_organ_of_the_mask_is_no_bone_and_a_merged_label_no_lesson(tmp_path):
    table = tmp_path / "ours.csv"
    table.write_text("label,name,bone\n1,L4,\n2,L5,\n3,liver,-\n4,pelvis,hip_left+hip_right\n")
    ours = LabelTable.load(str(table))
    ct, labels = patient()
    data = np.select([labels.data == n for n in (16, 17, 47, 48)], [1, 2, 4, 4]).astype(np.uint8)
    data[5:9, 20:24, 20:24] = 3
    case = case_of("a", ct, labels.with_data(data), ours, {16, 17})
    whole = case_of("a", ct, labels, PETBONE, EVERY)
    assert not case.known[np.isin(whole.bone, (47, 48))].any()
    without = case_of("a", ct, labels.with_data(np.where(data == 3, 0, data)), ours, {16, 17})
    assert case.known.sum() > without.known.sum()
    assert set(np.unique(case.bone)) == {0, 16, 17}


def test_what_is_not_known_has_no_gradient_and_no_say():
    rng = np.random.default_rng(0)
    shape = (16, 16, 16)
    bone = torch.zeros(shape, dtype=torch.uint8)
    bone[4:10, 4:10, 4:10] = 17
    known = torch.from_numpy(rng.random(shape) < 0.5) | (bone > 0)
    answer = Answer(
        torch.randn(1, 1, *shape, requires_grad=True),
        torch.randn(1, 62, 8, 8, 8, requires_grad=True),
        torch.randn(1, 3, 8, 8, 8, requires_grad=True),
        torch.randn(1, 3, 8, 8, 8, requires_grad=True),
    )
    losses = losses_of(answer, CaseSample(torch.zeros(shape), bone, known), TINY_TRAIN, TINY_NET.input_mm)
    losses.loss.backward()
    assert not answer.bone.grad[0, 0][~known].any()
    assert answer.bone.grad[0, 0][known].all()
    assert answer.which.grad.any()
    assert answer.centre.grad.any()
    assert answer.place.grad is None  # a real case has no place
    assert np.isnan(losses.place)
    with torch.no_grad():
        answer.bone[0, 0][~known] = 50.0
    again = losses_of(answer, CaseSample(torch.zeros(shape), bone, known), TINY_TRAIN, TINY_NET.input_mm)
    assert torch.equal(again.loss, losses.loss)
    assert again.bone_dice == losses.bone_dice


def test_a_block_that_is_mostly_unknown_teaches_no_name():
    shape = (16, 16, 16)
    bone = torch.zeros(shape, dtype=torch.uint8)
    bone[0, 0, 0], bone[8:10, 8:10, 8:10] = 17, 16
    answer = Answer(*(torch.zeros(1, n, 8, 8, 8, requires_grad=True) for n in (1, 62, 3, 3)))
    answer = answer._replace(bone=torch.zeros(1, 1, *shape, requires_grad=True))
    sample = CaseSample(torch.zeros(shape), bone, bone > 0)
    losses_of(answer, sample, TINY_TRAIN, TINY_NET.input_mm).loss.backward()
    taught = answer.which.grad[0].abs().sum(0) > 0
    assert taught.nonzero().tolist() == [[4, 4, 4]]
    assert (answer.centre.grad[0].abs().sum(0) > 0).sum() <= 1


def test_a_supernumerary_bone_is_bone_without_a_name():
    shape = (16, 16, 16)
    bone = torch.zeros(shape, dtype=torch.uint8)
    bone[4:8] = 64  # L6
    answer = Answer(*(torch.zeros(1, n, 8, 8, 8, requires_grad=True) for n in (1, 62, 3, 3)))
    answer = answer._replace(bone=torch.zeros(1, 1, *shape, requires_grad=True))
    losses = losses_of(answer, CaseSample(torch.zeros(shape), bone, bone == bone), TINY_TRAIN, 4.0)
    losses.loss.backward()
    assert answer.bone.grad.any()
    assert answer.which.grad is None
    assert np.isnan(losses.name_share)


def test_a_seed_gives_one_sample(tmp_path):
    sampler = CaseSampler([prepared(tmp_path / "a.npz")], CaseConfig())
    first, again, other = (sampler.sample(seed) for seed in (5, 5, 6))
    for name in ("hu", "bone", "known"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.hu.shape != other.hu.shape or not torch.equal(first.hu, other.hu)
    for seed in range(6):
        sample = sampler.sample(seed)
        assert sample.hu.shape == sample.bone.shape == sample.known.shape
        assert not any(n % 16 for n in sample.hu.shape)
        assert bool(sample.known[sample.bone > 0].all())
        assert -1024 <= float(sample.hu.min()) <= float(sample.hu.max()) <= 3071


def test_unchanged_a_sample_is_the_case(tmp_path):
    path = prepared(tmp_path / "a.npz")
    case, sample = Case.load(path), CaseSampler([path], STILL).sample(0)
    inside = sample.known.numpy()
    assert inside.sum() == case.known.sum()
    found = {label: int((sample.bone == label).sum()) for label in BALLS}
    assert found == {label: int((case.bone == label).sum()) for label in BALLS}


def test_a_mirrored_sample_has_left_and_right_exchanged(tmp_path):
    path = prepared(tmp_path / "a.npz")
    plain = CaseSampler([path], STILL).sample(0)
    mirrored = CaseSampler([path], replace(STILL, mirror_share=1.0)).sample(0)
    table = torch.from_numpy(cases.mirrored_labels())
    assert torch.equal(mirrored.bone, table[plain.bone.flip(0).long()])
    assert torch.allclose(mirrored.hu, plain.hu.flip(0), atol=0.1)
    # The left hip lies to the left (low x) in both, and nearer to the middle in the plain one alone.
    for sample, left_is_nearer in ((plain, True), (mirrored, False)):
        at = {n: centre_of(sample.bone.numpy(), n)[0] for n in (17, 47, 48)}
        assert at[47] < at[17] < at[48]
        assert (at[17] - at[47] < at[48] - at[17]) == left_is_nearer


def test_every_sided_bone_has_its_counterpart():
    table = cases.mirrored_labels()
    for bone in ALL_BONES:
        other = BY_ID[int(table[bone.id])]
        assert table[other.id] == bone.id
        assert (other.side != bone.side) == bool(bone.side)
        assert other.group == bone.group


def test_cases_are_read_once_and_again_when_they_change(tmp_path):
    write_patient(tmp_path / "in" / "anna")
    write_patient(tmp_path / "in" / "ben")
    (tmp_path / "in" / "ben" / "annotated.txt").write_text("L4\nL5\n")
    said: list[str] = []
    paths = prepare(tmp_path / "in", tmp_path / "out", "petbone", "all", said.append)
    assert [path.name for path in paths] == ["anna.npz", "ben.npz"]
    assert said == ["reading anna", "reading ben"]
    assert set(np.unique(Case.load(paths[1]).bone)) == {0, 16, 17}
    assert prepare(tmp_path / "in", tmp_path / "out", "petbone", "all", said.append) == paths
    assert len(said) == 2
    prepare(tmp_path / "in", tmp_path / "out", "petbone", ["L4"], said.append)
    assert said[2:] == ["reading anna"]
    assert prepare(tmp_path / "out", tmp_path / "none", "petbone") == paths


def test_a_table_that_names_few_bones_leaves_the_rest_unknown(tmp_path):
    ct, labels = patient()
    table = tmp_path / "two.csv"
    table.write_text("label,name\n16,L4\n17,L5\n")
    two = labels.with_data(np.where(labels.data < 20, labels.data, 0).astype(np.uint8))
    write_patient(tmp_path / "in" / "anna", two)
    (path,) = prepare(tmp_path / "in", tmp_path / "out", str(table))
    expected = case_of("anna", ct, two, LabelTable.load(str(table)), {16, 17})
    np.testing.assert_array_equal(Case.load(path).known, expected.known)
    assert Case.load(path).digest() == expected.digest()


def test_refused_folders(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        prepare(tmp_path / "none", tmp_path / "out", "petbone")
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(InputError, match="no cases in it"):
        prepare(folder, tmp_path / "out", "petbone")
    (folder / "anna").mkdir()
    (folder / "anna" / "ct.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"has no labels\.nii\.gz"):
        prepare(folder, tmp_path / "out", "petbone")
    (folder / "anna_ct.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="holds images itself"):
        prepare(folder, tmp_path / "out", "petbone")
    (folder / "x.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a prepared case"):
        prepare(folder, tmp_path / "out", "petbone")


def test_refused_options(tmp_path):
    write_patient(tmp_path / "in" / "anna")
    with pytest.raises(InputError, match="expected 'all', 'table' or a list"):
        prepare(tmp_path / "in", tmp_path / "out", "petbone", "some")
    with pytest.raises(InputError, match="annotated: T99"):
        prepare(tmp_path / "in", tmp_path / "out", "petbone", ["T1", "T99"])
    with pytest.raises(InputError, match="no bone"):
        bones_named([], "annotated")
    with pytest.raises(InputError, match="no such label table"):
        prepare(tmp_path / "in", tmp_path / "out", "somebody")
    (tmp_path / "in" / "anna" / "annotated.txt").write_text("heart")
    with pytest.raises(InputError, match=r"anna/annotated\.txt: heart"):
        prepare(tmp_path / "in", tmp_path / "out", "petbone")


def test_refused_masks():
    ct, labels = patient()
    with pytest.raises(InputError, match="is not on the grid"):
        case_of("a", ct, labels.cropped((slice(0, 9), slice(0, 9), slice(0, 9))), PETBONE, EVERY)
    with pytest.raises(InputError, match=r"case a: labels\.nii\.gz: 1 labels are not in the table"):
        case_of("a", ct, labels.with_data(np.where(labels.data, 99, 0).astype(np.uint8)), PETBONE, EVERY)
    with pytest.raises(InputError, match="none of the annotated bones"):
        case_of("a", ct, labels, PETBONE, {1, 2})
    empty = Volume(np.zeros(labels.data.shape, np.uint8), labels.grid, Unit.LABEL)
    with pytest.raises(InputError, match="none of the annotated bones"):
        case_of("a", ct, empty, PETBONE, EVERY)


def test_refused_arrays():
    hu, bone = np.zeros((4, 4, 4), np.int16), np.ones((4, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="one 3-D shape"):
        Case("a", hu, bone[:2], bone > 0)
    with pytest.raises(ValueError, match="must be known"):
        Case("a", hu, bone, bone == 0)


def test_a_scan_larger_than_a_field_is_cut_and_a_smaller_one_filled_up(shared, tmp_path):
    """The crop of a real lumbar spine: 1.5 mm, axes P, I, R, three vertebrae of which one is L3."""
    folder = shared / "scans" / "tptbox_l3"
    if not folder.is_dir():
        pytest.skip("no crop of a lumbar spine in ../shared/scans")
    case = tmp_path / "in" / "l3"
    case.mkdir(parents=True)
    (case / "ct.nii.gz").symlink_to(folder / "sub-ct_label-22_ct.nii.gz")
    (case / "labels.nii.gz").symlink_to(folder / "sub-ct_seg-vert_label-22_msk.nii.gz")
    table = tmp_path / "verse.csv"
    table.write_text("label,name\n21,L2\n22,L3\n23,L4\n")
    (path,) = prepare(tmp_path / "in", tmp_path / "out", str(table))
    sample = CaseSampler([path], STILL).sample(1)
    assert max(sample.hu.shape) <= 48
    assert 15 in sample.bone.unique().tolist()
    assert set(sample.bone.unique().tolist()) <= {0, 14, 15, 16}
