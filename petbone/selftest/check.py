"""Runs one case, and looks at the installation: verdicts with what was expected and what was found."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petbone.errors import InputError
from petbone.io import read_pet
from petbone.selftest.cases import HEADER, INJECTION, VendorCase
from petbone.selftest.series import STORED, write_series
from petbone.steps import available_memory_gb

TOLERANCE = 1e-6
MEMORY_GB = 4.0  # what `petbone run` is meant to need at most


@dataclass(frozen=True)
class Verdict:
    """A line of the table."""

    name: str
    expected: str
    found: str
    passed: bool


def check_case(case: VendorCase) -> Verdict:
    """Write the series of a case into a temporary folder, read it, compare SUV in every slice."""
    expected = f"{case.factor:.9g}" if case.factor is not None else f"refused: {case.refusal}"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "pet"
        write_series(
            place, HEADER | dict(case.header), INJECTION | dict(case.injection), case.private, case.slices
        )
        try:
            scan = read_pet(place)
        except InputError as error:
            said = str(error).replace(f"{place}: ", "")
            return Verdict(
                case.name, expected, f"refused: {said}", bool(case.refusal) and case.refusal in said
            )
    assert scan.suv is not None  # read_pet gives it for every PET
    found = f"{scan.suv.factor:.9g}"
    if case.factor is None:
        return Verdict(case.name, expected, found, False)
    slopes = case.slices.get("RescaleSlope", [HEADER["RescaleSlope"]] * len(case.shares))
    wanted = [case.factor * share * slope * STORED for share, slope in zip(case.shares, slopes, strict=True)]
    right = math.isclose(scan.suv.factor, case.factor, rel_tol=TOLERANCE) and np.allclose(
        scan.volume.data, wanted, rtol=1e-5, atol=0
    )
    return Verdict(case.name, expected, found, bool(right))


def check_installation() -> list[Verdict]:
    """Are the weights those of this version, do they load, and is there memory for a whole-body case?"""
    import torch

    from petbone.net.weights import PACKAGED_SHA256, load_weights, packaged_weights

    try:
        sha256 = load_weights(packaged_weights(), torch.device("cpu"))[1]
    except InputError as error:
        sha256 = str(error)
    verdicts = [Verdict("weights, SHA-256", PACKAGED_SHA256[:12], sha256[:12], sha256 == PACKAGED_SHA256)]
    threads = torch.get_num_threads()
    verdicts.append(Verdict("threads of torch", f"1 to {os.cpu_count()}", str(threads), threads >= 1))
    free_gb = available_memory_gb()
    found = "not told by this system" if free_gb is None else f"{free_gb:.1f} GB"
    enough = free_gb is None or free_gb >= MEMORY_GB
    verdicts.append(Verdict("free memory", f"{MEMORY_GB:g} GB", found, enough))
    return verdicts
