"""One self-contained HTML page for a cohort: a pure function of its tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from petbone.agreement import two_by_two
from petbone.anatomy import BONES
from petbone.cohort_quality import CHECKS, OVERALL
from petbone.outliers import FAR, modified_z_of_logs
from petbone.report import tables
from petbone.report.box_chart import BoxChart
from petbone.report.case import TRACER_NAMES, Card, provenance_rows
from petbone.report.cohort_words import COURSES, VERDICT_WORDS, Named, flow, headline, link
from petbone.report.heat_map import HeatMap, heat_map, views
from petbone.report.page import environment
from petbone.report.privacy import plain
from petbone.report.spread import spread_chart
from petbone.report.tables import GAP, Cell, Column, Row, Table, called, is_missing, shown, three
from petbone.report.waterfall import Fall, Waterfall, drawn


@dataclass(frozen=True, eq=False)
class CohortTables:
    """The tables of a cohort; `followup` and `comparisons` are None where none was made.

    `groups` is, by case, the group that comparisons are between (empty: none was asked for).
    """

    bones: pd.DataFrame
    indices: pd.DataFrame
    quality: pd.DataFrame
    concordance: pd.DataFrame
    agreement: pd.DataFrame
    failures: pd.DataFrame
    followup: pd.DataFrame | None = None
    comparisons: pd.DataFrame | None = None
    groups: Mapping[str, str] | None = None


@dataclass(frozen=True)
class TracerSection:
    """Everything that the page says of one tracer."""

    key: str
    name: str
    cases: int
    charts: tuple[BoxChart, ...]
    other_charts: tuple[BoxChart, ...]  # of indices that are defined for another tracer
    maps: tuple[HeatMap, ...]
    bones: Table


@dataclass(frozen=True)
class PairSection:
    """Two tracers in the same patients."""

    key: str
    names: tuple[str, str]
    cards: tuple[Card, ...]
    bars: tuple[tuple[str, tuple[tuple[str, str, float, str], ...]], ...]  # title; css, words, percent, number
    charts: tuple[BoxChart, ...]
    bones: Table


@dataclass(frozen=True)
class FollowSection:
    """The follow-up in one tracer."""

    key: str
    name: str
    figure: Waterfall | None
    counts: tuple[tuple[str, int], ...]
    undrawn: int
    table: Table


def render(cohort: CohortTables, provenance: Mapping[str, Any]) -> str:
    """The page for `cohort`, complete in itself: no script or image from elsewhere, no path, no date."""
    verdicts = _verdicts(cohort.quality)
    failed = [
        Named(called(row["case"]), "", plain(f"{row['step']}: {row['error']}"))
        for row in cohort.failures.to_dict("records")
    ]
    lost = int(provenance.get("failed", len(failed)))
    total = int(provenance.get("cases", len(verdicts) + lost))
    tracers = list(dict.fromkeys(cohort.indices["tracer"]))
    top = headline(total, lost, verdicts, _filled_table(cohort.followup))
    grouped = dict(cohort.groups or {})
    hidden = ("provenance_sha256", "columns_kept", "notes")
    return (
        environment()
        .get_template("cohort.html")
        .render(
            title="Cohort",
            top=top,
            flow=flow(total, lost, [verdict for verdict, _ in verdicts.values()]),
            failures=_failures(cohort.failures),
            failed=failed,
            sections=[_tracer(n, tracer, cohort, grouped) for n, tracer in enumerate(tracers, 1)],
            views=views() if tracers else (),
            pairs=_pairs(cohort),
            follow=_follow(cohort.followup, verdicts),
            comparisons=_comparisons(cohort.comparisons),
            checks=_checks(cohort.quality),
            meanings=[(limit.title, limit.why) for limit in CHECKS.values()],
            cases=_cases(cohort.quality, verdicts),
            outliers=_outliers(cohort.indices, verdicts),
            far=FAR,
            grouped=bool(grouped),
            notes=[plain(note) for note in provenance.get("notes", ())],
            provenance=provenance_rows({k: v for k, v in provenance.items() if k not in hidden}),
            gap=GAP,
        )
    )


def _filled_table(table: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if table is None or table.empty else table


def _verdicts(quality: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """By case, its verdict and its reasons."""
    rows = quality[quality["check"] == OVERALL]
    notes = rows["note"].fillna("")
    return {
        str(case): (str(verdict), str(note))
        for case, verdict, note in zip(rows["case"], rows["verdict"], notes, strict=True)
    }


def case_cell(case: object, css: str = "text case") -> Cell:
    """The name of a case that leads to its page."""
    return Cell(called(case), called(case), css, href=link(case))


def _text(value: object, css: str = "text") -> Cell:
    said = GAP if is_missing(value) else plain(value)
    return Cell(said, "" if said == GAP else said, css if said != GAP else f"{css} gap")


def _number(value: Any, digits: int | str = "three", css: str = "num") -> Cell:
    said = shown(value, digits)
    return Cell(said, "" if said == GAP else repr(float(value)), css if said != GAP else f"{css} gap")


def _verdict_cell(verdict: str) -> Cell:
    place = {"bad": "0", "warn": "1", "ok": "2"}.get(verdict, "3")
    return Cell(VERDICT_WORDS.get(verdict, GAP), place, f"text tag {verdict}")


def _failures(failures: pd.DataFrame) -> Table:
    columns = (
        Column("case", "case", digits="text", meaning="name of the case"),
        Column("step", "step", digits="text", meaning="what was going on"),
        Column("error", "error", digits="text", meaning="why it failed"),
    )
    rows = [
        Row((Cell(called(row["case"]), called(row["case"]), "text case"), _text(row["step"]), _text(row["error"])))
        for row in failures.to_dict("records")
    ]
    return Table(columns, tuple(rows))


def _tracer(number: int, tracer: str, cohort: CohortTables, groups: Mapping[str, str]) -> TracerSection:
    indices = cohort.indices[cohort.indices["tracer"] == tracer]
    own, others = [], []
    for name, rows in indices.groupby("index", sort=False):
        note = rows["note"].dropna()
        strange = len(note) > 0 and _of_another(note.iloc[0])
        said = f"{_index_word(name)}{' (defined for another tracer)' if strange else ''}"
        (others if strange else own).append(_spread(said, rows, groups))
    bones = cohort.bones[cohort.bones["tracer"] == tracer]
    involved = _involved(bones)
    return TracerSection(
        key=f"tracer{number}",
        name=TRACER_NAMES.get(tracer, plain(tracer)),
        cases=int(indices["case"].nunique()),
        charts=tuple(own),
        other_charts=tuple(others),
        maps=_maps(involved),
        bones=_bone_table(involved),
    )


def _of_another(note: object) -> bool:
    """Whether an index was defined for another tracer: `indices` says so at the beginning of its note."""
    return str(note).startswith("Defined for ")


INDEX_WORDS = {"skeletal_suv_mean": "skeletal SUVmean", "skeletal_suv_max": "skeletal SUVmax"}


def _index_word(name: object) -> str:
    return INDEX_WORDS.get(str(name), plain(name))


def _spread(name: str, rows: pd.DataFrame, groups: Mapping[str, str]) -> BoxChart:
    known = rows[rows["value"].notna()]
    names = sorted(set(groups.values())) if groups else [""]
    parted: dict[str, list[tuple[str, float]]] = {group: [] for group in names}
    for case, value in zip(known["case"], known["value"], strict=True):
        parted[groups[case] if groups else ""].append((called(case), float(value)))
    unit = rows["unit"].dropna()
    return spread_chart(name, str(unit.iloc[0]) if len(unit) else "", parted)


def _involved(bones: pd.DataFrame) -> pd.DataFrame:
    """By bone: cases that searched it, those with a hotspot in it, and how much of it the hotspots fill."""
    searched = bones[bones["hotspot_count"].notna() & (bones["status"] != "absent")]
    hot = searched[searched["hotspot_volume_ml"].fillna(0) > 0]
    table = pd.DataFrame({"name": [bone.name for bone in BONES]}).set_index("name")
    table["searched"] = searched.groupby("name")["case"].nunique()
    table["hot"] = hot.groupby("name")["case"].nunique()
    table[["searched", "hot"]] = table[["searched", "hot"]].fillna(0).astype(int)
    table["often_percent"] = np.where(
        table["searched"] > 0, 100 * table["hot"] / table["searched"].where(table["searched"] > 0), np.nan
    )
    median = hot.groupby("name")[["hotspot_fraction", "hotspot_volume_ml", "suv_max"]].median()
    table["much_percent"] = 100 * median["hotspot_fraction"]
    table["volume_ml"] = median["hotspot_volume_ml"]
    table["suv_max"] = median["suv_max"]
    return table.reset_index()


def _maps(involved: pd.DataFrame) -> tuple[HeatMap, ...]:
    rows = {row["name"]: row for row in involved.to_dict("records")}
    often = {name: _or_none(row["often_percent"]) for name, row in rows.items()}
    much = {
        name: (0.0 if not row["hot"] and row["searched"] else _or_none(row["much_percent"]))
        for name, row in rows.items()
    }
    words = {
        name: f"{name}: hotspots in {row['hot']} of {row['searched']} cases"
        + ("" if math.isnan(row["much_percent"]) else f", of these they fill {three(row['much_percent'])} %")
        for name, row in rows.items()
        if row["searched"]
    }
    return (
        heat_map("How often: cases with a hotspot in the bone", "% of cases", often, words),
        heat_map("How much: part of the bone that hotspots fill, median", "% of the bone", much, words),
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _bone_table(involved: pd.DataFrame) -> Table:
    columns = (
        Column("name", "bone", digits="text", meaning="name of the bone"),
        Column("searched", "searched", "cases", "whole", meaning="cases that saw and searched it"),
        Column("hot", "with hotspot", "cases", "whole", meaning="cases with a hotspot in it"),
        Column("often_percent", "how often", "%", 1, meaning="with hotspot / searched"),
        Column("much_percent", "filled", "%", 1, meaning="median of hotspot_fraction of those with hotspot"),
        Column("volume_ml", "hotspots", "mL", 2, meaning="median of hotspot_volume_ml of those with hotspot"),
        Column("suv_max", "SUVmax", "", 1, meaning="median of suv_max of those with hotspot"),
    )
    seen = involved[involved["searched"] > 0]
    return tables.plain_table(seen.sort_values("often_percent", ascending=False, kind="stable"), columns, {})


# Two tracers


def _pairs(cohort: CohortTables) -> list[PairSection]:
    agreement = cohort.agreement
    if agreement.empty:
        return []
    return [
        _pair(n, (str(one), str(two)), rows, cohort.concordance)
        for n, ((one, two), rows) in enumerate(agreement.groupby(["tracer_1", "tracer_2"], sort=False), 1)
    ]


def _pair(
    number: int, tracers: tuple[str, str], rows: pd.DataFrame, concordance: pd.DataFrame
) -> PairSection:
    first, second = (TRACER_NAMES.get(tracer, plain(tracer)) for tracer in tracers)
    total = rows.select_dtypes("number").sum()
    bones = {key: int(total[f"bones_{key}"]) for key in ("both", "first_only", "second_only", "neither")}
    figures = two_by_two(*bones.values())
    spots = {
        "both": total["both_1"] + total["both_2"],
        "first": total["first_only"],
        "second": total["second_only"],
        "unseen": total["first_unseen"] + total["second_unseen"],
    }
    positive = {"both": bones["both"], "first": bones["first_only"], "second": bones["second_only"]}
    words = {
        "both": "both",
        "first": f"{first} only",
        "second": f"{second} only",
        "unseen": "where the other did not look",
    }
    compared = int(total["bones_compared"])
    cards = (
        Card("cases", str(rows["case"].nunique()), detail=f"examined with {first} and {second}"),
        Card(
            "bones judged alike",
            GAP if math.isnan(figures["agreement_percent"]) else f"{figures['agreement_percent']:.1f} %",
            detail=f"of {compared} bones that both saw and searched, all cases together",
        ),
        Card(
            "positive agreement",
            shown(figures["positive_agreement"], 2),
            detail="2 both / (2 both + either alone), of bones with a hotspot",
        ),
        Card("kappa", shown(figures["kappa"], 2), detail="bones of one patient are not independent: no interval"),
        Card(
            "median Dice of hotspots",
            shown(rows["dice"].median(), 2),
            detail=f"of {int(rows['dice'].notna().sum())} cases with hotspots",
        ),
    )
    of_pair = concordance[(concordance["tracer_1"] == tracers[0]) & (concordance["tracer_2"] == tracers[1])]
    charts = [
        spread_chart(
            title, unit, {"": [(called(c), float(v)) for c, v in zip(rows["case"], rows[name]) if not math.isnan(v)]}
        )
        for name, title, unit in (
            ("agreement_percent", "bones judged alike, per case", "%"),
            ("positive_agreement", "positive agreement of bones, per case", ""),
            ("dice", "Dice of the hotspots, per case", ""),
            ("suv_max_rho", "rank correlation of SUVmax of matched hotspots", ""),
        )
        if rows[name].notna().any()
    ]
    return PairSection(
        f"pair{number}",
        (first, second),
        cards,
        (("hotspots of either tracer; those in both count in each", _parts(spots, words)), ("bones with a hotspot", _parts(positive, words))),
        tuple(charts),
        _pair_bones(of_pair, tracers),
    )


def _parts(counts: Mapping[str, float], words: Mapping[str, str]) -> tuple[tuple[str, str, float, str], ...]:
    whole = sum(counts.values())
    return tuple(
        (key, words[key], 100 * float(count) / whole, f"{count:.0f}") for key, count in counts.items() if count
    )


def _pair_bones(rows: pd.DataFrame, tracers: tuple[str, str]) -> Table:
    """By bone, in how many patients which tracer has a hotspot in it."""
    kinds = {"all": "both", tracers[0]: "first", tracers[1]: "second", "none": "neither"}
    known = rows[rows["concordance"].notna()]
    counts = pd.crosstab(known["name"], known["concordance"].map(kinds)).reindex(columns=list(kinds.values()))
    counts = counts.fillna(0).astype(int).reindex([b.name for b in BONES if b.name in set(known["name"])])
    counts["n"] = counts.sum(axis=1)
    counts["alike"] = 100 * (counts["both"] + counts["neither"]) / counts["n"]
    names = [TRACER_NAMES.get(tracer, plain(tracer)) for tracer in tracers]
    columns = (
        Column("name", "bone", digits="text", meaning="name of the bone"),
        Column("n", "patients", digits="whole", meaning="patients in whom both saw and searched it"),
        Column("both", "both", digits="whole", meaning="a hotspot in both tracers"),
        Column("first", f"{names[0]} only", digits="whole", meaning="a hotspot in the first tracer only"),
        Column("second", f"{names[1]} only", digits="whole", meaning="a hotspot in the second tracer only"),
        Column("neither", "neither", digits="whole", meaning="a hotspot in neither"),
        Column("alike", "alike", "%", 1, meaning="both or neither"),
    )
    return tables.plain_table(counts.reset_index(), columns, {})


# Follow-up


def _follow(followup: pd.DataFrame | None, verdicts: Mapping[str, tuple[str, str]]) -> list[FollowSection]:
    if followup is None or followup.empty:
        return []
    found = []
    for n, (tracer, rows) in enumerate(followup.groupby("tracer", sort=False), 1):
        last = _last_against_first(rows)
        falls, undrawn = _falls(last)
        course = last["course"].fillna("not judged")
        found.append(
            FollowSection(
                f"follow{n}",
                TRACER_NAMES.get(str(tracer), plain(tracer)),
                drawn(falls, _limits_of(rows)),
                tuple((word, int((course == word).sum())) for word in COURSES),
                undrawn,
                _follow_table(rows, verdicts),
            )
        )
    return found


def _limits_of(rows: pd.DataFrame) -> tuple[float, float] | None:
    """The limits of repeatability that the total uptake was judged by, where they are the same for all."""
    told = set(rows["total_limits"].dropna()) if "total_limits" in rows else set()
    found = [re.fullmatch(r"([\d.]+) to ([\d.]+)", str(text)) for text in told]
    if len(found) != 1 or found[0] is None:
        return None
    return float(found[0][1]), float(found[0][2])


def _last_against_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each patient the last examination, compared with the first."""
    first = rows[rows["against"] == "first"]
    return first.sort_values("days", kind="stable").groupby("patient", sort=False).tail(1)


