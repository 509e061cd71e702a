"""How many voxels of a map each label has, by one quick pass: most of a map is background."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_CHUNK_BYTES = 1 << 20  # small enough for the processor's cache


def label_counts(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(256,) voxels of each label of an array of whole numbers; longer where labels are above 255.

    Raises ValueError for labels below 0.
    """
    flat = labels.ravel(order="K")
    counts = np.zeros(256, np.int64)
    chunk = _CHUNK_BYTES // flat.itemsize
    for start in range(0, flat.size, chunk):
        part = np.bincount(_without_most_zeros(flat[start : start + chunk]), minlength=counts.size)
        part[: counts.size] += counts
        counts = part
    counts[0] = flat.size - counts[1:].sum()
    return counts


def _without_most_zeros(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A run of labels without those of eight bytes that are all background."""
    if labels.nbytes % 8 or not labels.flags.c_contiguous:
        return labels
    eight = labels.view(np.uint64)
    some: npt.NDArray[Any] = eight[eight != 0].view(labels.dtype)
    return some
