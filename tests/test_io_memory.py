"""Memory for what is read: the same values, given in order, taken only where something lies."""

import sys
from pathlib import Path

import numpy as np
import pytest

from petbone.errors import ResourceError
from petbone.io import memory

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


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of memory")
def test_background_takes_no_memory() -> None:
    labels = np.zeros(1 << 20, np.uint8)
    labels[5000] = 3
    place = memory.empty_map(HERE, 64 << 20)
    before_kb = own_kb()
    for start in range(0, place.size, labels.size):
        memory.put(labels, place[start : start + labels.size])
    assert np.count_nonzero(place) == 64
    assert own_kb() - before_kb < 4096


def test_memory_is_touched_in_order_and_wholly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TOUCH_BYTES", 1 << 16)
    fresh = np.empty(100_000, np.int16)
    fresh[:] = 9
    ends = list(memory.touched_ahead(fresh))
    assert ends == [32768, 65536, 98304, 131072]
    assert (fresh.view(np.uint8)[::4096] == 0).all()
    assert (fresh == 9).sum() > 99_000


@pytest.mark.parametrize("count", [1 << 46, 1 << 62])
def test_too_much_is_a_matter_of_the_machine(count: int) -> None:
    for asked in (lambda: memory.empty(HERE, count, np.uint8), lambda: memory.empty_map(HERE, count)):
        with pytest.raises(ResourceError, match=r"mask.nii.gz: needs \d+.0 GiB of memory for its voxels"):
            asked()
