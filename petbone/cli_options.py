"""The options that commands share, and what they say of each PET."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from petbone.io import PetOptions

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also print seconds and memory per step.")]


def no_option(path: Path | None) -> Path | None:
    """`-o --help` asks for help, not for a folder of that name."""
    if path is not None and str(path).startswith("-"):
        raise typer.BadParameter(f"{path} looks like an option; expected a name (./{path} if it is one)")
    return path


Output = Annotated[
    Path, typer.Option("--output", "-o", callback=no_option, help="New folder for the results.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a folder of earlier results.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda: where the network runs.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of the network; default: all cores.")]
Weights = Annotated[Path | None, typer.Option(help="Weights made by petbone train (.safetensors).")]
MaxMemory = Annotated[
    float | None, typer.Option(min=0.1, help="Refuse a case expected to need more than this.")
]
IndexName = Annotated[
    str | None, typer.Option(help="Whose hotspots are listed: PET15, FTV10, A50, SUV3, ...")
]
Rule = Annotated[Path | None, typer.Option(help="TOML file with indices of your own (see configs/).")]
LimitsFile = Annotated[
    Path | None,
    typer.Option("--limits", help="TOML file with limits of repeatability of your own (see configs/)."),
]
PsfMm = Annotated[
    float | None,
    typer.Option(min=1, max=20, help="FWHM of the PET's blur, mm: adds means corrected for partial volume."),
]
Align = Annotated[
    str,
    typer.Option(
        help="report: say how the PET lies to the CT, move nothing; rigid: move its frame where that is "
        "surer than leaving it."
    ),
]
LabelsOf = Annotated[
    str | None,
    typer.Option(
        help="Whose labels the mask has: petbone, totalsegmentator, moose_..., skellytour, or FILE.csv."
    ),
]
Tracer = Annotated[
    list[str] | None,
    typer.Option(
        help="naf, choline, psma, fdg or other; once, or once for each PET. Read from DICOM when there."
    ),
]
Units = Annotated[list[str] | None, typer.Option(help="suv or bqml: what the voxels of a NIfTI PET hold.")]
Sidecar = Annotated[list[Path] | None, typer.Option(help="BIDS PET sidecar (.json) of a NIfTI PET.")]
WeightKg = Annotated[float | None, typer.Option(help="Body weight, kg.")]
HeightCm = Annotated[float | None, typer.Option(help="Body height, cm.")]
Sex = Annotated[str | None, typer.Option(help="M, F or O.")]
DoseMbq = Annotated[list[float] | None, typer.Option(help="Injected activity at injection, MBq.")]
InjectedAt = Annotated[list[str] | None, typer.Option(help="Injection, 2026-05-04T10:00:00 or 10:00:00.")]
ScanStart = Annotated[list[str] | None, typer.Option(help="Time the PET is decay-corrected to, same form.")]
HalfLife = Annotated[
    list[float] | None, typer.Option(help="Half-life, s, where the tracer does not tell it.")
]

PetSeries = Annotated[
    list[str] | None, typer.Option("--series", help="Number or UID of the PET's DICOM series, of several.")
]
CtSeries = Annotated[
    str | None, typer.Option(help="Number or UID of the CT's DICOM series, where there are several.")
]


def refuse_unknown_align(align: str) -> None:
    """Raise BadParameter for anything but report and rigid."""
    if align not in ("report", "rigid"):
        raise typer.BadParameter(f"{align!r} is neither report nor rigid", param_hint="--align")


def examinations(
    pet: list[Path], pet2: list[Path] | None, ct2: Path | None, bones2: Path | None
) -> tuple[list[Path], list[Path]]:
    """PETs of the first examination and of the second; the second's are `pet2`, or the last of `pet`.

    Raises BadParameter where what is given of a second examination is no examination.
    """
    if ct2 is None:
        if pet2 or bones2 is not None:
            raise typer.BadParameter("a second examination needs its CT: give --ct2", param_hint="--ct2")
        return pet, []
    if pet2:
        return pet, pet2
    if len(pet) < 2:
        raise typer.BadParameter("the second CT needs a PET of its own: give --pet2", param_hint="--pet2")
    return pet[:-1], pet[-1:]


def pet_options(
    pets: list[Path], each: dict[str, list[Any] | None], shared: dict[str, Any]
) -> tuple[PetOptions, ...]:
    """Options of each PET: given once they hold for all, given once for each they go in order."""
    from petbone.io import PetOptions
    from petbone.pipeline import TRACERS

    for name, values in each.items():
        if values is not None and len(values) not in (1, len(pets)):
            flag = "--" + name.replace("_", "-")
            raise typer.BadParameter(f"given {len(values)} times for {len(pets)} PETs", param_hint=flag)
    if shared["sex"] not in (None, "M", "F", "O"):
        raise typer.BadParameter(f"{shared['sex']!r} is not M, F or O", param_hint="--sex")
    for tracer in each["tracer"] or []:
        if tracer not in TRACERS:
            raise typer.BadParameter(f"{tracer!r} is not one of {', '.join(TRACERS)}", param_hint="--tracer")
    for unit in each["units"] or []:
        if unit not in ("suv", "bqml"):
            raise typer.BadParameter(f"{unit!r} is neither suv nor bqml", param_hint="--units")
    chosen = [
        {name: values[n % len(values)] for name, values in each.items() if values} for n in range(len(pets))
    ]
    return tuple(PetOptions(**shared, **one) for one in chosen)
