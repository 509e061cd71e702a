"""Two tracers together: their tables by arithmetic on blocks, and the figure of them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from conftest import HandMade
from petbone.anatomy import ALL_BONES, BY_NAME, LOW_CONFIDENCE
from petbone.bone_motion import BoneMotion
from petbone.case import CaseResult
from petbone.followup import AGREEMENT_COLUMNS, Together, hotspot_matches, together
from petbone.report import tables
from petbone.report.case import pages
from petbone.report.tracers import bone_chart, relation_of, said
from petbone.volume import Grid, Volume
from test_followup import result
from test_report import HOSTILE, Page

SVG = "{http://www.w3.org/2000/svg}"


def naf(patient: HandMade) -> np.ndarray:
    """100 voxels of T7 and 50 of L3."""
    return patient.pet.data


def choline(patient: HandMade) -> np.ndarray:
    """64 voxels of T7 that NaF shows as well, and 27 of the sacrum."""
    suv = np.where(patient.pet.data >= 12, 5, patient.pet.data).astype(np.float32)
    suv[4:8, 3:7, 3:7] = 16
    suv[28:31, 4:7, 4:7] = 11
    return suv


def cold(patient: HandMade) -> np.ndarray:
    return np.minimum(patient.pet.data, 5).astype(np.float32)


def case_of(patient: HandMade, **suv: np.ndarray) -> CaseResult:
    pets = tuple(result(patient, tracer, values) for tracer, values in suv.items())
    pets = tuple(
        replace(pet, index_table=pd.DataFrame({"index": ["PET15"], "value": [1.0], "unit": ["%"]}))
        for pet in pets
    )
    return CaseResult(None, patient.bones, pets, (), {"petbone": "0.1.0"})


@pytest.fixture
def both(hand_made: HandMade) -> CaseResult:
    return case_of(hand_made, naf=naf(hand_made), choline=choline(hand_made))


def test_agreement_by_arithmetic(both: CaseResult, hand_made: HandMade):
    table = together(both).agreement
    assert list(table.columns) == AGREEMENT_COLUMNS
    row = table.iloc[0]
    ml = hand_made.voxel_ml
    assert (row.tracer_1, row.tracer_2, row.hotspots_1, row.hotspots_2) == ("naf", "choline", 2, 2)
    assert (row.matched, row.split, row.merged, row.both_1, row.both_2) == (1, 0, 0, 1, 1)
    assert (row.first_only, row.second_only, row.first_unseen, row.second_unseen) == (1, 1, 0, 0)
    volumes = [row.both_ml_1, row.both_ml_2, row.first_only_ml, row.second_only_ml]
    assert volumes == pytest.approx([100 * ml, 64 * ml, 50 * ml, 27 * ml], rel=1e-3)
    # T7 in both, L3 and the sacrum in one, the rib in neither.
    bones = [row.bones_both, row.bones_first_only, row.bones_second_only, row.bones_neither]
    assert (row.bones_compared, bones) == (4, [1, 1, 1, 1])
    assert (row.agreement_percent, row.kappa, row.positive_agreement) == (50, 0, 0.5)
    assert row.dice == pytest.approx(2 * 64 / (150 + 91), rel=1e-6)
    assert row.suv_max_pairs == 1
    assert pd.isna(row.suv_max_rho)


def test_a_split_counts_as_both(hand_made: HandMade):
    parted = np.where(hand_made.pet.data == 12, 5, hand_made.pet.data).astype(np.float32)
    parted[6, 3:8, 3:7] = 5
    row = together(case_of(hand_made, naf=naf(hand_made), psma=parted)).agreement.iloc[0]
    assert (row.matched, row.split, row.both_1, row.both_2, row.first_only) == (1, 1, 1, 2, 1)
    back = together(case_of(hand_made, psma=parted, naf=naf(hand_made))).agreement.iloc[0]
    assert (back.matched, back.merged, back.both_1, back.both_2, back.second_only) == (1, 1, 2, 1, 1)
    for name in ("dice", "kappa", "agreement_percent"):
        assert back[name] == pytest.approx(row[name])


def test_the_same_twice(hand_made: HandMade):
    row = together(case_of(hand_made, naf=naf(hand_made), choline=naf(hand_made))).agreement.iloc[0]
    assert (row.dice, row.kappa, row.agreement_percent) == (pytest.approx(1), 1, 100)
    assert pd.isna(row.kappa_low)
    assert (row.first_only, row.second_only) == (0, 0)


@pytest.mark.parametrize("swapped", [False, True])
def test_one_tracer_shows_nothing(hand_made: HandMade, swapped: bool):
    images = {"naf": naf(hand_made), "choline": cold(hand_made)}
    if swapped:
        images = {"choline": images["choline"], "naf": images["naf"]}
    case = case_of(hand_made, **images)
    row = together(case).agreement.iloc[0]
    assert [row.first_only, row.second_only] == ([0, 2] if swapped else [2, 0])
    assert (row.kappa, row.positive_agreement, row.dice, row.suv_max_pairs) == (0, 0, 0, 0)
    figure = drawn(case)
    assert "NaF only" in " ".join(figure.itertext())


def test_nothing_in_either(hand_made: HandMade):
    case = case_of(hand_made, naf=cold(hand_made), choline=cold(hand_made))
    told = together(case)
    row = told.agreement.iloc[0]
    assert told.matches.empty
    assert (row.bones_neither, row.agreement_percent, row.negative_agreement) == (4, 100, 1)
    assert row[["kappa", "kappa_se", "kappa_low", "kappa_high", "positive_agreement", "dice"]].isna().all()
    words = " ".join(drawn(case).itertext())
    assert "Neither tracer has a hotspot" in words
    assert "Kappa has no value" in words
    assert "nan" not in words.lower().replace("naf", "")
    Page(pages(case).report)


def test_three_tracers_are_three_pairs(hand_made: HandMade):
    case = case_of(hand_made, naf=naf(hand_made), choline=choline(hand_made), psma=cold(hand_made))
    told = together(case)
    pairs = [("naf", "choline"), ("naf", "psma"), ("choline", "psma")]
    assert list(zip(told.agreement.tracer_1, told.agreement.tracer_2, strict=True)) == pairs
    assert told.agreement.first_only.tolist() == [1, 2, 2]
    assert told.matches.groupby(["tracer_1", "tracer_2"]).ngroups == 3
    pd.testing.assert_frame_equal(hotspot_matches(case), told.matches)
    figure = drawn(case)
    titles = [text.text for text in figure.iter(f"{SVG}text") if text.get("font-size") == "18"]
    assert titles == ["18F-NaF and choline", "18F-NaF and PSMA", "choline and PSMA"]
    ids = [element.get("id") for element in figure.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    page = Page(pages(case).report)
    assert {"pair1", "pair2", "pair3"} <= {a.get("id") for tag, a in page.tags if tag == "section"}


def test_two_are_needed(hand_made: HandMade):
    with pytest.raises(ValueError, match="two by two, got 1"):
        together(case_of(hand_made, naf=naf(hand_made)))
    assert pages(case_of(hand_made, naf=naf(hand_made))).concordance is None


def test_what_the_other_rule_does_not_search_is_no_disagreement(both: CaseResult):
    """Choline's rule without L3: NaF's hotspot there is unseen, and the bone is not compared."""
    one, two = both.pets
    bones = two.bone_table.copy()
    bones.loc[bones.name == "L3", ["hotspot_count", "hotspot_volume_ml"]] = None
    case = replace(both, pets=(one, replace(two, bone_table=bones)))
    told = together(case)
    row = told.agreement.iloc[0]
    assert (row.first_only, row.first_unseen, row.bones_compared, row.bones_first_only) == (0, 1, 3, 0)
    assert row.dice == pytest.approx(2 * 64 / (100 + 91), rel=1e-6)
    assert relation_of(told.matches, 1) == {1: "both", 2: "unseen"}
    assert "not searched" in " ".join(drawn(case).itertext())


def test_what_the_other_field_does_not_hold_is_no_disagreement(both: CaseResult):
    """A field that ends in the middle of L3's hotspot's place is asked by voxels, not by bones."""
    one, two = both.pets
    upper = two.suv.cropped((slice(0, 17), slice(None), slice(None)))
    spots = two.hotspots.cropped((slice(0, 17), slice(None), slice(None)))
    table = two.hotspot_table[two.hotspot_table.bone == "T7"]
    numbers = spots.with_data(np.where(spots.data > 0, 1, 0).astype(spots.data.dtype))
    small = replace(two, suv=upper, hotspots=numbers, hotspot_table=table.assign(hotspot=1))
    row = together(replace(both, pets=(one, small))).agreement.iloc[0]
    assert (row.first_only, row.first_unseen) == (0, 1)  # a row of 5, and one at the rim
    assert together(replace(both, pets=(small, one))).agreement.iloc[0].second_unseen == 1


def test_flags_are_counted(both: CaseResult):
    one, two = both.pets
    flagged = two.hotspot_table.assign(
        flags=["spill-in from liver: x" if bone == "sacrum" else None for bone in two.hotspot_table.bone]
    )
    row = together(replace(both, pets=(one, replace(two, hotspot_table=flagged)))).agreement.iloc[0]
    assert (row.second_only_flagged, row.first_only_flagged) == (1, 0)


def drawn(case: CaseResult) -> ET.Element:
    """The figure as strict XML, complete in itself."""
    text = pages(case).concordance
    assert text is not None
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        assert element.tag.removeprefix(SVG) not in ("script", "foreignObject", "style", "a")
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            if "href" in name:
                assert value.startswith("data:image/png;base64,")
            urls = re.findall(r"url\((.*?)\)", value)
            assert all(url.startswith("#") for url in urls)
    return root


def test_the_figure_has_the_numbers_of_the_tables(both: CaseResult):
    figure = drawn(both)
    words = [text.text for text in figure.iter(f"{SVG}text")]
    assert {"8.00 mL", "5.12 mL", "4.00 mL", "2.16 mL"} <= set(words)
    assert {"T7", "L3", "sacrum"} <= set(words)
    assert "rib_left_7" not in words
    assert [words.index(bone) for bone in ("T7", "L3", "sacrum")] == sorted(
        words.index(bone) for bone in ("T7", "L3", "sacrum")
    )
    assert sum(word in ("1", "2") for word in words) >= 4  # numbers of two hotspots on either body
    assert any("Kappa 0.00" in (word or "") for word in words)
    colours = {element.get("fill") for element in figure.iter(f"{SVG}rect")}
    assert {"#009e73", "#0072b2", "#d55e00"} <= colours


def test_the_page_shows_it_too(both: CaseResult):
    page = Page(pages(both).report)
    assert page.row("18F-NaF only")[:3] == ["18F-NaF only", "2", "–"]
    assert page.row("choline only")[-1] == "looked"
    assert "Tracers together" in page.words
    assert any(a.get("class") == "bones-chart" for tag, a in page.tags if tag == "svg")
    images = {a["id"] for tag, a in page.tags if tag == "image"}
    used = {(a.get("href") or "").lstrip("#") for tag, a in page.tags if tag == "use"}
    assert used <= images
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))


def test_names_that_are_unsure_are_nowhere_sure(both: CaseResult):
    """Unsure in the second examination alone: the bone's row is of both, so it is withheld in both."""
    one, two = both.pets
    t7 = BY_NAME["T7"].id
    doubt = two.bone_table.assign(
        name_confidence=np.where(two.bone_table.name == "T7", LOW_CONFIDENCE - 0.1, 0.99)
    )
    other = CaseResult(
        None, both.bones, (replace(two, bone_table=doubt),), (), {}, candidates={t7: (t7, BY_NAME["T6"].id)}
    )
    motions = {n: BoneMotion(np.eye(4), 0.0, 0.0, True, "") for n in range(1, 67)}
    case = replace(both, pets=(one,), second=other, motions=motions)
    assert tables.unsure_in_either(case) == {t7: (t7, BY_NAME["T6"].id)}
    words = [text.text for text in drawn(case).iter(f"{SVG}text")]
    assert "T6-T7" in words
    assert "T7" not in words
    report = pages(case).report
    part = report[
        report.index('id="matches"') : report.index('id="definitions"')
        if 'id="definitions"' in report
        else None
    ]
    assert ">T7<" not in part
    assert "T6-T7" in part