_COURSE_CSS = {"progressed": "grown", "regressed": "shrunk", "unchanged": "stable", "mixed": "mixed"}


def _falls(rows: pd.DataFrame) -> tuple[list[Fall], int]:
    """A bar per patient, the greatest rise first; and how many have no uptake at either date."""
    falls, undrawn = [], 0
    for row in rows.to_dict("records"):
        name, before, after = called(row["patient"]), row["total_tlu_g_1"], row["total_tlu_g_2"]
        course = "not judged" if is_missing(row["course"]) else str(row["course"])
        css = _COURSE_CSS.get(course, "unjudged")
        if is_missing(before) or is_missing(after) or not (before or after):
            undrawn += 1
            continue
        words = f"{name}: {three(before)} g, then {three(after)} g, {course}"
        if before and after:
            ratio = after / before
            falls.append(Fall(css, name, words, f"{ratio:.2f}", ratio))
        else:
            falls.append(Fall(css, name, words, "none before" if after else "none now", rises=bool(after)))
    height = {True: math.inf, False: -math.inf}
    falls.sort(key=lambda fall: -(height[fall.rises] if fall.ratio is None else fall.ratio))
    return falls, undrawn


def _follow_table(rows: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]]) -> Table:
    columns = (
        Column("patient", "patient", digits="text", meaning="the patient"),
        Column("course", "course", digits="text", meaning="what became of the patient"),
        Column("why", "why", digits="text", meaning="by which rule"),
        Column("case_1", "from", digits="text", meaning="the case that it is compared with"),
        Column("case_2", "to", digits="text", meaning="the case that is compared"),
        Column("days", "days", digits="whole", meaning="between the two"),
        Column("total_tlu_g_1", "uptake", "g", meaning="total uptake of all hotspots, before"),
        Column("total_tlu_g_2", "then", "g", meaning="total uptake, after"),
        Column("total_tlu_ratio", "ratio", meaning="after / before"),
        Column("total_verdict", "verdict", digits="text", meaning="by the limits of repeatability"),
        Column("new", "new", digits="whole", meaning="new hotspots"),
        Column("gone", "gone", digits="whole", meaning="hotspots that are gone"),
        Column("scans", "scans", digits="text", meaning="the worse verdict of the two scans"),
    )
    order = {word: n for n, word in enumerate(COURSES)}
    found = []
    for row in rows.to_dict("records"):
        course = "not judged" if is_missing(row["course"]) else str(row["course"])
        pair = [verdicts.get(str(row[name]), ("",))[0] for name in ("case_1", "case_2")]
        worst = next((word for word in ("bad", "warn", "ok") if word in pair), "")
        css = f"course-{_COURSE_CSS.get(course, 'unjudged')}"
        cells = (
            _text(called(row["patient"]), "text case"),
            Cell(course, str(order.get(course, len(order))), "text"),
            _text(row.get("why")),
            case_cell(row["case_1"]),
            case_cell(row["case_2"]),
            _number(row["days"], "whole"),
            _number(row["total_tlu_g_1"]),
            _number(row["total_tlu_g_2"]),
            _number(row["total_tlu_ratio"], 2),
            _text(row.get("total_verdict")),
            _number(row.get("new"), "whole"),
            _number(row.get("gone"), "whole"),
            _verdict_cell(worst),
        )
        found.append((order.get(course, len(order)), Row(cells, css)))
    found.sort(key=lambda pair: pair[0])
    return Table(columns, tuple(row for _, row in found))


