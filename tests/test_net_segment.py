from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import ndimage

from net_fixtures import TINY_NET, TINY_SYNTH, TINY_TRAIN, tiny_anatomy
from petbone.anatomy import BY_NAME
from petbone.components import holes_in_slices
from petbone.errors import InputError
from petbone.net import border
from petbone.net.coarse import hu_on, net_grid
from petbone.net.losses import loss_of
from petbone.net.segment import Segmenter
from petbone.net.synth import Synthesizer
from petbone.net.unet import build_unet
from petbone.net.weights import save_weights
from petbone.thinned import block_means, canonical, uncanonical
from petbone.volume import Grid, Unit, Volume

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(one_thread: None) -> tuple[Segmenter, Volume, np.ndarray]:
    """A tiny net that has learned one sample by heart, the sample as a CT at 2 mm, and its truth."""
    torch.manual_seed(0)
    sample = Synthesizer([tiny_anatomy()], TINY_SYNTH).sample(6)
    model = build_unet(TINY_NET)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(45):
        optimiser.zero_grad()
        loss_of(model, sample, TINY_TRAIN, None).loss.backward()
        optimiser.step()
    fine = sample.hu.numpy().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = (-63, -63, 900)
    ct = Volume(np.round(fine).astype(np.int16), Grid((64, 64, 64), matrix), Unit.HU)
    truth = sample.bone.numpy().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return Segmenter(model.eval(), "0" * 64, torch.device("cpu"), threads=1), ct, truth


