"""How far a PET lies from the CT: known motions are found, within the interval that is stated."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from conftest import affine, rotation
from petbone.alignment import COLUMNS, facts_of, notes_of, table_of
from petbone.anatomy import BY_ID
from petbone.bone_shift import bone_shifts, wanted_tissues
from petbone.phantom import SMALL, make_patient
from petbone.pose import coarse_grid, parameters, pose, rigid
from petbone.register import Alignment, align, moved_frame
from petbone.resample import occupancy
from petbone.shift import Shift, length_and_interval
from petbone.tissues import tissues
from petbone.volume import Grid, Unit, Volume


@pytest.fixture(scope="module")
def patient():
    return make_patient(replace(SMALL, seed=11, fat_mm=22.0, psf_fwhm_mm=7.0))


def motion_about(volume: Volume, mm: tuple[float, float, float], turn_deg: tuple[float, float, float]):
    """(4, 4) of a shift and a turn about the middle of an image."""
    middle = volume.grid.mm((np.array(volume.grid.shape) - 1) / 2)
    return rigid(np.concatenate([mm, np.radians(turn_deg)]), middle)


def displaced(volume: Volume, motion: np.ndarray) -> Volume:
    """The same voxels at other places: exact, nothing is interpolated."""
    return Volume(volume.data, Grid(volume.grid.shape, motion @ volume.grid.mm_from_ijk), volume.unit)


def aligned(pet: Volume, patient, with_ct: bool = True) -> Alignment:
    bones = occupancy(patient.bones, pet.grid)
    found = align(pet, patient.ct if with_ct else None, patient.bones, bones)
    assert found is not None
    return found


def true_mm(motion: np.ndarray, place_mm: np.ndarray) -> np.ndarray:
    return motion[:3, :3] @ place_mm + motion[:3, 3] - place_mm


MOTIONS = (
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((0.0, 2.0, 1.0), (0.0, 0.0, 0.0)),
    ((-5.0, 4.0, 7.0), (0.0, 2.0, -1.0)),
    ((6.0, -8.0, -6.0), (3.0, -2.0, 3.0)),
)


@pytest.mark.parametrize("tracer", ["naf", "choline"])
def test_known_motions(patient, tracer):
    errors, inside = [], []
    for mm, turn_deg in MOTIONS:
        motion = motion_about(patient.ct, mm, turn_deg)
        found = aligned(displaced(patient.pets[tracer], motion), patient)
        assert len(found.bones) >= 60
        for shift in found.bones.values():
            true = true_mm(motion, shift.place_mm)
            length, interval = length_and_interval(shift)
            errors.append(np.linalg.norm(shift.mm - true))
            inside.append(abs(length - np.linalg.norm(true)) <= interval)
            assert np.linalg.norm(found.by_whole(shift.place_mm).mm - true) < 1.0
        assert found.verdict()[0] == (np.linalg.norm(mm) > 4)
    assert np.median(errors) < (0.6 if tracer == "naf" else 1.5)  # half a voxel is 3 mm
    assert np.mean(inside) >= 0.9


def test_the_bones_alone_show_where_naf_lies(patient):
    motion = motion_about(patient.ct, (5.0, -4.0, 6.0), (1.0, 0.0, 2.0))
    found = aligned(displaced(patient.pets["naf"], motion), patient, with_ct=False)
    off = [np.linalg.norm(s.mm - true_mm(motion, s.place_mm)) for s in found.bones.values()]
    assert np.median(off) < 1.0


def test_a_turned_frame_changes_nothing(patient):
    """The same patient in an oblique frame: the same motion, seen from there."""
    motion = motion_about(patient.ct, (-4.0, 5.0, 6.0), (0.0, 1.0, 1.0))
    plain = aligned(displaced(patient.pets["naf"], motion), patient)
    turn = np.eye(4)
    turn[:3, :3] = rotation(17.0)
    turned = replace(patient, ct=displaced(patient.ct, turn), bones=displaced(patient.bones, turn))
    found = aligned(displaced(patient.pets["naf"], turn @ motion), turned)
    for label, shift in plain.bones.items():
        assert np.allclose(found.bones[label].mm, turn[:3, :3] @ shift.mm, atol=0.05)


def test_reversed_and_swapped_axes_change_nothing(patient):
    motion = motion_about(patient.ct, (-4.0, 5.0, 6.0), (0.0, 1.0, 1.0))
    pet = displaced(patient.pets["naf"], motion)
    plain = aligned(pet, patient)
    flip = np.array([[0.0, -1, 0, pet.grid.shape[0] - 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    # New index (i, j, k) is old index (n - 1 - j, k, i).
    data = np.ascontiguousarray(pet.data[::-1].transpose(2, 0, 1))
    other = Volume(data, Grid(data.shape, pet.grid.mm_from_ijk @ flip), pet.unit)
    assert np.allclose(other.grid.mm((2, 0, 3)), pet.grid.mm((pet.grid.shape[0] - 1, 3, 2)))
    found = aligned(other, patient)
    # Not the same voxels are drawn, so it is the same to well within the intervals.
    off = [np.linalg.norm(found.bones[label].mm - shift.mm) for label, shift in plain.bones.items()]
    assert np.median(off) < 0.1
    assert max(off) < 0.6


def test_a_rib_cage_that_breathes_is_no_motion_of_the_whole(patient):
    """Ribs and sternum displaced in the PET alone: their shifts say so, the pelvis stays where it is."""
    ribs = [*range(18, 43)]
    lifted = motion_about(patient.ct, (0.0, 6.0, 8.0), (0.0, 0.0, 0.0))
    moved = occupancy(patient.bones, patient.pets["naf"].grid, grid_mm_from_labels_mm=lifted)
    still = occupancy(patient.bones, patient.pets["naf"].grid)
    suv = np.full(still.grid.shape, 0.5, np.float32).reshape(-1)
    for part, labels in ((still, [n for n in range(1, 63) if n not in ribs]), (moved, ribs)):
        voxel, fraction = part.total(labels)
        suv[voxel] += 4 * fraction
    pet = Volume(suv.reshape(still.grid.shape), still.grid, Unit.SUV)
    found = aligned(pet, patient, with_ct=False)
    assert np.median([np.linalg.norm(found.bones[n].mm) for n in (1, 5, 9, 14, 47, 48, 49)]) < 1.0
    off = [found.bones[n].mm - (0, 6, 8) for n in ribs if n in found.bones]
    assert np.median(np.linalg.norm(off, axis=1)) < 3.0


def test_correcting_by_the_frame_leaves_every_voxel(patient):
    motion = motion_about(patient.ct, (6.0, -5.0, 4.0), (0.0, 2.0, 0.0))
    pet = displaced(patient.pets["naf"], motion)
    found = aligned(pet, patient)
    back = moved_frame(pet, found.pet_mm_from_ct_mm)
    assert np.shares_memory(back.data, pet.data)
    points = patient.bones.grid.mm(np.argwhere(patient.bones.data[::9, ::9, ::9] > 0) * 9)
    before = np.linalg.norm(points @ motion[:3, :3].T + motion[:3, 3] - points, axis=1)
    there = points @ motion[:3, :3].T + motion[:3, 3]
    left = np.linalg.inv(found.pet_mm_from_ct_mm)
    after = np.linalg.norm(there @ left[:3, :3].T + left[:3, 3] - points, axis=1)
    assert after.max() < 0.7 < before.min()
    rest = found.corrected()
    assert np.allclose(rest.pet_mm_from_ct_mm, np.eye(4))
    again = aligned(back, patient)
    # Found once more, from voxels that lie otherwise to the bones.
    off = [np.linalg.norm(again.bones[label].mm - shift.mm) for label, shift in rest.bones.items()]
    assert np.median(off) < 0.5
    assert np.linalg.norm(again.shift.mm) < 0.3


def test_what_tells_nothing_has_no_alignment(patient):
    grid = patient.pets["naf"].grid
    empty = Volume(np.zeros(grid.shape, np.float32), grid, Unit.SUV)
    nothing = Volume(np.zeros(patient.bones.grid.shape, np.uint8), patient.bones.grid, Unit.LABEL)
    assert align(empty, patient.ct, nothing, occupancy(nothing, grid)) is None
    assert np.array_equal(pose(empty, patient.ct, nothing), np.eye(4))
    assert table_of(None).empty
    assert list(table_of(None).columns) == COLUMNS
    assert facts_of(None, "rigid") == {
        "applied": False,
        "why": "the images tell too little of how the PET lies to the CT",
    }
    for suv in (0.0, 1.0):
        uniform = empty.with_data(np.full(grid.shape, suv, np.float32))
        assert align(uniform, patient.ct, patient.bones, occupancy(patient.bones, grid)) is None


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_is_not_applied(patient, seed):
    grid = patient.pets["naf"].grid
    noise = np.random.default_rng(seed).random(grid.shape, dtype=np.float32)
    found = align(Volume(noise, grid, Unit.SUV), patient.ct, patient.bones, occupancy(patient.bones, grid))
    assert found is None or not found.verdict()[0]


# ---- intervals


@pytest.mark.parametrize("length_mm", [0.0, 0.5, 1.0, 2.0, 6.0])
@pytest.mark.parametrize("sd_mm", [(1.0, 1.0, 1.0), (0.3, 0.3, 1.5)])
def test_intervals_of_lengths_hold_the_truth(length_mm, sd_mm):
    """A length is no normal quantity: also near 0 the interval holds the truth in 95 of 100 cases."""
    rng = np.random.default_rng(3)
    turn = Rotation.random(random_state=1).as_matrix()
    covariance = turn @ np.diag(np.square(sd_mm)) @ turn.T
    true = turn @ np.array([0.6, 0.0, 0.8]) * length_mm
    draws = true + rng.standard_normal((1500, 3)) * sd_mm @ turn.T
    answers = [length_and_interval(Shift(np.zeros(3), draw, covariance)) for draw in draws]
    inside = np.mean([abs(length - length_mm) <= interval for length, interval in answers])
    assert 0.93 <= inside <= 0.995


def test_interval_of_a_long_shift_is_that_of_its_direction():
    shift = Shift(np.zeros(3), np.array([50.0, 0.0, 0.0]), np.diag([0.25, 0.01, 0.01]))
    length, interval = length_and_interval(shift)
    assert length == 50.0
    assert interval == pytest.approx(1.96 * 0.5, abs=0.08)


def test_no_length_is_surer_than_chance():
    """By chance the vector found may be much too short; its interval is not."""
    _, interval = length_and_interval(Shift(np.zeros(3), np.zeros(3), np.eye(3)))
    assert interval >= 1.96


# ---- the rule, the table, the notes


def made_up(mm: tuple[float, float, float], sd_mm: float) -> Alignment:
    """Seven bones that all lie aside by `mm`."""
    place = np.array([[0, 0, z] for z in range(0, 700, 100)], float)
    bones = {n + 1: Shift(p, np.array(mm), np.eye(3) * sd_mm**2) for n, p in enumerate(place)}
    motion = np.eye(4)
    motion[:3, 3] = mm
    covariance = np.diag([sd_mm**2] * 3 + [1e-8] * 3)
    return Alignment(motion, place.mean(axis=0), covariance, 0.0, bones, 4.0)


def test_the_rule_is_the_one_that_is_stated():
    may, why = made_up((0.0, 1.9, 0.0), 0.1).verdict()
    assert not may
    assert "less than half a voxel of the PET (2.0 mm)" in why
    may, why = made_up((0.0, 3.0, 0.0), 3.0).verdict()
    assert not may
    assert "less than its uncertainty" in why
    may, why = made_up((0.0, 5.0, 0.0), 0.3).verdict()
    assert may
    assert "5.0 mm off without it, 0.0 mm with it" in why
    other = made_up((0.0, 5.0, 0.0), 0.3)
    against = {n: replace(s, mm=-s.mm) for n, s in other.bones.items()}
    may, why = replace(other, bones=against).verdict()
    assert not may
    assert "instead of" in why


def test_no_motion_farther_than_patients_move():
    far = made_up((0.0, 31.0, 0.0), 0.3)
    may, why = far.verdict()
    assert not may
    assert "hardly belong together" in why
    said = notes_of(far, facts_of(far, "report"), lambda label: BY_ID[label].name)
    assert len(said) == 1
    assert "are they of one examination?" in said[0]
    turned = replace(
        made_up((0.0, 5.0, 0.0), 0.3), pet_mm_from_ct_mm=rigid(np.array([0, 0, 0, 0.2, 0, 0]), np.zeros(3))
    )
    assert turned.is_far


def test_bones_that_lie_well_are_not_taken_away():
    """One motion through a patient who has bent would spoil the half that lay still."""
    whole = made_up((0.0, 5.0, 0.0), 0.3)
    still = replace(whole.bones[1], mm=np.zeros(3))
    bent = replace(whole, bones=whole.bones | {1: still})
    assert bent.made_worse() == [1]
    may, why = bent.verdict()
    assert not may
    assert "1 bones that lie well would lie worse" in why
    assert whole.made_worse() == []


def test_few_bones_keep_the_uncertainty_that_was_taken_for_them():
    few = replace(made_up((0.0, 5.0, 0.0), 2.1), spread_mm=2.0)
    assert few.own(few.bones[1]) is few.bones[1]
    many = replace(few, bones=dict.fromkeys(range(1, 12), few.bones[1]))
    assert np.allclose(many.own(many.bones[1]).covariance, np.eye(3) * (2.1**2 - 2.0**2))


def test_without_a_bone_that_is_sure_nothing_is_applied():
    may, why = replace(made_up((0.0, 5.0, 0.0), 0.3), bones={}).verdict()
    assert not may
    assert "no bone shows where it is" in why


@pytest.mark.parametrize("above", [0.3, 0.6])
def test_a_patient_who_has_bent_is_not_moved(patient, above):
    """All of the PET above a plane has slid aside by two voxels of 6 mm: no one motion is right."""
    pet = patient.pets["naf"]
    data = pet.data.copy()
    plane = int(above * data.shape[2])
    data[:, :, plane:] = np.roll(data[:, :, plane:], 2, axis=0)
    found = aligned(pet.with_data(data), patient)
    may, why = found.verdict()
    assert not may, why
    said = notes_of(found, facts_of(found, "rigid"), lambda label: BY_ID[label].name)
    assert "PET and CT disagree by more than half a voxel at" in said[0]


def test_shafts_alone_do_not_slide(patient):
    """Legs in choline without a CT: the scanner's frame is tried, too."""
    thighs = np.where(np.isin(patient.bones.data, (61, 62)), patient.bones.data, 0).astype(np.uint8)
    bones = patient.bones.with_data(thighs)
    pet = patient.pets["choline"]
    found = align(pet, None, bones, occupancy(bones, pet.grid))
    assert found is None or np.linalg.norm(found.shift.mm) < 6.0
    assert found is None or not found.verdict()[0]


