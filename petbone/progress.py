"""What a person sees while she waits: a bar when the output is a terminal, seconds and memory when asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from petbone.steps import Steps


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
