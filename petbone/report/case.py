"""One self-contained HTML page for one case: a pure function of what has been measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from petbone.anatomy import SKELETON_49
from petbone.burden import REGION_COLUMNS, region_table
from petbone.case import CaseResult, PetResult
from petbone.followup import Together, together
from petbone.report import tables, tracers
from petbone.report.backdrop import CT_WINDOW_HU, suv_max_shown
from petbone.report.page import environment
from petbone.report.privacy import facts, plain
from petbone.report.scene import Scene, scene
from petbone.report.tables import Column, Table, is_missing, shown
from petbone.volume import Volume

TRACER_NAMES = {
    "naf": "18F-NaF",
    "choline": "choline",
    "psma": "PSMA",
    "fdg": "18F-FDG",
    "other": "other tracer",
}
HEADLINE_INDICES = {"naf": ("PET15", "FTV10", "TLF10"), "choline": ("A50",), "psma": ("SUV3",)}
HEADLINE_OTHER = ("skeletal_suv_mean", "skeletal_suv_max")
WARNINGS_IN_SIGHT = 8
PARTS = ("case.html", "page.html", "macros.html", "tracers.html")
"""What the page is made of."""


@dataclass(frozen=True)
class Card:
    """One of the headline numbers."""

    title: str
    value: str
    unit: str = ""
    detail: str = ""
    note: str = ""


@dataclass(frozen=True)
class Section:
    """Everything that the page says of one PET."""

    anchor: str
    tracer: str
    suv_max_shown: float
    cards: tuple[Card, ...]
    unsure: int  # bones with unsure names
    hotspots: Table
    bones: Table
    regions: Table | None
    indices: Table
    suv: tuple[tuple[str, str], ...]
    assumptions: tuple[str, ...]
    rule: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Step:
    """A step of the run: its name, seconds and peak memory, as printed."""

    name: str
    seconds: str
    memory_mb: str


@dataclass(frozen=True)
class Pages:
    """The page, and the figure of several tracers as an SVG by itself; None where they cannot be compared."""

    report: str
    concordance: str | None


def render(result: CaseResult) -> str:
    """The page for `result`, complete in itself: no script or image from elsewhere, no path, no date.

    Tolerates missing keys in `facts` and `provenance`; raises ValueError where the tables lack the columns
    ``hotspot``, ``name``, ``status`` or ``index`` by which their rows are known.
    """
    return pages(result).report


def pages(
    result: CaseResult, told: Together | None = None, drawing: Callable[[], Scene] | None = None
) -> Pages:
    """The page (see `render`) and the figure of several tracers.

    `told` (by `together`) and what `drawing` waits for (by `scene`) are made here unless they are given.
    """
    for pet in result.all_pets:
        _check(pet)
    if told is None and _comparable(result):
        told = together(result)
    unsure = tables.unsure_bones(result)
    shown = [(pet, unsure) for pet in result.pets]
    if result.second is not None:
        others = tables.unsure_bones(result.second)
        shown += [(pet, others) for pet in result.second.pets]
    sections = [_section(number, pet, names) for number, (pet, names) in enumerate(shown, 1)]
    guesses = _guesses(result)
    warnings = [text for text in _unique(map(plain, result.warnings)) if text not in guesses]
    either = tables.unsure_in_either(result)
    called = {pet.tracer: _tracer(pet) for pet in result.all_pets}
    templates = environment()
    for name in PARTS:
        templates.get_template(name)  # compiled while the pictures are drawn
    drawn = drawing() if drawing is not None else scene(result)
    pairs = () if told is None else tracers.pairs(result, told, drawn, either, called)
    images = _sized(drawn, pairs)
    report = templates.get_template("case.html").render(
        title=_title(result),
        case_facts=_case_facts(result),
        guesses=guesses,
        warnings=warnings,
        in_sight=WARNINGS_IN_SIGHT,
        images=images,
        rows_without_pet=() if result.pets else drawn.rows[0],
        sections=sections,
        rows=drawn.rows,
        numbered=drawn.numbered,
        pairs=pairs,
        colours=tracers.COLOURS,
        matches=None if told is None else _matches(told, either, called),
        definitions=_definitions(result),
        provenance=provenance_rows(result.provenance),
        steps=_steps(result.provenance),
        ct_window=CT_WINDOW_HU,
        gap=tables.GAP,
    )
    if not pairs:
        return Pages(report, None)
    figure = templates.get_template("concordance.svg").render(
        pairs=pairs, images=images, colours=tracers.COLOURS, width=tracers.WIDTH
    )
    return Pages(report, figure)


def _sized(drawn: Scene, pairs: tuple[tracers.Pair, ...]) -> dict[str, tuple[str, float, float]]:
    """Every image with the width and height in mm of the panels that show it."""
    store = drawn.images | {name: uri for pair in pairs for name, uri in pair.overlays.items()}
    panels = [panel for rows in drawn.rows for row in rows for panel in row]
    panels += [body.panel for pair in pairs for body in pair.bodies]
    sizes = {name: (panel.width_mm, panel.height_mm) for panel in panels for name in panel.images}
    return {name: (uri, *sizes.get(name, (0.0, 0.0))) for name, uri in store.items()}


def _check(pet: PetResult) -> None:
    needed = (("hotspots", pet.hotspot_table, {"hotspot"}), ("bones", pet.bone_table, {"name", "status"}))
    for name, table, columns in (*needed, ("indices", pet.index_table, {"index"})):
        missing = columns - set(table.columns)
        if missing:
            raise ValueError(f"the table of {name} ({pet.tracer}) has no column {', '.join(sorted(missing))}")


def _title(result: CaseResult) -> str:
    tracers = " and ".join(_tracer(pet) for pet in result.all_pets)
    return f"{tracers} PET/CT" if tracers else "Bones in CT"


def _tracer(pet: PetResult) -> str:
    return TRACER_NAMES.get(pet.tracer, plain(pet.tracer))


def _case_facts(result: CaseResult) -> list[tuple[str, str]]:
    """Grids in numbers and the version: what tells two runs apart without saying who or when."""
    rows = [("CT", _grid_text(result.ct))] if result.ct is not None else [("CT", "not given")]
    if result.ct is None or not result.bones.grid.same_as(result.ct.grid):
        rows.append(("bones", _grid_text(result.bones)))
    rows += [(f"{_tracer(pet)} PET", _grid_text(pet.suv)) for pet in result.pets]
    if result.second is not None:
        second = result.second
        rows.append(("second CT", "not given" if second.ct is None else _grid_text(second.ct)))
        rows += [(f"{_tracer(pet)} PET", _grid_text(pet.suv)) for pet in second.pets]
    version = result.provenance.get("petbone")
    if not is_missing(version) and not isinstance(version, Mapping):
        rows.append(("petbone", plain(version)))
    return rows


def _grid_text(volume: Volume) -> str:
    size = " × ".join(str(n) for n in volume.grid.shape)
    spacing = " × ".join(f"{edge:.2f}" for edge in volume.grid.spacing_mm)
    return f"{size} voxels of {spacing} mm"


def _guesses(result: CaseResult) -> list[str]:
    """Assumptions of the run and of every SUV, each once."""
    texts = _sentences(result.provenance.get("assumptions"))
    for pet in result.all_pets:
        suv = pet.facts.get("suv")
        texts += _sentences(suv.get("assumptions") if isinstance(suv, Mapping) else None)
    return _unique(texts)


def _sentences(value: Any) -> list[str]:
    if is_missing(value):
        return []
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value if not is_missing(item)]
    if isinstance(value, Mapping):
        return [f"{key}: {text}" for key, text in facts(value)]
    return [plain(value)]


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _section(number: int, pet: PetResult, unsure: tables.Unsure) -> Section:
    definitions = pet.facts.get("definitions")
    meanings = definitions if isinstance(definitions, Mapping) else {}
    suv = pet.facts.get("suv")
    rule = pet.facts.get("rule")
    suv_rows = facts({k: v for k, v in suv.items() if k != "assumptions"}) if isinstance(suv, Mapping) else ()
    return Section(
        anchor=f"pet{number}",
        tracer=_tracer(pet),
        suv_max_shown=suv_max_shown(pet.tracer),
        cards=tuple(_cards(pet)),
        unsure=len(unsure),
        hotspots=tables.hotspot_table(pet.hotspot_table, meanings, unsure),
        bones=tables.bone_table(pet.bone_table, meanings, unsure),
        regions=_regions(pet, unsure),
        indices=tables.index_table(pet.index_table, meanings),
        suv=tuple(suv_rows),
        assumptions=tuple(_sentences(suv.get("assumptions") if isinstance(suv, Mapping) else None)),
        rule=tuple(facts(rule)) if isinstance(rule, Mapping) else (),
    )


def _regions(pet: PetResult, unsure: tables.Unsure) -> Table | None:
    if not len(pet.bone_table) or not {"id", "seen_fraction", *REGION_COLUMNS[3:]} <= set(pet.bone_table):
        return None
    return tables.plain_table(region_table(pet.bone_table), tables.REGION_COLUMNS, unsure)


def _comparable(result: CaseResult) -> bool:
    """Whether there are several PETs with all that comparing them takes."""
    spots, bones = {"hotspot", "bone", "volume_ml", "suv_max", "tlu_g"}, {"id", "name", "hotspot_volume_ml"}
    return len(result.all_pets) > 1 and all(
        spots <= set(pet.hotspot_table) and bones <= set(pet.bone_table) for pet in result.all_pets
    )


def _matches(told: Together, unsure: tables.Unsure, called: Mapping[str, str]) -> Table:
    """Which hotspot of one tracer is which of another, with the tracers' names for people."""
    table = told.matches
    names = [table[f"tracer_{n}"].map(called) for n in (1, 2)]
    relation = table["relation"].astype(object)
    for name, word in zip(names, ("first only", "second only"), strict=True):
        relation = relation.where(table["relation"] != word, name.astype(str) + " only")
    looked = table["seen_by_other"].astype(object).map({True: "looked", False: "did not look"})
    table = table.assign(tracer_1=names[0], tracer_2=names[1], relation=relation, looked=looked)
    # Of one pair alone the heading says which tracers.
    columns = [c for c in tables.MATCH_COLUMNS if len(told.agreement) > 1 or not c.name.startswith("tracer")]
    return tables.plain_table(table, tuple(columns), unsure)


