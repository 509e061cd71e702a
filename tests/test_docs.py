"""The documents say what the files hold."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import HandMade
from petbone import change, matching, readings, validation
from petbone.burden import BONE_COLUMNS, HOTSPOT_COLUMNS, REGION_COLUMNS
from petbone.cohort_followup import COLUMNS as FOLLOWUP_COLUMNS
from petbone.cohort_quality import CHECKS, OVERALL, VERDICTS
from petbone.cohort_review import TABLES as REVIEW_TABLES
from petbone.cohort_table import KNOWN
from petbone.detection import Criterion, Lesion, Patient
from petbone.detection_figures import cohort_figures
from petbone.detection_files import CURVE_COLUMNS, FIGURE_COLUMNS, LESION_COLUMNS, PATIENT_COLUMNS
from petbone.followup import AGREEMENT_COLUMNS, concordance
from petbone.indices import COLUMNS, parse_indices
from test_followup import result

ROOT = Path(__file__).parents[1]


CHANGES = (change.HOTSPOT_COLUMNS, change.BONE_COLUMNS, change.INDEX_COLUMNS, change.MOTION_COLUMNS)


TRACERS = (AGREEMENT_COLUMNS, matching.COLUMNS, ["seen_by_other"])

TABLES = (BONE_COLUMNS, HOTSPOT_COLUMNS, REGION_COLUMNS, COLUMNS)


def explained(document: str = "outputs.md") -> set[str]:
    return set(re.findall(r"`([\w.]+)`", (ROOT / "docs" / document).read_text(encoding="utf-8")))


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


def test_every_column_of_the_table_of_a_cohort_is_explained():
    assert {name for name in KNOWN if not name.endswith("2")} <= explained("cohorts.md")
    assert {"ct2", "bones2", "labels2", "ct_series2", "pet2", "tracer2"} <= explained("cohorts.md")


def test_every_column_of_a_follow_up_is_explained():
    assert {column.name for column in FOLLOWUP_COLUMNS} <= explained("cohorts.md")


def test_every_check_and_column_of_quality_and_concordance_is_explained():
    columns = {column.name for name in ("quality", "concordance") for column in REVIEW_TABLES[name]}
    later = {name for name in columns if name.startswith(("suv_", "hotspot_")) and name.endswith("_2")}
    assert (columns | set(CHECKS) | {OVERALL, *VERDICTS}) - later <= explained("cohorts.md")


@pytest.mark.parametrize("columns", [LESION_COLUMNS, PATIENT_COLUMNS, FIGURE_COLUMNS, CURVE_COLUMNS])
def test_every_column_of_detection_is_explained(columns):
    assert set(columns) <= explained("detection.md")


def test_every_figure_of_detection_is_explained():
    patients = [Patient("a", (Lesion("found", 1, 1, 1.0, predicted_suv_max=9.0),), 1.0, 1.0, 1.0)]
    figures = {figure.name for figure in cohort_figures(patients, Criterion())}
    assert len(figures) == 28
    assert figures <= explained("detection.md")


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
