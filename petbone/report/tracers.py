"""Two tracers of one patient in one figure: bodies with their hotspots, and a chart of the bones.

* *relation* : of a hotspot, or a bone: hot in ``both``, in the ``first`` or ``second`` alone, or ``unseen``,
  where the other PET did not look (outside its field of view, or not searched by its rule)
* *chart*    : a row per bone with a hotspot, head to feet; volume of its hotspots, first tracer to the left
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.anatomy import ALL_BONES, BY_NAME, unsure_name
from petbone.case import CaseResult, PetResult
from petbone.followup import Together
from petbone.report import pictures
from petbone.report.backdrop import suv_max_shown
from petbone.report.scene import Panel, Scene
from petbone.report.tables import Unsure, is_missing, shown

RELATIONS = ("both", "first", "second", "unseen")
COLOURS = {"both": "#009e73", "first": "#0072b2", "second": "#d55e00", "unseen": "#7f7f7f"}
"""Told apart by colour-blind eyes (Okabe and Ito, Color Universal Design, 2008)."""

WIDTH, CHART_WIDTH = 900.0, 720.0
ROW, BAR, HEAD, FOOT, GROUP_GAP = 18.0, 13.0, 46.0, 8.0, 7.0
NAMES, ENDS = 172.0, 74.0  # room for the names in the middle, and for the values beside the longest bars
HATCHED = 84.0
BODY_WIDTH, BODY_HEIGHT = 420.0, 560.0
WORDS_PER_LINE = 132
HOW_TO_READ = (
    "Bodies: PET from the front, maximum, the patient's right on the left; numbers are those of each "
    "tracer's table of hotspots. Bars: volume of the hotspots in each bone, in the colour of the bone: "
    "both where each tracer has a hotspot in it, be it the same or not. Hatched: where that PET did not "
    "look."
)
_UNITS = (1, 2, 5, 10)

_ORDER = (
    *("skull", "mandible"),
    *(f"C{n}" for n in range(1, 8)),
    *(f"T{n}" for n in range(1, 14)),
    *(f"L{n}" for n in range(1, 7)),
    "sacrum",
    "sternum",
    *(f"{bone}_{side}" for bone in ("clavicle", "scapula", "humerus") for side in ("right", "left")),
    *(f"rib_{side}_{n}" for side in ("right", "left") for n in range(1, 14)),
    *(f"{bone}_{side}" for bone in ("hip", "femur") for side in ("right", "left")),
)
_PLACE = {name: n for n, name in enumerate(_ORDER)}
_PARTS = {"head": 0, "cervical_spine": 1, "thoracic_spine": 1, "lumbar_spine": 1}


@dataclass(frozen=True)
class Bar:
    """One side of a row: `css` is a relation, ``unseen`` ones are hatched; `value` is printed at its end."""

    x: float
    width: float
    css: str
    value: str
    value_x: float
    hatched: bool


@dataclass(frozen=True)
class BoneRow:
    """A bone: its name for people, what a pointer shows, where it lies, its two bars."""

    name: str
    title: str
    y: float
    bars: tuple[Bar, Bar]

    @property
    def middle(self) -> float:
        """Height at which words stand."""
        return self.y + BAR / 2


@dataclass(frozen=True)
class Chart:
    """Everything that the template draws; lengths in the units of its view box."""

    height: float
    rows: tuple[BoneRow, ...]
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[float, ...]  # between parts of the skeleton
    centre: float = CHART_WIDTH / 2
    width: float = CHART_WIDTH
    bar: float = BAR
    head: float = HEAD
    sides: tuple[float, float] = ((CHART_WIDTH - NAMES) / 2, (CHART_WIDTH + NAMES) / 2)


@dataclass(frozen=True)
class Figure:
    """A number of the agreement with what explains it."""

    title: str
    value: str
    detail: str
    css: str = ""


@dataclass(frozen=True)
class Body:
    """The patient from the front in one tracer; `x` and `scale` say where in the file's figure."""

    tracer: str
    panel: Panel
    suv_max_shown: float
    x: float
    scale: float  # units of the figure per mm


@dataclass(frozen=True)
class Pair:
    """Two tracers."""

    key: str
    tracers: tuple[str, str]
    figures: tuple[Figure, ...]
    words: tuple[str, ...]
    lines: tuple[str, ...]  # the words, broken for the figure
    bodies: tuple[Body, Body]
    bodies_height: float
    overlays: dict[str, str]  # images of the hotspots in the colours of their relation
    chart: Chart | None  # None: no hotspot in either
    legend: tuple[tuple[str, str], ...]  # relation and what it means, those that occur

    @property
    def unseen_bars(self) -> bool:
        """Whether a bar is hatched."""
        return self.chart is not None and any(bar.hatched for row in self.chart.rows for bar in row.bars)


