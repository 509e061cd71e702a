"""Lesions found, missed and false: drawn by hand, by formula, against brute force, and turned every way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from petbone.detection import Criterion, Lesion, Patient, assign, compare_hotspots, lesions_in
from petbone.detection_figures import (
    CurvePoint,
    cohort_figures,
    froc,
    patient_figures,
    ratio_interval,
    sensitivity_at,
    wilson_interval,
)

NAN = float("nan")

# Reference and predicted beside each other, a voxel of 1 mL a sign; then what must be found:
# found, missed, false, split, merged, and the overlaps (IoU) of the found ones by reference number.
DRAWN = {
    "the same": ("11..2 11..2", (2, 0, 0, 0, 0), [1, 1]),
    "nothing in either": ("..... .....", (0, 0, 0, 0, 0), []),
    "all missed": ("11..2 .....", (0, 2, 0, 0, 0), []),
    "all false": ("..... 1.2.3", (0, 0, 3, 0, 0), []),
    "beside each other": ("11... ..11.", (0, 1, 1, 0, 0), []),
    "half of it": ("1111. ..111", (1, 0, 0, 0, 0), [2 / 5]),
    "too little of it": ("111111.........22 .....1111111111.2", (1, 1, 1, 0, 0), [1 / 2]),
    "in two parts": ("111111 111.22", (1, 0, 1, 1, 0), [3 / 6]),
    "two run together": ("111.22 111111", (1, 1, 0, 0, 1), [3 / 6]),
    # 1 with 1 alone would overlap more (4/6), but then 2 would find nothing: two pairs go before one.
    "as many pairs as can be": ("11111222 211111..", (2, 0, 0, 0, 0), [1 / 5, 1 / 7]),
}


def drawn(line: str) -> tuple[np.ndarray, np.ndarray]:
    """Both maps of a drawing, (n, 1, 1)."""
    one, two = (
        np.array([0 if sign == "." else int(sign) for sign in half], np.uint8)[:, None, None]
        for half in line.split()
    )
    return one, two


def counts(patient: Patient) -> tuple[int, ...]:
    figures = patient_figures(patient)
    return tuple(int(figures[name]) for name in ("found", "missed", "false", "split", "merged"))


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_cases(name: str):
    line, expected, overlaps = DRAWN[name]
    patient = compare_hotspots(name, *drawn(line), 1.0)
    assert counts(patient) == expected
    assert [one.overlap for one in patient.lesions if one.what == "found"] == overlaps


def test_all_drawn_cases_together():
    """Ten patients: 8 found, 5 missed, 6 false, of 13 reference lesions and 14 predicted ones."""
    patients = [compare_hotspots(name, *drawn(DRAWN[name][0]), 1.0) for name in DRAWN]
    figures = {one.name: one for one in cohort_figures(patients, Criterion(), 2)}
    expected = {
        "patients": 10,
        "unpaired": 2,
        "reference_lesions": 13,
        "predicted_lesions": 14,
        "found": 8,
        "missed": 5,
        "false": 6,
        "split": 1,
        "merged": 1,
        "sensitivity": 8 / 13,
        "precision": 8 / 14,
        "f1": 16 / 27,
        "sensitivity_with_merged": 9 / 13,
        "precision_without_split": 8 / 13,
        "false_positives_per_patient": 0.6,
        # Ill: all but "nothing" and "all false". Shown: all but "nothing" and "all missed".
        "patient_sensitivity": 7 / 8,
        "patient_sensitivity_located": 6 / 8,
        "patient_specificity": 1 / 2,
    }
    assert {name: figures[name].value for name in expected} == pytest.approx(expected, abs=1e-15)
    assert figures["sensitivity"].n == 13
    assert figures["sensitivity"].interval == wilson_interval(8, 13)
    low, high = figures["sensitivity"].bootstrap
    assert 0 < low < 8 / 13 < high < 1
    assert all(math.isfinite(one.value) and one.definition for one in figures.values())


def test_each_lesion_has_its_row():
    """A reference lesion in two parts, a false one far away, and SUVmax of all."""
    one, two = drawn("111111..... 111.22..333")
    suv = np.arange(1, 12, dtype=np.float32)[:, None, None]
    patient = compare_hotspots("a", one, two, 0.5, suv)
    expected = (
        Lesion("found", 1, 1, 0.5, 3.0, 1.5, 6.0, 3.0),
        Lesion("false", 0, 2, 1 / 3, NAN, 1.0, NAN, 6.0, "split", 1),
        Lesion("false", 0, 3, 0.0, NAN, 1.5, NAN, 11.0),
    )
    assert repr(patient.lesions) == repr(expected)  # NaN is not equal to itself
    assert [one.record for one in patient.lesions] == [
        (True, 3.0, 0.5),
        (False, 6.0, 1 / 3),
        (False, 11.0, 0),
    ]
    assert (patient.reference_ml, patient.predicted_ml, patient.shared_ml) == (3.0, 4.0, 2.5)


@pytest.mark.parametrize(
    ("criterion", "found"),
    [
        (Criterion("iou", 0.25), 1),
        (Criterion("iou", 0.26), 0),
        (Criterion("dice", 0.4), 1),
        (Criterion("dice", 0.41), 0),
        (Criterion("any", 1.0), 1),
    ],
)
def test_an_overlap_at_the_limit_is_enough(criterion: Criterion, found: int):
    """2 shared of 5 and 5: IoU 2/8, Dice 4/10."""
    patient = compare_hotspots("a", *drawn("11111... ...11111"), 1.0, None, criterion)
    assert counts(patient)[0] == found


def test_one_voxel_is_any_overlap_but_not_the_default():
    line = "1111111111......... .........1111111111"
    assert counts(compare_hotspots("a", *drawn(line), 1.0))[:3] == (0, 1, 1)
    assert counts(compare_hotspots("a", *drawn(line), 1.0, None, Criterion("any")))[:3] == (1, 0, 0)


# 2 mL count. Reference 1 (1 voxel) is ignored.
IGNORED = {
    "a predicted one that finds it is ignored, too": ("1... 1...", (0, 0, 0), (1, 1)),
    "and one that lies mostly in it": ("1... 11..", (0, 0, 0), (1, 1)),
    "nobody finds it": ("1... ..22", (0, 0, 1), (1, 0)),
    "a small predicted one beside it": ("1... ...2", (0, 0, 0), (1, 1)),
    "of the volume itself it counts": ("11.. ....", (0, 1, 0), (0, 0)),
    "a small predicted one that finds a counted one": ("11.. .2..", (1, 0, 0), (0, 0)),
    "a small piece of a found one": ("11111 111.2", (1, 0, 0), (0, 1)),
    "a counted lesion chooses first": ("122. 111.", (1, 0, 0), (1, 0)),
}


@pytest.mark.parametrize("name", IGNORED)
def test_lesions_below_the_minimal_volume(name: str):
    line, expected, ignored = IGNORED[name]
    patient = compare_hotspots(name, *drawn(line), 1.0, None, Criterion(min_volume_ml=2.0))
    figures = patient_figures(patient)
    assert counts(patient)[:3] == expected
    assert (figures["ignored_reference"], figures["ignored_predicted"]) == ignored


def test_all_that_overlap_an_ignored_lesion_enough_are_ignored():
    """One of two can be its partner; the other, a third of which lies in it, is not false for that."""
    patient = compare_hotspots("a", *drawn("..11.. 111222"), 1.0, None, Criterion(min_volume_ml=3.0))
    assert [(one.what, one.overlap) for one in patient.lesions] == [("ignored", 1 / 4)] * 2


def test_of_two_that_fit_equally_the_hotter_one_is_the_partner():
    suv = np.array([9, 9, 5, 5], np.float32)[:, None, None]
    for line in (".11. 1122", ".11. 2211"):
        for turn in (slice(None), slice(None, None, -1)):
            patient = compare_hotspots("a", *(one[turn] for one in drawn(line)), 1.0, suv[turn])
            assert [one.record for one in patient.lesions] == [(True, 9, 1 / 3), (False, 5, 1 / 3)]


def test_the_minimal_volume_is_met_in_spite_of_rounding():
    assert 3 * 0.7 < 2.1
    patient = compare_hotspots("a", *drawn("111 111"), 0.7, None, Criterion(min_volume_ml=2.1))
    assert counts(patient)[0] == 1


def test_what_has_no_value_is_as_in_the_table():
    for line, (sensitivity, precision, f1, false, dice, difference) in {
        "11 11": (1, 1, 1, 0, 1, 0),
        "11 ..": (0, NAN, 0, 0, 0, -2),
        ".. 11": (NAN, 0, 0, 1, 0, 2),
        ".. ..": (NAN, NAN, NAN, 0, NAN, 0),
    }.items():
        figures = patient_figures(compare_hotspots("a", *drawn(line), 1.0))
        names = ("sensitivity", "precision", "f1", "false", "dice", "volume_difference_ml")
        found = [figures[name] for name in names]
        np.testing.assert_equal(found, [sensitivity, precision, f1, false, dice, difference])


def brute_force(overlap: np.ndarray) -> tuple[int, float]:
    """Most pairs, and of those the largest sum, over all assignments."""
    n, m = overlap.shape
    best = (0, 0.0)
    for size in range(1, min(n, m) + 1):
        for rows in itertools.combinations(range(n), size):
            for columns in itertools.permutations(range(m), size):
                scores = overlap[rows, columns]
                if (scores > 0).all():
                    best = max(best, (size, float(scores.sum())))
    return best


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(0, 4), st.integers(0, 4)),
        elements=st.sampled_from([0, 0, 0.1, 0.25, 0.5, 1.0]),
    )
)
def test_assignment_is_the_best_of_all(overlap: np.ndarray):
    pairs = assign(overlap)
    assert len(set(pairs.values())) == len(pairs)
    assert (len(pairs), sum(overlap[i, j] for i, j in pairs.items())) == pytest.approx(brute_force(overlap))


def test_a_pair_more_goes_before_any_overlap():
    """Three pairs of 0.1 against two of 1.0: with 1 added to each the two would win (4.0 to 3.3)."""
    overlap = np.array([[0.1, 1.0, 0.0], [0.0, 0.1, 1.0], [0.0, 0.0, 0.1]])
    assert assign(overlap) == {0: 0, 1: 1, 2: 2}


maps = hnp.arrays(np.uint8, (5, 4, 2), elements=st.integers(0, 4))
suvs = hnp.arrays(np.float32, (5, 4, 2), elements=st.integers(1, 30))


def fingerprint(patient: Patient) -> list[tuple]:
    """All of a patient but the numbers of lesions."""
    names = ("what", "overlap", "reference_ml", "predicted_ml", "reference_suv_max", "predicted_suv_max")
    rows = [[getattr(one, name) for name in (*names, "relation")] for one in patient.lesions]
    return sorted(map(str, rows))


@settings(max_examples=100, deadline=None)
@given(maps, maps, suvs, st.permutations([11, 3, 7, 20]))
def test_numbers_do_not_matter(one, two, suv, numbers):
    renamed = np.array([0, *numbers], np.uint16)
    before = compare_hotspots("a", one, two, 1.0, suv)
    after = compare_hotspots("a", renamed[one], np.array([0, 4, 3, 2, 1])[two], 1.0, suv)
    assert fingerprint(before) == fingerprint(after)


@settings(max_examples=100, deadline=None)
@given(maps, maps, st.permutations([0, 1, 2]), st.lists(st.sampled_from([1, -1]), min_size=3, max_size=3))
def test_turning_both_changes_no_count(one, two, axes, signs):
    flip = tuple(slice(None, None, sign) for sign in signs)
    before = compare_hotspots("a", one, two, 1.0)
    after = compare_hotspots("a", one.transpose(axes)[flip], two.transpose(axes)[flip], 1.0)
    assert counts(before)[:3] == counts(after)[:3]
    overlaps = [sorted(one.overlap for one in p.lesions if one.what == "found") for p in (before, after)]
    assert sum(overlaps[0]) == pytest.approx(sum(overlaps[1]))


@settings(max_examples=100, deadline=None)
@given(maps, maps, st.sampled_from(["iou", "dice", "any"]), st.sampled_from([0.1, 0.3, 0.5]))
def test_sides_swapped_swap_sensitivity_and_precision(one, two, overlap, least):
    criterion = Criterion(overlap, least)
    forth, back = (
        patient_figures(compare_hotspots("a", *sides, 1.0, None, criterion))
        for sides in ((one, two), (two, one))
    )
    np.testing.assert_equal(
        [forth[name] for name in ("sensitivity", "precision", "f1", "missed", "dice")],
        [back[name] for name in ("precision", "sensitivity", "f1", "false", "dice")],
    )
    assert forth["volume_difference_ml"] == -back["volume_difference_ml"]


@settings(max_examples=100, deadline=None)
@given(maps, maps, st.sampled_from([0.0, 2.0, 5.0]))
def test_no_lesion_is_lost_or_counted_twice(one, two, min_volume_ml):
    patient = compare_hotspots("a", one, two, 1.0, None, Criterion(min_volume_ml=min_volume_ml))
    for labels, side in ((one, "reference"), (two, "predicted")):
        numbers = [getattr(lesion, side) for lesion in patient.lesions if getattr(lesion, side)]
        assert sorted(numbers) == np.unique(labels[labels > 0]).tolist()
        volume = sum(getattr(lesion, f"{side}_ml") for lesion in patient.lesions if getattr(lesion, side))
        assert volume == getattr(patient, f"{side}_ml")
    assert patient.count("missed") + patient.count("found") == sum(
        np.count_nonzero(one == n) >= max(min_volume_ml, 1) for n in range(1, 5)
    )


@settings(max_examples=60, deadline=None)
@given(maps, maps)
def test_a_stricter_criterion_finds_no_more(one, two):
    found = [
        counts(compare_hotspots("a", one, two, 1.0, None, criterion))[0]
        for criterion in (
            Criterion("any"),
            Criterion("iou", 0.1),
            Criterion("iou", 0.3),
            Criterion("iou", 0.8),
        )
    ]
    assert found == sorted(found, reverse=True)


def test_a_map_is_read_by_numbers_or_by_parts():
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = 1  # by a corner
    mask[4, 4, 4] = 1
    read = lesions_in(mask)
    assert (read.reading, int(read.numbers.max()), read.in_parts) == ("parts", 2, 0)
    assert (read.numbers > 0).tolist() == (mask > 0).tolist()
    read = lesions_in(mask, "numbers")
    assert (read.reading, int(read.numbers.max()), read.in_parts) == ("numbers", 1, 1)
    numbered = mask.copy()
    numbered[4, 4, 4] = 7
    read = lesions_in(numbered)
    assert (read.reading, np.unique(read.numbers).tolist(), read.in_parts) == ("numbers", [0, 1, 7], 0)
    assert int(lesions_in(numbered, "parts").numbers.max()) == 2
    assert lesions_in(mask > 0).reading == "parts"
    assert lesions_in(np.zeros((2, 2, 2), np.uint8)).reading == "parts"


@pytest.mark.parametrize(("part", "of"), [(0, 10), (1, 10), (7, 15), (10, 10), (81, 263), (1, 1)])
def test_wilson_is_that_of_scipy(part: int, of: int):
    from scipy import stats

    expected = stats.binomtest(part, of).proportion_ci(0.95, "wilson")
    assert wilson_interval(part, of) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_newcombe():
    """Newcombe, Stat Med 17, 1998, 857, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for part, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(part, of) == pytest.approx((low, high), abs=5e-5)
    assert all(map(math.isnan, wilson_interval(0, 0)))


