"""The bone scan index's weights, and estimates for what was not seen: arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from petbone.anatomy import ALL_BONES, BONES, BY_NAME, SKELETON_49, STANDARD_VOLUME_ML
from petbone.burden import BONE_COLUMNS, region_table
from petbone.completeness import Seen
from petbone.hotspots import HotspotRule
from petbone.indices import BONE_SETS, index_table, parse_indices
from petbone.resample import Occupancy
from petbone.volume import Grid, Unit, Volume
from petbone.whole import Estimate, bsi_percent, bsi_weights, whole_amount, whole_ml

EVERY = [bone.id for bone in ALL_BONES]
ALL_SEEN = dict.fromkeys(EVERY, 1.0)
SKELETON_62 = BONE_SETS["skeleton_62"]


def by_label(**amounts: float) -> np.ndarray:
    found = np.zeros(256)
    for name, amount in amounts.items():
        found[BY_NAME[name].id] = amount
    return found


def standard() -> np.ndarray:
    found = np.zeros(256)
    for bone in BONES:
        found[bone.id] = STANDARD_VOLUME_ML[bone.id]
    return found


def states(**changed: Seen) -> dict[int, Seen]:
    """A skeleton of standard bones, all complete, but for those named."""
    found = {b.id: Seen("complete", 1.0, "", float(STANDARD_VOLUME_ML[b.id]), 1.0, 1.0) for b in BONES}
    found |= {b.id: Seen("absent", None, "", None) for b in ALL_BONES if b not in BONES}
    return found | {BY_NAME[name].id: state for name, state in changed.items()}


def test_weights_are_those_of_the_reference_man() -> None:
    """The table's bones sum to 100.1; those that petbone does not know make 32.8 of it."""
    others = 2 * (1.5 + 1.2 + 1.5 + 5.1 + 1.3 + 5.8)
    assert sum(bsi_weights().values()) + others == pytest.approx(100.1, abs=1e-9)
    assert set(bsi_weights()) == {bone.id for bone in BONES}
    ribs = [bsi_weights()[bone.id] for bone in BONES if bone.group == "ribs"]
    assert (len(ribs), sum(ribs)) == (24, pytest.approx(4.4))


def test_index_of_a_full_and_of_a_healthy_skeleton() -> None:
    volume = standard()
    assert bsi_percent(volume, volume, ALL_SEEN, SKELETON_62) == pytest.approx(67.3, abs=1e-9)
    assert bsi_percent(np.zeros(256), volume, ALL_SEEN, SKELETON_62) == 0
    assert bsi_percent(volume, np.zeros(256), {}, SKELETON_62) == 0


def test_index_by_hand() -> None:
    """A quarter of the skull, half of the seen half of a femur, a tenth of T12 with its T13."""
    volume = by_label(skull=800, femur_left=100, T12=40, T13=10)
    hot = by_label(skull=200, femur_left=50, T13=5)
    seen = {BY_NAME["skull"].id: 1.0, BY_NAME["femur_left"].id: 0.5, BY_NAME["T12"].id: 1.0}
    expected = 16.6 / 4 + 8.9 * 0.5 * 0.5 + bsi_weights()[BY_NAME["T12"].id] * 0.1
    assert bsi_percent(hot, volume, seen, SKELETON_62) == pytest.approx(expected, rel=1e-12)


def test_whole_skeleton_needs_no_estimate() -> None:
    volume = whole_ml(states(), SKELETON_62)
    assert volume == pytest.approx(standard())
    hot = by_label(L3=12, rib_left_7=3)
    assert whole_amount(hot, standard(), volume, SKELETON_62) == Estimate(15, 15, 15)


def test_cut_bone_goes_on_as_it_was_seen() -> None:
    """Half of a femur, a fifth of it involved; the other femur, complete, is half involved."""
    ml = STANDARD_VOLUME_ML[BY_NAME["femur_left"].id]
    half = states(femur_left=Seen("cut", 0.5, "inferior", ml / 2, 0.4, 0.6))
    volume = whole_ml(half, SKELETON_62)
    assert volume == pytest.approx(standard())  # its twin is complete
    seen_ml = standard()
    seen_ml[BY_NAME["femur_left"].id] = ml / 2
    hot = by_label(femur_left=0.1 * ml, femur_right=0.5 * ml)
    found = whole_amount(hot, seen_ml, volume, SKELETON_62)
    assert found.low == pytest.approx(0.6 * ml)
    assert found.likely == pytest.approx(0.7 * ml)
    assert found.high == pytest.approx(0.6 * ml + 0.5 * ml * 0.5)


def test_absent_bone_is_like_its_kin() -> None:
    """L5 is not there; the other lumbar vertebrae are a tenth involved, L3 two fifths."""
    without = states(L5=Seen("absent", None, "", None))
    volume = whole_ml(without, SKELETON_49)
    missing = volume[BY_NAME["L5"].id]
    assert missing == pytest.approx(STANDARD_VOLUME_ML[BY_NAME["L5"].id], rel=1e-9)
    seen_ml = standard()
    seen_ml[BY_NAME["L5"].id] = 0
    lumbar = sum(seen_ml[BY_NAME[f"L{n}"].id] for n in range(1, 5))
    hot = by_label(L3=0.4 * seen_ml[BY_NAME["L3"].id])
    found = whole_amount(hot, seen_ml, volume, SKELETON_49)
    assert found.low == pytest.approx(hot.sum())
    assert found.likely == pytest.approx(hot.sum() + missing * hot.sum() / lumbar)
    assert found.high == pytest.approx(hot.sum() + missing * 0.4)
    nothing = whole_amount(np.zeros(256), np.zeros(256), volume, SKELETON_49)
    assert nothing == Estimate(0, 0, 0)


