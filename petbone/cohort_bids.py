"""A BIDS data set as the table of a cohort: a case for every session of a subject that has a PET.

* *session* : ``sub-01/ses-1``, or the subject's own folder where it has no sessions
* *tracer*  : what the entity ``trc-`` or ``TracerName`` of the sidecar says, in petbone's words
* *mask*    : a ``_dseg`` image of one pipeline in ``derivatives``

File names and tables: BIDS specification, PET, participants, sessions and scans files. BIDS has no CT: images
that end in ``_ct`` or ``_CT`` in ``ct``, ``anat`` or ``pet`` are taken for one. Nothing is chosen where there
are several.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from petbone.cohort_table import CohortTable, checked_cohort, is_free
from petbone.errors import InputError, InputErrors
from petbone.io.injection import sex_of, tracer_of
from petbone.io.participants import TABLE
from petbone.io.sidecar import read_sidecar
from petbone.labels import is_file_of_labels
from petbone.pipeline import TRACERS

_IMAGE = re.compile(r"(?P<stem>.+)_(?P<suffix>[A-Za-z]+)\.nii(\.gz)?")
_READ_BY_THE_SIDECAR = ("weight", "height")
"""Columns of participants.tsv that a PET's reader takes from there itself."""
_COLUMNS = "case ct pet tracer bones labels ct2 pet2 tracer2 bones2 labels2 patient date sex".split()

Row = dict[str, str]


@dataclass(frozen=True)
class Image:
    """An image by its name: its entities (``trc`` and so on) and its suffix."""

    path: Path
    entities: dict[str, str]

    @property
    def trc(self) -> str:
        """Label of the tracer; empty without one."""
        return self.entities.get("trc", "")


@dataclass(frozen=True)
class Session:
    """A session. `name` is that of its files, as ``sub-01_ses-1``."""

    subject: str
    name: str
    folder: Path
    pets: tuple[Image, ...]
    cts: tuple[Image, ...]
    masks: tuple[Image, ...]


def read_bids(
    folder: Path, output: Path, derivatives: str | None = None, labels: str | None = None
) -> CohortTable:
    """The cases of a data set. `derivatives`: the pipeline in it whose masks are taken; None: no masks.

    `labels`: whose labels the masks have; None: as their ``_dseg.tsv`` says, else petbone's own.

    Raises InputErrors with a line for every finding.
    """
    pipeline = _pipeline(folder, derivatives)
    if labels is not None and is_file_of_labels(labels):
        labels = str(Path(labels).absolute())  # of where the command is given, not of the data set
    places = list(_sessions(folder, pipeline))
    sessions = [one for one in places if one.pets]
    if not sessions:
        raise InputError(
            f"{folder}: holds no PET (sub-*/pet/*_pet.nii.gz, or in sub-*/ses-*/pet); expected a BIDS data "
            "set, or a table"
        )
    findings: list[str] = []
    own = _participants(folder, findings)
    findings = [f"{folder}: {text}" for text in findings]
    rows: list[tuple[str, Row]] = []
    for one in sessions:
        said, found = _rows(one, labels, pipeline)
        findings += [f"{folder}: {one.name}: {text}" for text in said]
        extra = own.get(one.subject, {})
        rows += [(row["case"], row | extra) for row in found]
    subjects = [row["patient"] for _, row in rows]
    findings += [
        f"{folder}: {case}: no acq_time in scans.tsv or sessions.tsv, and {row['patient']} has several "
        "examinations; expected one for each"
        for case, row in rows
        if not row["date"] and subjects.count(row["patient"]) > 1
    ]
    if findings:
        raise InputErrors("\n".join(findings))
    # As in a table: an empty column is no column.
    order = [*_COLUMNS, *dict.fromkeys(name for some in own.values() for name in some)]
    names = [name for name in dict.fromkeys(order) if any(row.get(name) for _, row in rows)]
    lines = [(place, [_relative(row.get(name, ""), folder) for name in names]) for place, row in rows]
    table = checked_cohort(folder, folder, (names, lines), output)
    without = [one.name for one in places if not one.pets]
    notes = [f"without a PET, left out: {', '.join(without)}"] if without else []
    unknown = [name for name in dict.fromkeys(subjects) if own and name not in own]
    if unknown:
        notes.append(f"without a row in {TABLE}: {', '.join(unknown)}")
    return replace(table, notes=(*table.notes, *notes))


def _relative(cell: str, folder: Path) -> str:
    return cell.removeprefix(f"{folder}/")