def _cards(pet: PetResult) -> list[Card]:
    """The index of the tracer (skeletal SUV where there is none), the hotspots, and how much was seen."""
    records = {_bare(record["index"]): record for record in pet.index_table.to_dict("records")}
    names = HEADLINE_INDICES.get(pet.tracer, HEADLINE_OTHER)
    chosen = [records[_bare(name)] for name in names if _bare(name) in records]
    if not chosen:
        chosen = [records[_bare(name)] for name in HEADLINE_OTHER if _bare(name) in records]
    cards = [_index_card(record) for record in chosen]
    count = len(pet.hotspot_table)
    volume_ml = pet.hotspot_table.get("volume_ml", pd.Series(dtype=float)).sum(min_count=1)
    rule = pet.facts.get("rule")
    name = rule.get("name") if isinstance(rule, Mapping) else None
    by_rule = "" if is_missing(name) else f"by the rule of {plain(name)}"
    detail = f"{shown(float(volume_ml))} mL together, {by_rule}" if count else by_rule
    flagged = int(pet.hotspot_table.get("flags", pd.Series(dtype=object)).notna().sum())
    detail += f", {flagged} flagged by place" if flagged else ""
    cards.append(Card("hotspots", str(count), detail=detail.rstrip(", ")))
    cards.append(_seen_card(pet, chosen))
    placed = _placed_card(pet)
    return [*cards, placed] if placed is not None else cards


