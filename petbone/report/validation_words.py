"""What the page of a validation says in words: its headline, its definitions, how to cite it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from petbone.report.tables import shown
from petbone.validation import Study

NAMED = 5
"""Of more bones than these the headline names the three that differ most."""

BORDERS = {
    "surface elements": (
        "the surface between voxel centres inside and outside (marching cubes); each piece weighs as much as "
        "it has area, as in DeepMind's surface-distance (Nikolov et al., J Med Internet Res 23:e26151, 2021)"
    ),
    "boundary voxels": (
        "the voxels of a mask with a face neighbour outside it, each with weight 1, as in MetricsReloaded "
        "(Maier-Hein et al., Nat Methods 21:195, 2024)"
    ),
}

REFERENCES = (
    "Lindgren Belal et al., Deep learning for segmentation of 49 selected bones in CT scans: first step in "
    "automated PET/CT-based 3D quantification of skeletal metastases, Eur J Radiol 113:89, 2019",
    "Dice, Ecology 26:297, 1945",
    "Bland and Altman, Lancet 327:307, 1986; Stat Methods Med Res 8:135, 1999",
    "Carkeet, Optom Vis Sci 92:e71, 2015 (exact intervals of limits of agreement)",
    "Shrout and Fleiss, Psychol Bull 86:420, 1979 (ICC); Lin, Biometrics 45:255, 1989 (CCC)",
)

COUNTED = (
    ("bone in", "Dice", "volumes, limits of agreement, ICC, CCC", "distances of borders"),
    ("both masks", "its value", "its values", "their values"),
    ("the reference alone (missed)", "0, in medians", "no; counted as missed", "no"),
    ("the prediction alone (extra)", "0, not in medians", "no; counted as extra", "no"),
    ("neither", "no; counted as neither", "no", "no"),
    ("a case without partner", "no; counted as unpaired", "no", "no"),
)


def headline(study: Study) -> tuple[str, ...]:
    """The outcome in a few plain sentences: cases, Dice, volumes, what was missed."""
    table = study.agreement
    cases, bones = study.overlap["case"].nunique(), len(table)
    first = f"{_count(cases, 'case')}, {_count(bones, 'bone')}."
    return tuple(text for text in (first, _dice(table), _volumes(table), _missed(table)) if text)


def definitions(study: Study) -> tuple[tuple[str, str], ...]:
    """Term and meaning, with the border and the tolerance that were used."""
    ruler = study.ruler
    tolerance = f"{ruler.tolerance_mm:g} mm"
    return (
        ("Dice", "2 |A ∩ B| / (|A| + |B|), also SDI (Sørensen-Dice index): 1 for equal masks, 0 for apart"),
        ("border", f"{ruler.border}: {BORDERS[ruler.border]}"),
        ("HD95", "the larger one of both directed 95th percentiles of the distance between the borders"),
        ("ASSD", "mean distance from every element of both borders to the other border"),
        ("NSD", f"share of both borders that is within {tolerance} of the other one (surface Dice)"),
        ("difference", "predicted − reference: above 0 where the prediction is larger"),
        ("volume difference in %", "mean over the cases of 100 |V1 − V2| / ((V1 + V2) / 2)"),
        (
            "bias, limits",
            "mean difference, and bias ∓ 1.96 SD: 95 % of the differences of normal data lie between. "
            "Intervals are of 95 %: that of the bias is Student's, those of the limits are exact (noncentral "
            "t, each limit for itself)",
        ),
        ("slope", "of the line of least squares of the difference on the mean: mL per mL"),
        ("ICC", "ICC(2,1): two-way random, absolute agreement, single measurement"),
        ("CCC", "Lin's concordance correlation coefficient, variances with 1/n"),
        ("interval of Dice", "95 % interval of the median over the cases"),
    )


def methods(study: Study, version: str) -> str:
    """A sentence for the methods of a paper."""
    made = f"petbone {version}".strip()
    cases = study.overlap["case"].nunique()
    return (
        f"Predicted and reference masks of {_count(cases, 'case')} were compared with {made}: Dice, "
        f"distances of borders (by {study.ruler.border}; HD95, ASSD, surface Dice at "
        f"{study.ruler.tolerance_mm:g} mm), "
        "and volumes by limits of agreement (predicted minus reference, bias ∓ 1.96 SD, exact 95 % "
        "intervals), ICC(2,1) and CCC. A missed bone counted as Dice 0 and was left out of volumes and "
        "distances."
    )


def _dice(table: pd.DataFrame) -> str:
    known = table[table["median_dice"].notna()]
    if not len(known):
        return "No bone has a Dice index."
    records = sorted(known.to_dict("records"), key=lambda record: float(record["median_dice"]))
    ends = (records[0], records[-1])
    words = [f"{shown(float(record['median_dice']), 2)} ({record['bone']})" for record in ends]
    if len(known) == 1:
        return f"Median Dice {words[0]}."
    return f"Median Dice {words[0]} to {words[1]}."


def _volumes(table: pd.DataFrame) -> str:
    known = table[table["bias_ml"].notna()]
    if not len(known):
        return ""
    judged = known["bias_low_ml"].notna() & known["bias_high_ml"].notna()
    larger = known[judged & (known["bias_low_ml"] > 0)]
    smaller = known[judged & (known["bias_high_ml"] < 0)]
    between = known[judged & (known["bias_low_ml"] <= 0) & (known["bias_high_ml"] >= 0)]
    words = []
    for word, rows in (("larger", larger), ("smaller", smaller)):
        if len(rows):
            words.append(f"predicted is {word} by {_by(rows)}")
    if len(between):
        words.append(f"no bias is shown for {_named(between['bone'])} (its interval holds 0)")
    alike = known["sd_ml"] == 0  # the interval of a bias whose differences are all the same says nothing
    if alike.any():
        words.append(f"all differences are the same for {_named(known[alike]['bone'])}")
    if not (judged | alike).all():
        words.append(f"too few pairs to judge {_named(known[~judged & ~alike]['bone'])}")
    return f"Volumes: {'; '.join(words)}."


def _by(rows: pd.DataFrame) -> str:
    """Biases with their bones: all of a few, the largest in percent of many."""
    shares = pd.to_numeric(rows["bias_percent"], errors="coerce").abs()
    few = len(rows) <= NAMED
    named = rows if few else rows.loc[shares.sort_values(ascending=False, kind="stable").index[:3]]
    pairs = zip(named["bias_ml"], named["bone"], strict=True)
    words = [f"{shown(abs(float(bias)), 1)} mL ({bone})" for bias, bone in pairs]
    return _listed(words) if few else f"{', '.join(words)} and in {len(rows) - 3} more bones"


def _named(bones: Iterable[str]) -> str:
    names = [str(bone) for bone in bones]
    return _listed(names) if len(names) <= NAMED else f"{len(names)} bones"


def _missed(table: pd.DataFrame) -> str:
    missed, extra = int(table["n_missed"].fillna(0).sum()), int(table["n_extra"].fillna(0).sum())
    neither, unpaired = int(table["n_neither"].fillna(0).sum()), table["n_unpaired"].fillna(0).max()
    whole = int(table["n"].fillna(0).sum()) + missed
    words = []
    if missed:
        rows = table[table["n_missed"].fillna(0) > 0]
        where = _listed(
            [f"{bone} {int(n)} ×" for bone, n in zip(rows["bone"], rows["n_missed"], strict=True)]
        )
        told = f" ({where})" if len(rows) <= NAMED else ""
        were = "was" if missed == 1 else "were"
        words.append(f"{missed} of {_count(whole, 'bone')} of the reference {were} missed{told}")
    elif whole:
        words.append("no bone of the reference was missed")
    if extra:
        words.append(f"{_count(extra, 'bone')} {'is' if extra == 1 else 'are'} in the prediction alone")
    if neither:
        words.append(f"{neither} {'is' if neither == 1 else 'are'} in neither mask")
    if len(table) and unpaired > 0:
        words.append(f"{_count(int(unpaired), 'case')} {'has' if unpaired == 1 else 'have'} no partner")
    text = "; ".join(words)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
