"""The folder of a case that is done, read as it was written; a file that was altered since is none of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petbone.cohort_case import DONE
from petbone.folders import MARK


@dataclass(frozen=True)
class DoneCase:
    """Its folder, and the digest of each file in it."""

    folder: Path
    digests: Mapping[str, str]

    def content(self, name: str) -> bytes:
        """A file's bytes. Raises ValueError where they are not as written, KeyError where none was."""
        found = (self.folder / name).read_bytes()
        if hashlib.sha256(found).hexdigest() != self.digests[name]:
            raise ValueError("altered")
        return found

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file."""
        found: dict[str, Any] = json.loads(self.content(name))
        return found

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a table, by its columns; cells are texts. No row where the case has no such table."""
        if name not in self.digests:
            return []
        text = self.content(name).decode("utf-8")
        return list(csv.DictReader(io.StringIO(text, newline="")))


def done_case(folder: Path, provenance_sha256: str) -> DoneCase:
    """The case in `folder`. Raises ValueError, or OSError, where it holds results of another run, or none."""
    digests: dict[str, str] = json.loads((folder / DONE).read_text(encoding="utf-8"))["files"]
    if digests[MARK] != provenance_sha256:
        raise ValueError("results of another run")
    return DoneCase(folder, digests)
