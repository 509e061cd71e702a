"""Hotspots of two PETs matched: thirty foci with splits, merges and new ones; what holds of any two."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from motion_fixtures import Days, at, moved, moved_days, rigid
from petbone.anatomy import BY_ID, BY_NAME
from petbone.bone_motion import BoneMotion, bone_motions
from petbone.matching import COLUMNS, match_hotspots, shared_volumes
from petbone.volume import Grid, Unit, Volume

Spot = tuple[tuple[float, float, float], float, str]
"""Middle in mm, radius in mm, bone."""


def image(spots: list[Spot], voxel_mm: float = 3.0, flip: bool = False) -> tuple[Volume, pd.DataFrame]:
    """Hotspot numbers of balls in a field of 180 x 180 x 240 mm, and their table."""
    shape = tuple(round(n / voxel_mm) for n in (180, 180, 240))
    matrix = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    if flip:
        matrix[0, 0], matrix[0, 3] = -voxel_mm, voxel_mm * (shape[0] - 1)
    grid = Grid((shape[0], shape[1], shape[2]), matrix)
    mm = grid.mm(np.stack(np.indices(shape), axis=-1).reshape(-1, 3)).reshape(*shape, 3)
    numbers = np.zeros(shape, np.uint16)
    rows = []
    for n, (middle, radius, bone) in enumerate(spots, start=1):
        inside = ((mm - middle) ** 2).sum(-1) <= radius**2
        numbers[inside & (numbers == 0)] = n
        volume = float((numbers == n).sum() * grid.voxel_ml)
        assert volume > 0
        rows.append(
            {"hotspot": n, "bone": bone, "volume_ml": volume, "suv_max": 10.0 + n, "tlu_g": 8 * volume}
        )
    return Volume(numbers, grid, Unit.LABEL), pd.DataFrame(
        rows, columns=["hotspot", "bone", "volume_ml", "suv_max", "tlu_g"]
    )


def lattice(count: int) -> list[tuple[float, float, float]]:
    return [(25.0 + 42 * (n % 4), 25.0 + 42 * (n // 4 % 4), 25.0 + 42 * (n // 16)) for n in range(count)]


def study(seed: int) -> tuple[list[Spot], list[Spot], set[tuple[str, int | None, int | None]]]:
    """Thirty foci at either time: 18 move by up to 4 mm and change size, 3 split, 3 merge, 3 go, 3 come."""
    rng = np.random.default_rng(seed)
    places = [np.array(place) for place in lattice(48)]
    order = rng.permutation(48)
    first: list[Spot] = []
    second: list[Spot] = []
    truth: set[tuple[str, int | None, int | None]] = set()

    def add(spots: list[Spot], middle: np.ndarray, radius: float, bone: str) -> int:
        spots.append(((float(middle[0]), float(middle[1]), float(middle[2])), radius, bone))
        return len(spots)

    for n in order[:18]:
        move = rng.uniform(-1, 1, 3)
        move *= rng.uniform(0, 4) / np.linalg.norm(move)
        one = add(first, places[n], rng.uniform(6, 11), f"b{n}")
        two = add(second, places[n] + move, rng.uniform(6, 11), f"b{n}")
        truth.add(("matched", one, two))
    for n in order[18:21]:
        one = add(first, places[n], 13.0, f"b{n}")
        large = add(second, places[n] - [5, 0, 0], 6.5, f"b{n}")
        small = add(second, places[n] + [8, 0, 0], 4.5, f"b{n}")
        truth |= {("matched", one, large), ("split", one, small)}
    for n in order[21:24]:
        large = add(first, places[n] - [5, 0, 0], 6.5, f"b{n}")
        small = add(first, places[n] + [8, 0, 0], 4.5, f"b{n}")
        two = add(second, places[n], 13.0, f"b{n}")
        truth |= {("matched", large, two), ("merged", small, two)}
    for n in order[24:27]:
        truth.add(("first only", add(first, places[n], 8.0, f"b{n}"), None))
    for n in order[27:30]:
        truth.add(("second only", None, add(second, places[n], 8.0, f"b{n}")))
    return first, second, truth


def relations(table: pd.DataFrame) -> set[tuple[str, int | None, int | None]]:
    def number(value: object) -> int | None:
        return None if pd.isna(value) else int(value)  # type: ignore[call-overload]

    return {(r.relation, number(r.hotspot_1), number(r.hotspot_2)) for r in table.itertuples()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("voxel_mm", "flip"), [(3.0, False), (4.0, True)])
def test_thirty_foci(seed: int, voxel_mm: float, flip: bool) -> None:
    """Precision and recall of every relation are 1, whichever grid the second PET has."""
    first, second, truth = study(seed)
    assert (len(first), len(second)) == (30, 30)
    a, b = image(first), image(second, voxel_mm, flip)
    table = match_hotspots(a[0], b[0], a[1], b[1])
    assert list(table.columns) == COLUMNS
    assert relations(table) == truth
    # Seen from the other side splits are merges, and the rest is the same.
    swap = {"split": "merged", "merged": "split", "first only": "second only", "second only": "first only"}
    mirrored = {(swap.get(kind, kind), two, one) for kind, one, two in truth}
    assert relations(match_hotspots(b[0], a[0], b[1], a[1])) == mirrored


def test_numbers_of_a_pair() -> None:
    a, b = image([((60, 60, 60), 9, "L3")]), image([((63, 60, 60), 12, "L3")])
    row = match_hotspots(a[0], b[0], a[1], b[1]).iloc[0]
    assert row.overlap == pytest.approx(1.0)
    assert row.distance_mm == pytest.approx(3.0, abs=0.01)
    assert row.volume_ratio == pytest.approx(b[1].volume_ml[0] / a[1].volume_ml[0])
    assert row.suv_max_ratio == pytest.approx(1.0)
    assert row.tlu_ratio == pytest.approx(row.volume_ratio)


def test_itself() -> None:
    a = image(study(0)[0])
    table = match_hotspots(a[0], a[0], a[1], a[1])
    assert (table.relation == "matched").all()
    assert (table.hotspot_1 == table.hotspot_2).all()
    assert np.allclose(table[["overlap", "volume_ratio", "suv_max_ratio"]], 1, rtol=1e-12)
    assert (table.distance_mm == 0).all()


@pytest.mark.parametrize(
    ("away_mm", "bone", "relation"),
    [(14, "L3", "matched"), (14, "L4", "first only"), (30, "L3", "first only")],
)
def test_near_misses(away_mm: float, bone: str, relation: str) -> None:
    """Two foci of 5 mm radius that share nothing are one only in one bone and within 8 mm of each other."""
    a, b = image([((60, 60, 60), 5, "L3")]), image([((60 + away_mm, 60, 60), 5, bone)])
    table = match_hotspots(a[0], b[0], a[1], b[1])
    assert table.relation[0] == relation
    assert len(table) == (1 if relation == "matched" else 2)


def test_overlap_counts_more_than_nearness() -> None:
    """The assignment looks at all pairs: a near neighbour does not take the partner of one that overlaps."""
    a = image([((60, 60, 60), 7, "L3"), ((80, 60, 60), 7, "L3")])
    b = image([((76, 60, 60), 7, "L3")])
    assert relations(match_hotspots(a[0], b[0], a[1], b[1])) == {("matched", 2, 1), ("first only", 1, None)}


def test_nothing_on_one_side_or_on_both() -> None:
    a, none = image([((60, 60, 60), 9, "L3")]), image([])
    assert relations(match_hotspots(a[0], none[0], a[1], none[1])) == {("first only", 1, None)}
    assert relations(match_hotspots(none[0], a[0], none[1], a[1])) == {("second only", None, 1)}
    assert match_hotspots(none[0], none[0], none[1], none[1]).empty


def as_motions(by_label: dict[int, np.ndarray]) -> dict[int, BoneMotion]:
    return {label: BoneMotion(motion, 0.0, 0.0, True, "") for label, motion in by_label.items()}


def around(spots: list[Spot], voxel_mm: float) -> tuple[Volume, pd.DataFrame]:
    """Hotspot numbers of balls in a field round all of them, and their table."""
    middles = np.array([middle for middle, _, _ in spots])
    low = middles.min(axis=0) - 40
    shape = np.ceil((middles.max(axis=0) + 40 - low) / voxel_mm).astype(int)
    matrix = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    matrix[:3, 3] = low
    grid = Grid((shape[0], shape[1], shape[2]), matrix)
    numbers = np.zeros(grid.shape, np.uint16)
    rows = []
    for n, (middle, radius, bone) in enumerate(spots, start=1):
        first = np.floor(grid.ijk(middle) - radius / voxel_mm).astype(int)
        ijk = first + np.stack(np.indices([int(2 * radius / voxel_mm) + 3] * 3), axis=-1).reshape(-1, 3)
        ijk = ijk[((grid.mm(ijk) - middle) ** 2).sum(axis=1) <= radius**2]
        assert not numbers[tuple(ijk.T)].any()
        numbers[tuple(ijk.T)] = n
        volume = len(ijk) * grid.voxel_ml
        rows.append({"hotspot": n, "bone": bone, "volume_ml": volume, "suv_max": 10.0 + n, "tlu_g": volume})
    return Volume(numbers, grid, Unit.LABEL), pd.DataFrame(rows)


def two_days(days: Days, seed: int) -> tuple[list[Spot], list[Spot], set[tuple[str, int | None, int | None]]]:
    """`study` with its foci in bones, at least 45 mm apart on both days, the second where they went."""
    rng = np.random.default_rng(seed)
    inside = np.argwhere(days.first.data > 0)
    sites: list[tuple[np.ndarray, np.ndarray, int]] = []
    while len(sites) < 30:
        ijk = inside[rng.integers(len(inside))]
        label = int(days.first.data[tuple(ijk)])
        here = days.first.grid.mm(ijk)
        there = moved(here, days.truth[label])
        if all(min(np.linalg.norm(here - a), np.linalg.norm(there - b)) > 45 for a, b, _ in sites):
            sites.append((here, there, label))
    one, two, truth = study(seed)
    # Every focus of `study` stands beside one place of its lattice: its bone's name tells which.
    places = {name: n for n, name in enumerate(dict.fromkeys(bone for _, _, bone in [*one, *two]))}
    days_spots: list[list[Spot]] = [[], []]
    for day, spots in enumerate((one, two)):
        for middle, radius, name in spots:
            here, _, label = sites[places[name]]
            mm = here + np.array(middle) - lattice(48)[int(name[1:])]
            mm = moved(mm, days.truth[label]) if day else mm
            days_spots[day].append(((float(mm[0]), float(mm[1]), float(mm[2])), radius, BY_ID[label].name))
    return days_spots[0], days_spots[1], truth


@pytest.fixture(scope="module")
def days() -> Days:
    return moved_days(1)


@pytest.mark.parametrize("voxel_mm", [(4.0, 4.0), (4.0, 3.0), (3.0, 4.0)])
def test_two_days_by_the_true_motions(days: Days, voxel_mm: tuple[float, float]) -> None:
    """Moved by up to 20 degrees and 50 mm, arms and head by themselves, on whichever grids: 19 of 20.

    Of a focus of six voxels at the rim of another, the voxels of an oblique grid may tell less than a half.
    """
    for seed in range(2):
        first, second, truth = two_days(days, seed)
        a, b = around(first, voxel_mm[0]), around(second, voxel_mm[1])
        table = match_hotspots(a[0], b[0], a[1], b[1], as_motions(days.truth))
        found = relations(table)
        assert len(found & truth) >= 0.95 * max(len(found), len(truth))
        matched = table[table.relation == "matched"]
        assert (matched.bone_1 == matched.bone_2).all()
        ratio = (
            b[1].volume_ml[matched.hotspot_2 - 1].to_numpy()
            / a[1].volume_ml[matched.hotspot_1 - 1].to_numpy()
        )
        assert np.array_equal(matched.volume_ratio, ratio)


def test_two_days_by_the_motions_that_were_found(days: Days) -> None:
    """From the bone maps alone; 19 of 20 relations, and without the motions hardly any."""
    motions = bone_motions(days.first, days.second)
    for seed in range(2):
        first, second, truth = two_days(days, seed)
        a, b = around(first, 4.0), around(second, 3.5)
        found = relations(match_hotspots(a[0], b[0], a[1], b[1], motions))
        assert len(found & truth) >= 0.95 * max(len(found), len(truth))
        unmoved = relations(match_hotspots(a[0], b[0], a[1], b[1]))
        assert len(unmoved & truth) < 0.5 * len(truth)


def test_no_motion_is_no_change() -> None:
    first, second, _ = study(3)
    a, b = image(first), image(second, 4.0)
    for table in (a[1], b[1]):
        table["bone"] = "L3"
    still = as_motions({BY_NAME["L3"].id: np.eye(4)})
    plain = match_hotspots(a[0], b[0], a[1], b[1])
    pd.testing.assert_frame_equal(match_hotspots(a[0], b[0], a[1], b[1], still), plain, check_exact=True)


def test_without_any_way_nothing_is_matched() -> None:
    """On one grid and one place by their headers: no bone tells whether that is one place of the body."""
    first, second, _ = study(3)
    for spacing in (3.0, 4.0):
        a, b = image(first), image(second, spacing)
        for table in (a[1], b[1]):
            table["bone"] = "L3"
        found = match_hotspots(a[0], b[0], a[1], b[1], {})
        assert found.relation.tolist() == ["first only"] * len(a[1]) + ["second only"] * len(b[1])
        shared, ones, twos = shared_volumes(a[0], b[0], b[1], {})
        assert not shared.any()
        assert (ones > 0).all()
        assert (twos > 0).all()


def test_moved_by_its_header() -> None:
    """The same array lying elsewhere, brought back: the table is that of the PET beside itself."""
    a = image(study(0)[0])
    a[1]["bone"] = "L3"
    motion = rigid((7, -12, 20), (30, -45, 12))
    b = Volume(a[0].data, at(a[0].grid, motion), Unit.LABEL)
    table = match_hotspots(a[0], b, a[1], a[1], as_motions({BY_NAME["L3"].id: motion}))
    same = match_hotspots(a[0], a[0], a[1], a[1])
    pd.testing.assert_frame_equal(table, same, rtol=0, atol=1e-9)


@pytest.mark.parametrize("voxel_mm", [3.0, 2.0, 4.0])
def test_every_bone_by_its_own_motion(voxel_mm: float) -> None:
    """Two foci change places: with the motions of their bones each is itself, nothing shared is lost."""
    left, right = (60.0, 60.0, 60.0), (108.0, 60.0, 60.0)
    a = image([(left, 9, "rib_left_3"), (right, 12, "rib_right_3")])
    b = image([(right, 9, "rib_left_3"), (left, 12, "rib_right_3")], voxel_mm)
    shift = {"rib_left_3": (48, 0, 0), "rib_right_3": (-48, 0, 0)}
    motions = as_motions({BY_NAME[name].id: rigid((0, 0, 0), mm) for name, mm in shift.items()})
    table = match_hotspots(a[0], b[0], a[1], b[1], motions)
    assert relations(table) == {("matched", 1, 1), ("matched", 2, 2)}
    # Shifts by whole voxels: as if the second had not moved.
    still = image([(left, 9, "rib_left_3"), (right, 12, "rib_right_3")], voxel_mm)
    plain = match_hotspots(a[0], still[0], a[1], still[1])
    pd.testing.assert_frame_equal(table, plain, rtol=0, atol=1e-9)
    wrong = match_hotspots(a[0], b[0], a[1], b[1])
    assert relations(wrong) == {("matched", 1, 2), ("matched", 2, 1)}


@pytest.mark.parametrize("name", ["L3", "", None])
def test_a_bone_without_a_motion_goes_with_the_others(name: str | None) -> None:
    a, b = image([((60, 60, 60), 9, "L3")]), image([((96, 60, 60), 9, "L3")])
    b[1]["bone"] = pd.Series([name], dtype=object)
    shifts = {"L2": (36, 0, 0), "L4": (36, 3, 0), "femur_left": (0, 80, 0)}
    motions = as_motions({BY_NAME[n].id: rigid((0, 0, 0), mm) for n, mm in shifts.items()})
    table = match_hotspots(a[0], b[0], a[1], b[1], motions)
    assert relations(table) == {("matched", 1, 1)}
    assert table.distance_mm[0] <= 3.01
