"""Two tracers, bone by bone."""

from dataclasses import replace

import numpy as np
import pandas as pd

from conftest import HandMade
from petbone.anatomy import BY_NAME
from petbone.burden import bone_table, hotspot_table
from petbone.case import PetResult
from petbone.completeness import what_was_seen
from petbone.followup import concordance
from petbone.hotspots import HotspotRule, find_hotspots
from petbone.resample import occupancy


def result(patient: HandMade, tracer: str, suv: np.ndarray) -> PetResult:
    pet = patient.pet.with_data(suv)
    occupied = occupancy(patient.bones, pet.grid)
    hotspots = find_hotspots(pet, occupied, HotspotRule("x", 10.0))
    seen = what_was_seen(patient.bones, occupied)
    bones = bone_table(pet, occupied, hotspots, seen, HotspotRule("x", 10.0).bones)
    spots = hotspot_table(pet, occupied, hotspots, HotspotRule("x", 10.0).bones)
    return PetResult(tracer, pet, hotspots, bones, spots, pd.DataFrame(), {})


def test_which_tracer_sees_disease_in_which_bone(hand_made: HandMade):
    naf = hand_made.pet.data
    choline = np.where(naf == 12, 5, naf).astype(np.float32)  # nothing in L3
    choline[28:30, 4:6, 4:6] = 11  # a focus of its own in the sacrum
    table = concordance([result(hand_made, "naf", naf), result(hand_made, "choline", choline)])
    found = table.set_index("name").concordance
    assert found[["T7", "L3", "sacrum", "rib_left_7"]].tolist() == ["all", "naf", "choline", "none"]
    assert pd.isna(found["skull"])
    assert table.set_index("name").suv_max_choline["sacrum"] == 11


def test_a_bone_that_only_the_second_examination_knows(hand_made: HandMade):
    """T13 of the second mask has its row; of the first it is absent, and no word on agreement."""
    naf = result(hand_made, "naf", hand_made.pet.data)
    labels = np.array(hand_made.bones.data)
    labels[labels == BY_NAME["T7"].id] = BY_NAME["T13"].id
    other = result(replace(hand_made, bones=hand_made.bones.with_data(labels)), "choline", hand_made.pet.data)
    for pets in ([naf, other], [other, naf]):
        table = concordance(pets, pets[1])
        assert table["id"].is_monotonic_increasing
        assert len(table) == len(naf.bone_table) + 1
        row = table.set_index("name").loc["T13"]
        states = [row["status"], row["status_2"]]
        assert (states if pets[0] is naf else states[::-1]) == ["absent", "complete"]
        assert pd.isna(row["suv_max_naf"])
        assert row["suv_max_choline"] == table.set_index("name").suv_max_naf["T7"]
        assert pd.isna(row["concordance"])
    assert "status_2" not in concordance([naf, other])
