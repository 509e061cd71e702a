"""`petbone cohort`: all cases of a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from petbone.cli_options import (
    Align,
    Device,
    IndexName,
    PsfMm,
    Quiet,
    Rule,
    Weights,
    no_option,
    refuse_unknown_align,
)
from petbone.errors import ResourceError


def cohort(
    table: Annotated[Path, typer.Argument(help="CSV, TSV, .xlsx or Parquet with columns case, ct, pet, ...")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", callback=no_option, help="Folder of the cohort; a run in it goes on."),
    ],
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes here; default: as cores and memory allow."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler to use instead, as tcp://node1:8786.")
    ] = None,
    index: IndexName = None,
    rule: Rule = None,
    psf_mm: PsfMm = None,
    align: Align = "report",
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each worker; default: its share of the cores.")
    ] = None,
    weights: Weights = None,
    max_memory_gb: Annotated[
        float | None,
        typer.Option(min=0.5, help="Memory of each worker; default: its share of what is free."),
    ] = None,
    quiet: Quiet = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print a line for each case.")
    ] = False,
) -> None:
    """All cases of a table; running it again continues, and redoes only what was changed.

    Example: petbone cohort patients.csv -o cohort --workers 4
    """
    refuse_unknown_align(align)
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("a scheduler has workers of its own: give one of --workers and --scheduler")
    from petbone.cohort_table import read_cohort

    found = read_cohort(table, output)
    for note in found.notes:
        _say(f"note: {note}", quiet)
    from petbone.cohort import cohort_of
    from petbone.pipeline import CaseOptions
    from petbone.progress import shown_cases

    options = CaseOptions(index, rule, device, threads, weights, max_memory_gb, align, psf_mm)
    with shown_cases(len(found.rows), bar=not quiet and sys.stderr.isatty(), verbose=verbose) as show:
        records = cohort_of(found, options, output, (workers, scheduler), show)
    failed = [record for record in records if record.state == "failed"]
    for record in failed:
        print(f"petbone: {record.case}: {record.step}: {record.error}", file=sys.stderr)
    states = [record.state for record in records]
    _say(f"{states.count('done')} done, {states.count('kept')} done before, {len(failed)} failed", quiet)
    _say(f"tables: {output}", quiet)
    small = [record for record in failed if record.too_small]
    if small:
        needs = [record.needed_gb for record in small if record.needed_gb is not None]
        most = f" (memory: up to {max(needs):.1f} GB needed)" if needs else ""
        raise ResourceError(
            f"the machine is too small for {len(small)} of {len(records)} cases{most}; make room, or give a "
            "larger --max-memory-gb or fewer --workers, and run again: it continues"
        )
    if failed:
        raise typer.Exit(5)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text)