# Groups


@dataclass(frozen=True)
class GroupSection:
    """The groups of one column of the user's table compared: indices in sight, bones below."""

    key: str
    by: str
    alike: tuple[tuple[str, str], ...]  # what is the same in every row
    indices: Table | None
    bones: Table | None


def _comparisons(table: pd.DataFrame | None) -> list[GroupSection]:
    """The comparisons, with whatever columns they have; what is the same in every row is told once."""
    if table is None or table.empty:
        return []
    of_bone = table["bone"].notna() if "bone" in table else pd.Series(False, table.index)
    by = table["group_by"] if "group_by" in table else pd.Series("", table.index)
    found = []
    for n, (name, rows) in enumerate(table.groupby(by, sort=False), 1):
        rows = rows.drop(columns="group_by", errors="ignore")
        names = [column for column in rows if re.fullmatch(r"group_\d+", str(column))]
        alike = {
            str(column): plain(rows[column].iloc[0])
            for column in (*names, "note")
            if column in rows and rows[column].notna().all() and rows[column].nunique() == 1
        }
        rest = rows.drop(columns=list(alike))
        tables = [_of_groups(rest[part], alike) for part in (~of_bone[rows.index], of_bone[rows.index])]
        told = tuple((column.replace("_", " "), value) for column, value in alike.items())
        found.append(GroupSection(f"groups{n}", called(name), told, *tables))
    return found


