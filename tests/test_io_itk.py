"""NRRD and MetaImage: the same volume as SimpleITK wrote, in RAS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petbone.errors import InputError
from petbone.io import read_ct, read_labels, read_pet
from petbone.volume import Grid

SHAPE = (5, 4, 3)


def write(path: Path, data: np.ndarray, axes: np.ndarray) -> Grid:
    """`data` (i, j, k) with these RAS axes, 2 x 3 x 4 mm, first voxel at (10, -20, 30) mm RAS."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetDirection((lps @ axes).ravel().tolist())
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((lps @ [10.0, -20.0, 30.0]).tolist())
    sitk.WriteImage(image, str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.array([2.0, 3.0, 4.0])
    matrix[:3, 3] = [10.0, -20.0, 30.0]
    return Grid(data.shape, matrix)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_ct_in_every_frame(tmp_path: Path, axes: np.ndarray, suffix: str) -> None:
    data = np.random.default_rng(1).integers(-1000, 2000, SHAPE).astype(np.int16)
    grid = write(tmp_path / f"ct{suffix}", data, axes)
    scan = read_ct(tmp_path / f"ct{suffix}")
    assert np.array_equal(scan.volume.data, data)
    assert scan.volume.data.dtype == np.int16
    assert scan.volume.grid.same_as(grid)
    assert scan.source["format"] == suffix[1:].upper()


def test_pet_and_labels(tmp_path: Path) -> None:
    suv = np.random.default_rng(2).random(SHAPE) * 20
    write(tmp_path / "pet.nrrd", suv, np.eye(3))
    assert np.allclose(read_pet(tmp_path / "pet.nrrd").volume.data, suv, rtol=1e-6)
    labels = np.arange(60).reshape(SHAPE).astype(np.float32)
    write(tmp_path / "bones.nrrd", labels, np.eye(3))
    assert read_labels(tmp_path / "bones.nrrd").volume.data.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.full(SHAPE, 1.5), "not all labels"),
        (np.full(SHAPE, np.nan), "60 of 60 voxels"),
        (np.zeros((5, 4)), "2 dimensions"),
    ],
)
def test_refusals(tmp_path: Path, data: np.ndarray, said: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(data.T)), str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError, match=said):
        read_labels(tmp_path / "a.nrrd")


def test_spacing_that_is_not_in_millimetres(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.uint8))
    image.SetSpacing((0.001, 0.001, 0.003))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match=r"0\.001 x 0\.001 x 0\.003 mm; expected 0\.05 to 50"):
        read_labels(tmp_path / "a.mha")


def test_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_text("NRRD0004\nnonsense\n")
    with pytest.raises(InputError, match="cannot be read as NRRD"):
        read_ct(tmp_path / "a.nrrd")
