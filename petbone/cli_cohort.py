"""`petbone cohort`: all cases of a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from petbone.cli_options import (
    Align,
    Device,
    IndexName,
    LabelsOf,
    LimitsFile,
    PsfMm,
    Quiet,
    Rule,
    Weights,
    no_option,
    refuse_unknown_align,
)
from petbone.errors import ResourceError

if TYPE_CHECKING:
    from petbone.cohort_case import Record


def cohort(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV, TSV, .xlsx or Parquet with columns case, ct, pet, ...; or a BIDS data set."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", callback=no_option, help="Folder of the cohort; a run in it goes on."),
    ],
    derivatives: Annotated[
        str | None,
        typer.Option(help="Of a BIDS data set: the pipeline in derivatives whose masks are taken."),
    ] = None,
    labels: LabelsOf = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes here; default: as cores and memory allow."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler to use instead, as tcp://node1:8786.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>",
            help="Compare groups of patients by this column of the table (arm, ...); may be repeated.",
        ),
    ] = None,
    index: IndexName = None,
    rule: Rule = None,
    psf_mm: PsfMm = None,
    align: Align = "report",
    limits: LimitsFile = None,
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
    from petbone.cohort_groups import compared_by

    if table.is_dir():
        from petbone.cohort_bids import read_bids

        found = read_bids(table, output, derivatives, labels)
    elif derivatives is not None or labels is not None:
        raise typer.BadParameter("--derivatives and --labels are of a BIDS data set; a table has columns")
    else:
        from petbone.cohort_table import read_cohort

        found = read_cohort(table, output)
    found = compared_by(found, by or [])
    for note in found.notes:
        _say(f"note: {note}", quiet)
    from petbone.cohort import cohort_of
    from petbone.cohort_compare import Judge
    from petbone.followup_files import read_limits
    from petbone.pipeline import CaseOptions
    from petbone.progress import shown_cases

    options = CaseOptions(index, rule, device, threads, weights, max_memory_gb, align, psf_mm)
    judge = Judge(read_limits(limits), limits is not None)
    with shown_cases(len(found.rows), bar=not quiet and sys.stderr.isatty(), verbose=verbose) as show:
        records = cohort_of(found, options, output, (workers, scheduler), show, judge)
    _tell(records, output, quiet)


def _tell(records: list[Record], output: Path, quiet: bool) -> None:
    """What became of the cases. Raises ResourceError, or Exit with 5, where some failed."""
    failed = [record for record in records if record.state == "failed"]
    for record in failed:
        beside = f" with {record.against}" if record.against else ""
        print(f"petbone: {record.case}{beside}: {record.step}: {record.error}", file=sys.stderr)
    _say(_counted([record for record in records if not record.against]), quiet)
    if compared := [record for record in records if record.against]:
        _say(f"examinations of one patient compared: {_counted(compared)}", quiet)
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


def _counted(records: list[Record]) -> str:
    states = [record.state for record in records]
    said = f"{states.count('done')} done, {states.count('kept')} done before, {states.count('failed')} failed"
    hindered = states.count("hindered")
    return f"{said}, {hindered} whose case failed" if hindered else said


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text)