def test_notes_say_what_lies_aside():
    off = made_up((0.0, 5.0, 0.0), 0.3)
    said = notes_of(off, facts_of(off, "report"), lambda label: BY_ID[label].name)
    assert said == [said[0]]
    assert "--align rigid would move it" in said[0]
    applied = facts_of(off, "rigid")
    assert applied["applied"]
    assert applied["pet_mm_from_ct_mm"][1][3] == 5.0
    said = notes_of(off.corrected(), applied, lambda label: BY_ID[label].name)
    assert len(said) == 1
    assert said[0].startswith("the PET was moved onto the CT")
    one = replace(off.corrected(), bones=off.corrected().bones | {20: off.bones[3]})
    said = notes_of(one, {"applied": False, "worth_applying": False}, lambda label: BY_ID[label].name)
    assert said == ["PET and CT disagree by more than half a voxel at rib_left_3 (5 ± 1 mm)"]


def test_table():
    table = table_of(made_up((3.0, 0.0, 4.0), 0.5))
    assert list(table.columns) == COLUMNS
    assert list(table["name"]) == ["whole", *(f"T{n}" for n in range(1, 8))]
    assert np.allclose(table["shift_mm"], 5.0)
    assert np.allclose(table["shift_z_uncertainty_mm"], 1.96 * 0.5)


