"""The benchmark's own counting, on blocks whose every figure is arithmetic."""

from __future__ import annotations

import csv
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import affine
from petbone.anatomy import BY_NAME, colour
from petbone.errors import InputError
from petbone.volume import Grid, Unit, Volume

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
T6, T7, T8, T9, RIB, HIP = (
    BY_NAME[n].id for n in ("T6", "T7", "T8", "T9", "rib_left_12", "hip_left")
)  # fmt: skip
SPACING_MM = (2.0, 2.0, 2.5)  # 0.01 mL a voxel
COLUMNS = ("name", "kind", "x_mm", "y_mm", "z_mm", "certainty", "comment")


@dataclass(frozen=True)
class Modules:
    """The modules of the benchmark, which is no package."""

    run: Any
    scans: Any
    scores: Any
    pictures: Any


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Modules:
    if not BENCHMARKS.is_dir():
        pytest.skip("no benchmarks beside the tests: a source distribution does not carry them")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("segmentation", "segmentation_scans", "segmentation_scores", "segmentation_pictures")
    return Modules(*(importlib.import_module(name) for name in names))


@pytest.fixture
def grid(axes: np.ndarray) -> Grid:
    return Grid((44, 24, 24), affine(axes, SPACING_MM, (-30.0, 50.0, 900.0)))


def labels(grid: Grid, **blocks: tuple[int, int]) -> Volume:
    """Blocks of 10 x 10 cross-section from the first to the last index of the first axis."""
    data = np.zeros(grid.shape, np.uint8)
    for name, (start, stop) in blocks.items():
        data[start:stop, 7:17, 7:17] = BY_NAME[name].id
    return Volume(data, grid, Unit.LABEL)


@pytest.fixture
def reference(grid: Grid) -> Volume:
    return labels(grid, T7=(2, 12), T8=(12, 22))


@pytest.fixture
def shifted(grid: Grid, bench: Modules):
    """T7 found as T8 (sure), T8 as T9 (unsure, T8 among the candidates), and a rib where there is no bone."""
    found = labels(grid, T8=(2, 12), T9=(12, 22), rib_left_12=(30, 35))
    return bench.scores.Answer(
        found, {T8: 0.9, T9: 0.3, RIB: 0.8}, {T8: (T8,), T9: (T9, T8), RIB: (RIB,)}, 0.5
    )


def by(rows: list[dict], key: str) -> dict[str, dict]:
    return {row[key]: row for row in rows}


def test_shifted_names_on_the_right_bone(bench, reference, shifted):
    bones = by(bench.scores.bone_rows(shifted, reference), "bone")
    assert list(bones) == ["T7", "T8", "T9", "rib_left_12"]
    assert bones["T7"]["reference_ml"] == pytest.approx(10)
    assert bones["T7"]["found_ml"] == 0
    assert (bones["T7"]["found_share"], bones["T7"]["named_share"], bones["T7"]["dice"]) == (1, 0, 0)
    assert bones["T7"]["surface_dice_2mm"] == 0
    assert (bones["T7"]["name"], bones["T7"]["overlaps_most"]) == ("", "")
    assert bones["T8"]["dice"] == 0
    # T8 and its neighbour share a face: found and reference borders there are one voxel of 2 mm apart.
    assert bones["T8"]["surface_dice_2mm"] == pytest.approx(2 * 100 / (2 * (1000 - 512)))
    assert (bones["T8"]["name"], bones["T8"]["overlaps_most"]) == ("sure", "T7")
    assert bones["T8"]["candidates_hold_truth"] is False
    assert (bones["T9"]["name"], bones["T9"]["overlaps_most"]) == ("unsure", "T8")
    assert bones["T9"]["candidates_hold_truth"] is True
    assert (bones["rib_left_12"]["overlaps_most"], bones["rib_left_12"]["reference_ml"]) == ("none", 0)

    families = by(bench.scores.family_rows(bones.values(), []), "family")
    assert list(families) == ["all", "thoracic_spine", "ribs_left"]
    spine = families["thoracic_spine"]
    assert (spine["bones"], spine["found_share"], spine["named_share"], spine["dice"]) == (2, 1, 0, 0)
    assert (spine["misnamed_sure"], spine["misnamed_unsure"]) == (1, 1)
    assert spine["surface_dice_2mm"] == pytest.approx(bones["T8"]["surface_dice_2mm"] / 2)
    assert (families["ribs_left"]["bones"], families["ribs_left"]["dice"]) == (0, None)
    assert families["all"]["found_ml"] == pytest.approx(25)


def test_bone_or_not(bench, reference, shifted):
    row = bench.scores.skeleton_row(shifted, reference)
    assert row["bone_dice"] == pytest.approx(2 * 2000 / (2000 + 2500))
    assert row["precision"] == pytest.approx(0.8)
    assert (row["found_share"], row["named_share"]) == (1, 0)
    assert row["false_ml"] == pytest.approx(5)
    assert row["false_percent"] == pytest.approx(25)