def pairs(
    case: CaseResult, told: Together, drawn: Scene, unsure: Unsure, names: Mapping[str, str]
) -> tuple[Pair, ...]:
    """Every two tracers, in the order of `told.agreement`; `names` says a tracer for people."""
    pets = list(case.all_pets)
    by_tracer = {pet.tracer: n for n, pet in enumerate(pets)}
    found = []
    for number, record in enumerate(told.agreement.to_dict("records"), 1):
        at = by_tracer[str(record["tracer_1"])], by_tracer[str(record["tracer_2"])]
        one, two = pets[at[0]], pets[at[1]]
        own = told.matches[
            (told.matches["tracer_1"] == one.tracer) & (told.matches["tracer_2"] == two.tracer)
        ]
        relations = relation_of(own, 1), relation_of(own, 2)
        overlays: dict[str, str] = {}
        panels: list[Panel] = []
        for n, relation in zip(at, relations, strict=True):
            name = f"pair{number}-{n + 1}"
            overlays[name] = _overlay(drawn.numbers[n], relation)
            panels.append(_panel(drawn, n, name, relation))
        tracers = names[one.tracer], names[two.tracer]
        chart = bone_chart((one.bone_table, two.bone_table), lambda bone: _spoken(bone, unsure))
        words = tuple(said(record, tracers))
        bodies = _bodies((panels[0], panels[1]), (one, two), tracers)
        found.append(
            Pair(
                key=f"pair{number}",
                tracers=tracers,
                figures=tuple(_figures(record, tracers)),
                words=words,
                lines=tuple(line for text in (*words, HOW_TO_READ) for line in wrap(text, WORDS_PER_LINE)),
                bodies=bodies,
                bodies_height=max(body.panel.height_mm * body.scale for body in bodies),
                overlays=overlays,
                chart=chart,
                legend=_legend(tracers, relations, chart),
            )
        )
    return tuple(found)


def relation_of(matches: pd.DataFrame, side: int) -> dict[int, str]:
    """By number of a hotspot of the first (`side` 1) or second tracer, its relation."""
    alone = ("first only", "second only")[side - 1]
    found: dict[int, str] = {}
    for row in matches.to_dict("records"):
        number = row[f"hotspot_{side}"]
        if pd.isna(number):
            continue
        if row["relation"] != alone:
            found[int(number)] = "both"
        else:
            looked = not pd.isna(row["seen_by_other"]) and bool(row["seen_by_other"])
            found[int(number)] = ("first", "second")[side - 1] if looked else "unseen"
    return found


def _overlay(numbers: npt.NDArray[np.int64], relation: Mapping[int, str]) -> str:
    kind = np.zeros(int(numbers.max(initial=0)) + 1, np.uint8)
    for number, word in relation.items():
        if number < len(kind):
            kind[number] = RELATIONS.index(word)
    rgb = [tuple(int(COLOURS[word][k : k + 2], 16) for k in (1, 3, 5)) for word in RELATIONS]
    return pictures.hotspots(numbers, [(r, g, b) for r, g, b in rgb], kind)


def _panel(drawn: Scene, number: int, overlay: str, relation: Mapping[int, str]) -> Panel:
    """The coronal picture of a PET with its hotspots by relation."""
    row = next(row for row in drawn.rows[number] if row[0].view == "coronal")
    panel = row[-1]
    marks = tuple(replace(mark, css=relation.get(int(mark.text), "")) for mark in panel.marks)
    return replace(panel, images=(panel.images[0], overlay), marks=marks)


def _bodies(
    panels: tuple[Panel, Panel], pets: tuple[PetResult, PetResult], tracers: tuple[str, str]
) -> tuple[Body, Body]:
    """Both in one scale, side by side, as large as there is room."""
    scale = min(
        BODY_WIDTH / max(panel.width_mm for panel in panels),
        BODY_HEIGHT / max(panel.height_mm for panel in panels),
    )
    px = min(panel.width_px / panel.width_mm for panel in panels)
    bodies = []
    for n, (panel, pet) in enumerate(zip(panels, pets, strict=True)):
        width = panel.width_mm * scale
        x = WIDTH / 2 - 12 - width if n == 0 else WIDTH / 2 + 12
        scaled = replace(panel, width_px=panel.width_mm * px)
        bodies.append(Body(tracers[n], scaled, suv_max_shown(pet.tracer), x, scale))
    return bodies[0], bodies[1]


