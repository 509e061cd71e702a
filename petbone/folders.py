"""The folder of results: it appears whole or not at all, and nothing of somebody else's is overwritten."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petbone.errors import InputError, ResourceError

if TYPE_CHECKING:
    import pandas as pd

MARK = "provenance.json"  # what makes a folder one of ours


def refuse_existing(folder: Path, overwrite: bool, mark: str = MARK) -> None:
    """Raise InputError when `folder` cannot become the folder of results.

    An empty folder can; one that holds the file `mark` can with `overwrite`; anything else is somebody's.
    """
    try:
        if not folder.exists() and not folder.is_symlink():
            return
    except OSError as error:  # a name that is too long, a parent that may not be entered
        raise InputError(f"{folder}: cannot be made: {error.strerror}; choose another with -o") from error
    if not folder.is_dir() or folder.is_symlink():
        raise InputError(
            f"{folder}: exists and is not a folder; expected a new folder: choose another with -o"
        )
    if not any(folder.iterdir()):
        return
    if not (folder / mark).exists():
        raise InputError(
            f"{folder}: exists and holds other files; expected a new folder: choose another with -o"
        )
    if not overwrite:
        raise InputError(f"{folder}: holds results already; give --overwrite to replace them, or another -o")


@contextmanager
def new_folder(folder: Path, overwrite: bool = False, mark: str = MARK) -> Iterator[Path]:
    """A folder to write into: takes the name `folder` when the body ends well, vanishes otherwise."""
    refuse_existing(folder, overwrite, mark)
    whole = folder.absolute()
    if whole == Path.cwd() or whole in Path.cwd().parents:
        raise InputError(
            f"{folder}: is the folder that you are in; expected a new one: choose another with -o"
        )
    # Where the results will stand, or as near as there is a folder: a refused case leaves no folders behind.
    ground = next(parent for parent in whole.parents if parent.exists())
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=ground))
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}; choose another with -o") from error
    try:
        yield part
        try:
            _take_name(part, whole)
        except OSError as error:
            raise ResourceError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _take_name(part: Path, folder: Path) -> None:
    """Rename `part` to `folder`; results that stand there leave only when the new ones have their place."""
    part.chmod(0o755)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        part.replace(folder)
        return
    old = folder.with_name(f"{part.name}.old")
    folder.replace(old)
    try:
        part.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def refuse_existing_image(path: Path, overwrite: bool) -> None:
    """Raise InputError, before any work is done, when a NIfTI cannot be written to `path`."""
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path}: expected a name ending in .nii.gz or .nii")
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path}: exists already; give --overwrite to replace it, or another -o")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no folder {path.parent}; make it, or choose another with -o")


def write_json(content: dict[str, Any], path: Path) -> None:
    """JSON for programs, readable by people; NaN is refused, since JSON has none."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """A table as CSV, six digits; what does not exist is empty; texts are `harmless`."""
    texts = table.select_dtypes(["object", "string"]).columns
    told = table.assign(**{name: table[name].map(_harmless_text).astype(object) for name in texts})
    told.to_csv(path, index=False, float_format="%.6g")


def _harmless_text(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) else value


def harmless(cell: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe before = + - @, but for plain numbers.

    So it is before their wide forms, which some take for the same, and before tabs and ends of lines, which
    some pass over.

    >>> harmless("=1+1"), harmless("-0.5"), harmless("spine")
    ("'=1+1", '-0.5', 'spine')
    """
    if cell[:1] not in tuple("=+-@＝＋－＠\t\r\n") or re.fullmatch(
        r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", cell, re.IGNORECASE
    ):
        return cell
    return f"'{cell}"


def write_tables(
    tables: Mapping[str, pd.DataFrame], texts: Mapping[str, str], provenance: Mapping[str, Any], folder: Path
) -> None:
    """Tables as CSV by their names, texts by the names of their files, and the provenance.

    Raises ResourceError when they cannot be written.
    """
    try:
        for name, table in tables.items():
            write_table(table, folder / f"{name}.csv")
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_json(dict(provenance), folder / MARK)
    except OSError as error:
        raise ResourceError(f"the results cannot be written: {error.strerror}") from error
