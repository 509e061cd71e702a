"""Reading and writing: paths end here. NIfTI and DICOM in, volumes in their final unit out."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from petbone.errors import InputError
from petbone.io.nifti import read_nifti, write_nifti
from petbone.io.scan import Image, PetOptions, Scan
from petbone.suv import SuvFactor
from petbone.volume import Unit, Volume

__all__ = ["PetOptions", "Scan", "read_ct", "read_labels", "read_pet", "write_nifti"]


def read_ct(path: Path | str) -> Scan:
    """CT in Hounsfield units: int16 where every value is a whole number in its range, float32 otherwise.

    Raises InputError for a file that cannot be read or whose values cannot be Hounsfield units.
    """
    started = time.perf_counter()
    path = _existing(path)
    image = read_nifti(path, (np.int16, np.float32))
    _refuse_what_is_not_hu(path, image)
    volume = Volume(image.data, image.grid, Unit.HU)
    return Scan(volume, None, None, image.source(time.perf_counter() - started), image.warnings)


def read_labels(path: Path | str) -> Scan:
    """Label map as uint8, or uint16 where a label is above 255. Whole numbers stored as floats are accepted.

    Raises InputError for negative, fractional or larger values. Labels that the file names itself are in
    ``source["label_names"]``.
    """
    started = time.perf_counter()
    path = _existing(path)
    image = read_nifti(path, (np.uint8, np.uint16))
    volume = Volume(image.data, image.grid, Unit.LABEL)
    source = image.source(time.perf_counter() - started)
    if image.label_names:
        source["label_names"] = {str(label): name for label, name in image.label_names.items()}
    return Scan(volume, None, None, source, image.warnings)


def read_pet(path: Path | str, options: PetOptions | None = None) -> Scan:
    """PET as SUVbw, float32, with the factor and the rule it was obtained by.

    Raises InputError for a file that cannot be read and wherever SUV would be a guess.
    """
    started = time.perf_counter()
    options = options or PetOptions()
    path = _existing(path)
    image = read_nifti(path, (np.float32,))
    warnings = (*image.warnings, _taken_as_suv(path, image, options))
    volume = Volume(image.data, image.grid, Unit.SUV)
    source = image.source(time.perf_counter() - started)
    return Scan(volume, None, SuvFactor(1.0, "values taken as SUVbw"), source, warnings)


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return path


def _refuse_what_is_not_hu(path: Path, image: Image) -> None:
    """A CT holds air, fat or at least noise below water: a CT without a negative value is not in HU."""
    found = f"{path}: values from {image.low:g} to {image.high:g}"
    if image.low >= 0 and image.high <= 255:
        raise InputError(f"{found}, which look like labels or a picture; expected a CT in Hounsfield units")
    if image.low >= 0:
        raise InputError(
            f"{found} without any below 0; expected Hounsfield units (air -1000, water 0): "
            "if 1024 was added, subtract it"
        )
    if image.high < 50:
        raise InputError(f"{found}, too low for any bone; expected a CT in Hounsfield units (bone above 150)")


def _taken_as_suv(path: Path, image: Image, options: PetOptions) -> str:
    if options.units == "suv":
        return f"values from {image.low:g} to {image.high:g} are SUVbw on the user's word (--units suv)"
    if image.whole_numbers or image.low < -1 or not 0.5 <= image.high <= 500:
        kind = "whole numbers" if image.whole_numbers else "values"
        raise InputError(
            f"{path}: {kind} from {image.low:g} to {image.high:g}, which cannot be SUV; give --units "
            "bqml with --tracer --dose-mbq --weight-kg --injected-at --scan-start, or --sidecar FILE.json, "
            "or --units suv"
        )
    return (
        f"no sidecar and no --units: values from {image.low:g} to {image.high:g} are taken as SUVbw because "
        "they can be"
    )
