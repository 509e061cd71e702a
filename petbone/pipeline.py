"""The story of one case: read, find the bones, carry them to the PET, measure."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import petbone
from petbone.bone_motion import bone_motions
from petbone.case import CaseResult, Skeleton
from petbone.errors import InputError, ResourceError, UsageError
from petbone.indices import Index, choose_index, parse_indices, published_indices
from petbone.io import PetOptions, Scan, read_ct, read_labels, read_pet
from petbone.labels import LabelTable
from petbone.measure import How, measure, tracer_of
from petbone.misnamed import column_note
from petbone.places import middles_mm
from petbone.steps import Steps, available_memory_gb
from petbone.volume import Grid, Volume

SEGMENT_BASE_GB = 0.7
SEGMENT_BYTES_PER_VOXEL = 15.0
"""Memory of finding bones, measured on CTs of 35 M and 120 M voxels with a tenth to spare."""

TRACERS = ("naf", "choline", "psma", "fdg", "other")


NO_COMMON_BONE = (
    "THE TWO EXAMINATIONS HAVE NO BONE IN COMMON: nothing tells where the one lies in the other, and no "
    "hotspot of the first is matched with one of the second"
)


@dataclass(frozen=True)
class CaseFiles:
    """What somebody has of one patient: PETs, and a CT, or a bone map, or both."""

    pets: tuple[Path, ...]
    pet_options: tuple[PetOptions, ...]  # one for each PET
    ct: Path | None = None
    bones: Path | None = None
    labels: str | None = None  # a label table by name, or a CSV file; None: petbone's own
    ct_series: str | None = None  # number or UID, where the CT's folder holds several
    second: CaseFiles | None = None  # another examination of the patient, whose tracers are others


@dataclass(frozen=True)
class CaseOptions:
    """How a case is done."""

    index: str | None = None  # whose hotspots are listed; None: by the tracer
    rule: Path | None = None  # TOML with indices of the user's own
    device: str = "auto"
    threads: int | None = None
    weights: Path | None = None
    max_memory_gb: float | None = None  # None: what the machine has
    align: str = "report"  # or rigid: the PET is moved where that is surer than leaving it
    psf_mm: float | None = None  # FWHM of the PET's blur; None: partial volume is not corrected


def run_case(files: CaseFiles, options: CaseOptions, steps: Steps) -> CaseResult:
    """Measure one patient, in one examination or two. Raises InputError when an input cannot be used."""
    indices, wanted = all_indices(options)
    if wanted is not None:
        _chosen(indices, "", wanted)  # refused before the work, not after
    every = (files,) if files.second is None else (files, files.second)
    with steps("read"):
        scans = [_read(one) for one in every]
    pets = [pet for _, _, several in scans for pet in several]
    tracers = [tracer_of(pet) for pet in pets]
    if len(set(tracers)) < len(tracers):
        raise InputError(
            f"{every[-1].pets[-1]}: PETs of the tracers {', '.join(tracers)}; expected a different tracer "
            "for each, since files are named by it: give --tracer once per PET; two dates of one tracer are "
            "run apart and compared with petbone compare"
        )
    for one, (ct, mask, several) in zip(every, scans, strict=True):
        frame = mask or ct
        if frame is None:
            raise ValueError("an examination needs a CT or a bone map")
        for path, pet in zip(one.pets, several, strict=True):
            refuse_no_overlap(path, pet.volume.grid, one.bones or one.ct, frame.volume.grid)
    results = [
        _examination(one, found, options, (indices, wanted, len(pets) > 1), steps)
        for one, found in zip(every, scans, strict=True)
    ]
    if len(results) == 1:
        return results[0]
    with steps("motions of the bones"):
        motions = bone_motions(results[0].bones, results[1].bones)
    warnings = list(dict.fromkeys([*results[0].warnings, *results[1].warnings]))
    if not motions:
        warnings.insert(0, NO_COMMON_BONE)
    column = column_note(motions, middles_mm(results[0].bones))
    if column:
        warnings.insert(0, column)
    second = results[1].provenance
    provenance = results[0].provenance | {
        "second": {key: second[key] for key in ("inputs", "names", "reference_regions")},
        "assumptions": list(dict.fromkeys([*results[0].provenance["assumptions"], *second["assumptions"]])),
        "warnings": warnings,
    }
    return replace(
        results[0],
        second=results[1],
        motions=motions,
        warnings=tuple(warnings),
        provenance=provenance,
    )


def _examination(
    files: CaseFiles,
    scans: tuple[Scan | None, Scan | None, list[Scan]],
    options: CaseOptions,
    chosen: tuple[tuple[Index, ...], str | None, bool],
    steps: Steps,
) -> CaseResult:
    """A CT (or a bone map) and its PETs, which lie in one frame.

    `chosen`: the indices, whose hotspots are listed, and whether remarks say the tracer.
    """
    (ct, mask, pets), (indices, wanted, several) = scans, chosen
    with steps("bones"):
        skeleton = _masked(mask, files) if mask else _found(ct, options, steps)
    if not skeleton.bones.data.any():
        raise InputError(f"{files.bones or files.ct}: no bone found in it; expected a part of a skeleton")

    warnings = [note for scan in (ct, mask, *pets) if scan for note in scan.warnings]
    warnings += skeleton.notes
    results = []
    guesses = [guess for pet in pets if pet.suv for guess in pet.suv.assumptions]
    if skeleton.confidence is not None:
        guesses += skeleton.notes  # the network's names are a guess, and it says which are unsure
    for pet in pets:
        index, guess = _chosen(indices, tracer_of(pet), wanted)
        how = How(index, options.align, options.psf_mm)
        result, notes = measure(pet, ct, skeleton, indices, how, steps)
        results.append(result)
        guesses += [guess] if guess else []
        warnings += [f"{result.tracer}: {note}" for note in notes] if several else notes
    warnings = list(dict.fromkeys([*guesses, *warnings]))
    return CaseResult(
        ct=None if ct is None else ct.volume,
        bones=skeleton.bones,
        pets=tuple(results),
        warnings=tuple(warnings),
        provenance={
            "petbone": petbone.__version__,
            "inputs": {
                "ct": None if ct is None else ct.source,
                "bones": None if mask is None else mask.source,
                "pets": [pet.source for pet in pets],
            },
            "weights": skeleton.weights_sha256,
            "names": skeleton.names(),
            "reference_regions": {
                result.tracer: result.facts["reference_regions"]
                for result in results
                if "reference_regions" in result.facts
            },
            "options": _options(files, options),
            "assumptions": list(dict.fromkeys(guesses)),
            "warnings": warnings,
            "versions": versions(),
            "steps": steps.records,
        },
        candidates=skeleton.candidates,
    )


def _read(files: CaseFiles) -> tuple[Scan | None, Scan | None, list[Scan]]:
    """CT, mask and PETs, read side by side: unzipping releases the interpreter."""
    with ThreadPoolExecutor() as pool:
        ct = None if files.ct is None else pool.submit(read_ct, files.ct, files.ct_series)
        mask = None if files.bones is None else pool.submit(read_labels, files.bones)
        pets = [pool.submit(read_pet, *pet) for pet in zip(files.pets, files.pet_options, strict=True)]
    return (
        None if ct is None else ct.result(),
        None if mask is None else mask.result(),
        [pet.result() for pet in pets],
    )


def _found(ct: Scan | None, options: CaseOptions, steps: Steps) -> Skeleton:
    assert ct is not None  # run_case saw to it
    return find_bones(ct.volume, options, steps)


def find_bones(ct: Volume, options: CaseOptions, steps: Steps) -> Skeleton:
    """The skeleton by petbone's own network, on the grid of the CT."""
    # torch is paid for by those who need it
    from petbone.net.segment import Segmenter
    from petbone.net.sides import side_note

    refuse_small_machine(ct.grid, options.max_memory_gb)
    segmenter = Segmenter.load(options.weights, options.device, options.threads)
    found = segmenter.segment(ct, steps.progress)
    mirrored = side_note(ct, found.bones)
    notes = (mirrored, *found.notes) if mirrored else found.notes
    return Skeleton(found.bones, found.confidence, found.weights_sha256, notes, found.candidates)


