"""Label tables: how other tools number the bones, and the step from their numbers to ours.

* *label* : a value in somebody's mask
* *bone*  : a petbone bone id, 1 to 66 (`petbone.anatomy`); 0 is no bone of ours (an organ, background)
* *merged* : a label that is several bones in one; it cannot be split, so it becomes 0 and is reported

Tables are CSV files with the columns ``label,name`` and, where the name alone does not say it, ``bone``: a
petbone name, ``-`` for none, or several joined by ``+`` for a merged label.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from petbone.anatomy import ALL_BONES, BY_ID, BY_NAME
from petbone.errors import InputError
from petbone.label_counts import label_counts
from petbone.volume import Unit, Volume

TABLES: tuple[str, ...] = (
    "petbone",
    "totalsegmentator",
    "totalsegmentator_v1",
    "moose_vertebrae",
    "moose_ribs",
    "moose_peripheral_bones",
    "skellytour",
    "skellytour_medium",
)
"""Names that `LabelTable.load` knows; `moose` stands for one of its three, chosen by the mask's file name."""

_UNKNOWN = 255
_ONE_LABEL = (
    "1 is the only label, which petbone calls C1; for a mask of another bone say so by --labels FILE.csv"
)
_NO_BONE = ("", "-", "none", "background", "other")
_LISTED = 5


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Bone of every label that a tool writes. Frozen; `mapping` and `merged` cannot be written to.

    `note_limit` and `refuse_limit`: with no label above it, a mask may be, or surely is, of another table;
    (limit, sentence), limit -1 for never.
    """

    name: str
    source: str
    mapping: Mapping[int, int]
    merged: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    note_limit: tuple[int, str] = (-1, "")
    refuse_limit: tuple[int, str] = (-1, "")

    def __post_init__(self) -> None:
        wrong = [b for b in self.mapping.values() if b != 0 and b not in BY_ID]
        if wrong:
            raise ValueError(f"label table {self.name} names bones that do not exist: {wrong[:_LISTED]}")
        if any(not 0 <= label <= 65535 for label in self.mapping):
            raise ValueError(f"label table {self.name} has labels outside 0 to 65535")
        object.__setattr__(self, "mapping", MappingProxyType(dict(self.mapping)))
        object.__setattr__(self, "merged", MappingProxyType(dict(self.merged)))

    @staticmethod
    def load(name: str, file_name: str = "") -> LabelTable:
        """Table by its name in `TABLES`, or from a CSV file, or from a dseg.tsv of BIDS.

        `file_name` is that of the mask and matters for ``moose`` alone: MOOSE writes a file per model and
        says the model in the file's name. Raises InputError for an unknown name and for a malformed CSV file.
        """
        if name == "petbone":
            ids = {b.id: b.id for b in ALL_BONES} | {0: 0}
            return LabelTable("petbone", "petbone.anatomy", ids, note_limit=(1, _ONE_LABEL))
        if name == "moose":
            name = _moose_model(file_name)
        name = name.replace("clin_ct_", "moose_")
        if name in TABLES:
            text = resources.files("petbone").joinpath(f"data/labels/{name}.csv").read_text("utf-8")
            return _parse(name, name, text)
        path = Path(name)
        if not is_file_of_labels(name):
            raise InputError(f"{name}: no such label table; known are {', '.join(TABLES)} and FILE.csv")
        try:
            text = path.read_text("utf-8-sig")
            return _parse("csv", name, _from_bids(text) if path.suffix.lower() == ".tsv" else text)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InputError(f"{name}: label table cannot be read: {reason}") from None

    @staticmethod
    def for_file(volume: Volume, label_names: Mapping[int, str] | None = None) -> LabelTable:
        """Table of a mask whose tool nobody named: by the names it carries itself, else petbone's own.

        Raises InputError if labels exceed petbone's, or a name in the file is unknown. Nothing is guessed.
        """
        if label_names:
            rows = [(int(label), name, None) for label, name in label_names.items()]
            return _table("names in the file", "label names in the file's header", rows, "the file's header")
        highest = int(volume.data.max())
        if highest > max(BY_ID):
            raise InputError(
                f"labels up to {highest}, but petbone's end at {max(BY_ID)}; say whose they are with "
                f"--labels ({', '.join(TABLES[1:])} or FILE.csv)"
            )
        return LabelTable.load("petbone")

    def apply(self, volume: Volume) -> Volume:
        """`volume` in petbone's labels, uint8, in one pass. Memory order is kept.

        Raises InputError for labels that the table does not have, naming the first few, and where the labels
        show that the mask is of another table.
        """
        if volume.unit is not Unit.LABEL:
            raise ValueError(f"a label table applies to labels, got {volume.unit.value}")
        data = volume.data
        lowest, highest = int(data.min()), int(data.max())
        if lowest < 0 or highest > 65535:
            raise InputError(f"labels from {lowest} to {highest}; expected 0 to 65535")
        if 0 < highest <= self.refuse_limit[0]:
            raise InputError(self.refuse_limit[1])
        bone_of = np.full(highest + 1, _UNKNOWN, np.uint8)
        bone_of[0] = 0
        for label, bone in self.mapping.items():
            if label <= highest:
                bone_of[label] = bone
        unknown = [label for label in _present(data) if bone_of[label] == _UNKNOWN]
        if unknown:
            raise InputError(
                f"{len(unknown)} labels are not in the table {self.name}: {_some(unknown)}; "
                "is it the right table? (--labels)"
            )
        if (
            data.dtype == np.uint8
            and (bone_of[bone_of != _UNKNOWN] == np.flatnonzero(bone_of != _UNKNOWN)).all()
        ):
            return volume  # petbone's own labels: nothing to translate in a map of 120 M voxels
        # Fancy indexing makes C order; going through the transpose keeps a Fortran array one.
        turned = data.flags.f_contiguous and not data.flags.c_contiguous
        return volume.with_data(bone_of[data.T].T if turned else bone_of[data], Unit.LABEL)

    def notes(self, volume: Volume) -> tuple[str, ...]:
        """What a reader of the result must know: bones lost in merged labels, doubts about the table."""
        present = _present(volume.data)
        said = [
            f"label {label} of the mask is {names[0]} to {names[-1]} in one; it is left out, they are absent"
            for label, names in self.merged.items()
            if label in present
        ]
        if present and 0 < present[-1] <= self.note_limit[0]:
            said.append(self.note_limit[1])
        return tuple(said)


def merge(volumes: Sequence[Volume]) -> tuple[Volume, int]:
    """One label map from several on one grid (MOOSE writes three), and how many voxels more than one claimed.

    The first to claim a voxel keeps it. Raises InputError if the grids differ.
    """
    first = volumes[0]
    data = np.array(first.data, np.uint8, order="K")
    claimed_twice = 0
    for number, other in enumerate(volumes[1:], start=2):
        if not other.grid.same_as(first.grid, atol_mm=0.1):
            raise InputError(f"mask {number} is not on the grid of the first; expected masks of one CT")
        free = data == 0
        claimed_twice += int(np.count_nonzero(other.data[~free]))
        np.copyto(data, other.data.astype(np.uint8), where=free)
    return first.with_data(data, Unit.LABEL), claimed_twice


def _present(data: npt.NDArray[Any]) -> list[int]:
    """The labels that occur, ascending, without 0."""
    return [int(label) for label in np.flatnonzero(label_counts(data)) if label]


def bone_named(name: str) -> int | None:
    """Id of the bone that a tool's name means, 0 for a structure that is none of ours, None if unknown.

    >>> [bone_named(name) for name in ("vertebrae_L5", "LEFT_RIB_3", "clavicula_right", "liver")]
    [17, 20, 44, 0]
    """
    words = re.split(r"[\s_\-]+", name.strip().lower())
    side = next((s for s in ("left", "right") if s in words), "")
    rest = [w for w in words if w not in ("left", "right", "vertebrae", "vertebra", "bone", "os")]
    stem = "_".join(rest).replace("clavicula", "clavicle")
    if stem in ("s1", "coccyx") and not side:
        stem = "sacrum"
    if side and (rib := re.fullmatch(r"ribs?_?(\d+)", stem)):
        candidate = f"rib_{side}_{int(rib[1])}"
    else:
        candidate = f"{stem}_{side}" if side else stem
    for spelled in (candidate, candidate.upper()):
        if spelled in BY_NAME:
            return BY_NAME[spelled].id
    return 0 if name.strip().lower() in _structures_without_bone() else None


@cache
def _structures_without_bone() -> frozenset[str]:
    names = set(_NO_BONE)
    for table in TABLES[1:]:
        text = resources.files("petbone").joinpath(f"data/labels/{table}.csv").read_text("utf-8")
        names |= {row["name"].lower() for row in _rows(text) if row.get("bone") == "-"}
    return frozenset(names)


def is_file_of_labels(name: str) -> bool:
    """Whether the name of a label table is that of a file: CSV, or a dseg.tsv of BIDS (index, name)."""
    return name.lower().endswith((".csv", ".tsv"))


def _from_bids(text: str) -> str:
    """A table of BIDS, parted by tabs, its column index called label."""
    head, _, rest = text.partition("\n")
    names = ["label" if name.strip() == "index" else name.strip() for name in head.split("\t")]
    rows = list(csv.reader(rest.splitlines(), delimiter="\t"))
    told = io.StringIO()
    csv.writer(told, lineterminator="\n").writerows([names, *rows])
    return told.getvalue()


def _rows(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return list(csv.DictReader(lines, skipinitialspace=True))


def _parse(name: str, where: str, text: str) -> LabelTable:
    rows = _rows(text)
    if not rows or not {"label", "name"} <= set(rows[0]):
        raise InputError(f"{where}: expected a table with the columns label,name")
    parsed: list[tuple[int, str, str | None]] = []
    for number, row in enumerate(rows, start=1):
        if not re.fullmatch(r"\d+", (row["label"] or "").strip()) or int(row["label"]) > 65535:
            raise InputError(
                f"{where}: row {number}: the label {row['label']!r} is no whole number from 0 to 65535"
            )
        if not (row["name"] or row.get("bone") or "").strip():
            raise InputError(f"{where}: row {number}: no name; expected a bone, or - for what is none")
        parsed.append((int(row["label"]), row["name"] or "", row.get("bone")))
    comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    source = next((c.removeprefix("source: ") for c in comments if c.startswith("source: ")), "a file")
    return _table(name, source, parsed, where, _limit(comments, "note"), _limit(comments, "refuse"))


def _limit(comments: Iterable[str], kind: str) -> tuple[int, str]:
    for comment in comments:
        if found := re.match(rf"{kind}_if_at_most: (\d+) \| (.+)", comment):
            return int(found[1]), found[2]
    return -1, ""


def _table(
    name: str,
    source: str,
    rows: Iterable[tuple[int, str, str | None]],
    where: str,
    note_limit: tuple[int, str] = (-1, ""),
    refuse_limit: tuple[int, str] = (-1, ""),
) -> LabelTable:
    """Table from (label, name, bone or None) rows; a name that means nothing is refused and not dropped."""
    mapping: dict[int, int] = {0: 0}
    merged: dict[int, tuple[str, ...]] = {}
    unknown: list[str] = []
    for label, structure, bone in rows:
        words = tuple((bone or structure).strip().split("+")) if bone else (structure,)
        ids = [bone_named(word) if word != "-" else 0 for word in words]
        if any(found is None for found in ids):
            unknown.append(structure)
            continue
        if label in mapping and label != 0:
            raise InputError(f"{where}: the label {label} occurs twice")
        if len(ids) > 1:
            merged[label] = words
        mapping[label] = ids[0] or 0 if len(ids) == 1 else 0
    if unknown:
        raise InputError(
            f"{where}: {len(unknown)} names are no bone and no organ known: {_some(unknown)}; expected names "
            "such as T7, rib_left_3, hip_right, or a column `bone` with - for what is not to be measured"
        )
    return LabelTable(name, source, mapping, merged, note_limit, refuse_limit)


def _moose_model(file_name: str) -> str:
    low = file_name.lower()
    models = {"vertebrae": "moose_vertebrae", "ribs": "moose_ribs", "peripheral": "moose_peripheral_bones"}
    found = [model for word, model in models.items() if word in low]
    if len(found) != 1:
        raise InputError(
            f"moose: its models number their labels differently; say which: {', '.join(models.values())}"
        )
    return found[0]


def _some(values: Sequence[object]) -> str:
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return ", ".join(map(str, values[:_LISTED])) + more