def _pipeline(folder: Path, derivatives: str | None) -> Path | None:
    """The folder of the pipeline. Raises InputError when there is none of the name."""
    if derivatives is None:
        return None
    place = folder / "derivatives"
    if "/" in derivatives or not (place / derivatives).is_dir() or derivatives in ("", ".", ".."):
        known = sorted(path.name for path in place.glob("*") if path.is_dir())
        raise InputError(
            f"{folder}: no derivatives/{derivatives}; expected the name of a pipeline in derivatives: "
            f"{', '.join(known) or 'there is none'}"
        )
    return place / derivatives


def _sessions(folder: Path, pipeline: Path | None) -> Iterator[Session]:
    """Every session, and every subject without any; also those that have no PET."""
    for subject in sorted(folder.glob("sub-*")):
        within = sorted(subject.glob("ses-*"))
        for place in (subject, *within):
            name = subject.name if place == subject else f"{subject.name}_{place.name}"
            pets = _images([place / "pet"], ("pet",))
            if place == subject and within and not pets:
                continue
            cts = _images([place / part for part in ("ct", "anat", "pet")], ("ct", "CT"))
            masks: tuple[Image, ...] = ()
            if pipeline is not None:
                ground = pipeline / place.relative_to(folder)
                parts = [ground, *(ground / part for part in ("ct", "anat", "pet"))]
                masks = _images(parts, ("dseg",))
            yield Session(subject.name, name, place, pets, cts, masks)


def _images(folders: Sequence[Path], suffixes: Sequence[str]) -> tuple[Image, ...]:
    found = []
    for folder in folders:
        for path in sorted(folder.glob("*.nii*")):
            named = _IMAGE.fullmatch(path.name)
            if named and named["suffix"] in suffixes:
                parts = [part.partition("-") for part in named["stem"].split("_")]
                found.append(Image(path, {key: value for key, _, value in parts}))
    return tuple(found)


def _rows(one: Session, labels: str | None, pipeline: Path | None) -> tuple[list[str], list[Row]]:
    """What is wrong with a session, and its rows: two where every tracer has a CT and a date of its own."""
    said = [
        f"{image.path.name}: lies in the folder of another subject or session"
        for image in (*one.pets, *one.cts, *one.masks)
        if not image.path.name.startswith(f"{one.name}_")
        or ("ses" in image.entities) != ("_ses-" in one.name)
    ]
    tracers = [_tracer(image, said) for image in one.pets]
    if len(one.pets) > 1 and (len(set(tracers)) < len(tracers) or "" in tracers):
        known = ", ".join(tracer or "unknown" for tracer in tracers)
        said.append(
            f"{len(one.pets)} PETs ({_names(one.pets)}), tracers: {known}; expected one PET of each tracer: "
            "take the others away (run-, rec-), or give a table"
        )
    elif len(one.pets) > 2:
        said.append(
            f"PETs of {len(one.pets)} tracers ({_names(one.pets)}); expected two at most: give a table"
        )
    cts, masks = (
        _of_each(images, one.pets, what, said) for images, what in ((one.cts, "CTs"), (one.masks, "masks"))
    )
    if not one.cts and not one.masks:
        said.append(
            "no CT (an image that ends in _ct.nii.gz in ct, anat or pet) and no mask by --derivatives"
        )
    dates = [_date(one, image, said) for image in one.pets]
    one_frame = len(one.cts) < 2 and len(one.masks) < 2
    if one_frame and len(set(dates)) > 1:
        said.append(
            f"PETs of two dates ({_names(one.pets)}) and one CT; expected a CT for each, with its trc-"
        )
    if said:
        return said, []
    rows = [
        {
            "ct": "" if ct is None else str(ct.path),
            "pet": str(pet.path),
            "tracer": tracer,
            "bones": "" if mask is None else str(mask.path),
            "labels": "" if mask is None else labels or _own_labels(mask, pipeline),
            "date": date,
            "patient": one.subject,
        }
        for pet, tracer, ct, mask, date in zip(one.pets, tracers, cts, masks, dates, strict=True)
    ]
    # In one order in every patient, so that ratios of two tracers mean the same.
    rows.sort(key=lambda row: TRACERS.index(row["tracer"] or TRACERS[-1]))
    return [], _cases(one.name, rows, one_frame)


def _cases(name: str, rows: list[Row], one_frame: bool) -> list[Row]:
    """The cases of a session, made of a row for each PET: one, or two where dates bring these together."""
    if len(rows) == 1:
        return [rows[0] | {"case": name}]
    if not one_frame and all(row["date"] for row in rows):
        return [row | {"case": f"{name}_{row['tracer']}"} for row in rows]
    second = ("pet", "tracer") if one_frame else ("pet", "tracer", "ct", "bones", "labels")
    return [rows[0] | {"case": name} | {f"{column}2": rows[1][column] for column in second}]


def _names(images: Sequence[Image]) -> str:
    return ", ".join(image.path.name for image in images)


