"""One self-contained HTML page for two dates of one patient: a pure function of what has been compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from petbone.anatomy import BY_NAME, unsure_name
from petbone.change import CHANGES, UNSEEN_1, UNSEEN_2, counts
from petbone.change_words import headline
from petbone.comparison import Comparison, TracerChanges
from petbone.report import tables
from petbone.report.backdrop import suv_max_shown
from petbone.report.case import TRACER_NAMES, Card, provenance_rows
from petbone.report.page import environment
from petbone.report.privacy import facts, plain
from petbone.report.scene import Panel, scene
from petbone.report.tables import Column, Table, Unsure, shown
from petbone.report.waterfall import Waterfall, waterfall

HOTSPOT_COLUMNS = (
    Column("change", "change", digits="text", group="hotspot", meaning="what has become of the hotspot"),
    Column("numbers_1", "no. 1st", digits="text", group="hotspot", meaning="its number at the first date"),
    Column("numbers_2", "no. 2nd", digits="text", group="hotspot", meaning="its number at the second date"),
    Column("bone", "bone", digits="text", group="hotspot", meaning="bone with the largest share of it"),
    Column("tlu_g_1", "1st", "g", 1, "total uptake", "total lesion uptake at the first date"),
    Column("tlu_g_2", "2nd", "g", 1, "total uptake", "at the second"),
    Column("tlu_ratio", "ratio", group="total uptake", meaning="second / first; decides grown and shrunk"),
    Column("suv_max_1", "1st", "", 1, "SUVmax", "SUVmax at the first date"),
    Column("suv_max_2", "2nd", "", 1, "SUVmax", "at the second"),
    Column(
        "suv_max_ratio", "ratio", group="SUVmax", meaning="second / first; for new and gone, of the place"
    ),
    Column(
        "suv_max_change", "verdict", digits="text", group="SUVmax", meaning="up, down or within the limits"
    ),
    Column("suv_mean_1", "1st", "", 1, "SUVmean", "SUVmean at the first date"),
    Column("suv_mean_2", "2nd", "", 1, "SUVmean", "at the second"),
    Column("suv_mean_ratio", "ratio", group="SUVmean", meaning="second / first"),
    Column("suv_mean_change", "verdict", digits="text", group="SUVmean", meaning="up, down or within"),
    Column("volume_ml_1", "1st", "mL", 2, "volume", "volume at the first date"),
    Column("volume_ml_2", "2nd", "mL", 2, "volume", "at the second"),
    Column("suv_max_there", "other date", "", 1, "place", "SUVmax at the same place at the other date"),
    Column("note", "note", digits="text", group=" ", meaning="what keeps it from being judged, and doubts"),
)
INDEX_COLUMNS = (
    Column("index", "index", digits="text", meaning="all hotspots together, then the published indices"),
    Column("unit", "unit", digits="text", meaning="of both values"),
    Column("value_1", "1st", digits="three", meaning="value at the first date"),
    Column("value_2", "2nd", digits="three", meaning="value at the second date"),
    Column("difference", "difference", digits="three", meaning="second - first"),
    Column("ratio", "ratio", meaning="second / first"),
    Column("limits", "limits", digits="text", meaning="limits of repeatability of the ratio, of a patient"),
    Column("verdict", "verdict", digits="text", meaning="up, down or within the limits"),
    Column("seen_1", "seen 1st", meaning="part of its bones that the first date saw"),
    Column("seen_2", "seen 2nd", meaning="part of its bones that the second date saw"),
    Column("note", "note", digits="text", meaning="why it does not compare"),
)
BONE_COLUMNS = (
    Column("name", "bone", digits="text", group="bone", meaning="name of the bone"),
    Column(
        "status_1", "1st", digits="text", group="seen", meaning="complete, cut or absent at the first date"
    ),
    Column("status_2", "2nd", digits="text", group="seen", meaning="at the second"),
    Column("hotspot_count_1", "1st", digits="whole", group="hotspots", meaning="hotspots, first date"),
    Column("hotspot_count_2", "2nd", digits="whole", group="hotspots", meaning="second date"),
    Column("hotspot_volume_ml_1", "1st", "mL", group="hotspot volume", meaning="first date"),
    Column("hotspot_volume_ml_2", "2nd", "mL", group="hotspot volume", meaning="second date"),
    Column("hotspot_volume_change_ml", "change", "mL", group="hotspot volume", meaning="second - first"),
    Column("hotspot_tlu_g_1", "1st", "g", 1, "hotspot uptake", "first date"),
    Column("hotspot_tlu_g_2", "2nd", "g", 1, "hotspot uptake", "second date"),
    Column("hotspot_tlu_change_g", "change", "g", 1, "hotspot uptake", "second - first"),
    Column("suv_mean_1", "1st", group="SUVmean of the bone", meaning="first date"),
    Column("suv_mean_2", "2nd", group="SUVmean of the bone", meaning="second date"),
    Column("suv_mean_ratio", "ratio", group="SUVmean of the bone", meaning="second / first"),
    Column("note", "note", digits="text", group=" ", meaning="what does not compare"),
)
MOTION_COLUMNS = (
    Column("name", "bone", digits="text", group="bone", meaning="name of the bone"),
    Column("translation_mm", "distance", "mm", 1, "moved by", "how far its middle has moved"),
    Column("x_mm", "x", "mm", 1, "moved by", "towards the patient's right"),
    Column("y_mm", "y", "mm", 1, "moved by", "towards the front"),
    Column("z_mm", "z", "mm", 1, "moved by", "towards the head"),
    Column("rotation_deg", "turned by", "°", 1, "moved by", "angle of the rotation"),
    Column("surface_before_mm", "before", "mm", 1, "distance of surfaces", "before it was brought over"),
    Column("surface_after_mm", "after", "mm", 1, "distance of surfaces", "and after"),
    Column("own", "own", digits="text", group="motion", meaning="its own motion, or that of its neighbours"),
    Column("note", "note", digits="text", group="motion", meaning="why not its own"),
)


@dataclass(frozen=True)
class Section:
    """Everything that the page says of one tracer."""

    anchor: str
    tracer: str
    lead: str
    cards: tuple[Card, ...]
    figure: Waterfall | None
    left_out: str
    remarks: tuple[str, ...]
    panels: tuple[tuple[str, Panel], ...]
    suv_max_shown: float
    hotspots: Table
    indices: Table
    bones: Table
    limits: tuple[tuple[str, str], ...]


def render(result: Comparison, provenance: Mapping[str, Any], processes: int = 2) -> str:
    """The page for `result`, complete in itself: no script or image from elsewhere, no path, no date.

    `processes` is that of `beside`.
    """
    unsure = tables.unsure_bones(result.first) | tables.unsure_bones(result.second)
    images, panels = _pictures(result, processes)
    sections = [
        _section(number, tracer, panels[number - 1], unsure)
        for number, tracer in enumerate(result.tracers, 1)
    ]
    moved = result.motions.assign(own=["yes" if own else "no" for own in result.motions["own"]])
    return (
        environment()
        .get_template("compare.html")
        .render(
            title=" and ".join(section.tracer for section in sections) + " PET/CT at two dates",
            case_facts=_case_facts(result),
            warnings=[plain(text) for text in result.warnings],
            images=images,
            sections=sections,
            motions=tables.plain_table(moved, MOTION_COLUMNS, unsure),
            provenance=provenance_rows(
                {k: v for k, v in provenance.items() if k not in ("remarks", "warnings")}
            ),
            gap=tables.GAP,
        )
    )


def _case_facts(result: Comparison) -> list[tuple[str, str]]:
    rows = []
    for name, case in (("first", result.first), ("second", result.second)):
        found = ", ".join(f"{len(pet.hotspot_table)} hotspots ({pet.tracer})" for pet in case.pets)
        rows.append((name, found))
    for tracer in result.tracers:
        rule = tracer.second.facts["rule"]
        rows.append((f"rule ({tracer.tracer})", f"{plain(rule.get('name'))}, SUV {tables.rule_text(rule)}"))
    return rows


Image = tuple[str, float, float]
"""Data URI, width and height in mm."""


def _pictures(
    result: Comparison, processes: int
) -> tuple[dict[str, Image], list[tuple[tuple[str, Panel], ...]]]:
    """Images with their sizes, and per tracer the PET of both dates from two sides, in one scale."""
    images: dict[str, Image] = {}
    panels: list[list[tuple[str, Panel]]] = [[] for _ in result.tracers]
    drawn = [scene(case, processes) for case in (result.first, result.second)]
    for n, tracer in enumerate(result.tracers):
        found = [
            [(name, panel) for row in one.rows[n] for panel in row if panel.images[0].startswith("pet")]
            for name, one in zip(("first", "second"), drawn, strict=True)
        ]
        # Both dates of one view side by side, no larger than the smaller scale of the two.
        beside = [pair for view in zip(*found, strict=True) for pair in view]
        scale = min(panel.width_px / panel.width_mm for _, panel in beside)
        for name, panel in beside:
            own = tuple(f"{image}-{name}" for image in panel.images)
            css = _change_of(tracer.hotspots, "1" if name == "first" else "2")
            marks = tuple(replace(mark, css=css.get(mark.text, "")) for mark in panel.marks)
            scaled = replace(panel, images=own, width_px=panel.width_mm * scale, marks=marks)
            panels[n].append((name, scaled))
            store = drawn[0 if name == "first" else 1].images
            size = panel.width_mm, panel.height_mm
            images |= {f"{image}-{name}": (store[image], *size) for image in panel.images}
    return images, [tuple(some) for some in panels]


def _change_of(changes: pd.DataFrame, suffix: str) -> dict[str, str]:
    """By the number of a hotspot, as it stands in the pictures, its change; a part's is that of its whole."""
    found: dict[str, str] = {}
    for row in changes[changes["change"].notna()].to_dict("records"):
        parts = row[f"parts_{suffix}"]
        numbers = [row[f"hotspot_{suffix}"], *(parts.split() if isinstance(parts, str) else ())]
        if row["change"] not in ("split", "merged"):
            found |= {str(n): str(row["change"]).split(" ")[0] for n in numbers if not pd.isna(n)}
    return found


