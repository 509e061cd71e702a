"""Work in a process beside, or in a thread: the same result, errors as they were raised, no child left."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from petbone.beside import HAS_FORK, beside
from petbone.errors import InputError

WAYS = [False, *([True] if HAS_FORK else [])]
needs_fork = pytest.mark.skipif(not HAS_FORK, reason="this system has no safe fork")


@pytest.mark.parametrize("fork", WAYS)
def test_the_result_is_that_of_the_work(fork):
    array = np.arange(3_000_000.0)  # more than a pipe holds
    with beside(lambda: array * 2, fork) as doubled:
        np.testing.assert_array_equal(doubled(), array * 2)
        assert doubled() is doubled()


@pytest.mark.parametrize("fork", WAYS)
def test_large_arrays_come_back_as_they_were_and_can_be_written_to(fork):
    def work() -> dict[str, np.ndarray]:
        cube = np.arange(1_500_000, dtype=np.int16).reshape(100, 100, 150)
        return {"c": cube, "fortran": np.asfortranarray(cube), "part": cube[::2, 5:], "small": cube[:1]}

    with beside(work, fork, nice=3) as answer:
        found = answer()
    expected = work()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert found["fortran"].flags.f_contiguous
    found["c"][0, 0, 0] = 7
    assert found["c"][0, 0, 0] == 7


@needs_fork
def test_a_nice_process_lets_others_go_first():
    with beside(lambda: os.nice(0), nice=5) as theirs:
        assert theirs() == min(os.nice(0) + 5, 19)


@pytest.mark.parametrize("fork", WAYS)
def test_what_the_work_raises_is_raised_where_its_result_is_asked_for(fork):
    def refused() -> None:
        raise InputError("file: found this; expected that")

    with beside(refused, fork) as answer, pytest.raises(InputError, match="expected that"):
        answer()


@pytest.mark.parametrize("fork", WAYS)
def test_beside_another_thread_that_holds_a_lock(fork):
    lock, done = threading.Lock(), threading.Event()
    with lock:
        other = threading.Thread(target=done.wait)
        other.start()
        with beside(lambda: np.linalg.solve(np.eye(300) * 2, np.ones(300)).sum(), fork) as half:
            assert half() == pytest.approx(150)
        done.set()
        other.join()


@needs_fork
def test_work_runs_beside_ours():
    with beside(os.getpid) as theirs:
        assert theirs() != os.getpid()


@needs_fork
def test_a_killed_process_costs_its_time_and_not_its_result():
    ours = os.getpid()

    def work() -> int:
        if os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7

    with beside(work) as seven:
        assert seven() == 7


@needs_fork
def test_what_is_not_asked_for_is_given_up():
    before = children()
    started = time.monotonic()
    with beside(lambda: time.sleep(60)):
        assert len(children()) == len(before) + 1
    with pytest.raises(ZeroDivisionError), beside(lambda: time.sleep(60)):
        raise ZeroDivisionError
    assert time.monotonic() - started < 30
    assert children() == before  # no child is left, not even a dead one


def children() -> set[str]:
    """Process numbers of our children, dead ones whom nobody has asked for included."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def test_with_one_process_the_work_is_done_here_once_and_only_if_asked_for():
    done = []

    def work() -> int:
        done.append(os.getpid())
        return len(done)

    with beside(work, processes=1):
        pass
    assert done == []
    with beside(work, processes=1) as answer:
        assert (answer(), answer()) == (1, 1)
    assert done == [os.getpid()]
