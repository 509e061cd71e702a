"""Scans measured: the bones of each examination found, its PETs measured, and two brought together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import petbone
from petbone.beside import beside
from petbone.bone_motion import bone_motions
from petbone.case import CaseResult, Skeleton
from petbone.errors import InputError, ResourceError, UsageError
from petbone.indices import Index, choose_index, parse_indices, published_indices
from petbone.io import Scan
from petbone.measure import How, measure, tracer_of
from petbone.misnamed import column_note
from petbone.pipeline import (
    CaseFiles,
    CaseOptions,
    Scans,
    bones_of,
    refuse_no_overlap,
    stated_options,
    versions,
)
from petbone.places import middles_mm
from petbone.report.backdrop import backdrop
from petbone.resample import occupancy
from petbone.steps import Steps, available_memory_gb
from petbone.volume import Grid, Volume

if TYPE_CHECKING:
    from petbone.net.segment import Segmenter

SEGMENT_BASE_GB = 0.7
SEGMENT_BYTES_PER_VOXEL = 15.0
"""Memory of finding bones, measured on CTs of 35 M and 120 M voxels with a tenth to spare."""

NO_COMMON_BONE = (
    "THE TWO EXAMINATIONS HAVE NO BONE IN COMMON: nothing tells where the one lies in the other, and no "
    "hotspot of the first is matched with one of the second"
)


def examined(
    every: tuple[CaseFiles, ...],
    scans: list[Scans],
    options: CaseOptions,
    chosen: tuple[tuple[Index, ...], str | None],
    steps: Steps,
    load: Callable[[CaseOptions], Segmenter] | None = None,
) -> CaseResult:
    """One examination, or two of one patient; `chosen` is what `all_indices` said, `load` as in `find_bones`.

    Raises InputError when an input cannot be used.
    """
    indices, wanted = chosen
    if wanted is not None:
        _chosen(indices, "", wanted)  # refused before the work, not after
    pets = [pet for _, _, several in scans for pet in several]
    tracers = [tracer_of(pet) for pet in pets]
    if len(set(tracers)) < len(tracers):
        raise InputError(
            f"{every[-1].pets[-1]}: PETs of the tracers {', '.join(tracers)}; expected a different tracer "
            "for each, since files are named by it: give --tracer once per PET; two dates of one tracer are "
            "run apart and compared with petbone compare"
        )
    for one, (ct, mask, several) in zip(every, scans, strict=True):
        frame = mask or ct()
        if frame is None:
            raise ValueError("an examination needs a CT or a bone map")
        for path, pet in zip(one.pets, several, strict=True):
            refuse_no_overlap(path, pet.volume.grid, one.bones or one.ct, frame.volume.grid)
    results = [
        _examination(one, found, options, (indices, wanted, len(pets) > 1), steps, load)
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
    scans: Scans,
    options: CaseOptions,
    chosen: tuple[tuple[Index, ...], str | None, bool],
    steps: Steps,
    load: Callable[[CaseOptions], Segmenter] | None,
) -> CaseResult:
    """A CT (or a bone map) and its PETs, which lie in one frame.

    `chosen`: the indices, whose hotspots are listed, and whether remarks say the tracer.
    """
    (reading_ct, mask, pets), (indices, wanted, several) = scans, chosen
    with steps("bones"):
        skeleton = _masked(mask, files) if mask else _found(reading_ct(), options, steps, load)
    if not skeleton.bones.data.any():
        raise InputError(f"{files.bones or files.ct}: no bone found in it; expected a part of a skeleton")
    with steps("carry bones to the PET"):
        carried = [occupancy(skeleton.bones, pet.volume.grid) for pet in pets]
    with steps("read the rest of the CT"):
        ct = reading_ct()

    warnings = [note for scan in (ct, mask, *pets) if scan for note in scan.warnings]
    warnings += skeleton.notes
    results = []
    guesses = [guess for pet in pets if pet.suv for guess in pet.suv.assumptions]
    if skeleton.confidence is not None:
        guesses += skeleton.notes  # the network's names are a guess, and it says which are unsure
    hu = None if ct is None else ct.volume
    seen = [(tracer_of(pet), pet.volume) for pet in pets]
    drawn = partial(backdrop, hu, skeleton.bones, seen, options.processes)
    with beside(drawn, processes=options.processes, nice=10) as drawing:
        for pet, occupied in zip(pets, carried, strict=True):
            index, guess = _chosen(indices, tracer_of(pet), wanted)
            how = How(index, options.align, options.psf_mm, options.processes)
            result, notes = measure((pet, occupied), ct, skeleton, indices, how, steps)
            results.append(result)
            guesses += [guess] if guess else []
            warnings += [f"{result.tracer}: {note}" for note in notes] if several else notes
        with steps("pictures"):
            behind = drawing()
    warnings = list(dict.fromkeys([*guesses, *warnings]))
    return CaseResult(
        ct=hu,
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
            "options": stated_options(files, options),
            "assumptions": list(dict.fromkeys(guesses)),
            "warnings": warnings,
            "versions": versions(),
            "steps": steps.records,
        },
        candidates=skeleton.candidates,
        backdrop=behind,
    )


def _found(
    ct: Scan | None,
    options: CaseOptions,
    steps: Steps,
    load: Callable[[CaseOptions], Segmenter] | None,
) -> Skeleton:
    assert ct is not None  # run_case saw to it
    return find_bones(ct.volume, options, steps, load)


def load_network(options: CaseOptions) -> Segmenter:
    """The network that the options ask for. Raises InputError for weights that cannot be used."""
    from petbone.net.segment import Segmenter  # torch is paid for by those who need it

    return Segmenter.load(options.weights, options.device, options.threads)


def find_bones(
    ct: Volume,
    options: CaseOptions,
    steps: Steps,
    load: Callable[[CaseOptions], Segmenter] | None = None,
) -> Skeleton:
    """The skeleton by petbone's own network, on the grid of the CT.

    `load` gives the network, None: it is read from its file. Those who do many cases keep it.
    """
    from petbone.net.sides import side_note  # torch is paid for by those who need it

    refuse_small_machine(ct.grid, options.max_memory_gb)
    segmenter = (load or load_network)(options)
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
            "GB; segment on a larger machine and give the mask with --bones",
            needed_gb,
        )


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
