"""A validation from files: pairs read one by one, the study made, and its folder written. Paths end here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import petbone
from petbone.anatomy import ALL_BONES, BY_NAME
from petbone.errors import InputError
from petbone.folders import write_tables
from petbone.io import read_ct
from petbone.label_doubts import doubts
from petbone.lattice import in_order_of
from petbone.mask_files import (
    ENDINGS,
    Found,
    ReadMask,
    find_masks,
    grid_in_words,
    name_of,
    pair,
    read_mask,
    unpaired,
    without_path,
)
from petbone.metrics import Ruler
from petbone.pipeline import refuse_no_overlap, versions
from petbone.readings import repeat_table, rows_of_readings
from petbone.report.validation import render
from petbone.resample import resample
from petbone.steps import Steps
from petbone.surfaces import Definition
from petbone.validation import PAPER_BONES, TOLERANCE_MM, Masks, Study, Worst, rows_of_case
from petbone.validation_notes import merged, of_absent, of_found, of_lacking, of_makers, of_same_files
from petbone.validation_tables import (
    SEED,
    agreement_table,
    group_table,
    missing_table,
    overlap_table,
    paper_table,
)
from petbone.validation_words import as_latex, as_markdown
from petbone.volume import Volume
from petbone.worst_cases import choose, cut_out

DEFINITIONS = {
    "difference": "predicted minus reference",
    "volume_difference_percent": "100 |V1 - V2| / ((V1 + V2) / 2)",
    "volume": "voxels times the volume of a voxel (determinant of the matrix)",
    "dice": "2 |A and B| / (|A| + |B|); a missed bone is 0 in medians, an extra one is not in them",
    "median_dice_interval": f"95 %, percentile bootstrap of the cases, 10000 samples, seed {SEED}",
    "hd95": "the larger one of both directed 95th percentiles",
    "assd": "mean over the elements of both borders together",
    "nsd_2mm": "share of both borders within 2 mm of the other",
    "limits_of_agreement": "bias -+ 1.96 SD; exact 95 % intervals of each limit by the noncentral t",
    "icc_2_1": "two-way random, single reading, absolute agreement (Shrout and Fleiss 1979)",
    "ccc": "Lin 1989, variances over n",
    "slope": "least squares of the difference over the mean of both",
}


@dataclass(frozen=True)
class StudyFiles:
    """What a user names. Second readings and CTs are folders or files, paired by name."""

    reference: Path
    predicted: Path
    ct: Path | None = None
    repeat: Path | None = None
    repeat_predicted: Path | None = None

    @property
    def given(self) -> list[Path]:
        """All that was named."""
        every = (self.reference, self.predicted, self.ct, self.repeat, self.repeat_predicted)
        return [path for path in every if path is not None]


@dataclass(frozen=True)
class StudyOptions:
    """`bones`: labels; empty for the paper's. `every`: all that any mask holds. Labels: a table or a CSV."""

    bones: tuple[int, ...] = ()
    every: bool = False
    labels_reference: str | None = None
    labels_predicted: str | None = None
    border: Definition = "surface elements"
    resample: bool = False

    @property
    def asked(self) -> tuple[int, ...]:
        """The labels that are compared."""
        if self.every:
            return tuple(bone.id for bone in ALL_BONES)
        return self.bones or tuple(BY_NAME[name].id for name in PAPER_BONES)


