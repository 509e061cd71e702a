"""Connected components of masks and label maps."""

from __future__ import annotations

from typing import Any, Literal

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage


def connected(
    image: npt.NDArray[Any], connectivity: Literal[6, 18, 26]
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Numbers from 1 for the connected pieces of equal non-zero value in a 3-D `image`; 0 elsewhere."""
    if min(image.shape) > 1:
        return cc3d.connected_components(image, connectivity=connectivity)
    # cc3d 4.1 fails on some images one voxel thick; an empty rim avoids it.
    padded = np.pad(image, 1)
    return cc3d.connected_components(padded, connectivity=connectivity)[1:-1, 1:-1, 1:-1]


def label_boxes(labels: npt.NDArray[Any]) -> dict[int, tuple[slice, ...]]:
    """Box of every label in an array of integers, in rising order; 0 is no label.

    Read in the order of memory, which for a CT as it comes from a file is four times as fast.
    """
    order = np.argsort([-abs(stride) for stride in labels.strides], kind="stable")
    back = np.argsort(order)
    boxes = ndimage.find_objects(labels.transpose(order))
    return {n: tuple(box[a] for a in back) for n, box in enumerate(boxes, start=1) if box is not None}


def holes_in_slices(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What a mask (X, Y, Z) surrounds in a slice along any axis: closed in space or not."""
    holes = np.zeros_like(mask)
    for axis in range(3):
        solid, hole = np.moveaxis(mask, axis, 0), np.moveaxis(holes, axis, 0)
        # An empty slice between any two, so that all can be told apart at once; a rim joins what is outside.
        apart = np.zeros((2 * len(solid), solid.shape[1] + 2, solid.shape[2] + 2), bool)
        apart[::2] = True
        apart[::2, 1:-1, 1:-1] = ~solid
        pieces = connected(apart, 6)[::2]
        gaps = pieces[:, 1:-1, 1:-1]
        hole |= (gaps > 0) & (gaps != pieces[:, :1, :1])
    return holes
