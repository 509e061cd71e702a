"""The three tables of the contract as rows of text: which columns, how many digits, what a gap looks like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from petbone.anatomy import BY_NAME, LOW_CONFIDENCE, colour, known_place, unsure_name
from petbone.case import CaseResult
from petbone.report.privacy import plain

GAP = "–"  # a value that does not exist; never 0
Unsure = Mapping[int, tuple[int, ...]]
"""By label, the labels that a bone with an unsure name may be."""
LONGEST_NAME = 60
OPERATORS = {">=": "≥", ">": ">", "<=": "≤", "<": "<", "==": "="}


@dataclass(frozen=True)
class Column:
    """A column of a CSV file and how the page shows it.

    `digits` is the number of decimals, ``text`` for words, ``whole`` for counts, ``three`` for three
    significant digits.
    """

    name: str
    title: str
    unit: str = ""
    digits: int | str = 2
    group: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Cell:
    """One value: its text, what it sorts by, CSS classes, colour of the bone, a small word after it.

    `href` is where the text leads to; `parts`, CSS classes and their shares, are drawn as a bar.
    """

    text: str
    sort: str = ""
    css: str = ""
    swatch: str = ""
    more: str = ""
    href: str = ""
    parts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table; `css` is the status of a bone."""

    cells: tuple[Cell, ...]
    css: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and rows, and the rows of bones that were not found."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    absent: tuple[Row, ...] = field(default=())

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings above the columns, each with the number of columns below it."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans


BONE_COLUMNS = (
    Column("id", "id", digits="whole", group="bone", meaning="label of the bone in bones.nii.gz"),
    Column("name", "name", digits="text", group="bone", meaning="name of the bone"),
    Column("side", "side", digits="text", group="bone", meaning="left or right of the patient"),
    Column("group", "group", digits="text", group="bone", meaning="part of the skeleton"),
    Column(
        "status",
        "status",
        digits="text",
        group="bone",
        meaning="complete, cut by the field of view, or absent",
    ),
    Column("cut_by", "cut by", digits="text", group="bone", meaning="side through which the bone leaves"),
    Column(
        "seen_fraction", "seen", group="bone", meaning="part of the bone inside the field of view, 0 to 1"
    ),
    Column("seen_low", "from", group="bone", meaning="nine times out of ten the part seen is at least this"),
    Column("seen_high", "to", group="bone", meaning="and at most this"),
    Column("name_confidence", "name sure", group="bone", meaning="confidence that the bone is named right"),
    Column("volume_ml", "volume", "mL", group="CT", meaning="volume on the grid of the CT"),
    Column("pet_volume_ml", "volume", "mL", group="PET", meaning="sum of occupancy x PET voxel volume"),
    Column("suv_mean", "SUV mean", group="PET", meaning="mean SUV, weighted by occupancy"),
    Column(
        "suv_mean_pvc",
        "SUV mean corr.",
        group="PET",
        meaning="mean SUV corrected for partial volume (--psf-mm)",
    ),
    Column("suv_sd", "SUV SD", group="PET", meaning="standard deviation of SUV, weighted by occupancy"),
    Column("suv_median", "SUV median", group="PET", meaning="median SUV, weighted by occupancy"),
    Column(
        "suv_max",
        "SUV max",
        group="PET",
        meaning="largest SUV of voxels with occupancy of at least 0.5, or of the fullest voxel",
    ),
    Column("suv_peak", "SUV peak", group="PET", meaning="largest mean SUV of a 1 mL sphere"),
    Column(
        "suv_peak_local", "SUV peak local", group="PET", meaning="mean of the 1 mL sphere at the SUVmax voxel"
    ),
    Column("suv_peak_eanm", "SUV peak EANM", group="PET", meaning="SUVpeak as the EANM guideline defines it"),
    Column(
        "hotspot_count", "count", digits="whole", group="hotspots", meaning="hotspots that touch the bone"
    ),
    Column("hotspot_volume_ml", "volume", "mL", group="hotspots", meaning="hotspot volume inside the bone"),
    Column(
        "hotspot_fraction",
        "fraction",
        group="hotspots",
        meaning="hotspot volume / PET volume of the bone, 0 to 1",
    ),
    Column(
        "hotspot_tlu_g", "uptake", "g", group="hotspots", meaning="total lesion uptake: volume x mean SUV"
    ),
    Column("shift_mm", "shift", "mm", 1, "PET to CT", "measured displacement of PET against CT at the bone"),
    Column("shift_uncertainty_mm", "±", "mm", 1, "PET to CT", "half of the 95 % interval of the shift"),
    Column("suv_mean_shift_low", "SUV mean from", "", 2, "if it lay 3 mm aside", "least SUV mean"),
    Column("suv_mean_shift_high", "to", "", 2, "if it lay 3 mm aside", "greatest SUV mean"),
    Column("suv_max_shift_low", "SUV max from", "", 2, "if it lay 3 mm aside", "least SUVmax"),
    Column("suv_max_shift_high", "to", "", 2, "if it lay 3 mm aside", "greatest SUVmax"),
    Column("hotspot_volume_ml_shift_low", "hotspots from", "mL", 2, "if it lay 3 mm aside", "least volume"),
    Column("hotspot_volume_ml_shift_high", "to", "mL", 2, "if it lay 3 mm aside", "greatest volume"),
)

