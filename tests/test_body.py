"""Lean body mass, ideal weight, surface area: values of other software, and what must hold for any body."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petbone.body import (
    SuvType,
    body_surface_area_m2,
    ideal_body_weight_kg,
    lean_body_mass_james128_kg,
    lean_body_mass_janmahasatian_kg,
    lean_body_mass_morgan120_kg,
    suv_bw_from,
)

Formula = Callable[[float, float, str], float]
weights_kg = st.floats(45, 110)
heights_m = st.floats(1.5, 1.9)


@pytest.mark.parametrize(
    ("formula", "sex", "kg"),
    [
        (lean_body_mass_morgan120_kg, "M", 62.777575),
        (lean_body_mass_morgan120_kg, "F", 55.925676),
        (lean_body_mass_janmahasatian_kg, "M", 60.915336),
        (lean_body_mass_janmahasatian_kg, "F", 49.214380),
    ],
)
def test_masses_of_other_software(formula: Formula, sex: str, kg: float) -> None:
    """75 kg and 1.85 m, from the tests of cornerstonejs/calculate-suv."""
    assert formula(75, 1.85, sex) == pytest.approx(kg, abs=1e-5)


def test_surface_of_other_software() -> None:
    assert body_surface_area_m2(75, 1.85) == pytest.approx(1.9813758, abs=1e-6)


@pytest.mark.parametrize(
    ("weight_kg", "height_m", "sex", "james", "janma"),
    [(59.94, 1.665, "F", 0.75, 0.6595), (70.0, 1.65, "M", 0.7709, 0.7577)],
)
def test_uw_qiba_reference_object(
    weight_kg: float, height_m: float, sex: str, james: float, janma: float
) -> None:
    """SUVlbm over SUVbw as the object states it; the man decides for 128 (120 would give 0.7915)."""
    body = (weight_kg, height_m, sex)
    assert lean_body_mass_james128_kg(*body) / weight_kg == pytest.approx(james, abs=1e-4)
    assert lean_body_mass_janmahasatian_kg(*body) / weight_kg == pytest.approx(janma, abs=1e-4)


def test_ideal_weight_at_its_base() -> None:
    assert ideal_body_weight_kg(1.52, "M") == pytest.approx(48.0)
    assert ideal_body_weight_kg(1.52, "F") == pytest.approx(45.5)
    assert ideal_body_weight_kg(1.80, "M") == pytest.approx(48 + 1.06 * 28)


@given(weights_kg, heights_m, st.sampled_from(list(SuvType)))
def test_sex_o_lies_between(weight_kg: float, height_m: float, kind: SuvType) -> None:
    m, f, o = (1 / suv_bw_from(kind, weight_kg, height_m, sex) for sex in "MFO")
    assert o == pytest.approx((m + f) / 2)


@given(weights_kg, heights_m, st.sampled_from("MFO"))
def test_lean_is_less_than_whole(weight_kg: float, height_m: float, sex: str) -> None:
    for kind in (SuvType.LBMJAMES128, SuvType.LBMJANMA, SuvType.LBM):
        assert suv_bw_from(kind, weight_kg, height_m, sex) > 1


def test_weight_needs_nothing_more() -> None:
    assert suv_bw_from(SuvType.BW, 70, 1.7, None) == 1
    assert suv_bw_from(SuvType.BSA, 75, 1.85, None) == pytest.approx(75000 / 19813.758)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lean_body_mass_james128_kg(200, 1.5, "F"), "the formula does not hold"),
        (lambda: ideal_body_weight_kg(0.9, "F"), "the formula does not hold"),
        (lambda: lean_body_mass_janmahasatian_kg(70, 1.7, "male"), "M, F or O"),
        (lambda: suv_bw_from(SuvType.LBM, 70, 1.7, None), "needs the sex"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
