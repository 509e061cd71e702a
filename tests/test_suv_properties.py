"""What must hold of SUV from any header: by hypothesis, on headers in memory."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from petbone.io import PetOptions
from petbone.io.dicom_pet import PetFacts, pet_facts
from petbone.selftest.cases import HALF_LIFE_S, HEADER, INJECTION
from petbone.suv import Acquisition, suv_bw_factor

DAY = datetime(2024, 5, 31)
seconds = st.integers(0, 86399)
delays_s = st.integers(0, 6 * 3600)
doses_bq = st.floats(1e7, 1e10)
weights_kg = st.floats(20, 300)


def headers(count: int = 1, injection: dict[str, Any] | None = None, **fields: Any) -> list[Dataset]:
    found = []
    for _ in range(count):
        dataset, item = Dataset(), Dataset()
        for keyword, value in (HEADER | fields).items():
            if value is not None:
                setattr(dataset, keyword, value)
        for keyword, value in (INJECTION | (injection or {})).items():
            if value is not None:
                setattr(item, keyword, value)
        dataset.RadiopharmaceuticalInformationSequence = Sequence([item])
        found.append(dataset)
    return found


def facts(found: list[Dataset]) -> PetFacts:
    return pet_facts(Path("pet"), found, PetOptions())


def scanned(start: datetime, delay_s: float, zone: str | None = None, dated: bool = True) -> list[Dataset]:
    """Injection at `start`, scan `delay_s` later, by the clock of the place; `zone` is that of the header."""
    scan = start + timedelta(seconds=delay_s)
    clock = scan.strftime("%H%M%S.%f")
    fields = {"SeriesDate": scan.strftime("%Y%m%d"), "AcquisitionDate": scan.strftime("%Y%m%d")}
    injection = {"RadiopharmaceuticalStartDateTime": start.strftime("%Y%m%d%H%M%S.%f") + (zone or "")}
    if not dated:
        injection = {
            "RadiopharmaceuticalStartDateTime": None,
            "RadiopharmaceuticalStartTime": start.strftime("%H%M%S.%f"),
        }
    return headers(injection=injection, SeriesTime=clock, AcquisitionTime=clock, **fields)


@given(seconds, delays_s, delays_s)
def test_decay_is_additive_in_time(start_s: int, one_s: int, other_s: int) -> None:
    start = DAY + timedelta(seconds=start_s)
    base = facts(scanned(start, 0)).factor.factor
    grown = [facts(scanned(start, s)).factor.factor / base for s in (one_s, other_s, one_s + other_s)]
    assert grown[0] * grown[1] == pytest.approx(grown[2], rel=1e-9)
    assert grown[0] == pytest.approx(2 ** (one_s / HALF_LIFE_S), rel=1e-9)


@given(doses_bq, st.floats(1, 10), weights_kg, st.floats(1, 2))
def test_linear_in_weight_and_one_over_dose(
    dose_bq: float, more_dose: float, weight_kg: float, more: float
) -> None:
    def factor(dose: float, weight: float) -> float:
        found = headers(
            injection={"RadionuclideTotalDose": float(f"{dose:.8g}")}, PatientWeight=f"{weight:.8g}"
        )
        return facts(found).factor.factor

    base = factor(dose_bq, weight_kg)
    assert factor(dose_bq, weight_kg * more) == pytest.approx(base * more, rel=1e-6)
    assert factor(dose_bq * more_dose, weight_kg) == pytest.approx(base / more_dose, rel=1e-6)


@given(seconds, delays_s)
def test_midnight_does_not_matter(start_s: int, delay_s: int) -> None:
    """The same delay gives the same factor whenever it began, with dates and by the clock alone."""
    expected = facts(scanned(DAY + timedelta(hours=8), delay_s)).factor.factor
    start = DAY + timedelta(seconds=start_s)
    assert facts(scanned(start, delay_s)).factor.factor == pytest.approx(expected, rel=1e-12)
    assert facts(scanned(start, delay_s, dated=False)).factor.factor == pytest.approx(expected, rel=1e-12)


@given(seconds, delays_s, st.integers(-11, 13), st.integers(-11, 13))
def test_time_zones_do_not_matter(start_s: int, delay_s: int, own: int, theirs: int) -> None:
    """The injection told in one zone, the scan in another: the same moment whatever they are."""
    expected = facts(scanned(DAY, delay_s)).factor.factor
    start_utc = DAY + timedelta(seconds=start_s)
    scan = start_utc + timedelta(seconds=delay_s, hours=theirs)
    start = (start_utc + timedelta(hours=own)).strftime("%Y%m%d%H%M%S") + f"{own:+03d}00"
    found = headers(
        injection={"RadiopharmaceuticalStartDateTime": start},
        SeriesDate=scan.strftime("%Y%m%d"),
        AcquisitionDate=scan.strftime("%Y%m%d"),
        SeriesTime=scan.strftime("%H%M%S"),
        AcquisitionTime=scan.strftime("%H%M%S"),
        TimezoneOffsetFromUTC=f"{theirs:+03d}00",
    )
    assert facts(found).factor.factor == pytest.approx(expected, rel=1e-12)


@given(st.permutations(range(6)), st.sampled_from(["START", "NONE"]))
def test_order_of_slices_does_not_matter(order: list[int], decay: str) -> None:
    found = headers(
        6, DecayCorrection=decay, CorrectedImage=["ATTN"] if decay == "NONE" else ["ATTN", "DECY"]
    )
    for k, header in enumerate(found):
        header.AcquisitionTime = f"110{k // 2}00"
        header.InstanceNumber = k
    there, shuffled = facts(found), facts([found[n] for n in order])
    assert shuffled.factor.factor == there.factor.factor
    if decay == "NONE":
        assert there.slice_shares is not None
        assert shuffled.slice_shares == tuple(np.array(there.slice_shares)[order])


@given(doses_bq, weights_kg, delays_s)
def test_a_whole_body_of_water_has_suv_one(dose_bq: float, weight_kg: float, delay_s: int) -> None:
    start = DAY + timedelta(seconds=delay_s)
    factor = suv_bw_factor(Acquisition(dose_bq, HALF_LIFE_S, DAY, start, weight_kg)).factor
    left_bq_per_ml = dose_bq * 2 ** (-delay_s / HALF_LIFE_S) / (weight_kg * 1000)
    assert factor * left_bq_per_ml == pytest.approx(1, rel=1e-12)