HOTSPOT_COLUMNS = (
    Column("hotspot", "no.", digits="whole", meaning="number of the hotspot, 1 has the highest SUVmax"),
    Column("bone", "bone", digits="text", meaning="bone with the largest share of the hotspot"),
    Column("bone_share", "share", meaning="part of the hotspot that lies in that bone, 0 to 1"),
    Column("name_confidence", "name sure", meaning="confidence that the bone is named right"),
    Column("other_bones", "other bones", digits="text", meaning="further bones that the hotspot touches"),
    Column("volume_ml", "volume", "mL", meaning="volume of the hotspot on the PET grid"),
    Column("suv_max", "SUV max", meaning="largest SUV of the hotspot"),
    Column("suv_mean", "SUV mean", meaning="mean SUV of the hotspot"),
    Column("suv_mean_pvc", "SUV mean corr.", meaning="mean SUV corrected for partial volume (--psf-mm)"),
    Column("suv_peak", "SUV peak", meaning="largest mean SUV of a 1 mL sphere"),
    Column("suv_peak_local", "SUV peak local", meaning="mean of the 1 mL sphere at the SUVmax voxel"),
    Column("suv_peak_eanm", "SUV peak EANM", meaning="SUVpeak as the EANM guideline defines it"),
    Column("tlu_g", "uptake", "g", meaning="total lesion uptake: volume x mean SUV"),
    Column("flags", "flags", digits="text", meaning="why it may be no tumour; figures in hotspots.csv"),
    Column("x_mm", "x", "mm", 0, meaning="towards the patient's right, of the voxel with SUVmax"),
    Column("y_mm", "y", "mm", 0, meaning="towards the front, of the voxel with SUVmax"),
    Column("z_mm", "z", "mm", 0, meaning="towards the head, of the voxel with SUVmax"),
    Column("hu_mean", "CT mean", "HU", 0, meaning="mean CT number of the hotspot"),
)

INDEX_COLUMNS = (
    Column("index", "index", digits="text", meaning="name of the published index"),
    Column("value", "value", digits="three", meaning="the index, in the unit beside it"),
    Column("unit", "unit", digits="text", meaning="unit of the value"),
    Column("value_unflagged", "without flagged", digits="three", meaning="the same without flagged hotspots"),
    Column("flagged_hotspots", "flagged", digits="whole", meaning="hotspots with a flag"),
    Column("flagged_ml", "flagged", "mL", meaning="volume of flagged hotspots"),
    Column(
        "whole_estimate",
        "whole, estimate",
        digits="three",
        meaning="for the whole of its bones, if what was not seen is like its kin",
    ),
    Column("whole_low", "whole, from", digits="three", meaning="if it is free of disease"),
    Column("whole_high", "whole, to", digits="three", meaning="if it is like the worst of its kin"),
    Column("threshold", "SUV", digits="text", meaning="operator and threshold that make a voxel hot"),
    Column("numerator_ml", "numerator", "mL", meaning="hotspot volume"),
    Column("denominator_ml", "denominator", "mL", meaning="volume of the bones that the index refers to"),
    Column(
        "denominator_seen_fraction", "seen", meaning="part of those bones inside the field of view, 0 to 1"
    ),
    Column(
        "connectivity", "conn.", digits="text", meaning="voxel neighbours that belong together: 6, 18 or 26"
    ),
    Column("min_volume_ml", "smallest", "mL", meaning="smaller hotspots are left out"),
    Column("bones", "bones", digits="text", meaning="bones that the index refers to"),
    Column("reference", "reference", digits="text", meaning="publication that defines the index"),
    Column("note", "note", digits="text", meaning="what is known of the index, and what was borrowed"),
)