def test_hostile_words_stay_words(both: CaseResult):
    one, two = both.pets
    case = replace(both, pets=(one, replace(two, tracer=HOSTILE)))
    drawn(case)
    Page(pages(case).report)
    assert "<script>alert" not in (pages(case).concordance or "")


def test_every_bone_has_its_place_and_its_side(both: CaseResult):
    """All bones at once: the chart has each once, head to feet, bars in the order of their volumes."""
    bones = pd.DataFrame(
        [
            {"name": bone.name, "pet_volume_ml": 50.0, "hotspot_volume_ml": float(bone.id)}
            for bone in ALL_BONES
        ]
    )
    chart = bone_chart((bones, bones.assign(hotspot_volume_ml=0.0)), str)
    assert chart is not None
    names = [row.name for row in chart.rows]
    assert sorted(names) == sorted(bone.name for bone in ALL_BONES)
    assert names[0] == "skull"
    assert names[-1].startswith("femur")
    width = {row.name: row.bars[0].width for row in chart.rows}
    assert width["femur_right"] / width["T10"] == pytest.approx(62 / 10)
    assert all(row.bars[1].width == 0 and row.bars[1].value == "none" for row in chart.rows)
    assert all(row.bars[0].css == "first" for row in chart.rows)
    assert all(bar.x >= 0 and bar.x + bar.width <= chart.width for row in chart.rows for bar in row.bars)
    assert all(a.y < b.y for a, b in zip(chart.rows, chart.rows[1:], strict=False))


