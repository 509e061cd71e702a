"""Limits of repeatability: the published ones as printed, verdicts at the limits, and what is refused."""

import math
from pathlib import Path

import pytest

from petbone.followup_files import read_limits
from petbone.repeatability import parse_limits, published_limits, verdict

CONFIG = Path(__file__).parents[1] / "configs" / "my_limits.toml"


def test_the_published_limits_are_those_of_lin_2016():
    limits = published_limits()
    assert set(limits) == {"naf"}  # nothing is known of other tracers
    naf = limits["naf"]
    assert naf.lesion == {"suv_max": (0.76, 1.32), "suv_mean": (0.88, 1.14), "tlu_g": (0.63, 1.71)}
    assert naf.patient == {"suv_max": (0.79, 1.26), "suv_mean": (0.89, 1.10), "tlu_g": (0.70, 1.44)}
    assert (naf.threshold, naf.min_volume_ml) == (15, 1.5)
    assert naf.reference == "Lin et al. 2016, J Nucl Med 57:1872"


@pytest.mark.parametrize("level", ["lesion", "patient"])
@pytest.mark.parametrize("measure", ["suv_max", "suv_mean", "tlu_g"])
@pytest.mark.parametrize("before", [1.0, 3.0, 7.0, 10.0, 49.0, 1e-3, 1234.5])
def test_equal_to_a_limit_is_within(level, measure, before):
    """Whatever the numbers are whose ratio is the limit; a thousandth past it is past it."""
    low, high = getattr(published_limits()["naf"], level)[measure]
    for end, past, word in ((low, 0.999, "down"), (high, 1.001, "up")):
        after = before * end
        assert verdict(after / before, (low, high)) == "within"
        assert verdict(past * after / before, (low, high)) == word


def test_rounding_does_not_cross_a_limit():
    assert 17.1 / 10 > 1.71  # as floating point has it
    assert verdict(17.1 / 10, (0.63, 1.71)) == "within"


def test_no_verdict_without_a_ratio_or_without_limits():
    assert verdict(None, (0.5, 2.0)) is None
    assert verdict(math.nan, (0.5, 2.0)) is None
    assert verdict(5.0, None) is None


def test_the_example_of_own_limits_can_be_used():
    limits = read_limits(CONFIG)
    assert set(limits) == {"naf", "psma"}
    assert limits["psma"].patient == {"tlu_g": (0.75, 1.35)}
    assert limits["naf"] == published_limits()["naf"]


def test_own_limits_take_the_place_of_the_published_ones(tmp_path):
    path = tmp_path / "l.toml"
    path.write_text('[[limits]]\ntracer = "naf"\nlesion = { tlu_g = [0.5, 2.0] }\n')
    found = read_limits(path)["naf"]
    assert found.lesion == {"tlu_g": (0.5, 2.0)}
    assert (found.patient, found.threshold, found.reference) == ({}, None, "")


TABLE = '[[limits]]\ntracer = "naf"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[limits", "not TOML"),
        ("", "expected [[limits]] tables and nothing else, found []"),
        ("limits = []", "expected [[limits]] tables"),
        ("limits = [1]", "expected [[limits]] tables"),
        (TABLE + "[other]\na = 1", "found ['limits', 'other']"),
        ("[[limits]]\nlesion = {}", "a [[limits]] has no tracer"),
        (TABLE, "limits of naf: neither lesion nor patient has limits"),
        (TABLE + "lesion = {}", "neither lesion nor patient"),
        (TABLE + "lesion = { tlu_g = [0.5, 2] }\nname = 'x'", "unknown name; known are tracer, threshold"),
        (TABLE + "lesion = 3", "lesion: expected { suv_max = [low, high], ... }, got 3"),
        (TABLE + "lesion = { tlu = [0.5, 2] }", "lesion: unknown tlu; known are suv_max, suv_mean, tlu_g"),
        (TABLE + "lesion = { tlu_g = 2 }", "lesion: tlu_g: expected [low, high], got 2"),
        (TABLE + "lesion = { tlu_g = [0.5] }", "expected [low, high]"),
        (TABLE + "lesion = { tlu_g = [0.5, 'a'] }", "expected [low, high]"),
        (TABLE + "lesion = { tlu_g = [0.5, inf] }", "expected [low, high]"),
        (TABLE + "lesion = { tlu_g = [true, 2] }", "expected [low, high]"),
        (
            TABLE + "patient = { tlu_g = [2, 0.5] }",
            "patient: tlu_g: limits of a ratio lie on either side of 1",
        ),
        (TABLE + "patient = { tlu_g = [1.1, 2] }", "on either side of 1, got 1.1 and 2"),
        (TABLE + "patient = { tlu_g = [0, 2] }", "on either side of 1"),
        (TABLE + "patient = { tlu_g = [1, 1] }", "on either side of 1"),
        (TABLE + "lesion = { tlu_g = [0.5, 2] }\nthreshold = 0", "threshold: expected a number above 0"),
        (TABLE + "lesion = { tlu_g = [0.5, 2] }\nmin_volume_ml = 'a'", "min_volume_ml: expected a number"),
        (2 * (TABLE + "lesion = { tlu_g = [0.5, 2] }\n"), "two tables of limits for naf"),
    ],
)
def test_what_makes_no_sense_is_refused(text, said):
    with pytest.raises(ValueError, match=r"^my\.toml: ") as error:
        parse_limits(text, "my.toml")
    assert said in str(error.value)