def refuse_small_machine(grid: Grid, max_memory_gb: float | None) -> None:
    """Raise ResourceError, before the work, when a CT needs more memory than allowed or than there is."""
    voxels = int(np.prod(grid.shape))
    needed_gb = SEGMENT_BASE_GB + SEGMENT_BYTES_PER_VOXEL * voxels / 1e9
    limit_gb = max_memory_gb if max_memory_gb is not None else available_memory_gb()
    if limit_gb is not None and needed_gb > limit_gb:
        whose = "--max-memory-gb allows" if max_memory_gb is not None else "this machine has free"
        raise ResourceError(
            f"a CT of {voxels / 1e6:.0f} M voxels needs about {needed_gb:.1f} GB and {whose} {limit_gb:.1f} "
            "GB; segment on a larger machine and give the mask with --bones"
        )


def bones_of(mask: Scan, path: Path, labels: str | None) -> tuple[Volume, LabelTable]:
    """A mask that was read from `path` in petbone's labels, and the table that says which these are.

    `labels` is a table's name or a CSV file; None: what the file says itself, else petbone's own. Raises
    InputError for labels that the table does not have.
    """
    try:
        if labels is None:
            names = {int(label): name for label, name in mask.source.get("label_names", {}).items()}
            table = LabelTable.for_file(mask.volume, names)
        else:
            table = LabelTable.load(labels, path.name)
        return table.apply(mask.volume), table
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _masked(mask: Scan, files: CaseFiles) -> Skeleton:
    """The skeleton of a mask made elsewhere, in petbone's labels."""
    assert files.bones is not None
    bones, table = bones_of(mask, files.bones, files.labels)
    notes = table.notes(mask.volume)
    said = f"bones from a mask made elsewhere, labels: {table.name}"
    return Skeleton(bones, None, None, (said, *notes), None)


