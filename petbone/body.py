"""What SUV can be normalised to instead of the body weight: lean body mass, ideal weight, surface area.

Formulas and their names as in the IBSI SUV manual (oncoray/suv_computation) and DICOM SUV Type (0054,1006).
Men and women have formulas of their own; for sex O the mean of both is taken, as the manual says.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class SuvType(Enum):
    """DICOM SUV Type (0054,1006): what the SUV of an image is normalised to."""

    BW = "BW"
    LBM = "LBM"
    LBMJAMES128 = "LBMJAMES128"
    LBMJANMA = "LBMJANMA"
    IBW = "IBW"
    BSA = "BSA"


SPOKEN = {
    SuvType.BW: "body weight",
    SuvType.LBM: "lean body mass by Morgan (factor 120 for men)",
    SuvType.LBMJAMES128: "lean body mass by James (factor 128 for men)",
    SuvType.LBMJANMA: "lean body mass by Janmahasatian",
    SuvType.IBW: "ideal body weight",
    SuvType.BSA: "body surface area by Du Bois",
}


def lean_body_mass_morgan120_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """M 1.10 W - 120 (W/H)^2, F 1.07 W - 148 (W/H)^2, H in cm (Morgan and Bray 1994; DICOM LBM).

    Raises ValueError for a sex that is not M, F or O, and where the formula gives nothing positive.
    """
    return _quadratic(weight_kg, height_m, sex, 120.0)


def lean_body_mass_james128_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """M 1.10 W - 128 (W/H)^2, F 1.07 W - 148 (W/H)^2, H in cm (James 1976; PERCIST).

    Raises ValueError for a sex that is not M, F or O, and where the formula gives nothing positive (a
    woman of 200 kg and 1.50 m).
    """
    return _quadratic(weight_kg, height_m, sex, 128.0)


def lean_body_mass_janmahasatian_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """M 9270 W / (6680 + 216 BMI), F 9270 W / (8780 + 244 BMI) (Janmahasatian et al. 2005).

    Raises ValueError for a sex that is not M, F or O.
    """
    bmi = weight_kg / height_m**2
    return _of_sex(
        sex, lambda: 9270 * weight_kg / (6680 + 216 * bmi), lambda: 9270 * weight_kg / (8780 + 244 * bmi)
    )


def ideal_body_weight_kg(height_m: float, sex: str) -> float:
    """M 48.0 + 1.06 (H - 152), F 45.5 + 0.91 (H - 152), H in cm (IBSI SUV manual).

    Raises ValueError for a sex that is not M, F or O, and where the formula gives nothing positive.
    """
    over_cm = 100 * height_m - 152
    return _positive(
        "ideal body weight", _of_sex(sex, lambda: 48.0 + 1.06 * over_cm, lambda: 45.5 + 0.91 * over_cm)
    )


def body_surface_area_m2(weight_kg: float, height_m: float) -> float:
    """0.007184 H^0.725 W^0.425, H in cm (Du Bois and Du Bois 1916)."""
    return float(0.007184 * (100 * height_m) ** 0.725 * weight_kg**0.425)


def suv_bw_from(kind: SuvType, weight_kg: float, height_m: float, sex: str | None) -> float:
    """What SUV of a kind is multiplied by to become SUVbw in g/mL.

    SUV in g/mL (LBM, IBW) times W / mass; SUVbsa in cm2/mL times 1000 W / surface in cm2. `sex` is M, F or O;
    surface and body weight do not need it. Raises ValueError where they do and it is None, and as the
    formulas do.
    """
    if kind is SuvType.BW:
        return 1.0
    if kind is SuvType.BSA:
        return 1000 * weight_kg / (body_surface_area_m2(weight_kg, height_m) * 1e4)
    if sex is None:
        raise ValueError(f"{SPOKEN[kind]} needs the sex")
    if kind is SuvType.IBW:
        return weight_kg / ideal_body_weight_kg(height_m, sex)
    formula = {
        SuvType.LBM: lean_body_mass_morgan120_kg,
        SuvType.LBMJAMES128: lean_body_mass_james128_kg,
        SuvType.LBMJANMA: lean_body_mass_janmahasatian_kg,
    }[kind]
    return weight_kg / formula(weight_kg, height_m, sex)


def _quadratic(weight_kg: float, height_m: float, sex: str, of_men: float) -> float:
    ratio = (weight_kg / (100 * height_m)) ** 2
    mass = _of_sex(sex, lambda: 1.10 * weight_kg - of_men * ratio, lambda: 1.07 * weight_kg - 148 * ratio)
    return _positive("lean body mass", mass)


def _of_sex(sex: str, man: Callable[[], float], woman: Callable[[], float]) -> float:
    if sex not in ("M", "F", "O"):
        raise ValueError(f"sex must be M, F or O, got {sex!r}")
    if sex == "O":
        return (man() + woman()) / 2
    return man() if sex == "M" else woman()


def _positive(name: str, kg: float) -> float:
    if not kg > 0:
        raise ValueError(f"the {name} comes out as {kg:.1f} kg: the formula does not hold for this body")
    return kg
