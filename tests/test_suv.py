"""SUV arithmetic: published factors of other software, algebra that must hold, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petbone.suv import (
    HALF_LIFE_S,
    Acquisition,
    DecayCorrection,
    SuvFactor,
    dose_in_bq,
    half_life_of,
    injection_before,
    suv_bw_factor,
    to_suv,
    weight_in_kg,
)
from petbone.volume import Grid, Unit, Volume

T0 = datetime(2024, 5, 31, 10, 0, 0)
HOUR = timedelta(hours=1)
PLAIN = Acquisition(
    dose_bq=370e6, half_life_s=6586.2, injected_at=T0, decay_reference_at=T0 + HOUR, weight_kg=70.0
)
GRID = Grid((2, 2, 2), np.eye(4))


# Oracles


@pytest.mark.parametrize(
    ("weight_kg", "dose_mbq", "half_life_s", "injected", "scan", "factor"),
    [
        # cornerstonejs/calculate-suv, test/calculateSUV_SampleData.test.ts: header times of real scanners
        (67, 374, 6586.2, "08:30:45", "10:48:29", 0.00042748316187197236),
        (52, 152.02272, 6586.2002, "08:45:00", "09:56:21", 0.0005367387681819742),
        (64, 126, 6586.1997, "10:00:58", "11:01:55", 0.0007463747013889488),
        (65, 225, 6586.2, "11:41:00", "12:35:15", 0.0004069156854009332),
        (69, 388, 6586.2, "12:00:37", "13:03:48.234000", 0.00026503312764157046),
        (102, 412, 6586.2, "12:50:00", "13:54:31.843000", 0.0003721089202818729),
        # TCIA Soft-tissue-Sarcoma STS_001 as in the IBSI data
        (71, 388.777472, 6588, "10:35:00", "11:20:11", 0.00024290297661),
    ],
)
def test_factors_of_other_software(
    weight_kg: float, dose_mbq: float, half_life_s: float, injected: str, scan: str, factor: float
) -> None:
    acquisition = Acquisition(
        dose_bq=dose_mbq * 1e6,
        half_life_s=half_life_s,
        injected_at=datetime.fromisoformat(f"2020-10-23T{injected}"),
        decay_reference_at=datetime.fromisoformat(f"2020-10-23T{scan}"),
        weight_kg=weight_kg,
    )
    assert suv_bw_factor(acquisition).factor == pytest.approx(factor, rel=1e-9)


def test_uw_qiba_reference_object() -> None:
    """Stored 32767 of the female is SUV 4.11, -877 is -0.11 (Pierce 2015; header vectors of the object)."""
    factor = suv_bw_factor(replace(PLAIN, weight_kg=59.94, half_life_s=6586.0)).factor
    assert 32767 * 0.530081816975547 * factor == pytest.approx(4.11, abs=0.005)
    assert -877 * 0.530081816975547 * factor == pytest.approx(-0.11, abs=0.005)


def test_admin_does_not_decay_the_dose() -> None:
    """calculate-suv, synthetic: W 75, dose 100 gives 750; here the dose is 1e8."""
    admin = replace(PLAIN, decay_correction=DecayCorrection.ADMIN, weight_kg=75, dose_bq=1e8)
    assert suv_bw_factor(admin).factor == pytest.approx(750e-6, rel=1e-12)


# Invariants


def test_a_body_of_water_with_the_whole_dose_has_suv_one() -> None:
    """70 kg, 1 g/mL, activity spread evenly and decayed to the scan: every voxel is SUV 1."""
    bq_per_ml = 370e6 / 70e3 * 2 ** (-3600 / 6586.2)
    assert bq_per_ml * suv_bw_factor(PLAIN).factor == pytest.approx(1, rel=1e-12)


@given(st.floats(0, 9 * 6586.2), st.floats(0.1, 3600))
def test_three_ways_to_correct_the_same_image_give_the_same_suv(delay_s: float, frame_s: float) -> None:
    """The mean activity in a frame, corrected to its start, to the injection, or not at all."""
    start = T0 + timedelta(seconds=delay_s)
    decay_per_s = math.log(2) / 6586.2
    uncorrected = -math.expm1(-decay_per_s * frame_s) / (decay_per_s * frame_s)
    at_start = replace(PLAIN, decay_reference_at=start)
    admin = replace(at_start, decay_correction=DecayCorrection.ADMIN)
    none = replace(at_start, decay_correction=DecayCorrection.NONE, frame_s=frame_s)
    expected = 1.0 * suv_bw_factor(at_start).factor
    delay_s = at_start.decay_s  # datetime rounds to microseconds
    assert suv_bw_factor(admin).factor * math.exp(decay_per_s * delay_s) == pytest.approx(expected, rel=1e-9)
    assert suv_bw_factor(none).factor * uncorrected == pytest.approx(expected, rel=1e-9)


@given(st.floats(1, 700), st.floats(1e6, 1e11))
def test_factor_grows_with_weight_and_falls_with_dose(weight_kg: float, dose_bq: float) -> None:
    factor = suv_bw_factor(replace(PLAIN, weight_kg=weight_kg, dose_bq=dose_bq)).factor
    assert factor * dose_bq / weight_kg == pytest.approx(suv_bw_factor(PLAIN).factor * 370e6 / 70, rel=1e-9)


def test_one_half_life_doubles_the_factor() -> None:
    later = replace(PLAIN, decay_reference_at=PLAIN.decay_reference_at + timedelta(seconds=6586.2))
    assert suv_bw_factor(later).factor == pytest.approx(2 * suv_bw_factor(PLAIN).factor, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_to_suv_multiplies_and_keeps_the_grid(dtype: type) -> None:
    data = np.arange(8).reshape(2, 2, 2).astype(dtype)
    suv = to_suv(Volume(data, GRID, Unit.BQ_PER_ML), SuvFactor(0.25, "test"))
    assert suv.data.dtype == np.float32
    assert suv.unit is Unit.SUV
    assert suv.grid is not None
    assert np.array_equal(suv.data, data.astype(np.float64) * 0.25)
    assert data.ravel()[7] == 7  # the caller's array is untouched


def test_assumptions_travel_into_the_factor() -> None:
    assert suv_bw_factor(replace(PLAIN, assumptions=("dose in MBq",))).assumptions == ("dose in MBq",)


# Judgement by size


@pytest.mark.parametrize(("value", "bq"), [(4e8, 4e8), (4e2, 4e8), (1e6, 1e6), (1.0, 1e6)])
def test_dose_by_size(value: float, bq: float) -> None:
    dose_bq, said = dose_in_bq(value)
    assert dose_bq == bq
    assert (said is None) == (value == bq)


@pytest.mark.parametrize("value", [0.0, -1.0, 5e5, 1e12, math.nan])
def test_dose_that_is_neither_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="neither Bq"):
        dose_in_bq(value)


def test_weight_above_a_thousand_is_grams() -> None:
    assert weight_in_kg(70.0) == (70.0, None)
    kg, said = weight_in_kg(70000.0)
    assert kg == 70.0
    assert said is not None
    assert "grams" in said


def test_midnight() -> None:
    scan = datetime(2024, 6, 1, 0, 40)
    injected, said = injection_before(datetime(2024, 6, 1, 23, 50), scan)
    assert (scan - injected) == timedelta(minutes=50)
    assert said is not None
    assert injection_before(T0, T0 + HOUR) == (T0, None)


def test_half_life_from_the_tracer() -> None:
    assert half_life_of("naf")[0] == HALF_LIFE_S["F-18"]
    assert "F-18" in half_life_of("choline")[1]
    for unknown in ("psma", "other", None):
        with pytest.raises(ValueError, match="does not tell the nuclide"):
            half_life_of(unknown)


# Refusals


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dose_bq": 0.0}, "dose"),
        ({"dose_bq": -1.0}, "dose"),
        ({"dose_bq": 370.0}, "dose"),
        ({"dose_bq": math.nan}, "dose"),
        ({"half_life_s": 0.0}, "half-life"),
        ({"half_life_s": math.inf}, "half-life"),
        ({"weight_kg": 0.0}, "weight"),
        ({"weight_kg": 70000.0}, "weight"),
        ({"height_m": 175.0}, "height"),
        ({"height_m": 0.0}, "height"),
        ({"sex": "male"}, "sex"),
        ({"voxel_unit": Unit.SUV}, "Bq/mL"),
        ({"frame_s": -1.0}, "frame"),
        ({"decay_correction": DecayCorrection.NONE}, "frame duration"),
        ({"decay_reference_at": T0 - HOUR}, "3600 s after"),
        ({"decay_reference_at": T0 + timedelta(days=2)}, "half-lives"),
        ({"injected_at": T0 + 2 * HOUR}, "after the scan"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(PLAIN, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_factor_that_cannot_be_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        SuvFactor(factor, "test")


@pytest.mark.parametrize("unit", [Unit.SUV, Unit.HU, Unit.LABEL])
def test_only_bq_per_ml_becomes_suv(unit: Unit) -> None:
    with pytest.raises(ValueError, match="from Bq/mL"):
        to_suv(Volume(np.ones((2, 2, 2), np.int16), GRID, unit), SuvFactor(1.0, "test"))