def _of_groups(rows: pd.DataFrame, alike: Mapping[str, str]) -> Table | None:
    """A row per comparison; a figure and its interval stand in one cell."""
    if rows.empty:
        return None
    ends = {column: _interval_of(str(column), rows) for column in rows}
    inner = {end for pair in ends.values() if pair for end in pair}
    names = [column for column in rows if column not in inner and not rows[column].isna().all()]
    listed = []
    for name in names:
        title = re.sub(r"^(n|median)_(\d+)$", lambda m: f"{m[1]}: {alike.get('group_' + m[2], m[2])}", str(name))
        numeric = pd.api.types.is_numeric_dtype(rows[name])
        listed.append(Column(str(name), called(title.replace("_", " ")), digits="three" if numeric else "text"))
    found = []
    for record in rows.to_dict("records"):
        cells = []
        for column in listed:
            value, pair = record[column.name], ends[column.name]
            if column.name in ("p", "p_adjusted", "p_holm", "p_bh") and not is_missing(value):
                cell = Cell(_p_value(float(value)), repr(float(value)), "num")
            elif column.digits == "three":
                cell = _number(value)
                if pair and not is_missing(record[pair[0]]):
                    low, high = (three(float(record[end])) for end in pair)
                    cell = replace(cell, more=f"{low} to {high}", css="num interval")
            else:
                cell = _text(INDEX_WORDS.get(str(value), value))
            cells.append(cell)
        found.append(Row(tuple(cells)))
    return Table(tuple(listed), tuple(found))


