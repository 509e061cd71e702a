"""Flags: a hotspot at a joint, at a disc or beside hot soft tissue gets one, a hotspot elsewhere none."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from conftest import affine, rotation
from petbone.anatomy import ALL_BONES, BY_ID, BY_NAME
from petbone.benign import LARGEST_ML, Flag, Surroundings, flag_texts
from petbone.endplates import COLUMN, SACRUM, find_bodies, find_discs
from petbone.hotspots import HotspotRule, find_hotspots
from petbone.indices import index_table, parse_indices, published_indices
from petbone.joints import JOINTS
from petbone.nearby import STEP_MM, labels_at, nearby_mm
from petbone.phantom import SMALL, Hotspot, Patient, PhantomSpec, make_patient
from petbone.phantom.skeleton import build
from petbone.resample import Occupancy, occupancy
from petbone.spill import VEIN
from petbone.volume import Grid, Unit, Volume

EVERYTHING = dict.fromkeys((bone.id for bone in ALL_BONES), 1.0)
TEN = HotspotRule("ten", 10.0)
EVERY_BONE = tuple(bone.id for bone in ALL_BONES)


@dataclass(frozen=True)
class Scene:
    """Blocks of bone and balls of heat given in world mm, on grids turned any way about the origin."""

    axes: np.ndarray
    reach_mm: float = 54.0

    def grid(self, spacing: tuple[float, float, float]) -> Grid:
        shape = tuple(int(2 * self.reach_mm / s) for s in spacing)
        middle = affine(self.axes, spacing, (0, 0, 0))[:3, :3] @ ((np.array(shape) - 1) / 2)
        return Grid(shape, affine(self.axes, spacing, tuple(-middle)))

    def bones(self, blocks: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]) -> Volume:
        """Each block by name (a slash and more tells blocks of one bone apart): lowest and highest corner."""
        grid = self.grid((1.5, 1.5, 2.0))
        world = grid.mm(np.moveaxis(np.indices(grid.shape), 0, -1))
        data = np.zeros(grid.shape, np.uint8)
        for name, (low, high) in blocks.items():
            data[((world >= low) & (world <= high)).all(axis=-1)] = BY_NAME[name.split("/")[0]].id
        return Volume(data, grid, Unit.LABEL)

    def suv(self, balls: list[tuple[tuple[float, ...], float, float]], blur_mm: float = 0.0) -> Volume:
        """Each ball by its middle, radius and SUV; 1 elsewhere."""
        grid = self.grid((3.0, 3.0, 3.0))
        world = grid.mm(np.moveaxis(np.indices(grid.shape), 0, -1))
        data = np.ones(grid.shape, np.float32)
        for middle, radius, value in balls:
            data[np.linalg.norm(world - middle, axis=-1) <= radius] = value
        return Volume(ndimage.gaussian_filter(data, blur_mm / 2.355 / 3.0), grid, Unit.SUV)


def flagged(bones: Volume, suv: Volume, rule: HotspotRule = TEN) -> list[tuple[Flag, ...]]:
    """The flags of every hotspot, in their order."""
    occupied = occupancy(bones, suv.grid)
    hotspots = find_hotspots(suv, occupied, rule)
    flags = Surroundings(suv, occupied, bones).flags(hotspots, rule.bones)
    return [flags.get(n, ()) for n in range(1, int(hotspots.data.max()) + 1)]


def names(flags: tuple[Flag, ...]) -> list[str]:
    return [flag.name for flag in flags]


# Two slabs with a gap of one voxel of the map at most between them, across x.
SLABS = {"sacrum": ((-45, -30, -30), (-0.7, 30, 30)), "hip_right": ((0.7, -30, -30), (45, 30, 30))}


def test_a_ball_at_a_joint_faces_it_and_one_away_does_not(axes):
    scene = Scene(axes)
    bones = scene.bones(SLABS)
    at, away = flagged(bones, scene.suv([((3, 10, -10), 6, 30), ((30, -10, 10), 6, 20)]))
    assert names(at) == ["sacroiliac joint"]
    assert at[0].code == "joint"
    assert away == ()
    assert "within 8 mm of sacrum and hip_right" in at[0].text


def test_the_share_is_that_of_a_search_by_brute_force(axes):
    scene = Scene(axes)
    bones, suv = scene.bones(SLABS), scene.suv([((5, 0, 0), 9, 30)], blur_mm=5)
    occupied = occupancy(bones, suv.grid)
    hotspots = find_hotspots(suv, occupied, TEN)
    voxel, fraction = occupied.total(TEN.bones)
    inside = hotspots.data.reshape(-1)[voxel] > 0
    uptake = suv.data.reshape(-1)[voxel[inside]] * fraction[inside]
    mm = suv.grid.mm(np.array(np.unravel_index(voxel[inside], suv.grid.shape)).T)
    away = [cKDTree(bones.grid.mm(np.argwhere(bones.data == BY_NAME[n].id))).query(mm)[0] for n in SLABS]
    # A voxel of 3 mm counts in full up to 6.5 mm, not at all from 9.5 mm on.
    part = np.interp(np.maximum(*away), [6.5, 9.5], [1, 0])
    ((flag,),) = flagged(bones, suv)
    said = float(flag.figure.split(" %")[0])
    assert said == pytest.approx(100 * (part * uptake).sum() / uptake.sum(), abs=8)


def test_half_of_the_uptake_must_face_the_joint(axes):
    scene = Scene(axes)
    # The same place, more and more of the bone behind it.
    found = [
        bool(flagged(scene.bones(SLABS), scene.suv([((reach, 0, 0), reach, 30)]))[0])
        for reach in (4.0, 6.0, 14.0, 20.0)
    ]
    assert found == [True, True, False, False]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("hip_left", "femur_left"), "hip joint"),
        (("hip_left", "hip_right"), "pubic symphysis"),
        (("sternum", "clavicle_left"), "sternoclavicular joint"),
        (("sternum", "rib_left_1"), "sternocostal joint"),
        (("clavicle_right", "scapula_right"), "acromioclavicular joint"),
        (("scapula_right", "humerus_right"), "glenohumeral joint"),
        (("rib_left_4", "T4"), "costovertebral joint"),
        (("skull", "mandible"), "jaw joint or teeth"),
        (("femur_left", "humerus_left"), None),
        (("rib_left_4", "rib_left_5"), None),
    ],
)
def test_every_kind_of_joint_has_its_name(pair, said):
    scene = Scene(np.eye(3))
    slabs = dict(zip(pair, SLABS.values(), strict=True))
    every = replace(TEN, bones=EVERY_BONE)
    (flags,) = flagged(scene.bones(slabs), scene.suv([((0, 0, 0), 7, 30)]), every)
    assert names(flags) == ([said] if said else [])


def test_joints_are_of_bones_that_exist_and_have_a_reason():
    for joint in JOINTS:
        assert joint.why
        assert 4 <= joint.reach_mm <= 12  # more than the blur hides, less than the middle of a bone
        pairs = joint.pairs()
        assert len({frozenset(pair) for pair in pairs}) == len(pairs)
        assert all(one in BY_ID and other in BY_ID and one != other for one, other in pairs)


# Beside bone: a slab with soft tissue on its one side.
BESIDE = {"hip_left": ((-45, 30, -30), (-8, 45, 30)), "hip_right": ((8, 30, -30), (45, 45, 30))}


def test_heat_from_a_hot_ball_beside_bone_is_named(axes):
    scene = Scene(axes)
    bones = scene.bones(BESIDE)
    # A bladder that adjoins the bone, blurred into it.
    (flags,) = flagged(bones, scene.suv([((20, 8, 0), 22, 100)], blur_mm=6), replace(TEN, threshold=15))
    assert [flag.code for flag in flags] == ["spill_in"]
    assert names(flags) == ["spill-in from bladder"]


def test_a_focus_of_its_own_beside_hotter_tissue_is_none_of_it(axes):
    scene = Scene(axes)
    balls = [((20, 39, 0), 6, 40), ((20, 0, 0), 20, 100)]  # a valley of 1 between them
    (flags,) = flagged(scene.bones(BESIDE), scene.suv(balls, blur_mm=4), replace(TEN, threshold=15))
    assert flags == ()


def test_bone_that_is_hottest_itself_is_not_lit_from_outside(axes):
    scene = Scene(axes)
    balls = [((20, 36, 0), 8, 120), ((20, 10, 0), 20, 60)]
    first, *_ = flagged(scene.bones(BESIDE), scene.suv(balls, blur_mm=6), replace(TEN, threshold=15))
    assert first == ()


def test_a_rib_that_breathing_moved_off_its_mask_is_no_spill_in(axes):
    scene = Scene(axes)
    bones = scene.bones({"rib_right_7": ((-40, -4, -6), (40, 4, 6))})
    (flags,) = flagged(bones, scene.suv([((0, 6, 0), 7, 60)], blur_mm=5))
    assert flags == ()


@pytest.mark.parametrize(
    ("blocks", "ball", "name"),
    [
        ({"humerus_left": ((-85, -8, -40), (-65, 8, 40))}, (-46, 0, 0), VEIN),
        ({"clavicle_right": ((20, -8, 76), (80, 4, 88))}, (72, -27, 82), VEIN),
        ({"clavicle_right": ((20, -8, 76), (80, 4, 88))}, (28, -27, 82), "spill-in from soft tissue"),
        ({"rib_left_12": ((-85, -30, -8), (-30, -22, 8))}, (-50, -3, 0), "spill-in from kidney"),
        ({"rib_right_12": ((30, -30, -8), (85, -22, 8))}, (50, -3, 0), "spill-in from kidney or liver"),
        ({"rib_right_12": ((30, 60, -8), (85, 68, 8))}, (50, 41, 0), "spill-in from soft tissue"),
    ],
)
def test_the_place_of_hot_soft_tissue_is_told_from_the_bones_round_it(blocks, ball, name):
    scene = Scene(rotation(17.0), reach_mm=100.0)
    column = {"T12": ((-15, -20, -15), (15, 10, 15)), "L1": ((-15, -20, 20), (15, 10, 45))}
    rule = HotspotRule("x", 12.0, bones=EVERY_BONE)
    (flags,) = flagged(scene.bones(column | blocks), scene.suv([(ball, 19, 150)], blur_mm=6), rule)
    assert names(flags) == [name]
    assert flags[0].code == ("injection" if name == VEIN else "spill_in")
    assert "outside bone" in flags[0].figure


def test_a_bladder_is_one_without_a_sacrum_and_soft_tissue_without_hips():
    scene = Scene(np.eye(3))
    hot = scene.suv([((20, 8, 0), 22, 100)], blur_mm=6)
    rule = replace(TEN, threshold=15)
    sacrum = {"sacrum": ((-10, -52, -20), (10, -40, 20))}
    for blocks in (BESIDE, BESIDE | sacrum):
        (flags,) = flagged(scene.bones(blocks), hot, rule)
        assert names(flags) == ["spill-in from bladder"]
    (flags,) = flagged(scene.bones({"sternum": BESIDE["hip_right"]}), hot, rule)
    assert names(flags) == ["spill-in from soft tissue"]


def test_a_huge_hotspot_has_no_flag():
    scene = Scene(np.eye(3))
    bones = scene.bones(
        {"sacrum": ((-40, -40, -40), (-1.5, 40, 40)), "hip_right": ((1.5, -40, -40), (40, 40, 40))}
    )
    suv = scene.suv([((0, 0, 0), 200, 20)])
    assert (bones.data > 0).sum() * bones.grid.voxel_ml > LARGEST_ML
    assert flagged(bones, suv) == [()]


def test_no_hotspots_have_no_flags():
    scene = Scene(np.eye(3))
    assert flagged(scene.bones(SLABS), scene.suv([])) == []


def test_texts_of_hotspots():
    flags = {2: (Flag("disc", "disc", "1"), Flag("joint", "hip joint", "2"))}
    assert flag_texts(flags, [1, 2]) == [None, "disc: 1; hip joint: 2"]


def test_images_of_another_grid_are_refused():
    scene, other = Scene(np.eye(3)), Scene(rotation(17.0))
    suv, bones = scene.suv([((3, 0, 0), 6, 30)]), scene.bones(SLABS)
    occupied = occupancy(bones, suv.grid)
    with pytest.raises(ValueError, match="another grid than the SUV"):
        Surroundings(other.suv([]), occupied, bones)
    hotspots = find_hotspots(suv, occupied, TEN)
    with pytest.raises(ValueError, match="hotspots lie on another grid"):
        Surroundings(suv, occupied, bones).flags(
            Volume(hotspots.data, other.suv([]).grid, Unit.LABEL), TEN.bones
        )


INDICES = """
[[index]]
name = "volume"
statistic = "volume_ml"
threshold = 10.0
[[index]]
name = "uptake"
statistic = "tlu_g"
threshold = 10.0
[[index]]
name = "share"
statistic = "volume_percent"
threshold = 10.0
bones = ["sacrum", "hip_right"]
[[index]]
name = "mean"
statistic = "suv_mean"
"""


def test_indices_with_and_without_flagged_hotspots_are_arithmetic(axes):
    scene = Scene(axes)
    bones = scene.bones(SLABS)
    suv = scene.suv([((3, 10, -10), 6, 30), ((30, -10, 10), 6, 20)])
    occupied = occupancy(bones, suv.grid)
    around = Surroundings(suv, occupied, bones)
    indices = parse_indices(INDICES, "mine")
    table = index_table(indices, suv, occupied, EVERYTHING, "naf", None, around).set_index("index")
    voxel, fraction = occupied.total()
    value, ml = suv.data.reshape(-1)[voxel], fraction * suv.grid.voxel_ml
    assert table.value["volume"] == pytest.approx(ml[value >= 10].sum())
    assert table.value_unflagged["volume"] == pytest.approx(ml[value == 20].sum())
    assert table.value_unflagged["uptake"] == pytest.approx(20 * ml[value == 20].sum())
    assert table.value_unflagged["share"] == pytest.approx(100 * ml[value == 20].sum() / ml.sum())
    assert table.flagged_ml["volume"] == pytest.approx(ml[value == 30].sum())
    assert table.flagged_hotspots[["volume", "uptake", "share"]].tolist() == [1, 1, 1]
    assert table.loc["mean", ["value_unflagged", "flagged_hotspots", "flagged_ml"]].isna().all()
    # What was there before does not change.
    bare = index_table(indices, suv, occupied, EVERYTHING, "naf").set_index("index")
    new = ["value_unflagged", "flagged_hotspots", "flagged_ml"]
    assert bare[new].isna().all(axis=None)
    assert table.drop(columns=new).equals(bare.drop(columns=new))


def test_without_flags_an_index_is_what_it_was(axes):
    scene = Scene(axes)
    bones, suv = scene.bones(SLABS), scene.suv([((30, -10, 10), 6, 20)])
    occupied = occupancy(bones, suv.grid)
    around = Surroundings(suv, occupied, bones)
    table = index_table(published_indices(), suv, occupied, EVERYTHING, "naf", None, around)
    ruled = table[table.threshold.notna() & (table["index"] != "SUV3")]
    assert (ruled.value == ruled.value_unflagged).all()
    assert (ruled.flagged_ml == 0).all()
    nothing = bones.with_data(np.zeros_like(bones.data))
    empty = occupancy(nothing, suv.grid)
    table = index_table(published_indices(), suv, empty, {}, "naf", None, Surroundings(suv, empty, nothing))
    assert table[["value", "value_unflagged", "flagged_hotspots", "flagged_ml"]].isna().all(axis=None)


def test_distances_are_those_of_a_search_by_brute_force(axes):
    rng = np.random.default_rng(0)
    grid = Grid((40, 36, 30), affine(axes, (1.0, 1.3, 2.5), (5, -3, 8)))
    data = np.zeros(grid.shape, np.uint8)
    data[5:15, 4:30, 3:20], data[20:30, 10:20, 12:28], data[33:36, 3:33, 5:25] = 3, 9, 200
    bones = Volume(data, grid, Unit.LABEL)
    points = grid.mm(rng.uniform((2, 2, 2), np.array(grid.shape) - 3, (300, 3)))
    found = nearby_mm(bones, points, 8.0)
    for label in (3, 9, 200):
        away, _ = cKDTree(grid.mm(np.argwhere(data == label))).query(points)
        near = found[label].astype(float)
        coarse = np.linalg.norm([STEP_MM, STEP_MM, STEP_MM]) / 2 + 1.5
        assert (np.abs(near - away)[np.isfinite(near)] <= coarse).all()
        assert np.isfinite(near[away <= 8.0 - coarse]).all()
        assert np.isinf(near[away > 8.0 + coarse]).all()
    here = labels_at(bones, points)
    assert (found[here[here > 0], np.flatnonzero(here)] == 0).all()
    assert np.isinf(found[0]).all()
    assert labels_at(bones, grid.mm([[-1, 5, 5], [7, 7, 7], [40, 0, 0]])).tolist() == [0, 3, 0]


def test_distances_do_not_depend_on_memory(axes):
    rng = np.random.default_rng(1)
    grid = Grid((20, 16, 12), affine(axes, (1.5, 1.5, 2.0), (5, -3, 8)))
    data = rng.integers(0, 3, grid.shape).astype(np.uint8) * (rng.random(grid.shape) < 0.02)
    points = grid.mm(rng.uniform((-2, -2, -2), np.array(grid.shape) + 1, (200, 3)))
    expected = nearby_mm(Volume(data, grid, Unit.LABEL), points, 6.0)
    assert np.isfinite(expected).any()
    wide = np.zeros((40, 16, 12), np.uint8)
    wide[::2] = data
    for other in (np.asfortranarray(data), wide[::2]):
        np.testing.assert_array_equal(nearby_mm(Volume(other, grid, Unit.LABEL), points, 6.0), expected)


def test_scraps_of_bone_and_of_heat_are_borne():
    rng = np.random.default_rng(2)
    grid = Grid((24, 24, 24), affine(rotation(17.0), (2.0, 2.0, 2.5), (0, 0, 0)))
    everywhere = HotspotRule("x", -1.0)
    for n in range(12):
        labels = rng.choice([0, 0, 1, 2, 12, 13, 17, 18, 43, 47, 49, 50, 51, 63, 64], (6, 6, 6))
        data = np.kron(labels, np.ones((4, 4, 4))).astype(np.uint8)
        data[rng.random(data.shape) < n / 12] = 0
        suv = rng.exponential(8, grid.shape).astype(np.float32) - 2
        flags = flagged(Volume(data, grid, Unit.LABEL), Volume(suv, grid, Unit.SUV), everywhere)
        assert all(flag.text for spot in flags for flag in spot)


# A patient with hotspots at known places of the pelvis and the lower spine, in mm from the top of the sacrum.

PELVIS = PhantomSpec(fov_mm=((-140, 140), (-110, 110), (-170, 130)), tracers=("naf",), hotspots=())
PLACES = build(PELVIS.shape).places
SPINE = build(PELVIS.shape).spine


def spot(bone: str, mm: tuple[float, float, float] | np.ndarray, diameter_mm: float = 12.0) -> Hotspot:
    return Hotspot(bone, diameter_mm, {"naf": 40}, tuple(np.asarray(mm, float) - PLACES[bone]))


@pytest.fixture(scope="module")
def healthy() -> Patient:
    return make_patient(PELVIS)


def of_patient(patient: Patient, rule: HotspotRule = TEN, tracer: str = "naf") -> dict[str, list[str]]:
    """Names of flags by the bone of the hotspot; each bone has one hotspot at most."""
    suv = patient.pets[tracer]
    suv = suv.with_data(np.ascontiguousarray(suv.data))
    occupied = occupancy(patient.bones, suv.grid)
    hotspots = find_hotspots(suv, occupied, rule)
    flags = Surroundings(suv, occupied, patient.bones).flags(hotspots, rule.bones)
    return {owner(occupied, hotspots, n): names(flags.get(n, ())) for n in range(1, hotspots.data.max() + 1)}


def owner(occupied: Occupancy, hotspots: Volume, number: int) -> str:
    inside = hotspots.data.reshape(-1)[occupied.voxel] == number
    return BY_ID[int(np.bincount(occupied.label[inside], occupied.fraction[inside]).argmax())].name


def test_hotspots_of_the_phantom_at_joints_are_flagged():
    spots = (
        spot("hip_right", (50, -44, -25)),
        spot("sacrum", (-38, -43, -48)),
        spot("L4", (17, -24, 42)),
    )
    for orientation in ("RAS", "PIL"):
        found = of_patient(make_patient(replace(PELVIS, hotspots=spots, orientation=orientation)))
        assert found == {
            "hip_right": ["sacroiliac joint"],
            "sacrum": ["sacroiliac joint"],
            "L4": ["facet joint"],
        }


def test_hotspots_of_the_phantom_away_from_joints_are_not():
    spots = (
        spot("L4", SPINE["L4"].at.origin, 14),
        spot("hip_left", (-84, 0, -70), 16),
        spot("L2", SPINE["L2"].mm(0, -62, -10), 14),
        spot("sacrum", (0, -30, -45), 14),
    )
    found = of_patient(make_patient(replace(PELVIS, hotspots=spots)), replace(TEN, threshold=8.0))
    assert set(found) >= {"L4", "hip_left", "sacrum"}
    assert all(flags == [] for flags in found.values())


def endplate(name: str, aside: float, side: int) -> np.ndarray:
    """A place 4 mm under an endplate: above (side 1) or below (-1)."""
    body = SPINE[name]
    return body.mm(aside, 2, side * (body.height / 2 - 4))


def test_hotspots_on_facing_endplates_are_flagged_as_a_disc():
    spine = replace(PELVIS, fov_mm=((-60, 60), (-80, 60), (-50, 130)))

    def found(*spots: Hotspot) -> dict[str, list[str]]:
        return of_patient(make_patient(replace(spine, hotspots=spots)))

    facing = spot("L3", endplate("L3", 10, -1)), spot("L4", endplate("L4", 10, 1))
    assert found(*facing) == {"L3": ["disc"], "L4": ["disc"]}
    assert found(facing[1]) == {"L4": []}  # alone it may be anything
    assert found(spot("L3", endplate("L3", -14, -1)), facing[1]) == {"L3": [], "L4": []}  # not opposite
    assert found(spot("L3", endplate("L3", 10, 1)), facing[1]) == {"L3": [], "L4": []}  # the other endplate
    on_sacrum = spot("L5", endplate("L5", 0, -1), 16), spot("sacrum", (0, -6, -6), 16)
    assert found(*on_sacrum) == {"L5": ["disc"], "sacrum": ["disc"]}


def vertebra(name: str, bottom: float) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """A vertebra 24 mm high: body, pedicles and a plate behind the canal."""
    top = bottom + 24
    return {
        name: ((-20, 0, bottom), (20, 30, top)),
        f"{name}/left": ((-16, -16, bottom + 8), (-9, 0, top - 2)),
        f"{name}/right": ((9, -16, bottom + 8), (16, 0, top - 2)),
        f"{name}/plate": ((-16, -24, bottom), (16, -16, top)),
    }


# L3 on L4 with a disc of 3 mm.
COLUMN_OF_TWO = vertebra("L3", 1.5) | vertebra("L4", -25.5)


def test_one_hotspot_that_spans_a_disc_is_flagged(axes):
    bones = Scene(axes).bones(COLUMN_OF_TWO)
    for middle, reach, expected in (
        ((5, 15, 0), 10, {"disc"}),
        ((5, 15, 12), 9, set()),  # within one body
        ((0, 15, 0), 40, set()),  # both vertebrae altogether
        ((0, -20, 0), 5, {"facet joint"}),  # behind the canal
    ):
        found = flagged(bones, Scene(axes).suv([(middle, reach, 30)]))
        assert found
        assert {name for flags in found for name in names(flags)} == expected


def test_a_full_bladder_beside_the_pubis_is_flagged(healthy: Patient):
    suv = healthy.pets["naf"]
    grid = healthy.bones.grid
    world = grid.mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    full = (np.linalg.norm(world - (0, 25, -100), axis=-1) < 32) & (healthy.bones.data == 0)
    held = occupancy(healthy.bones.with_data(full.astype(np.uint8)), suv.grid)
    urine = np.zeros(suv.data.size)
    urine[held.voxel] = 60 * held.fraction
    blurred = ndimage.gaussian_filter(urine.reshape(suv.data.shape), 5 / 2.355 / suv.grid.spacing_mm)
    hot = suv.with_data((suv.data + blurred).astype(np.float32))
    found = flagged(healthy.bones, hot)
    assert found
    assert all(names(flags) == ["spill-in from bladder"] for flags in found)
    assert flagged(healthy.bones, suv) == []


def test_bodies_and_discs_of_the_phantom(healthy: Patient):
    suv = healthy.pets["naf"]
    occupied = occupancy(healthy.bones, suv.grid)
    bodies = find_bodies(healthy.bones, occupied)
    for name in ("L3", "L4", "L5"):
        body, true = bodies[BY_NAME[name].id], SPINE[name]
        assert np.linalg.norm(body.centre_mm - true.at.origin) < 3
        assert body.up @ true.at.axes[2] > 0.98
        assert body.back @ true.at.axes[1] < -0.98
        assert body.rear_mm == pytest.approx(true.depth / 2, abs=5)  # the rear wall is hollow
        assert body.height_mm == pytest.approx(true.height, abs=4)
        assert body.is_behind(true.mm(0, -true.depth / 2 - 8, 0)[None])[0]
        assert not body.is_behind(true.at.origin[None])[0]
    discs = find_discs(healthy.bones, bodies, np.unique(occupied.label).tolist())
    pairs = {(BY_ID[disc.upper].name, BY_ID[disc.lower].name) for disc in discs}
    assert pairs >= {("L2", "L3"), ("L3", "L4"), ("L4", "L5"), ("L5", "sacrum")}
    for disc in discs:
        assert (labels_at(healthy.bones, (disc.upper_mm + disc.lower_mm) / 2) == 0).mean() > 0.9
        gap = np.linalg.norm(disc.upper_mm - disc.lower_mm, axis=1).mean()
        assert 4 < gap < 18


def test_a_missing_vertebra_leaves_no_disc(healthy: Patient):
    data = np.where(healthy.bones.data == BY_NAME["L3"].id, 0, healthy.bones.data)
    bones = healthy.bones.with_data(data)
    occupied = occupancy(bones, healthy.pets["naf"].grid)
    discs = find_discs(bones, find_bodies(bones, occupied), np.unique(occupied.label).tolist())
    assert BY_NAME["L2"].id not in {disc.upper for disc in discs}
    assert COLUMN.index(SACRUM) == len(COLUMN) - 1


@pytest.fixture(scope="module")
def coarse() -> Patient:
    return make_patient(SMALL)


def test_no_metastasis_of_the_default_phantom_is_flagged_in_naf(coarse: Patient):
    for threshold in (10.0, 15.0):
        found = of_patient(coarse, replace(TEN, threshold=threshold))
        assert len(found) >= 5
        assert all(flags == [] for flags in found.values())


def test_the_liver_beside_ribs_is_flagged_and_metastases_are_not_in_choline(coarse: Patient):
    found = of_patient(coarse, HotspotRule("SUV3", 3.0), "choline")
    ribs = {name for name in found if name.startswith("rib_right")}
    assert len(ribs) >= 3  # the liver's edge
    assert all(len(found[name]) == 1 and found[name][0].startswith("spill-in") for name in ribs)
    assert all(flags == [] for name, flags in found.items() if name not in ribs)