REGION_COLUMNS = (
    Column("region", "part", digits="text", meaning="part of the skeleton; the last two are the whole"),
    Column("bones_seen", "bones", digits="whole", meaning="its bones in the PET"),
    Column("seen_fraction", "seen", meaning="part of it inside the field of view, 0 to 1"),
    Column("pet_volume_ml", "volume", "mL", meaning="sum of occupancy x PET voxel volume"),
    Column("suv_mean", "SUV mean", meaning="mean SUV of its bones, weighted by volume"),
    Column("suv_max", "SUV max", meaning="largest SUVmax of its bones"),
    Column("hotspot_count", "hotspots", digits="whole", meaning="hotspots that lie mostly in its bones"),
    Column("hotspot_volume_ml", "hotspots", "mL", meaning="hotspot volume in its bones"),
    Column("hotspot_fraction", "fraction", meaning="hotspot volume / volume of its bones that were searched"),
    Column("hotspot_tlu_g", "uptake", "g", meaning="total lesion uptake in its bones"),
)

MATCH_COLUMNS = (
    Column("tracer_1", "1st", digits="text", meaning="first tracer"),
    Column("tracer_2", "2nd", digits="text", meaning="second tracer"),
    Column(
        "relation", "relation", digits="text", meaning="matched one to one; split; merged; seen by one only"
    ),
    Column("hotspot_1", "no. 1st", digits="whole", meaning="hotspot of the first"),
    Column("hotspot_2", "no. 2nd", digits="whole", meaning="hotspot of the second"),
    Column("bone_1", "bone 1st", digits="text", meaning="its bone"),
    Column("bone_2", "bone 2nd", digits="text", meaning="its bone"),
    Column("overlap", "overlap", meaning="shared volume over that of the smaller, 0 to 1"),
    Column("distance_mm", "apart", "mm", 1, meaning="distance between the middles"),
    Column("volume_ml_1", "volume 1st", "mL", meaning="volume in the first"),
    Column("volume_ml_2", "volume 2nd", "mL", meaning="volume in the second"),
    Column("suv_max_1", "SUV max 1st", meaning="SUVmax in the first"),
    Column("suv_max_2", "SUV max 2nd", meaning="SUVmax in the second"),
    Column("looked", "other PET", digits="text", meaning="whether the PET without it has looked there"),
)

OPTIONAL = (
    *("suv_mean_pvc", "whole_estimate", "whole_low", "whole_high"),
    *("flags", "value_unflagged", "flagged_hotspots", "flagged_ml"),
)
"""Not shown where they have no value at all: not asked for, nothing was unseen, nothing is flagged."""


def called(case: object) -> str:
    """A case's name in one line, the middle of a long one left out."""
    name = " ".join("".join(c if c.isprintable() else " " for c in str(case)).split()) or GAP
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]} … {name[-half:]}"


def is_missing(value: Any) -> bool:
    """True for None, NaN, pandas' NA and empty text."""
    if value is None or value is pd.NA:
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, float) and math.isnan(value)