def _interval_of(name: str, rows: pd.DataFrame) -> tuple[str, str] | None:
    """The two columns that hold the interval of a column: shift_low, or median_low_1 of median_1."""
    stem, number = (m[1], m[2]) if (m := re.fullmatch(r"(.+?)(_\d+)", name)) else (name, "")
    low, high = f"{stem}_low{number}", f"{stem}_high{number}"
    return (low, high) if low in rows and high in rows else None


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# Quality


def _checks(quality: pd.DataFrame) -> Table:
    """By check: how many cases pass, and the worst of them."""
    columns = (
        Column("check", "check", digits="text", meaning="what was asked"),
        Column("bar", "", digits="text", meaning="green: within, amber: look, red: not to be trusted"),
        Column("ok", "within", digits="whole", meaning="within the limits"),
        Column("warn", "look", digits="whole", meaning="past the first limit"),
        Column("bad", "not to trust", digits="whole", meaning="past the second limit"),
        Column("none", "not known", digits="whole", meaning="cannot be said"),
        Column("median", "median", digits="three", meaning="of the values"),
        Column("worst", "worst", digits="three", meaning="the worst value"),
        Column("case", "of case", digits="text", meaning="the case with the worst value"),
        Column("warn_at", "look if", digits="text", meaning="the limit beyond which a case is to be looked at"),
        Column("bad_at", "not if", digits="text", meaning="the limit beyond which it is not to be trusted"),
    )
    rows = []
    for name, limit in CHECKS.items():
        own = quality[quality["check"] == name]
        if own.empty:
            continue
        verdicts = own["verdict"].fillna("")
        count = [int((verdicts == word).sum()) for word in ("ok", "warn", "bad", "")]
        known = own[own["value"].notna()].sort_values("value", ascending=limit.least, kind="stable")
        worst = known.iloc[0] if len(known) and count[1] + count[2] else None
        unit = f" {limit.unit}" if limit.unit else ""
        cells = (
            Cell(f"{limit.title}{',' if unit else ''}{unit}", limit.title, "text"),
            Cell("", repr(float(count[1] + 1000 * count[2])), "text", parts=tuple(zip(_CSS, count, strict=True))),
            *(_number(n, "whole", f"num {word}" if n else "num zero") for n, word in zip(count, _CSS, strict=True)),
            _number(known["value"].median() if len(known) else None),
            _number(None if worst is None else worst["value"]),
            Cell("", "", "text") if worst is None else case_cell(worst["case"]),
            *(Cell(said, said, "text") for said in _limits(name)),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows))


