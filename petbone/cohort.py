"""A cohort from its table to its tables, in a folder that a later run can continue."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from petbone.cohort_case import LOCK, Record, cores
from petbone.cohort_compare import Judge, folder_of, planned, sweep_pairs
from petbone.cohort_results import write_cohort
from petbone.cohort_table import CohortTable
from petbone.cohort_workers import local_workers, refuse_unfit_workers, run_cases, run_pairs, workers_of
from petbone.errors import InputError, ResourceError, UsageError
from petbone.examination import all_indices
from petbone.folders import refuse_existing
from petbone.indices import choose_index
from petbone.pipeline import CaseOptions
from petbone.repeatability import published_limits
from petbone.steps import available_memory_gb

WORKER_GB = 0.5
"""What a worker takes with all its libraries: with less it would be ended as often as it is begun."""
CASE_GB = 3.0
"""What a worker must have at least when nobody says how many there are: a CT of 150 M voxels."""


def cohort_of(
    table: CohortTable,
    options: CaseOptions,
    output: Path,
    where: tuple[int | None, str | None],
    on_record: Callable[[Record], None] = lambda _: None,
    judge: Judge | None = None,
) -> list[Record]:
    """Do every case that is not done, compare those of one patient, and write the tables of all.

    Returns a record for each case, then one for each two cases that were compared, or should have been
    (`Record.against`). `where`: how many workers here (None: as fit), or the address of a scheduler that has
    workers. `options.max_memory_gb` is that of a worker. `judge`: limits of repeatability; None: what is
    published. Raises InputError for options and folders that cannot be used, and ResourceError when no case
    can be done any more.
    """
    options = _checked(options)
    judge = judge or Judge(published_limits(), own=False)
    count, scheduler = where
    with opened(output) as cases:
        if scheduler is None:
            count = count or default_workers(len(table.rows))
            free_gb = available_memory_gb()
            if options.max_memory_gb is None and free_gb is not None:
                _refuse_small_shares(free_gb, count)
                options = replace(options, max_memory_gb=free_gb / count)
            workers = local_workers(count, options.max_memory_gb)
        else:
            workers = workers_of(scheduler)
        with workers as client:
            if scheduler is not None:
                refuse_unfit_workers(client, output / LOCK)
            records = run_cases(table.rows, options, cases, client, on_record)
            pairs, hindered = planned(table.visits, records, output)
            compared = run_pairs(pairs, judge, options.threads, output, client, on_record)
        done = [*zip(pairs, compared, strict=True), *hindered]
        made = [folder_of(pair, output) for pair, one in done if one.state in ("done", "kept")]
        sweep_pairs(output, made)
        return write_cohort(table, records, _stated(options, judge), output, done)


def _refuse_small_shares(free_gb: float, workers: int) -> None:
    if free_gb / workers < WORKER_GB:
        raise ResourceError(
            f"{free_gb:.1f} GB of memory are free, {free_gb / workers:.2f} GB for each of {workers} workers; "
            f"a worker takes {WORKER_GB} GB before it has a case: give fewer --workers"
        )


def _checked(options: CaseOptions) -> CaseOptions:
    """Refuse, before any case begins, what none could be done with; paths as other processes find them."""
    indices, wanted = all_indices(options)
    if wanted is not None:
        try:
            choose_index(indices, "", wanted)
        except ValueError as error:
            raise UsageError(f"--index: {error}") from error
    if options.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device: {options.device!r} is none of auto, cpu, cuda")
    if options.weights is not None and not options.weights.is_file():
        raise InputError(f"{options.weights}: no such weights file; leave it out to use the packaged weights")
    rule = None if options.rule is None else options.rule.absolute()
    weights = None if options.weights is None else options.weights.absolute()
    return replace(options, rule=rule, weights=weights)


def _stated(options: CaseOptions, judge: Judge) -> dict[str, Any]:
    """The options that numbers depend on; no path."""
    return {
        "options": {
            "index": options.index,
            "rule": options.rule is not None,
            "weights": options.weights is not None,
            "device": options.device,
            "align": options.align,
            "psf_mm": options.psf_mm,
            "limits": judge.own,
        }
    }


def default_workers(cases: int) -> int:
    """As many as there are cores and memory for, and no more than cases."""
    free_gb = available_memory_gb()
    fit = cores() if free_gb is None else int(free_gb // CASE_GB)
    return max(1, min(cores(), fit, cases))


@contextmanager
def opened(output: Path) -> Iterator[Path]:
    """The folder of the cases of a cohort, new or of earlier runs, for this run alone.

    Raises InputError when it holds something else, or when another run is at work in it.
    """
    refuse_existing(output, overwrite=True, mark=LOCK)
    cases = output / "cases"
    try:
        cases.mkdir(parents=True, exist_ok=True)
        lock = (output / LOCK).open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output}: cannot be made: {error.strerror}; choose another with -o") from error
    with lock:
        _lock(lock, output)
        lock.truncate(0)
        lock.write(uuid.uuid4().hex)
        lock.flush()
        _sweep(output)
        try:
            yield cases
        finally:
            _sweep(output)


def _lock(file: IO[str], output: Path) -> None:
    """Until the file is closed, or its process ends in whatever way."""
    if sys.platform == "win32":
        return
    import fcntl  # does not exist on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{output}: another petbone cohort is at work in it; wait for it, or stop it"
        ) from None
    except OSError:  # a file system without locks
        return


def _sweep(output: Path) -> None:
    """Remove what killed processes have left."""
    for pattern in (".*.part", ".*.old"):
        for left in list(output.rglob(pattern)):
            shutil.rmtree(left, ignore_errors=True)
