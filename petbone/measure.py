"""One PET measured: bones carried to it, hotspots, tables, and how it lies to the CT."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from petbone import alignment
from petbone.anatomy import BY_ID, SPINE_AND_RIB_VARIANTS
from petbone.background import TISSUES, NoReference, Reference, reference_regions
from petbone.benign import Surroundings, flag_texts
from petbone.beside import beside
from petbone.burden import DEFINITIONS, bone_table, hotspot_hu, hotspot_table
from petbone.case import PetResult, Skeleton
from petbone.completeness import Seen, what_was_seen
from petbone.errors import InputError
from petbone.hotspots import HotspotRule, absolute, find_hotspots, left_out_ml
from petbone.indices import Index, index_table, resolved
from petbone.io import Scan
from petbone.partial_volume import corrected_means, least_hotspot_ml, means_of_bones, regions_of
from petbone.register import align, moved_frame
from petbone.resample import Occupancy, occupancy
from petbone.sensitivity import COLUMNS as SHIFT_COLUMNS
from petbone.sensitivity import shifted_ranges
from petbone.steps import Steps
from petbone.volume import Volume

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class How:
    """How a PET is measured: whose hotspots are listed, ``report`` or ``rigid``, FWHM of the PET's blur.

    `processes`: 2, where a process may be forked beside ours; 1, where others have the cores (no number
    depends on it).
    """

    index: Index
    align: str = "report"
    psf_mm: float | None = None
    processes: int = 2


def measure(
    carried: tuple[Scan, Occupancy],
    ct: Scan | None,
    skeleton: Skeleton,
    indices: tuple[Index, ...],
    how: How,
    steps: Steps,
) -> tuple[PetResult, list[str]]:
    """One PET measured bone by bone, and what a reader should know of it.

    `carried` is the PET with the occupancy of the skeleton's bones on its grid. Raises InputError when the
    PET holds no bone, or when the rule of the listed hotspots leans on a liver or a muscle that cannot be
    read.
    """
    (pet, occupied), index = carried, how.index
    tracer = tracer_of(pet)
    suv = pet.volume.with_data(np.ascontiguousarray(pet.volume.data))
    assert index.rule is not None  # choose_index saw to it
    notes = []
    if ct is not None and not ct.volume.grid.same_as(skeleton.bones.grid):
        notes.append("the bone map lies on another grid than the CT, so hotspots have no mean HU")
    if not occupied.voxel.size:
        raise InputError(
            f"the {tracer} PET holds no bone of the bone map; expected images of one examination"
        )
    hu = None if ct is None else ct.volume
    scene = _Scene(tracer, hu, skeleton, indices, how)
    # One thread per task: threads within products of small matrices only wait for each other.
    with (
        threadpool_limits(1, "blas"),
        beside(partial(align, suv, hu, skeleton.bones, occupied), processes=how.processes) as aligned,
    ):
        found: _Found | InputError
        try:  # as it lies: with --align rigid, too, most PETs stay where they are
            found = _found(suv, occupied, scene, steps)
        except InputError as error:
            found = error
        with steps("compare PET with CT"):
            lies = aligned()
        if how.align == "rigid" and lies is not None and lies.verdict()[0]:
            with steps("carry bones to the PET where it was moved"):
                suv = moved_frame(suv, lies.pet_mm_from_ct_mm)
                occupied = occupancy(skeleton.bones, suv.grid)
            found = _found(suv, occupied, scene, steps)
        if isinstance(found, InputError):
            raise found
    lost_ml = left_out_ml(suv, occupied, found.rule, found.hotspots)
    notes += [said for one in found.read if (said := one.remark())]
    notes += _remarks(found.seen, found.bones, skeleton, found.index, lost_ml)
    facts: dict[str, Any] = {
        "suv": suv_facts(pet),
        "alignment": alignment.facts_of(lies, how.align),
        "rule": asdict(found.rule)
        | {"bones": index.bones, "reference": index.reference}
        | ({"multiple_of_bone": index.rule.threshold} if index.rule.relative_to == "bone" else {})
        | _leaning(index.rule, found.references),
        "definitions": DEFINITIONS,
    }
    if found.references:
        facts["reference_regions"] = {tissue: asdict(one) for tissue, one in found.references.items()}
    if how.psf_mm is not None:
        facts["psf_fwhm_mm"] = how.psf_mm
    left = lies.corrected() if lies is not None and facts["alignment"]["applied"] else lies
    placed = alignment.table_of(left)
    bones = found.bones
    for column in ("shift_mm", "shift_uncertainty_mm"):
        bones[column] = bones["name"].map(placed.set_index("name")[column]).astype(float)
    if left is not None:
        notes += alignment.notes_of(left, facts["alignment"], skeleton.spoken)
    return PetResult(tracer, suv, found.hotspots, bones, found.spots, found.table, facts, placed), notes


@dataclass(frozen=True)
class _Scene:
    """What stays the same wherever the PET lies."""

    tracer: str
    hu: Volume | None
    skeleton: Skeleton
    indices: tuple[Index, ...]
    how: How


@dataclass(frozen=True)
class _Found:
    """What a PET shows at one place. `rule` is that of `index`, its threshold an SUV."""

    index: Index
    rule: HotspotRule
    references: dict[str, Reference | NoReference]
    seen: dict[int, Seen]
    hotspots: Volume
    bones: pd.DataFrame
    spots: pd.DataFrame
    table: pd.DataFrame

    @property
    def read(self) -> list[Reference]:
        """The reference regions that could be read."""
        return [one for one in self.references.values() if isinstance(one, Reference)]


def _found(suv: Volume, occupied: Occupancy, scene: _Scene, steps: Steps) -> _Found:
    """The tables of a PET where it lies. Raises InputError as `measure` does."""
    index, skeleton, hu = scene.how.index, scene.skeleton, scene.hu
    references = _references(scene.indices, suv, hu, skeleton.bones, steps)
    indices, (index,) = resolved(scene.indices, references), resolved((index,), references)
    _refuse_missing(index, scene.tracer, hu is not None)
    assert index.rule is not None
    rule = absolute(index.rule, suv, occupied)
    index = replace(index, rule=rule)
    ranges = partial(shifted_ranges, suv, skeleton.bones, rule, occupied)
    with beside(ranges, processes=scene.how.processes) as aside:
        with steps("measure"):
            seen = what_was_seen(skeleton.bones, occupied)
            hotspots = find_hotspots(suv, occupied, rule)
            hu_mean = None
            if hu is not None and hu.grid.same_as(skeleton.bones.grid):
                hu_mean = hotspot_hu(hu, skeleton.bones, hotspots, rule.bones)
            bones = bone_table(suv, occupied, hotspots, seen, rule.bones, skeleton.confidence)
            spots = hotspot_table(suv, occupied, hotspots, rule.bones, skeleton.confidence, hu_mean)
            parts = {label: state.fraction or 0.0 for label, state in seen.items()}
            surroundings = Surroundings(suv, occupied, skeleton.bones)
            flags = surroundings.flags(hotspots, rule.bones)
            spots["flags"] = flag_texts(flags, spots["hotspot"])
            listed = {rule: (hotspots, flags)}
            table = index_table(indices, suv, occupied, parts, scene.tracer, seen, surroundings, listed)
        with steps("correct for partial volume"):
            of_bones, of_spots = _without_blur(suv, occupied, hotspots, rule.bones, scene.how.psf_mm)
            if of_bones is not None and of_spots is not None:
                bones["suv_mean_pvc"] = of_bones[bones["id"].to_numpy(int)]
                spots["suv_mean_pvc"] = of_spots[spots["hotspot"].to_numpy(int) - 1]
        with steps("ranges for 3 mm"):
            bones[list(SHIFT_COLUMNS)] = aside().loc[bones["id"]].to_numpy()
    return _Found(index, rule, references, seen, hotspots, bones, spots, table)


def _refuse_missing(index: Index, tracer: str, has_ct: bool) -> None:
    """Raise InputError when the rule of the listed hotspots leans on what could not be read."""
    if index.missing:
        raise InputError(
            f"{index.name} cannot be measured in the {tracer} PET: {index.missing}; "
            + ("" if has_ct else "give a CT, too (petbone run CT PET --bones MASK), or ")
            + "choose another index with --index"
        )


def _without_blur(
    suv: Volume, occupied: Occupancy, hotspots: Volume, searched: tuple[int, ...], psf_mm: float | None
) -> tuple[Array | None, Array | None]:
    """Means corrected for partial volume: (256,) by label, and by hotspot; None where nobody asked."""
    if psf_mm is None:
        return None, None
    regions = regions_of(occupied, hotspots, searched, least_hotspot_ml(psf_mm))
    means = corrected_means(suv, regions, psf_mm)
    return means_of_bones(occupied, regions, means), means[256:]


def _references(
    indices: tuple[Index, ...], suv: Volume, hu: Volume | None, bones: Volume, steps: Steps
) -> dict[str, Reference | NoReference]:
    """The reference regions that the rules ask for."""
    asked = {index.rule.relative_to for index in indices if index.rule is not None}
    tissues = [tissue for tissue in TISSUES if tissue in asked]
    if not tissues:
        return {}
    with steps("reference regions"):
        return reference_regions(tissues, suv, hu, bones)


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


def suv_facts(pet: Scan) -> dict[str, Any]:
    """How SUV was obtained: factor, rule, assumptions, and the tags that were used (none identifying)."""
    if pet.suv is None:
        return {}
    stated: dict[str, Any] = dict(pet.source.get("suv") or {})
    return stated | {"factor": pet.suv.factor, "rule": pet.suv.rule, "assumptions": list(pet.suv.assumptions)}


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
