"""Keep paths, dates and identities out of the page, whatever the tables and the provenance carry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PATH = re.compile(
    r"""(?<![\w.])                               # not the middle of a word such as g/mL
        (?:[A-Za-z]:[\\/][^\s'"<>,;]+            # C:\\data\\scan
        |\\\\[^\s'"<>,;]+                        # \\\\server\\share
        |(?:~|\.{1,2})?/[^\s/'"<>,;]+(?:/[^\s/'"<>,;]*)+   # /data/scan, ./data/scan
        |file:[^\s'"<>]+
        |(?:[^\s/'"<>,;]+/)*[^\s/'"<>,;]+\.(?:nii(?:\.gz)?|dcm|zip|json|csv|toml|safetensors|ima)\b)""",
    re.VERBOSE | re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d-[01]\d-[0-3]\d(?=\D|$)|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?=\d{6}|\D|$))"
)
_HIDDEN_KEYS = re.compile(
    r"path|folder|director|file|host|user|birth|patient.?(name|id)|name.?of.?patient|accession|uid|institution"
    r"|physician|address|comment|^case$|^subject$|date$",
    re.IGNORECASE,
)
PATH_SIGN, DATE_SIGN = "[path]", "[date] "


def plain(text: object) -> str:
    """The text with paths and calendar dates taken out; times of day stay, for the SUV needs them."""
    return _DATE.sub(DATE_SIGN, _PATH.sub(PATH_SIGN, str(text))).strip()


def facts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """A nested record as (dotted key, text) rows; keys that could name a person or a place are left out."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not _HIDDEN_KEYS.search(str(name)) or _is_hash(inner):
                label = plain(name)
                yield from facts(inner, f"{key}.{label}" if key else label)
    elif isinstance(value, (list, tuple)) and any(
        isinstance(inner, (Mapping, list, tuple)) for inner in value
    ):
        for number, inner in enumerate(value, 1):
            yield from facts(inner, f"{key} {number}".strip())
    elif isinstance(value, (list, tuple)) and len(value) > 6 and all(type(n) is int for n in value):
        yield key, _ranges(value)
    elif isinstance(value, (list, tuple)):
        yield key, ", ".join(_word(inner) for inner in value)
    else:
        yield key, _word(value)


def _word(value: Any) -> str:
    if value is None or value == "":
        return "–"
    return f"{value:.10g}" if isinstance(value, float) else plain(value)


def _ranges(numbers: Sequence[int]) -> str:
    """Whole numbers as runs: 1 to 49 as ``1–49``, since a list of labels is long."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"(?:sha\d+:)?[0-9a-f]{16,128}", value) is not None
