"""One self-contained HTML page for a validation: a pure function of what has been found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from petbone.anatomy import BY_NAME
from petbone.report import tables
from petbone.report.box_chart import DICE, HD95, box_charts
from petbone.report.case import provenance_rows
from petbone.report.difference_plot import DifferencePlot, difference_plot, fixed, interval
from petbone.report.page import environment
from petbone.report.privacy import plain
from petbone.report.slices import WINDOW_HU, Pictures, pictures_of
from petbone.report.tables import Column, Row, Table, called, is_missing, shown
from petbone.report.validation_words import COUNTED, REFERENCES, definitions, headline, methods
from petbone.validation import Study, Worst

PLOTS_IN_SIGHT = 8
"""Of more bones than these one per group is in sight, the others open."""

PAPER_2019 = {
    "T7": ("41 (3.8)", "36 (5.1)", "0.86", "2", "14"),
    "L3": ("76 (13)", "75 (9.2)", "0.85", "7", "8"),
    "sacrum": ("284 (40)", "283 (26)", "0.88", "1", "3"),
    "rib_left_7": ("33 (3.9)", "31 (4.8)", "0.84", "1", "6"),
    "rib_right_7": ("33 (3.9)", "31 (4.8)", "0.84", "1", "6"),
    "sternum": ("80 (11)", "72 (9.2)", "0.83", "3", "5"),
}
"""CNN and manual volume in mL, SDI, difference of two readings in %, CNN and manual: Lindgren Belal et al.
2019. The paper does not say the side of its rib 7."""

PAPER_COLUMNS = (
    Column("bone", "bone", digits="text", group="this study", meaning="name of the bone"),
    Column("n", "n", digits="whole", group="this study", meaning="pairs of volumes"),
    Column("predicted_ml", "predicted", "mL", "text", "this study", "median (SD) of the predicted volumes"),
    Column("reference_ml", "reference", "mL", "text", "this study", "median (SD) of the reference volumes"),
    Column("dice", "Dice", "", 2, "this study", "median, with its 95 % interval"),
    Column("repeat_predicted_percent", "two automatic", "%", 1, "this study", "difference of two readings"),
    Column("repeat_reference_percent", "two manual", "%", 1, "this study", "difference of two readings"),
    *(
        Column(f"paper_{n}", title, unit, "text", "Lindgren Belal et al. 2019, 46 patients", "printed there")
        for n, (title, unit) in enumerate(
            (("CNN", "mL"), ("manual", "mL"), ("SDI", ""), ("two CNN", "%"), ("two manual", "%"))
        )
    ),
)
VOLUME_COLUMNS = (
    Column("bone", "bone", digits="text", group="bone", meaning="name of the bone"),
    Column("n", "pairs", digits="whole", group="bone", meaning="pairs of volumes"),
    Column("n_missed", "missed", digits="whole", group="bone", meaning="in the reference alone"),
    Column("n_extra", "extra", digits="whole", group="bone", meaning="in the prediction alone"),
    Column("n_neither", "neither", digits="whole", group="bone", meaning="in neither mask"),
    Column("n_unpaired", "unpaired", digits="whole", group="bone", meaning="case without partner"),
    Column("median_reference_ml", "reference", "mL", 1, "median (SD)", "median volume, and SD"),
    Column("median_predicted_ml", "predicted", "mL", 1, "median (SD)", "median volume, and SD"),
    Column("bias_ml", "bias", "mL", 1, "difference, predicted − reference", "mean difference"),
    Column("sd_ml", "SD", "mL", 1, "difference, predicted − reference", "SD of the differences"),
    Column("loa_low_ml", "lower limit", "mL", 1, "difference, predicted − reference", "bias − 1.96 SD"),
    Column("loa_high_ml", "upper limit", "mL", 1, "difference, predicted − reference", "bias + 1.96 SD"),
    Column("bias_percent", "bias", "%", 1, "in % of the mean", "mean, and limits of agreement"),
    Column(
        "mean_volume_difference_percent",
        "absolute",
        "%",
        1,
        "in % of the mean",
        "mean of 100 |V1 − V2| / mean",
    ),
    Column("slope", "slope", "", 2, "agreement", "of the difference over the mean"),
    Column("icc_2_1", "ICC(2,1)", "", 3, "agreement", "absolute agreement, single measurement"),
    Column("ccc", "CCC", "", 3, "agreement", "Lin's concordance"),
)
BORDER_COLUMNS = (
    Column("bone", "bone", digits="text", group="bone", meaning="name of the bone"),
    Column("n", "pairs", digits="whole", group="bone", meaning="bones in both masks; distances are of these"),
    Column("n_missed", "missed", digits="whole", group="bone", meaning="Dice 0, no distance"),
    Column("median_dice", "Dice", "", 3, "medians", "median, missed ones as 0, with its 95 % interval"),
    Column("median_hd95_mm", "HD95", "mm", 1, "medians", "median over the cases"),
    Column("median_assd_mm", "ASSD", "mm", 2, "medians", "median over the cases"),
    Column("median_nsd_2mm", "NSD", "", 3, "medians", "median over the cases"),
    Column("note", "note", digits="text", group=" ", meaning="what is to be known"),
)
GROUP_COLUMNS = (
    Column("group", "group", digits="text", meaning="group of bones"),
    Column("bones", "bones", digits="text", meaning="bones of the group"),
    Column("n", "n", digits="whole", meaning="bones of all cases together"),
    Column("n_missed", "missed", digits="whole", meaning="in the reference alone"),
    Column("median_dice", "Dice", "", 3, "", "median, and quartiles"),
    Column("mean_volume_difference_percent", "volume diff.", "%", 1, "", "mean of 100 |V1 − V2| / mean"),
    Column("median_hd95_mm", "HD95", "mm", 1, "", "median"),
    Column("median_assd_mm", "ASSD", "mm", 2, "", "median"),
    Column("median_nsd_2mm", "NSD", "", 3, "", "median"),
    Column("note", "note", digits="text", meaning="what is to be known"),
)
MISSING_COLUMNS = (
    Column("case", "case", digits="text", meaning="name of the files"),
    Column("bone", "bone", digits="text", meaning="name of the bone"),
    Column("side", "not in", digits="text", meaning="reference, predicted or both"),
    Column("what", "what", digits="text", meaning="what is missing"),
)
INTERVALS = {
    "median_dice": ("median_dice_low", "median_dice_high", 3),
    "dice": ("median_dice_low", "median_dice_high", 2),
    "bias_ml": ("bias_low_ml", "bias_high_ml", 1),
    "loa_low_ml": ("loa_low_ci_low_ml", "loa_low_ci_high_ml", 1),
    "loa_high_ml": ("loa_high_ci_low_ml", "loa_high_ci_high_ml", 1),
    "bias_percent": ("loa_low_percent", "loa_high_percent", 1),
    "slope": ("slope_low", "slope_high", 2),
    "icc_2_1": ("icc_2_1_low", "icc_2_1_high", 3),
    "ccc": ("ccc_low", "ccc_high", 3),
}
"""Columns that stand with two others in one cell, and their decimals."""


@dataclass(frozen=True)
class PlotGroup:
    """Bland-Altman plots of a group of bones: those in sight, and those that open."""

    name: str
    why: str  # why these are in sight
    plots: tuple[DifferencePlot, ...]
    others: tuple[DifferencePlot, ...]


@dataclass(frozen=True)
class WorstCase:
    """A bone of a case as it is drawn, with its words."""

    case: str
    bone: str
    why: str
    facts: tuple[tuple[str, str], ...]
    pictures: Pictures


def render(study: Study, provenance: Mapping[str, Any]) -> str:
    """The page for `study`, complete in itself: no script or image from elsewhere, no path, no date.

    Cases are called as in the study, long names shortened in the middle.
    """
    overlap = study.overlap.assign(case=study.overlap["case"].map(called))
    agreement = study.agreement
    seen = agreement[_seen(agreement)]
    bones = [str(bone) for bone in seen["bone"]]
    version = provenance.get("petbone")
    return (
        environment()
        .get_template("validation.html")
        .render(
            title="Validation of segmentations",
            lead=headline(study),
            warnings=[_said(text, list(study.overlap["case"].unique())) for text in study.warnings],
            paper=_paper(study),
            repeated=bool(len(study.repeat)),
            plot_groups=_plot_groups(overlap, seen),
            not_drawn=[str(bone) for bone in agreement[~_seen(agreement)]["bone"]],
            dice=box_charts(overlap, bones, DICE),
            hd95=box_charts(overlap, bones, HD95),
            volumes=_with_intervals(agreement, _filled(agreement, VOLUME_COLUMNS)),
            borders=_with_intervals(agreement, _filled(agreement, BORDER_COLUMNS)),
            groups=_groups(study.groups),
            worst=[_worst(one) for one in study.worst],
            window=WINDOW_HU,
            missing=_missing(study.missing),
            definitions=definitions(study),
            counted=COUNTED,
            methods=methods(study, "" if is_missing(version) else plain(version)),
            references=REFERENCES,
            provenance=provenance_rows(
                {k: v for k, v in provenance.items() if k not in ("warnings", "steps")}
            ),
            gap=tables.GAP,
        )
    )


def _said(text: str, cases: Sequence[Any]) -> str:
    """A warning without paths and dates; but a case keeps its name, which can look like either."""
    names = sorted((str(case) for case in cases if plain(case) != str(case)), key=len, reverse=True)
    for n, name in enumerate(names):
        text = text.replace(name, f"\0{n}\0")
    text = plain(text)
    for n, name in enumerate(names):
        text = text.replace(f"\0{n}\0", called(name))
    return text


def _seen(agreement: pd.DataFrame) -> pd.Series[bool]:
    """Rows of bones that at least one mask holds."""
    return agreement[["n", "n_missed", "n_extra"]].fillna(0).sum(axis=1) > 0


def _filled(table: pd.DataFrame, columns: Sequence[Column]) -> tuple[Column, ...]:
    """Without counts that are all 0 and notes that are all empty: they say nothing."""
    counts = ("n_extra", "n_neither", "n_unpaired")
    empty = {name for name in counts if not table[name].fillna(0).any()}
    empty |= {"note"} if all(map(is_missing, table["note"])) else set()
    return tuple(column for column in columns if column.name not in empty)


def _with_intervals(table: pd.DataFrame, columns: tuple[Column, ...]) -> Table:
    """The columns as they are listed, with the interval of a figure in its cell."""
    found = tables.plain_table(table, columns, {})
    rows = []
    for row, record in zip(found.rows, table.to_dict("records"), strict=True):
        cells = [
            replace(cell, more=_second_line(column, record), css=f"{cell.css} interval")
            if cell.text != tables.GAP
            else cell
            for column, cell in zip(found.columns, row.cells, strict=True)
        ]
        rows.append(Row(tuple(cells), row.css))
    return replace(found, rows=tuple(rows))


def _second_line(column: Column, record: Mapping[Any, Any]) -> str:
    sds = {"median_reference_ml": "sd_reference_ml", "median_predicted_ml": "sd_predicted_ml"}
    if column.name in sds:
        sd = record.get(sds[column.name])
        return "" if is_missing(sd) else f"({shown(sd, 1)})"
    if column.name in ("repeat_predicted_percent", "repeat_reference_percent"):
        n = record.get(f"n_{column.name.removesuffix('_percent')}")
        return "" if is_missing(n) else f"n {n:.0f}"
    if column.name not in INTERVALS:
        return ""
    return interval(record, *INTERVALS[column.name])


def _paper(study: Study) -> Table:
    """The table of 2019, and beside it the figures that were printed then."""
    intervals = study.agreement[["bone", "median_dice_low", "median_dice_high"]].drop_duplicates("bone")
    table = study.table.merge(intervals, on="bone", how="left")
    for n in range(5):
        table[f"paper_{n}"] = [PAPER_2019.get(str(bone), ("",) * 5)[n] for bone in table["bone"]]
    columns = PAPER_COLUMNS if table["bone"].isin(PAPER_2019).any() else PAPER_COLUMNS[:7]
    found = _with_intervals(table, columns)
    rows = [
        Row(
            tuple(
                replace(cell, css=f"num {'old' if column.name.startswith('paper') else ''}".strip())
                if column.digits == "text" and column.name != "bone"
                else cell
                for column, cell in zip(columns, row.cells, strict=True)
            )
        )
        for row in found.rows
    ]
    return replace(found, rows=tuple(rows))


def _plot_groups(overlap: pd.DataFrame, seen: pd.DataFrame) -> list[PlotGroup]:
    """All plots of a few bones; of many, for each group the bone whose limits are widest in percent.

    None where no bone has limits of agreement: single points would show nothing.
    """
    if seen["loa_low_ml"].isna().all():
        return []
    rows_of = {str(bone): rows for bone, rows in overlap.groupby("bone", sort=False)}
    none = overlap.iloc[:0]
    plots, widths = {}, {}  # by bone; of those without limits the one with the most pairs comes first
    for record in seen.to_dict("records"):
        bone = str(record["bone"])
        plots[bone] = difference_plot(bone, rows_of.get(bone, none), record)
        width = float(record["loa_high_percent"]) - float(record["loa_low_percent"])
        widths[bone] = (-math.inf if math.isnan(width) else width, int(record["n"]))
    if len(plots) <= PLOTS_IN_SIGHT:
        return [PlotGroup("", "", tuple(plots.values()), ())]
    groups: dict[str, list[str]] = {}
    for bone in plots:
        known = BY_NAME.get(bone)
        groups.setdefault("other" if known is None else known.group.replace("_", " "), []).append(bone)
    found = []
    for name, bones in groups.items():
        widest = max(bones, key=widths.__getitem__)
        others = tuple(plots[bone] for bone in bones if bone != widest)
        has_limits = others and widths[widest][0] > -math.inf
        why = f"widest limits of {len(bones)} bones, in % of their volume" if has_limits else ""
        found.append(PlotGroup(name, why, (plots[widest],), others))
    return found


def _groups(groups: pd.DataFrame) -> Table:
    table = groups.assign(
        group=groups["group"].map(lambda name: str(name).replace("_", " ")),
        median_dice_low=groups["dice_p25"],
        median_dice_high=groups["dice_p75"],
    )
    columns = [c for c in GROUP_COLUMNS if c.name != "note" or not all(map(is_missing, groups["note"]))]
    return _with_intervals(table, tuple(columns))


def _missing(missing: pd.DataFrame) -> Table:
    """Plain, but for the names of cases: the user finds the case by its own name."""
    found = tables.plain_table(missing, MISSING_COLUMNS, {})
    names = [called(case) for case in missing["case"]]
    rows = [
        replace(row, cells=(replace(row.cells[0], text=name, sort=name, css="text case"), *row.cells[1:]))
        for row, name in zip(found.rows, names, strict=True)
    ]
    return replace(found, rows=tuple(rows))


def _worst(worst: Worst) -> WorstCase:
    drawn = pictures_of(worst)
    place = drawn.place
    at = ", ".join(fixed(value, 0) for value in place.mm)
    facts = [("Dice", shown(worst.dice, 3)), ("HD95", f"{shown(worst.hd95_mm, 1)} mm")]
    if is_missing(worst.hd95_mm):
        facts = facts[:1]
    if math.isinf(place.distance_mm):
        alone = "reference" if worst.reference.any() else "prediction"
        facts.append(("here", f"middle of the bone, which the {alone} alone has"))
    elif place.distance_mm > 0:
        facts.append(("here", f"{shown(place.distance_mm, 1)} mm from the other mask, the farthest of all"))
    facts.append(("at", f"({at}) mm, RAS"))
    if drawn.turned_deg >= 5:
        facts.append(("slices", f"those of the scan, turned by up to {shown(drawn.turned_deg, 0)}°"))
    return WorstCase(called(worst.case), worst.bone, plain(worst.why), tuple(facts), drawn)