def reoriented(ct: Volume, axes: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same patient, stored along other axes: new axis n is old axis axes[n], reversed where -1."""
    data = ct.data.transpose(axes)[tuple(slice(None, None, s) for s in signs)]
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        turn[old, new] = sign
        turn[old, 3] = 0 if sign > 0 else ct.data.shape[old] - 1
    return Volume(np.ascontiguousarray(data), Grid(data.shape, ct.grid.mm_from_ijk @ turn), ct.unit)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_finds_and_names_what_it_learned(trained):
    segmenter, ct, truth = trained
    shares: list[float] = []
    result = segmenter.segment(ct, shares.append)
    assert result.bones.grid is ct.grid
    assert result.bones.data.dtype == np.uint8
    assert result.bones.unit is Unit.LABEL
    assert dice(result.bones.data > 0, truth > 0) > 0.7
    both = (result.bones.data > 0) & (truth > 0)
    assert (result.bones.data == truth)[both].mean() > 0.8
    assert set(result.confidence) == set(np.unique(result.bones.data)) - {0}
    assert all(0 <= share <= 1 for share in result.confidence.values())
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert result.notes


@pytest.mark.parametrize(
    ("axes", "signs"),
    [((0, 1, 2), (-1, -1, 1)), ((2, 0, 1), (1, -1, -1)), ((1, 2, 0), (-1, 1, 1))],
    ids=["LPS", "SLP", "PSR"],
)
def test_the_answer_does_not_depend_on_the_order_of_the_voxels(trained, axes, signs):
    segmenter, ct, _ = trained
    turned = reoriented(ct, axes, signs)
    plain, other = segmenter.segment(ct), segmenter.segment(turned)
    assert other.bones.grid is turned.grid
    expected = plain.bones.data.transpose(axes)[tuple(slice(None, None, s) for s in signs)]
    assert (other.bones.data == expected).mean() > 0.9999
    assert other.confidence == pytest.approx(plain.confidence, abs=1e-3)


def test_an_oblique_ct_is_read_in_the_patients_axes(trained):
    """Sampled on a grid turned by 25 degrees, the same places get the same answer."""
    from scipy import ndimage

    segmenter, ct, _ = trained
    cos, sin = np.cos(np.radians(25)), np.sin(np.radians(25))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    middle = ct.grid.mm([31.5, 31.5, 31.5])
    matrix = np.eye(4)
    matrix[:3, :3] = turn * 2.0
    matrix[:3, 3] = middle - matrix[:3, :3] @ [44.5, 44.5, 31.5]
    grid = Grid((90, 90, 64), matrix)
    to = ct.grid.ijk_from_mm @ matrix
    data = ndimage.affine_transform(ct.data, to[:3, :3], to[:3, 3], grid.shape, order=1, cval=-1000)
    oblique = segmenter.segment(Volume(data, grid, Unit.HU)).bones
    back = np.linalg.inv(to)
    returned = ndimage.affine_transform(
        oblique.data, back[:3, :3], back[:3, 3], ct.grid.shape, order=0, cval=0
    )
    assert oblique.grid is grid
    assert dice(returned > 0, segmenter.segment(ct).bones.data > 0) > 0.8


def test_a_small_crop_and_thick_slices_work(trained):
    segmenter, ct, _ = trained
    crop = ct.cropped((slice(10, 50), slice(12, 47), slice(20, 39)))
    assert segmenter.segment(crop).bones.grid is crop.grid
    matrix = ct.grid.mm_from_ijk @ np.diag([1.0, 1.0, 3.0, 1.0])
    thick = Volume(ct.data[:, :, 1::3].copy(), Grid((64, 64, 21), matrix), Unit.HU)
    assert (segmenter.segment(thick).bones.data > 0).any()


def test_air_has_no_bone(trained):
    segmenter, ct, _ = trained
    result = segmenter.segment(ct.with_data(np.full(ct.grid.shape, -1000, np.int16)))
    assert not result.bones.data.any()
    assert result.notes == ("no bone was found",)


def test_canonical_can_be_undone():
    data = np.arange(24).reshape(2, 3, 4)
    matrix = np.array([[0, -1.0, 0.2, 5], [0, 0.2, 1, 6], [-2, 0, 0, 7], [0, 0, 0, 1]])
    volume = Volume(data, Grid((2, 3, 4), matrix), Unit.HU)
    view, grid, axes, signs = canonical(volume)
    assert np.array_equal(uncanonical(view, axes, signs), data)
    assert (np.diag(grid.mm_from_ijk)[:3] > 0).all()
    corner = np.argwhere(view == 0)[0]
    assert np.allclose(grid.mm(corner), volume.grid.mm([0, 0, 0]))


def test_block_means_against_a_loop():
    rng = np.random.default_rng(0)
    data = rng.integers(-1000, 1000, (5, 7, 4)).astype(np.int16)
    means = block_means(data, (2, 3, 1))
    assert means.shape == (3, 3, 4)
    assert means[1, 2, 3] == pytest.approx(data[2:4, 6:7, 3:4].mean())
    assert means[2, 0, 0] == pytest.approx(data[4:5, 0:3, 0:1].mean())


def test_a_ramp_keeps_its_place_on_the_net_grid():
    """HU = 2 z: whatever the spacing, every inner net voxel reads twice its own z."""
    matrix = np.diag([0.7, 0.7, 1.5, 1.0])
    grid = Grid((60, 60, 60), matrix)
    z = grid.mm(np.stack(np.indices(grid.shape), -1))[..., 2]
    target = net_grid(grid, 4.0, 4)
    hu = hu_on((2 * z).astype(np.float32), grid, target)
    inner = hu[target.shape[0] // 2, target.shape[1] // 2, 5:-5]
    expected = 2 * target.mm([[0, 0, k] for k in range(5, target.shape[2] - 5)])[:, 2]
    assert np.abs(inner - expected).max() < 0.5


def test_refusals(trained, tmp_path):
    segmenter, ct, _ = trained
    with pytest.raises(InputError, match="CT in HU"):
        segmenter.segment(ct.with_data(ct.data, Unit.SUV))
    with pytest.raises(InputError, match="rescale"):
        segmenter.segment(ct.with_data(np.full(ct.grid.shape, 40, np.int16)))
    with pytest.raises(InputError, match="at least 2 voxels"):
        segmenter.segment(ct.cropped((slice(0, 1), slice(0, 9), slice(0, 9))))
    with pytest.raises(InputError, match="threads"):
        Segmenter.load(threads=0)
    with pytest.raises(InputError, match="no such weights"):
        Segmenter.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(InputError, match="not a safetensors file"):
        Segmenter.load(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="has format None"):
        Segmenter.load(tmp_path / "other.safetensors")
    header = {"format": "petbone-bones-1", "config": json.dumps(TINY_NET.as_dict())}
    save_file({"a": torch.zeros(1)}, tmp_path / "wrong.safetensors", metadata=header)
    with pytest.raises(InputError, match="does not fit"):
        Segmenter.load(tmp_path / "wrong.safetensors")


def test_a_users_own_weights_load_from_a_path(trained, tmp_path):
    segmenter, ct, _ = trained
    save_weights(segmenter.model, tmp_path / "own.safetensors")
    own = Segmenter.load(tmp_path / "own.safetensors", device="cpu", threads=1)
    assert len(own.weights_sha256) == 64
    assert dice(own.segment(ct).bones.data > 0, segmenter.segment(ct).bones.data > 0) > 0.98


def test_a_mirrored_patient_is_answered_as_the_mirror_image(trained):
    segmenter, ct, _ = trained
    there = segmenter.answer(ct)
    back = segmenter.answer(Volume(np.ascontiguousarray(ct.data[::-1]), ct.grid, ct.unit))
    assert np.allclose(back.bone[::-1], there.bone, atol=1e-4)
    left, right = BY_NAME["hip_left"].id - 1, BY_NAME["hip_right"].id - 1
    assert np.allclose(back.which[right, ::-1], there.which[left], atol=1e-4)
    assert np.allclose(back.centre_mm[0, ::-1], -there.centre_mm[0], atol=1e-2)
    assert np.allclose(back.centre_mm[2, ::-1], there.centre_mm[2], atol=1e-2)


@pytest.mark.parametrize(("bone", "filled"), [("humerus_left", True), ("L3", False)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_marrow_is_filled_and_a_canal_is_not(bone, filled, axis):
    """A tube that the field cuts at both ends: a long bone's is marrow, a vertebra's the spinal canal."""
    x, y, _ = np.meshgrid(*[np.arange(n) - n / 2 for n in (30, 26, 40)], indexing="ij")
    ring = (np.hypot(x, y) < 11) & (np.hypot(x, y) > 6)
    out = np.moveaxis(ring, 2, axis).astype(np.uint8) * BY_NAME[bone].id
    hollow = int(np.count_nonzero(np.hypot(x, y) <= 6))
    before = np.count_nonzero(out)
    border.tidy(out, 0.05, border.BorderRule())
    assert np.count_nonzero(out) == before + (hollow if filled else 0)


def test_marrow_of_a_body_is_filled_and_the_canal_behind_it_is_not():
    """A vertebra whose body is open to the discs above and below."""
    x, y, _ = np.meshgrid(*[np.arange(n) - n / 2 for n in (40, 60, 16)], indexing="ij")
    body, canal = np.hypot(x, y - 10), np.hypot(x, y + 14)
    bone = ((body < 14) & (body > 10)) | ((canal < 11) & (canal > 7) & (body >= 14))
    out = bone.astype(np.uint8) * BY_NAME["L3"].id
    border.tidy(out, 0.05, border.BorderRule())
    assert (out[body < 10] > 0).all()
    assert not out[(canal < 7) & (body >= 14)].any()


def testholes_in_slices_are_those_of_scipy():
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 30, 20)), 1.5) > 0.02
    filled = mask.copy()
    for axis in range(3):
        for solid, whole in zip(np.moveaxis(mask, axis, 0), np.moveaxis(filled, axis, 0), strict=True):
            whole |= ndimage.binary_fill_holes(solid)
    assert np.array_equal(holes_in_slices(mask), filled & ~mask)
