from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import ndimage

from fine_fixtures import TINY_FINE
from net_fixtures import TINY_NET
from petbone.net import segment
from petbone.net.border import BorderRule, Guide, draw_border
from petbone.net.coarse import Coarse
from petbone.net.fine import FineNet, build_fine
from petbone.net.fine_synth import FineSample
from petbone.net.fine_train import fine_loss
from petbone.net.kinds import KINDS, VERTEBRA_KIND
from petbone.net.refine import RefineRule, _named, _Said, fine_axes, look_up, refine, tiles
from petbone.net.segment import Segmenter
from petbone.net.tiling import TileRule
from petbone.net.unet import build_unet
from petbone.net.weights import save_weights
from petbone.thinned import canonical
from petbone.volume import Grid, Unit, Volume

CPU = torch.device("cpu")
N, STEP_MM = 48, 1.5
RULE = BorderRule()

pytestmark = pytest.mark.usefixtures("one_thread")


def person(mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HU and truth at places (..., 3): a ball of bone with dark marrow, two bright vessels that touch it."""
    x, y, z = np.moveaxis(mm, -1, 0)
    depth = 14 - np.sqrt((x - 2) ** 2 + (y + 3) ** 2 + z**2)
    vessel = np.minimum(np.hypot(x - 21, y + 3), np.hypot(x - 2, y - 16)) < 6
    body = np.hypot(x, y) < 34
    hu = np.where(body, 50.0, -1000.0)
    hu = np.where(vessel & body, 300.0, hu)
    hu = np.where(depth > 0, np.where(depth > 2, 10.0, 700.0), hu)
    return hu.astype(np.float32), depth > 0


def on(grid: Grid) -> tuple[Volume, np.ndarray]:
    """The person as a CT on a grid, with its truth."""
    hu, truth = person(grid.mm(np.stack(np.indices(grid.shape), -1)))
    return Volume(np.round(hu).astype(np.int16), grid, Unit.HU), truth


def cube(step_mm: float, count: int, turn: np.ndarray | None = None) -> Grid:
    """A cubic grid about the origin, its axes turned."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if turn is None else turn) * step_mm
    matrix[:3, 3] = -matrix[:3, :3] @ np.full(3, (count - 1) / 2)
    return Grid((count,) * 3, matrix)


@pytest.fixture(scope="module")
def coarse() -> Coarse:
    """What a coarse net may say of the person: the truth, blurred."""
    grid = cube(4.0, 18)
    _, truth = person(grid.mm(np.stack(np.indices(grid.shape), -1)))
    chance = (ndimage.gaussian_filter(truth.astype(np.float32), 0.9) * 1.3).clip(0, 0.98)
    hu, _ = on(grid)
    none = np.zeros((1, 9, 9, 9), np.float32)
    return Coarse(grid, hu.data.astype(np.float32), chance, none, none)


def guide_of(coarse: Coarse, grid: Grid) -> Guide:
    return segment._guide(coarse, (coarse.bone > 0.5).astype(np.uint8) * 30, grid, RULE)


@pytest.fixture(scope="module")
def model(one_thread: None, coarse: Coarse) -> FineNet:
    """A tiny fine net that knows this person by heart."""
    torch.manual_seed(0)
    grid = cube(STEP_MM, N)
    ct, truth = on(grid)
    guide = guide_of(coarse, grid)
    places = [guide.scale[a] * np.arange(N) + guide.offset[a] for a in range(3)]
    logit = ndimage.map_coordinates(guide.logit, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
    hu = torch.from_numpy(ct.data.astype(np.float32))
    middle = torch.full((256, 3), torch.nan)
    part = torch.from_numpy(truth.astype(np.float32))
    half = [guide.scale[a] * (2 * np.arange(N // 2) + 0.5) + guide.offset[a] for a in range(3)]
    near = [h.round().astype(int).clip(0, n - 1) for h, n in zip(half, guide.labels.shape, strict=True)]
    told = torch.from_numpy(guide.labels[np.ix_(*near)])
    name = (30 * part).to(torch.uint8)
    sample = FineSample(hu, part, torch.from_numpy(logit), name, middle, told, middle)
    net = build_fine(TINY_FINE)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-2)
    for _ in range(30):
        optimiser.zero_grad()
        fine_loss(net, [sample], None).loss.backward()
        optimiser.step()
    return net.eval()


def borders(ct: Volume, coarse: Coarse, model: FineNet) -> tuple[np.ndarray, np.ndarray]:
    """Bone of the coarse answer alone and of both nets, on the CT's own axes."""
    view, grid, axes, signs = canonical(ct)
    guide = guide_of(coarse, grid)
    found = []
    for fine in (None, refine(view, grid, guide, model, CPU, RefineRule())):
        out = np.zeros(ct.grid.shape, np.uint8)
        out_view = out.transpose(axes)[tuple(slice(None, None, s) for s in signs)]
        draw_border(view, guide, out_view, 110.0, RULE, fine=fine)
        assert set(np.unique(out)) <= {0, 30}
        found.append(out > 0)
    return found[0], found[1]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


COS, SIN = np.cos(np.radians(24)), np.sin(np.radians(24))
TURNS = {
    "RAS": np.eye(3),
    "LPS": np.diag([-1.0, -1, 1]),
    "SLP": np.array([[0, -1.0, 0], [0, 0, -1], [1, 0, 0]]),
    "oblique": np.array([[COS, -SIN, 0], [SIN, COS, 0], [0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("step_mm", [1.1, 2.0])
def test_the_border_is_better_with_the_fine_net(name, step_mm, coarse, model):
    ct, truth = on(cube(step_mm, round(72 / step_mm), TURNS[name]))
    without, with_it = borders(ct, coarse, model)
    assert dice(with_it, truth) > dice(without, truth) + 0.03
    assert dice(with_it, truth) > 0.9


def test_tiles_hold_all_that_may_be_bone(coarse):
    grid = cube(1.0, 72)
    guide = guide_of(coarse, grid)
    axes = fine_axes(guide, np.asarray(grid.spacing_mm), 1.5)
    assert axes is not None
    seen = np.zeros([a.count for a in axes], bool)
    for tile in tiles(guide, axes, TileRule(core=16, least=8, multiple=4)):
        seen[tile.core] = True
    nearest = [
        np.clip(np.round(guide.scale[n] * a.ct(np.arange(a.count)) + guide.offset[n]).astype(int), 0, 17)
        for n, a in enumerate(axes)
    ]
    assert seen[guide.labels[np.ix_(*nearest)] > 0].all()


def test_small_tiles_agree_with_large_ones(coarse, model):
    """Group normalisation sees its tile only, so the answers differ a little, the borders hardly."""
    ct, _ = on(cube(1.5, N))
    view, grid, _, _ = canonical(ct)
    guide = guide_of(coarse, grid)
    one = refine(view, grid, guide, model, CPU, RefineRule())
    many = refine(view, grid, guide, model, CPU, RefineRule(TileRule(core=16, least=40)))
    assert one is not None
    assert many is not None
    assert dice(one.logit > 0, many.logit > 0) > 0.9


def test_more_workers_say_the_same(coarse, model):
    """Cores overlap here: whoever is ready first, the later tile counts."""
    ct, _ = on(cube(1.5, N))
    view, grid, _, _ = canonical(ct)
    guide = guide_of(coarse, grid)
    rule = RefineRule(TileRule(core=24, least=24))
    one, three = (refine(view, grid, guide, model, CPU, rule, workers=n) for n in (1, 3))
    assert one is not None
    assert three is not None
    assert np.array_equal(one.logit, three.logit)
    assert np.array_equal(one.labels, three.labels)


def test_a_ramp_is_looked_up_where_it_is():
    ramp = np.add.outer(np.add.outer(3.0 * np.arange(30), 2.0 * np.arange(20)), np.arange(25.0))
    where = [np.linspace(5, 20, 9), np.linspace(4, 15, 7), np.linspace(3, 20, 8)]
    found = look_up(ramp, where, np.array([1.0, 1.0, 1.0]))
    expected = np.add.outer(np.add.outer(3 * where[0], 2 * where[1]), where[2])
    assert np.allclose(found, expected, atol=1e-3)
    beyond = look_up(ramp, [np.array([-9.0, 99.0]), *where[1:]], np.array([1.0, 1.0, 1.0]))
    assert np.allclose(beyond[1] - beyond[0], 3 * 29, atol=1e-3)


def test_memory_does_not_grow_with_the_slices_beyond_the_answer(coarse, model):
    def beyond_answer(slices: int) -> float:
        labels = np.zeros((18, 18, slices // 2), np.uint8)
        labels[6:12, 6:12] = 1
        logit = np.where(labels > 0, 3, -3).astype(np.float32)
        guide = Guide(logit, labels, np.full(3, 0.5), np.full(3, -0.25))
        view = np.zeros((36, 36, slices), np.int16)
        grid = Grid(view.shape, np.diag([2.0, 2.0, 2.0, 1.0]))
        tracemalloc.start()
        answer = refine(view, grid, guide, model, CPU, RefineRule())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert answer is not None
        return peak - 2 * answer.logit.nbytes - 120 * np.count_nonzero(answer.labels)

    assert beyond_answer(400) < 1.2 * beyond_answer(150)


def test_touching_vertebrae_are_told_apart_by_the_middle_they_point_to():
    """Two coarse names whose border lies 6 mm too low; voxels that know their middle put it right."""
    shape = (20, 20, 40)
    labels = np.zeros(shape, np.uint8)
    labels[6:14, 6:14, 2:17], labels[6:14, 6:14, 17:38] = 8, 7  # T8 below T7; the truth is at 20
    guide = Guide(np.zeros(shape, np.float32), labels, np.ones(3), np.zeros(3))
    axes = fine_axes(guide, np.full(3, 2.0), 2.0)
    assert axes is not None
    index = np.argwhere(labels > 0)
    upper = index[:, 2] >= 20
    middle = np.where(upper[:, None], [19.0, 19.0, 58.0], [19.0, 19.0, 21.0])
    own = np.array([[round(float(a.low)) for a in axes]])
    said = _Said((index - own).astype(np.int16), np.full(len(index), VERTEBRA_KIND, np.uint8), middle)
    named = _named([said], guide, axes, np.full(3, 2.0), RefineRule())
    found = named[tuple((index - own).T)]
    assert np.array_equal(found, np.where(upper, 7, 8))


def test_a_voxel_of_another_kind_takes_the_nearest_name_of_its_kind():
    """A rib's head that the coarse answer gave to the vertebra; far from any rib it stays with it."""
    shape = (40, 10, 10)
    labels = np.zeros(shape, np.uint8)
    labels[2:20], labels[20:38] = 7, 24  # T7, then a rib of the left
    guide = Guide(np.zeros(shape, np.float32), labels, np.ones(3), np.zeros(3))
    axes = fine_axes(guide, np.full(3, 2.0), 2.0)
    assert axes is not None
    index = np.argwhere(labels > 0)
    own = np.array([[round(float(a.low)) for a in axes]])
    rib = KINDS.index("rib") + 1
    is_rib = (index[:, 0] >= 16) | (index[:, 0] < 5)
    kind = np.where(is_rib, rib, VERTEBRA_KIND).astype(np.uint8)
    middle = np.full((len(index), 3), 1e6, np.float32)  # votes that lead nowhere change nothing
    said = _Said((index - own).astype(np.int16), kind, middle)
    named = _named([said], guide, axes, np.full(3, 2.0), RefineRule())
    assert np.array_equal(named[tuple((index - own).T)], np.where(index[:, 0] >= 16, 24, 7))


def test_no_bone_no_tiles(coarse, model):
    grid = cube(2.0, 20)
    guide = Guide(coarse.bone, np.zeros(coarse.bone.shape, np.uint8), np.full(3, 0.5), np.zeros(3))
    assert refine(np.zeros((20, 20, 20), np.int16), grid, guide, model, CPU, RefineRule()) is None


@pytest.mark.parametrize(("bias", "any_bone"), [(-9.0, False), (9.0, True)])
def test_a_segmenter_asks_the_fine_net_of_its_weights_file(tmp_path, bias, any_bone):
    """A coarse net that calls everything bone; the fine one decides. Without it there is bone."""
    torch.manual_seed(0)
    coarse_net, fine = build_unet(TINY_NET), build_fine(TINY_FINE)
    for net, value in ((coarse_net, 6.0), (fine, bias)):
        net.bone.weight.data.zero_()
        net.bone.bias.data.fill_(value)
    save_weights(coarse_net, tmp_path / "both.safetensors", fine)
    segmenter = Segmenter.load(tmp_path / "both.safetensors", device="cpu", threads=1)
    ct, _ = on(cube(2.0, 36))
    shares: list[float] = []
    assert bool(segmenter.segment(ct, shares.append).bones.data.any()) == any_bone
    assert shares == sorted(shares)
    segmenter.fine = None
    assert segmenter.segment(ct).bones.data.any()
