"""The documents say what the files hold."""

import re
from pathlib import Path

import pytest

from petbone import change, matching
from petbone.burden import BONE_COLUMNS, HOTSPOT_COLUMNS
from petbone.followup import AGREEMENT_COLUMNS
from petbone.indices import COLUMNS, parse_indices

ROOT = Path(__file__).parents[1]


CHANGES = (change.HOTSPOT_COLUMNS, change.BONE_COLUMNS, change.INDEX_COLUMNS, change.MOTION_COLUMNS)


TRACERS = (AGREEMENT_COLUMNS, matching.COLUMNS, ["seen_by_other"])


@pytest.mark.parametrize("columns", [BONE_COLUMNS, HOTSPOT_COLUMNS, COLUMNS, *CHANGES, *TRACERS])
def test_every_column_is_explained(columns):
    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs/outputs.md").read_text(encoding="utf-8")))
    assert set(columns) <= explained


def test_the_example_of_own_indices_can_be_used():
    (index,) = parse_indices(
        (ROOT / "configs/my_indices.toml").read_text(encoding="utf-8"), "my_indices.toml"
    )
    assert index.rule.min_volume_ml == 1.5
