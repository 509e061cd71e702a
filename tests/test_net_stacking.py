"""The rib above rib 8 is rib 7, however little of it is seen."""

import numpy as np
import pytest

from petbone.net.stacking import number_by_order, second_ribs


def ribs(numbers, step=6, first_z=60):
    """Bars of 20 voxels along x, `step` voxels apart, rib 1 at the top: index and true number."""
    index, truth = [], []
    for n in numbers:
        z = first_z - n * step
        index += [(x, 5, z + (x > 10)) for x in range(20)]
        truth += [n] * 20
    return np.array(index), np.array(truth)


@pytest.mark.parametrize("known", [[8], [5, 9], [12], [4]])
def test_numbers_go_up_and_down_from_what_is_known(known):
    index, truth = ribs(range(4, 13))
    number = np.where(np.isin(truth, known), truth, 0)
    guess = np.clip(truth + 2, 1, 12)  # wrong everywhere; 11 and 12 would be one
    guess[truth >= 10] = truth[truth >= 10]
    assert np.array_equal(number_by_order(index, number, guess, 4.0), truth)


def test_the_rest_of_a_rib_is_not_the_next_rib():
    """A rib one voxel thick that slopes: below its unknown half stands its own known half."""
    index = np.array([(x, 5, 30 - z) for x in range(10) for z in range(4)])
    known = index[:, 2] > 28
    out = number_by_order(index, np.where(known, 7, 0), np.full(len(index), 9), 4.0)
    assert (out == 7).all()


def test_far_and_lonely_pieces_keep_their_guess():
    index, truth = ribs([2, 11])
    number = np.where(truth == 2, 2, 0)
    assert np.array_equal(
        number_by_order(index, number, np.full(len(truth), 10), 4.0), np.where(number, 2, 10)
    )
    assert np.array_equal(number_by_order(index, truth, truth, 4.0), truth)


def test_a_rib_that_the_net_numbers_in_patches_is_one_rib():
    """The lateral half of rib 6, its back cut off by the field: the net says 5 to 8, rib 7 below says 6."""
    index, truth = ribs([6, 7])
    number = np.where(truth == 7, 7, 0)
    guess = np.where(truth == 6, 5 + index[:, 0] // 5, truth)
    assert np.array_equal(number_by_order(index, number, guess, 4.0), truth)


def test_a_rib_beside_the_next_one_goes_by_it():
    """A chest that grows wider downwards: no voxel of rib 6 has rib 7 right below it."""
    index, truth = ribs([6, 7])
    index[truth == 7, 1] += 3
    number = np.where(truth == 7, 7, 0)
    guess = np.where(truth == 6, 9, truth)
    assert np.array_equal(number_by_order(index, number, guess, 4.0), truth)


def test_of_two_ribs_on_one_vertebra_the_nearer_is_its_own():
    """Ribs 7 and 8 under one number: the one that lies farther from the vertebra is the second."""
    index, truth = ribs([7, 8])
    number = np.full(len(index), 8)
    away = np.where(truth == 8, 10.0, 25.0)
    assert np.array_equal(second_ribs(index, number, away, 10), truth == 7)
    assert np.array_equal(second_ribs(index, number, -away, 10), truth == 8)
    assert not second_ribs(index, truth, away, 10).any()
    assert not second_ribs(index, np.zeros(len(index), int), away, 10).any()


def test_a_gap_or_a_crumb_is_no_second_rib():
    index, truth = ribs([7, 8])
    away = np.where(truth == 8, 10.0, 25.0)
    crumb = (truth == 8) | (index[:, 0] < 4)
    assert not second_ribs(index[crumb], np.full(crumb.sum(), 8), away[crumb], 10).any()
    one = index[truth == 7]
    gap = one[(one[:, 0] < 8) | (one[:, 0] > 10)]
    assert not second_ribs(gap, np.full(len(gap), 8), np.arange(len(gap), dtype=float), 5).any()