def test_the_bootstrap_of_independent_lesions_is_that_of_the_binomial():
    """One lesion each in 200 patients, 140 found: percentiles of a binomial of 200 and 0.7."""
    from scipy import stats

    low, high = ratio_interval([1] * 140 + [0] * 60, [1] * 200)
    expected = stats.binom.ppf([0.025, 0.975], 200, 0.7) / 200
    assert (low, high) == pytest.approx(expected, abs=0.0051)


def test_the_bootstrap_is_wider_where_lesions_of_a_patient_go_together():
    found, of = np.repeat([10, 0], [14, 6]), np.full(20, 10)
    low, high = ratio_interval(found, of)
    alone = wilson_interval(140, 200)
    assert high - low > 2 * (alone[1] - alone[0])
    assert ratio_interval(found[::-1], of) == (low, high)


def test_no_interval_where_the_draws_say_nothing():
    assert all(map(math.isnan, ratio_interval([1, 2], [2, 2])))
    assert all(map(math.isnan, ratio_interval([2, 3, 4], [2, 3, 4])))
    assert all(map(math.isnan, ratio_interval([0, 0, 0], [0, 0, 0])))


def scored(found=(), missed=0, false=(), case="a") -> Patient:
    """A patient by the SUVmax of found and false lesions."""
    lesions = [Lesion("found", 1, 1, 0.5, predicted_suv_max=suv) for suv in found]
    lesions += [Lesion("missed", 1, 0, 0.0)] * missed
    lesions += [Lesion("false", 0, 1, 0.0, predicted_suv_max=suv) for suv in false]
    return Patient(case, tuple(lesions), 1.0, 1.0, 0.5)


