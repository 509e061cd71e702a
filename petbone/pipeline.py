"""The story of one case: read, find the bones, carry them to the PET, measure."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import petbone
from petbone import alignment
from petbone.anatomy import BY_ID, LOW_CONFIDENCE, SPINE_AND_RIB_VARIANTS, unsure_name
from petbone.background import TISSUES, NoReference, Reference, reference_regions
from petbone.benign import Surroundings, flag_texts
from petbone.burden import DEFINITIONS, bone_table, hotspot_hu, hotspot_table
from petbone.case import CaseResult, PetResult
from petbone.completeness import Seen, what_was_seen
from petbone.errors import InputError, ResourceError, UsageError
from petbone.hotspots import HotspotRule, absolute, find_hotspots, left_out_ml
from petbone.indices import Index, choose_index, index_table, parse_indices, published_indices, resolved
from petbone.io import PetOptions, Scan, read_ct, read_labels, read_pet
from petbone.labels import LabelTable
from petbone.partial_volume import corrected_means, least_hotspot_ml, means_of_bones, regions_of
from petbone.register import align, moved_frame
from petbone.resample import occupancy
from petbone.sensitivity import COLUMNS as SHIFT_COLUMNS
from petbone.sensitivity import shifted_ranges
from petbone.steps import Steps, available_memory_gb
from petbone.volume import Grid, Volume

SEGMENT_BASE_GB = 0.7
SEGMENT_BYTES_PER_VOXEL = 15.0
"""Memory of finding bones, measured on CTs of 35 M and 120 M voxels with a tenth to spare."""

TRACERS = ("naf", "choline", "psma", "fdg", "other")


@dataclass(frozen=True)
class CaseFiles:
    """What somebody has of one patient: PETs, and a CT, or a bone map, or both."""

    pets: tuple[Path, ...]
    pet_options: tuple[PetOptions, ...]  # one for each PET
    ct: Path | None = None
    bones: Path | None = None
    labels: str | None = None  # a label table by name, or a CSV file; None: petbone's own
    ct_series: str | None = None  # number or UID, where the CT's folder holds several


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


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The bones of the patient and what is known of their names."""

    bones: Volume
    confidence: dict[int, float] | None  # None for masks made elsewhere
    weights_sha256: str | None
    notes: tuple[str, ...]
    candidates: dict[int, tuple[int, ...]] | None  # what each may be, its own first; None as above

    def is_unsure(self, label: int) -> bool:
        """True where the network gave the bone a name that is more likely wrong than right."""
        return self.confidence is not None and self.confidence.get(label, 1.0) < LOW_CONFIDENCE

    def spoken(self, label: int) -> str:
        """The bone's name, or what it may be where its name is unsure."""
        if self.is_unsure(label):
            return unsure_name((self.candidates or {}).get(label, (label,)))
        return BY_ID[label].name

    def names(self) -> dict[str, dict[str, Any]] | None:
        """By name, its confidence and the names that the bone may have; None for masks made elsewhere."""
        if self.confidence is None:
            return None
        may_be = self.candidates or {}
        return {
            BY_ID[label].name: {
                "confidence": round(float(sure), 6),
                "may_be": [BY_ID[other].name for other in may_be.get(label, (label,))],
            }
            for label, sure in sorted(self.confidence.items())
        }


def run_case(files: CaseFiles, options: CaseOptions, steps: Steps) -> CaseResult:
    """Measure one patient. Raises InputError when an input cannot be used."""
    indices, wanted = all_indices(options)
    if wanted is not None:
        _chosen(indices, "", wanted)  # refused before the work, not after
    with steps("read"):
        ct, mask, pets = _read(files)
    tracers = [tracer_of(pet) for pet in pets]
    if len(set(tracers)) < len(tracers):
        raise InputError(
            f"{files.pets[-1]}: PETs of the tracers {', '.join(tracers)}; expected a different tracer for "
            "each, since files are named by it: give --tracer once per PET"
        )
    frame = mask or ct
    if frame is None:
        raise ValueError("a case needs a CT or a bone map")
    for path, pet in zip(files.pets, pets, strict=True):
        refuse_no_overlap(path, pet.volume.grid, files.bones or files.ct, frame.volume.grid)

    with steps("bones"):
        skeleton = _masked(mask, files) if mask else find_bones(frame.volume, options, steps)
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
        result, notes = measure(pet, ct, skeleton, indices, index, steps, options)
        results.append(result)
        guesses += [guess] if guess else []
        warnings += [f"{result.tracer}: {note}" for note in notes] if len(pets) > 1 else notes
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


