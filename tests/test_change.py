"""What has changed, by arithmetic: classes at the limits, families, places that one date did not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import rotation
from petbone import change
from petbone.anatomy import BY_NAME
from petbone.bone_motion import BoneMotion
from petbone.change import Side, bone_changes, counts, hotspot_changes, index_changes, total_changes
from petbone.change_words import FLARE, headline, remarks
from petbone.matching import COLUMNS as MATCH_COLUMNS
from petbone.misnamed import noted
from petbone.repeatability import Limits, published_limits

LIN = published_limits()["naf"]
Spot = tuple[float, float, float]
"""Volume in mL, SUVmean, SUVmax."""


def side(spots: list[Spot], **there: dict[int, Any]) -> Side:
    """Hotspots 1, 2, ... in L3, their places seen by the other date but for what `there` says by number."""
    table = pd.DataFrame(
        [
            {
                "hotspot": n,
                "bone": "L3",
                "volume_ml": ml,
                "suv_mean": mean,
                "suv_max": top,
                "tlu_g": ml * mean,
            }
            for n, (ml, mean, top) in enumerate(spots, 1)
        ],
        columns=["hotspot", "bone", "volume_ml", "suv_mean", "suv_max", "tlu_g"],
    )
    places = pd.DataFrame(
        {"bone_there": True, "way_known": True, "seen_there": 1.0, "suv_max_there": 5.0},
        index=range(1, len(spots) + 1),
    )
    for column, values in there.items():
        for number, value in values.items():
            places.loc[number, column] = value
    return Side(table, places.reset_index(drop=True))


def matches(*rows: tuple[str, int | None, int | None]) -> pd.DataFrame:
    table = pd.DataFrame(
        [
            {"relation": relation, "hotspot_1": one, "hotspot_2": two, "overlap": 0.5, "distance_mm": 2.0}
            | {"bone_1": None if one is None else "L3", "bone_2": None if two is None else "L3"}
            for relation, one, two in rows
        ],
        columns=MATCH_COLUMNS,
    )
    return table.astype({"hotspot_1": "Int64", "hotspot_2": "Int64"})


@pytest.mark.parametrize("which", [1, 2])
def test_a_pair_whose_bone_one_date_did_not_see(which: int):
    """It is judged where bones nearby lead from one to the other, and not where nothing does."""
    spots: list[Spot] = [(5, 20, 30)]
    there, lost = {"bone_there": {1: False}, "way_known": {1: False}}, {"way_known": {1: False}}
    away = side(spots, **there), side(spots, **lost)
    first, second = away if which == 1 else away[::-1]
    (row,) = hotspot_changes(matches(("matched", 1, 1)), first, second, LIN).to_dict("records")
    assert not row["both_seen"]
    assert row["change"] is None
    word = "second" if which == 1 else "first"
    assert row["note"] == f"its bone was not seen at the {word} date, nor one near it: not judged"
    totals = total_changes(hotspot_changes(matches(("matched", 1, 1)), first, second), first, second)
    assert (totals["note"] == "without 2 at places that one of the dates did not see").all()
    led = side(spots, bone_there={1: False}), side(spots)
    first, second = led if which == 1 else led[::-1]
    (row,) = hotspot_changes(matches(("matched", 1, 1)), first, second, LIN).to_dict("records")
    assert (row["change"], row["both_seen"]) == ("stable", True)


def test_gone_and_new_that_are_perhaps_one_focus():
    """They stay gone and new in the table, and count as neither."""
    rows = [("first only", n, None) for n in (1, 2)] + [("second only", None, n) for n in (1, 2, 3)]
    spots: list[Spot] = [(5, 20, 30)] * 3
    plain = hotspot_changes(matches(*rows), side(spots[:2]), side(spots), LIN)
    table = noted(plain, [(2, 1)])
    doubtful = table[table.perhaps_same.notna()]
    assert doubtful.change.tolist() == ["new", "gone"]
    assert doubtful.perhaps_same.tolist() == [2, 1]
    first, second = doubtful.note
    assert first.startswith("perhaps the same focus as hotspot 2 of the first date")
    assert second.startswith("perhaps the same focus as hotspot 1 of the second date")
    number = counts(table)
    assert (number["new"], number["gone"], number["perhaps same"]) == (2, 1, 1)
    said = remarks("psma", table, None, {})
    assert any(line.startswith("2 new hotspots. PCWG3") for line in said)
    assert any(line.startswith("1 pair of a hotspot of the first date alone") for line in said)
    lead = headline("naf", table, total_changes(table, side(spots[:2]), side(spots)))
    assert "2 new, 1 gone. 1 gone and new in one place, perhaps the same under two names." in lead
    said = remarks("psma", noted(plain, [(2, 1), (1, 2)]), None, {})
    assert not any("PCWG3" in line for line in said)
    assert any(line.startswith("2 pairs of") for line in said)


def one_pair(before: Spot, after: Spot, limits: Limits | None = LIN) -> dict[str, Any]:
    table = hotspot_changes(matches(("matched", 1, 1)), side([before]), side([after]), limits)
    assert list(table.columns) == change.HOTSPOT_COLUMNS
    (row,) = table.to_dict("records")
    return row


@pytest.mark.parametrize(
    ("ratio", "found"),
    [
        (1.0, "stable"),
        (1.71, "stable"),
        (1.7101, "grown"),
        (0.63, "stable"),
        (0.6299, "shrunk"),
        (3, "grown"),
    ],
)
def test_classes_are_past_the_limits_and_not_at_them(ratio, found):
    """Uptake changes by the volume; SUVs stay."""
    row = one_pair((10.0, 20.0, 30.0), (10.0 * ratio, 20.0, 30.0))
    assert row["change"] == found
    assert row["tlu_ratio"] == pytest.approx(ratio, rel=1e-12)
    assert row["volume_ratio"] == pytest.approx(ratio, rel=1e-12)
    assert (row["suv_max_change"], row["suv_mean_change"]) == ("within", "within")


@pytest.mark.parametrize(
    ("after", "top", "mean"),
    [
        ((10, 20, 30 * 1.32), "within", "within"),
        ((10, 20, 30 * 1.33), "up", "within"),
        ((10, 20, 30 * 0.76), "within", "within"),
        ((10, 20, 30 * 0.75), "down", "within"),
        ((10, 20 * 1.14, 30), "within", "within"),
        ((10, 20 * 1.15, 30), "within", "up"),
        ((10, 20 * 0.88, 30), "within", "within"),
        ((10, 20 * 0.87, 30), "within", "down"),
    ],
)
def test_suv_has_verdicts_of_its_own(after, top, mean):
    """A rise of 15 % is nothing for SUVmax and much for SUVmean; neither is the class."""
    row = one_pair((10, 20, 30), after)
    assert row["change"] == "stable"
    assert (row["suv_max_change"], row["suv_mean_change"]) == (top, mean)


def test_without_limits_nothing_is_judged():
    row = one_pair((10, 20, 30), (50, 20, 30), None)
    assert row["tlu_ratio"] == 5
    assert pd.isna(row["change"])
    assert pd.isna(row["suv_max_change"])
    assert pd.isna(row["limits_hold"])
    # Limits of some measures judge these alone.
    row = one_pair((10, 20, 30), (50, 20, 60), Limits("psma", lesion={"suv_max": (0.5, 1.5)}))
    assert pd.isna(row["change"])
    assert row["suv_max_change"] == "up"


@pytest.mark.parametrize(
    ("before", "after", "hold"), [(1.6, 1.6, True), (1.5, 4, False), (4, 1.5, False), (1.51, 1.51, True)]
)
def test_lesions_smaller_than_those_behind_the_limits_are_told(before, after, hold):
    row = one_pair((before, 20, 30), (after, 20, 30))
    assert row["limits_hold"] == hold
    assert pd.isna(row["note"]) == hold
    if not hold:
        assert "1.5 mL" in row["note"]


def test_a_focus_that_falls_into_two_has_not_shrunk():
    """60 + 40 of what was 100 is 100; the part has a row of its own and no ratio."""
    first, second = side([(5, 20, 40)]), side([(3, 20, 40), (2, 20, 30)])
    table = hotspot_changes(matches(("matched", 1, 1), ("split", 1, 2)), first, second, LIN)
    whole, part = table.to_dict("records")
    assert (whole["change"], whole["parts_2"], whole["hotspot_2"]) == ("stable", "2", 1)
    assert pd.isna(whole["parts_1"])
    assert (whole["tlu_g_1"], whole["tlu_g_2"], whole["volume_ml_2"], whole["suv_max_2"]) == (100, 100, 5, 40)
    assert whole["tlu_ratio"] == whole["suv_mean_ratio"] == 1
    assert (part["change"], part["hotspot_1"], part["hotspot_2"], part["tlu_g_2"]) == ("split", 1, 2, 40)
    assert pd.isna(part["tlu_ratio"])
    assert pd.isna(part["tlu_g_1"])
    # Seen from the other end it is a merge, and the ratios are the inverse.
    back = hotspot_changes(matches(("matched", 1, 1), ("merged", 2, 1)), second, first, LIN)
    whole, part = back.to_dict("records")
    assert (whole["change"], whole["parts_1"], whole["tlu_ratio"]) == ("stable", "2", 1)
    assert (part["change"], part["hotspot_1"], part["tlu_g_1"]) == ("merged", 2, 40)


def test_the_highest_of_a_family_and_its_mean():
    """SUVmax is the highest of the parts, SUVmean is weighted by volume."""
    second = side([(2, 10, 15), (6, 30, 50)])
    table = hotspot_changes(matches(("matched", 1, 1), ("split", 1, 2)), side([(8, 25, 50)]), second, LIN)
    row = table.iloc[0]
    assert row.suv_max_2 == 50
    assert row.suv_mean_2 == (2 * 10 + 6 * 30) / 8
    assert row.tlu_g_2 == 200


def test_a_hotspot_that_is_given_to_another_bone_is_told():
    pair = matches(("matched", 1, 1)).assign(bone_2="L4")
    table = hotspot_changes(pair, side([(5, 20, 30)]), side([(5, 20, 30)]), LIN)
    assert table.note[0] == "in L3 at the first date, in L4 at the second"
    assert table.change[0] == "stable"


def test_new_and_gone_and_where_nobody_looked():
    first = side([(5, 20, 30), (5, 20, 30), (5, 20, 30)], bone_there={2: False}, seen_there={3: 0.49})
    second = side([(4, 20, 30), (4, 20, 30), (4, 20, 30)], bone_there={2: False}, seen_there={3: 0.5})
    alone = [("first only", n, None) for n in (1, 2, 3)] + [("second only", None, n) for n in (1, 2, 3)]
    table = hotspot_changes(matches(*alone), first, second, LIN)
    found = {
        (r.hotspot_1, r.hotspot_2): r.change
        for r in table.fillna({"hotspot_1": 0, "hotspot_2": 0}).itertuples()
    }
    assert found == {
        (1, 0): "gone",
        (2, 0): "not seen in the second",
        (3, 0): "not seen in the second",
        (0, 1): "new",
        (0, 2): "not seen in the first",
        (0, 3): "new",  # half of it was in the field
    }
    notes = table.set_index(table["hotspot_1"].fillna(0))["note"]
    assert notes[2] == "its bone was not seen there"
    assert notes[3] == "lies outside its field of view"
    assert counts(table) == {
        "new": 2, "grown": 0, "stable": 0, "shrunk": 0, "gone": 1, "split": 0, "merged": 0,
        "not seen in the first": 1, "not seen in the second": 2, "not judged": 0, "perhaps same": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("there", "word"), [(14.5, "within"), (10, "up"), (16 / 1.32, "within"), (40, "down")]
)
def test_a_new_hotspot_that_only_crossed_the_threshold(there, word):
    """SUVmax 16 where there was 14.5 is new by the rule and no change by the limits."""
    second = side([(4, 15, 16)], suv_max_there={1: there})
    (row,) = hotspot_changes(matches(("second only", None, 1)), side([]), second, LIN).to_dict("records")
    assert row["change"] == "new"
    assert row["suv_max_there"] == there
    assert row["suv_max_ratio"] == pytest.approx(16 / there)
    assert row["suv_max_change"] == word
    assert ("crossed the threshold only" in str(row["note"])) == (word == "within")
    first = side([(4, 15, 16)], suv_max_there={1: there})
    (row,) = hotspot_changes(matches(("first only", 1, None)), first, side([]), LIN).to_dict("records")
    assert row["change"] == "gone"
    assert row["suv_max_ratio"] == pytest.approx(there / 16)


def test_a_place_without_uptake_or_motion_gives_no_ratio():
    second = side([(4, 15, 16), (4, 15, 16)], suv_max_there={1: 0.0, 2: np.nan}, seen_there={2: np.nan})
    table = hotspot_changes(
        matches(("second only", None, 1), ("second only", None, 2)), side([]), second, LIN
    )
    assert table.change.tolist() == ["new", "new"]
    assert table.suv_max_ratio.isna().all()
    assert table.suv_max_change.isna().all()


@pytest.mark.parametrize(("which", "said"), [("first", "second"), ("second", "first")])
@pytest.mark.parametrize("relation", ["matched", "part"])
def test_what_the_field_cuts_is_not_judged(which, said, relation):
    """A pair, or a family of which a part is cut: three quarters of it were seen at the other date."""
    number = 1 if relation == "matched" else 2
    spots = [(5.0, 20.0, 30.0), (1.0, 20.0, 30.0)]
    cut, whole = side(spots, seen_there={number: 0.75}), side(spots)
    if which == "first":
        pairs, first, second = matches(("matched", 1, 1), ("merged", 2, 1)), cut, whole
    else:
        pairs, first, second = matches(("matched", 1, 1), ("split", 1, 2)), whole, cut
    table = hotspot_changes(pairs, first, second, LIN)
    row = table[table.relation == "matched"].iloc[0]
    assert pd.isna(row.change)
    assert not row.both_seen
    assert row.seen_there == 0.75
    assert row.note.startswith(f"reaches out of what the {said} date saw")
    assert row.tlu_ratio == pytest.approx(5 / 6 if which == "first" else 6 / 5)
    assert table.both_seen.tolist() == [False, False]
    assert counts(table)["not judged"] == 1
    seen = side(spots, seen_there={number: 0.9})
    again = hotspot_changes(pairs, *((seen, whole) if which == "first" else (whole, seen)), LIN)
    assert again[again.relation == "matched"].change.item() == "stable"


def test_order_of_the_rows():
    first = side([(5, 20, 30)] * 5)
    second = side([(1, 20, 30), (20, 20, 30), (5, 20, 30), (10, 20, 30), (5, 20, 30)])
    pairs = matches(
        ("first only", 5, None), ("second only", None, 5), *(("matched", n, n) for n in (1, 2, 3, 4))
    )
    table = hotspot_changes(pairs, first, second, LIN)
    assert table.change.tolist() == ["new", "grown", "grown", "stable", "shrunk", "gone"]
    assert table.tlu_ratio.tolist()[1:5] == [4, 2, 1, 0.2]


def test_the_same_date_twice_is_stable():
    spots = [(5.0, 20.0, 30.0), (2.0, 16.0, 18.0)]
    table = hotspot_changes(matches(("matched", 1, 1), ("matched", 2, 2)), side(spots), side(spots), LIN)
    assert table.change.tolist() == ["stable", "stable"]
    assert (table[["tlu_ratio", "volume_ratio", "suv_max_ratio", "suv_mean_ratio"]] == 1).all().all()
    totals = total_changes(table, side(spots), side(spots), LIN).set_index("index")
    assert (totals.ratio == 1).all()
    assert totals.verdict.tolist() == ["within"] * 3 + ["no limits"] * 2


def test_nothing_at_either_date():
    table = hotspot_changes(matches(), side([]), side([]), LIN)
    assert table.empty
    assert list(table.columns) == change.HOTSPOT_COLUMNS
    totals = total_changes(table, side([]), side([]), LIN).set_index("index")
    assert totals.value_1["hotspots_tlu_g"] == totals.value_2["hotspots_count"] == 0
    assert totals.ratio.isna().all()
    assert pd.isna(totals.value_1["hotspots_suv_max"])  # of nothing there is no highest
    assert pd.isna(totals.verdict["hotspots_tlu_g"])
    assert "0 hotspots at both dates. 0 new, 0 gone." in headline("naf", table, totals.reset_index())


@pytest.mark.parametrize(
    ("ratio", "found"), [(1.44, "within"), (1.45, "up"), (0.70, "within"), (0.69, "down"), (1.0, "within")]
)
def test_all_hotspots_by_the_limits_of_a_patient(ratio, found):
    """Narrower than those of a lesion: 1.45 is within 1.71 and past 1.44."""
    first, second = side([(10, 20, 30)]), side([(10 * ratio, 20, 30)])
    table = hotspot_changes(matches(("matched", 1, 1)), first, second, LIN)
    assert table.change[0] == "stable"
    totals = total_changes(table, first, second, LIN).set_index("index")
    assert list(totals.reset_index().columns) == change.INDEX_COLUMNS
    assert totals.verdict["hotspots_tlu_g"] == found
    assert totals.limits["hotspots_tlu_g"] == "0.70-1.44"
    assert totals.verdict["hotspots_volume_ml"] == "no limits"
    assert totals.difference["hotspots_volume_ml"] == pytest.approx(10 * ratio - 10)
    without = total_changes(table, first, second).set_index("index")
    assert set(without.verdict) == {"no limits"}


def test_all_hotspots_leave_out_what_one_date_did_not_see():
    """New ones, gone ones and parts count; what lies outside the other field does not, nor what it cuts."""
    first = side([(5, 20, 30), (5, 20, 30), (5, 10, 99)], seen_there={3: 0.0})
    second = side([(4, 20, 30), (1, 20, 30), (7, 20, 60), (9, 9, 99)], bone_there={4: False})
    pairs = matches(
        ("matched", 1, 1), ("split", 1, 2), ("first only", 2, None), ("first only", 3, None),
        ("second only", None, 3), ("second only", None, 4),
    )  # fmt: skip
    table = hotspot_changes(pairs, first, second, LIN)
    totals = total_changes(table, first, second, LIN).set_index("index")
    assert totals.value_1.tolist() == [200, 30, 20, 10, 2]
    assert totals.value_2.tolist() == [240, 60, 20, 12, 3]
    assert totals.ratio["hotspots_tlu_g"] == 1.2
    assert totals.note["hotspots_tlu_g"] == "without 2 at places that one of the dates did not see"


def index_row(name: str, value: float | None, unit: str = "mL", **more: Any) -> dict[str, Any]:
    row = {"index": name, "value": value, "unit": unit, "denominator_seen_fraction": 1.0, "threshold": 15.0}
    return row | {"operator": ">=", "connectivity": 26, "min_volume_ml": 0.0, "bones": "skeleton_49"} | more


def index_pair(one: dict[str, Any], two: dict[str, Any], limits: Limits | None = LIN) -> dict[str, Any]:
    table = index_changes(pd.DataFrame([one]), pd.DataFrame([two]), limits)
    assert list(table.columns) == change.INDEX_COLUMNS
    (row,) = table.to_dict("records")
    return row


@pytest.mark.parametrize(
    ("name", "unit", "values", "found"),
    [
        ("TLF10", "g", (100, 144), "within"),
        ("TLF10", "g", (100, 144.1), "up"),
        ("TLF10", "g", (100, 70), "within"),
        ("TLF10", "g", (100, 69.9), "down"),
        ("FTV10", "mL", (100, 500), "no limits"),
        ("PET15", "%", (1, 5), "no limits"),
        ("skeletal_suv_max", "g/mL", (50, 63), "within"),
        ("skeletal_suv_max", "g/mL", (50, 64), "up"),
        ("skeletal_suv_mean", "g/mL", (1, 9), "no limits"),
    ],
)
def test_indices_have_the_limits_of_what_they_are(name, unit, values, found):
    row = index_pair(*(index_row(name, value, unit) for value in values))
    assert row["verdict"] == found
    assert row["ratio"] == pytest.approx(values[1] / values[0])
    assert row["difference"] == pytest.approx(values[1] - values[0])
    assert index_pair(*(index_row(name, value, unit) for value in values), None)["verdict"] == "no limits"


def test_indices_that_do_not_compare():
    same = index_row("TLF10", 100, "g")
    row = index_pair(same, index_row("TLF10", 300, "g", denominator_seen_fraction=0.7))
    assert row["verdict"] == "not comparable"
    assert (row["seen_1"], row["seen_2"]) == (1, 0.7)
    assert "1.00 and 0.70 were seen" in row["note"]
    assert index_pair(same, same | {"value": 300, "denominator_seen_fraction": 0.985})["verdict"] == "up"
    row = index_pair(same, same | {"threshold": 10.0})
    assert row["verdict"] == "not comparable"
    assert "threshold 15.0 and 10.0" in row["note"]


def test_an_index_of_one_date_or_without_a_value():
    one = pd.DataFrame([index_row("B", 1), index_row("A", 2, "g"), index_row("zero", 0, "g")])
    two = pd.DataFrame([index_row("A", None, "g"), index_row("C", 3), index_row("zero", 5, "g")])
    table = index_changes(one, two, LIN)
    assert table["index"].tolist() == ["B", "A", "zero", "C"]
    assert table.ratio.isna().all()
    assert table.verdict.isna().all()  # no ratio to what was nothing, either
    assert table.difference.fillna(-1).tolist() == [-1, -1, 5, -1]


def bone_row(name: str, status: str = "complete", seen: float | None = 1.0, **more: Any) -> dict[str, Any]:
    row = {"id": BY_NAME[name].id, "name": name, "status": status, "seen_fraction": seen, "suv_mean": 4.0}
    row |= {"suv_max": 20.0, "hotspot_count": 1, "hotspot_volume_ml": 2.0, "hotspot_tlu_g": 40.0}
    return row | dict.fromkeys(list(row)[4:]) | more if status == "absent" else row | more


def test_bones():
    first = pd.DataFrame([bone_row("L3"), bone_row("T7", "absent", None), bone_row("skull", "absent", None)])
    second = pd.DataFrame(
        [
            bone_row("L3", suv_mean=5.0, hotspot_volume_ml=3.0, hotspot_tlu_g=90.0, hotspot_count=2),
            bone_row("T7", "cut", 0.4),
            bone_row("skull", "absent", None),
            bone_row("L6"),
        ]
    )
    table = bone_changes(first, second).set_index("name")
    assert list(table.reset_index().columns) == ["name", "id", *change.BONE_COLUMNS[2:]]
    row = table.loc["L3"]
    assert (row.suv_mean_ratio, row.hotspot_volume_change_ml, row.hotspot_tlu_change_g) == (1.25, 1, 50)
    assert (row.hotspot_count_1, row.hotspot_count_2) == (1, 2)
    assert table.note.fillna("").to_dict() == {
        "T7": "not seen in the first", "L3": "", "skull": "", "L6": "not seen in the first",
    }  # fmt: skip
    assert table.loc[["T7", "skull", "L6"], ["suv_mean_ratio", "hotspot_volume_change_ml"]].isna().all().all()
    assert table.status_1["L6"] == "absent"


def test_a_bone_of_which_other_parts_were_seen():
    first, second = pd.DataFrame([bone_row("L3", "cut", 0.5)]), pd.DataFrame([bone_row("L3")])
    assert "(0.50 and 1.00)" in bone_changes(first, second).note[0]
    assert "(1.00 and 0.50)" in bone_changes(second, first).note[0]
    assert bone_changes(second, second).note.isna().all()


def test_motions():
    """A turn of 17 degrees about the middle of a bone moves the middle by the shift alone."""
    middle, shift = np.array([10.0, -20.0, 300.0]), np.array([3.0, -4.0, 12.0])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(17)
    matrix[:3, 3] = middle + shift - matrix[:3, :3] @ middle
    motions = {
        15: BoneMotion(matrix, 5.0, 0.5, True, ""),
        1: BoneMotion(np.eye(4), 0.5, 0.5, False, "too little of it was seen"),
    }
    table = change.motion_table(motions, {15: middle})
    assert list(table.columns) == change.MOTION_COLUMNS
    assert table.name.tolist() == ["T1", "L3"]
    row = table.loc[1]
    assert row.translation_mm == pytest.approx(13)
    assert [row.x_mm, row.y_mm, row.z_mm] == pytest.approx(shift)
    assert row.rotation_deg == pytest.approx(17)
    assert (row.surface_before_mm, row.surface_after_mm, row.own) == (5, 0.5, True)
    assert table.rotation_deg[0] == 0
    assert pd.isna(table.translation_mm[0])  # its middle is not known
    assert table.note[0] == "too little of it was seen"


@pytest.mark.parametrize("degrees", [0, 1e-6, 0.01, 90, 179])
def test_small_and_large_turns(degrees):
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees)
    table = change.motion_table({1: BoneMotion(matrix, 0, 0, True, "")}, {})
    assert table.rotation_deg[0] == pytest.approx(degrees, rel=1e-6, abs=1e-9)


RULE = {"name": "PET15", "threshold": 15.0, "method": "fixed", "split": 0.0}


def said(changes: pd.DataFrame, limits: Limits | None = LIN, tracer: str = "naf", **rule: Any) -> str:
    return "\n".join(remarks(tracer, changes, limits, RULE | rule))


def test_remarks_state_and_do_not_judge():
    second = side([(4, 20, 30)] * 2, suv_max_there={2: 29.0})
    two_new = hotspot_changes(
        matches(("second only", None, 1), ("second only", None, 2)), side([]), second, LIN
    )
    text = said(two_new)
    assert "2 new hotspots. PCWG3 counts two or more new lesions" in text
    assert "at least 6 weeks later" in text
    assert "no verdict" in text
    assert "progress" not in text.lower()
    assert "1 of the new and gone hotspots may have crossed the threshold only" in text
    assert FLARE in text
    assert "Lin et al. 2016" in text
    assert "outlined at" not in text
    one_new = hotspot_changes(matches(("second only", None, 1)), side([]), side([(4, 20, 30)]), LIN)
    assert "PCWG3" not in said(one_new)


@pytest.mark.parametrize("rule", [{"threshold": 10.0}, {"method": "a50"}, {"split": 0.3}])
def test_hotspots_by_another_rule_than_the_limits_are_told(rule):
    pair = hotspot_changes(matches(("matched", 1, 1)), side([(4, 20, 30)]), side([(4, 20, 30)]), LIN)
    assert "lesions outlined at SUV 15; these hotspots are by PET15" in said(pair, **rule)
    assert "outlined" not in said(pair)


def test_without_limits_the_page_says_so():
    pair = hotspot_changes(matches(("matched", 1, 1)), side([(4, 20, 30)]), side([(9, 20, 30)]))
    text = said(pair, None, "choline")
    assert "No limits of repeatability are known for the tracer 'choline'" in text
    assert "Flare" not in text
    totals = total_changes(pair, side([(4, 20, 30)]), side([(9, 20, 30)]))
    line = headline("choline", pair, totals)
    assert "80 g, then 180 g (× 2.25, not judged: no limits are known)" in line
    assert "1 hotspot at both dates: 1 not judged" in line


def test_the_first_line_in_words_and_numbers():
    first = side([(5, 20, 30), (5, 20, 30), (5, 20, 30)], bone_there={3: False})
    second = side([(15, 20, 30), (5, 20, 30)])
    pairs = matches(
        ("matched", 1, 1), ("first only", 2, None), ("first only", 3, None), ("second only", None, 2)
    )
    table = hotspot_changes(pairs, first, second, LIN)
    assert headline("18F-NaF", table, total_changes(table, first, second, LIN)) == (
        "18F-NaF: total uptake of all hotspots 200 g, then 400 g (× 2.00, past the limits of repeatability "
        "0.70-1.44: a rise). 1 hotspot at both dates: 1 grown. 1 new, 1 gone. 1 where one of the dates did "
        "not look."
    )