def test_curve_by_hand():
    """4 lesions in 2 patients: found at 20, 12 and 8, one missed; false at 15, 8 and 5."""
    curve = froc([scored([20, 8], 1, [15]), scored([12], 0, [8, 5])])
    assert curve == [
        CurvePoint(20, 0.25, 0),
        CurvePoint(15, 0.25, 0.5),
        CurvePoint(12, 0.5, 0.5),
        CurvePoint(8, 0.75, 1.0),
        CurvePoint(5, 0.75, 1.5),
    ]
    assert [sensitivity_at(curve, rate) for rate in (0, 0.5, 0.99, 1, 8)] == [0.25, 0.5, 0.5, 0.75, 0.75]
    assert sensitivity_at([CurvePoint(9, 0.0, 1.0)], 0.5) == 0
    assert math.isnan(sensitivity_at([], 1))


def test_no_curve_without_confidence_or_without_a_lesion():
    assert froc([scored([NAN, 5])]) == []
    assert froc([scored([], 0, [5])]) == []
    assert froc([scored([], 2, [])]) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(maps, maps, suvs), min_size=1, max_size=3))
def test_the_curve_rises_to_the_figures_of_the_whole_map(cases):
    patients = [compare_hotspots(str(n), *case[:2], 1.0, case[2]) for n, case in enumerate(cases)]
    figures = {one.name: one.value for one in cohort_figures(patients, Criterion())}
    curve = froc(patients)
    if not curve:
        assert figures["reference_lesions"] == 0 or figures["predicted_lesions"] == 0
        return
    assert [p.sensitivity for p in curve] == sorted(p.sensitivity for p in curve)
    rates = [p.false_positives_per_patient for p in curve]
    assert rates == sorted(rates)
    assert curve[-1].sensitivity == figures["sensitivity"]
    assert curve[-1].false_positives_per_patient == pytest.approx(figures["false_positives_per_patient"])


