"""The table of 2019 as text: for a terminal, for Markdown, for LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from petbone.anatomy import BY_NAME
from petbone.validation import Study
from petbone.validation_tables import digits

SHORT = 12
"""Of more bones than these a terminal shows the groups."""
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def as_markdown(study: Study) -> str:
    """The table with aligned columns, and below it what its figures are."""
    return f"{aligned(*_cells(study.table))}\n\n{caption(study)}\n"


def in_short(study: Study) -> str:
    """What a terminal shows: the table, or that of groups where there are many bones."""
    if len(study.table) <= SHORT:
        return as_markdown(study)
    head = ["group", "bones", "n", "missed", "Dice (25 to 75 %)", "volume difference, %", "HD95, mm"]
    rows = []
    for row in study.groups.to_dict("records"):
        dice = [row[name] for name in ("median_dice", "dice_p25", "dice_p75")]
        cells = [row["group"].replace("_", " "), str(row["bones"]), str(row["n"]), str(row["n_missed"])]
        cells.append("" if np.isnan(dice[0]) else "{:.2f} ({:.2f} to {:.2f})".format(*dice))
        cells += [_digits(row["mean_volume_difference_percent"]), _digits(row["median_hd95_mm"])]
        rows.append(cells)
    said = (
        f"{_cases(study.overlap)}, n pairs of bones. Dice and HD95: median; a missed bone counts as Dice 0. "
        "Volume difference: mean of 100 |V1 - V2| / ((V1 + V2) / 2). Single bones: table.md, agreement.csv."
    )
    return f"{aligned(head, rows)}\n\n{said}\n"


def families_in_words(families: pd.DataFrame, volumes: pd.DataFrame) -> str:
    """The families of `petbone.readings`, with what their figures are."""
    head = ["bones", "n", "mean, %", "median, %", "cut", "in one only"]
    rows = []
    for row in families.to_dict("records"):
        shown = [_digits(row[f"{kind}_volume_difference_percent"]) for kind in ("mean", "median")]
        cells = [row["family"].replace("_", " "), str(row["n"]), *shown]
        rows.append([*cells, str(row["n_cut"]), str(row["n_one_only"])])
    said = (
        f"100 |V1 - V2| / ((V1 + V2) / 2) of n pairs of bones, {_cases(volumes)}; cut "
        "ones and those in one mask only are left out."
    )
    return f"{aligned(head, rows)}\n\n{said}\n"


def aligned(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown whose columns stand below each other."""
    widths = [max(2, *(len(row[n]) for row in (head, *rows))) for n in range(len(head))]

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
    said = (
        f"Volumes: median (SD) of the n pairs in both masks, {_cases(study.overlap)}. "
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
            cells.append(f"{_digits(value)} ({n})" if n else "")
        rows.append(cells)
    return head, rows


def _cases(table: pd.DataFrame) -> str:
    n = table["case"].nunique()
    return f"{n} case{'s' if n > 1 else ''}"


def _digits(value: float) -> str:
    return "" if np.isnan(value) else digits(value, 2)
