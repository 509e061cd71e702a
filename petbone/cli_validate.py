"""`petbone validate` and `petbone compare-segmentations`: masks against masks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from petbone.cli_options import LabelsOf, Output, Overwrite, Quiet, Verbose

Bones = Annotated[
    str | None, typer.Option(help="T7,L3,sacrum,... or all; default: the bones of Lindgren Belal 2019.")
]


def validate(
    reference: Annotated[Path, typer.Argument(help="Reference masks: a file, or a folder of files.")],
    predicted: Annotated[Path, typer.Argument(help="Masks to judge, by the same names.")],
    output: Output = Path("petbone_validation"),
    bones: Bones = None,
    labels: LabelsOf = None,
    labels_reference: Annotated[
        str | None, typer.Option(help="--labels of the reference, where the two differ.")
    ] = None,
    labels_predicted: Annotated[str | None, typer.Option(help="--labels of the prediction.")] = None,
    border: Annotated[
        str, typer.Option(help="How distances see a border: surface-elements or boundary-voxels.")
    ] = "surface-elements",
    ct: Annotated[
        Path | None, typer.Option(help="CT, or a folder of CTs by the same names, for the pictures.")
    ] = None,
    repeat: Annotated[
        Path | None, typer.Option(help="Second reading of the reference by the same observer.")
    ] = None,
    repeat_predicted: Annotated[Path | None, typer.Option(help="Second automatic masks.")] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring a prediction on another grid to the reference's.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """How well masks agree with reference masks: Dice, distances, limits of agreement, per bone.

    Example: petbone validate manual/ automatic/ --labels-predicted totalsegmentator -o validation
    """
    from petbone.folders import new_folder
    from petbone.followup_files import refuse_input_as_output
    from petbone.mask_files import labels_named
    from petbone.progress import shown_steps
    from petbone.surfaces import DEFINITIONS
    from petbone.validation_files import StudyFiles, StudyOptions, read_study, write_study
    from petbone.validation_words import in_short

    named = {name.replace(" ", "-"): name for name in DEFINITIONS}
    if border.replace(" ", "-") not in named:
        raise typer.BadParameter(f"{border!r} is not one of {', '.join(named)}", param_hint="--border")
    options = StudyOptions(
        *labels_named(bones),
        labels_reference or labels,
        labels_predicted or labels,
        named[border.replace(" ", "-")],
        resample,
    )
    files = StudyFiles(reference, predicted, ct, repeat, repeat_predicted)
    refuse_input_as_output(files.given, output)
    with (
        shown_steps(bar=not quiet and sys.stderr.isatty(), verbose=verbose) as steps,
        new_folder(output, overwrite) as folder,
    ):
        study, provenance = read_study(files, options, steps)
        with steps("write"):
            write_study(study, provenance, folder)
    if quiet:
        return
    typer.echo(in_short(study))
    for warning in study.warnings:
        typer.echo(f"note: {warning}")
    typer.echo(f"page: {output / 'validation.html'}")


def compare_segmentations(
    first: Annotated[Path, typer.Argument(help="Masks of the first CTs: a file, or a folder of files.")],
    second: Annotated[Path, typer.Argument(help="Masks of the second CTs, by the same names.")],
    output: Output = Path("petbone_segmentations"),
    bones: Annotated[
        str | None, typer.Option(help="T7,L3,sacrum,... or all; default: the 49 of Lindgren Belal 2019.")
    ] = None,
    labels: LabelsOf = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """How far the volumes of bones differ between automatic masks of two CTs of each patient.

    Example: petbone compare-segmentations january june -o repeatability
    """
    from petbone.folders import new_folder
    from petbone.followup_files import refuse_input_as_output
    from petbone.mask_files import labels_named
    from petbone.progress import shown_steps
    from petbone.readings_files import read_readings, write_readings
    from petbone.validation_words import families_in_words

    asked, every = labels_named(bones)
    refuse_input_as_output((first, second), output)
    with (
        shown_steps(bar=not quiet and sys.stderr.isatty(), verbose=verbose) as steps,
        new_folder(output, overwrite) as folder,
    ):
        found, provenance = read_readings(first, second, labels, asked, every, steps)
        with steps("write"):
            write_readings(found, provenance, folder)
    if quiet:
        return
    typer.echo(families_in_words(found.families, found.volumes))
    for warning in found.warnings:
        typer.echo(f"note: {warning}")
    typer.echo(f"tables: {output}")
