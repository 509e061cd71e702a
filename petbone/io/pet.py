"""PET from any file to SUVbw: which of header, sidecar, options and the values themselves says how."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from petbone.errors import InputError
from petbone.io.injection import Found, acquisition, nuclide_of
from petbone.io.scan import Image, PetOptions
from petbone.io.sidecar import found_in_sidecar, read_sidecar, unit_and_scale
from petbone.suv import Acquisition, SuvFactor, suv_bw_factor
from petbone.volume import Unit

SUV_LOW, SUV_HIGH_MIN, SUV_HIGH_MAX = -1.0, 0.5, 500.0
"""Values are believed to be SUV without a word if the lowest and the highest of them lie within these."""


@dataclass(frozen=True)
class PetWord:
    """How file values become SUVbw, and who said so."""

    factor: SuvFactor
    acquisition: Acquisition | None
    tracer: str | None
    tags: dict[str, Any]
    warnings: tuple[str, ...]


def word_on_image(path: Path, image: Image, options: PetOptions) -> PetWord:
    """For a file without SUV tags of its own (not DICOM): sidecar, else options, else the values.

    Without --sidecar and --units a BIDS sidecar beside the image (the same name, .json) is taken, and said.

    Raises InputError for a mask, else naming what is missing, or the options that would help.
    """
    if image.whole_numbers and image.low >= 0 and image.high <= 1:
        raise InputError(f"{path}: every value is 0 or 1, as in a mask; expected a PET")
    if options.sidecar is not None:
        return _from_sidecar(Path(options.sidecar), options)
    if options.units is None and (beside := _sidecar_beside(path)):
        word = _from_sidecar(beside, options)
        return replace(word, warnings=("the sidecar beside the image was taken", *word.warnings))
    if options.units == "bqml":
        found = acquisition(path, Found(), options)
        factor = suv_bw_factor(found)
        return PetWord(factor, found, found.tracer, {"Units": "Bq/mL as given"}, factor.assumptions)
    if options.units == "suv":
        _refuse_needless(path, options, "--units suv says that the values are SUV already")
        return PetWord(
            SuvFactor(1.0, "values are SUVbw on the user's word (--units suv)"), None, options.tracer, {}, ()
        )
    return _by_the_values(path, image, options)


def _sidecar_beside(path: Path) -> Path | None:
    """A JSON file of the image's name that says Units, as BIDS-PET does; other JSON files are others'."""
    beside = path.parent / (re.sub(r"(\.nii)?(\.gz)?$", "", path.name) + ".json")
    return beside if beside.is_file() and "Units" in read_sidecar(beside) else None


def _from_sidecar(path: Path, options: PetOptions) -> PetWord:
    if not path.is_file():
        raise InputError(f"{path}: no such sidecar")
    sidecar = read_sidecar(path)
    unit, scale = unit_and_scale(path, sidecar)
    if options.units is not None and (options.units == "suv") != (unit is Unit.SUV):
        raise InputError(f"{path}: Units {sidecar['Units']}, but --units {options.units}; leave --units away")
    tags = {"Units": sidecar["Units"]}
    if unit is Unit.SUV:
        return PetWord(SuvFactor(1.0, "sidecar: the values are SUVbw"), None, options.tracer, tags, ())
    found = acquisition(path, found_in_sidecar(path, sidecar), options)
    factor = suv_bw_factor(found)
    factor = replace(factor, factor=factor.factor * scale, rule=f"sidecar: {factor.rule}")
    # Not as it is written: free text may hold anybody's name.
    tags["TracerRadionuclide"] = nuclide_of(str(sidecar.get("TracerRadionuclide", "")))
    return PetWord(factor, found, found.tracer, tags, factor.assumptions)


def _refuse_needless(path: Path, options: PetOptions, why: str) -> None:
    """Raise InputError where somebody gave what only Bq/mL needs: she means Bq/mL, so SUV would be wrong."""
    stated = options.of_injection()
    if stated:
        raise InputError(f"{path}: {' '.join(stated)} given, but {why}; give --units bqml, or leave them out")


def _by_the_values(path: Path, image: Image, options: PetOptions) -> PetWord:
    _refuse_needless(path, options, "nothing says that the values are Bq/mL")
    can_be = image.low >= SUV_LOW and SUV_HIGH_MIN <= image.high <= SUV_HIGH_MAX
    if image.whole_numbers or not can_be:
        kind = "whole numbers" if image.whole_numbers else "values"
        raise InputError(
            f"{path}: {kind} from {image.low:g} to {image.high:g}, which cannot be SUV; give --units "
            "bqml with --tracer --dose-mbq --weight-kg --injected-at --scan-start, or --sidecar FILE.json, "
            "or --units suv if they are"
        )
    said = (
        f"no sidecar and no --units: values from {image.low:g} to {image.high:g} are taken as SUVbw because "
        "they can be"
    )
    return PetWord(SuvFactor(1.0, "values taken as SUVbw", (said,)), None, options.tracer, {}, (said,))
