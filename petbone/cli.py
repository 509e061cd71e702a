"""What a user types: parse, call, print. Exit status: see `main`."""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import petbone
from petbone.cli_cohort import cohort
from petbone.cli_compare import compare
from petbone.cli_options import (
    Align,
    CtSeries,
    Device,
    DoseMbq,
    HalfLife,
    HeightCm,
    IndexName,
    InjectedAt,
    LabelsOf,
    MaxMemory,
    Output,
    Overwrite,
    PetSeries,
    PsfMm,
    Quiet,
    Rule,
    ScanStart,
    Sex,
    Sidecar,
    Threads,
    Tracer,
    Units,
    Verbose,
    WeightKg,
    Weights,
    examinations,
    no_option,
    pet_options,
    refuse_unknown_align,
)
from petbone.cli_validate import compare_segmentations, validate
from petbone.cli_validate_hotspots import validate_hotspots

GARBAGE_OBJECTS = 100_000
"""New objects after which Python looks for cycles to free. With its usual 700 it looks hundreds of times as
packages are imported, whose objects all stay."""

TURN_S = 0.0001
"""How long Python lets one thread go on before another gets its turn. Its usual 5 ms, at every half megabyte
that a thread unpacks, would keep files from being read while packages are imported."""

app = typer.Typer(
    name="petbone",
    help="How much of the skeleton is tumour: PET/CT measured bone by bone.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    ct: Annotated[Path, typer.Argument(help="CT: NIfTI file, DICOM folder, zip or DICOMDIR.")],
    pet: Annotated[list[Path], typer.Argument(help="One PET or more of the same patient and frame.")],
    output: Output = Path("petbone_results"),
    bones: Annotated[Path | None, typer.Option(help="Bone mask made elsewhere; skips the network.")] = None,
    labels: LabelsOf = None,
    ct2: Annotated[
        Path | None, typer.Option(help="CT of a second examination; its PET is --pet2, or the last PET.")
    ] = None,
    pet2: Annotated[
        list[Path] | None, typer.Option(help="PET of the second examination, another tracer; may repeat.")
    ] = None,
    bones2: Annotated[Path | None, typer.Option(help="Bone mask of the second examination.")] = None,
    tracer: Tracer = None,
    units: Units = None,
    sidecar: Sidecar = None,
    weight_kg: WeightKg = None,
    height_cm: HeightCm = None,
    sex: Sex = None,
    dose_mbq: DoseMbq = None,
    injected_at: InjectedAt = None,
    scan_start: ScanStart = None,
    half_life_s: HalfLife = None,
    series: PetSeries = None,
    ct_series: CtSeries = None,
    index: IndexName = None,
    rule: Rule = None,
    psf_mm: PsfMm = None,
    align: Align = "report",
    device: Device = "auto",
    threads: Threads = None,
    weights: Weights = None,
    max_memory_gb: MaxMemory = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """One patient: bones, uptake, hotspots and indices from a CT and a PET.

    Example: petbone run ct.nii.gz pet.nii.gz --tracer naf -o patient_1

    Two examinations: petbone run ct.nii naf.nii --ct2 ct2.nii --pet2 fch.nii --tracer naf --tracer choline
    """
    from petbone.pipeline import CaseFiles, CaseOptions

    refuse_unknown_align(align)
    if labels is not None and bones is None:
        raise typer.BadParameter("--labels says whose labels a mask has; give the mask with --bones")
    here, there = examinations(pet, pet2, ct2, bones2)
    stated = pet_options(
        here + there,
        {"tracer": tracer, "units": units, "sidecar": sidecar, "dose_mbq": dose_mbq}
        | {"injected_at": injected_at, "scan_start": scan_start, "half_life_s": half_life_s}
        | {"series": series},
        {"weight_kg": weight_kg, "height_cm": height_cm, "sex": sex},
    )
    second = CaseFiles(tuple(there), stated[len(here) :], ct2, bones2, labels) if there else None
    files = CaseFiles(tuple(here), stated[: len(here)], ct, bones, labels, ct_series, second)
    options = CaseOptions(index, rule, device, threads, weights, max_memory_gb, align, psf_mm)
    _case(files, options, output, overwrite, quiet, verbose)


@app.command()
def quantify(
    bones: Annotated[Path, typer.Argument(help="Bone mask: label map, NIfTI.")],
    pet: Annotated[list[Path], typer.Argument(help="One PET or more in the same frame.")],
    output: Output = Path("petbone_results"),
    labels: LabelsOf = None,
    ct: Annotated[Path | None, typer.Option(help="The CT, for HU of hotspots and for the pictures.")] = None,
    tracer: Tracer = None,
    units: Units = None,
    sidecar: Sidecar = None,
    weight_kg: WeightKg = None,
    height_cm: HeightCm = None,
    sex: Sex = None,
    dose_mbq: DoseMbq = None,
    injected_at: InjectedAt = None,
    scan_start: ScanStart = None,
    half_life_s: HalfLife = None,
    series: PetSeries = None,
    ct_series: CtSeries = None,
    index: IndexName = None,
    rule: Rule = None,
    psf_mm: PsfMm = None,
    align: Align = "report",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """The same numbers from somebody else's bone mask.

    Example: petbone quantify bones.nii.gz pet.nii.gz --labels totalsegmentator --tracer naf
    """
    from petbone.pipeline import CaseFiles, CaseOptions

    refuse_unknown_align(align)
    stated = pet_options(
        pet,
        {"tracer": tracer, "units": units, "sidecar": sidecar, "dose_mbq": dose_mbq}
        | {"injected_at": injected_at, "scan_start": scan_start, "half_life_s": half_life_s}
        | {"series": series},
        {"weight_kg": weight_kg, "height_cm": height_cm, "sex": sex},
    )
    files = CaseFiles(tuple(pet), stated, ct, bones, labels, ct_series)
    _case(files, CaseOptions(index, rule, align=align, psf_mm=psf_mm), output, overwrite, quiet, verbose)


app.command()(cohort)
app.command()(compare)
app.command()(validate)
app.command("compare-segmentations")(compare_segmentations)
app.command("validate-hotspots")(validate_hotspots)


@app.command()
def segment(
    ct: Annotated[Path, typer.Argument(help="CT: NIfTI file, DICOM folder, zip or DICOMDIR.")],
    output: Annotated[Path, typer.Option("--output", "-o", callback=no_option, help="New label map.")] = Path(
        "bones.nii.gz"
    ),
    ct_series: CtSeries = None,
    device: Device = "auto",
    threads: Threads = None,
    weights: Weights = None,
    max_memory_gb: MaxMemory = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """The bones of a CT as a label map on its grid.

    Example: petbone segment ct.nii.gz -o bones.nii.gz
    """
    from petbone.examination import find_bones
    from petbone.folders import refuse_existing_image
    from petbone.io import read_ct, write_nifti
    from petbone.pipeline import CaseOptions

    refuse_existing_image(output, overwrite)
    options = CaseOptions(device=device, threads=threads, weights=weights, max_memory_gb=max_memory_gb)
    with _steps(quiet, verbose) as steps:
        with steps("read"):
            scan = read_ct(ct, ct_series)
        with steps("bones"):
            skeleton = find_bones(scan.volume, options, steps)
        with steps("write"):
            write_nifti(skeleton.bones, output)
    for note in (*scan.warnings, *skeleton.notes):
        _say(f"note: {note}", quiet)
    unsure = [
        f"{label} ({skeleton.spoken(label)})"
        for label in sorted(skeleton.confidence or {})
        if skeleton.is_unsure(label)
    ]
    if unsure:
        _say(f"labels of unsure name: {'; '.join(unsure)}", quiet)
    _say(f"{len(skeleton.confidence or {})} bones in {output}", quiet)


@app.command()
def suv(
    pet: Annotated[Path, typer.Argument(help="PET: NIfTI file, DICOM folder, zip or DICOMDIR.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", callback=no_option, help="Write SUVbw here (.nii.gz).")
    ] = None,
    tracer: Annotated[str | None, typer.Option(help="naf, choline, psma, fdg or other.")] = None,
    units: Annotated[str | None, typer.Option(help="suv or bqml.")] = None,
    sidecar: Annotated[Path | None, typer.Option(help="BIDS PET sidecar (.json).")] = None,
    weight_kg: WeightKg = None,
    height_cm: HeightCm = None,
    sex: Sex = None,
    dose_mbq: Annotated[float | None, typer.Option(help="Injected activity, MBq.")] = None,
    injected_at: Annotated[str | None, typer.Option(help="Injection, ISO or HH:MM:SS.")] = None,
    scan_start: Annotated[str | None, typer.Option(help="Decay reference, same form.")] = None,
    half_life_s: Annotated[float | None, typer.Option(help="Half-life, s.")] = None,
    series: Annotated[
        str | None, typer.Option(help="Number or UID of the DICOM series, where there are several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """The SUV factor of a PET, and the rule and tags that it came from.

    Example: petbone suv PET_DICOM/ -o suv.nii.gz
    """
    import json

    from petbone.folders import refuse_existing_image
    from petbone.io import read_pet, write_nifti
    from petbone.measure import suv_facts

    stated = pet_options(
        [pet],
        {
            key: None if value is None else [value]
            for key, value in {
                "tracer": tracer,
                "units": units,
                "sidecar": sidecar,
                "dose_mbq": dose_mbq,
                "injected_at": injected_at,
                "scan_start": scan_start,
                "half_life_s": half_life_s,
                "series": series,
            }.items()
        },
        {"weight_kg": weight_kg, "height_cm": height_cm, "sex": sex},
    )
    if output is not None:
        refuse_existing_image(output, overwrite)
    with _steps(quiet, verbose) as steps:
        with steps("read"):
            scan = read_pet(pet, stated[0])
        if output is not None:
            with steps("write"):
                write_nifti(scan.volume, output)
    facts = suv_facts(scan) | {"warnings": list(scan.warnings)}
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
        return
    if not quiet:
        # A person need not read an assumption twice; programs find all that is to be said in "warnings".
        said = facts.get("assumptions", [])
        _print_facts(facts | {"warnings": [line for line in scan.warnings if line not in said]})


@app.command()
def phantom(
    output: Output = Path("phantom"),
    size: Annotated[str, typer.Option(help="small, default or large (512 x 512 x 458).")] = "default",
    seed: Annotated[int, typer.Option(help="Noise and hotspots repeat with the seed.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """A patient whose truth is known: CT, bones, two PETs, and what must be found.

    Example: petbone phantom -o phantom
    """
    from petbone.folders import new_folder
    from petbone.phantom import make_patient, spec_of_size
    from petbone.results import write_patient

    if size not in ("small", "default", "large"):
        raise typer.BadParameter(f"{size!r} is not small, default or large", param_hint="--size")
    spec = spec_of_size(size, seed)
    with _steps(quiet, verbose) as steps, new_folder(output, overwrite, mark="truth.json") as folder:
        with steps("make"):
            patient = make_patient(spec)
        with steps("write"):
            write_patient(patient, folder)
    _say(f"phantom patient in {output}", quiet)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML file, such as configs/train_synthetic.toml.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", callback=no_option, help="Folder of the run; a run in it goes on.")
    ],
    minutes: Annotated[float | None, typer.Option(help="Budget; default: that of CONFIG.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that make samples (0: none); default: that of CONFIG.")
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Weights to start a new run from: checkpoint.pt or .safetensors.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train the network on synthetic CT, on cases of your own with masks, or on both.

    Example: petbone train configs/train_synthetic.toml --out runs/first --minutes 60
    """
    from petbone.net.recipe import RunOptions, train_from
    from petbone.report.curves import training_curves

    def draw(*_: object) -> None:
        (out / "log.png").write_bytes(training_curves((out / "log.csv").read_text(encoding="utf-8")))

    weights = train_from(
        config,
        out,
        RunOptions(minutes, workers, start_from=start_from, device=device, threads=threads),
        say=lambda line: _say(line, quiet),
        on_save=draw,
    )
    _say(f"weights: {weights} (use them with petbone run --weights)", quiet)


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Versions, weights and what this machine offers.

    Example: petbone info --json
    """
    import json
    import os

    from petbone.errors import InputError
    from petbone.net.device import choose_device, mixed_precision
    from petbone.net.weights import load_weights, packaged_weights
    from petbone.pipeline import versions

    device = choose_device("auto")
    facts: dict[str, Any] = {"petbone": petbone.__version__, "cores": os.cpu_count()}
    facts |= {"device": str(device), "arithmetic": str(mixed_precision(device) or "torch.float32")}
    try:
        facts["weights sha256"] = load_weights(packaged_weights(), device)[1]
    except InputError as error:
        facts["weights sha256"] = str(error)
    facts["versions"] = versions()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print_facts(facts)


@app.command()
def selftest(quiet: Quiet = False) -> None:
    """Is SUV right for every vendor's DICOM, and is this installation sound? Takes seconds.

    Example: petbone selftest
    """
    from petbone.selftest import CASES, check_case, check_installation

    verdicts = [*map(check_case, CASES), *check_installation()]
    width = max(len(verdict.name) for verdict in verdicts)
    for verdict in verdicts:
        if not verdict.passed or not quiet:
            word = "ok   " if verdict.passed else "WRONG"
            more = "" if verdict.passed else f"; expected {verdict.expected}"
            typer.echo(f"{word}  {verdict.name:{width}}  {verdict.found}{more}")
    wrong = sum(not verdict.passed for verdict in verdicts)
    _say(f"{len(verdicts) - wrong} of {len(verdicts)} as expected", quiet)
    if wrong:
        raise typer.Exit(1)


def _print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """Facts for a person: a line each, nested ones below."""
    for key, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{indent}{key}:")
            _print_facts(value, indent + "  ")
        elif isinstance(value, list) and not indent:  # sentences; inside a block they are the values of a tag
            for line in value:
                typer.echo(f"{key}: {line}")
        elif isinstance(value, list):
            typer.echo(f"{indent}{key}: {', '.join(map(str, value))}")
        else:
            typer.echo(f"{indent}{key}: {value}")


def _case(files: Any, options: Any, output: Path, overwrite: bool, quiet: bool, verbose: bool) -> None:
    from petbone.folders import new_folder
    from petbone.pipeline import run_case

    with _steps(quiet, verbose) as steps, new_folder(output, overwrite) as folder:
        result = run_case(files, options, steps)
        from petbone.results import write_case  # imported while files were read

        write_case(result, folder, steps)
    import pandas as pd

    for warning in result.warnings:
        _say(f"note: {warning}", quiet)
    for pet in result.all_pets:
        rule = pet.facts["rule"]["name"]
        value = pet.index_table.set_index("index").loc[rule]
        shown = "has no value" if pd.isna(value["value"]) else f"{value['value']:.4g} {value['unit']}"
        _say(f"{pet.tracer}: {rule} {shown}, {len(pet.hotspot_table)} hotspots", quiet)
    _say(f"report: {output / 'report.html'}", quiet)


def _steps(quiet: bool, verbose: bool) -> Any:
    from petbone.progress import shown_steps

    return shown_steps(bar=not quiet and sys.stderr.isatty(), verbose=verbose)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(petbone.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line.

    Exit status: 0 done; 1 a defect of petbone; 2 wrong usage; 3 the input cannot be used; 4 the machine is
    too small; 5 some cases of a cohort failed. 3 and 4 come with one line on standard error, or with a line
    for every finding in the table of a cohort.
    """
    from petbone.errors import InputError, ResourceError, UsageError

    gc.set_threshold(GARBAGE_OBJECTS)
    sys.setswitchinterval(TURN_S)
    try:
        app()
    except UsageError as error:
        status = _complain(error, 2)
    except InputError as error:
        status = _complain(error, 3)
    except ResourceError as error:
        status = _complain(error, 4)
    except MemoryError:
        status = _complain("not enough memory for this case", 4)
    except (KeyboardInterrupt, SystemExit) as left:
        if isinstance(left, SystemExit) and left.code != 130:  # typer's status of an interrupt
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # pressed again while Python tidies up
        status = _complain("interrupted", 130)
    finally:
        gc.freeze()  # the process ends with all that it has: nothing needs to be looked through once more
    sys.exit(status)


def _complain(error: object, status: int) -> int:
    from petbone.errors import InputErrors

    lines = str(error).splitlines() if isinstance(error, InputErrors) else [str(error)]
    for line in lines:
        print(f"petbone: {' '.join(line.split())}", file=sys.stderr)
    return status