# ---- parts


def test_tissues_are_counted():
    grid = Grid((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]))
    hu = np.full(grid.shape, 40, np.int16)
    hu[0], hu[1] = -1000, -100
    labels = np.zeros(grid.shape, np.uint8)
    labels[3] = 7
    ct, bones = Volume(hu, grid, Unit.HU), Volume(labels, grid, Unit.LABEL)
    same = tissues(ct, bones, grid, 2)
    assert np.array_equal(same.gas[:, 0, 0], [1, 0, 0, 0])
    assert np.array_equal(same.fat[:, 0, 0], [0, 1, 0, 0])
    assert np.array_equal(same.soft[:, 0, 0], [0, 0, 1, 0])
    assert np.array_equal(same.bone[:, 0, 0], [0, 0, 0, 1])
    coarse, factor = coarse_grid(grid, 4.0)
    assert factor == (2, 2, 2)
    half = tissues(ct, bones, coarse, 2)
    assert np.allclose(half.gas[0], 0.5)
    assert np.allclose(half.fat[0], 0.5)
    assert np.allclose(half.bone[1], 0.5)
    assert np.allclose(half.shown, 1)
    without = tissues(None, bones, grid, 1)
    assert np.array_equal(without.soft[:, 0, 0], [1, 1, 1, 0])
    # A bone map on another grid: what either image does not show is unknown.
    half_map = bones.cropped((slice(0, 4), slice(0, 4), slice(0, 2)))
    apart = tissues(ct, half_map, grid, 1)
    assert np.array_equal(apart.shown[:, :, :2], np.ones((4, 4, 2)))
    assert apart.shown[:, :, 2:].sum() == 0
    assert np.array_equal(apart.fat[:, 0, 0], [0, 1, 0, 0])
    some = np.zeros(grid.shape, bool)
    some[2] = True
    assert tissues(ct, bones, grid, 1, some).shown.sum() == 16
    away = Grid((2, 2, 2), np.array([[1.0, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert tissues(ct, bones, away, 2).shown.sum() == 0


@pytest.mark.parametrize("layout", ["C", "F"])
def test_tissues_are_those_of_the_nearest_voxels(axes, layout):
    rng = np.random.default_rng(3)
    grid = Grid((9, 8, 7), affine(axes, (2.0, 1.5, 3.0), (-11.0, 4.0, 20.0)))
    ct = Volume(rng.integers(-1000, 500, grid.shape).astype(np.int16, order=layout), grid, Unit.HU)
    bones = Volume((rng.random(grid.shape) < 0.3).astype(np.uint8, order=layout), grid, Unit.LABEL)
    for other in (np.eye(3), axes, rotation(17.0)):
        pet = Grid((6, 7, 5), affine(other, (3.1, 2.3, 4.1), tuple(grid.mm((2.2, 1.1, 1.3)))))
        found = tissues(ct, bones, pet, 1)
        every = np.indices(pet.shape).reshape(3, -1).T
        near = np.rint(grid.ijk(pet.mm(every))).astype(int)
        inside = ((near >= 0) & (near < grid.shape)).all(axis=1)
        assert np.array_equal(found.shown.ravel(), inside)
        at = tuple(near[inside].T)
        bone = bones.data[at] > 0
        for part, low, high in ((found.soft, -30, 9999), (found.fat, -300, -30), (found.gas, -9999, -300)):
            expected = ~bone & (ct.data[at] >= low) & (ct.data[at] < high)
            assert np.array_equal(part.ravel()[inside], expected)
        assert np.array_equal(found.bone.ravel()[inside], bone)


def test_what_the_parts_refuse(patient):
    bones = patient.bones
    for points in (0, 7):
        with pytest.raises(ValueError, match="1 to 6 points"):
            tissues(patient.ct, bones, bones.grid, points)
    pet = patient.pets["naf"]
    elsewhere = occupancy(bones, displaced(pet, motion_about(pet, (1.0, 0, 0), (0, 0, 0))).grid)
    around = tissues(None, bones, pet.grid, 1, wanted_tissues(occupancy(bones, pet.grid)))
    with pytest.raises(ValueError, match="one grid"):
        bone_shifts(pet, elsewhere, around, np.eye(4))


def test_rigid_and_its_six_numbers():
    numbers = np.array([1.0, -2.0, 3.0, 0.1, -0.2, 0.05])
    middle = np.array([30.0, 40.0, -50.0])
    assert np.allclose(parameters(rigid(numbers, middle), middle), numbers)


# ---- real scans


@pytest.mark.parametrize("name", ["STS_002", "STS_008", "STS_012", "STS_018", "STS_024"])
def test_hardware_aligned_pairs_stay_where_they_are(name, shared):
    """Real PET/CT of one scanner, FDG, a corner of a body each: below a voxel, and not applied."""
    from petbone.io import PetOptions, read_ct, read_pet
    from petbone.net.segment import Segmenter

    folder = shared / "scans" / "ibsi_sts" / name
    ct = read_ct(folder / "CT_image.nii.gz").volume
    pet = read_pet(folder / "PET_image.nii.gz", PetOptions(units="suv", tracer="fdg")).volume
    bones = Segmenter.load(None, "cpu", 2).segment(ct, None).bones
    found = align(pet, ct, bones, occupancy(bones, pet.grid))
    assert found is not None
    assert np.linalg.norm(found.shift.mm) < pet.grid.spacing_mm.max()
    may, why = found.verdict()
    assert not may, why


def test_table_is_ready_for_csv():
    table = table_of(made_up((0.0, 0.0, 0.0), 1.0))
    assert not table.isna().any().any()
    assert pd.api.types.is_float_dtype(table["shift_mm"])