def _spoken(bone: str, unsure: Unsure) -> str:
    known = BY_NAME.get(bone)
    return unsure_name(unsure[known.id]) if known is not None and known.id in unsure else bone


def bone_chart(tables: tuple[pd.DataFrame, pd.DataFrame], spoken: Callable[[str], str]) -> Chart | None:
    """The bones with a hotspot in either of two bone tables; None without any."""
    sides = [table.drop_duplicates("name").set_index("name").to_dict("index") for table in tables]
    names = [
        bone.name
        for bone in sorted(ALL_BONES, key=lambda bone: _PLACE[bone.name])
        if any(_volume(side.get(bone.name)) > 0 for side in sides)
    ]
    if not names:
        return None
    volumes = [_volume(side.get(name)) for side in sides for name in names]
    most = max(volume for volume in volumes if not math.isnan(volume))
    reach = (CHART_WIDTH - NAMES) / 2 - ENDS
    rows, lines = [], []
    y, part = HEAD, _part_of(names[0])
    for name in names:
        if _part_of(name) != part:
            lines.append(y + GROUP_GAP / 2 - (ROW - BAR) / 2)
            y, part = y + GROUP_GAP, _part_of(name)
        records = [side.get(name) for side in sides]
        bars = tuple(_bar(n, records, reach / most) for n in (0, 1))
        word = spoken(name)
        title = f"{word}: {bars[0].value}; {bars[1].value}"
        rows.append(BoneRow(word, title, y, (bars[0], bars[1])))
        y += ROW
    step = _step(most)
    count = int(most / step + 1e-9)
    ticks = [(0.0, "0"), *((n * step, f"{n * step:g}") for n in range(1, count + 1))]
    places = [
        (edge + sign * value * reach / most, word)
        for edge, sign in (((CHART_WIDTH - NAMES) / 2, -1), ((CHART_WIDTH + NAMES) / 2, 1))
        for value, word in ticks
    ]
    return Chart(y + FOOT, tuple(rows), tuple(places), tuple(lines))


def _bar(side: int, records: list[dict[Any, Any] | None], per_ml: float) -> Bar:
    """One side of a bone's row: how much is hot there, or why nobody can say."""
    own, other = _volume(records[side]), _volume(records[1 - side])
    edge, sign = ((CHART_WIDTH - NAMES) / 2, -1) if side == 0 else ((CHART_WIDTH + NAMES) / 2, 1)
    if math.isnan(own):
        value, width = _why(records[side]), HATCHED
        css, hatched = "unseen", True
    else:
        width = max(own * per_ml, 1.5) if own > 0 else 0.0
        css = "unseen" if math.isnan(other) else "both" if other > 0 else ("first", "second")[side]
        value, hatched = f"{shown(own)} mL" if own > 0 else "none", False
    x = edge - width if side == 0 else edge
    return Bar(x, width, css, value, edge + sign * (width + 5), hatched)


def _volume(record: Mapping[Any, Any] | None) -> float:
    value = None if record is None else record.get("hotspot_volume_ml")
    return float("nan") if value is None or is_missing(value) else float(value)


def _why(record: Mapping[Any, Any] | None) -> str:
    seen = None if record is None else record.get("pet_volume_ml")
    return "not seen" if is_missing(seen) else "not searched"


def _part_of(name: str) -> int:
    """Parts between which the chart has a line: head, spine, chest and arms, ribs, pelvis and legs."""
    if name == "sacrum":
        return 1
    if name.startswith("rib"):
        return 3
    if name.startswith(("hip", "femur")):
        return 4
    return _PARTS.get(BY_NAME[name].group, 2)


def _step(most: float) -> float:
    """Distance of ticks: 1, 2 or 5 times a power of ten, three to five of them."""
    power = 10.0 ** math.floor(math.log10(most / 4))
    return next(unit * power for unit in _UNITS if most / (unit * power) <= 5)


def _legend(
    tracers: tuple[str, str], relations: tuple[dict[int, str], dict[int, str]], chart: Chart | None
) -> tuple[tuple[str, str], ...]:
    used = {word for relation in relations for word in relation.values()}
    if chart is not None:
        used |= {bar.css for row in chart.rows for bar in row.bars if bar.width and not bar.hatched}
    words = {"both": "in both", "first": f"{tracers[0]} only", "second": f"{tracers[1]} only"}
    words["unseen"] = "where the other PET did not look"
    return tuple((word, words[word]) for word in RELATIONS if word in used)