def _section(
    number: int, tracer: TracerChanges, panels: tuple[tuple[str, Panel], ...], unsure: Unsure
) -> Section:
    name = TRACER_NAMES.get(tracer.tracer, plain(tracer.tracer))
    number_of = counts(tracer.hotspots)
    lesion = None if tracer.limits is None else tracer.limits.lesion.get("tlu_g")
    left_out = [
        f"{number_of[key]} {key}" for key in ("split", "merged", UNSEEN_1, UNSEEN_2) if number_of[key]
    ]
    return Section(
        anchor=f"tracer{number}",
        tracer=name,
        lead=headline(name, tracer.hotspots, tracer.indices),
        cards=tuple(_cards(tracer)),
        figure=waterfall(tracer.hotspots, lesion, lambda bone: _spoken(bone, unsure)),
        left_out=", ".join(left_out),
        remarks=tuple(plain(text) for text in tracer.remarks),
        panels=panels,
        suv_max_shown=suv_max_shown(tracer.tracer),
        hotspots=_hotspots(tracer.hotspots, unsure),
        indices=_indices(tracer.indices),
        bones=_bones(tracer.bones, unsure),
        limits=tuple(_limits(tracer)),
    )


def _spoken(bone: str, unsure: Unsure) -> str:
    known = BY_NAME.get(bone)
    return unsure_name(unsure[known.id]) if known is not None and known.id in unsure else bone


