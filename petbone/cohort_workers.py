"""Worker processes, here or on a cluster, and the cases of a cohort done by them, each a task of its own.

What travels to a worker is a row of the table, and what comes back is a small record: workers read and write
the files themselves.
"""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Client, KilledWorker, LocalCluster, as_completed, get_worker

import petbone
from petbone.cohort_case import Networks, Record, cores, do_case, run_in
from petbone.cohort_compare import Judge, do_pair
from petbone.cohort_dates import Pair
from petbone.cohort_table import CohortRow
from petbone.errors import InputError, ResourceError
from petbone.pipeline import CaseOptions

DEATHS = 2
"""A case whose worker died so many times is not tried again."""

_ENDED_FOR_MEMORY = "worker-restart-memory"  # the topic of dask's nannies

_OF_A_WORKER = {
    "OMP_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
    # glibc's: what an array has left goes to the next one, of the next case and of other threads, too. Dask's
    # own choice gives it back at every turn, and the system has to clear it each time: a quarter of the time.
    "MALLOC_ARENA_MAX": 1,
    "MALLOC_MMAP_MAX_": 0,
    "MALLOC_TRIM_THRESHOLD_": 1 << 40,
}
"""Set in a worker's process before it begins."""

_LOST = "the scheduler is lost; the cases that are done stay: run again when it is back"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the body: dask cannot be begun or ended by half.

    Processes that the body begins never hear of it. In a terminal it goes to all of them, and the parent ends
    its workers.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    masks = hasattr(signal, "pthread_sigmask")  # Windows has none
    if masks:
        # Threads and processes inherit a mask, as they do no handler. The tracker lifts it where it is begun.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


@contextmanager
def local_workers(count: int, memory_gb: float | None) -> Iterator[Client]:
    """Worker processes on this machine; one that takes more than `memory_gb` is ended and begun anew."""
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        # A worker that holds the network is no reason to pause: it has one case at a time.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.97,
        "distributed.nanny.pre-spawn-environ": _OF_A_WORKER,
    }
    place = {
        "n_workers": count,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",  # any port: two cohorts may run beside each other
        "memory_limit": 0 if memory_gb is None else int(memory_gb * 1e9),
        "silence_logs": logging.CRITICAL,
    }
    up, client = _begun(settings, place)
    try:
        yield client
    finally:
        with _uninterrupted():
            up.close()


def _begun(settings: dict[str, Any], place: dict[str, Any], again: bool = True) -> tuple[ExitStack, Client]:
    """A cluster of this machine and what ends it; a worker that dies as it begins is no reason to give up."""
    up = ExitStack()
    try:
        with _uninterrupted():
            scratch = up.enter_context(tempfile.TemporaryDirectory(prefix="petbone-"))
            up.enter_context(dask.config.set(settings))
            cluster = up.enter_context(LocalCluster(local_directory=scratch, **place))
            return up, up.enter_context(Client(cluster))
    except (OSError, RuntimeError) as error:
        with _uninterrupted():
            up.close()
        if again:
            return _begun(settings, place, again=False)
        raise ResourceError(f"no {place['n_workers']} workers can be begun here: {error}") from error
    except BaseException:  # Ctrl-C, told of when all had begun
        with _uninterrupted():
            up.close()
        raise


@contextmanager
def workers_of(scheduler: str, timeout_s: float = 20) -> Iterator[Client]:
    """The workers of a scheduler that runs somewhere. Raises InputError when none is to be had."""
    with _without_logs():
        try:
            with _uninterrupted():
                client = Client(scheduler, timeout=timeout_s)
        except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
            needs = "; certificates stand in dask's configuration" if scheduler.startswith("tls:") else ""
            raise InputError(
                f"{scheduler}: no scheduler answers ({type(error).__name__}); expected the address that dask "
                f"scheduler has printed, as tcp://node1:8786{needs}"
            ) from error
        try:
            yield client
        finally:
            with _uninterrupted():
                client.close()


