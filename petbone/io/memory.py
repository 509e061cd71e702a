"""Memory for arrays that files are unpacked to.

A system gives memory when it is written to for the first time, and clears it. On a virtual machine that takes
as long as to unpack the voxels that will lie there, so it is done beside, or not at all.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from petbone.errors import ResourceError

TOUCH_BYTES = 16 << 20
"""A piece: so much is touched at a time."""
AHEAD = 4


def empty(path: Path, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """(count,) for the voxels of a file. Raises ResourceError, with the figure, where memory ends."""
    try:
        return np.empty(count, dtype)
    except MemoryError:
        raise _too_large(path, count * np.dtype(dtype).itemsize) from None


def empty_map(path: Path, count: int) -> npt.NDArray[np.uint8]:
    """(count,) zeros for a label map, which is mostly background. Raises ResourceError as `empty`.

    On Linux and macOS pages that are never written to take no memory: numpy's own zeros come in pages of 2 MB
    where the system has such, and few of those hold no bone.
    """
    try:
        if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
            return np.zeros(count, np.uint8)
        pages = mmap.mmap(-1, count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (MemoryError, OSError):
        raise _too_large(path, count) from None
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux; a kernel without large pages refuses it
        with suppress(OSError):
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def put(labels: npt.NDArray[np.uint8], place: npt.NDArray[np.uint8]) -> None:
    """Copy to where all is 0, without a touch of pages that stay so; `place` begins with a page."""
    whole = labels.size - labels.size % mmap.PAGESIZE
    pages = labels[:whole].reshape(-1, mmap.PAGESIZE)
    used = pages.view(np.uint64).any(axis=1)
    place[:whole].reshape(-1, mmap.PAGESIZE)[used] = pages[used]
    place[whole:] = labels[whole:]


def touched_ahead(fresh: npt.NDArray[Any]) -> Generator[int, None, None]:
    """Touch an array that was never written to, in a thread beside; yields up to where it is done, in order.

    What writes there first would do so under Python's lock, as gzip's readers do, and all threads would wait
    for the system. numpy lets go of the lock. No more than `AHEAD` pieces are touched before they are asked
    for: a file may end long before what its header announces. To be closed, where it is not used up.
    """
    step = max(1, TOUCH_BYTES // fresh.itemsize)
    pieces = [fresh[start : start + step] for start in range(0, fresh.size, step)]
    pool = ThreadPoolExecutor(1)
    try:
        touching = deque(pool.submit(_touch, piece) for piece in pieces[:AHEAD])
        for n in range(len(pieces)):
            touching.popleft().result()
            touching.extend(pool.submit(_touch, piece) for piece in pieces[n + AHEAD : n + AHEAD + 1])
            yield min((n + 1) * step, fresh.size)
    finally:
        pool.shutdown(cancel_futures=True)


def _touch(fresh: npt.NDArray[Any]) -> None:
    fresh.view(np.uint8)[:: mmap.PAGESIZE] = 0


def _too_large(path: Path, count_bytes: int) -> ResourceError:
    return ResourceError(
        f"{path}: needs {count_bytes / 2**30:.1f} GiB of memory for its voxels", count_bytes / 1e9
    )
