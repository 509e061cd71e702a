"""Memory that a net's layers hand on to each other, kept by the process while the net is asked.

A layer's answer is tens of megabytes. glibc gives such a block back to the system as soon as it is free, and
the next layer's is zeroed page by page again: a quarter of the time of a net on a CPU. Other C libraries are
left as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers of <malloc.h>, and what they are at the start of a process (man 3 mallopt).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0, _ARENA_MAX: 1}
_USUAL = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536, _ARENA_MAX: 0}


@contextmanager
def kept_pages() -> Iterator[None]:
    """Within it, what is freed stays with the process; at its end it goes back to the system.

    It holds for the whole process, all of whose new threads take their memory from one arena meanwhile.
    """
    try:
        c = ctypes.CDLL(None)
        set_option, trim = c.mallopt, c.malloc_trim
    except (OSError, TypeError, AttributeError):  # not glibc
        yield
        return
    for option, value in _KEEPING.items():
        set_option(option, value)
    try:
        yield
    finally:
        for option, value in _USUAL.items():
            set_option(option, value)
        trim(0)