_CSS = ("ok", "warn", "bad", "none")


def _limits(name: str) -> tuple[str, ...]:
    limit = CHECKS[name]
    sign = "<" if limit.least else ">"
    unit = "voxels" if name == "pet_to_ct_mm" else limit.unit
    return tuple("" if n is None else f"{sign} {n:g} {unit}".strip() for n in (limit.warn, limit.bad))


def _cases(quality: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]]) -> Table:
    """A row per case, those not to be trusted first; of several PETs the worst value of each check."""
    present = [name for name in CHECKS if (quality["check"] == name).any()]
    columns = (
        Column("case", "case", digits="text", meaning="name of the case, leads to its page"),
        Column("verdict", "verdict", digits="text", meaning="trust, look, or do not trust"),
        Column("note", "reasons", digits="text", meaning="every check past a limit, the worst first"),
        *(
            Column(name, CHECKS[name].title, CHECKS[name].unit, "three", meaning=CHECKS[name].why)
            for name in present
        ),
    )
    # The worst of several PETs: by verdict, then by value.
    order = {"bad": 3, "warn": 2, "ok": 1}
    table = quality[quality["check"] != OVERALL]
    sign = table["check"].map(lambda name: -1.0 if CHECKS[name].least else 1.0)
    ranked = table.assign(
        rank=table["verdict"].map(order).fillna(0), size=(sign * table["value"]).fillna(-math.inf)
    ).sort_values(["rank", "size"], kind="stable")
    worst = ranked.groupby(["case", "check"], sort=False).tail(1)
    cells_of = {
        (row["case"], row["check"]): _number(row["value"], css=f"num {row['verdict'] or ''}".strip())
        for row in worst[["case", "check", "value", "verdict"]].fillna({"verdict": ""}).to_dict("records")
    }
    rows = []
    for case, (verdict, note) in verdicts.items():
        own = [cells_of.get((case, name), Cell(GAP, "", "num gap")) for name in present]
        cells = (case_cell(case), _verdict_cell(verdict), _text(note), *own)
        rows.append((-order.get(verdict, 0), Row(cells)))
    rows.sort(key=lambda pair: pair[0])
    return Table(columns, tuple(row for _, row in rows))