def test_a_bone_that_one_did_not_see_is_hatched():
    one = pd.DataFrame(
        {"name": ["L3", "T7"], "pet_volume_ml": [50.0, None], "hotspot_volume_ml": [2.0, None]}
    )
    two = pd.DataFrame(
        {"name": ["L3", "T7"], "pet_volume_ml": [50.0, 40.0], "hotspot_volume_ml": [None, 3.0]}
    )
    chart = bone_chart((one, two), str)
    assert chart is not None
    t7, l3 = chart.rows
    assert [(bar.value, bar.hatched, bar.css) for bar in t7.bars] == [
        ("not seen", True, "unseen"), ("3.00 mL", False, "unseen"),
    ]  # fmt: skip
    assert [bar.value for bar in l3.bars] == ["2.00 mL", "not searched"]


def test_sentences(both: CaseResult):
    record = together(both).agreement.to_dict("records")[0]
    words = said(record, ("NaF", "choline"))
    assert words[0] == (
        "Hotspots: in both 1 of 2 and 1 of 2 (1 matched one to one); NaF only 1 (4.00 mL), choline only 1 "
        "(2.16 mL)."
    )
    assert "in neither 1; agreement 50 %" in words[1]
    record |= {"kappa_low": float("nan"), "first_unseen": 2, "first_unseen_ml": 3.0, "split": 1}
    words = said(record, ("NaF", "choline"))
    assert "1 split" in words[0]
    assert "where the other PET did not look: 2 of NaF (3.00 mL)." in words[0]