def _cards(tracer: TracerChanges) -> list[Card]:
    number = counts(tracer.hotspots)
    total = tracer.indices[tracer.indices["index"] == "hotspots_tlu_g"].to_dict("records")[0]
    ratio = "–" if pd.isna(total["ratio"]) else f"× {total['ratio']:.2f}"
    verdict = {
        "up": f"a rise: past the limits {total['limits']}",
        "down": f"a fall: past the limits {total['limits']}",
        "within": f"within the limits {total['limits']}",
    }.get(total["verdict"], "not judged")
    detail = f"{shown(total['value_1'], 'three')} g, then {shown(total['value_2'], 'three')} g"
    cards = [Card("total uptake", ratio, detail=detail, note=verdict)]
    judged = tracer.limits is not None and "tlu_g" in tracer.limits.lesion
    words = {
        "new": "not there before",
        "grown": "past the limits of repeatability",
        "stable": "within the limits of repeatability",
        "shrunk": "past the limits of repeatability",
        "gone": "not there any more",
    }
    shown_changes = [key for key in CHANGES[:5] if judged or key in ("new", "gone")]
    cards += [Card(key, str(number[key]), detail=words[key]) for key in shown_changes]
    if number["not judged"]:
        why = "at both dates, cut by the field of one" if judged else "at both dates; no limits are known"
        cards.append(Card("not judged", str(number["not judged"]), detail=why))
    if number["perhaps same"]:
        same = str(number["perhaps same"])
        cards.append(Card("perhaps the same", same, detail="gone and new in one place, under two names"))
    unseen = number[UNSEEN_1] + number[UNSEEN_2]
    if unseen:
        cards.append(Card("unseen", str(unseen), detail="where one of the dates did not look"))
    return cards


