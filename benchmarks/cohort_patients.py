"""Patients, whole and broken, for the benchmark of cohorts, and what two of their results have in common."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from petbone.io import write_nifti
from petbone.phantom import SMALL, PhantomSpec, make_patient, spec_of_size
from petbone.phantom.activity import with_noise
from petbone.volume import Grid, Unit, Volume

TINY = replace(SMALL, fov_mm=((-140, 140), (-110, 110), (-170, 130)))
"""A pelvis: a case takes a third of a second."""
BODIES = 8  # made of bodies; the others differ in the noise of their PET
HEAD = ["case", "ct", "pet", "tracer", "bones", "units", "labels", "patient", "date", "arm"]
TABLES = ("bones", "hotspots", "indices")


@dataclass(frozen=True)
class Broken:
    """A way to spoil the row of a case and its files in a folder, and what must be said of it (regex)."""

    name: str
    spoil: Callable[[dict[str, str], Path], None]
    step: str
    said: str


def spec_of(size: str, seed: int) -> PhantomSpec:
    spec = replace(TINY, seed=seed) if size == "tiny" else spec_of_size(size, seed)
    return replace(spec, tracers=("naf",))


def make_cohort(
    folder: Path, count: int, size: str, broken_every: int = 0, visits: int = 1
) -> dict[str, Broken]:
    """Files and ``patients.csv`` of `count` cases; what is wrong with every so many of them, by names.

    So many `visits` in turn are of one patient.
    """
    bodies = [make_patient(spec_of(size, seed)) for seed in range(min(BODIES, count))]
    rows, broken = [], {}
    for n in range(count):
        body, place = bodies[n % len(bodies)], folder / f"p{n:03}"
        place.mkdir(parents=True)
        for name, image in (("ct", body.ct), ("bones", body.bones)):
            first = folder / f"p{n % len(bodies):03}" / f"{name}.nii.gz"
            if n < len(bodies):
                write_nifti(image, first)
            else:
                os.link(first, place / f"{name}.nii.gz")
        clean = body.clean["naf"]
        noisy = with_noise(clean.data, 0.06, np.random.default_rng(n))
        write_nifti(Volume(noisy, clean.grid, Unit.SUV), place / "naf.nii.gz")
        files = {name: f"{place.name}/{name}.nii.gz" for name in ("ct", "bones")}
        row = {
            "case": f"case {n:03}",
            **files,
            "pet": f"{place.name}/naf.nii.gz",
            "tracer": "naf",
            "units": "suv",
        }
        row |= {"labels": "", "patient": f"P{n // visits}", "arm": "AB"[n // visits % 2]}
        row["date"] = f"2024-{1 + n % visits:02}-15"
        if broken_every and n % broken_every == broken_every - 1:
            kind = KINDS[len(broken) % len(KINDS)]
            kind.spoil(row, folder)
            broken[row["case"]] = kind
        rows.append(row)
    with (folder / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEAD, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return broken


def _bytes(column: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, str], Path], None]:
    """Spoil the bytes of a file; another file, since some are links."""

    def spoil(row: dict[str, str], folder: Path) -> None:
        path = folder / row[column]
        content = change(path.read_bytes())
        path.unlink()
        path.write_bytes(content)

    return spoil


def _moved(row: dict[str, str], folder: Path) -> None:
    pet = make_patient(replace(TINY, tracers=("naf",), hotspots=())).pets["naf"]
    far = pet.grid.mm_from_ijk.copy()
    far[:3, 3] += 3000
    (folder / row["pet"]).unlink()
    write_nifti(Volume(pet.data, Grid(pet.data.shape, far), Unit.SUV), folder / row["pet"])


def _boneless(row: dict[str, str], folder: Path) -> None:
    bones = make_patient(replace(TINY, tracers=("naf",), hotspots=())).bones
    (folder / row["bones"]).unlink()
    write_nifti(Volume(np.zeros_like(bones.data), bones.grid, Unit.LABEL), folder / row["bones"])


def _without_weight(row: dict[str, str], _: Path) -> None:
    row["units"] = "bqml"


def _of_other_labels(row: dict[str, str], _: Path) -> None:
    row["labels"] = "moose_ribs"


def _folder(row: dict[str, str], folder: Path) -> None:
    place = (folder / row["pet"]).parent / "slices"
    place.mkdir()
    (place / "notes.txt").write_text("no image\n", encoding="utf-8")
    row["pet"] = str(place.relative_to(folder))


KINDS = (
    Broken("empty PET", _bytes("pet", lambda _: b""), "read", r"^pet: "),
    Broken("PET cut short", _bytes("pet", lambda b: b[: len(b) // 2]), "read", r"^pet: .*(cut|end|short)"),
    Broken("PET is a text", _bytes("pet", lambda _: b"no image\n" * 99), "read", r"^pet: "),
    Broken("PET of another frame", _moved, "read|bones", r"^pet: does not overlap"),
    Broken("mask without bone", _boneless, "bones", r"^bones: no bone found"),
    Broken("no weight", _without_weight, "read|measure", r"^pet: .*weight"),
    Broken("labels of another tool", _of_other_labels, "bones", r"^bones: "),
    Broken("folder without slices", _folder, "read", r"^pet: .*DICOM"),
    Broken("CT cut short", _bytes("ct", lambda b: b[:-2000]), "read.*", r"^ct: .*(cut|end|short)"),
)  # fmt: skip


def without_times(folder: Path) -> dict[str, Any]:
    """SHA-256 of each file of a case, images unpacked; provenance and page without time, memory, threads."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        if path.name == "cohort.json":
            continue
        if path.name == "provenance.json":
            told = json.loads(content)
            told["steps"] = [step["name"] for step in told["steps"]]
            told["options"].pop("threads")
            for one in (told["inputs"]["ct"], told["inputs"]["bones"], *told["inputs"]["pets"]):
                one.pop("seconds")
            content = json.dumps(told).encode()
        elif path.suffix == ".gz":
            content = gzip.decompress(content)
        elif path.name == "report.html":
            content = content.partition(b'<section id="provenance">')[0]
        found[path.name] = hashlib.sha256(content).hexdigest()
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def unwhole(output: Path, cases: list[str]) -> list[str]:
    """What is not as it must be in the folder of a cohort whose cases are all done."""
    wrong = [f"left behind: {path.relative_to(output)}" for path in output.rglob(".*")]
    found = sorted(path.name for path in (output / "cases").iterdir())
    if found != sorted(cases):
        wrong.append(f"folders: {set(found) ^ set(cases)}")
    for folder in [output / "cases" / case for case in found] + list(output.glob("followup/*/*")):
        case = folder.relative_to(output)
        told = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))["files"]
        there = {path.name for path in folder.iterdir()} - {"cohort.json"}
        if there != set(told):
            wrong.append(f"{case}: {there ^ set(told)}")
        wrong += [
            f"{case}: {name} is altered"
            for name in there & set(told)
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != told[name]
        ]
    return wrong


def tables_of(output: Path) -> dict[str, str]:
    """SHA-256 of every table of a cohort."""
    paths = [path for path in output.iterdir() if path.suffix in (".csv", ".parquet")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
