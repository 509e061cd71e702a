"""What has become of the patients of a cohort: a row per two examinations in one tracer, and per two tracers.

Read from what `cohort_compare` has left; nothing is computed here but `course`, in words that name its rule.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from petbone.change import UNSEEN_1, UNSEEN_2, counts
from petbone.cohort_case import Record
from petbone.cohort_columns import Column, explained, write_columns
from petbone.cohort_compare import Outcome, folder_of
from petbone.cohort_dates import Pair
from petbone.done_case import DoneCase, done_case
from petbone.followup import AGREEMENT_COLUMNS

NEW = 2
"""So many new lesions are progression of bone disease on bone scans by PCWG3, to be confirmed on the next."""
COURSES = ("progressed", "regressed", "unchanged", "mixed", "not judged")

_TWO = (
    Column("patient", "text", "", "the patient, as in the table of the cohort"),
    Column("case_1", "text", "", "the earlier examination"),
    Column("case_2", "text", "", "the later one"),
    Column("date_1", "text", "", "date of the earlier one, as in the table of the cohort"),
    Column("date_2", "text", "", "date of the later one"),
    Column("days", "whole", "d", "days between the two"),
)
_SEEN = "at places that both dates saw"
COLUMNS = (
    _TWO[0],
    Column("tracer", "text", "", "naf, choline, psma, fdg or other"),
    *_TWO[1:],
    Column("against", "text", "", "first: case_1 is the first in the tracer; previous: it is the one before"),
    Column("rule", "text", "", "the rule of the hotspots of both"),
    Column("total_tlu_g_1", "number", "g", f"total lesion uptake of all hotspots {_SEEN}, earlier one"),
    Column("total_tlu_g_2", "number", "g", "the same at the later one"),
    Column("total_tlu_ratio", "number", "", "total_tlu_g_2 / total_tlu_g_1"),
    Column("total_limits", "text", "", "limits of repeatability of this ratio"),
    Column("total_verdict", "text", "", "up, down or within these limits; no limits; empty without a ratio"),
    Column("total_volume_ml_1", "number", "mL", f"volume of all hotspots {_SEEN}, at the earlier one"),
    Column("total_volume_ml_2", "number", "mL", "the same at the later one"),
    Column("count_1", "whole", "", f"number of hotspots {_SEEN}, at the earlier one"),
    Column("count_2", "whole", "", "the same at the later one"),
    Column("new", "whole", "", "hotspots of the later one alone, where the earlier one has looked"),
    Column("new_crossed", "whole", "", "those of them whose SUVmax differs within limits; not for course"),
    Column("gone", "whole", "", "hotspots of the earlier one alone, where the later one has looked"),
    Column("grown", "whole", "", "hotspots of both whose total uptake rose past the limits of a hotspot"),
    Column("stable", "whole", "", "hotspots of both whose total uptake is within them"),
    Column("shrunk", "whole", "", "hotspots of both whose total uptake fell past them"),
    Column("not_judged", "whole", "", "hotspots of both that no limits are known for, or that one date cut"),
    Column("perhaps_same", "whole", "", "a gone and a new one that may be one focus; in no other count"),
    Column("unseen", "whole", "", "hotspots of one date where the other did not look"),
    Column("course", "text", "", "progressed, regressed, unchanged, mixed or not judged"),
    Column("why", "text", "", "by which rule, or why it is not judged"),
)  # fmt: skip
_WORDS = {"tracer_1", "tracer_2"}
_MEASURED = ("_ml", "percent", "agreement", "kappa", "dice", "rho")
TRACER_COLUMNS = (
    _TWO[0],
    Column("case_1", "text", "", "the examination in tracer_1"),
    Column("case_2", "text", "", "the examination in tracer_2"),
    Column("date_1", "text", "", "date of case_1, as in the table of the cohort"),
    Column("date_2", "text", "", "date of case_2"),
    Column("days", "whole", "d", "days from case_1 to case_2; below 0 where case_2 was earlier"),
    *(
        Column(
            name,
            "text" if name in _WORDS else "number" if any(part in name for part in _MEASURED) else "whole",
            "mL" if "_ml" in name else "%" if "percent" in name else "",
            "as in tracer_agreement.csv of a case with two PETs",
        )
        for name in AGREEMENT_COLUMNS
    ),
    Column("why", "text", "", "why there are no numbers"),
)
TABLES = {"followup": COLUMNS, "tracer_pairs": TRACER_COLUMNS}


def write_followup(
    pairs: Sequence[Outcome], output: Path, part: Path
) -> tuple[list[Record], list[list[str]]]:
    """Write ``followup`` and ``tracer_pairs`` into `part`; the records, and the rows of the dictionary.

    A pair that could not be compared has a row without numbers that says why; so has one whose folder is not
    as it was written, and its record is a failed one.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    checked = []
    for pair, record in pairs:
        name, read = ("followup", _followups) if pair.kind == "followup" else ("tracer_pairs", _tracers)
        try:
            made = record.state in ("done", "kept")
            done = done_case(folder_of(pair, output), record.provenance_sha256) if made else None
            found = read(pair, record, done)
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"its folder was changed while the cohort ran ({type(error).__name__}); run again"
            record = replace(record, state="failed", step="tables", error=why)
            found = read(pair, record, None)
        checked.append(record)
        rows[name] += found
    for name, columns in TABLES.items():
        write_columns(name, columns, rows[name], part)
    return checked, [row for name, columns in TABLES.items() for row in explained(name, columns)]


