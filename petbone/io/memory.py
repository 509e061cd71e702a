"""Memory for arrays that files are unpacked to.

A system gives memory when it is written to for the first time, and clears it. On a virtual machine that takes
as long as to unpack the voxels that will lie there, so it is done beside, or not at all.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from petbone.errors import ResourceError

TOUCH_BYTES = 16 << 20


def empty(path: Path, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """(count,) for the voxels of a file. Raises ResourceError, with the figure, where memory ends."""
    try:
        return np.empty(count, dtype)
    except MemoryError:
        raise _too_large(path, count * np.dtype(dtype).itemsize) from None


def empty_map(path: Path, count: int) -> npt.NDArray[np.uint8]:
    """(count,) zeros, of which those that are never written take no memory. Raises ResourceError as `empty`.

    For label maps, which are mostly background. numpy's own zeros come in pages of 2 MB where the system has
    such, and few of those hold no bone.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return empty(path, count, np.uint8)
    try:
        return np.frombuffer(mmap.mmap(-1, count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    except OSError:
        raise _too_large(path, count) from None


def put(labels: npt.NDArray[np.uint8], place: npt.NDArray[np.uint8]) -> None:
    """Copy to where all is 0, without a touch of pages that stay so; `place` begins with a page."""
    whole = labels.size - labels.size % mmap.PAGESIZE
    pages = labels[:whole].reshape(-1, mmap.PAGESIZE)
    used = pages.view(np.uint64).any(axis=1)
    place[:whole].reshape(-1, mmap.PAGESIZE)[used] = pages[used]
    place[whole:] = labels[whole:]


def touched_ahead(fresh: npt.NDArray[Any]) -> Iterator[int]:
    """Touch an array that was never written to, in a thread beside; yields up to where it is done, in order.

    What writes there first would do so under Python's lock, as gzip's readers do, and all threads would wait
    for the system. numpy lets go of the lock.
    """
    step = max(1, TOUCH_BYTES // fresh.itemsize)
    starts = range(0, fresh.size, step)
    pool = ThreadPoolExecutor(1)
    try:
        done = pool.map(_touch, [fresh[start : start + step] for start in starts])
        for start, _ in zip(starts, done, strict=True):
            yield start + step
    finally:
        pool.shutdown(cancel_futures=True)


def _touch(fresh: npt.NDArray[Any]) -> None:
    fresh.view(np.uint8)[:: mmap.PAGESIZE] = 0


def _too_large(path: Path, count_bytes: int) -> ResourceError:
    return ResourceError(
        f"{path}: needs {count_bytes / 2**30:.1f} GiB of memory for its voxels", count_bytes / 1e9
    )