def _masked(mask: Scan, files: CaseFiles) -> Skeleton:
    """The skeleton of a mask made elsewhere, in petbone's labels."""
    assert files.bones is not None
    try:
        if files.labels is None:
            names = {int(label): name for label, name in mask.source.get("label_names", {}).items()}
            table = LabelTable.for_file(mask.volume, names)
        else:
            table = LabelTable.load(files.labels, files.bones.name)
        bones = table.apply(mask.volume)
    except InputError as error:
        raise InputError(f"{files.bones}: {error}") from error
    notes = table.notes(mask.volume)
    said = f"bones from a mask made elsewhere, labels: {table.name}"
    return Skeleton(bones, None, None, (said, *notes), None)


def measure(
    pet: Scan,
    ct: Scan | None,
    skeleton: Skeleton,
    indices: tuple[Index, ...],
    index: Index,
    steps: Steps,
    options: CaseOptions,
) -> tuple[PetResult, list[str]]:
    """One PET measured bone by bone, hotspots by `index`, and what a reader should know of it."""
    tracer = tracer_of(pet)
    suv = pet.volume.with_data(np.ascontiguousarray(pet.volume.data))
    assert index.rule is not None  # choose_index saw to it
    notes = []
    hu = ct.volume if ct is not None and ct.volume.grid.same_as(skeleton.bones.grid) else None
    if ct is not None and hu is None:
        notes.append("the bone map lies on another grid than the CT, so hotspots have no mean HU")
    with steps("carry bones to the PET"):
        occupied = occupancy(skeleton.bones, suv.grid)
    if not occupied.voxel.size:
        raise InputError(
            f"the {tracer} PET holds no bone of the bone map; expected images of one examination"
        )
    with ThreadPoolExecutor(2) as beside:
        aligned = beside.submit(align, suv, hu, skeleton.bones, occupied)
        if options.align == "rigid":
            with steps("lay the PET on the CT"):
                moved = aligned.result()
                if moved is not None and moved.verdict()[0]:
                    suv = moved_frame(suv, moved.pet_mm_from_ct_mm)
                    occupied = occupancy(skeleton.bones, suv.grid)
        told = index.rule  # from here on its threshold is an SUV
        references = _references(indices, suv, ct, skeleton.bones, steps)
        indices, (index,) = resolved(indices, references), resolved((index,), references)
        if index.missing:
            raise InputError(
                f"{index.name} cannot be measured in the {tracer} PET: {index.missing}; "
                + ("give a CT, too (petbone run CT PET --bones MASK), or " if ct is None else "")
                + "choose another index with --index"
            )
        assert index.rule is not None
        read = [found for found in references.values() if isinstance(found, Reference)]
        notes += [said for found in read if (said := found.remark())]
        index = replace(index, rule=absolute(index.rule, suv, occupied))
        assert index.rule is not None
        aside = beside.submit(shifted_ranges, suv, skeleton.bones, index.rule, occupied)
        with steps("measure"):
            seen = what_was_seen(skeleton.bones, occupied)
            hotspots = find_hotspots(suv, occupied, index.rule)
            hu_mean = hotspot_hu(hu, skeleton.bones, hotspots, index.rule.bones) if hu is not None else None
            bones = bone_table(suv, occupied, hotspots, seen, index.rule.bones, skeleton.confidence)
            spots = hotspot_table(suv, occupied, hotspots, index.rule.bones, skeleton.confidence, hu_mean)
            parts = {label: state.fraction or 0.0 for label, state in seen.items()}
            surroundings = Surroundings(suv, occupied, skeleton.bones)
            flags = surroundings.flags(hotspots, index.rule.bones)
            spots["flags"] = flag_texts(flags, spots["hotspot"])
            table = index_table(indices, suv, occupied, parts, tracer, seen, surroundings)
        if options.psf_mm is not None:
            with steps("correct for partial volume"):
                regions = regions_of(occupied, hotspots, index.rule.bones, least_hotspot_ml(options.psf_mm))
                means = corrected_means(suv, regions, options.psf_mm)
                bones["suv_mean_pvc"] = means_of_bones(occupied, regions, means)[bones["id"].to_numpy(int)]
                spots["suv_mean_pvc"] = means[255 + spots["hotspot"].to_numpy(int)]
        with steps("compare PET with CT"):
            lies = aligned.result()
            bones[list(SHIFT_COLUMNS)] = aside.result().loc[bones["id"]].to_numpy()
    lost_ml = left_out_ml(suv, occupied, index.rule, hotspots)
    notes += _remarks(seen, bones, skeleton, index, lost_ml)
    facts: dict[str, Any] = {
        "suv": suv_facts(pet),
        "alignment": alignment.facts_of(lies, options.align),
        "rule": asdict(index.rule)
        | {"bones": index.bones, "reference": index.reference}
        | ({"multiple_of_bone": told.threshold} if told.relative_to == "bone" else {})
        | _leaning(told, references),
        "definitions": DEFINITIONS,
    }
    if references:
        facts["reference_regions"] = {tissue: asdict(found) for tissue, found in references.items()}
    if options.psf_mm is not None:
        facts["psf_fwhm_mm"] = options.psf_mm
    left = lies.corrected() if lies is not None and facts["alignment"]["applied"] else lies
    placed = alignment.table_of(left)
    for column in ("shift_mm", "shift_uncertainty_mm"):
        bones[column] = bones["name"].map(placed.set_index("name")[column]).astype(float)
    if left is not None:
        notes += alignment.notes_of(left, facts["alignment"], skeleton.spoken)
    return PetResult(tracer, suv, hotspots, bones, spots, table, facts, placed), notes


