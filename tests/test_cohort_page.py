"""The page of a cohort: its numbers by arithmetic, nothing from outside, no harm from names."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from cohort_fixtures import HEAD, line, write_scans, write_table
from cohort_made_up import write_made_up
from petbone import cohort_results
from petbone.anatomy import BONES
from petbone.cohort_page import PAGE, write_page
from petbone.cohort_results import write_cohort
from petbone.cohort_review import AGREEMENT, CONCORDANCE
from petbone.cohort_table import CohortTable
from petbone.outliers import FAR
from petbone.report.cohort import CohortTables, render
from petbone.report.cohort_follow import follow_sections
from petbone.report.cohort_groups import group_sections
from petbone.report.cohort_pairs import pair_sections
from petbone.report.cohort_scans import far_out
from petbone.report.cohort_tracer import involvement, tracer_section
from petbone.report.cohort_words import compared, headline, link
from petbone.report.heat_map import STEPS, heat_map, views
from petbone.report.scales import Scale
from petbone.report.spread import spread_chart
from test_cohort_quality import make, rows

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
VOID = {"meta", "link", "img", "br", "path", "use", "rect", "circle", "line", "image"}


class Page(HTMLParser):
    """What a browser would make of it: tags with their attributes, and the text of each section by its id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._open.append(dict(attrs).get("id") or dict(attrs).get("aria-label") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in self._open:
            self.sections[name] = f"{self.sections.get(name, '')} {data.strip()}".strip()

    def attributes(self, name: str) -> list[str]:
        return [found for _, attrs in self.tags if (found := attrs.get(name)) is not None]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    part = tmp_path_factory.mktemp("made_up")
    write_page(write_made_up(part, 64), part)
    return part


@pytest.fixture(scope="module")
def page(made_up) -> Page:
    return Page((made_up / "cohort.html").read_text(encoding="utf-8"))


def test_the_top_says_who_progressed_and_which_scans_not_to_trust(made_up, page):
    followup = pd.read_parquet(made_up / "followup.parquet")
    progressed = set(followup.loc[followup["course"] == "progressed", "patient"])
    assert len(progressed) > 5
    said, _, mixed = page.sections["Who progressed"].partition("Mixed")
    assert set(re.findall(r"P\d{3}(?!-)", said)) == progressed
    also = set(followup.loc[followup["course"] == "mixed", "patient"]) - progressed
    assert set(re.findall(r"P\d{3}(?!-)", mixed)) == also
    quality = pd.read_parquet(made_up / "quality.parquet")
    last = quality[quality["check"] == "overall"].set_index("case")
    bad = set(last.index[last["verdict"] == "bad"])
    assert len(bad) == 3
    scans = page.sections["Scans not to trust"]
    untrusted = scans[: scans.index("To be looked at")]
    assert set(re.findall(r"P\d{3}(?:-\d)?", untrusted)) == bad
    for case in bad:
        assert last.loc[case, "note"].split(";")[0] in untrusted
    looked = last.index[last["verdict"] == "warn"]
    between = scans[scans.index("To be looked at") :]
    assert all(case in between for case in looked)


def test_numbers_of_the_flow(made_up, page):
    quality = pd.read_parquet(made_up / "quality.parquet")
    verdicts = quality.loc[quality["check"] == "overall", "verdict"].value_counts()
    failed = len(rows(made_up / "failures.csv"))
    done = int(verdicts.sum())
    numbers = [int(n) for n in re.findall(r"\d+", page.sections["flow"])]
    assert numbers == [
        done + failed,
        done,
        failed,
        *(verdicts.get(word, 0) for word in ("ok", "warn", "bad")),
    ]
    assert failed == 1
    assert "P060" in page.sections["failures"]


def test_nothing_from_outside_and_every_link_leads_to_a_case(made_up, page):
    cases = set(pd.read_parquet(made_up / "quality.parquet")["case"])
    for name in ("src", "srcset", "action", "data", "poster"):
        assert not page.attributes(name)
    for found in page.attributes("href"):
        if found.startswith("#"):
            continue
        case = re.fullmatch(r"cases/([^/]+)/report\.html", found)
        assert case is not None
        assert unquote(case[1]) in cases
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {found[1:] for found in page.attributes("href") if found.startswith("#")} <= set(ids)
    text = (made_up / "cohort.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\((?!#)|@import|2024-02-05|/tmp|/home", text)
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_a_page_grows_by_a_few_kilobytes_per_patient(made_up, tmp_path):
    write_page(write_made_up(tmp_path, 16), tmp_path)
    large, small = ((folder / "cohort.html").stat().st_size for folder in (made_up, tmp_path))
    assert small + (large - small) / 48 * (500 - 16) < 3e6


def tables(part: Path) -> CohortTables:
    read = {
        name: pd.read_parquet(part / f"{name}.parquet")
        for name in ("bones", "indices", "quality", "concordance")
    }
    failures = pd.read_csv(part / "failures.csv", dtype=str, keep_default_na=False)
    return CohortTables(
        **read,
        agreement=pd.read_parquet(part / "tracer_agreement.parquet"),
        failures=failures,
        followup=pd.read_parquet(part / "followup.parquet"),
        comparisons=pd.read_parquet(part / "comparisons.parquet"),
        groups=dict(zip(read["indices"]["case"], read["indices"]["arm"], strict=True)),
    )


@pytest.mark.parametrize("name", [EVIL, "=1+1", "../../etc/passwd", "Ödegård, Åsa", "a b", "'\"&"])
def test_names_do_no_harm_wherever_they_stand(made_up, name):
    cohort = tables(made_up)
    case = str(cohort.quality["case"].iloc[0])
    every = {
        key: getattr(cohort, key).replace({case: name, "P002": name, "A": name})
        for key in ("bones", "indices", "quality", "concordance", "agreement", "followup", "comparisons")
    }
    for key in ("quality", "followup"):
        every[key]["note" if key == "quality" else "why"] = name
    failures = pd.DataFrame({"case": [name], "step": [name], "error": [name]})
    groups = {name if key == case else key: name for key in cohort.groups or {}}
    evil = replace(cohort, **every, failures=failures, groups=groups)
    text = render(evil, {"notes": [name], "options": {name: name}, "petbone": name})
    page = Page(text)
    plain = Page(render(cohort, {"notes": ["x"], "options": {"y": "y"}, "petbone": "0"}))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags} | {"ul", "li", "strong"}
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    links = [found for found in page.attributes("href") if not found.startswith("#")]
    assert all(re.fullmatch(r"cases/[^/]+/report\.html", found) for found in links)
    assert link(name) in links
    assert unquote(link(name)) == f"cases/{name}/report.html"
    assert link(name).count("/") == 2
    if name.startswith("Ö"):
        assert "cases/%C3%96deg%C3%A5rd%2C%20%C3%85sa/report.html" in links
        assert name in page.sections["failures"]
    assert "<img" not in text


