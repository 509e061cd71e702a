"""Cells of the tables on the page of a cohort."""

from __future__ import annotations

from typing import Any

from petbone.report.cohort_words import VERDICT_WORDS, link
from petbone.report.privacy import plain
from petbone.report.tables import GAP, Cell, called, is_missing, shown


def case_cell(case: object, css: str = "text case", done: bool = True) -> Cell:
    """The name of a case that leads to its page; of one that is not `done` the name alone."""
    return Cell(called(case), called(case), css, href=link(case) if done else "")


def text_cell(value: object, css: str = "text") -> Cell:
    """Words without paths and dates; a dash where there are none."""
    said = GAP if is_missing(value) else plain(value)
    return Cell(said, "" if said == GAP else said, css if said != GAP else f"{css} gap")


def number_cell(value: Any, digits: int | str = "three", css: str = "num") -> Cell:
    """A number with its digits; a dash where there is none."""
    said = shown(value, digits)
    return Cell(said, "" if said == GAP else repr(float(value)), css if said != GAP else f"{css} gap")


def verdict_cell(verdict: str) -> Cell:
    """Trust, look, do not trust, or failed; sorted from the worst."""
    place = {"failed": "0", "bad": "1", "warn": "2", "ok": "3"}.get(verdict, "4")
    return Cell(VERDICT_WORDS.get(verdict, verdict or GAP), place, f"text tag {verdict}")


def is_of_another(note: object) -> bool:
    """Whether an index was defined for another tracer: `indices` says so at the beginning of its note."""
    return str(note).startswith("Defined for ")


INDEX_WORDS = {"skeletal_suv_mean": "skeletal SUVmean", "skeletal_suv_max": "skeletal SUVmax"}


def index_word(name: object) -> str:
    """An index as people call it."""
    return INDEX_WORDS.get(str(name), plain(name))