def read_study(files: StudyFiles, options: StudyOptions, steps: Steps) -> tuple[Study, dict[str, Any]]:
    """All pairs compared, one at a time, and the provenance. Raises InputError where that cannot be."""
    places = (files.reference, files.predicted)
    sides = (find_masks(files.reference), find_masks(files.predicted))
    pairs = pair(*sides, places)
    lacking = unpaired(*sides, pairs, ("reference", "predicted"))
    cts = _cts(files.ct)
    passed_over = [note for side in sides for note in side.notes]
    told: list[tuple[str, str]] = []
    rows: list[dict[str, Any]] = []
    inputs: dict[str, dict[str, Any]] = {}
    makers: dict[str, tuple[str, str]] = {}
    with steps("compare"):
        for n, (case, paths) in enumerate(pairs.items(), start=1):
            both = _both(paths, options)
            masks = _on_one_grid(case, both, paths, options)
            rows += rows_of_case(masks, options.asked, options.border)
            told += [(case, note) for mask in both for note in mask.notes]
            if both[0].facts["sha256"] != both[1].facts["sha256"]:  # else that is said, and no more
                found = doubts(masks.reference, masks.predicted, options.asked)
                told += [(case, doubt) for doubt in found]
            if masks.resampled:
                told.append(
                    (case, "the prediction was resampled to the reference's grid (nearest neighbour)")
                )
            inputs[case] = {"reference": both[0].facts, "predicted": both[1].facts}
            makers[case] = (both[0].maker, both[1].maker)
            steps.progress(n / len(pairs))
    overlap, left = overlap_table(rows, not (options.bones or options.every), options.every)
    _refuse_empty(overlap, files.reference)
    repeats, more = _repeats(files, options, sides, steps)
    lacking += more
    with steps("worst cases"):
        worst, doubts_of_ct = _worst(overlap, pairs, cts, options)
    # What seems mistaken comes before what is merely missing.
    notes = [*of_makers(makers), *of_same_files(inputs), *merged(told + doubts_of_ct), *of_lacking(lacking)]
    notes += [*of_absent(overlap, left), *of_found(overlap), *passed_over]
    with steps("tables"):
        agreement = agreement_table(overlap, sum(what == "file" for _, _, what in lacking))
        repeat = repeat_table(repeats)
        spacing = tuple(float(mm) for mm in next(iter(inputs.values()))["reference"]["spacing_mm"])
        study = Study(
            overlap=overlap,
            agreement=agreement,
            groups=group_table(overlap),
            missing=missing_table(overlap, lacking),
            repeat=repeat,
            table=paper_table(agreement, repeat),
            ruler=Ruler(spacing, TOLERANCE_MM, options.border),
            worst=worst,
            warnings=tuple(dict.fromkeys(notes)),
        )
    return study, _provenance(study, files, options, inputs)


def _both(paths: tuple[Path, Path], options: StudyOptions) -> tuple[ReadMask, ReadMask]:
    return (
        read_mask(paths[0], options.labels_reference, "--labels-reference"),
        read_mask(paths[1], options.labels_predicted, "--labels-predicted"),
    )


def _on_one_grid(
    case: str, both: tuple[ReadMask, ReadMask], paths: tuple[Path, Path], options: StudyOptions
) -> Masks:
    """The prediction on the grid of the reference: the same voxels, or resampled where that is allowed."""
    reference, predicted = (mask.reading for mask in both)
    grid, other = reference.bones.grid, predicted.bones.grid
    masks = Masks(case, reference.bones, predicted.bones, reference.cut, predicted.cut)
    same = in_order_of(predicted.bones, grid)
    if same is not None:
        return replace(masks, predicted=_alike(same))
    refuse_no_overlap(paths[1], other, paths[0], grid, "mask")
    if not options.resample:
        raise InputError(
            f"{paths[1]}: lies on another grid ({grid_in_words(other)}) than {paths[0]} "
            f"({grid_in_words(grid)}); expected the same voxels; give --resample to bring it there by the "
            "nearest neighbour"
        )
    return replace(masks, predicted=_alike(resample(predicted.bones, grid)), resampled=True)


def _alike(volume: Volume) -> Volume:
    """First axis fastest in memory, as files are read: two maps of other orders take three times as long."""
    return volume.with_data(np.asfortranarray(volume.data))


def _refuse_empty(overlap: pd.DataFrame, reference: Path) -> None:
    if not overlap["found"].isin(("both", "missed")).any():
        asked = ", ".join(dict.fromkeys(overlap["bone"])) or "any bone"
        raise InputError(
            f"{reference}: no reference mask holds {asked}; expected bones to compare with: name them with "
            "--bones, and whose labels the masks have with --labels-reference"
        )


def _repeats(
    files: StudyFiles, options: StudyOptions, sides: tuple[Found, Found], steps: Steps
) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    """Rows of second readings of both methods, and second readings without a first."""
    rows: list[dict[str, Any]] = []
    alone: list[tuple[str, str, str]] = []
    given = (
        ("reference", files.reference, sides[0], files.repeat, options.labels_reference),
        ("predicted", files.predicted, sides[1], files.repeat_predicted, options.labels_predicted),
    )
    for method, place, first, second_place, labels in given:
        if second_place is None:
            continue
        second = find_masks(second_place)
        pairs = pair(first, second, (place, second_place))
        if not (first.single and second.single):
            alone += [(name, method, "first reading") for name in second.masks if name not in pairs]
        with steps(f"second readings: {method}"):
            for n, (case, paths) in enumerate(pairs.items(), start=1):
                one, two = (read_mask(path, labels, f"--labels-{method}").reading for path in paths)
                same = in_order_of(two.bones, one.bones.grid)
                two = two if same is None else replace(two, bones=same)
                found = rows_of_readings(case, one, two, options.asked, one_scan=same is not None)
                rows += [row | {"method": method} for row in found]
                steps.progress(n / len(pairs))
    return rows, alone