def said(record: Mapping[Any, Any], tracers: tuple[str, str]) -> list[str]:
    """The agreement in sentences."""
    first, second = tracers
    unseen = [
        f"{record[f'{word}_unseen']} of {name} ({shown(record[f'{word}_unseen_ml'])} mL)"
        for word, name in (("first", first), ("second", second))
        if record[f"{word}_unseen"]
    ]
    alone = [
        f"{name} only {record[f'{word}_only']} ({shown(record[f'{word}_only_ml'])} mL"
        + (f", {record[f'{word}_only_flagged']} flagged by place)" if record[f"{word}_only_flagged"] else ")")
        for word, name in (("first", first), ("second", second))
    ]
    texts = [
        f"Hotspots: {_both(record)}; {', '.join(alone)}"
        + (f"; where the other PET did not look: {', '.join(unseen)}." if unseen else ".")
    ]
    compared = record["bones_compared"]
    bones = (
        f"Bones that both have searched: {compared}; with a hotspot in both {record['bones_both']}, "
        f"{first} only {record['bones_first_only']}, {second} only {record['bones_second_only']}, in "
        f"neither {record['bones_neither']}"
    )
    texts.append(
        f"{bones}; agreement {shown(record['agreement_percent'], 0)} %." if compared else f"{bones}."
    )
    texts.append(f"Kappa {_kappa(record)}.")
    shares = [
        f"{word} agreement {shown(record[f'{word}_agreement'])}"
        for word in ("positive", "negative")
        if not is_missing(record[f"{word}_agreement"])
    ]
    if shares:
        texts[-1] += f" {', '.join(shares).capitalize()}."
    texts.append(f"Dice of the hotspots' volumes {shown(record['dice'])}. SUVmax: {_rho(record)}.")
    return texts


def _both(record: Mapping[Any, Any]) -> str:
    how = [f"{record['matched']} matched one to one"]
    how += [f"{record[name]} {name}" for name in ("split", "merged") if record[name]]
    of = f"{record['both_1']} of {record['hotspots_1']} and {record['both_2']} of {record['hotspots_2']}"
    return f"in both {of} ({', '.join(how)})"


def _kappa(record: Mapping[Any, Any]) -> str:
    if is_missing(record["kappa"]):
        return "has no value, since both put all bones into one class"
    if is_missing(record["kappa_low"]):
        return f"{shown(record['kappa'])} (no interval: they agree on every bone)"
    return f"{shown(record['kappa'])} (95 % {shown(record['kappa_low'])} to {shown(record['kappa_high'])})"


def _rho(record: Mapping[Any, Any]) -> str:
    count = record["suv_max_pairs"]
    if is_missing(record["suv_max_rho"]):
        return f"too few matched hotspots to be correlated ({count})"
    return f"Spearman's rho {shown(record['suv_max_rho'])} over {count} matched hotspots"


def _figures(record: Mapping[Any, Any], tracers: tuple[str, str]) -> list[Figure]:
    """The agreement in a row of numbers."""
    first, second = tracers
    parts = [f"{record[name]} {name}" for name in ("split", "merged") if record[name]]
    volumes = f"{shown(record['both_ml_1'])} mL in {first}, {shown(record['both_ml_2'])} mL in {second}"
    found = [Figure("in both", str(record["matched"]), "; ".join(["one to one", *parts, volumes]), "both")]
    for n, word in enumerate(("first", "second")):
        detail = f"{shown(record[f'{word}_only_ml'])} mL"
        if record[f"{word}_only_flagged"]:
            detail += f"; {record[f'{word}_only_flagged']} of them flagged by place"
        if record[f"{word}_unseen"]:
            unseen = f"{record[f'{word}_unseen']} more ({shown(record[f'{word}_unseen_ml'])} mL)"
            detail += f"; {unseen} where {tracers[1 - n]} did not look"
        found.append(Figure(f"{tracers[n]} only", str(record[f"{word}_only"]), detail, word))
    percent = shown(record["agreement_percent"], 0)
    counts = (
        f"of {record['bones_compared']} that both have searched: {record['bones_both']} hot in both, "
        f"{record['bones_first_only']} in {first} only, {record['bones_second_only']} in {second} only, "
        f"{record['bones_neither']} in neither"
    )
    known = not is_missing(record["agreement_percent"])
    found.append(Figure("bones that agree", f"{percent} %" if known else percent, counts))
    shares = [f"positive agreement {shown(record['positive_agreement'])}"]
    shares += [f"negative {shown(record['negative_agreement'])}"]
    if not is_missing(record["kappa_low"]):
        shares = [f"95 % {shown(record['kappa_low'])} to {shown(record['kappa_high'])}", *shares]
    found.append(Figure("kappa of the bones", shown(record["kappa"]), "; ".join(shares)))
    found.append(Figure("Dice of the volumes", shown(record["dice"]), f"SUVmax: {_rho(record)}"))
    return found