def _placed_card(pet: PetResult) -> Card | None:
    """How the PET lies to the CT; None where nobody measured it."""
    told = pet.facts.get("alignment")
    if pet.alignment_table is None or not isinstance(told, Mapping):
        return None
    table = pet.alignment_table
    whole = table[table["name"] == "whole"]
    title = "PET to CT, after correction" if told.get("applied") else "PET to CT"
    if not len(whole):
        return Card(title, tables.GAP, note=plain(told.get("why", "")))
    length, sure = (float(whole.iloc[0][name]) for name in ("shift_mm", "shift_uncertainty_mm"))
    return Card(
        title, f"{length:.1f} ± {sure:.1f}", "mm", "the whole; 95 % interval", plain(told.get("why", ""))
    )


def _bare(name: object) -> str:
    """An index name without case, blanks and signs: ``skeletal SUVmean`` is ``skeletal_suv_mean``."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _index_card(record: Mapping[Any, Any]) -> Card:
    threshold = tables.rule_text(record)
    parts = [f"SUV {threshold}" if threshold else ""]
    denominator = record.get("denominator_ml")
    if not is_missing(denominator):
        parts.append(f"of {shown(denominator, 'three')} mL of bone seen")
    without = record.get("value_unflagged")
    if not is_missing(without) and without != record.get("value"):
        parts.append(f"{shown(without, 'three')} without flagged hotspots")
    title = str(record["index"])
    words = {"skeletalsuvmean": "skeletal SUVmean", "skeletalsuvmax": "skeletal SUVmax"}
    return Card(
        title=words.get(_bare(title), plain(title)),
        value=shown(record.get("value"), "three"),
        unit="" if is_missing(record.get("unit")) else plain(record["unit"]),
        detail=", ".join(part for part in parts if part),
        note="" if is_missing(record.get("note")) else plain(record["note"]),
    )


def _seen_card(pet: PetResult, chosen: list[dict[Any, Any]]) -> Card:
    """How much of the 49 bones the images hold: by volume where an index says so, and in bones."""
    table = pet.bone_table
    of_49 = table[table["id"].isin(SKELETON_49)] if "id" in table.columns else table
    counts = of_49["status"].value_counts()
    complete, cut, absent = (int(counts.get(status, 0)) for status in ("complete", "cut", "absent"))
    detail = f"{complete} complete, {cut} cut, {absent} absent"
    values = [r.get("denominator_seen_fraction") for r in chosen if str(r.get("bones")) == "skeleton_49"]
    fractions = [float(value) for value in values if value is not None and not is_missing(value)]
    if not fractions:
        return Card("bones seen", f"{complete + cut}", f"of {len(of_49)}", detail)
    return Card("seen of the 49 bones", f"{100 * fractions[0]:.0f}", "%", f"by volume; {detail}")


def _definitions(result: CaseResult) -> list[tuple[str, str]]:
    """Column and meaning: the program's own definitions, then those of the page for what is left."""
    meanings: dict[str, str] = {}
    known: tuple[Column, ...] = (*tables.BONE_COLUMNS, *tables.HOTSPOT_COLUMNS, *tables.INDEX_COLUMNS)
    present: set[str] = set()
    for pet in result.all_pets:
        definitions = pet.facts.get("definitions")
        if isinstance(definitions, Mapping):
            meanings.update({str(key): plain(text) for key, text in definitions.items()})
        for table in (pet.bone_table, pet.hotspot_table, pet.index_table):
            present.update(str(name) for name in table.columns)
    for column in known:
        if column.name in present and column.meaning:
            meanings.setdefault(column.name, column.meaning)
    return sorted(meanings.items())


def provenance_rows(provenance: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (key, value), those of the contract first.

    Steps and assumptions stand elsewhere; the names are left out, for they hold guesses by name.
    """
    first = ("petbone", "versions", "inputs", "weights", "options")
    keys = [key for key in first if key in provenance]
    keys += [key for key in provenance if key not in (*first, "names", "steps", "assumptions", "warnings")]
    groups = []
    for key in keys:
        rows = [(name or key, text) for name, text in facts({key: provenance[key]})]
        short = [(name.removeprefix(f"{key}."), text) for name, text in rows]
        if short:
            groups.append((plain(key), short))
    return groups


def _steps(provenance: Mapping[str, Any]) -> list[Step]:
    steps = provenance.get("steps")
    if not isinstance(steps, (list, tuple)):
        return []
    return [
        Step(plain(s.get("name", tables.GAP)), shown(s.get("seconds"), 1), shown(s.get("peak_memory_mb"), 0))
        for s in steps
        if isinstance(s, Mapping)
    ]
