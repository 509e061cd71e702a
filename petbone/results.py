"""The files of one case, and of a phantom."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from petbone.beside import beside
from petbone.burden import region_table
from petbone.case import CaseResult
from petbone.change import motion_table
from petbone.errors import ResourceError
from petbone.folders import MARK, write_json, write_table
from petbone.followup import Together, together
from petbone.io import write_nifti
from petbone.places import middles_mm
from petbone.report.case import pages
from petbone.report.scene import scene
from petbone.steps import Steps

if TYPE_CHECKING:
    from petbone.phantom import Patient


def write_case(result: CaseResult, folder: Path, steps: Steps, processes: int = 2) -> None:
    """Write every file of the contract into `folder`, which exists; `processes` as in `beside`.

    Raises ResourceError when it cannot.
    """
    drawn_beside = beside(partial(scene, result, processes), processes=processes)
    try:
        with steps("write"), drawn_beside as drawing, ThreadPoolExecutor() as pool:
            # Compression releases the interpreter, so the images go out side by side.
            jobs = [pool.submit(write_nifti, result.bones, folder / "bones.nii.gz")]
            if result.second is not None:
                jobs.append(pool.submit(write_nifti, result.second.bones, folder / "bones_ct2.nii.gz"))
            pets = result.all_pets
            regions = {pet.tracer: region_table(pet.bone_table) for pet in pets}
            for pet in pets:
                suffix = f"_{pet.tracer}" if len(pets) > 1 else ""
                jobs.append(pool.submit(write_nifti, pet.suv, folder / f"suv{suffix}.nii.gz"))
                jobs.append(pool.submit(write_nifti, pet.hotspots, folder / f"hotspots{suffix}.nii.gz"))
                write_table(pet.bone_table, folder / f"bones{suffix}.csv")
                write_table(regions[pet.tracer], folder / f"regions{suffix}.csv")
                write_table(pet.hotspot_table, folder / f"hotspots{suffix}.csv")
                write_table(pet.index_table, folder / f"indices{suffix}.csv")
                if pet.alignment_table is not None:
                    write_table(pet.alignment_table, folder / f"alignment{suffix}.csv")
            told = together(result) if len(pets) > 1 else None
            if told is not None:
                write_table(told.bones, folder / "concordance.csv")
                write_table(told.matches, folder / "hotspot_matches.csv")
                write_table(told.agreement, folder / "tracer_agreement.csv")
            if result.motions is not None:
                moved = motion_table(result.motions, middles_mm(result.bones))
                write_table(moved, folder / "motions.csv")
            write_json(_summary(result, regions, told), folder / "summary.json")
            drawn = pages(result, told, drawing)
            for job in jobs:
                job.result()
        (folder / "report.html").write_text(drawn.report, encoding="utf-8")
        if drawn.concordance is not None:
            (folder / "concordance.svg").write_text(drawn.concordance, encoding="utf-8")
        write_json(result.provenance, folder / MARK)
    except OSError as error:
        raise ResourceError(f"the results cannot be written: {error.strerror}") from error


def _summary(result: CaseResult, regions: dict[str, pd.DataFrame], told: Together | None) -> dict[str, Any]:
    pets = [
        {
            "tracer": pet.tracer,
            "bones": _records(pet.bone_table),
            "regions": _records(regions[pet.tracer]),
            "hotspots": _records(pet.hotspot_table),
            "indices": _records(pet.index_table),
            "suv": pet.facts.get("suv"),
            "rule": pet.facts.get("rule"),
            "alignment": pet.facts.get("alignment"),
        }
        for pet in result.all_pets
    ]
    definitions = result.pets[0].facts["definitions"] if result.pets else {}
    summary = {"petbone": result.provenance["petbone"], "warnings": result.warnings, "pets": pets}
    if told is not None:
        summary["tracer_agreement"] = _records(told.agreement)
    return summary | {"definitions": definitions}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON: what does not exist is null."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=10))
    return rows


def write_patient(patient: Patient, folder: Path) -> None:
    """Write a phantom: ``ct``, ``bones`` and a PET by the name of its tracer (SUVbw), and ``truth.json``."""
    with ThreadPoolExecutor() as pool:
        images = {"ct": patient.ct, "bones": patient.bones} | patient.pets
        jobs = [pool.submit(write_nifti, image, folder / f"{name}.nii.gz") for name, image in images.items()]
        for job in jobs:
            job.result()
    write_json(patient.truth, folder / "truth.json")
