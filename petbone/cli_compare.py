"""`petbone compare`: one patient at two dates."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from petbone.cli_options import LimitsFile, Output, Overwrite, Quiet, Verbose


def compare(
    first: Annotated[Path, typer.Argument(help="Results of the first date: a folder of petbone run.")],
    second: Annotated[Path, typer.Argument(help="Results of the second date.")],
    output: Output = Path("petbone_changes"),
    limits: LimitsFile = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """What has changed between two dates, judged by limits of repeatability.

    Example: petbone compare january june -o changes
    """
    from dataclasses import replace

    from petbone.change_words import headline
    from petbone.comparison import compare_cases
    from petbone.folders import new_folder
    from petbone.followup_files import read_dates, read_limits, refuse_input_as_output, write_comparison
    from petbone.progress import shown_steps

    refuse_input_as_output((first, second), output)
    known = read_limits(limits)
    with (
        shown_steps(bar=not quiet and sys.stderr.isatty(), verbose=verbose) as steps,
        new_folder(output, overwrite) as folder,
    ):
        one, two, warnings = read_dates(first, second, steps)
        result = compare_cases(one, two, known, steps)
        result = replace(result, warnings=(*warnings, *result.warnings))
        write_comparison(result, (first, second), limits is not None, folder, steps)
    if quiet:
        return
    for warning in result.warnings:
        typer.echo(f"note: {warning}")
    for tracer in result.tracers:
        typer.echo(headline(tracer.tracer, tracer.hotspots, tracer.indices))
    typer.echo(f"page: {output / 'compare.html'}")
