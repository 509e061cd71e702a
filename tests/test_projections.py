"""A place in the world lands on one and the same pixel, whatever grid it was sampled on."""

import numpy as np
import pytest

from petbone.report import projections
from petbone.report.projections import Frame, View
from petbone.volume import Grid, Unit, Volume


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [n for n in range(3) if n != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


COLUMNS_MM = {
    "RAS": np.diag([2.0, 3.0, 4.0]),
    "LPS": np.diag([-2.0, -3.0, 4.0]),
    # first axis towards the back, second towards the feet, third towards the right
    "PIR": np.array([[0, 0, 2.0], [-3.0, 0, 0], [0, -4.0, 0]]),
    "oblique": rotation((8.0, -11.0, 15.0)) @ np.diag([2.0, -3.0, 4.0]),
    "tilted": np.array([[2.0, 0, 0], [0, 3.0, 0], [0, 1.0, 4.0]]),  # a sheared gantry
}
SHAPES = {"PIR": (20, 16, 30)}


def grid_of(name: str) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = COLUMNS_MM[name]
    matrix[:3, 3] = (-31.0, 44.0, -120.0)
    return Grid(SHAPES.get(name, (30, 20, 16)), matrix)


@pytest.fixture(params=COLUMNS_MM)
def grid(request: pytest.FixtureRequest) -> Grid:
    return grid_of(request.param)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("view", View)
def test_a_lit_voxel_lands_on_its_pixel(grid: Grid, view: View, order: str) -> None:
    rng = np.random.default_rng(1)
    frame = projections.frame_around([grid], finest_mm=1.0)
    for _ in range(12):
        ijk = tuple(int(rng.integers(n)) for n in grid.shape)
        data = np.zeros(grid.shape, np.float32, order=order)
        data[ijk] = 7
        picture = projections.picture(projections.maximum(Volume(data, grid, Unit.SUV))[view], frame)
        found = np.unravel_index(np.nanargmax(picture), picture.shape)
        # Shear-warp rounds the shift of a slice to whole voxels: half a voxel, along each picture axis.
        limit = 1 + 0.5 * grid.spacing_mm.max() / frame.pixel_mm
        assert np.abs(frame.pixel(view, grid.mm(ijk)) - found).max() <= limit
        assert np.nanmax(picture) > 3.5


@pytest.mark.parametrize("view", View)
def test_a_labelled_voxel_covers_its_pixel(grid: Grid, view: View) -> None:
    rng = np.random.default_rng(2)
    frame = projections.frame_around([grid], finest_mm=1.0)
    for _ in range(12):
        ijk = tuple(int(rng.integers(1, n - 1)) for n in grid.shape)
        data = np.zeros(grid.shape, np.uint8)
        data[tuple(slice(n - 1, n + 2) for n in ijk)] = 200
        sheet = projections.frontmost(Volume(data, grid, Unit.LABEL))[view]
        labels, rank = projections.labels_on(sheet, frame)
        row, column = frame.pixel(view, grid.mm(ijk))
        assert labels[row, column] == 200
        assert rank[row, column] >= 0
        assert set(np.unique(labels)) == {0, 200}


def test_right_is_left_front_is_left_and_head_is_up() -> None:
    grid = Grid((10, 10, 10), np.diag([1.0, 1.0, 1.0, 1.0]))
    frame = projections.frame_around([grid], finest_mm=1.0)
    row, column = frame.pixel(View.CORONAL, (9.0, 5.0, 9.0))  # the patient's right shoulder
    assert (row, column) == (0, 0)
    row, column = frame.pixel(View.SAGITTAL, (5.0, 9.0, 0.0))  # in front, at the feet
    assert (row, column) == (frame.shape(View.SAGITTAL)[0] - 1, 0)


@pytest.mark.parametrize("name", ["RAS", "LPS", "PIR"])
def test_without_obliquity_it_is_the_plain_maximum(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "BLOCK_VOXELS", 700)  # several blocks, the last one smaller
    grid = grid_of(name)
    data = np.random.default_rng(3).integers(-1000, 2000, grid.shape).astype(np.int16)
    volume = Volume(data, grid, Unit.HU)
    sheets = projections.maximum(volume)
    ras = projections.closest_ras(volume).data
    assert np.array_equal(sheets[View.CORONAL].image, ras.max(axis=1))
    assert np.array_equal(sheets[View.SAGITTAL].image, ras.max(axis=0))


def test_blocks_make_no_difference(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    values = Volume(rng.normal(size=grid.shape).astype(np.float32), grid, Unit.SUV)
    labels = Volume(rng.integers(0, 60, grid.shape).astype(np.uint8), grid, Unit.LABEL)
    whole = projections.maximum(values), projections.frontmost(labels), projections.centres_mm(labels, 1.0)
    monkeypatch.setattr(projections, "BLOCK_VOXELS", 500)
    parts = projections.maximum(values), projections.frontmost(labels), projections.centres_mm(labels, 1.0)
    for view in View:
        assert np.array_equal(whole[0][view].image, parts[0][view].image)
        assert np.array_equal(whole[1][view].image, parts[1][view].image)
    for label, centre in whole[2].items():
        np.testing.assert_allclose(parts[2][label], centre)


def test_closest_ras_moves_no_voxel(grid: Grid) -> None:
    data = np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape)
    turned = projections.closest_ras(Volume(data, grid, Unit.LABEL))
    assert np.shares_memory(turned.data, data)
    columns = turned.grid.mm_from_ijk[:3, :3] / turned.grid.spacing_mm
    assert (np.diag(columns) > 0.9).all()
    for ijk in [(0, 0, 0), (3, 5, 7), tuple(n - 1 for n in turned.grid.shape)]:
        value = turned.data[ijk]
        np.testing.assert_allclose(turned.grid.mm(ijk), grid.mm(np.argwhere(data == value)[0]), atol=1e-9)


def test_strided_keeps_positions_and_never_skips_more_than_asked() -> None:
    grid = Grid((20, 21, 9), np.diag([0.7, 0.7, 2.5, 1.0]))
    data = np.arange(20 * 21 * 9, dtype=np.int16).reshape(grid.shape)
    coarse = projections.strided(Volume(data, grid, Unit.HU), 1.5)
    assert coarse.grid.shape == (10, 11, 9)
    assert (coarse.grid.spacing_mm <= [1.5, 1.5, 2.5 + 1e-9]).all()
    np.testing.assert_allclose(coarse.grid.mm((4, 5, 6)), grid.mm((8, 10, 6)))
    assert coarse.data[4, 5, 6] == data[8, 10, 6]


@pytest.mark.parametrize("name", COLUMNS_MM)
def test_the_nearest_bone_hides_the_others(name: str) -> None:
    grid = grid_of(name)
    world = grid.mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    middle = world.reshape(-1, 3).mean(axis=0)
    data = np.zeros(grid.shape, np.uint8)
    ball = {11: (0, 10, 0), 22: (0, -10, 0), 33: (-14, 0, 0), 44: (14, 0, 0)}  # front, back, left, right
    for label, offset in ball.items():
        data[np.linalg.norm(world - (middle + offset), axis=-1) < 6] = label
    labels = Volume(data, grid, Unit.LABEL)
    frame = projections.frame_around([grid])
    plain, ordered = projections.frontmost(labels), projections.frontmost(labels, lambda _view: (22, 44))
    for view, nearest, hidden in ((View.CORONAL, 11, 22), (View.SAGITTAL, 33, 44)):
        at = tuple(frame.pixel(view, middle))
        assert projections.labels_on(plain[view], frame)[0][at] == nearest
        assert projections.labels_on(ordered[view], frame)[0][at] == hidden


def test_outside_the_field_of_view_is_not_air() -> None:
    small = Grid((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]))
    frame = projections.frame_around([small, Grid((16, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]))])
    air = projections.maximum(Volume(np.full(small.shape, -1000, np.int16), small, Unit.HU))[View.CORONAL]
    picture = projections.picture(air, frame)
    columns = picture.shape[1]
    assert np.isnan(picture[:, : columns * 3 // 4 - 1]).all()  # the small grid is at the patient's left
    assert (picture[:, columns * 3 // 4 + 1 :] == -1000).all()
    empty = projections.frontmost(Volume(np.zeros(small.shape, np.uint8), small, Unit.LABEL))[View.CORONAL]
    labels, rank = projections.labels_on(empty, frame)
    assert not labels.any()
    assert np.array_equal(rank == -1, np.isnan(picture))
    assert not projections.numbers_on(air, frame).any()


def test_a_maximum_stays_a_maximum_on_coarse_pixels() -> None:
    grid = Grid((60, 8, 60), np.diag([1.0, 1.0, 1.0, 1.0]))
    data = np.zeros(grid.shape, np.float32)
    data[31, 3, 17] = 100
    frame = projections.frame_around([grid], finest_mm=4.0)
    picture = projections.picture(projections.maximum(Volume(data, grid, Unit.SUV))[View.CORONAL], frame)
    assert picture.max() >= 50
    assert np.unravel_index(picture.argmax(), picture.shape) == tuple(frame.pixel(View.CORONAL, (31, 3, 17)))


def test_centres_are_the_middle_of_the_bones(grid: Grid) -> None:
    data = np.zeros(grid.shape, np.uint8)
    data[4:9, 6:11, 3:8] = 5
    data[12:15, 11:14, 9:12] = 61
    centres = projections.centres_mm(Volume(data, grid, Unit.LABEL), 1.0)
    assert set(centres) == {5, 61}
    np.testing.assert_allclose(centres[5], grid.mm((6, 8, 5)), atol=1e-9)
    np.testing.assert_allclose(centres[61], grid.mm((13, 12, 10)), atol=1e-9)


def test_trimming_keeps_places() -> None:
    frame = Frame((-40.0, -30.0, 0.0), (40.0, 30.0, 100.0), 2.0)
    point = (11.0, -7.0, 33.0)
    for view in View:
        before = frame.pixel(view, point)
        after = frame.trimmed(view, slice(5, 28))
        assert after.shape(view) == (50, 23)
        assert np.array_equal(after.pixel(view, point), before - (0, 5))


def test_a_frame_holds_all_grids_in_whole_pixels(grid: Grid) -> None:
    frame = projections.frame_around([grid, grid_of("RAS")], rows=37)
    for corners in (grid.corners_mm(), grid_of("RAS").corners_mm()):
        assert (corners >= np.array(frame.lower_mm) - 1e-6).all()
        assert (corners <= np.array(frame.upper_mm) + 1e-6).all()
    for view in View:
        rows, columns = frame.shape(view)
        np.testing.assert_allclose((columns * frame.pixel_mm, rows * frame.pixel_mm), frame.size_mm(view))


def test_too_many_slices_for_the_depth_code() -> None:
    tall = Volume(np.zeros((1, 1, 4096), np.uint8), Grid((1, 1, 4096), np.eye(4)), Unit.LABEL)
    with pytest.raises(ValueError, match="fewer than 4096 slices"):
        projections.frontmost(tall)