def test_a_moved_second_day_on_another_grid(both: CaseResult):
    """The header of the second day turned and shifted, with the motion known: nothing changes."""
    matrix = np.eye(4)
    angle = np.radians(20)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = 30, -20, 50
    one, two = both.pets

    def moved(volume: Volume) -> Volume:
        return Volume(volume.data, Grid(volume.grid.shape, matrix @ volume.grid.mm_from_ijk), volume.unit)

    there = replace(two, suv=moved(two.suv), hotspots=moved(two.hotspots))
    second = CaseResult(None, moved(both.bones), (there,), (), {})
    motions = {n: BoneMotion(matrix, 0.0, 0.0, True, "") for n in range(1, 67)}
    found: list[Together] = [together(both)]
    # Three tracers, two of them of the second day: those two lie in one frame.
    third = replace(two, tracer="psma")
    three = together(replace(both, pets=(one, two, third)))
    days = CaseResult(None, moved(both.bones), (there, replace(there, tracer="psma")), (), {})
    found.append(together(replace(both, pets=(one,), second=second, motions=motions)))
    pd.testing.assert_frame_equal(found[0].matches, found[1].matches, rtol=0, atol=1e-6)
    pd.testing.assert_frame_equal(found[0].agreement, found[1].agreement, rtol=1e-6)
    apart = together(replace(both, pets=(one,), second=days, motions=motions))
    pd.testing.assert_frame_equal(three.matches, apart.matches, rtol=0, atol=1e-6)
    pd.testing.assert_frame_equal(three.agreement, apart.agreement, rtol=1e-6)
    assert apart.agreement.dice.iloc[2] == pytest.approx(1)
