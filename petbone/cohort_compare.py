"""Two cases of one patient, as a worker lays them beside each other: kept when that is done, else whole.

Their folders are results by now, so nothing is measured: what `petbone compare` leaves for two dates, and the
tables of two tracers that `petbone run` leaves for two PETs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

import petbone
from petbone.cohort_case import (
    DONE,
    Record,
    done_before,
    failed,
    mark_done,
    refuse_other_run,
    sha256_of,
    worded,
)
from petbone.cohort_dates import Pair, Visit, in_order, of_patients, pairs_of
from petbone.errors import InputError
from petbone.folders import MARK, new_folder, write_tables
from petbone.pipeline import versions
from petbone.repeatability import Limits
from petbone.steps import Steps

PLACES = ("followup", "tracers")
"""Folders of a cohort that hold pairs of its cases, by the kind of the pair."""


@dataclass(frozen=True)
class Judge:
    """By which limits changes are judged, and whether these are the user's own."""

    limits: Mapping[str, Limits]
    own: bool


def folder_of(pair: Pair, output: Path) -> Path:
    """Where a pair stands: a folder in a folder, since two joined names could be those of two others."""
    return output / pair.kind / pair.first.case / pair.second.case


def do_pair(pair: Pair, judge: Judge, output: Path, threads: int, run: str = "") -> Record:
    """Lay two cases beside each other, unless it is done. Raises nothing but what stops the process.

    `run` is as in `do_case`.
    """
    steps = Steps()
    step = "compare" if pair.kind == "followup" else "tracers"
    record = Record(pair.second.case, "done", step, against=pair.first.case)
    sources = (output / "cases" / pair.first.case, output / "cases" / pair.second.case)
    folder = folder_of(pair, output)
    try:
        digest = _digest(pair, judge, sources)
        if (done := done_before(folder, digest)) is not None:
            return replace(record, state="kept", provenance_sha256=done.provenance_sha256)
        _make(output / pair.kind)  # what is not finished lies there, where it is swept
        with threadpool_limits(threads), new_folder(folder, overwrite=True, mark=DONE) as part:
            if pair.kind == "followup":
                _compare(sources, judge, part, steps)
            else:
                _together(sources, part, steps)
            mark_done(part, digest)
            refuse_other_run(output / "cases", run)
        return replace(record, provenance_sha256=sha256_of(folder / MARK))
    except Exception as error:
        said = worded(error, " ".join(str(error).split()).replace(f"{output}/", ""))
        return failed(replace(record, state="failed", error=said), error)


def _make(place: Path) -> None:
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{place}: cannot be made: {error.strerror}; expected a folder of petbone: move that away"
        ) from error


def _digest(pair: Pair, judge: Judge, sources: tuple[Path, Path]) -> str:
    """SHA-256 of what the two cases hold, file by file, of the limits, and of petbone's version."""
    digest = hashlib.sha256(f"petbone {petbone.__version__} {pair.kind}".encode())
    for source in sources:
        digest.update(sha256_of(source / DONE).encode())
    if pair.kind == "followup":
        limits = {tracer: asdict(one) for tracer, one in sorted(judge.limits.items())}
        digest.update(json.dumps([limits, judge.own], sort_keys=True).encode())
    return digest.hexdigest()


def _compare(sources: tuple[Path, Path], judge: Judge, part: Path, steps: Steps) -> None:
    # pandas and pictures: nothing for a pair that is done
    from petbone.comparison import compare_cases
    from petbone.followup_files import read_dates, write_comparison

    one, two, warnings = read_dates(*sources, steps)
    result = compare_cases(one, two, judge.limits, steps)
    result = replace(result, warnings=(*warnings, *result.warnings))
    write_comparison(result, sources, judge.own, part, steps, processes=1)


