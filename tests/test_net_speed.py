"""What was made fast or small gives the answers of the plain way."""

from __future__ import annotations

import itertools
import platform
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from scipy import ndimage
from torch import nn

from net_fixtures import TINY_NET
from petbone.anatomy import BY_NAME
from petbone.components import label_boxes
from petbone.net.border import BorderRule, Guide, draw_border, grown, tidy
from petbone.net.coarse import _look, _windows, hu_on, net_grid
from petbone.net.pages import kept_pages
from petbone.net.unet import build_unet, convolved, normalised, pointwise
from petbone.thinned import block_means
from petbone.volume import Grid


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_normalised_is_group_normalisation_in_double_precision(memory_format, offset):
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 8, 40, 50, 60) * torch.rand(2, 8, 1, 1, 1) + offset
    x[:, :, :15] *= 0.01
    expected = nnf.silu(nnf.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double(), norm.eps))
    with torch.inference_mode():
        found = normalised(x.clone(memory_format=memory_format), norm)
    assert (found - expected).abs().max() < 1e-5


def test_normalised_keeps_its_input_for_gradients():
    torch.manual_seed(0)
    norm = nn.GroupNorm(2, 4)
    x = torch.randn(1, 4, 3, 4, 5, requires_grad=True)
    before = x.detach().clone()
    normalised(x, norm).sum().backward()
    assert torch.equal(x.detach(), before)
    assert x.grad is not None
    assert x.grad.abs().max() > 0


def test_a_field_without_variation_stays_finite():
    with torch.inference_mode():
        assert torch.isfinite(normalised(torch.full((1, 4, 8, 8, 8), 3.0), nn.GroupNorm(2, 4))).all()


def test_a_mirrored_look_is_told_of_the_image_itself():
    """Of a field that is its own mirror image both looks say the same, left for right."""
    torch.manual_seed(0)
    model = build_unet(TINY_NET).eval()
    hu = torch.randn(1, 1, 16, 16, 32) * 300
    hu = hu + hu.flip(2)
    with torch.inference_mode():
        (bone, which, way), (bone_back, which_back, way_back) = (_look(model, hu, m) for m in (False, True))
    assert torch.allclose(bone_back, bone.flip(0), atol=1e-5)
    skull, left, right = (BY_NAME[name].id - 1 for name in ("skull", "hip_left", "hip_right"))
    assert torch.allclose(which_back[skull], which[skull].flip(0), atol=1e-5)
    assert torch.allclose(which_back[left], which[right].flip(0), atol=1e-5)
    assert torch.allclose(way_back, way.flip(1) * torch.tensor([-1.0, 1, 1])[:, None, None, None], atol=1e-5)


@pytest.mark.parametrize("length", [16, 30, 84, 106, 200, 286, 450, 1000])
def test_windows_cover_all_evenly(length):
    windows = _windows(length, (96, 112, 128), 12, 16)
    assert windows[0][0].start == 0
    assert windows[-1][0].stop == length or length < 16
    total = np.zeros(length)
    for part, weight in windows:
        assert part.start % 2 == 0
        assert (part.stop - part.start) % 16 == 0
        assert len(weight) == part.stop - part.start
        total[part] += weight
    assert total.min() > 0
    if length > 128:
        assert min(a.stop - b.start for (a, _), (b, _) in itertools.pairwise(windows)) >= 11
    assert sum(len(weight) for _, weight in windows) <= 1.35 * length + 96


def test_more_threads_draw_and_tidy_the_same():
    rng = np.random.default_rng(5)
    labels = np.repeat(np.repeat(rng.integers(0, 4, (6, 6, 9)), 3, 0), 3, 1).astype(np.uint8)
    logit = ndimage.gaussian_filter(rng.normal(0, 8, labels.shape), 1).astype(np.float32)
    guide = Guide(logit, labels, np.full(3, 0.5), np.zeros(3))
    view = rng.normal(100, 150, (36, 36, 70)).astype(np.int16)
    found = []
    for workers in (1, 3):
        out, shares = np.zeros(view.shape, np.uint8), []
        draw_border(view, guide, out, 110.0, BorderRule(), shares.append, workers=workers)
        assert shares == sorted(shares)
        assert shares[-1] == 1
        boxes = tidy(out, 0.05, BorderRule(), workers)
        found.append((out, boxes))
    assert found[0][0].any()
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("images", [1, 2])
def test_a_layer_asked_directly_says_the_same(images, stride):
    torch.manual_seed(0)
    layer, point = nn.Conv3d(3, 5, 3, stride, 1), nn.Conv3d(5, 4, 1)
    x = torch.randn(images, 3, 9, 10, 11).contiguous(memory_format=torch.channels_last_3d)
    plain = layer(x)
    with torch.inference_mode():
        assert torch.allclose(convolved(layer, x), plain, atol=1e-5)
    assert torch.equal(convolved(layer, x), plain)  # with gradients: torch's own
    assert torch.allclose(pointwise(point, plain), point(plain), atol=1e-5)


