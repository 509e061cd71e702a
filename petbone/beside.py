"""Work that goes on beside ours, on another core.

Python's lock lets threads run by turns, and most of measuring is many small steps; so the work goes to a
process that is forked, which has all our arrays without a copy and sends back what it found. Where no fork is
safe (elsewhere than on Linux) it goes to a thread, with the same result. Where others have the cores already,
as in a cohort, it is done in place.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import NoReturn, TypeVar

T = TypeVar("T")

HAS_FORK = sys.platform == "linux"


def beside(
    work: Callable[[], T], fork: bool = HAS_FORK, processes: int = 2, nice: int = 0
) -> AbstractContextManager[Callable[[], T]]:
    """Begins `work`; what the ``with`` is given waits for its result, or raises what it raised.

    `work` changes nothing but what it returns, which can be pickled. What is not finished at the end of the
    body is given up. Should its process be killed, the work is done here. With `processes` 1 nothing goes on
    beside: the work is done here, when its result is asked for. `nice` (0 to 19): how far it lets others go
    first, where there are more than cores; for short work whose result is asked for last.
    """
    if processes == 1:
        return nullcontext(cache(work))
    return _in_a_process(work, nice) if fork else _in_a_thread(work)


@contextmanager
def _in_a_thread(work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work).result


@contextmanager
def _in_a_process(work: Callable[[], T], nice: int) -> Iterator[Callable[[], T]]:
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        # Python warns of forks beside threads. The child computes and leaves, and takes no lock of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _compute(work, theirs, nice)
    os.close(theirs)
    found: list[T] = []

    def result() -> T:
        if not found:
            with os.fdopen(ours, "rb", closefd=False) as answers:
                answer = answers.read()
            value, error = pickle.loads(answer) if answer else (work(), None)  # no answer: killed
            if error is not None:
                raise error
            found.append(value)
        return found[0]

    try:
        yield result
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _compute(work: Callable[[], object], theirs: int, nice: int) -> NoReturn:
    """The life of the child."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C our maker hears, and ends us
        os.nice(nice)
        try:
            answer = pickle.dumps((work(), None))
        except Exception as error:
            answer = pickle.dumps((None, error))
        with os.fdopen(theirs, "wb") as answers:
            answers.write(answer)
    finally:
        os._exit(0)