def _worst(
    overlap: pd.DataFrame,
    pairs: Mapping[str, tuple[Path, Path]],
    cts: Mapping[str, Path],
    options: StudyOptions,
) -> tuple[tuple[Worst, ...], list[tuple[str, str]]]:
    """The cases to look at are read once more: no more than one of a study fits into memory."""
    chosen = choose(overlap)
    found: dict[tuple[str, str], Worst] = {}
    told = []
    for case in dict.fromkeys(row["case"] for row in chosen):
        masks = _on_one_grid(case, _both(pairs[case], options), pairs[case], options)
        ct, said = _ct(cts, case, masks)
        told += [(case, said)] if said else []
        of_case = [row for row in chosen if row["case"] == case]
        found |= {(one.case, one.bone): one for one in cut_out(of_case, masks, ct)}
    return tuple(found[row["case"], row["bone"]] for row in chosen), told


def _cts(place: Path | None) -> dict[str, Path]:
    """CTs by the name of their case: files, or folders of DICOM; ``""`` is the one CT that was named."""
    if place is None:
        return {}
    if place.is_file():
        return {"": place}
    if not place.is_dir():
        raise InputError(f"{place}: no such file or folder; expected a CT, or a folder of CTs")
    found = {}
    for path in sorted(place.iterdir()):
        if path.is_dir():
            own = path / "ct.nii.gz"
            found[path.name] = own if own.is_file() else path
        elif path.name.lower().endswith(ENDINGS):
            # nnU-Net adds the number of the channel.
            found[name_of(path).removesuffix("_0000")] = path
    return found or {"": place}  # a folder without images by name is a DICOM folder of one CT


def _ct(cts: Mapping[str, Path], case: str, masks: Masks) -> tuple[Volume | None, str]:
    """The CT of a case, and what there is to say about it; without a CT the numbers are the same."""
    if not cts:
        return None, ""
    path = cts.get(case) or cts.get("")
    if path is None:
        return None, "no CT of this name: pictures without it"
    grid = masks.reference.grid
    try:
        ct = read_ct(path).volume
        refuse_no_overlap(path, ct.grid, None, grid, "CT")
    except InputError:
        return None, "its CT cannot be read, or lies elsewhere: pictures without it"
    if in_order_of(ct, grid) is None:
        return ct, "its CT was resampled to the reference's grid for the pictures"
    return ct, ""


def _provenance(
    study: Study, files: StudyFiles, options: StudyOptions, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """What was compared, by hashes, and how; no path, no date and no time, so that it repeats."""
    stated = asdict(options) | {
        "bones": list(dict.fromkeys(map(str, study.overlap["bone"]))),
        "tolerance_mm": TOLERANCE_MM,
        "ct": files.ct is not None,
        "repeat": files.repeat is not None,
        "repeat_predicted": files.repeat_predicted is not None,
    }
    for side in ("labels_reference", "labels_predicted"):
        stated[side] = without_path(stated[side])
    return {
        "petbone": petbone.__version__,
        "options": stated,
        "definitions": DEFINITIONS,
        "inputs": dict(inputs),
        "warnings": list(study.warnings),
        "versions": versions(),
    }


def write_study(study: Study, provenance: Mapping[str, Any], folder: Path) -> None:
    """Write every file into `folder`, which exists. Raises ResourceError when it cannot."""
    tables = {
        "overlap": study.overlap,
        "agreement": study.agreement,
        "groups": study.groups,
        "missing": study.missing,
        "table": study.table,
    }
    if len(study.repeat):
        tables["repeat"] = study.repeat
    texts = {"table.md": as_markdown(study), "table.tex": as_latex(study)}
    texts["validation.html"] = render(study, provenance)
    write_tables(tables, texts, provenance, folder)