def _tracer(pet: Image, said: list[str]) -> str:
    """In petbone's words; empty where it is none that petbone knows, and a PET without a sidecar is said."""
    sidecar = pet.path.with_name(re.sub(r"\.nii(\.gz)?$", ".json", pet.path.name))
    if not sidecar.is_file():
        said.append(
            f"{pet.path.name}: no {sidecar.name} beside it; expected its sidecar there (those of folders "
            "above are not read)"
        )
        return tracer_of(pet.trc) or ""
    try:
        told = tracer_of(str(read_sidecar(sidecar).get("TracerName", "")))
    except InputError as error:
        said.append(f"{sidecar.name}: {str(error).removeprefix(f'{sidecar}: ')}")
        told = None
    named = tracer_of(pet.trc)
    if named and told and named != told:
        said.append(f"{pet.path.name}: its name says {named} and TracerName {told}; expected one tracer")
    return told or named or ""


def _of_each(
    images: Sequence[Image], pets: Sequence[Image], what: str, said: list[str]
) -> list[Image | None]:
    """The image of each PET: the only one, or that of the same trc-."""
    if len(images) < 2:
        return [images[0] if images else None] * len(pets)
    own = [[image for image in images if image.trc and image.trc == pet.trc] for pet in pets]
    if len(images) == len(pets) and all(len(some) == 1 for some in own):
        return [some[0] for some in own]
    said.append(
        f"{len(images)} {what} ({_names(images)}); expected one, or one for each PET with the same trc-"
    )
    return [None] * len(pets)


def _own_labels(mask: Image, pipeline: Path | None) -> str:
    """The table that says whose labels a mask has: beside it, or that of the pipeline; empty without one."""
    beside = mask.path.with_name(re.sub(r"\.nii(\.gz)?$", ".tsv", mask.path.name))
    if beside.is_file():
        return str(beside)
    above = sorted(pipeline.glob("*dseg.tsv")) if pipeline is not None else []
    return str(above[0]) if len(above) == 1 else ""


def _date(one: Session, pet: Image, said: list[str]) -> str:
    """The day of `acq_time` in scans.tsv, or of the session in sessions.tsv; empty where neither has one."""
    scans = one.folder / f"{one.name}_scans.tsv"
    name = pet.path.relative_to(one.folder).as_posix()
    found = [row for row in _tsv(scans, said) if row.get("filename", "").strip() == name]
    if not any(_cell(row, "acq_time") for row in found) and "_ses-" in one.name:
        table = one.folder.parent / f"{one.subject}_sessions.tsv"
        session = one.name.removeprefix(f"{one.subject}_")
        found = [row for row in _tsv(table, said) if row.get("session_id", "").strip() == session]
    times = {_cell(row, "acq_time") for row in found} - {""}
    if len(times) > 1:
        said.append(f"acq_time: {len(times)} rows of one examination; expected one")
    return re.split("[T ]", times.pop())[0] if times else ""


def _cell(row: Row, column: str) -> str:
    text = (row.get(column) or "").strip()
    return "" if text.lower() == "n/a" else text


def _participants(folder: Path, said: list[str]) -> dict[str, Row]:
    """What participants.tsv says of each subject: sex, and the other columns, under a free name if need be.

    Weight and height are taken by the reader of the PET.
    """
    found: dict[str, Row] = {}
    table = _tsv(folder / TABLE, said)
    names = list(table[0]) if table else []
    if table and "participant_id" not in names:
        said.append(f"{TABLE}: has no column participant_id; expected it, and tabs between the columns")
        return {}
    called = {name: name if is_free(name) else f"participant_{name}" for name in names}
    for name in names:
        if called[name] != name and called[name] in names:
            said.append(f"{TABLE}: has the columns {name} and {called[name]}; rename one of them")
    for row in table:
        subject = (row.get("participant_id") or "").strip()
        if subject in found:
            said.append(f"{TABLE}: {subject} has two rows; expected one")
        cells = {name: _cell(row, name) for name in row if name and name not in _READ_BY_THE_SIDECAR}
        cells.pop("participant_id", None)
        sex = sex_of(cells.pop("sex", None))
        found[subject] = {"sex": sex} if sex else {}
        found[subject] |= {called[name]: cell for name, cell in cells.items()}
    return found


def _tsv(path: Path, said: list[str]) -> list[Row]:
    """The rows of a table; none where there is no file."""
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", restval="", strict=True)
            rows, names = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said.append(f"{path.name}: cannot be read ({type(error).__name__}); expected a table of BIDS")
        return []
    for name in dict.fromkeys(name for name in names if name and list(names).count(name) > 1):
        said.append(f"{path.name}: has the column {name} twice; expected it once")
    return [{name: cell for name, cell in row.items() if name is not None} for row in rows]