INDICES = """
[[index]]
name = "percent"
statistic = "volume_percent"
threshold = 10
operator = "{operator}"
bones = ["L3", "L4"]

[[index]]
name = "grams"
statistic = "tlu_g"
threshold = 10
operator = "{operator}"
bones = ["L3", "L4"]

[[index]]
name = "bsi"
statistic = "bsi_percent"
threshold = 10
operator = "{operator}"
bones = ["L3", "L4", "T1"]

[[index]]
name = "mostly unseen"
statistic = "volume_ml"
threshold = 10
operator = "{operator}"
bones = "spine"
"""


@pytest.mark.parametrize(("operator", "hot"), [(">=", 3), (">", 2)])
def test_table_by_hand(operator: str, hot: int) -> None:
    """Ten voxels of 0.5 mL of L3, half of the bone; two are above 10, one is exactly 10. L4 is cold."""
    grid = Grid((20, 4, 4), np.diag([5.0, 10.0, 10.0, 1]))
    label = np.array([BY_NAME["L3"].id] * 10 + [BY_NAME["L4"].id] * 20, np.uint8)
    voxel = np.arange(30)
    suv = np.full(grid.shape, 4.0, np.float32)
    suv.reshape(-1)[:3] = 12, 20, 10
    bones = Occupancy(grid, label, voxel, np.ones(30))
    seen = states(
        L3=Seen("cut", 0.5, "superior", 5.0, 0.4, 0.6), L4=Seen("complete", 1.0, "", 10.0, 1.0, 1.0)
    )
    parts = {BY_NAME["L3"].id: 0.5, BY_NAME["L4"].id: 1.0}
    indices = parse_indices(INDICES.format(operator=operator), "test")
    image = Volume(suv, grid, Unit.SUV)
    table = index_table(indices, image, bones, parts, "naf", seen).set_index("index")
    assert table["value"]["percent"] == pytest.approx(100 * hot * 0.5 / 15, rel=1e-6)
    grams = 0.5 * (32 + (10 if hot == 3 else 0))
    assert table["value"]["grams"] == pytest.approx(grams, rel=1e-6)
    weight = bsi_weights()[BY_NAME["L3"].id]
    assert table["value"]["bsi"] == pytest.approx(weight * 0.5 * hot / 10, rel=1e-6)
    whole = whole_ml(seen, [BY_NAME["L3"].id])[BY_NAME["L3"].id]
    assert table["whole_low"]["grams"] == pytest.approx(grams, rel=1e-6)
    assert table["whole_estimate"]["grams"] == pytest.approx(grams * whole / 5, rel=1e-6)
    assert table["whole_low"]["percent"] == pytest.approx(100 * hot * 0.5 / (whole + 10), rel=1e-6)
    assert table["whole_low"]["bsi"] == pytest.approx(weight * hot * 0.5 / whole, rel=1e-6)
    assert table["value"]["mostly unseen"] == pytest.approx(hot * 0.5)
    assert pd.isna(table["whole_estimate"]["mostly unseen"])
    assert table["whole_high"]["bsi"] > table["whole_estimate"]["bsi"] >= weight * hot / 10 * 0.99
    plain = index_table(indices, image, bones, parts, "naf")
    assert plain["whole_estimate"].isna().all()


def test_regions_cover_the_skeleton() -> None:
    regions = [BONE_SETS[name] for name in ("spine", "thorax", "pelvis", "limbs", "head")]
    assert sorted(label for region in regions for label in region) == sorted(EVERY)
    assert HotspotRule("x", 1.0, bones=BONE_SETS["pelvis"]).bones == tuple(
        BY_NAME[name].id for name in ("hip_left", "hip_right", "sacrum")
    )


def test_table_of_regions() -> None:
    """Volumes and sums add up over bones, means are weighted, and what was not seen or searched is empty."""
    columns = dict.fromkeys(BONE_COLUMNS)
    rows = []
    given = (("L3", 60, 5.0, 20.0, 6), ("T12", 30, 2.0, 9.0, 0), ("skull", 800, 1.0, 3.0, None))
    for name, volume, mean, highest, hot in given:
        row = columns | {"id": BY_NAME[name].id, "name": name, "seen_fraction": 1.0, "pet_volume_ml": volume}
        row |= {"suv_mean": mean, "suv_max": highest, "hotspot_volume_ml": hot}
        if hot is not None:
            row |= {"hotspot_count": int(hot > 0), "hotspot_tlu_g": 15.0 * hot}
        rows.append(row)
    table = region_table(pd.DataFrame(rows)).set_index("region")
    spine = table.loc["spine"]
    assert (spine.bones_seen, spine.pet_volume_ml, spine.suv_mean, spine.suv_max) == (2, 90, 4.0, 20.0)
    assert (spine.hotspot_count, spine.hotspot_volume_ml, spine.hotspot_tlu_g) == (1, 6, 90)
    assert spine.hotspot_fraction == pytest.approx(6 / 90)
    assert 0 < spine.seen_fraction < 0.2
    assert table.loc["head", "pet_volume_ml"] == 800
    assert pd.isna(table.loc["head", "hotspot_count"])
    assert pd.isna(table.loc["limbs", "pet_volume_ml"])
    assert table.loc["skeleton_49", "hotspot_volume_ml"] == 6