def _together(sources: tuple[Path, Path], part: Path, steps: Steps) -> None:
    """Concordance of two tracers that were measured apart, each on its own CT or both on one."""
    import numpy as np

    from petbone.bone_motion import bone_motions
    from petbone.change import motion_table
    from petbone.followup import together
    from petbone.followup_files import read_case
    from petbone.places import middles_mm

    with steps("read"):
        one, two = (read_case(source) for source in sources)
    tables: dict[str, Any] = {}
    one_frame = one.bones.grid.same_as(two.bones.grid) and np.array_equal(one.bones.data, two.bones.data)
    if one_frame:  # the bones of one CT
        both = replace(one, pets=(*one.pets, *two.pets))
    else:
        with steps("motions of the bones"):
            motions = bone_motions(one.bones, two.bones)
        if not motions:
            raise InputError(
                f"cases/{sources[1].name}: has no bone in common with cases/{sources[0].name}, so nothing "
                "tells where the one lies in the other"
            )
        both = replace(one, second=two, motions=motions)
        tables["motions"] = motion_table(motions, middles_mm(one.bones))
    with steps("tracers"):
        told = together(both)
    tables |= {
        "concordance": told.bones,
        "hotspot_matches": told.matches,
        "tracer_agreement": told.agreement,
    }
    provenance = {
        "petbone": petbone.__version__,
        "provenance_sha256": [sha256_of(source / MARK) for source in sources],
        "one_frame": bool(one_frame),
        "tracers": [pet.tracer for pet in both.all_pets],
        "rules": {pet.tracer: dict(pet.facts["rule"]) for pet in both.all_pets},
        "versions": versions(),
        "steps": steps.records,
    }
    write_tables(tables, {}, provenance, part)


Outcome = tuple[Pair, Record]


def planned(
    visits: Sequence[Visit], records: Sequence[Record], output: Path
) -> tuple[list[Pair], list[Outcome]]:
    """What is to be compared now that the cases are done; and what cannot be, with a record that says why.

    A case that failed keeps its place among the patient's examinations: no other one becomes the first.
    """
    state = {record.case: record for record in records}
    several = {one.case for some in of_patients(visits).values() if len(some) > 1 for one in some}
    known = [
        one if state[one.case].state == "failed" else replace(one, tracers=_tracers(output, one.case))
        for one in visits
        if one.case in several
    ]
    pairs, refused = pairs_of(known)
    able, hindered = [], []
    for pair in pairs:
        lost = [one.case for one in (pair.first, pair.second) if state[one.case].state == "failed"]
        if not lost:
            able.append(pair)
            continue
        said = f"case {' and '.join(lost)} failed"
        hindered.append(
            (pair, Record(pair.second.case, "hindered", "compare", said, against=pair.first.case))
        )
    for later, earlier, why in refused:
        pair = Pair("followup", later.patient, earlier, later, later.tracers, ("",) * len(later.tracers))
        hindered.append((pair, Record(later.case, "failed", "compare", why, against=earlier.case)))
    return able, hindered


def _tracers(output: Path, case: str) -> tuple[str, ...]:
    """Those of a case that is done; none where its folder is not what it was."""
    try:
        told = json.loads((output / "cases" / case / "summary.json").read_text(encoding="utf-8"))
        return in_order(str(pet["tracer"]) for pet in told["pets"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def sweep_pairs(output: Path, wanted: Iterable[Path]) -> None:
    """Remove every pair that is not among the folders `wanted`.

    Pairs are made from cases in seconds; one of a case that was done anew since would be taken for true.
    """
    kept = set(wanted)
    for place in (output / name for name in PLACES):
        for done in list(place.glob(f"*/*/{DONE}")):
            if done.parent not in kept:
                shutil.rmtree(done.parent, ignore_errors=True)
        for empty in [*place.glob("*"), place]:
            with suppress(OSError):  # a link, or in use: an empty folder does no harm
                if empty.is_dir() and not any(empty.iterdir()):
                    empty.rmdir()