def shown(value: Any, digits: int | str = 2) -> str:
    """The value as the page prints it; a dash when it does not exist.

    >>> shown(0.0), shown(0.001), shown(float("nan")), shown(1234.6, "three"), shown(26.0, "text")
    ('0.00', '< 0.01', '–', '1235', '26')
    """
    if is_missing(value):
        return GAP
    number = _number(value)
    if number is None or isinstance(value, (str, bool)):
        return plain(value)
    if not math.isfinite(number):
        return GAP
    if digits == "text":
        return f"{number:.10g}"
    if digits == "whole":
        return f"{number:.0f}"
    if digits == "three":
        return three(number)
    printed = f"{number:.{digits}f}"
    if number and not float(printed):
        return f"< {10.0 ** -int(digits):.{digits}f}" if number > 0 else printed.replace("-", "−")
    return printed.replace("-", "−")


def three(number: float) -> str:
    """At least three significant digits, never in powers of ten for values that people meet.

    >>> three(0.01234), three(0.0), three(12.345), three(12345.6)
    ('0.0123', '0', '12.3', '12346')
    """
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}".replace("-", "−")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def columns_of(
    table: pd.DataFrame, known: Iterable[Column], meanings: Mapping[str, str]
) -> tuple[Column, ...]:
    """Columns of the contract that the table has, in their order, then whatever else it has.

    `meanings` are the program's own definitions; they take precedence over those written here.
    """
    empty = [name for name in OPTIONAL if name in table.columns and table[name].isna().all()]
    table = table.drop(columns=empty)
    listed = [column for column in known if column.name in table.columns]
    names = {column.name for column in listed}
    extra = [
        Column(str(name), str(name).replace("_", " "), group="more")
        for name in table.columns
        if name not in names
    ]
    return tuple(
        Column(c.name, c.title, c.unit, c.digits, c.group, str(meanings.get(c.name, c.meaning)))
        for c in (*listed, *extra)
    )


def unsure_bones(case: CaseResult) -> dict[int, tuple[int, ...]]:
    """The bones whose names are more likely wrong than right, with what each may be, as far as is known."""
    unsure = {}
    for pet in case.pets:
        for table, column in ((pet.bone_table, "name"), (pet.hotspot_table, "bone")):
            for record in table.to_dict("records"):
                sure = _number(record.get("name_confidence"))
                bone = BY_NAME.get(str(record.get(column)))
                if bone is not None and sure is not None and sure < LOW_CONFIDENCE:
                    unsure[bone.id] = (case.candidates or {}).get(bone.id, (bone.id,))
    return unsure


def unsure_in_either(case: CaseResult) -> dict[int, tuple[int, ...]]:
    """Those of both examinations: for rows in which a bone stands for the two of its name."""
    unsure = unsure_bones(case)
    if case.second is not None:
        for label, may_be in unsure_bones(case.second).items():
            unsure[label] = tuple(dict.fromkeys((*unsure.get(label, ()), *may_be)))
    return unsure


def _cell(column: Column, value: Any, unsure: Unsure) -> Cell:
    number = None if isinstance(value, str) else _number(value)
    css = "text" if column.digits == "text" or (isinstance(value, str) and not is_missing(value)) else "num"
    text = shown(value, column.digits)
    if column.name == "side" and text == GAP:
        return Cell("", "", css)  # a bone in the middle has no side: nothing is missing
    if column.name == "group":
        text = text.removesuffix("_spine").replace("_", " ")
    if text == GAP:
        return Cell(GAP, "", f"{css} gap")
    if column.name in ("name", "bone", "bone_1", "bone_2") and str(value) in BY_NAME:
        bone = BY_NAME[str(value)]
        swatch = "#{:02x}{:02x}{:02x}".format(*colour(bone.id))
        if bone.id in unsure:
            said = unsure_name(unsure[bone.id])
            return Cell(said, said, "text bone unsure", swatch)
        return Cell(bone.name, bone.name, "text bone", swatch)
    if column.name == "other_bones":
        text = _other_bones(text, unsure)
    if column.name == "flags":
        text = short_flags(text)
    if column.name == "name_confidence":
        css += " unsure" if _is_unsure(value) else ""
    return Cell(text, text if number is None else repr(number), css)


def _other_bones(text: str, unsure: Unsure) -> str:
    """Bones with their shares, ``T6:0.24 L1:0.10``, with what those of unsure name may be."""
    words = []
    for word in text.split():
        name, colon, share = word.partition(":")
        bone = BY_NAME.get(name)
        said = name if bone is None or bone.id not in unsure else unsure_name(unsure[bone.id])
        words.append(f"{said}{colon}{share}")
    return "; ".join(words) if all(":" in word for word in words) else text


