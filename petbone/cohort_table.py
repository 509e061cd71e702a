"""The table of a cohort: a row per case, read from CSV, TSV, Excel or Parquet and checked completely.

Row numbers are those of a spreadsheet: the line of the names is row 1, the first case is row 2.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from petbone.burden import BONE_COLUMNS, HOTSPOT_COLUMNS, REGION_COLUMNS
from petbone.cohort_dates import Visit, visit_findings, visit_of
from petbone.errors import InputError, InputErrors
from petbone.indices import COLUMNS as INDEX_COLUMNS
from petbone.io import PetOptions
from petbone.labels import LabelTable, is_file_of_labels
from petbone.pipeline import TRACERS, CaseFiles

_OF_A_PET = ("tracer", "sidecar", "units", "dose_mbq", "injected_at", "scan_start", "half_life_s", "series")
_OF_AN_EXAMINATION = ("ct", "bones", "labels", "ct_series")
OF_THE_PATIENT = ("weight_kg", "height_cm", "sex")
KEPT = ("patient", "date")
"""Columns of the contract that the tables of the cohort keep, as they keep the user's own.

They say which cases are examinations of one patient (`cohort_dates`).
"""
KNOWN = (
    "case",
    *("pet", *_OF_A_PET, *_OF_AN_EXAMINATION),
    *("pet2", *(f"{name}2" for name in _OF_A_PET), *(f"{name}2" for name in _OF_AN_EXAMINATION)),
    *OF_THE_PATIENT,
    *KEPT,
)
_WORDS = {"tracer": TRACERS, "units": ("suv", "bqml"), "sex": ("M", "F", "O")}
_TAKEN = {"case", "tracer", *BONE_COLUMNS, *HOTSPOT_COLUMNS, *INDEX_COLUMNS, *REGION_COLUMNS}
_LIKE = 0.8  # similarity (difflib) from which a name of a column is taken for a misspelt one
_LONGEST_NAME, _LONGEST_NAME_BYTES = 100, 200
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class CohortRow:
    """One case: its name, which is that of its folder, what is had of it, and the columns that are kept."""

    case: str
    files: CaseFiles
    kept: tuple[tuple[str, str], ...] = ()  # column and cell, in the order of the table


@dataclass(frozen=True)
class CohortTable:
    """All cases, the names of the columns that are kept, what to be told of the table, and by which columns
    patients are compared."""

    rows: tuple[CohortRow, ...]
    kept: tuple[str, ...]
    notes: tuple[str, ...]
    visits: tuple[Visit, ...] = ()  # one for each row, by its columns patient and date
    by: tuple[str, ...] = ()


def read_cohort(path: Path, output: Path) -> CohortTable:
    """The cases of a table; relative paths in it are relative to the table's folder.

    Raises InputErrors with a line for every finding: nothing runs until all rows can. `output` is the folder
    of the cohort, whose cases cannot be made of themselves.
    """
    names, lines = _read(path)
    if not lines:
        raise InputError(f"{path}: holds no case; expected a row for each below the names of the columns")
    return checked_cohort(path, path.parent, (names, lines), output)


def checked_cohort(path: Path, ground: Path, table: tuple[list[str], Lines], output: Path) -> CohortTable:
    """The cases of a table that was read from `path`, whose relative paths are relative to `ground`.

    Raises InputErrors with a line for every finding, which begins with `path`.
    """
    names, lines = table
    findings = [f"{path}: {said}" for said in _wrong_columns(names)]
    if findings:
        raise InputErrors("\n".join(findings))
    known = [name for name in names if name in KNOWN and name not in KEPT]
    kept = tuple(name for name in names if name not in known)
    rows: list[CohortRow] = []
    seen: dict[str, str] = {}
    pets: dict[Path, str] = {}
    notes: list[str] = []
    visits: list[Visit] = []
    results = (output / "cases").resolve()
    for place, cells in lines:
        row = dict(zip(names, cells, strict=True))
        checked = _Row(ground, row, results)
        case = checked.case()
        if case and case.casefold() in seen:
            checked.findings.append(
                f"case {case!r} stands in {seen[case.casefold()]} already; expected another name "
                "(folders of some systems do not tell capital letters from small ones)"
            )
        seen.setdefault(case.casefold(), place)
        files = checked.files()
        visits.append(visit_of(place, case, row))
        findings += [f"{path}: {place}: {said}" for said in checked.findings]
        if files is None or checked.findings:
            continue
        for pet in files.pets:
            first = pets.setdefault(pet.resolve(), place)
            if first != place:
                notes.append(f"{place}: has the PET of {first}")
        rows.append(CohortRow(case, files, tuple((name, " ".join(row[name].split())) for name in kept)))
    findings += [f"{path}: {place}: {said}" for place, said in visit_findings(visits)]
    if findings:
        raise InputErrors("\n".join(findings))
    return CohortTable(tuple(rows), kept, tuple(notes), tuple(visits))


def _wrong_columns(names: list[str]) -> Iterator[str]:
    """What is wrong with the names of the columns."""
    for needed in ("case", "pet"):
        if needed not in names:
            yield f"has no column {needed}; expected the columns case, ct, pet and as many of the others"
    if "ct" not in names and "bones" not in names:
        yield "has neither a column ct nor bones; expected one of them at least"
    if "date" in names and "patient" not in names:
        yield "has a column date and none called patient; expected both, or another name for the date"
    for name in dict.fromkeys(name for name in names if name and names.count(name) > 1):
        yield f"has the column {name} twice; expected it once"
    for n, name in enumerate(names, start=1):
        if not name:
            yield f"column {n} of those that hold something has no name; give it one"
        elif name in KNOWN:
            continue
        elif name in _TAKEN:
            yield f"column {name!r} is one of petbone's own tables; call yours otherwise"
        elif name[0] in "=+-@" or not name.isprintable():
            yield f"column {name!r}: expected a name that begins with a letter"
        elif like := difflib.get_close_matches(name.lower(), KNOWN, 1, _LIKE):
            yield (
                f"column {name!r} is not known and looks like {like[0]}; rename it, or give it another name "
                "if it is one of your own"
            )


def is_free(name: str) -> bool:
    """Whether a column of the user's own can have this name."""
    return name not in KNOWN and not any(_wrong_columns(["case", "ct", "pet", name]))