def _hotspots(changes: pd.DataFrame, unsure: Unsure) -> Table:
    """Rows coloured by their change; the bone once, where both dates name the same."""
    table = changes.assign(bone=changes["bone_2"].fillna(changes["bone_1"]))
    for suffix in ("1", "2"):
        pairs = zip(changes[f"hotspot_{suffix}"], changes[f"parts_{suffix}"], strict=True)
        table[f"numbers_{suffix}"] = [
            None if pd.isna(own) else f"{own}{'' if pd.isna(parts) else f' + {parts}'}"
            for own, parts in pairs
        ]
    table["change"] = table["change"].astype(object).where(table["change"].notna(), "not judged")
    found = tables.plain_table(table, _filled(table, HOTSPOT_COLUMNS), unsure)
    css = ["change-" + str(change).split(" ")[0] for change in table["change"]]
    return replace(
        found, rows=tuple(replace(row, css=name) for row, name in zip(found.rows, css, strict=True))
    )


def _filled(table: pd.DataFrame, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Without the columns that hold nothing: verdicts where there are no limits, empty notes."""
    optional = ("suv_max_change", "suv_mean_change", "suv_max_there", "limits", "note")
    return tuple(c for c in columns if c.name not in optional or table[c.name].notna().any())


def _indices(indices: pd.DataFrame) -> Table:
    words = {
        "hotspots_tlu_g": "all hotspots: total uptake",
        "hotspots_suv_max": "all hotspots: SUVmax",
        "hotspots_suv_mean": "all hotspots: SUVmean",
        "hotspots_volume_ml": "all hotspots: volume",
        "hotspots_count": "all hotspots: number",
        "skeletal_suv_mean": "skeletal SUVmean",
        "skeletal_suv_max": "skeletal SUVmax",
    }
    table = indices.assign(index=indices["index"].map(lambda name: words.get(name, name)))
    found = tables.plain_table(table, _filled(table, INDEX_COLUMNS), {})
    css = [f"verdict-{verdict}" if verdict in ("up", "down") else "" for verdict in table["verdict"]]
    return replace(
        found, rows=tuple(replace(row, css=name) for row, name in zip(found.rows, css, strict=True))
    )


def _bones(bones: pd.DataFrame, unsure: Unsure) -> Table:
    """The bones that either date saw."""
    seen = bones[(bones["status_1"] != "absent") | (bones["status_2"] != "absent")]
    return tables.plain_table(seen, _filled(seen, BONE_COLUMNS), unsure)


def _limits(tracer: TracerChanges) -> list[tuple[str, str]]:
    """The limits as they are used, for people."""
    limits = tracer.limits
    if limits is None:
        return []
    rows = [("reference", plain(limits.reference) or tables.GAP), ("note", plain(limits.note) or tables.GAP)]
    for level, known in (("of a hotspot", limits.lesion), ("of a patient", limits.patient)):
        pairs = (f"{measure} {low:.2f} to {high:.2f}" for measure, (low, high) in known.items())
        rows.append((f"ratio, {level}", "; ".join(pairs) or tables.GAP))
    rule = tracer.first.facts["rule"]
    return [
        *rows,
        *((f"rule: {key}", text) for key, text in facts(rule) if key in ("name", "threshold", "method")),
    ]