def short_flags(text: str) -> str:
    """Flags by their names alone: figures make a table too wide, and name bones whose names may be unsure.

    >>> short_flags("facet joint: 82 % of its uptake within 6 mm of L4 and L5; disc: 60 % of its uptake")
    'facet joint, disc'
    """
    return ", ".join(flag.partition(":")[0] for flag in text.split("; "))


def _is_unsure(value: Any) -> bool:
    number = _number(value)
    return number < 0.8 if number is not None else str(value).strip().lower() not in ("sure", "high")


def bone_table(table: pd.DataFrame, meanings: Mapping[str, str], unsure: Unsure) -> Table:
    """Bones that are seen, and apart from them those that are not; the latter have no values at all."""
    columns = columns_of(table.drop(columns="cut_by", errors="ignore"), BONE_COLUMNS, meanings)
    facts = {"id", "name", "side", "group", "status"}
    perhaps_here = {label for labels in unsure.values() for label in labels}
    seen: list[Row] = []
    absent: list[Row] = []
    for record in table.to_dict("records"):
        status = str(record["status"])
        if status == "absent":
            record = {key: value if key in facts else None for key, value in record.items()}
        bone = BY_NAME.get(str(record["name"]))
        if bone is not None and bone.id in unsure:
            record |= dict(zip(("side", "group"), known_place(unsure[bone.id]), strict=True))
        cells = [_cell(column, record[column.name], unsure) for column in columns]
        if status in ("cut", "absent"):
            at = [column.name for column in columns].index("status")
            by = record.get("cut_by")
            if status == "absent" and bone is not None and bone.id in perhaps_here:
                by = "or one of unsure name"
            cells[at] = Cell(status, status, f"text tag {status}", more="" if is_missing(by) else plain(by))
        (absent if status == "absent" else seen).append(Row(tuple(cells), status if status == "cut" else ""))
    return Table(columns, tuple(seen), tuple(absent))


def hotspot_table(table: pd.DataFrame, meanings: Mapping[str, str], unsure: Unsure) -> Table:
    """A row per hotspot, in the order of the table."""
    columns = columns_of(table, HOTSPOT_COLUMNS, meanings)
    records = table.to_dict("records")
    return Table(
        columns, tuple(Row(tuple(_cell(c, record[c.name], unsure) for c in columns)) for record in records)
    )


def index_table(table: pd.DataFrame, meanings: Mapping[str, str]) -> Table:
    """A row per index; the operator stands with its threshold."""
    unused = ["operator"]
    if "flagged_hotspots" in table.columns and not table["flagged_hotspots"].fillna(0).any():
        unused += ["value_unflagged", "flagged_hotspots", "flagged_ml"]  # all would be as it is
    columns = columns_of(table.drop(columns=unused, errors="ignore"), INDEX_COLUMNS, meanings)
    rows = []
    for record in table.to_dict("records"):
        record["threshold"] = rule_text(record)
        rows.append(Row(tuple(_cell(c, record.get(c.name), {}) for c in columns)))
    return Table(columns, tuple(rows))


def rule_text(record: Mapping[Any, Any]) -> str:
    """Operator and threshold, such as ``≥ 15``; empty when there is no threshold."""
    threshold = record.get("threshold")
    if is_missing(threshold):
        return ""
    sign = record.get("operator")
    word = "" if is_missing(sign) else OPERATORS.get(str(sign), str(sign))
    return f"{word} {shown(float(f'{threshold:.4g}'), 'text')}".strip()


def plain_table(table: pd.DataFrame, columns: tuple[Column, ...], unsure: Unsure) -> Table:
    """The columns that are listed, a row per row."""
    shown_columns = tuple(column for column in columns if column.name in table.columns)
    records = table.to_dict("records")
    return Table(
        shown_columns,
        tuple(Row(tuple(_cell(c, record[c.name], unsure) for c in shown_columns)) for record in records),
    )
