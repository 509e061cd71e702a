"""Memory for what is read: the same values, given in order, taken only where something lies."""

import gzip
import mmap
import os
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from petbone.errors import InputError, ResourceError
from petbone.io import memory
from petbone.io.nifti import read_nifti

HERE = Path("mask.nii.gz")


def own_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


@pytest.mark.parametrize("size", [1, 50, 4096, 1 << 20, (1 << 20) + 77])
def test_a_map_holds_what_was_put(size: int) -> None:
    rng = np.random.default_rng(size)
    labels = np.where(rng.random(size) < 1e-4, rng.integers(1, 63, size), 0).astype(np.uint8)
    labels[-1] = 7
    place = memory.empty_map(HERE, size)
    assert not place.any()
    memory.put(labels, place)
    np.testing.assert_array_equal(place, labels)
    assert place.flags.writeable


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of memory")


@linux
def test_background_takes_no_memory() -> None:
    labels = np.zeros(1 << 20, np.uint8)
    labels[5000] = 3
    place = memory.empty_map(HERE, 64 << 20)
    before_kb = own_kb()
    for start in range(0, place.size, labels.size):
        memory.put(labels, place[start : start + labels.size])
    assert np.count_nonzero(place) == 64
    assert own_kb() - before_kb < 64 * mmap.PAGESIZE / 1000 + 4096


def test_memory_is_touched_in_order_wholly_and_little_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    step = 4 * mmap.PAGESIZE
    monkeypatch.setattr(memory, "TOUCH_BYTES", step)
    fresh = np.full(20 * step + 6, 9, np.uint8)
    touching = memory.touched_ahead(fresh)
    assert next(touching) == step
    time.sleep(0.1)
    assert (fresh[: step : mmap.PAGESIZE] == 0).all()
    assert (fresh[(memory.AHEAD + 1) * step :] == 9).all()
    assert list(touching) == [*range(2 * step, 21 * step, step), fresh.size]
    assert (fresh[:: mmap.PAGESIZE] == 0).all()
    assert np.count_nonzero(fresh == 0) == 81
    assert list(memory.touched_ahead(fresh[:0])) == []


@linux
def test_a_file_that_ends_early_leaves_no_thread_and_little_memory(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((512, 512, 800))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = 352
    packed = gzip.compress(bytes(header.binaryblock) + bytes(4) + bytes(4_000_000), 1)
    # deflate packs zeros a thousandfold: what is missing could be there
    (tmp_path / "ct.nii.gz").write_bytes(packed + os.urandom(600_000))
    threads, before_kb = threading.active_count(), own_kb()
    with pytest.raises(InputError, match=r"ct\.nii\.gz: the") as kept:
        read_nifti(tmp_path / "ct.nii.gz", (np.int16,))
    assert threading.active_count() == threads, kept
    assert own_kb() - before_kb < 1.2e-3 * memory.TOUCH_BYTES * (memory.AHEAD + 2)


def test_where_pages_cannot_be_had_background_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MAP_PRIVATE")  # as on Windows
    for size in (8_000, 27_000, 64_000, 125_000):
        for _ in range(20):
            np.full(size, 9, np.uint8)  # what was freed is dirty
        place = memory.empty_map(HERE, size)
        assert not place.any()


def test_too_much_is_a_matter_of_the_machine() -> None:
    for asked in (lambda: memory.empty(HERE, 1 << 62, np.uint8), lambda: memory.empty_map(HERE, 1 << 62)):
        with pytest.raises(ResourceError, match=r"mask\.nii\.gz: needs \d+.0 GiB of memory for its voxels"):
            asked()