@pytest.mark.parametrize("reach", [1.0, 1.5, 2.0])
def test_names_grow_to_the_nearest(reach):
    rng = np.random.default_rng(3)
    labels = np.where(rng.random((14, 12, 10)) < 0.03, rng.integers(1, 60, (14, 12, 10)), 0).astype(np.uint8)
    wide = grown(labels, BorderRule(reach_voxels=reach))
    assert np.array_equal(wide[labels > 0], labels[labels > 0])
    distance = ndimage.distance_transform_edt(labels == 0)
    assert np.array_equal(wide > 0, distance <= reach)
    for place in np.argwhere((wide > 0) & (labels == 0)):
        name = wide[tuple(place)]
        own = np.linalg.norm(np.argwhere(labels == name) - place, axis=1).min()
        assert own == pytest.approx(distance[tuple(place)])


def test_pages_are_kept_and_given_back():
    """Layers that hand on a block of memory cost page faults the first time alone; at the end it is gone."""

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with torch.inference_mode():
            x = torch.zeros(10 << 20)
            for _ in range(12):
                x = x + 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def resident_mb() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    if platform.libc_ver()[0] != "glibc":
        pytest.skip("glibc alone gives pages back so early")
    usual = faults()
    with kept_pages():
        faults()
        assert faults() < usual / 4
        held = resident_mb()
    assert resident_mb() < held - 30


def _plain_hu_on(view: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """The definition: block means, blur, linear look-up that goes on past the border."""
    factors = np.array([max(1, int(4.0 / 2 / s + 0.25)) for s in grid.spacing_mm])
    blocks = block_means(view, tuple(factors)).astype(float)
    spacing = grid.spacing_mm * factors
    sigma = np.sqrt(np.maximum(16 - spacing**2, 0) / 12) / spacing
    blocks = ndimage.gaussian_filter(blocks, sigma, mode="nearest", truncate=3)
    ijk = np.indices(target.shape).reshape(3, -1)
    mm = target.mm_from_ijk[:3, :3] @ ijk + target.mm_from_ijk[:3, 3:]
    inverse = np.linalg.inv(grid.mm_from_ijk)
    where = inverse[:3, :3] @ mm + inverse[:3, 3:]
    where = (where - (factors[:, None] - 1) / 2) / factors[:, None]
    return ndimage.map_coordinates(blocks, where, order=1, mode="nearest").reshape(target.shape)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_hu_on_is_its_definition_for_every_order_of_memory(order):
    rng = np.random.default_rng(0)
    shape, spacing_mm = (47, 50, 23), (0.98, 1.6, 5.0)
    data = rng.integers(-1100, 3500, shape, dtype=np.int16)
    view = np.ascontiguousarray(data.transpose(order)).transpose(np.argsort(order))
    grid = Grid(shape, np.diag([*spacing_mm, 1.0]))
    target = net_grid(grid, 4.0, 4)
    found = hu_on(view, grid, target)
    assert found.dtype == np.float32
    assert found.shape == target.shape
    assert np.abs(found - _plain_hu_on(view, grid, target)).max() < 0.01


def test_hu_on_reads_what_is_not_a_number_as_air():
    view = np.full((20, 20, 20), -1000, np.float32)
    view[5:9, 5:9, 5:9] = np.nan
    grid = Grid(view.shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert np.abs(hu_on(view, grid, net_grid(grid, 4.0, 4)) + 1000).max() < 0.01


def test_memory_of_hu_on_is_that_of_the_answer_and_a_few_slices():
    peaks = []
    for slices in (50, 200):
        view = np.zeros((256, 256, slices), np.int16, order="F")
        grid = Grid(view.shape, np.diag([1.0, 1.0, 3.0, 1.0]))
        target = net_grid(grid, 4.0, 4)
        tracemalloc.start()
        hu_on(view, grid, target)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    per_slice = (peaks[1] - peaks[0]) / 150
    assert per_slice < 0.3 * view[:, :, 0].nbytes


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_boxes_do_not_depend_on_the_order_of_memory(order):
    labels = np.zeros((12, 9, 15), np.uint8)
    labels[2:4, 1:8, 3] = 7
    labels[5:6, 2:3, 4:14] = 2
    view = np.ascontiguousarray(labels.transpose(order)).transpose(np.argsort(order))[::-1]
    assert label_boxes(view) == {
        2: (slice(6, 7), slice(2, 3), slice(4, 14)),
        7: (slice(8, 10), slice(1, 8), slice(3, 4)),
    }
    assert label_boxes(np.zeros((3, 3, 3), np.uint8)) == {}


@pytest.mark.parametrize("memory", ["C", "F"])
def test_tidy_fills_holes_drops_crumbs_and_names_what_is_there(memory):
    out = np.zeros((40, 40, 40), np.uint8, order=memory)
    out[5:25, 5:25, 5:25] = 3
    out[10:12, 10:12, 10:12] = 0
    out[14:16, 14:16, 14:16] = 4
    out[30, 30, 30] = 3
    expected = out.copy()
    expected[10:12, 10:12, 10:12] = 3
    expected[30, 30, 30] = 0
    assert tidy(out, 0.008, BorderRule()).keys() == {3, 4}
    assert np.array_equal(out, expected)
    assert list(np.unique(out)) == [0, 3, 4]
