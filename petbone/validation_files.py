"""A validation from files: pairs read one by one, the study made, and its folder written. Paths end here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from petbone.label_doubts import doubts, doubts_of_one, doubts_of_two_scans
from petbone.lattice import in_order_of, share_outside
from petbone.mask_files import OF_A_CASE, ReadMask, grid_in_words, read_mask, without_path
from petbone.metrics import Ruler
from petbone.pairing import ENDINGS, Images, Pair, find_images, name_of, pair_images, written
from petbone.pipeline import refuse_no_overlap, versions
from petbone.readings import Reading, repeat_table, rows_of_readings
from petbone.report.validation import render
from petbone.resample import resample
from petbone.steps import Steps
from petbone.surfaces import Definition
from petbone.validation import PAPER_BONES, TOLERANCE_MM, Masks, Study, Worst, rows_of_case
from petbone.validation_notes import (
    merged,
    of_absent,
    of_found,
    of_lacking,
    of_makers,
    of_same_files,
    of_unnamed,
)
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
    sides = (find_images(files.reference, OF_A_CASE), find_images(files.predicted, OF_A_CASE))
    pairing = pair_images(*sides)
    lacking = [(case, side, "file") for case, side in pairing.unpaired]
    cts = _cts(files.ct, len(pairing.pairs))
    passed_over = [note for side in sides for note in side.notes]
    told: list[tuple[str, str]] = []
    rows: list[dict[str, Any]] = []
    inputs: dict[str, dict[str, Any]] = {}
    makers: dict[str, tuple[str, str]] = {}
    with steps("compare"):
        for n, pair in enumerate(pairing.pairs, start=1):
            case, both = pair.case, _both(pair, options)
            masks = _on_one_grid(pair, both, options)
            found_here = rows_of_case(masks, options.asked, options.border)
            rows += found_here
            told += [(case, note) for note in of_unnamed(found_here, both[1].nameable)]
            told += [
                (case, f"{side}: {note}")
                for side, mask in zip(("reference", "prediction"), both, strict=True)
                for note in (*mask.notes, *doubts_of_one(mask.reading.bones))
            ]
            if both[0].facts["sha256"] != both[1].facts["sha256"]:  # else that is said, and no more
                found = doubts(masks.reference, masks.predicted, options.asked)
                told += [(case, doubt) for doubt in found]
            if masks.resampled:
                told.append(
                    (case, "the prediction was resampled to the reference's grid (nearest neighbour)")
                )
            inputs[case] = {"reference": both[0].facts, "predicted": both[1].facts}
            makers[case] = (both[0].maker, both[1].maker)
            steps.progress(n / len(pairing.pairs))
    overlap, left = overlap_table(rows, not (options.bones or options.every), options.every)
    _refuse_empty(overlap, files.reference)
    repeats = _repeats(files, options, sides, steps)
    lacking += repeats.alone
    inputs = {case: of | repeats.inputs.get(case, {}) for case, of in inputs.items()}
    with steps("worst cases"):
        worst, doubts_of_ct = _worst(overlap, pairing.pairs, cts, options)
    told += [*repeats.told, *doubts_of_ct]
    # What seems mistaken comes before what is merely missing.
    notes = [*of_makers(makers), *of_same_files(inputs), *merged(told), *of_lacking(lacking)]
    notes += [*of_absent(overlap, left), *of_found(overlap, pd.DataFrame(rows)), *passed_over]
    with steps("tables"):
        agreement = agreement_table(overlap, sum(what == "file" for _, _, what in lacking))
        repeat = repeat_table(repeats.rows)
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


def _both(pair: Pair, options: StudyOptions) -> tuple[ReadMask, ReadMask]:
    return (
        read_mask(pair.first, options.labels_reference, "--labels-reference"),
        read_mask(pair.second, options.labels_predicted, "--labels-predicted"),
    )


def _on_one_grid(pair: Pair, both: tuple[ReadMask, ReadMask], options: StudyOptions) -> Masks:
    """The prediction on the grid of the reference: the same voxels, or resampled where that is allowed."""
    reference, predicted = (mask.reading for mask in both)
    grid, other = reference.bones.grid, predicted.bones.grid
    masks = Masks(pair.case, reference.bones, predicted.bones, reference.cut, predicted.cut)
    same = in_order_of(predicted.bones, grid)
    if same is not None:
        return replace(masks, predicted=_alike(same))
    refuse_no_overlap(pair.second, other, pair.first, grid, "mask")
    if not options.resample:
        raise InputError(
            f"{pair.second}: lies on another grid ({grid_in_words(other)}) than {pair.first} "
            f"({grid_in_words(grid)}); expected the same voxels; give --resample to bring it there by the "
            "nearest neighbour"
        )
    here = _alike(resample(predicted.bones, grid))
    return replace(
        masks,
        predicted=here,
        resampled=True,
        unseen=share_outside(reference.bones, other),
        lost=share_outside(predicted.bones, grid),
    )


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


@dataclass(frozen=True, eq=False)
class _Repeats:
    """What second readings gave: rows; those without a first; (case, what to warn of); facts by case."""

    rows: list[dict[str, Any]]
    alone: list[tuple[str, str, str]]
    told: list[tuple[str, str]]
    inputs: dict[str, dict[str, Any]]


def _repeats(
    files: StudyFiles, options: StudyOptions, sides: tuple[Images, Images], steps: Steps
) -> _Repeats:
    """The second readings of both methods against the first ones."""
    all_of = _Repeats([], [], [], {})
    given = (
        ("reference", sides[0], files.repeat, options.labels_reference),
        ("predicted", sides[1], files.repeat_predicted, options.labels_predicted),
    )
    for method, first, place, labels in given:
        if place is None:
            continue
        second = find_images(place, OF_A_CASE)
        pairing = pair_images(first, second, (method, "second reading"))
        all_of.told.extend(("", note) for note in second.notes)
        # That some cases were read once only is how such studies are made.
        all_of.alone.extend(
            (case, method, "first reading") for case, side in pairing.unpaired if side == method
        )
        with steps(f"second readings: {method}"):
            for n, pair in enumerate(pairing.pairs, start=1):
                case, flag = pair.case, f"--labels-{method}"
                masks = [read_mask(path, labels, flag) for path in (pair.first, pair.second)]
                one, two = (mask.reading for mask in masks)
                same = in_order_of(two.bones, one.bones.grid)
                two = two if same is None else replace(two, bones=same)
                found = rows_of_readings(case, one, two, options.asked, one_scan=same is not None)
                all_of.rows.extend(row | {"method": method} for row in found)
                said = [*masks[1].notes, *doubts_of_one(two.bones)]
                if masks[0].facts["sha256"] != masks[1].facts["sha256"]:  # else that is said, and no more
                    said += _doubts_of_readings(one, two, same is not None, options.asked)
                all_of.told.extend((case, f"second reading ({method}): {words}") for words in said)
                all_of.inputs.setdefault(case, {})[f"{method}_2"] = masks[1].facts
                steps.progress(n / len(pairing.pairs))
    return all_of


def _doubts_of_readings(one: Reading, two: Reading, one_scan: bool, asked: tuple[int, ...]) -> list[str]:
    if one_scan:
        return doubts(one.bones, two.bones, asked, ("first reading", "second reading"))
    said = ["it is on another grid than the first, so of another scan: volumes are compared, without Dice"]
    return said + doubts_of_two_scans(one.bones, two.bones, one.cut.keys() | two.cut.keys())


def _worst(
    overlap: pd.DataFrame,
    pairs: Sequence[Pair],
    cts: Mapping[str, Path],
    options: StudyOptions,
) -> tuple[tuple[Worst, ...], list[tuple[str, str]]]:
    """The cases to look at are read once more: no more than one of a study fits into memory."""
    chosen = choose(overlap)
    found: dict[tuple[str, str], Worst] = {}
    told = []
    by_case = {pair.case: pair for pair in pairs}
    for case in dict.fromkeys(row["case"] for row in chosen):
        masks = _on_one_grid(by_case[case], _both(by_case[case], options), options)
        ct, said = _ct(cts, case, masks)
        told += [(case, said)] if said else []
        of_case = [row for row in chosen if row["case"] == case]
        found |= {(one.case, one.bone): one for one in cut_out(of_case, masks, ct)}
    return tuple(found[row["case"], row["bone"]] for row in chosen), told


def _cts(place: Path | None, n_cases: int) -> dict[str, Path]:
    """CTs by the name of their case: files, or folders of DICOM; ``""`` is the one CT of the one case."""
    if place is None:
        return {}
    if place.is_file():
        return _only_ct(place, n_cases)
    if not place.is_dir():
        raise InputError(f"{place}: no such file or folder; expected a CT, or a folder of CTs")
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        if path.is_dir():
            own = path / "ct.nii.gz"
            name, ct = written(path.name), own if own.is_file() else path
        elif path.name.lower().endswith(ENDINGS):
            # nnU-Net adds the number of the channel.
            name, ct = name_of(path).removesuffix("_0000"), path
        else:
            continue
        if name in found:
            raise InputError(
                f"{path}: {found[name].name} is of the case {name}, too; expected one CT of each"
            )
        found[name] = ct
    # A folder without images by name is a DICOM folder of one CT.
    return found or _only_ct(place, n_cases)


def _only_ct(place: Path, n_cases: int) -> dict[str, Path]:
    if n_cases != 1:
        raise InputError(f"{place}: is one CT, and there are {n_cases} cases; expected a folder of CTs")
    return {"": place}


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