def _chosen(indices: tuple[Index, ...], tracer: str, name: str | None) -> tuple[Index, str]:
    try:
        return choose_index(indices, tracer, name)
    except ValueError as error:
        raise UsageError(f"--index: {error}") from error


def all_indices(options: CaseOptions) -> tuple[tuple[Index, ...], str | None]:
    """The user's indices, the published ones whose names she does not use, and whose hotspots are listed.

    Without --index that is the only index of her file that has a rule, if there is one only; None: by tracer.
    """
    rule = options.rule
    if rule is None:
        return published_indices(), options.index
    try:
        own = parse_indices(rule.read_text(encoding="utf-8"), str(rule))
    except OSError as error:
        raise InputError(f"{rule}: cannot be read: {error.strerror}; expected a TOML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{rule}: is no text in UTF-8; expected a TOML file") from error
    except ValueError as error:
        raise InputError(str(error)) from error
    names = {index.name for index in own}
    ruled = [index.name for index in own if index.rule is not None]
    wanted = options.index or (ruled[0] if len(ruled) == 1 else None)
    return own + tuple(index for index in published_indices() if index.name not in names), wanted


def refuse_no_overlap(
    path: Path, grid: Grid, other: Path | None, other_grid: Grid, what: str = "PET"
) -> None:
    """Raise InputError when the fields of view of an image (`what`) and of another one do not meet."""
    ranges = [(one.corners_mm().min(axis=0), one.corners_mm().max(axis=0)) for one in (grid, other_grid)]
    (own_low, own_high), (low, high) = ranges
    if (np.minimum(own_high, high) <= np.maximum(own_low, low)).any():
        spans = [", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(*bounds, strict=True)) for bounds in ranges]
        raise InputError(
            f"{path}: does not overlap {other}: the {what} spans (x, y, z mm) {spans[0]}, the other "
            f"{spans[1]}; expected two images of one examination in one frame"
        )


def _options(files: CaseFiles, options: CaseOptions) -> dict[str, Any]:
    """The options as given, without a path: a file's name can name a patient."""
    stated: dict[str, Any] = {"index": options.index, "rule": options.rule is not None}
    stated["device"] = options.device
    stated["psf_mm"] = options.psf_mm
    stated["align"] = options.align
    stated |= {"threads": options.threads, "weights": options.weights is not None}
    labels = files.labels
    stated["labels"] = labels if labels is None or not Path(labels).suffix else "csv"
    # Nor a date: what SUV needs of the times is their distance, which stands with the PET's source.
    left_out = ("sidecar", "injected_at", "scan_start")
    stated["pets"] = [
        {key: value for key, value in asdict(pet).items() if value is not None and key not in left_out}
        for one in (files, files.second)
        if one is not None
        for pet in one.pet_options
    ]
    return stated


def versions() -> dict[str, str]:
    """Python and the packages whose arithmetic enters a result."""
    names = (
        "torch",
        "numpy",
        "scipy",
        "nibabel",
        "pydicom",
        "SimpleITK",
        "pandas",
        "connected-components-3d",
    )
    return {"python": platform.python_version()} | {name: version(name) for name in names}
