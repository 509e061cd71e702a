"""Elements of a DICOM header as plain values: absent, empty and malformed ones are told apart from none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset


def coded(header: Dataset, keyword: str, known: Iterable[str]) -> str:
    """The term in an element; "missing", or "of no DICOM term" for free text, which may be anybody's name."""
    word = str(header.get(keyword) or "").strip().upper()
    if not word:
        return "missing"
    return word if word in known else "of no DICOM term"


def elements(header: Dataset, keyword: str) -> list[Any]:
    """Value of an element as a list; empty when it is missing or empty."""
    value = header.get(keyword)
    if value is None or value == "":
        return []
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def words(header: Dataset, keyword: str) -> list[str]:
    """Coded values in capitals and without blanks."""
    return [str(value).strip().upper() for value in elements(header, keyword)]


def distinct(headers: Sequence[Dataset], keyword: str) -> list[Dataset]:
    """A header for every way in which an element is written: what agrees byte for byte is parsed once."""
    found: dict[Any, Dataset] = {}
    for header in headers:
        item: Any = header.get_item(keyword) if keyword in header else None
        written = item is None or isinstance(item, RawDataElement)
        found.setdefault(getattr(item, "value", None) if written else id(header), header)
    return list(found.values())


def number(value: Any) -> float | None:
    """A finite number from a DICOM value of any kind; None where there is none."""
    try:
        found = float(str(value).strip())
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def private(header: Dataset, group: int, offset: int, creator: str) -> Any:
    """Value of a private element by its creator, or by its usual place if the creator was stripped."""
    try:
        element = header.private_block(group, creator)[offset]
    except KeyError:
        element = header.get((group, 0x1000 + offset))
        if (group, 0x0010) in header or element is None:
            return None
    value = element.value
    return value.decode("ascii", "ignore").strip("\0 ") if isinstance(value, bytes) else value


def injection_of(header: Dataset) -> Dataset:
    """The first item of RadiopharmaceuticalInformationSequence; an empty data set where there is none."""
    items = elements(header, "RadiopharmaceuticalInformationSequence")
    return items[0] if items else Dataset()


def meanings(dataset: Dataset, keyword: str) -> list[str]:
    """CodeMeaning of every item of a sequence of codes."""
    return [str(item.get("CodeMeaning") or "") for item in elements(dataset, keyword)]


def is_siemens(header: Dataset) -> bool:
    """Whether the manufacturer is Siemens (Healthineers), by its name or by a private element of its PET."""
    return "SIEMENS" in _manufacturer(header) or _has_block(header, 0x0071, "SIEMENS MED PT")


def is_ge(header: Dataset) -> bool:
    """Whether the manufacturer is GE, whose frame times mean something else than the others', by its name or
    by a private element of its PET."""
    return _manufacturer(header).startswith("GE") or _has_block(header, 0x0009, "GEMS_PETD_01")


def _manufacturer(header: Dataset) -> str:
    return str(header.get("Manufacturer") or "").strip().upper()


def _has_block(header: Dataset, group: int, creator: str) -> bool:
    try:
        header.private_block(group, creator)
    except KeyError:
        return False
    return True
