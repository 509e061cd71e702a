"""The page of a validation: figures at their places, words to be trusted, nothing that names or runs."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from conftest import affine
from petbone.bland_altman import proportional_bias
from petbone.metrics import Ruler
from petbone.report import box_chart, difference_plot, slices
from petbone.report.box_chart import DICE, HD95, box_charts, five_numbers
from petbone.report.scales import Scale
from petbone.report.validation import PLOTS_IN_SIGHT, called, render
from petbone.report.validation_words import headline
from petbone.volume import Grid
from test_report import Page
from validation_data import (
    ALL,
    FIVE,
    HOSTILE,
    NAN,
    agreement_table,
    overlap_table,
    paper_study,
    study_of,
    worst_case,
)  # fmt: skip

PROVENANCE = {
    "petbone": "9.8.7",
    "inputs": {"reference": [{"path": "/home/jane_doe/x.nii.gz", "sha256": "ab" * 32}]},
    "options": {"bones": "T7"},
}


def page_of(study, provenance=PROVENANCE) -> tuple[str, Page]:
    html = render(study, provenance)
    page = Page(html)
    attributes = " ".join(
        v for _, attrs in page.tags for k, v in attrs.items() if v and k not in ("class", "content")
    )
    for text in (page.words, re.sub(r"data:image/png;base64,\S+", "", attributes)):
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)
        assert "NaN" not in text
    return html, page


def centred(axes, spacing_mm, shape):
    """A grid whose middle is at 0 mm."""
    matrix = affine(axes, spacing_mm, (0.0, 0.0, 0.0))
    matrix[:3, 3] = -Grid(shape, matrix).mm((np.array(shape) - 1) / 2)
    return matrix


# Axes


@pytest.mark.parametrize("logarithmic", [False, True])
def test_an_axis_takes_its_ends_to_its_ends_and_holds_what_lies_beyond(logarithmic):
    axis = Scale(1.0, 100.0, 300.0, 20.0, logarithmic)
    assert (axis(1.0), axis(100.0), axis(1e9), axis(-5.0)) == (300.0, 20.0, 20.0, 300.0)
    assert axis(10.0 if logarithmic else 50.5) == pytest.approx(160.0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-21.3, 31.8), (0.83, 1.0), (-3e-4, 2e-4), (7.0, 4e5)])
def test_ticks_are_few_even_and_within(low, high):
    axis = Scale(low, high, 0.0, 1.0)
    values = [float(word.replace("−", "-")) for _, word in axis.ticks(6)]
    assert 2 <= len(values) <= 7
    assert all(low <= value <= high for value in values)
    assert np.allclose(np.diff(values), values[1] - values[0])
    assert [place for place, _ in axis.ticks(6)] == pytest.approx([axis(value) for value in values])


def test_ticks_of_decades():
    assert [word for _, word in Scale(0.9, 60.0, 0.0, 1.0, True).ticks()] == ["1", "2", "5", "10", "20", "50"]


@pytest.mark.parametrize(("low", "high", "logarithmic"), [(1, 1, False), (2, 1, False), (0, 1, True)])
def test_an_axis_that_does_not_rise_is_refused(low, high, logarithmic):
    with pytest.raises(ValueError, match="an axis rises"):
        Scale(low, high, 0.0, 1.0, logarithmic)


# Bland and Altman


def test_every_level_and_point_stands_at_its_value():
    """The axis is read back from its ticks; then bias, limits, bands and points must lie where they do."""
    study = paper_study()
    record = study.agreement.set_index("bone").loc["sacrum"]
    cases = study.overlap[study.overlap["bone"] == "sacrum"]
    plot = difference_plot.difference_plot("sacrum", cases, record.to_dict())
    ys, words = zip(*plot.y_ticks, strict=True)
    y_of = np.poly1d(np.polyfit([float(word.replace("−", "-")) for word in words], ys, 1))
    xs, words = zip(*plot.x_ticks, strict=True)
    x_of = np.poly1d(np.polyfit([float(word) for word in words], xs, 1))
    assert plot.zero == pytest.approx(y_of(0))
    levels = {level.kind: level for level in plot.levels}
    ends = {
        "bias": ("bias_ml", "bias_low_ml", "bias_high_ml"),
        "low": ("loa_low_ml", "loa_low_ci_low_ml", "loa_low_ci_high_ml"),
        "high": ("loa_high_ml", "loa_high_ci_low_ml", "loa_high_ci_high_ml"),
    }
    for kind, (value, low, high) in ends.items():
        assert levels[kind].y == pytest.approx(y_of(record[value]))
        assert levels[kind].band == pytest.approx((y_of(record[high]), y_of(record[low])))
    predicted, reference = cases["volume_predicted_ml"], cases["volume_reference_ml"]
    assert [point.y for point in plot.points] == pytest.approx(list(y_of(predicted - reference)))
    assert [point.x for point in plot.points] == pytest.approx(list(x_of((predicted + reference) / 2)))
    line = proportional_bias(predicted, reference)
    means = (predicted + reference) / 2
    x1, y1, x2, y2 = plot.trend
    for x, y, mean in ((x1, y1, means.min()), (x2, y2, means.max())):
        assert (x, y) == pytest.approx((x_of(mean), y_of(line.intercept + line.slope * mean)))


def test_a_slope_that_may_be_0_has_no_line():
    study = paper_study()
    for record in study.agreement.to_dict("records"):
        cases = study.overlap[study.overlap["bone"] == record["bone"]]
        plot = difference_plot.difference_plot(record["bone"], cases, record)
        sure = record["slope_low"] > 0 or record["slope_high"] < 0
        assert (plot.trend is not None) == sure == any("slope" in word for word in plot.words)


def test_what_one_mask_alone_has_is_a_mark_in_the_margin():
    overlap = overlap_table([f"c{n}" for n in range(9)], ("T7",), missed=((2, "T7"), (5, "T7")))
    overlap.loc[7, ["found", "volume_reference_ml"]] = ["extra", 0.0]
    record = agreement_table(overlap).to_dict("records")[0]
    plot = difference_plot.difference_plot("T7", overlap, record)
    assert (plot.n, len(plot.points), len(plot.missed), len(plot.extra)) == (6, 6, 2, 1)
    assert all(mark.y > plot.bottom for mark in plot.missed)
    assert all(mark.y < plot.top for mark in plot.extra)
    assert plot.missed[0].title.startswith("c2: missed, ")
    assert plot.words[0] == "n = 6, 2 missed, 1 extra"


@pytest.mark.parametrize("cases", [1, 2, 3])
def test_few_pairs_stay_inside_the_frame(cases):
    """The exact interval of two pairs is hundreds of times as wide as they lie apart."""
    overlap = overlap_table([f"c{n}" for n in range(cases)], ("L3",))
    plot = difference_plot.difference_plot("L3", overlap, agreement_table(overlap).to_dict("records")[0])
    assert len(plot.levels) == (1 if cases == 1 else 3)
    for level in plot.levels:
        assert plot.top <= level.y <= plot.bottom
        assert level.band is None or plot.top <= level.band[0] <= level.band[1] <= plot.bottom
    if cases > 1:
        heights = [point.y for point in plot.points]
        assert max(heights) - min(heights) > 25  # of 206: not pressed flat


def test_words_beside_levels_do_not_lie_on_each_other():
    overlap = overlap_table([f"c{n}" for n in range(9)], ("T7",))
    overlap.loc[3, "volume_predicted_ml"] = 900.0  # makes the others one line
    record = agreement_table(overlap).to_dict("records")[0]
    record |= {"bias_ml": 1.0, "loa_low_ml": 0.5, "loa_high_ml": 1.5}
    places = [level.text_y for level in difference_plot.difference_plot("T7", overlap, record).levels]
    assert min(np.diff(places)) >= difference_plot.LINE_HEIGHT


# Boxes


def test_a_box_is_numpys_percentiles_and_its_whiskers_are_tukeys():
    values = np.append(np.random.default_rng(3).normal(0.85, 0.03, 45), 0.3)
    low, first, middle, third, high = five_numbers(values)
    assert (first, middle, third) == tuple(np.percentile(values, (25, 50, 75)))
    fences = first - 1.5 * (third - first), third + 1.5 * (third - first)
    assert (low, high) == (values[values >= fences[0]].min(), values[values <= fences[1]].max())
    assert low > 0.3


def test_boxes_stand_at_their_values_and_missed_bones_are_crosses_at_0():
    study = paper_study()
    (chart,) = box_charts(study.overlap, FIVE, DICE)
    places, words = zip(*chart.ticks, strict=True)
    x_of = np.poly1d(np.polyfit([float(word) for word in words], places, 1))
    for bone, box in zip(FIVE, chart.boxes, strict=True):
        rows = study.overlap[study.overlap["bone"] == bone]
        assert box.name == bone
        assert box.box[1:4] == pytest.approx(list(x_of(np.percentile(rows["dice"], (25, 50, 75)))))
        assert box.median == pytest.approx(x_of(rows["dice"].median()))
        known = rows[rows["found"] == "both"]["dice"]
        assert [point.x for point in box.points] == pytest.approx(list(x_of(known)))
        assert [cross.x for cross in box.crosses] == [chart.zero] * (len(rows) - len(known))
        assert all(abs(point.y - box.y) <= box_chart.SPREAD / 2 for point in box.points)
    assert [len(box.crosses) for box in chart.boxes] == [1, 0, 0, 2, 0]
    assert chart.zero < chart.left
    assert chart.boxes[0].note == "n 46, 1 missed"


def test_a_missed_bone_has_no_distance_but_is_counted_beside():
    study = paper_study()
    (chart,) = box_charts(study.overlap, FIVE, HD95)
    assert all(box.crosses == () for box in chart.boxes)
    assert [box.note for box in chart.boxes[:2]] == ["n 45, 1 missed", "n 46"]
    assert chart.zero is None


def test_masks_that_do_not_meet_and_masks_that_are_the_same_stand_at_0():
    overlap = overlap_table([f"c{n}" for n in range(6)], ("T7",))
    overlap.loc[0, "dice"] = 0.0
    overlap.loc[1, "hd95_mm"] = 0.0
    for kind, row in ((DICE, 0), (HD95, 1)):
        (chart,) = box_charts(overlap, ("T7",), kind)
        assert chart.boxes[0].points[row].x == chart.zero
        assert sum(point.x == chart.zero for point in chart.boxes[0].points) == 1


def test_few_values_have_points_and_a_median_and_no_box():
    (chart,) = box_charts(overlap_table(["a", "b", "c"], ("T7",)), ("T7",), DICE)
    assert chart.boxes[0].box is None
    assert chart.boxes[0].median == sorted(point.x for point in chart.boxes[0].points)[1]


def test_many_bones_fill_several_charts_with_one_axis():
    charts = box_charts(overlap_table(["a", "b"], ALL), ALL, DICE)
    assert [box.name for chart in charts for box in chart.boxes] == list(ALL)
    assert len({(chart.left, chart.ticks[0][0], chart.ticks[-1]) for chart in charts}) == 1


# Slices


def test_pictures_pass_the_place_that_is_farthest_from_the_other_mask(axes):
    """The far side of the small ball, however the scan is stored: where and how far is known."""
    shape, spacing = (80, 76, 40), (1.0, 1.1, 2.0)
    worst = worst_case(centred(axes, spacing, shape), shape)
    drawn = slices.pictures_of(worst)
    x, y, z = drawn.place.mm
    assert x == pytest.approx(28, abs=1.6)
    assert abs(y) < 2.5
    assert abs(z) < 2.5
    assert drawn.place.distance_mm == pytest.approx(29 - 18, abs=1.6)
    for one in drawn.slices:
        # The place is in the prediction, so that its outline has points on both sides of it.
        points = outline_points(one.predicted) * one.half_mm
        assert (points.min(axis=0) < (one.u_mm, one.v_mm)).all()
        assert (points.max(axis=0) > (one.u_mm, one.v_mm)).all()
        assert 0 < one.u_mm < one.width_mm
        assert 0 < one.v_mm < one.height_mm
        assert one.image.startswith("data:image/png;base64,")
    axial = drawn.slices[0]
    assert axial.u_mm < axial.width_mm / 2  # the patient's right is on the left


def outline_points(path: str) -> np.ndarray:
    points = []
    for start, moves in re.findall(r"M(-?\d+ -?\d+)l([-\d ]*)z", path):
        first = np.array(start.split(), int)
        steps = np.array(moves.split(), int).reshape(-1, 2)
        points += [first, *(first + np.cumsum(steps, axis=0))]
    return np.array(points)


@pytest.mark.parametrize(("bump_mm", "sides"), [((0, 24, 0), "A H"), ((0, 0, 26), "A H"), ((-24, 0, 0), "L")])
def test_front_head_and_left_are_where_the_letters_say(axes, bump_mm, sides):
    shape = (80, 80, 80)
    worst = worst_case(centred(axes, (1.0, 1.0, 1.0), shape), shape, bump_mm=bump_mm)
    axial, coronal, sagittal = slices.pictures_of(worst).slices
    middle = [(one.u_mm / one.width_mm, one.v_mm / one.height_mm) for one in (axial, coronal, sagittal)]
    if bump_mm[1]:
        assert middle[0][1] < 0.45  # A is at the top of the axial one
        assert middle[2][0] < 0.45  # and at the left of the sagittal one
    elif bump_mm[2]:
        assert middle[1][1] < 0.45  # H is at the top
        assert middle[2][1] < 0.45
    else:
        assert middle[0][0] > 0.55  # L is on the right
        assert middle[1][0] > 0.55


def test_a_missed_bone_is_shown_through_its_middle_and_voxels_keep_their_proportions():
    shape = (60, 60, 20)
    worst = worst_case(centred(np.eye(3), (1.0, 1.0, 3.0), shape), shape, missed=True)
    drawn = slices.pictures_of(worst)
    assert np.isinf(drawn.place.distance_mm)
    assert np.linalg.norm(drawn.place.mm) < 2
    for one in drawn.slices:
        assert one.predicted == ""
        size_mm = np.ptp(outline_points(one.reference) * one.half_mm, axis=0)
        assert size_mm == pytest.approx([36, 36], abs=3.1)  # a ball is round


def test_masks_that_are_the_same_or_empty_have_a_place():
    grid = Grid((9, 9, 9), np.eye(4))
    mask = np.zeros(grid.shape, bool)
    empty = slices.place_of(mask, mask, grid)
    assert (empty.ijk, empty.distance_mm) == ((4, 4, 4), 0)
    mask[1:4, 1:4, 1:4] = True
    same = slices.place_of(mask, mask, grid)
    assert (same.ijk, same.distance_mm) == ((2, 2, 2), 0)


def test_an_outline_passes_the_middles_between_voxels_inside_and_outside():
    """One pixel at (row 0, column 2): its centre is at (5, 1) half pixels, its outline one half around it."""
    mask = np.zeros((2, 4), bool)
    mask[0, 2] = True
    points = {tuple(point) for point in outline_points(slices.outline(mask)).tolist()}
    assert points == {(4, 1), (6, 1), (5, 0), (5, 2)}
    assert slices.outline(np.zeros((2, 2), bool)) == ""


def test_a_page_of_eight_noisy_pictures_is_below_two_megabytes():
    shape = (200, 200, 120)
    one = worst_case(centred(np.eye(3), (0.35, 0.35, 0.6), shape), shape, noise=300.0)
    assert len(render(paper_study(worst=(one,) * 8), PROVENANCE)) < 2e6


# The page


def test_a_case_keeps_its_name_in_warnings_and_nothing_else_that_looks_like_a_path():
    names = ["2024-03-05", "2024-03-05_b", "scan.json"]
    warnings = (f"{', '.join(names)}: the same file", "/data/scan/x.nii is of 2021-01-02")
    _, page = page_of(study_of(overlap_table(names, ("T7",)), warnings=warnings))
    assert "2024-03-05, 2024-03-05_b, scan.json: the same file" in page.words
    assert "/data" not in page.words
    assert "2021-01" not in page.words


def test_differences_of_two_readings_say_their_number():
    study = paper_study(repeated=True)
    counts = {"n_repeat_predicted": 7, "n_repeat_reference": 12}
    _, page = page_of(replace(study, table=study.table.assign(**counts)))
    assert "1.8 n 7 6.0 n 12" in page.words


def test_equal_differences_are_not_called_too_few_pairs():
    overlap = overlap_table(["a", "b", "c"], ("T7",))
    overlap["volume_predicted_ml"] = overlap["volume_reference_ml"]
    text = " ".join(headline(study_of(overlap)))
    assert "Volumes: all differences are the same for T7." in text


def test_the_headline_is_computed():
    study = paper_study()
    agreement = study.agreement.set_index("bone")
    agreement["median_dice"] = [0.86, 0.85, 0.88, 0.84, 0.83]
    agreement.loc["T7", ["bias_ml", "bias_low_ml", "bias_high_ml"]] = 4.6, 3.1, 6.1
    agreement.loc["L3", ["bias_ml", "bias_low_ml", "bias_high_ml"]] = -2.25, -3.0, -1.5
    agreement.loc[["sacrum", "rib_left_7", "sternum"], "bias_low_ml"] = -1.0
    text = " ".join(headline(replace(study, agreement=agreement.reset_index()[study.agreement.columns])))
    assert text == (
        "46 cases, 5 bones. Median Dice 0.83 (sternum) to 0.88 (sacrum). Volumes: predicted is larger by "
        "4.6 mL (T7); predicted is smaller by 2.2 mL (L3); no bias is shown for sacrum, rib_left_7 and "
        "sternum (its interval holds 0). 3 of 230 bones of the reference were missed (T7 1 × and "
        "rib_left_7 2 ×)."
    )


def test_the_page_holds_every_piece_in_its_order():
    worst = worst_case(centred(np.eye(3), (1.0, 1.0, 2.0), (60, 60, 30)), (60, 60, 30))
    html, page = page_of(paper_study(worst=(worst,), repeated=True, warnings=("two cases have no partner",)))
    order = ["46 cases, 5 bones", "two cases have no partner", "The table of 2019", "Bland-Altman plots"]
    order += ["Overlap and borders", "Groups of bones", "Worst cases", "What is missing", "Definitions"]
    places = [
        page.words.index(words) if n < 2 else html.index(f"{words}</h") for n, words in enumerate(order)
    ]
    assert places[2:] == sorted(places[2:])
    row = page.row("sacrum")
    assert row[-5:] == ["284 (40)", "283 (26)", "0.88", "1", "3"]
    assert row[5:7] == ["1.8", "6.0"]
    assert html.count('aria-label="Bland-Altman plot of') == 5
    assert html.count("slice, ") == 3
    assert "No second reading was given" not in page.words
    assert "by surface elements; HD95, ASSD, surface Dice at 2 mm" in page.words
    assert "petbone 9.8.7" in page.words
    sortable = [attrs for tag, attrs in page.tags if tag == "table" and attrs.get("id")]
    assert {"volumes-table", "borders-table", "groups-table", "paper-table"} <= {a["id"] for a in sortable}


def test_figures_with_intervals_sort_by_the_figure():
    html, _ = page_of(paper_study())
    bias = paper_study().agreement["bias_ml"]
    for value in bias:
        assert f'data-sort="{float(value)!r}"' in html


def test_the_border_that_was_used_is_the_border_that_is_told():
    study = paper_study(ruler=Ruler((1.0, 1.0, 1.0), 3.0, "boundary voxels"))
    _, page = page_of(study)
    assert "MetricsReloaded" in page.words
    assert "within 3 mm" in page.words
    assert "DeepMind" not in page.words


def test_hostile_names_are_words_and_nothing_else():
    shape = (60, 60, 30)
    matrix = centred(np.eye(3), (1.0, 1.0, 2.0), shape)
    missed = tuple((n, "T7") for n in range(len(HOSTILE)))
    overlap = overlap_table(list(HOSTILE), ("T7", "L3"), missed=missed)
    worst = tuple(worst_case(matrix, shape, case=name) for name in HOSTILE)
    html, page = page_of(study_of(overlap, worst, warnings=("<b>bold</b> of /home/jane/x.nii.gz",)))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert HOSTILE[0] in page.words
    assert HOSTILE[1] in page.words
    assert "_long_" * 12 not in page.words
    assert "<b>bold</b> of [path]" in page.words
    assert "jane" not in html
    sources = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href") and v]
    assert all(source.startswith(("#", "data:image/png")) for source in sources)


def test_a_name_is_one_line_of_some_length():
    assert called("a\nb\tc\u202e") == "a b c"
    assert called("") == "–"
    name = called("x" * 100 + "end")
    assert name.endswith("end")
    assert len(name) < 70
    assert called("sub-20190304_ct") == "sub-20190304_ct"  # the user pairs by it


def test_provenance_shows_hashes_and_no_path():
    html, page = page_of(paper_study())
    assert "ab" * 32 in page.words
    assert "jane_doe" not in html


def test_one_case_says_that_it_judges_nothing():
    html, page = page_of(study_of(overlap_table(["only"], FIVE)), {})
    assert "No bone has two pairs of volumes, so there are no limits of agreement to draw" in page.words
    assert "Bland-Altman plot of" not in html
    assert page.words.startswith("Validation of segmentations – petbone")
    assert "1 case, 5 bones." in page.words
    assert "too few pairs to judge T7, L3, sacrum, rib_left_7 and sternum" in page.words
    _, page = page_of(study_of(overlap_table(["only"], ALL)), {})
    assert "widest limits of" not in page.words


def test_all_bones_show_one_of_each_group_and_open_the_others():
    study = study_of(overlap_table(["a", "b", "c"], ALL, missed=((0, "C1"), (1, "C1"), (2, "C1"))))
    html, page = page_of(study)
    assert len(ALL) > PLOTS_IN_SIGHT
    plots = re.findall(r'aria-label="Bland-Altman plot of (\w+):', html)
    assert sorted(plots) == sorted(ALL)
    in_sight = re.findall(r"plot of (\w+):", re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL))
    assert (
        len(in_sight)
        == study.overlap["bone"].map(lambda b: b in in_sight).groupby(study.overlap["bone"]).first().sum()
        < 10
    )
    ribs = study.agreement[study.agreement["bone"].str.startswith("rib")].set_index("bone")
    widest = (ribs["loa_high_percent"] - ribs["loa_low_percent"]).idxmax()
    assert widest in in_sight
    assert "3 of 186 bones of the reference were missed (C1 3 ×)" in page.words


def test_bones_in_neither_mask_are_named_and_not_drawn():
    overlap = overlap_table(["a", "b", "c"], ("T7", "C1"))
    values = [name for name in overlap.columns if name not in ("case", "bone", "found", "note")]
    overlap.loc[overlap["bone"] == "C1", values] = NAN
    overlap.loc[overlap["bone"] == "C1", "found"] = "neither"
    html, page = page_of(study_of(overlap))
    assert "in neither mask of any case: C1" in page.words
    assert html.count('aria-label="Bland-Altman plot of') == 1
    assert "3 are in neither mask" in page.words


def test_a_study_of_nothing_is_a_page():
    overlap = overlap_table(["a"], ("T7",)).assign(found="neither")
    values = [name for name in overlap.columns if name not in ("case", "bone", "found", "note")]
    overlap[values] = NAN
    missing = pd.DataFrame([["a", "T7", "both", "bone"]] * 20, columns=["case", "bone", "side", "what"])
    _, page = page_of(study_of(overlap, missing=missing), {})
    assert "No mask holds any of the bones" in page.words
    assert "20 files and bones that are not there" in page.words


def test_the_same_study_gives_the_same_page():
    assert render(paper_study(), PROVENANCE) == render(paper_study(), PROVENANCE)
