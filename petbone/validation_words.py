"""The table of 2019 as text: for a terminal, for Markdown, for LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from petbone.anatomy import BY_NAME
from petbone.validation import Study
from petbone.validation_tables import digits

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def as_markdown(study: Study) -> str:
    """The table with aligned columns, and below it what its figures are."""
    return f"{aligned(*_cells(study.table))}\n\n{caption(study)}\n"


def families_in_words(families: pd.DataFrame, cases: int) -> str:
    """The families of `petbone.readings`, with what their figures are."""
    head = ["bones", "n", "mean, %", "median, %", "cut", "in one only"]
    rows = []
    for row in families.to_dict("records"):
        figures = [row[f"{kind}_volume_difference_percent"] for kind in ("mean", "median")]
        shown = ["" if np.isnan(value) else digits(value, 2) for value in figures]
        cells = [row["family"].replace("_", " "), str(row["n"]), *shown]
        rows.append([*cells, str(row["n_cut"]), str(row["n_one_only"])])
    said = (
        f"100 |V1 - V2| / ((V1 + V2) / 2) of n pairs of bones, {cases} case{'s' if cases > 1 else ''}; cut "
        "ones and those in one mask only are left out."
    )
    return f"{aligned(head, rows)}\n\n{said}\n"


def aligned(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown whose columns stand below each other."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (f"{cell:{'<' if n == 0 else '>'}{widths[n]}}" for n, cell in enumerate(cells))
        return "| " + " | ".join((first, *rest)) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def as_latex(study: Study) -> str:
    """A tabular that needs no package, ready to be pasted, and its caption as a comment."""
    head, rows = _cells(study.table)
    lines = [" & ".join(map(escaped, row)) + r" \\" for row in (head, *rows)]
    return "\n".join(
        [
            f"% {caption(study)}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\hline",
            lines[0],
            r"\hline",
            *lines[1:],
            r"\hline",
            r"\end{tabular}",
            "",
        ]
    )


def caption(study: Study) -> str:
    """What the figures of the table are, with the number of cases."""
    cases = study.overlap["case"].nunique()
    said = (
        f"Volumes: median (SD) of the n pairs in both masks, {cases} case{'s' if cases > 1 else ''}. "
        "Dice: median, a missed bone counts as 0."
    )
    counts = [study.table[f"n_repeat_{side}"] for side in ("predicted", "reference")]
    if any(int(count.sum()) for count in counts):
        said += " Repeat: mean of 100 |V1 - V2| / ((V1 + V2) / 2) of two readings (number of pairs)."
    return said


def spelled(name: str) -> str:
    """A bone for readers.

    >>> spelled("rib_left_7"), spelled("hip_right"), spelled("T7")
    ('rib 7 left', 'hip right', 'T7')
    """
    bone = BY_NAME[name]
    words = name.split("_")
    return " ".join([word for word in words if word != bone.side] + ([bone.side] if bone.side else []))


def escaped(text: str) -> str:
    """Text with the special characters of LaTeX as characters."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Head and rows; the columns of repeats where there are any."""
    head = ["bone", "n", "predicted, mL", "reference, mL", "Dice"]
    repeated = [side for side in ("predicted", "reference") if int(table[f"n_repeat_{side}"].sum())]
    head += [f"repeat {side}, %" for side in repeated]
    rows = []
    for row in table.to_dict("records"):
        cells = [spelled(row["bone"]), str(row["n"]), row["predicted_ml"], row["reference_ml"]]
        cells.append("" if np.isnan(row["dice"]) else f"{row['dice']:.2f}")
        for side in repeated:
            value, n = row[f"repeat_{side}_percent"], row[f"n_repeat_{side}"]
            cells.append("" if np.isnan(value) else f"{digits(value, 2)} ({n})")
        rows.append(cells)
    return head, rows
