"""`petbone validate-hotspots`: which lesions of reference maps were found."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from petbone.cli_options import Output, Overwrite, Quiet, Verbose

_SHOWN = ("sensitivity", "precision", "f1", "false_positives_per_patient", "dice_total")


def validate_hotspots(
    reference: Annotated[Path, typer.Argument(help="Reference hotspots: a file, or a folder of files.")],
    predicted: Annotated[
        Path, typer.Argument(help="Hotspots to be judged: a file, or files of the same names.")
    ],
    suv: Annotated[
        Path | None,
        typer.Option(help="SUV image or folder of images of the same names: SUVmax, and the curve."),
    ] = None,
    output: Output = Path("petbone_hotspot_validation"),
    overlap: Annotated[
        str, typer.Option(help="iou, dice or any (one shared voxel): what makes a match.")
    ] = "iou",
    least: Annotated[float, typer.Option(help="Least IoU or Dice of a match.")] = 0.1,
    min_volume_ml: Annotated[
        float,
        typer.Option(help="Reference lesions below this are ignored: not missed, no false positive there."),
    ] = 0.0,
    lesions: Annotated[
        str,
        typer.Option(
            help="A lesion is each number, or each of the connected parts; auto: parts if a map is 0 and 1."
        ),
    ] = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """How many lesions of a reference were found: sensitivity, precision, false positives, volumes.

    Example: petbone validate-hotspots reference/ predicted/ --suv suv/ -o detection
    """
    from petbone.detection import READINGS, Criterion
    from petbone.detection_files import validate_hotspots, write_detection
    from petbone.folders import new_folder
    from petbone.followup_files import refuse_input_as_output
    from petbone.progress import shown_steps

    try:
        criterion = Criterion(overlap, least, min_volume_ml)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if lesions not in READINGS:
        raise typer.BadParameter(f"{lesions!r} is none of {', '.join(READINGS)}", param_hint="--lesions")
    given = [path for path in (reference, predicted, suv) if path is not None]
    refuse_input_as_output(given, output)
    with (
        shown_steps(bar=not quiet and sys.stderr.isatty(), verbose=verbose) as steps,
        new_folder(output, overwrite) as folder,
    ):
        result = validate_hotspots(reference, predicted, suv, criterion, steps, lesions)
        with steps("write"):
            write_detection(result, folder)
    if quiet:
        return
    for warning in result.warnings:
        typer.echo(f"note: {warning}")
    figures = {figure.name: figure for figure in result.figures}
    counts = ", ".join(f"{figures[name].value:.0f} {name}" for name in ("found", "missed", "false"))
    typer.echo(f"{len(result.patients)} patients: {counts} ({criterion.words()})")
    for name in _SHOWN:
        figure = figures[name]
        value = "has no value" if math.isnan(figure.value) else f"{figure.value:.3f} (n = {figure.n})"
        low, high = figure.bootstrap
        interval = "" if math.isnan(low) else f", 95 % {low:.3f} to {high:.3f} (patients drawn)"
        typer.echo(f"{name.replace('_', ' ')}: {value}{interval}")
    typer.echo(f"tables: {output}")