def _of_two(pair: Pair) -> dict[str, Any]:
    return {
        "patient": pair.patient,
        "case_1": pair.first.case,
        "case_2": pair.second.case,
        "date_1": pair.first.date,
        "date_2": pair.second.date,
        "days": pair.days,
    }


def _followups(pair: Pair, record: Record, done: DoneCase | None) -> list[dict[str, Any]]:
    rows = []
    # What a pair leaves is of every tracer that both cases have.
    common = [tracer for tracer in pair.first.tracers if tracer in pair.second.tracers]
    for tracer, against in zip(pair.tracers, pair.against, strict=True):
        row = _of_two(pair) | {"tracer": tracer, "against": against}
        if done is None:
            rows.append(row | {"course": "not judged", "why": record.error})
            continue
        suffix = f"_{tracer}" if len(common) > 1 else ""
        hotspots = _table(done, f"hotspot_changes{suffix}.csv")
        totals = _table(done, f"index_changes{suffix}.csv").set_index("index").to_dict("index")
        rule = done.json("provenance.json")["rules"][tracer]["name"]
        rows.append(row | {"rule": rule} | _numbers(hotspots, totals))
    return rows


def _numbers(hotspots: pd.DataFrame, totals: Mapping[Any, Any]) -> dict[str, Any]:
    """The cells of a row that two tables of a comparison tell."""
    uptake, found = totals["hotspots_tlu_g"], counts(hotspots)
    crossed = (hotspots["change"] == "new") & (hotspots["suv_max_change"] == "within")
    row: dict[str, Any] = {
        "total_tlu_ratio": uptake["ratio"],
        "total_limits": uptake["limits"],
        "total_verdict": uptake["verdict"],
        "new_crossed": int((crossed & hotspots["perhaps_same"].isna()).sum()),
        "not_judged": found["not judged"],
        "perhaps_same": found["perhaps same"],
        "unseen": found[UNSEEN_1] + found[UNSEEN_2],
    }
    row |= {name: found[name] for name in ("new", "gone", "grown", "stable", "shrunk")}
    for n in (1, 2):
        row[f"total_tlu_g_{n}"] = uptake[f"value_{n}"]
        row[f"total_volume_ml_{n}"] = totals["hotspots_volume_ml"][f"value_{n}"]
        row[f"count_{n}"] = totals["hotspots_count"][f"value_{n}"]
    row["course"], row["why"] = course(row)
    return row


def course(row: Mapping[str, Any]) -> tuple[str, str]:
    """One of `COURSES`, and why, of a row of ``followup``: by new hotspots and by the total uptake.

    *progressed*: `NEW` or more new hotspots (PCWG3's number of new lesions on bone scans; those that may have
    crossed the threshold only do not count), or the total uptake above its limits of repeatability.
    *regressed*: the total below its limits. *mixed*: it is, and there are `NEW` or more new hotspots.
    *unchanged*: within the limits, or no hotspot at either date. What no rule says is not judged.
    """
    new = row["new"] - row["new_crossed"]
    said = [f"{new} new {'hotspot' if new == 1 else 'hotspots'} ({NEW} or more are progression, PCWG3)"]
    if row["new_crossed"]:
        said.append(f"{row['new_crossed']} more may have crossed the threshold only")
    verdict = row["total_verdict"]
    nothing = row["count_1"] == row["count_2"] == 0
    if verdict in _OF_TOTAL:
        ratio, limits = row["total_tlu_ratio"], row["total_limits"]
        said.append(f"total uptake x {ratio:.3g}, {_OF_TOTAL[verdict]} {limits} of repeatability")
    elif nothing:
        said.append("no hotspot at either date")
    elif verdict == "no limits":
        said.append("total uptake not judged: no limits of repeatability are known for the tracer")
    else:
        said.append("total uptake not judged: no hotspot at the earlier date")
    if row["unseen"]:
        said.append(f"{row['unseen']} where one date did not look left out")
    if new >= NEW:
        found = "mixed" if verdict == "down" else "progressed"
    elif verdict in _OF_TOTAL:
        found = {"up": "progressed", "down": "regressed", "within": "unchanged"}[verdict]
    else:
        found = "unchanged" if nothing and not row["unseen"] else "not judged"
    return found, "; ".join(said)


_OF_TOTAL = {"up": "above the limits", "down": "below the limits", "within": "within the limits"}


def _tracers(pair: Pair, record: Record, done: DoneCase | None) -> list[dict[str, Any]]:
    if done is None:
        return [_of_two(pair) | {"tracer_1": None, "tracer_2": None, "why": record.error}]
    table = _table(done, "tracer_agreement.csv")
    own = table["tracer_1"].isin(pair.first.tracers) & table["tracer_2"].isin(pair.second.tracers)
    return [
        _of_two(pair) | {str(key): cell for key, cell in row.items()} for row in table[own].to_dict("records")
    ]


def _table(done: DoneCase, name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(done.content(name)))