# Outliers


def _outliers(indices: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]]) -> Table:
    """Cases with an index far from the rest: the farthest, and which others are."""
    columns = (
        Column("case", "case", digits="text", meaning="name of the case, leads to its page"),
        Column("tracer", "tracer", digits="text", meaning="the tracer"),
        Column("index", "index", digits="text", meaning="the index that lies farthest out"),
        Column("value", "value", digits="three", meaning="its value"),
        Column("unit", "unit", digits="text", meaning="unit of the value and the median"),
        Column("median", "median", digits="three", meaning="of the cases with a value above 0"),
        Column("times", "times", digits=2, meaning="value / median"),
        Column("z", "z", digits=1, meaning="modified z-score of the logarithms"),
        Column("others", "also far out", digits="text", meaning="other indices of the case, with their z"),
        Column("scan", "scan", digits="text", meaning="whether the scan is to be trusted"),
    )
    far = far_out(indices)
    found = []
    for (case, tracer), rows in far.groupby(["case", "tracer"], sort=False):
        ordered = rows.sort_values("z", key=lambda z: -z.abs(), kind="stable").to_dict("records")
        first = ordered[0]
        others = ", ".join(f"{_index_word(r['index'])} ({r['z']:.1f})" for r in ordered[1:])
        cells = (
            case_cell(case),
            _text(TRACER_NAMES.get(str(tracer), tracer)),
            _text(_index_word(first["index"])),
            _number(first["value"]),
            _text(first["unit"]),
            _number(first["median"]),
            _number(first["value"] / first["median"], 2),
            _number(first["z"], 1),
            Cell(plain(others), plain(others), "text"),
            _verdict_cell(verdicts.get(str(case), ("",))[0]),
        )
        found.append((-abs(first["z"]), Row(cells)))
    found.sort(key=lambda pair: pair[0])
    return Table(columns, tuple(row for _, row in found))


def far_out(indices: pd.DataFrame) -> pd.DataFrame:
    """Rows of `indices` beyond `outliers.FAR`, with ``z`` and the ``median``; indices of other tracers are out.

    Scores are of the logarithms of the values above 0, each index and tracer by itself.
    """
    own = indices[~indices["note"].fillna("").map(_of_another)]
    parts = []
    for _, rows in own.groupby(["tracer", "index"], sort=False):
        values = rows["value"].to_numpy(np.float64)
        positive = values[values > 0]
        scored = rows.assign(
            z=modified_z_of_logs(values), median=float(np.median(positive)) if len(positive) else math.nan
        )
        parts.append(scored[scored["z"].abs() > FAR])
    return pd.concat(parts) if parts else own.assign(z=math.nan, median=math.nan).iloc[:0]