def test_volumes_of_a_cohort():
    """Total volumes 10/12, 20/19, 5/5, 0/1 mL and one patient without any: bias (2 - 1 + 0 + 1) / 4."""
    volumes = [(10, 12, 9), (20, 19, 15), (5, 5, 5), (0, 1, 0), (0, 0, 0)]
    patients = [Patient(str(n), (), *map(float, one)) for n, one in enumerate(volumes)]
    figures = {one.name: one for one in cohort_figures(patients, Criterion())}
    assert figures["volume_bias_ml"].value == pytest.approx(0.5)
    assert figures["volume_bias_ml"].n == figures["dice_total"].n == figures["dice_median"].n == 4
    sd = np.std([2, -1, 0, 1], ddof=1)
    assert figures["volume_loa_high_ml"].value == pytest.approx(0.5 + 1.96 * sd)
    assert figures["volume_loa_low_ml"].value == pytest.approx(0.5 - 1.96 * sd)
    assert figures["dice_total"].value == pytest.approx(2 * 29 / 72)
    assert figures["dice_median"].value == pytest.approx(np.median([18 / 22, 30 / 39, 1, 0]))


def test_one_patient_has_figures_without_limits():
    figures = {
        one.name: one for one in cohort_figures([compare_hotspots("a", *drawn("11 11"), 1.0)], Criterion())
    }
    assert figures["sensitivity"].value == 1
    assert math.isnan(figures["volume_bias_ml"].value)
    assert all(map(math.isnan, figures["sensitivity"].bootstrap))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Criterion("jaccard"), "an overlap is one of iou, dice, any, got 'jaccard'"),
        (lambda: Criterion("iou", 0), "above 0 and at most 1, got 0"),
        (lambda: Criterion(min_volume_ml=-1), "0 mL or more, got -1"),
        (lambda: lesions_in(np.zeros((2, 2), np.uint8)), "3-D, of whole numbers from 0, got 2-D uint8"),
        (lambda: lesions_in(np.zeros((2, 2, 2))), "got 3-D float64"),
        (lambda: lesions_in(np.full((2, 2, 2), -1)), "whole numbers from 0"),
        (lambda: lesions_in(np.zeros((2, 2, 2), np.uint8), "blobs"), "auto, numbers, parts, got 'blobs'"),
        (
            lambda: compare_hotspots("a", np.zeros((2, 1, 1), int), np.zeros((3, 1, 1), int), 1.0),
            r"predicted is \(3, 1, 1\), not \(2, 1, 1\)",
        ),
        (
            lambda: compare_hotspots("a", *[np.zeros((2, 1, 1), int)] * 2, 1.0, np.zeros((1, 1, 1))),
            r"SUV is \(1, 1, 1\)",
        ),
        (lambda: compare_hotspots("a", *[np.zeros((2, 1, 1), int)] * 2, 0.0), "above 0 mL, got 0"),
        (lambda: assign([[1.5]]), "numbers from 0 to 1"),
        (lambda: assign([NAN]), "numbers from 0 to 1"),
        (lambda: wilson_interval(3, 2), "got 3 of 2"),
        (lambda: ratio_interval([1, NAN, 2], [1, 1, 2]), "finite numbers, two for each patient"),
        (lambda: ratio_interval([1, 2], [1]), "two for each patient"),
        (lambda: cohort_figures([], Criterion()), "at least one patient"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
