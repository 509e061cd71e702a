"""Counting labels: the same as numpy's count of every voxel, whatever the order and kind of the array."""

import numpy as np
import pytest

from petbone.label_counts import label_counts


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(7, 9, 11), (128, 64, 300), (0, 3, 2)])
def test_counts_are_those_of_every_voxel(dtype, shape):
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(shape) < 0.9, 0, rng.integers(0, 67, shape)).astype(dtype)
    expected = np.bincount(labels.ravel().astype(np.int64), minlength=256)
    for turned in (labels, np.asfortranarray(labels), labels.transpose(1, 0, 2), labels[::-1, :, ::2]):
        one = expected if turned.size == labels.size else np.bincount(turned.ravel(), minlength=256)
        np.testing.assert_array_equal(label_counts(turned), one)


def test_labels_above_255_make_it_longer():
    labels = np.zeros((3, 400_000), np.uint16)
    labels[0, 5], labels[2, 399_999] = 300, 65535
    counts = label_counts(labels)
    assert counts.size == 65536
    assert (counts[300], counts[65535], counts[0]) == (1, 1, labels.size - 2)


def test_labels_below_zero_are_refused():
    with pytest.raises(ValueError, match="negative"):
        label_counts(np.array([[-1, 0]], np.int16))
