"""What a study must warn of, as sentences: what is missing, what seems mistaken. No paths."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from petbone.anatomy import BY_NAME
from petbone.validation import LOST, UNSEEN

_LISTED = 4


def merged(notes: Sequence[tuple[str, str]]) -> list[str]:
    """(case, sentence) as sentences that name their cases if any, each once, in the order of the first."""
    cases: dict[str, list[str]] = {}
    for case, sentence in notes:
        cases.setdefault(sentence, []).append(case)
    named = ((_some(list(filter(None, dict.fromkeys(some)))), words) for words, some in cases.items())
    return [f"{names}: {words}" if names else words for names, words in named]


def _some(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def of_lacking(lacking: Sequence[tuple[str, str, str]]) -> list[str]:
    """Masks without a partner: (case, side where it is not, ``file`` or ``first reading``)."""
    said = []
    for side, what in dict.fromkeys((side, what) for _, side, what in lacking):
        cases = [case for case, where, kind in lacking if (where, kind) == (side, what)]
        kind = "second reading" if what == "first reading" else "case"
        number = f"{len(cases)} {kind}{'s' if len(cases) > 1 else ''}"
        said.append(f"{number} without a {side} mask, not compared: {_some(cases)}")
    return said


def of_found(overlap: pd.DataFrame, whole: pd.DataFrame) -> list[str]:
    """Which bones one side alone holds, which are cut, and which one side could not see.

    `whole`: the table before bones that no mask holds were left out; where the reference ends before them
    they are said.
    """
    said = []
    for found, words in (
        ("missed", "missed by the prediction (Dice 0)"),
        ("extra", "in the prediction alone"),
    ):
        rows = overlap[overlap["found"] == found]
        if len(rows):
            said.append(f"{words}: {_listed(rows)}")
    for part, words in (
        ("cut by the end", "cut by the end of the scan"),
        (UNSEEN, "the reference reaches out of the prediction's field, so Dice and volume are too low"),
        (LOST, "the prediction reaches out of the reference's field, and what lies there is not counted"),
    ):
        table = whole if part == LOST else overlap
        rows = table[table["note"].str.contains(part, regex=False)]
        if len(rows):
            said.append(f"{words}: {_listed(rows)}")
    return said


def _listed(rows: pd.DataFrame) -> str:
    names = [f"{bone} of {case}" for bone, case in zip(rows["bone"], rows["case"], strict=True)]
    return _some(names) + (": see the notes of single cases" if len(names) > _LISTED else "")


def of_unnamed(rows: Sequence[Mapping[str, Any]], nameable: Collection[int]) -> list[str]:
    """Bones that a prediction could not but miss, since its labels have no name for them."""
    names = [row["bone"] for row in rows if row["found"] == "missed"]
    names = [name for name in names if BY_NAME[name].id not in nameable]
    if not names:
        return []
    return [
        f"the labels of the prediction have no {', '.join(names)}, which counts as missed (Dice 0): to leave "
        "out what its tool does not segment name the others with --bones"
    ]


def of_absent(overlap: pd.DataFrame, left: Sequence[str]) -> list[str]:
    """Bones that no reference holds; `left` are out of the tables, too."""
    said = [f"no reference holds {', '.join(left)}: left out of the tables"] if left else []
    held = set(overlap.loc[overlap["found"].isin(("both", "missed")), "bone"])
    lacking = [name for name in dict.fromkeys(overlap["bone"]) if name not in held]
    if lacking:
        said.append(f"no reference holds {', '.join(lacking)}: nothing to compare with")
    return said


def of_makers(makers: Mapping[str, tuple[str, str]]) -> list[str]:
    """Where a tool made the reference, as far as is known, and none the prediction, by case."""
    cases = [case for case, (reference, _) in makers.items() if reference]
    if not cases or any(predicted for _, predicted in makers.values()):
        return []
    return [
        f"the reference of {len(cases)} of {len(makers)} cases was made by {makers[cases[0]][0]}, and "
        "nothing says so of the predictions: are the two sides swapped? (differences are predicted minus "
        "reference)"
    ]


def of_same_files(inputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where one file stands for two sides of a case, or two cases of a side, by their hashes."""
    sides = list(dict.fromkeys(side for of in inputs.values() for side in of))
    said = []
    for one, two in combinations(sides, 2):
        both = [case for case, of in inputs.items() if one in of and two in of]
        same = [case for case in both if _hash(inputs, case, one) == _hash(inputs, case, two)]
        if same:
            first = (one, two) == tuple(sides[:2])
            where = "on both sides" if first else f"as {_side(one)} and as {_side(two)}"
            so = ", so nothing can differ" if first or two == f"{one}_2" else ": is it a second reading?"
            said.append(f"{', '.join(same)}: the same file {where}{so}")
    return said + of_one_file_twice(inputs)


def of_one_file_twice(inputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where one file stands for two cases of a side, by their hashes."""
    said = []
    for side in dict.fromkeys(side for of in inputs.values() for side in of):
        by_hash: dict[str, list[str]] = {}
        for case in (case for case, of in inputs.items() if side in of):
            by_hash.setdefault(_hash(inputs, case, side), []).append(case)
        twice = [cases for cases in by_hash.values() if len(cases) > 1]
        said += [f"{', '.join(cases)}: one and the same {_side(side)} file" for cases in twice]
    return said


def _hash(inputs: Mapping[str, Mapping[str, Any]], case: str, side: str) -> str:
    return str(inputs[case][side]["sha256"])


def _side(name: str) -> str:
    """ "reference_2" is the second reading of the reference."""
    return f"second {name.removesuffix('_2')}" if name.endswith("_2") else name
