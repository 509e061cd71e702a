"""Reading and writing: paths end here. NIfTI, DICOM, NRRD, MetaImage in, volumes in final units out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from petbone.errors import InputError
from petbone.io.nifti import read_nifti, write_nifti
from petbone.io.pet import PetWord, word_on_image
from petbone.io.scan import Image, PetOptions, Scan
from petbone.volume import Unit, Volume

__all__ = ["PetOptions", "Scan", "read_ct", "read_labels", "read_pet", "write_nifti"]


LOWEST_HU = -20.0
HIGHEST_HU = 50.0
"""A CT whose lowest value is above the first, or whose highest is below the second, is not in HU."""


def read_ct(path: Path | str, series: str | None = None) -> Scan:
    """CT in Hounsfield units: int16 where every value is a whole number in its range, float32 otherwise.

    `series` is the number or UID of the DICOM series that is meant, where there are several. Raises
    InputError for a file that cannot be read or whose values cannot be Hounsfield units.
    """
    started = time.perf_counter()
    path = _existing(path)
    if _is_dicom(path):
        # pydicom and SimpleITK take half a second to import: paid for by those who read their formats.
        from petbone.io.dicom import careful, find_series
        from petbone.io.dicom_pixels import read_image

        with careful(path):
            image = read_image(path, find_series(path, "CT", series), whole_numbers=True)
    else:
        _refuse_series(path, "--ct-series", series)
        image = _read_file(path, (np.int16, np.float32))
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
    if _is_dicom(path):
        raise InputError(f"{path}: DICOM; expected a label map as NIfTI, NRRD or MetaImage")
    image = _read_file(path, (np.uint8, np.uint16))
    volume = Volume(image.data, image.grid, Unit.LABEL)
    source = image.source(time.perf_counter() - started)
    if image.label_names:
        source["label_names"] = {str(label): name for label, name in image.label_names.items()}
    return Scan(volume, None, None, source, image.warnings)


def read_pet(path: Path | str, options: PetOptions | None = None) -> Scan:
    """PET as SUVbw, float32, with the factor, the rule it was obtained by and the tags it came from.

    Raises InputError for a file that cannot be read and wherever SUV would be a guess.
    """
    started = time.perf_counter()
    options = options or PetOptions()
    path = _existing(path)
    if _is_dicom(path):
        from petbone.io.dicom import careful, find_series
        from petbone.io.dicom_pet import pet_facts
        from petbone.io.dicom_pixels import read_image

        if options.sidecar is not None:
            raise InputError(f"{path}: DICOM, whose header says it all; --sidecar is for NIfTI: leave it out")
        with careful(path):
            series = find_series(path, "PT", options.series)
            facts = pet_facts(path, series.headers, options)
            image = read_image(path, series, whole_numbers=False)
        agrees = {"BQML": "bqml", "CNTS": "bqml", "GML": "suv"}.get(facts.tags["Units"]) == options.units
        ignored = ("--units is ignored: the DICOM header has Units",) if options.units and not agrees else ()
        said = (*ignored, *facts.factor.assumptions)
        word = PetWord(facts.factor, facts.acquisition, facts.tracer, facts.tags, said)
        if facts.slice_shares is not None:
            image.data[...] *= np.asarray(facts.slice_shares, np.float32)
            image = replace(image, high=float(image.data.max()))
    else:
        _refuse_series(path, "--series", options.series)
        image = _read_file(path, (np.float32,), order="C")  # as measuring wants it
        word = word_on_image(path, image, options)
    image.data[...] *= np.float32(word.factor.factor)  # in place: memory holds one array
    warnings = (*image.warnings, *word.warnings, *_implausible(image, word))
    source = image.source(time.perf_counter() - started) | {"tracer": word.tracer, "suv": _facts(word)}
    return Scan(Volume(image.data, image.grid, Unit.SUV), word.acquisition, word.factor, source, warnings)


def _facts(word: PetWord) -> dict[str, Any]:
    """How SUV was obtained, for a provenance file: an interval of time and never a date."""
    facts = {
        "suv_type": "BW",
        "factor": word.factor.factor,
        "rule": word.factor.rule,
        "assumptions": list(word.factor.assumptions),
        "tags": word.tags,
    }
    if word.acquisition is not None:
        facts |= {
            "dose_bq": word.acquisition.dose_bq,
            "half_life_s": word.acquisition.half_life_s,
            "decay_s": word.acquisition.decay_s,
            "decay_correction": word.acquisition.decay_correction.value,
            "weight_kg": word.acquisition.weight_kg,
        }
    return facts


def _implausible(image: Image, word: PetWord) -> tuple[str, ...]:
    """A warning where the highest SUV cannot be: a wrong unit or dose is the usual reason."""
    highest = image.high * word.factor.factor
    if 0.1 <= highest <= 5000:
        return ()
    return (f"the highest SUV is {highest:g}, which cannot be: check unit, dose and weight",)


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return path


def _is_dicom(path: Path) -> bool:
    """True for a folder, a zip file and any single DICOM file: what `find_series` is to look at.

    Raises InputError for a file that cannot be opened.
    """
    if path.is_dir():
        return True
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}") from None
    return start[:4] == b"PK\x03\x04" or start[128:132] == b"DICM"


def _refuse_series(path: Path, flag: str, series: str | None) -> None:
    if series is not None:
        raise InputError(f"{path}: no DICOM; {flag} picks one of several DICOM series: leave it away")


def _read_file(path: Path, dtypes: Sequence[type[np.generic]], order: Literal["F", "C"] = "F") -> Image:
    if path.suffix.lower() in (".nrrd", ".nhdr", ".mha", ".mhd"):
        from petbone.io.itk import read_itk

        return read_itk(path, dtypes)
    return read_nifti(path, dtypes, order)


def _refuse_what_is_not_hu(path: Path, image: Image) -> None:
    """A CT holds air, fat or at least noise below water; what never goes below -20 is something else."""
    found = f"{path}: values from {image.low:g} to {image.high:g}"
    if image.low >= 0 and image.high <= 255:
        raise InputError(f"{found}, which look like labels or a picture; expected a CT in Hounsfield units")
    if image.low > LOWEST_HU:
        raise InputError(
            f"{found} without air or fat; expected Hounsfield units (air -1000, water 0): "
            "if 1024 was added, subtract it"
        )
    if image.high < HIGHEST_HU:
        raise InputError(f"{found}, too low for any bone; expected a CT in Hounsfield units (bone above 150)")