def test_false_bone_begins_beyond_two_millimetres(bench, grid, reference):
    found = labels(grid, T7=(2, 12), T8=(12, 24))  # two layers of 2 mm too many: the second is 4 mm away
    row = bench.scores.skeleton_row(bench.scores.Answer(found, {}, {}, 0.5), reference)
    assert row["false_ml"] == pytest.approx(1)


def test_what_is_right_is_right(bench, reference):
    answer = bench.scores.Answer(reference, {T7: 0.9, T8: 0.4}, {T7: (T7,), T8: (T8,)}, 0.5)
    bones = bench.scores.bone_rows(answer, reference)
    for row in bones:
        assert row["dice"] == row["surface_dice_2mm"] == row["found_share"] == row["named_share"] == 1
        assert row["overlaps_most"] == row["bone"]
    assert [row["name"] for row in bones] == ["sure", "unsure"]
    everything = bench.scores.family_rows(bones, [])[0]
    assert (everything["misnamed_sure"], everything["misnamed_unsure"]) == (0, 0)
    assert bench.scores.skeleton_row(answer, reference)["false_ml"] == 0


def write_points(path: Path, grid: Grid, points: list[tuple[str, tuple[float, float, float], str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, ijk, certainty in points:
            writer.writerow([name, "point", *(f"{mm:.6f}" for mm in grid.mm(ijk)), certainty, ""])
    return path


def test_landmarks(bench, grid, shifted, tmp_path):
    path = write_points(
        tmp_path / "points.csv",
        grid,
        [
            ("T8", (6, 12, 12), "sure"),  # in the block called T8
            ("T8", (11.6, 12, 12), "sure"),  # in the block called T9, 1.2 mm behind the last layer of T8
            ("T8", (6, 12, 5), "plausible"),  # 5 mm below the block called T8
            ("T8", (6, 12, 4.9), "sure"),  # 5.25 mm below it
            ("T7", (6, 12, 12), "sure"),  # in T8, whose only candidate is T8
            ("T8", (18, 12, 12), "unsure"),  # in T9, which may be T8
            ("hip_left", (32, 12, 12), "plausible"),
            ("T6", (26, 12, 20), "sure"),  # nothing near
        ],
    )
    rows = bench.scores.landmark_rows(shifted, path)
    assert [row["result"] for row in rows] == [
        "inside", "near", "near", "missed", "misnamed", "misnamed", "misnamed", "missed",
    ]  # fmt: skip
    assert [row["found"] for row in rows] == ["T8", "T9", "T8", "", "T8", "T9", "rib_left_12", ""]
    assert [row["name"] for row in rows] == ["sure", "unsure", "sure", "", "sure", "unsure", "sure", ""]
    assert [row["candidates_hold_truth"] for row in rows[3:]] == [None, False, True, False, None]
    families = by(bench.scores.family_rows([], rows), "family")
    everything = families["all"]
    assert (everything["sure_points"], everything["sure_hits"]) == (5, 2)
    assert (everything["plausible_points"], everything["plausible_hits"]) == (2, 1)
    assert (everything["unsure_points"], everything["unsure_hits"]) == (1, 0)
    counted = {key: everything[key] for key in ("missed", "misnamed", "flagged", "offered", "hits_flagged")}
    assert counted == {"missed": 2, "misnamed": 3, "flagged": 1, "offered": 1, "hits_flagged": 1}
    assert families["pelvis"]["misnamed"] == 1
    assert "sure_points" not in families["pelvis"]


@pytest.mark.parametrize(
    ("name", "ijk", "certainty", "said"),
    [
        pytest.param("T77", (6, 12, 12), "sure", "T77, sure: no bone's name", id="name"),
        pytest.param("T7", (6, 12, 12), "perhaps", "no certainty known", id="certainty"),
        pytest.param("T7", (-1, 12, 12), "sure", "outside the scan", id="before the first voxel"),
        pytest.param("T7", (6, 12, 23.6), "sure", "outside the scan", id="behind the last voxel"),
    ],
)
def test_landmarks_that_cannot_be_used(bench, grid, shifted, tmp_path, name, ijk, certainty, said):
    path = write_points(tmp_path / "points.csv", grid, [(name, ijk, certainty)])
    with pytest.raises(InputError, match=said):
        bench.scores.landmark_rows(shifted, path)


def test_plausibility(bench, axes):
    """A body of 30 x 30 x 20 voxels of 4 mm, with a table top two voxels thick that touches nothing."""
    grid = Grid((40, 40, 20), affine(axes, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))
    hu, found = np.full(grid.shape, -1000, np.int16), np.zeros(grid.shape, np.uint8)
    hu[5:35, 2:32] = 40
    hu[10:20, 10:20, 4:16] = -900  # a lung; bone in it is not outside the body
    hu[2:38, 36:38] = 200  # the table
    for label, place, value in (
        (T7, np.s_[24:28, 20:24, 5:10], 400),
        (T8, np.s_[24:28, 12:14, 5:10], 99),
        (T9, np.s_[12:14, 12:14, 10:14], 101),
        (RIB, np.s_[10:14, 36:38, 2:12], 200),
    ):
        found[place], hu[place] = label, value
    hu[24:26, 20, 5] = -50  # not the median
    answer = bench.scores.Answer(Volume(found, grid, Unit.LABEL), {T7: 0.5, T8: 0.49, RIB: 1.0}, {}, 0.5)
    row = bench.scores.plausibility_row(answer, Volume(hu, grid, Unit.HU))
    assert row["found_ml"] == pytest.approx((80 + 40 + 16 + 80) * 0.064)
    assert (row["names"], row["unsure"]) == (4, 2)  # T8, and T9 of which nothing is known
    assert row["soft_ml"] == pytest.approx(40 * 0.064)
    assert row["outside_ml"] == pytest.approx(80 * 0.064)
    assert row["oversized"] == 0  # rib 12: 5.1 mL, twice its standard is 14


def test_oversized_and_nothing_found(bench, grid):
    found = labels(grid, rib_left_12=(2, 20))
    hu = Volume(np.full(grid.shape, 40, np.int16), grid, Unit.HU)
    answer = bench.scores.Answer(found, {RIB: 0.9}, {}, 0.5)
    assert bench.scores.plausibility_row(answer, hu)["oversized"] == 1  # 18 mL, twice its standard is 14
    nothing = bench.scores.Answer(labels(grid), {}, {}, 0.5)
    row = bench.scores.plausibility_row(nothing, hu)
    assert set(row.values()) == {0}
    assert bench.scores.bone_rows(nothing, None) == []


def test_tables_and_what_is_printed(bench, grid, reference, shifted, tmp_path):
    scan = bench.scans.KnownScan("block", "ct", "mask", bench.scans.VERSE, "points.csv")
    write_points(tmp_path / "points.csv", grid, [("T7", (6, 12, 12), "sure"), ("T8", (6, 12, 12), "sure")])
    ct = Volume(np.full(grid.shape, 300, np.int16), grid, Unit.HU)
    scores = bench.run.Scores()
    scores.add(bench.run.score(scan, ct, shifted, reference, tmp_path))
    plain = bench.scans.KnownScan("plain", "ct")
    scores.add(bench.run.score(plain, ct, shifted, None, tmp_path))
    bench.run.write(tmp_path / "out", scores)
    tables = {}
    for path in (tmp_path / "out").iterdir():
        with path.open(newline="", encoding="utf-8") as file:
            tables[path.stem] = list(csv.DictReader(file))
    assert {name: len(rows) for name, rows in tables.items()} == {
        "scans": 2, "families": 3, "bones": 4 + 3, "landmarks": 2,
    }  # fmt: skip
    first, second = tables["scans"]
    assert (first["nowhere_sure"], first["nowhere_unsure"], first["false_percent"]) == ("1", "0", "25.000")
    assert (second["scan"], second["names"], second["bone_dice"]) == ("plain", "3", "")
    assert tables["families"][0]["sure_hits"] == "1"
    printed = bench.run.summary(scores)
    assert "named wrong and sure: block T8 on T7" in printed
    assert "sure where the reference has no bone: block rib_left_12 5.0 mL" in printed
    assert "peak_memory_mb" not in printed  # nobody measured it here
    assert len({len(line.rstrip()) for line in printed.splitlines()}) > 1


def test_the_picture_shows_outlines_and_missed_landmarks(bench, grid, shifted):
    ct = Volume(np.full(grid.shape, 300, np.int16), grid, Unit.HU)
    middle = tuple(float(mm) for mm in grid.mm((38, 3, 3)))
    spots = [bench.pictures.Spot(middle, "T7", hit=False)]
    picture = np.asarray(bench.pictures.overlay(ct, shifted, spots)).reshape(-1, 3)
    seen = {tuple(rgb) for rgb in np.unique(picture, axis=0).tolist()}
    assert {colour(T8), colour(T9), colour(RIB), bench.pictures.MISS_RGB} <= seen
    assert not {colour(T7), bench.pictures.HIT_RGB} & seen


def test_only_known_scans_can_be_chosen(bench, capsys):
    assert bench.run.arguments(["--scans", "x", "--only", "STS_008"]).only == ["STS_008"]
    with pytest.raises(SystemExit):
        bench.run.arguments(["--scans", "x", "--only", "nobody"])
    assert "invalid choice" in capsys.readouterr().err


def test_the_scans_are_there(bench, shared):
    for scan in bench.scans.SCANS.values():
        for path in filter(None, (scan.ct, scan.mask, scan.landmarks)):
            assert (shared / "scans" / path).is_file(), path
    crop = bench.scans.SCANS["tptbox_l3"]
    ct = bench.scans.load_ct(crop, shared / "scans")
    mask = bench.scans.load_reference(crop, shared / "scans", ct)
    assert np.unique(mask.data).tolist() == [0, *(BY_NAME[n].id for n in ("L2", "L3", "L4"))]
    assert bench.scans.load_reference(bench.scans.SCANS["STS_002"], shared / "scans", ct) is None
    with pytest.raises(InputError, match="its grid is not that of"):
        bench.scans.load_reference(crop, shared / "scans", ct.cropped(np.s_[1:, :, :]))


def test_an_archive_that_is_not_there(bench, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        bench.scans.load_ct(bench.scans.SCANS["acrin_flt_upper"], tmp_path)
