"""Folders of results of two dates: read and refused here, and what has changed written. Paths end here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import petbone
from petbone.anatomy import BONES, BY_ID, BY_NAME
from petbone.case import CaseResult, PetResult
from petbone.change_words import was_moved
from petbone.comparison import Comparison, rule_differences
from petbone.errors import InputError, ResourceError
from petbone.folders import MARK, write_json, write_table
from petbone.io import PetOptions, read_labels, read_pet
from petbone.pipeline import TRACERS, versions
from petbone.places import labels_of
from petbone.repeatability import Limits, parse_limits, published_limits
from petbone.report.compare import render
from petbone.steps import Steps
from petbone.volume import Volume

NEEDED = {
    "bones": "id name status seen_fraction pet_volume_ml suv_mean suv_max hotspot_count hotspot_volume_ml "
    "hotspot_tlu_g",
    "hotspots": "hotspot bone volume_ml suv_max suv_mean tlu_g x_mm y_mm z_mm",
    "indices": "index value unit denominator_seen_fraction threshold operator connectivity min_volume_ml "
    "bones",
}
"""Columns that a comparison cannot do without."""
_NOT_NEGATIVE = (
    "seen_fraction", "pet_volume_ml", "hotspot_count", "hotspot_volume_ml", "hotspot_tlu_g", "volume_ml",
    "tlu_g", "denominator_seen_fraction",
)  # fmt: skip
_WORDS = {"name", "status", "bone", "index", "unit", "operator", "bones"}


def read_dates(first: Path, second: Path, steps: Steps) -> tuple[CaseResult, CaseResult, list[str]]:
    """Both folders as cases, with the tracers that both have, and what to warn of.

    Raises InputError when a folder holds no results of `petbone run` or `quantify`, or damaged ones, when
    they have no tracer or no bone in common, or when their hotspots are by different rules.
    """
    with steps("read"):
        facts = [_facts(folder) for folder in (first, second)]
        warnings = _the_same_twice(first, second, facts)
        names = [[str(pet["tracer"]) for pet in one["summary"]["pets"]] for one in facts]
        common = [name for name in names[0] if name in names[1]]
        if not common:
            raise InputError(
                f"{second}: has {', '.join(names[1])} and {first} has {', '.join(names[0])}; expected a "
                "tracer that both have"
            )
        for name in common:
            _refuse_other_rules(name, (first, second), facts)
        left = sorted(set(names[0]) ^ set(names[1]))
        if left:
            warnings.append(f"at one date only, not compared: {', '.join(left)}")
        cases = [_case(folder, one, common) for folder, one in zip((first, second), facts, strict=True)]
        if not labels_of(cases[0].bones) & labels_of(cases[1].bones):
            raise InputError(
                f"{second}: has no bone in common with {first}, so nothing tells where the one lies in the "
                "other; expected two dates of the same part of the body"
            )
    return cases[0], cases[1], warnings


def read_case(folder: Path) -> CaseResult:
    """A folder of `petbone run` or `quantify` as a case, with all its tracers.

    Raises InputError when it holds something else, or damaged results.
    """
    facts = _facts(folder)
    return _case(folder, facts, [str(pet["tracer"]) for pet in facts["summary"]["pets"]])


def _facts(folder: Path) -> dict[str, Any]:
    """provenance.json and summary.json of a folder of results."""
    expected = "expected a folder that petbone run or quantify has left"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {expected}")
    found = {}
    for name in ("provenance", "summary"):
        path = folder / f"{name}.json"
        if not path.is_file():
            raise InputError(f"{folder}: holds no {path.name}; {expected}")
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as JSON ({error}); measure the case again") from error
    pets = found["summary"].get("pets") if isinstance(found["summary"], dict) else None
    proper = isinstance(pets, list) and all(
        isinstance(pet, dict) and pet.get("tracer") and isinstance(pet.get("rule"), dict) for pet in pets
    )
    if not proper or not pets or not isinstance(found["provenance"], dict):
        raise InputError(f"{folder}: its summary.json names no PET with tracer and rule; {expected}")
    if "second" in found["provenance"]:
        raise InputError(
            f"{folder}: holds two examinations (--ct2); expected one: measure them apart, then compare"
        )
    # Files are named by their tracer, so it must be one that petbone gives.
    strange = [str(pet["tracer"]) for pet in pets if pet["tracer"] not in TRACERS]
    if strange:
        raise InputError(f"{folder}: its summary.json names the tracer {strange[0]}; {expected}")
    _refuse_strange_facts(folder, found)
    return found


def _refuse_strange_facts(folder: Path, found: dict[str, Any]) -> None:
    """What a comparison reads of the facts must be of the kind that petbone writes."""
    provenance = found["provenance"]
    inputs = provenance.get("inputs") or {}
    listed = (inputs.get("pets") or []) if isinstance(inputs, dict) else None
    options = provenance.get("options") or {}
    kinds = {
        "inputs": isinstance(listed, list) and all(isinstance(pet, dict) for pet in listed),
        "options": isinstance(options, dict) and _is_number_or_none(options.get("psf_mm")),
    }
    strange = [key for key, proper in kinds.items() if not proper]
    if strange:
        raise InputError(f"{folder / MARK}: its {strange[0]} are none of petbone's; measure the case again")
    for pet in found["summary"]["pets"]:
        suv, rule, lies = pet.get("suv") or {}, pet["rule"], pet.get("alignment") or {}
        kinds = {
            "suv": isinstance(suv, dict) and _is_number_or_none(suv.get("decay_s")),
            "alignment": isinstance(lies, dict),
            "rule": isinstance(rule.get("name"), str)
            and rule.get("threshold") is not None
            and _is_number_or_none(rule["threshold"])
            and isinstance(rule.get("reference_region", {}), dict),
        }
        strange = [key for key, proper in kinds.items() if not proper]
        if strange:
            raise InputError(
                f"{folder / 'summary.json'}: {strange[0]} of {pet['tracer']} is none of petbone's; measure "
                "the case again"
            )


def _is_number_or_none(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _pet_of(facts: dict[str, Any], tracer: str) -> dict[str, Any]:
    found: dict[str, Any] = next(pet for pet in facts["summary"]["pets"] if pet["tracer"] == tracer)
    return found


def _the_same_twice(first: Path, second: Path, facts: list[dict[str, Any]]) -> list[str]:
    if first.resolve() == second.resolve():
        return ["the same folder was given twice: nothing can have changed"]
    hashes = [
        {pet.get("sha256") for pet in (one["provenance"].get("inputs") or {}).get("pets") or []}
        for one in facts
    ]
    if (hashes[0] & hashes[1]) - {None}:
        return ["a PET of the one date is the very file of the other"]
    return []


def _refuse_other_rules(tracer: str, folders: tuple[Path, Path], facts: list[dict[str, Any]]) -> None:
    pets = [_pet_of(one, tracer) for one in facts]
    other = rule_differences(pets[0]["rule"], pets[1]["rule"])
    if other:
        raise InputError(
            f"{folders[1]}: its {tracer} hotspots are by another rule than those of {folders[0]}: "
            f"{', '.join(other)}; expected one rule: measure one of the two again with --index or --rule"
        )
    kinds = [str((pet.get("suv") or {}).get("suv_type") or "BW") for pet in pets]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{folders[1]}: its {tracer} PET is in SUV{kinds[1].lower()}, that of {folders[0]} in "
            f"SUV{kinds[0].lower()}; expected SUV of one kind"
        )


def _case(folder: Path, facts: dict[str, Any], tracers: list[str]) -> CaseResult:
    several = len(facts["summary"]["pets"]) > 1
    bones = _bones(folder / "bones.nii.gz")
    pets = []
    for tracer in tracers:
        suffix = f"_{tracer}" if several else ""
        told = _pet_of(facts, tracer)
        hotspots = _image(folder / f"hotspots{suffix}.nii.gz")
        table = _table(folder / f"hotspots{suffix}.csv", "hotspots")
        suv = _existing(folder / f"suv{suffix}.nii.gz")
        pet = PetResult(
            tracer=tracer,
            suv=read_pet(suv, PetOptions(units="suv", tracer=tracer)).volume,
            hotspots=hotspots,
            bone_table=_table(folder / f"bones{suffix}.csv", "bones"),
            hotspot_table=table,
            index_table=_table(folder / f"indices{suffix}.csv", "indices"),
            facts={
                "suv": told.get("suv") or {},
                "rule": told["rule"],
                "alignment": told.get("alignment") or {},
            },
        )
        _refuse_mixed(folder, suffix, pet)
        pets.append(pet)
    return CaseResult(None, bones, tuple(pets), (), facts["provenance"], _candidates(folder, facts))


def _candidates(folder: Path, facts: dict[str, Any]) -> dict[int, tuple[int, ...]] | None:
    """What each bone may be, its own name first; None for masks made elsewhere."""
    names = facts["provenance"].get("names")
    if names is None:
        return None
    try:
        may_be = {name: told["may_be"] for name, told in names.items()}
        return {BY_NAME[name].id: tuple(BY_NAME[one].id for one in some) for name, some in may_be.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / MARK}: its names are none of petbone's ({error}); measure the case again"
        ) from error


def _refuse_mixed(folder: Path, suffix: str, pet: PetResult) -> None:
    """A table and an image of different runs have no place in one comparison."""
    rows, image = pet.hotspot_table["hotspot"].tolist(), int(pet.hotspots.data.max(initial=0))
    if rows != list(range(1, image + 1)):
        raise InputError(
            f"{folder / f'hotspots{suffix}.csv'}: its {len(rows)} hotspots are not 1 to {image}, those of "
            f"hotspots{suffix}.nii.gz; expected tables and images of one run"
        )
    if not pet.suv.grid.same_as(pet.hotspots.grid):
        raise InputError(
            f"{folder / f'hotspots{suffix}.nii.gz'}: lies on another grid than suv{suffix}.nii.gz; expected "
            "images of one run"
        )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path.parent}: holds no {path.name}; expected all that petbone run leaves")
    return path


def _image(path: Path) -> Volume:
    return read_labels(_existing(path)).volume


def _bones(path: Path) -> Volume:
    volume = _image(path)
    if volume.data.max(initial=0) > max(BY_ID):
        raise InputError(f"{path}: holds labels above {max(BY_ID)}; expected a label map that petbone wrote")
    if not volume.data.any():
        raise InputError(f"{path}: holds no bone; expected the bones that were measured")
    return volume


def _table(path: Path, kind: str) -> pd.DataFrame:
    """A table of the contract; numbers are numbers, and whole where they count."""
    try:
        table = pd.read_csv(_existing(path))
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{path}: cannot be read as a table ({error}); measure the case again") from error
    missing = [name for name in NEEDED[kind].split() if name not in table.columns]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}; expected a table that petbone wrote")
    for name in NEEDED[kind].split():
        if name in _WORDS:
            continue
        try:
            table[name] = pd.to_numeric(table[name])
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: column {name} holds no numbers ({error})") from error
    for name in {"id", "hotspot"} & set(table.columns):
        if table[name].isna().any() or (table[name] != np.rint(table[name])).any():
            raise InputError(f"{path}: column {name} does not hold whole numbers; expected one in every row")
    numbers = [name for name in NEEDED[kind].split() if name not in _WORDS]
    wrong = [name for name in numbers if np.isinf(table[name].astype(float)).any()]
    wrong += [name for name in _NOT_NEGATIVE if name in numbers and (table[name].astype(float) < 0).any()]
    if wrong:
        raise InputError(
            f"{path}: infinite or negative numbers in column {wrong[0]}; expected a table that petbone wrote"
        )
    _refuse_other_rows(path, table, kind)
    _refuse_gaps(path, table, kind)
    return table


def _refuse_other_rows(path: Path, table: pd.DataFrame, kind: str) -> None:
    """Bones are all there, each once and by its name; an index is there once."""
    key = {"bones": "id", "indices": "index"}.get(kind)
    if key is None:
        return
    if table[key].isna().any():
        raise InputError(f"{path}: empty cells in column {key}; expected a table that petbone wrote")
    twice = table[key][table[key].duplicated()]
    if len(twice):
        raise InputError(f"{path}: {key} {twice.iloc[0]} stands there twice; expected a row for each")
    if kind != "bones":
        return
    lacking = [bone.name for bone in BONES if bone.id not in set(table["id"])]
    if lacking:
        said = f"{lacking[0]} and {len(lacking) - 1} more" if len(lacking) > 1 else lacking[0]
        raise InputError(f"{path}: has no row for {said}; expected a row for every bone")
    other = [str(row["name"]) for row in table.to_dict("records") if row["id"] != _id_of(row["name"])]
    if other:
        raise InputError(f"{path}: the id of {other[0]} is another bone's; expected petbone's own")


def _id_of(name: Any) -> int | None:
    return BY_NAME[name].id if name in BY_NAME else None


def _refuse_gaps(path: Path, table: pd.DataFrame, kind: str) -> None:
    """Hotspots have all their numbers and a bone of ours; only bones and indices may have gaps."""
    if kind != "hotspots":
        return
    gaps = [name for name in NEEDED[kind].split() if table[name].isna().any()]
    if gaps:
        raise InputError(
            f"{path}: empty cells in column {', '.join(gaps)}; expected a table that petbone wrote"
        )
    strange = sorted(set(table["bone"].astype(str)) - set(BY_NAME))
    if strange:
        raise InputError(f"{path}: bones {', '.join(strange)}; expected names of petbone's own")


def read_limits(path: Path | None) -> dict[str, Limits]:
    """The published limits by tracer, and those of a TOML file in their place.

    Raises InputError when the file cannot be used.
    """
    known = published_limits()
    if path is None:
        return known
    try:
        own = parse_limits(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; expected a TOML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8; expected a TOML file") from error
    except ValueError as error:
        raise InputError(str(error)) from error
    strange = sorted(set(own) - set(TRACERS))
    if strange:
        raise InputError(f"{path}: limits of {', '.join(strange)}; expected one of {', '.join(TRACERS)}")
    return known | own


def refuse_input_as_output(folders: Iterable[Path], output: Path) -> None:
    """Raise InputError when results would take the place of what they are made from."""
    for folder in folders:
        if output.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise InputError(f"{output}: holds what is to be compared; choose another folder with -o")


def write_comparison(
    result: Comparison,
    sources: tuple[Path, Path],
    own_limits: bool,
    folder: Path,
    steps: Steps,
    processes: int = 2,
) -> None:
    """Write tables, page and provenance into `folder`, which exists; `processes` as in `beside`.

    Raises ResourceError when it cannot.
    """
    provenance = _provenance(result, sources, own_limits)
    try:
        with steps("write"):
            for tracer in result.tracers:
                suffix = f"_{tracer.tracer}" if len(result.tracers) > 1 else ""
                write_table(tracer.hotspots, folder / f"hotspot_changes{suffix}.csv")
                write_table(tracer.bones, folder / f"bone_changes{suffix}.csv")
                write_table(tracer.indices, folder / f"index_changes{suffix}.csv")
            write_table(result.motions, folder / "motions.csv")
            (folder / "compare.html").write_text(render(result, provenance, processes), encoding="utf-8")
        write_json(provenance | {"steps": steps.records}, folder / MARK)
    except OSError as error:
        raise ResourceError(f"the results cannot be written: {error.strerror}") from error


def _provenance(result: Comparison, sources: tuple[Path, Path], own_limits: bool) -> dict[str, Any]:
    """What was compared, by hashes, and by which limits; no path and no date."""
    dates = {}
    cases = (result.first, result.second)
    for name, folder, case in zip(("first", "second"), sources, cases, strict=True):
        told = case.provenance
        dates[name] = {
            "petbone": told.get("petbone"),
            "provenance_sha256": hashlib.sha256((folder / MARK).read_bytes()).hexdigest(),
            "pets": [
                {"tracer": pet.get("tracer"), "sha256": pet.get("sha256")}
                for pet in (told.get("inputs") or {}).get("pets") or []
            ],
            "weights": told.get("weights"),
            "psf_mm": (told.get("options") or {}).get("psf_mm"),
            "align": (told.get("options") or {}).get("align"),
            "pet_was_moved": {pet.tracer: was_moved(pet) for pet in case.pets},
        }
    return {
        "petbone": petbone.__version__,
        "dates": dates,
        "options": {"limits": own_limits},
        "limits": {t.tracer: None if t.limits is None else asdict(t.limits) for t in result.tracers},
        "rules": {t.tracer: dict(t.second.facts["rule"]) for t in result.tracers},
        "remarks": {t.tracer: list(t.remarks) for t in result.tracers},
        "warnings": list(result.warnings),
        "versions": versions(),
    }