class _Row:
    """One row while it is checked. `findings` gathers what is wrong with it."""

    def __init__(self, ground: Path, cells: dict[str, str], results: Path) -> None:
        self.findings: list[str] = []
        self._ground, self._cells, self._results = ground, cells, results

    def case(self) -> str:
        """The case's name, which does no harm as the name of a folder."""
        name = unicodedata.normalize("NFC", self._cells["case"])
        why = harm_of(name)
        if why:
            self.findings.append(f"case {name!r} cannot be the name of a folder: {why}")
        return name

    def files(self) -> CaseFiles | None:
        """What is had of the case; None, or not to be used, where there are findings."""
        of_patient = {
            "weight_kg": self._number("weight_kg"),
            "height_cm": self._number("height_cm"),
            "sex": self._word("sex", "sex"),
        }
        first = self._pet("", of_patient)
        second = self._pet("2", of_patient)
        ct, bones, ct2, bones2 = (self._path(name) for name in ("ct", "bones", "ct2", "bones2"))
        if not self._cells.get("pet"):
            self.findings.append("has no pet; expected a file or folder")
        if not self._cells.get("ct") and not self._cells.get("bones"):
            self.findings.append("has neither ct nor bones; expected one of them")
        if first and second and first[1].tracer and first[1].tracer == second[1].tracer:
            self.findings.append(
                f"both PETs are of {first[1].tracer}; expected two tracers: two dates of one tracer are two "
                "rows"
            )
        labels, labels2 = self._labels("labels", bones), self._labels("labels2", bones2)
        series, series2 = (self._cells.get(name) or None for name in ("ct_series", "ct_series2"))
        elsewhere = [f"{name}2" for name in _OF_AN_EXAMINATION if self._cells.get(f"{name}2")]
        lacking = [name for name in ("ct2", "pet2") if elsewhere and not self._cells.get(name)]
        self.findings += [f"{elsewhere[0]} without {name}; a second examination has both" for name in lacking]
        if first is None:
            return None
        if second is None or not elsewhere:
            both = (first,) if second is None else (first, second)
            return CaseFiles(
                tuple(path for path, _ in both), tuple(said for _, said in both), ct, bones, labels, series
            )
        labels2 = labels2 or (labels if bones2 else None)  # as --labels is of both masks
        other = CaseFiles((second[0],), (second[1],), ct2, bones2, labels2, series2)
        return CaseFiles((first[0],), (first[1],), ct, bones, labels, series, other)

    def _pet(self, suffix: str, of_patient: dict[str, Any]) -> tuple[Path, PetOptions] | None:
        path = self._path(f"pet{suffix}")
        stated = of_patient | {
            "tracer": self._word("tracer", f"tracer{suffix}"),
            "units": self._word("units", f"units{suffix}"),
            "sidecar": self._path(f"sidecar{suffix}"),
            "dose_mbq": self._number(f"dose_mbq{suffix}"),
            "injected_at": self._time(f"injected_at{suffix}"),
            "scan_start": self._time(f"scan_start{suffix}"),
            "half_life_s": self._number(f"half_life_s{suffix}"),
            "series": self._cells.get(f"series{suffix}") or None,
        }
        needless = [f"{name}{suffix}" for name in _OF_A_PET if self._cells.get(f"{name}{suffix}")]
        if suffix and needless and not self._cells.get(f"pet{suffix}"):
            self.findings.append(f"{needless[0]} without pet{suffix}")
        return None if path is None else (path, PetOptions(**stated))

    def _path(self, column: str) -> Path | None:
        """An existing file or folder; None where the cell is empty or has a finding."""
        text = self._cells.get(column)
        if not text:
            return None
        path = self._ground.absolute() / text
        try:
            there = path.exists()
        except (OSError, ValueError):  # a name longer than any, or with a zero byte
            there = False
        if not there:
            self.findings.append(f"{column} {text!r}: no such file or folder (beside the table)")
            return None
        if self._results in (path.resolve(), *path.resolve().parents):
            self.findings.append(f"{column} {text!r}: lies among the results of this cohort; copy it first")
            return None
        if path.resolve() in self._results.parents:
            self.findings.append(f"{column} {text!r}: the results would lie in it; choose another -o")
            return None
        return path

    def _number(self, column: str) -> float | None:
        text = self._cells.get(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            hint = " (a decimal point, no comma)" if "," in text else ""
            self.findings.append(f"{column} {text!r}: expected a number above 0{hint}")
            return None
        return value

    def _word(self, kind: str, column: str) -> str | None:
        text = self._cells.get(column)
        if text and text not in _WORDS[kind]:
            self.findings.append(f"{column} {text!r}: expected one of {', '.join(_WORDS[kind])}")
            return None
        return text or None

    def _time(self, column: str) -> str | None:
        text = self._cells.get(column)
        if not text:
            return None
        try:
            datetime.fromisoformat(text if "-" in text else f"2000-01-01T{text:0>8}")
            if "-" in text and ":" not in text:
                raise ValueError("a date without a time")
        except ValueError:
            self.findings.append(f"{column} {text!r}: expected HH:MM:SS or 2024-05-31T09:15:00")
            return None
        return text

    def _labels(self, column: str, mask: Path | None) -> str | None:
        """A table of labels by its name, or the path of a CSV file."""
        text = self._cells.get(column)
        if not text:
            return None
        if not self._cells.get(column.replace("labels", "bones")):
            self.findings.append(f"{column} says whose labels a mask has; expected the mask, too")
            return None
        name = str(self._ground.absolute() / text) if is_file_of_labels(text) else text
        try:
            LabelTable.load(name, mask.name if mask else "")
        except InputError as error:
            self.findings.append(f"{column} {text!r}: {str(error).removeprefix(f'{name}: ')}")
        return name


def harm_of(name: str) -> str | None:
    """Why a case's name (NFC) cannot be that of a folder on any system, or a cell; None where it can.

    >>> harm_of("Ödegård 07"), harm_of("../x")
    (None, "'/' in it; expected letters, digits, spaces and any of _ - .")
    """
    if not name:
        return "it is empty"
    strange = next((sign for sign in name if not (sign.isalnum() or sign in " _-.")), None)
    if strange is not None:
        return f"{strange!r} in it; expected letters, digits, spaces and any of _ - ."
    if not (name[0].isalnum() or name[0] == "_"):
        return f"it begins with {name[0]!r}; expected a letter or a digit"
    if name[-1] in " .":
        return "it ends with a point or a space"
    if len(name) > _LONGEST_NAME or len(name.encode()) > _LONGEST_NAME_BYTES:
        return f"it is longer than {_LONGEST_NAME} letters or {_LONGEST_NAME_BYTES} bytes"
    if _RESERVED.fullmatch(name):
        return "Windows keeps it for itself"
    return None


Lines = list[tuple[str, list[str]]]
"""Where every row stands that is not empty (``row 2``), and its cells."""


def _read(path: Path) -> tuple[list[str], Lines]:
    """Names of the columns and the rows, all cells as stripped text."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a table with the columns case, ct, pet")
    readers = {".csv": _separated, ".tsv": _separated, ".xlsx": _excel, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: expected a name ending in {', '.join(readers)}; save the table as one")
    table = [[_text(cell) for cell in row] for row in reader(path)]
    if not table or not any(table[0]):
        raise InputError(f"{path}: has no names of columns in its first row; expected case, ct, pet, ...")
    width = max(map(len, table))
    table = [row + [""] * (width - len(row)) for row in table]
    # An empty column that a spreadsheet left between or behind the others is no column.
    filled = [n for n in range(width) if any(row[n] for row in table)]
    names = [table[0][n] for n in filled]
    lines = [(f"row {n}", [row[k] for k in filled]) for n, row in enumerate(table[1:], start=2) if any(row)]
    return names, lines


def _text(cell: Any) -> str:
    """A cell as somebody would have written it into a CSV file."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell).strip()


def _separated(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(f"{path}: cannot be read: {reason}; save the table as CSV in UTF-8") from error
    first = text.partition("\n")[0]
    # Where the decimal sign is a comma, spreadsheets part the cells of a CSV by semicolons.
    sign = "\t" if path.suffix.lower() == ".tsv" else ";" if first.count(";") > first.count(",") else ","
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: is no proper table: {error}; save it again from a spreadsheet") from error


def _excel(path: Path) -> list[list[Any]]:
    """The first sheet; of formulas the values that the spreadsheet has computed."""
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            f"{path}: reading Excel files needs openpyxl: pip install 'petbone[excel]', or save as CSV"
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            return [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        finally:
            book.close()
    except Exception as error:  # openpyxl raises what its XML and zip readers happen to raise
        raise InputError(f"{path}: cannot be read as .xlsx ({type(error).__name__}); save as CSV") from error


def _parquet(path: Path) -> list[list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({type(error).__name__})") from error
    columns = [column.to_pylist() for column in table.columns]
    return [list(table.column_names), *(list(row) for row in zip(*columns, strict=True))]


def paths_of(files: CaseFiles) -> list[tuple[str, Path]]:
    """Every path of a case with the name of its column."""
    found: list[tuple[str, Path | None]] = []
    for one, suffix in ((files, ""), (files.second, "2")):
        if one is None:
            continue
        found += [(f"ct{suffix}", one.ct), (f"bones{suffix}", one.bones)]
        if one.labels and is_file_of_labels(one.labels):
            found.append((f"labels{suffix}", Path(one.labels)))
        for n, (pet, said) in enumerate(zip(one.pets, one.pet_options, strict=True)):
            which = suffix or ("2" if n else "")
            found += [(f"pet{which}", pet), (f"sidecar{which}", said.sidecar)]
    return [(column, path) for column, path in found if path is not None]
