"""What a person sees while she waits: a bar when the output is a terminal, seconds and memory when asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from petbone.steps import Steps

if TYPE_CHECKING:
    from petbone.cohort_case import Record


@contextmanager
def shown_steps(*, bar: bool, verbose: bool) -> Iterator[Steps]:
    """Steps whose progress is drawn on standard error (`bar`) and whose records are printed (`verbose`)."""
    if bar:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as drawing:
            task = drawing.add_task("", total=1.0)
            steps = Steps(lambda step, done: drawing.update(task, description=step, completed=done))
            yield steps
    else:
        steps = Steps()
        yield steps
    if verbose:
        for record in steps.records:
            line = f"{record['name']}: {record['seconds']:.2f} s, peak {record['peak_memory_mb']} MB"
            print(line, file=sys.stderr)


@contextmanager
def shown_cases(total: int, *, bar: bool, verbose: bool) -> Iterator[Callable[[Record], None]]:
    """What to call with each case's record: a bar with the time left (`bar`), a line each (`verbose`)."""

    def line(record: Record) -> None:
        if verbose:
            beside = f" with {record.against}" if record.against else ""
            print(f"{record.case}{beside}: {record.state}", file=sys.stderr)

    if not bar:
        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pace_s = 600.0  # the last minutes tell the time left: a case may take one, and those done before none
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, speed_estimate_period=pace_s) as drawing:
        task = drawing.add_task("cases", total=total)
        failed = 0

        def drawn(record: Record) -> None:
            nonlocal failed
            failed += record.state == "failed"
            if record.against:  # how many these will be is not known before the cases are done
                drawing.update(task, completed=total, description="comparing examinations of one patient")
                line(record)
                return
            drawing.update(task, advance=1, description=f"cases ({failed} failed)" if failed else "cases")
            line(record)

        yield drawn
