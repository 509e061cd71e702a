"""Maps of lesions: pairs of files read and refused; tables of what was detected written. Paths end here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

import petbone
from petbone.detection import Criterion, Lesion, Lesions, Patient, compare_hotspots, lesions_in
from petbone.detection_figures import CurvePoint, Figure, cohort_figures, froc, patient_figures
from petbone.errors import InputError
from petbone.folders import write_tables
from petbone.io import PetOptions, read_labels, read_pet
from petbone.label_doubts import mask_mirrored
from petbone.lattice import SAME_MM, in_order_of
from petbone.mask_files import HOTSPOTS_OF_A_CASE, grid_in_words, maker_of
from petbone.pairing import Pair, Pairing, find_images, pair_images, partner_file
from petbone.pipeline import versions
from petbone.steps import Steps
from petbone.validation_notes import of_makers, of_one_file_twice

LESION_COLUMNS = (
    "case", "reference", "predicted", "what", "overlap", "reference_ml", "predicted_ml", "reference_suv_max",
    "predicted_suv_max", "note",
)  # fmt: skip
"""A row per reference lesion, and per predicted one without partner."""
PATIENT_COLUMNS = (
    "case", "reference_lesions", "predicted_lesions", "found", "missed", "false", "split", "merged",
    "ignored_reference", "ignored_predicted", "sensitivity", "precision", "f1", "reference_ml",
    "predicted_ml", "shared_ml", "dice", "volume_difference_ml", "volume_difference_percent", "note",
)  # fmt: skip
FIGURE_COLUMNS = ("figure", "value", "low", "high", "bootstrap_low", "bootstrap_high", "n", "definition")
CURVE_COLUMNS = tuple(one.name for one in fields(CurvePoint))

SUV_OF_A_CASE = "suv.nii.gz"  # what petbone run calls it
_PLAIN_SUV = PetOptions(units="suv")


@dataclass(frozen=True, eq=False)
class Detection:
    """All that a validation of hotspots has found, and what it was found in."""

    patients: tuple[Patient, ...]
    unpaired: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    curve: tuple[CurvePoint, ...]  # empty without SUV
    criterion: Criterion
    inputs: tuple[dict[str, Any], ...]  # of every case: hashes and geometry
    warnings: tuple[str, ...]


def validate_hotspots(
    reference: Path,
    predicted: Path,
    suv: Path | None,
    criterion: Criterion,
    steps: Steps,
    reading: str = "auto",
) -> Detection:
    """Read and compare every pair of two files or two folders; one case in memory at a time.

    Raises InputError where nothing pairs, a file is no map of lesions, two of a case lie on other grids, or a
    case lacks its SUV image.
    """
    sides = find_images(reference, HOTSPOTS_OF_A_CASE), find_images(predicted, HOTSPOTS_OF_A_CASE)
    pairing = pair_images(*sides)
    suvs = {} if suv is None else partner_file(find_images(suv, SUV_OF_A_CASE), pairing, "SUV image")
    patients, inputs = [], []
    warnings = [*dict.fromkeys(note for side in sides for note in side.notes), *_unpaired_words(pairing)]
    with steps("compare"):
        for n, pair in enumerate(pairing.pairs):
            steps.progress(n / len(pairing.pairs))
            patient, read = _case(pair, suvs.get(pair.case), criterion, reading)
            patients.append(patient)
            inputs.append(read)
    warnings += [*_doubts(patients, inputs), *_reading_words(inputs)]
    with steps("figures"):
        figures = cohort_figures(patients, criterion, len(pairing.unpaired))
        curve = froc(patients) if suvs else []
    return Detection(
        tuple(patients),
        pairing.unpaired,
        tuple(figures),
        tuple(curve),
        criterion,
        tuple(inputs),
        tuple(warnings),
    )


def _case(
    pair: Pair, suv_path: Path | None, criterion: Criterion, reading: str
) -> tuple[Patient, dict[str, Any]]:
    scans = {"reference": read_labels(pair.first), "predicted": read_labels(pair.second)}
    if suv_path is not None:
        scans["suv"] = read_pet(suv_path, _PLAIN_SUV)
    paths = {"reference": pair.first, "predicted": pair.second, "suv": suv_path}
    grid = scans["reference"].volume.grid
    volumes, facts = {}, {}
    for name, scan in scans.items():
        turned = in_order_of(scan.volume, grid)
        if turned is None:
            raise InputError(
                f"{paths[name]}: lies on another grid than {pair.first} ({grid_in_words(scan.volume.grid)}, "
                f"against {grid_in_words(grid)}); expected one grid: resample the labels to it first"
            )
        volumes[name] = turned
        facts[name] = {
            key: value for key, value in scan.source.items() if key not in ("seconds", "label_names")
        }
        facts[name]["axes_turned"] = not scan.volume.grid.same_as(grid, SAME_MM)
    maps: dict[str, Lesions] = {
        name: lesions_in(volumes[name].data, reading) for name in ("reference", "predicted")
    }
    for name, lesions in maps.items():
        facts[name] |= {"reading": lesions.reading, "lesions_in_parts": lesions.in_parts}
    patient = compare_hotspots(
        pair.case,
        maps["reference"].numbers,
        maps["predicted"].numbers,
        grid.voxel_ml,
        volumes["suv"].data if "suv" in volumes else None,
        criterion,
    )
    warnings = [f"{name}: {line}" for name, scan in scans.items() for line in scan.warnings]
    if mask_mirrored(volumes["reference"], volumes["predicted"]):
        warnings.append("the prediction seems to be the mirror image (left and right are swapped)")
    for name, path in (("reference", pair.first), ("predicted", pair.second)):
        facts[name]["maker"] = maker_of(path, scans[name])
    return patient, {"case": pair.case, **facts, "warnings": warnings}


def _unpaired_words(pairing: Pairing) -> list[str]:
    lines = []
    for side in ("reference", "predicted"):
        cases = [case for case, lacks in pairing.unpaired if lacks == side]
        if cases:
            some = "1 case has" if len(cases) == 1 else f"{len(cases)} cases have"
            are = "is" if len(cases) == 1 else "are"
            lines.append(
                f"{some} no {side} map and {are} in no figure ({', '.join(cases[:3])}"
                f"{' ...' if len(cases) > 3 else ''}); where nothing was found, give an empty map"
            )
    return lines


def _doubts(patients: Sequence[Patient], inputs: Sequence[dict[str, Any]]) -> list[str]:
    """Sides that seem swapped, files that stand for two cases, maps of which none touches its partner."""
    sides = ("reference", "predicted")
    lines = of_makers({one["case"]: (one["reference"]["maker"], one["predicted"]["maker"]) for one in inputs})
    lines += of_one_file_twice(
        {one["case"]: {side: one[side] for side in sides if one[side]["file_range"][1] > 0} for one in inputs}
    )
    both = [patient for patient in patients if patient.reference_ml and patient.predicted_ml]
    if both and not any(patient.shared_ml for patient in both):
        some = f"{len(both)} case{'s' if len(both) > 1 else ''}"
        lines.append(
            f"in none of {some} with lesions in both maps does one touch another: are both of one scan?"
        )
    return lines


def _reading_words(inputs: Sequence[dict[str, Any]]) -> list[str]:
    """What was taken for a lesion, where a map does not say; and a map compared with itself."""
    lines = []
    held = [one for one in inputs if one["reference"]["file_range"][1] > 0]  # empty maps are alike by right
    same = sum(one["reference"]["sha256"] == one["predicted"]["sha256"] for one in held)
    if same:
        lines.append(f"of {same} of {len(inputs)} cases the predicted map is the very file of the reference")
    for side in ("reference", "predicted"):
        maps = [one[side] for one in inputs]
        masks = sum(one["reading"] == "parts" for one in maps)
        if masks:
            lines.append(
                f"{side}: {masks} of {len(maps)} maps are masks: lesions are their connected parts "
                "(26 neighbours)"
            )
        broken = sum(one["lesions_in_parts"] for one in maps)
        if broken:
            lines.append(
                f"{side}: {broken} lesions are of separate parts; if numbers are classes and not lesions, "
                "give --lesions parts"
            )
    lines += [f"{one['case']}: {line}" for one in inputs for line in one["warnings"]]
    return lines


def lesion_table(patients: Sequence[Patient]) -> pd.DataFrame:
    """The columns of `LESION_COLUMNS`."""
    rows = [
        {"case": patient.case, "note": _note(lesion)}
        | {name: value for name, value in asdict(lesion).items() if name in LESION_COLUMNS}
        for patient in patients
        for lesion in patient.lesions
    ]
    table = pd.DataFrame(rows, columns=list(LESION_COLUMNS))
    for column in ("reference", "predicted"):
        numbers = table[column].astype("Int64")
        table[column] = numbers.mask(numbers == 0)
    return table


def _note(lesion: Lesion) -> str:
    if lesion.relation:
        of = "predicted" if lesion.relation == "merged" else "reference"
        return f"{lesion.relation}: lies mostly in {of} lesion {lesion.whole}"
    if lesion.what == "ignored":
        return (
            "below the minimal volume"
            if lesion.reference
            else "below the minimal volume, or in such a lesion"
        )
    return ""


def patient_table(patients: Sequence[Patient], unpaired: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """The columns of `PATIENT_COLUMNS`; a case without partner has a row whose note says so."""
    rows: list[dict[str, Any]] = [
        {"case": patient.case, "note": ""} | patient_figures(patient) for patient in patients
    ]
    rows += [{"case": case, "note": f"no {side} map"} for case, side in unpaired]
    table = pd.DataFrame(rows, columns=list(PATIENT_COLUMNS))
    whole = PATIENT_COLUMNS[1 : PATIENT_COLUMNS.index("sensitivity")]
    return table.astype(dict.fromkeys(whole, "Int64"))


def figure_table(figures: Sequence[Figure]) -> pd.DataFrame:
    """The columns of `FIGURE_COLUMNS`."""
    rows = [(one.name, one.value, *one.interval, *one.bootstrap, one.n, one.definition) for one in figures]
    return pd.DataFrame(rows, columns=list(FIGURE_COLUMNS))


def write_detection(result: Detection, folder: Path) -> None:
    """Write tables and provenance into `folder`, which exists. Raises ResourceError when it cannot."""
    tables = {
        "lesions": lesion_table(result.patients),
        "patients": patient_table(result.patients, result.unpaired),
        "detection": figure_table(result.figures),
    }
    if result.curve:
        tables["froc"] = pd.DataFrame([asdict(point) for point in result.curve], columns=list(CURVE_COLUMNS))
    write_tables(tables, {}, _provenance(result), folder)


def _provenance(result: Detection) -> dict[str, Any]:
    """What was compared, by hashes, and by which criterion; no path."""
    return {
        "petbone": petbone.__version__,
        "criterion": asdict(result.criterion) | {"words": result.criterion.words()},
        "cases": list(result.inputs),
        "unpaired": [{"case": case, "lacks": side} for case, side in result.unpaired],
        "warnings": list(result.warnings),
        "versions": versions(),
    }