def real(tmp_path: Path, *lines: str, head: str = HEAD) -> tuple[Path, Page]:
    for seed in range(2):
        write_scans(tmp_path / f"s{seed}", seed)
    make(write_table(tmp_path / "t.csv", *lines, head=head), tmp_path / "out")
    text = (tmp_path / "out/cohort.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    return tmp_path / "out", Page(text)


def test_one_case_in_one_tracer(tmp_path):
    output, page = real(tmp_path, line("Fall 1 ä", "s0"))
    assert page.sections["flow"].split()[0] == "1"
    assert "cases/Fall%201%20%C3%A4/report.html" in page.attributes("href")
    assert (output / unquote("cases/Fall%201%20%C3%A4/report.html")).exists()
    assert "tracer1" in page.sections
    assert "tracer2" not in page.sections
    assert "pairs" not in page.sections
    assert "No patient was examined twice" in page.sections["Who progressed"]


def test_two_tracers_are_compared(tmp_path):
    more = "s{0}/choline.nii.gz,choline,suv"
    output, page = real(
        tmp_path,
        *(f"{line(f'c{n}', f's{n}')},{more.format(n)}" for n in range(2)),
        head=f"{HEAD},pet2,tracer2,units2",
    )
    agreement = pd.read_csv(output / "tracer_agreement.csv")
    both = int(agreement["bones_both"].sum())
    first, second = (int(agreement[f"bones_{side}_only"].sum()) for side in ("first", "second"))
    neither = int(agreement["bones_neither"].sum())
    share = 100 * (both + neither) / (both + first + second + neither)
    assert f"{share:.1f} %" in page.sections["pairs"]
    assert f"both: {both} ({100 * both / (both + first + second):.0f} %)" in page.sections["pairs"]
    assert {"tracer1", "tracer2"} <= set(page.sections)


def test_all_failed(tmp_path):
    write_scans(tmp_path / "s0", 0)
    (tmp_path / "s0/naf.nii.gz").write_bytes(b"no image")
    make(write_table(tmp_path / "t.csv", line("a", "s0"), line("b", "s0")), tmp_path / "out")
    page = Page((tmp_path / "out/cohort.html").read_text(encoding="utf-8"))
    assert [int(n) for n in re.findall(r"\d+", page.sections["flow"])] == [2, 0, 2, 0, 0, 0]
    assert "No case is done" in page.sections["quality"]
    assert page.sections["failures"].count("read") == 2


def test_no_case_at_all():
    none = pd.DataFrame(
        columns=["case", "tracer", "index", "value", "unit", "note", "check", "verdict", "tracer_1"]
    )
    empty = CohortTables(none, none, none, none, none, pd.DataFrame(columns=["case", "step", "error"]))
    page = Page(render(empty, {}))
    assert [int(n) for n in re.findall(r"\d+", page.sections["flow"])] == [0] * 6


# The words


def follow(**cells: object) -> pd.DataFrame:
    row = {"patient": "p", "tracer": "naf", "case_1": "p1", "case_2": "p2", "days": 100, "against": "first"}
    return pd.DataFrame([row | {"course": "progressed", "why": "3 new hotspots"} | cells])


def test_a_patient_progressed_by_a_scan_not_to_be_trusted_is_said_so():
    verdicts = {"p1": ("ok", ""), "p2": ("bad", "the PET lies 20 mm off the CT")}
    top = headline(3, 1, verdicts, follow())
    assert top.sentences == (
        "3 cases: 2 done, 1 failed.",
        "By the checks of quality 1 of those done are to be trusted, 0 to be looked at, and 1 not to be "
        "trusted.",
        "Of 1 patient examined again 1 progressed in a comparison of two of their examinations.",
    )
    (found,) = top.progressed
    assert (found.name, found.href) == ("p", "cases/p2/report.html")
    assert found.why == "18F-NaF, 100 days after the first: 3 new hotspots"
    assert found.doubt == "p2: not to be trusted"
    assert not headline(3, 1, {}, follow(course="mixed")).progressed
    assert headline(3, 1, verdicts, None, 1).sentences[0] == "3 cases: 2 done (1 patient), 1 failed."
    both = pd.concat(
        [follow(), follow(tracer="choline", why="2 new hotspots"), follow(days=10, why="earlier")]
    )
    (found,) = headline(3, 1, {}, both.reset_index(drop=True)).progressed
    assert found.why == (
        "18F-NaF, 100 days after the first: 3 new hotspots; choline, 100 days after the first: 2 new hotspots"
    )
    undated = headline(3, 1, {}, follow(days=math.nan, against="previous")).progressed[0]
    assert undated.why == "18F-NaF, against the one before: 3 new hotspots"


# The figures


def test_a_comparison_has_a_page_where_it_was_made():
    assert compared({"case_1": "a/ä", "case_2": "b c", "rule": None}) == "cases/b%20c/report.html"
    found = compared({"case_1": "a/ä", "case_2": "b c", "rule": "PET15"})
    assert found == "followup/a%2F%C3%A4/b%20c/compare.html"


def test_a_patient_of_mixed_course_is_named_and_so_is_who_cannot_be_judged():
    table = pd.concat(
        [
            follow(course="mixed"),
            follow(patient="q"),
            follow(patient="q", course="mixed", against="previous"),
            follow(patient="r", course="not judged"),
            follow(patient="s", course="not judged"),
            follow(patient="s", tracer="choline", course="unchanged"),
        ],
        ignore_index=True,
    )
    top = headline(8, 0, {}, table)
    assert top.sentences[-1] == (
        "Of 4 patients examined again 1 progressed in a comparison of two of their examinations, "
        "1 had a mixed one, 1 could not be judged."
    )
    assert ([one.name for one in top.progressed], [one.name for one in top.mixed]) == (["q"], ["p"])


def test_who_progressed_in_between_is_told_with_the_last_examination():
    later = follow(days=200, case_2="p3", course="regressed")
    (found,) = headline(3, 0, {}, pd.concat([follow(), later], ignore_index=True)).progressed
    assert found.why == (
        "18F-NaF, 100 days after the first: 3 new hotspots; from the first examination to the last: regressed"
    )


def test_a_failed_case_is_neither_trusted_nor_linked_to():
    table = pd.concat([follow(case_1="x"), follow(case_2="x"), follow()], ignore_index=True)
    table = table.assign(rule=[None, None, "PET15"], total_tlu_g_1=1.0, total_tlu_g_2=2.0)
    (section,) = follow_sections(table, dict.fromkeys(("p1", "p2"), ("ok", "")))
    columns = [column.name for column in section.table.columns]
    told = [dict(zip(columns, row.cells, strict=True)) for row in section.table.rows]
    assert [row["scans"].text for row in told] == ["failed", "failed", "trust"]
    own = ["cases/p1/report.html", "cases/p2/report.html"]
    assert [[row[name].href for name in ("course", "case_1", "case_2")] for row in told] == [
        [own[1], "", own[1]],
        ["", own[0], ""],
        ["followup/p1/p2/compare.html", *own],
    ]


def test_a_case_without_a_patients_name_is_a_patient(made_up):
    given = tables(made_up)
    overall = given.quality[given.quality["check"] == "overall"]
    patients = overall["patient"].nunique()
    once = overall["patient"].value_counts()
    nameless = given.quality["patient"].isin(once.index[once == 1][:2])
    for nothing in ("", None):
        less = given.quality.assign(patient=given.quality["patient"].mask(nameless, nothing))
        assert f"done ({patients} patients)" in render(replace(given, quality=less), {})


def test_every_bone_has_an_outline_and_right_is_right():
    assert {outline.bone for view in views() for outline in view.outlines} == {bone.name for bone in BONES}
    front, back = views()

    def middle(view, bone):
        path = next(outline.path for outline in view.outlines if outline.bone == bone)
        numbers = np.array(re.findall(r"\d+", path), float).reshape(-1, 2)
        return numbers.mean(axis=0)

    for bone in ("rib_{}_7", "hip_{}", "femur_{}", "humerus_{}"):
        right, left = bone.format("right"), bone.format("left")
        assert middle(front, right)[0] < middle(front, left)[0]  # radiological, from the front
        assert middle(back, right)[0] > middle(back, left)[0]
    assert middle(front, "skull")[1] < middle(front, "L3")[1] < middle(front, "sacrum")[1]
    assert front.ends == ("R", "L")
    for view in views():
        for outline in view.outlines:
            x, y = np.array(re.findall(r"-?\d+", outline.path), float).reshape(-1, 2).T
            assert 0 <= x.min() <= x.max() <= view.width_mm
            assert 0 <= y.min() <= y.max() <= view.height_mm


def test_colours_of_bones_by_hand():
    found = heat_map(
        "t", "%", {"T1": 0.0, "T2": 1.0, "T3": 43.0, "T4": 48.0, "T5": 6.0, "T6": 6.1, "L1": None}, {}
    )
    # The widest round step of which eight reach 48 is 6.
    expected = {
        "T1": "h0",
        "T2": "h1",
        "T3": "h8",
        "T4": "h8",
        "T5": "h1",
        "T6": "h2",
        "L1": "hn",
        "L2": "hn",
    }
    assert {bone: found.css[bone] for bone in expected} == expected
    assert found.legend[1] == ("h1", "0–6")
    assert found.legend[-2:] == (("h8", "42–48 %"), ("hn", "not searched"))
    assert len(found.legend) == STEPS + 2
    nothing = heat_map("t", "%", {bone.name: 0.0 for bone in BONES}, {})
    assert nothing.legend == (("h0", "0"),)


def test_involvement_counts_those_that_searched_the_bone():
    def bone(case, volume, fraction, count, status="complete"):
        found = {"case": case, "name": "T1", "status": status, "hotspot_count": count, "suv_max": 20.0}
        return found | {"hotspot_volume_ml": volume, "hotspot_fraction": fraction}

    table = pd.DataFrame(
        [
            bone("a", 2.0, 0.1, 1),
            bone("b", 0.0, 0.0, 0),
            bone("c", 4.0, 0.3, 1),
            bone("d", None, None, None, "absent"),
            bone("e", None, None, None),  # seen, but its rule does not search it
        ]
    )
    found = involvement(table).set_index("name").loc["T1"]
    assert (found["searched"], found["hot"], found["volume_ml"]) == (3, 2, 3.0)
    assert found["often_percent"] == pytest.approx(200 / 3)
    assert found["much_percent"] == pytest.approx(20)


def test_bars_of_patients_fall_from_the_greatest_rise():
    uptake = [(10.0, 5.0), (0.0, 3.0), (4.0, 8.0), (0.0, 0.0), (2.0, 0.0), (None, 1.0), (10.0, 1000.0)]
    table = pd.concat([follow(patient=f"p{n}", course="mixed") for n in range(7)], ignore_index=True)
    table[["total_tlu_g_1", "total_tlu_g_2"]] = uptake
    table["total_limits"] = "0.70-1.44"
    (section,) = follow_sections(table, {})
    assert section.undrawn == 2
    assert section.figure is not None
    bars = section.figure.bars
    assert [bar.label for bar in bars] == ["p1", "p6", "p2", "p0", "p4"]
    assert [bar.value for bar in bars] == ["none before", "100.00", "2.00", "0.50", "none now"]
    assert section.figure.band is not None
    assert section.figure.band[2:] == ("1.44", "0.70")
    zero, top = section.figure.zero, section.figure.top
    assert (bars[0].y, bars[1].y) == (top, top)  # no ratio, and one beyond the axis, end with it
    assert bars[2].y + bars[2].height == pytest.approx(zero)
    assert bars[2].height == pytest.approx(bars[3].height)  # twice and half
    assert dict(section.counts)["mixed"] == 7
    other = table.assign(total_limits=["0.70-1.44", *["0.5-2"] * 6])
    assert follow_sections(other, {})[0].figure.band is None  # no limits that hold for all


def test_only_the_last_examination_against_the_first_is_drawn():
    rows = [
        {"days": 100, "total_tlu_g_1": 1.0, "total_tlu_g_2": 9.0},
        {"days": 200, "total_tlu_g_1": 1.0, "total_tlu_g_2": 2.0},
        {"days": 100, "total_tlu_g_1": 9.0, "total_tlu_g_2": 2.0, "against": "previous"},
    ]
    (section,) = follow_sections(pd.concat([follow(**row) for row in rows], ignore_index=True), {})
    assert section.figure is not None
    assert [bar.value for bar in section.figure.bars] == ["2.00"]
    assert len(section.table.rows) == 3


def test_two_tracers_without_any_bone_in_common_have_no_agreement():
    names = [column.name for column in AGREEMENT]
    row = dict.fromkeys(names, 0) | {"case": "a", "tracer_1": "naf", "tracer_2": "choline"}
    row |= dict.fromkeys(("agreement_percent", "positive_agreement", "dice", "suv_max_rho"), math.nan)
    bones = pd.DataFrame(columns=[column.name for column in CONCORDANCE])
    (section,) = pair_sections(pd.DataFrame([row]), bones)
    assert {card.title: card.value for card in section.cards}["bones judged alike"] == "–"
    assert section.charts == ()
    assert all(not parts for _, parts in section.bars)


def test_a_value_that_is_no_number_is_not_drawn():
    row = {"tracer": "naf", "index": "FTV10", "unit": "mL", "note": None}
    indices = pd.DataFrame(
        [row | {"case": c, "value": v} for c, v in (("a", 1.0), ("b", math.inf), ("c", None))]
    )
    bones = pd.DataFrame(columns=["case", "tracer", "name", "status", "hotspot_count", "hotspot_volume_ml"])
    section = tracer_section(1, "naf", (indices, bones.assign(hotspot_fraction=None, suv_max=None)), {})
    assert section.charts[0].boxes[0].note == "n 1, median 1"


def test_a_spread_has_a_place_for_0_and_its_quartiles_are_numpys():
    values = [0.0, 0.0, 0.1, 1.0, 10.0, 100.0]
    chart = spread_chart("FTV10", "mL", {"": [(f"c{n}", value) for n, value in enumerate(values)]})
    assert chart.title == "FTV10, mL (logarithmic)"
    (box,) = chart.boxes
    assert box.note == "n 6, median 0.55"
    assert [point.x == chart.zero for point in box.points] == [True, True, False, False, False, False]
    scale = Scale(0.1 / 1.1, 110.0, chart.left, chart.right, True)
    assert [point.x for point in box.points][2:] == pytest.approx([scale(value) for value in values[2:]])
    assert box.box is not None
    assert box.box[3] == pytest.approx(scale(np.percentile(values, 75)))
    assert box.points[5].title == "c5: 100 mL"
    narrow = spread_chart("SUV", "", {"A": [("a", 3.0)], "B": [("b", 4.0)]})
    assert (narrow.title, narrow.zero, len(narrow.boxes)) == ("SUV", None, 2)
    assert narrow.boxes[0].box is None
    assert spread_chart("x", "", {"": []}).boxes[0].note == "n 0"


def test_spreads_refuse_what_they_cannot_draw():
    with pytest.raises(ValueError, match="at least one group"):
        spread_chart("x", "", {})
    with pytest.raises(ValueError, match="finite"):
        spread_chart("x", "", {"": [("a", math.nan)]})


def test_ticks_of_many_decades_are_powers_of_ten():
    assert [word for _, word in Scale(0.01, 1000, 0, 1, True).ticks()] == [
        "0.01",
        "0.1",
        "1",
        "10",
        "100",
        "1000",
    ]
    assert [word for _, word in Scale(1, 100, 0, 1, True).ticks()] == ["1", "2", "5", "10", "20", "50", "100"]


def test_far_out_by_hand():
    values = [*np.exp(np.arange(1.0, 10)), math.exp(40.0), 0.0]
    table = pd.DataFrame({"case": [f"c{n}" for n in range(11)], "value": values})
    table = table.assign(tracer="naf", index="FTV10", unit="mL", note=None)
    other = table.assign(index="SUV3", note="Defined for psma, not for naf.")
    found = far_out(pd.concat([table, other]))
    # Logs 1 to 9 and 40: median 5.5, MAD 2.5.
    assert found["case"].tolist() == ["c9"]
    assert found["z"].iloc[0] == pytest.approx(0.6745 * 34.5 / 2.5)
    assert found["z"].iloc[0] > FAR
    assert found["median"].iloc[0] == pytest.approx((math.exp(5) + math.exp(6)) / 2)


def test_groups_have_intervals_in_one_cell_and_what_is_alike_is_told_once(made_up):
    (one,) = group_sections(pd.read_parquet(made_up / "comparisons.parquet"))
    assert one.by == "arm"
    assert one.groups == (("group 1", "A"), ("group 2", "B"))
    assert one.indices is not None
    titles = [column.title for column in one.indices.columns]
    assert "median: A" in titles
    assert not [title for title in titles if "low" in title or "high" in title]
    first = dict(zip(titles, one.indices.rows[0].cells, strict=True))
    assert first["p"].text == "< 0.001"
    assert re.fullmatch(r"[\d.]+ to [\d.]+", first["median: A"].more)
    assert one.bones is not None
    assert len(one.bones.rows) == 49
    assert one.noted[0] == "first examination of each patient; p not adjusted: indices are few"
    assert one.noted[1] == "first examination of each patient; p adjusted for 49 bones"
    assert "note" not in titles  # nothing is left of it
    table = pd.DataFrame({"measure": ["a", "b"], "note": ["x; y", "z; x"], "p": [0.5, None]})
    (one,) = group_sections(table)
    assert one.noted == ("x", "")
    assert [[cell.text for cell in row.cells] for row in one.indices.rows] == [
        ["a", "y", "0.500"],
        ["b", "z", "–"],
    ]
    untested = pd.DataFrame({"test": ["U", "U", None], "note": ["x; y", "x", "x; not tested"]})
    (one,) = group_sections(untested)
    assert one.noted[0] == "x"
    assert [row.cells[1].text for row in one.indices.rows] == ["y", "–", "x; not tested"]
    assert group_sections(None) == []


def test_a_defect_in_the_page_holds_no_table_back(tmp_path, monkeypatch):
    def broken(provenance, part):
        raise ZeroDivisionError

    table = CohortTable((), (), (), ())
    write_cohort(table, [], {}, tmp_path)
    assert (tmp_path / PAGE).exists()
    (tmp_path / "bones.csv").unlink()
    monkeypatch.setattr(cohort_results, "write_page", broken)
    with pytest.raises(ZeroDivisionError):
        write_cohort(table, [], {}, tmp_path)
    assert (tmp_path / "bones.csv").exists()
    assert not (tmp_path / PAGE).exists()
    assert not list(tmp_path.glob(".*"))