@contextmanager
def _without_logs() -> Iterator[None]:
    """Dask's loggers silent: one line of ours says what is wrong."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def refuse_unfit_workers(client: Client, mark: Path) -> None:
    """Raise InputError unless every worker has one thread, this petbone, and sees the file `mark`.

    Raises ResourceError where the scheduler is lost.
    """
    try:
        threads = client.nthreads()
        found = client.run(_what_is_there, str(mark.absolute()), on_error="return")
    except OSError as error:
        raise ResourceError(_LOST) from error
    if not threads:
        raise InputError("the scheduler has no worker; start some: dask worker ADDRESS --nthreads 1")
    if max(threads.values()) > 1:
        raise InputError(
            f"a worker has {max(threads.values())} threads and would do as many cases in one process; start "
            "workers with --nthreads 1 (a case uses threads of its own)"
        )
    for answer in found.values():
        if isinstance(answer, OSError):  # of connections: this one is gone by now
            continue
        if isinstance(answer, Exception):
            raise InputError(
                f"the workers cannot run petbone ({type(answer).__name__}); install the same version for them"
            ) from answer
        version, sees = answer
        if version != petbone.__version__:
            raise InputError(
                f"a worker has petbone {version}, here it is {petbone.__version__}; install the same version"
            )
        if not sees:
            raise InputError(
                f"{mark.parent}: a worker does not see it; expected a folder that all machines share"
            )


def _what_is_there(path: str) -> tuple[str, bool]:
    return petbone.__version__, Path(path).exists()


def run_cases(
    rows: Sequence[CohortRow],
    options: CaseOptions,
    cases: Path,
    client: Client,
    on_record: Callable[[Record], None] = lambda _: None,
) -> list[Record]:
    """Do every case that is not done; a record for each, in the order of the rows.

    A failing case is a record, and the others go on. Raises ResourceError when no other can be done either:
    the disk is full, or the workers are lost; what is done stays.
    """
    options = replace(options, processes=1)
    where = cases.absolute(), run_in(cases)
    tasks = [_Task(Record(row.case, "failed"), partial(_case, row, options, where)) for row in rows]
    return _run(tasks, client, cases, on_record)


def run_pairs(
    pairs: Sequence[Pair],
    judge: Judge,
    threads: int | None,
    output: Path,
    client: Client,
    on_record: Callable[[Record], None] = lambda _: None,
) -> list[Record]:
    """Lay the cases of every pair beside each other, as `run_cases` does cases."""
    where = output.absolute(), run_in(output / "cases")
    tasks = [
        _Task(
            Record(pair.second.case, "failed", against=pair.first.case),
            partial(_pair, pair, judge, threads, where),
        )
        for pair in pairs
    ]
    return _run(tasks, client, output / "cases", on_record)


@dataclass(frozen=True)
class _Task:
    """What a worker calls with how many workers its machine has, and the record where it never answers."""

    lost: Record
    work: Callable[[int], Record]


def _run(
    tasks: Sequence[_Task], client: Client, cases: Path, on_record: Callable[[Record], None]
) -> list[Record]:
    found: dict[int, Record] = {}
    flying: dict[str, tuple[int, Any]] = {}
    waiting = iter(enumerate(tasks))
    done = as_completed(raise_errors=False)
    try:
        while len(found) < len(tasks):
            neighbours = _neighbours(client)
            # One for each worker: none waits in a line of its own, and who kills a worker is known.
            while len(flying) < max(1, sum(neighbours.values())) and (nxt := next(waiting, None)):
                n, task = nxt
                future = client.submit(
                    task.work,
                    max(neighbours.values(), default=1),
                    key=f"petbone-{uuid.uuid4().hex}",
                    pure=False,
                )
                flying[future.key] = (n, future)
                done.add(future)
            future = next(done)
            n, _ = flying.pop(future.key)
            record = _record_of(future, tasks[n].lost, client)
            if record.disk_full:
                raise ResourceError(_full(cases, len(tasks), found, record))
            found[n] = record
            on_record(record)
    except OSError as error:  # of connections
        raise ResourceError(_LOST) from error
    except RuntimeError as error:  # dask's, of a client that has lost its scheduler
        if isinstance(error, ResourceError) or client.status == "running":
            raise
        raise ResourceError(_LOST) from error
    finally:
        if client.status == "running":
            with _uninterrupted(), suppress(OSError):
                client.cancel([future for _, future in flying.values()])
    return [found[n] for n in range(len(tasks))]


def _neighbours(client: Client) -> Counter[str]:
    """How many workers there are, by machine."""
    return Counter(str(urlsplit(address).hostname) for address in client.nthreads())


def _case(row: CohortRow, options: CaseOptions, where: tuple[Path, str], neighbours: int) -> Record:
    """In the worker. Its share of the cores are the threads of the case."""
    worker = get_worker()
    if not hasattr(worker, "petbone_networks"):  # kept with the worker, from case to case
        worker.petbone_networks = Networks()
    own = worker.memory_manager.memory_limit  # its nanny ends it past this
    allowed = [gb for gb in (options.max_memory_gb, own and own / 1e9) if gb]
    threads = _share(options.threads, neighbours)
    options = replace(options, threads=threads, max_memory_gb=min(allowed, default=None))
    cases, run = where
    return do_case(row, options, cases, worker.petbone_networks.load, run)


def _pair(pair: Pair, judge: Judge, threads: int | None, where: tuple[Path, str], neighbours: int) -> Record:
    """In the worker."""
    output, run = where
    return do_pair(pair, judge, output, _share(threads, neighbours), run)


def _share(threads: int | None, neighbours: int) -> int:
    return threads or max(1, cores() // neighbours)


def _record_of(future: Any, lost: Record, client: Client) -> Record:
    if future.status == "finished":
        record: Record = future.result()
        return record
    if future.status == "cancelled":
        raise ResourceError(_LOST)
    error = future.exception()
    if isinstance(error, KilledWorker):
        return _of_dead_worker(lost, error, client)
    return replace(lost, step="worker", error=f"defect of petbone: {type(error).__name__}")


def _of_dead_worker(lost: Record, error: KilledWorker, client: Client) -> Record:
    """Nannies tell the scheduler whom they have ended for memory; of others nobody knows the reason."""
    last = error.last_worker
    ended = [event for _, event in client.get_events(_ENDED_FOR_MEMORY) if event["worker"] == last.address]
    if not ended:
        said = "its worker died each time it was tried: killed, or by a defect of a library"
        return replace(lost, step="worker", error=said)
    took_gb = ended[-1]["rss"] / 1e9
    said = (
        f"its worker took {took_gb:.2f} GB and may take {last.memory_limit / 1e9:.2f} GB; give a larger "
        "--max-memory-gb, or fewer --workers"
    )
    return replace(lost, step="worker", error=said, too_small=True, needed_gb=took_gb)


def _full(cases: Path, total: int, found: dict[int, Record], last: Record) -> str:
    free_mb = shutil.disk_usage(cases).free / 1e6
    ready = sum(record.state != "failed" for record in found.values())
    what = "pairs of cases" if last.against else "cases"
    return (
        f"{cases.parent}: the disk is full ({free_mb:.0f} MB free) with {ready} of {total} {what} done; make "
        "room and run again: it continues"
    )