def _references(
    indices: tuple[Index, ...], suv: Volume, ct: Scan | None, bones: Volume, steps: Steps
) -> dict[str, Reference | NoReference]:
    """The reference regions that the rules ask for."""
    asked = {index.rule.relative_to for index in indices if index.rule is not None}
    tissues = [tissue for tissue in TISSUES if tissue in asked]
    if not tissues:
        return {}
    with steps("reference regions"):
        return reference_regions(tissues, suv, None if ct is None else ct.volume, bones)


def _leaning(rule: HotspotRule, references: dict[str, Reference | NoReference]) -> dict[str, Any]:
    """What the threshold of a rule leans on, for the report; empty where it is no liver or muscle."""
    found = references.get(rule.relative_to)
    if not isinstance(found, Reference):
        return {}
    return {
        "multiple_of_mean": rule.threshold,
        "multiple_of_sd": rule.sd_multiple,
        "reference_region": asdict(found),
    }


def tracer_of(pet: Scan) -> str:
    """The tracer as far as the file or the user told it, else ``other``."""
    return str(pet.source.get("tracer") or "other")


def _chosen(indices: tuple[Index, ...], tracer: str, name: str | None) -> tuple[Index, str]:
    try:
        return choose_index(indices, tracer, name)
    except ValueError as error:
        raise UsageError(f"--index: {error}") from error


def _remarks(
    seen: dict[int, Seen], bones: pd.DataFrame, skeleton: Skeleton, index: Index, lost_ml: float
) -> list[str]:
    """What a reader of the tables would otherwise not see."""
    assert index.rule is not None
    said = []
    outside = [state for state in seen.values() if "pet" in state.cut_by.split()]
    unseen = sum(state.fraction == 0 for state in outside)
    if outside:
        said.append(
            f"{len(outside)} bones reach out of the PET ({unseen} wholly); values cover the part inside"
        )
    variants = [label for label in SPINE_AND_RIB_VARIANTS if seen[label].status != "absent"]
    found = [BY_ID[label].name for label in variants if not skeleton.is_unsure(label)]
    perhaps = [skeleton.spoken(label) for label in variants if skeleton.is_unsure(label)]
    if found:
        said.append(f"{', '.join(found)} found; counted with the 49 bones")
    if perhaps:
        said.append(f"perhaps supernumerary: {'; '.join(perhaps)}; counted with the 49 bones")
    hot = bones[(bones["suv_max"] >= index.rule.threshold) & ~bones["id"].isin(index.rule.bones)]
    if len(hot):
        listed = ", ".join(
            f"{skeleton.spoken(int(row['id']))} (SUVmax {row['suv_max']:.1f})" for _, row in hot.iterrows()
        )
        said.append(f"past the threshold of {index.name} but not among its bones: {listed}")
    if lost_ml > 0:
        said.append(
            f"{lost_ml:.2f} mL of bone past the threshold of {index.name} belong to no hotspot: heat from "
            "outside at the fringe of bone, or foci smaller or cooler than the rule wants"
        )
    return said


def suv_facts(pet: Scan) -> dict[str, Any]:
    """How SUV was obtained: factor, rule, assumptions, and the tags that were used (none identifying)."""
    if pet.suv is None:
        return {}
    stated: dict[str, Any] = dict(pet.source.get("suv") or {})
    return stated | {"factor": pet.suv.factor, "rule": pet.suv.rule, "assumptions": list(pet.suv.assumptions)}


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
    except ValueError as error:
        raise InputError(str(error)) from error
    names = {index.name for index in own}
    ruled = [index.name for index in own if index.rule is not None]
    wanted = options.index or (ruled[0] if len(ruled) == 1 else None)
    return own + tuple(index for index in published_indices() if index.name not in names), wanted


def refuse_no_overlap(pet: Path, pet_grid: Grid, other: Path | None, other_grid: Grid) -> None:
    """Raise InputError when the fields of view of the two images do not meet."""
    ranges = [
        (grid.corners_mm().min(axis=0), grid.corners_mm().max(axis=0)) for grid in (pet_grid, other_grid)
    ]
    (pet_low, pet_high), (low, high) = ranges
    if (np.minimum(pet_high, high) <= np.maximum(pet_low, low)).any():
        spans = [", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(*bounds, strict=True)) for bounds in ranges]
        raise InputError(
            f"{pet}: does not overlap {other}: the PET spans (x, y, z mm) {spans[0]}, the other {spans[1]}; "
            "expected two images of one examination in one frame"
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
        for pet in files.pet_options
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
