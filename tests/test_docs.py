"""The documents say what the files hold."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import HandMade
from petbone import change, matching, readings, validation
from petbone.burden import BONE_COLUMNS, HOTSPOT_COLUMNS, REGION_COLUMNS
from petbone.followup import AGREEMENT_COLUMNS, concordance
from petbone.indices import COLUMNS, parse_indices
from test_followup import result

ROOT = Path(__file__).parents[1]


CHANGES = (change.HOTSPOT_COLUMNS, change.BONE_COLUMNS, change.INDEX_COLUMNS, change.MOTION_COLUMNS)


TRACERS = (AGREEMENT_COLUMNS, matching.COLUMNS, ["seen_by_other"])

TABLES = (BONE_COLUMNS, HOTSPOT_COLUMNS, REGION_COLUMNS, COLUMNS)


def explained() -> set[str]:
    return set(re.findall(r"`(\w+)`", (ROOT / "docs/outputs.md").read_text(encoding="utf-8")))


VALIDATION = (
    validation.OVERLAP_COLUMNS,
    validation.AGREEMENT_COLUMNS,
    validation.GROUP_COLUMNS,
    validation.REPEAT_COLUMNS,
    validation.TABLE_COLUMNS,
    validation.MISSING_COLUMNS,
    readings.VOLUME_COLUMNS,
    readings.COLUMNS,
    readings.FAMILY_COLUMNS,
)


@pytest.mark.parametrize("columns", VALIDATION)
def test_every_column_of_a_validation_is_explained(columns):
    text = (ROOT / "docs/validation.md").read_text(encoding="utf-8")
    assert set(columns) <= set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("columns", [*TABLES, *CHANGES, *TRACERS])
def test_every_column_is_explained(columns):
    assert set(columns) <= explained()


def test_the_columns_of_concordance_are_explained(hand_made: HandMade):
    naf = result(hand_made, "naf", hand_made.pet.data)
    choline = replace(naf, tracer="choline")
    columns = {name.replace("_choline", "_naf") for name in concordance([naf, choline], choline)}
    assert len(columns) == 9
    assert columns <= explained()


def test_the_example_of_own_indices_can_be_used():
    (index,) = parse_indices(
        (ROOT / "configs/my_indices.toml").read_text(encoding="utf-8"), "my_indices.toml"
    )
    assert index.rule.min_volume_ml == 1.5
