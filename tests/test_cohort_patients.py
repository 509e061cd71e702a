"""A row per patient: the first examination by tracer, names and types that do not change, the snippets."""

from __future__ import annotations

import csv
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_fixtures import HEAD, line, write_scans, write_table
from petbone.cohort import opened
from petbone.cohort_case import Networks, Record, do_case, run_in
from petbone.cohort_groups import compared_by
from petbone.cohort_patients import (
    REGIONS,
    WHOLE,
    examinations_in,
    legal,
    patients_of,
    write_patients,
)
from petbone.cohort_results import write_cohort
from petbone.cohort_table import CohortRow, CohortTable, read_cohort
from petbone.io import PetOptions
from petbone.pipeline import CaseFiles, CaseOptions

DOCS = Path(__file__).parents[1] / "docs/cohorts.md"


def row(case: str, tracers: str = "naf", **kept: str) -> CohortRow:
    """A row of a table; `tracers` parted by spaces, "?" where the row names none."""
    said = tuple(
        PetOptions(tracer=None if one == "?" else one, weight_kg=80.0, sex="M") for one in tracers.split()
    )
    return CohortRow(case, CaseFiles((Path("pet"),) * len(said), said, Path("ct")), tuple(kept.items()))


def made(part: Path, cases: dict[str, str], names: tuple[str, ...] = ("PET15",)) -> None:
    """Tables of cases by their tracers; each number is the case's place among them, from 1."""
    part.mkdir(exist_ok=True)
    pairs = [(n, case, tracer) for n, (case, some) in enumerate(cases.items(), 1) for tracer in some.split()]
    indices = [
        {"case": case, "tracer": tracer, "index": name, "value": n, "unit": "%",
         "denominator_seen_fraction": 1.0, "value_unflagged": n / 2}
        for n, case, tracer in pairs for name in names
    ]  # fmt: skip
    numbers = "seen_fraction suv_mean suv_max hotspot_count hotspot_volume_ml hotspot_tlu_g hotspot_fraction"
    regions = [
        {"case": case, "tracer": tracer, "region": region} | dict.fromkeys(numbers.split(), float(n))
        for n, case, tracer in pairs for region in (*REGIONS, WHOLE)
    ]  # fmt: skip
    pd.DataFrame(indices).to_parquet(part / "indices.parquet")
    pd.DataFrame(regions).to_parquet(part / "regions.parquet")


def patients(part: Path, rows: list[CohortRow], failed: str = "") -> list[dict[str, str]]:
    """The rows of patients.csv."""
    records = [Record(one.case, "failed" if one.case in failed.split() else "done") for one in rows]
    told = write_patients(CohortTable(tuple(rows), tuple(dict(rows[0].kept)), ()), records, part)
    with (part / "patients.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert (
        [column for column, *_ in told] == list(found[0]) == pq.read_schema(part / "patients.parquet").names
    )
    return found


def test_the_first_by_date_and_by_tracer(tmp_path):
    made(tmp_path, {"a": "naf", "b": "choline", "c": "naf choline", "d": "naf"})
    rows = [
        row("a", "naf", patient="P1", date="2024-05-01", arm="late"),
        row("b", "choline", patient="P1", date="2024-01-09", arm="early"),
        row("c", "naf choline", patient="P1", date="2024-03-01", arm="x"),
        row("d", "naf", patient="", date="", arm=""),
    ]
    one, two = patients(tmp_path, rows)
    assert [one[name] for name in ("patient", "case", "date", "arm", "examinations", "note")] == [
        *("P1", "b", "2024-01-09", "early", "3", "")
    ]
    assert (one["case_naf"], one["examinations_naf"], one["PET15_naf"], one["PET15_unflagged_naf"]) == (
        *("c", "2", "3", "1.5"),
    )
    assert (one["case_choline"], one["next_case_choline"], one["PET15_choline"]) == ("b", "c", "2")
    assert one["next_case_naf"] == "a"
    assert (two["patient"], two["case_naf"], two["hotspot_count_naf"], two["date"]) == ("d", "d", "4", "")
    assert two["examinations_choline"] == "0"
    of_choline = [name for name in two if name.endswith("_choline") and name != "examinations_choline"]
    assert {two[name] for name in of_choline} == {""}


def test_the_order_of_rows_does_not_matter():
    rows = [row(f"c{n}", patient=f"P{n % 3}", date=f"2024-01-0{n + 1}") for n in range(8)]
    expected = {one.name: [each.case for each in one.rows] for one in patients_of(rows)}
    assert expected["P1"] == ["c1", "c4", "c7"]
    random.Random(1).shuffle(rows)
    assert {one.name: [each.case for each in one.rows] for one in patients_of(rows)} == expected
    same = [row(name, patient="P", date="2024-01-01") for name in "ba"]
    assert [one.case for one in patients_of(same)[0].rows] == ["b", "a"]
    accents = [row("a", patient="A\u030a"), row("b", patient="\u00c5")]
    assert len(patients_of(accents)) == 1
    # A case without a patient is no patient of that name.
    assert len(patients_of([row("a", patient="b"), row("b", patient="")])) == 2


def test_a_failed_case_is_not_passed_over(tmp_path):
    made(tmp_path, {"b": "naf choline"})
    stated = [
        row("a", "naf", patient="P", date="2024-01-01"),
        row("b", "naf choline", patient="P", date="2024-02-01"),
    ]
    (one,) = patients(tmp_path, stated, failed="a")
    assert (one["case"], one["note"]) == ("a", "failed: a")
    assert (one["case_naf"], one["PET15_naf"], one["examinations_naf"]) == ("", "", "2")
    assert (one["case_choline"], one["PET15_choline"]) == ("b", "1")
    unknown = [row("a", "?", patient="P", date="2024-01-01"), *stated[1:]]
    (one,) = patients(tmp_path, unknown, failed="a")
    assert (one["case_naf"], one["case_choline"]) == ("", "")
    second = [
        stated[1],
        row("a", "naf", patient="P", date="2024-03-01"),
        row("c", patient="P", date="2024-04-01"),
    ]
    made(tmp_path, {"b": "naf choline", "c": "naf"})
    (one,) = patients(tmp_path, second, failed="a")
    assert (one["case_naf"], one["next_case_naf"], one["examinations_naf"]) == ("b", "", "3")
    second_examination = CaseFiles((Path("p"),), (PetOptions(tracer="psma"),), Path("ct"))
    with_ct2 = CohortRow(
        "a", CaseFiles((Path("p"),), (PetOptions(tracer="naf"),), Path("ct"), second=second_examination)
    )
    assert examinations_in("psma", patients_of([with_ct2])[0], {}) == [None]
    assert examinations_in("fdg", patients_of([with_ct2])[0], {}) == []


def test_follow_up_where_it_is_told(tmp_path):
    made(tmp_path, {"a": "naf", "b": "naf", "c": "naf"})
    rows = [row(name, patient="P", date=f"2024-0{n}-01") for n, name in enumerate("abc", 1)]
    follow = pd.DataFrame(
        [
            ("P", "naf", "a", "c", 60, "first", 0.2, "regressed"),
            ("P", "naf", "b", "c", 29, "previous", 0.3, "regressed"),
            ("P", "choline", "a", "b", 31, "first", 0.9, "not judged"),
            ("P", "naf", "a", "b", 31, "first", None, "progressed"),
        ],
        columns=["patient", "tracer", "case_1", "case_2", "days", "against", "total_tlu_ratio", "course"],
    )
    (one,) = patients(tmp_path, rows)
    assert (one["next_case_naf"], one["next_days_naf"], one["next_course_naf"]) == ("b", "", "")
    follow.to_parquet(tmp_path / "followup.parquet")
    (one,) = patients(tmp_path, rows)
    told = [one[f"next_{name}_naf"] for name in ("case", "days", "total_tlu_ratio", "course")]
    assert told == ["b", "31", "", "progressed"]


def test_types_and_names_do_not_depend_on_what_is_there(tmp_path):
    made(tmp_path, {"a": "naf", "b": "naf"})
    rows = [
        row("a", patient="P1", date="", **{"PSA (ng/ml)": "3"}),
        row("b", patient="P2", date="", **{"PSA (ng/ml)": ""}),
    ]
    patients(tmp_path, rows)
    whole = pq.read_schema(tmp_path / "patients.parquet")
    made(tmp_path, {"b": "naf"})
    failed, _ = patients(tmp_path, rows, failed="a")
    assert pq.read_schema(tmp_path / "patients.parquet").equals(whole)
    assert failed["PET15_naf"] == failed["hotspot_count_naf"] == ""
    assert (
        whole.field("PSA_ng_ml").type
        == whole.field("note").type
        == whole.field("next_course_naf").type
        == pa.string()
    )
    assert whole.field("hotspot_count_naf").type == whole.field("next_days_naf").type == pa.int64()
    assert whole.field("PET15_naf").type == whole.field("weight_kg").type == pa.float64()
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) for name in whole.names)


def test_names_that_meet_are_kept_apart(tmp_path):
    made(tmp_path, {"a": "naf"}, names=("PET>15", "PET<15", "hotspot_count", "case"))
    kept = {"note.": "n", "arm": "1", "Arm": "2", "a rm": "3", "a-rm": "4"}
    (one,) = patients(tmp_path, [row("a", **kept)])
    assert [one[name] for name in ("note_2", "arm", "Arm", "a_rm", "a_rm_2")] == ["n", "1", "2", "3", "4"]
    assert one["note"] == ""
    assert (one["PET_15_naf"], one["PET_15_naf_2"], one["hotspot_count_naf"]) == ("1", "1", "1")
    assert (one["case_naf"], one["case_naf_2"]) == ("a", "1")


@given(st.text(max_size=20))
def test_legal_names(text):
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", legal(text))
    assert legal(legal(text)) == legal(text)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="no Rscript: names are not tried in R")
def test_r_takes_the_names_as_they_are():
    names = [
        legal(text)
        for text in ("PSA (ng/ml)", "2nd", "if", "TRUE", "NA_real_", "_x", "\u5e74\u9f62", "a.b", "...")
    ]
    code = f"cat(all(make.names(c({', '.join(map(repr, names))})) == c({', '.join(map(repr, names))})))"
    assert (
        subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True).stdout == "TRUE"
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder beside a cohort of eight patients in two arms, done, and ``times.csv``."""
    ground = tmp_path_factory.mktemp("survival")
    for seed in range(4):
        write_scans(ground / f"s{seed}", seed)
    lines = [f"{line(f'c{n}', f's{n % 4}', 'AB'[n % 2])},00{n},2024-01-0{n + 1}" for n in range(8)]
    path = write_table(ground / "table.csv", *lines, head=f"{HEAD},patient,date")
    table = compared_by(read_cohort(path, ground / "cohort"), ["arm"])
    options = CaseOptions(processes=1)
    with opened(ground / "cohort") as cases:
        records = [do_case(one, options, cases, Networks().load, run_in(cases)) for one in table.rows]
        write_cohort(table, records, {}, ground / "cohort")
    months, dead = (5, 12, 7, 30, 9, 24, 14, 31), (1, 1, 1, 0, 1, 1, 0, 1)
    times = [f"00{n},{months[n]},{dead[n]}" for n in range(8)]
    text = "\n".join(["patient,months,dead", *times]) + "\n"
    (ground / "times.csv").write_text(text, encoding="utf-8")
    return ground


def test_a_cohort_leaves_what_its_cases_say(cohort):
    typed = pd.read_parquet(cohort / "cohort/patients.parquet").set_index("patient")
    assert list(typed.index) == [f"00{n}" for n in range(8)]
    indices = pd.read_csv(cohort / "cohort/cases/c3/indices.csv").set_index("index")
    for name in indices.index:
        assert typed.loc["003", f"{name}_naf"] == pytest.approx(indices.loc[name, "value"], nan_ok=True)
    hotspots = pd.read_csv(cohort / "cohort/cases/c3/hotspots.csv")
    assert typed.loc["003", "hotspot_count_naf"] == len(hotspots) > 0
    assert typed.loc["003", "hotspot_volume_ml_naf"] == pytest.approx(hotspots["volume_ml"].sum(), rel=1e-5)
    assert typed.loc["003", "hotspot_tlu_g_naf"] == pytest.approx(hotspots["tlu_g"].sum(), rel=1e-5)
    regions = pd.read_csv(cohort / "cohort/cases/c3/regions.csv").set_index("region")
    assert typed.loc["003", "pelvis_hotspot_volume_ml_naf"] == regions.loc["pelvis", "hotspot_volume_ml"]
    told = pd.read_csv(cohort / "cohort/cohort_dictionary.csv")
    assert list(told.loc[told["table"] == "patients", "column"]) == ["patient", *typed.columns]
    assert set(told.loc[told["table"] == "comparisons", "column"]) == set(
        pq.read_schema(cohort / "cohort/comparisons.parquet").names
    )
    text = (cohort / "cohort/patients.csv").read_text(encoding="utf-8")
    assert str(cohort) not in text
    assert ".nii" not in text


def test_every_column_is_explained(cohort):
    told = pd.read_csv(cohort / "cohort/cohort_dictionary.csv")
    columns = set(told.loc[told["table"].isin(["patients", "comparisons"]), "column"]) - {"arm"}
    indices = pd.read_csv(cohort / "cohort/indices.csv")["index"].unique()
    kinds = [
        (rf"^({'|'.join(REGIONS)})_", "spine_"),
        (rf"^({'|'.join(indices)})(?=_(unflagged_|seen_fraction_)?naf$)", "PET15"),
        (r"^(\w+)_2$", r"\1_1"),
    ]
    for pattern, example in kinds:
        columns = {re.sub(pattern, example, column) for column in columns}
    assert columns <= set(re.findall(r"`(\w+)`", DOCS.read_text(encoding="utf-8")))
    assert len(columns) == 49


def snippets(language: str) -> list[str]:
    """The code of the sections on patients and groups, word for word."""
    text = DOCS.read_text(encoding="utf-8")
    part = text[text.index("## A row per patient") : text.index("## When is a case done?")]
    return re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)


def test_the_snippets_of_pandas_run(cohort):
    printed = []
    for code in snippets("python"):
        words = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(words, cwd=cohort, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert "LogRankResult" in printed[0]
    assert "Columns: [group_by, tracer, bone" in printed[1]  # four patients against four: nothing is found


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="no Rscript: the snippet of R is not tried")
def test_the_snippet_of_r_runs_and_agrees_with_scipy(cohort):
    (code,) = snippets("r")
    more = "d <- survdiff(Surv(months, dead) ~ arm, both); cat('chisq', d$chisq, nrow(both), both$patient[1])"
    done = subprocess.run(["Rscript", "-e", code + more], cwd=cohort, capture_output=True, text=True)
    if "there is no package called" in done.stderr:
        pytest.skip("R has no package survival")
    assert done.returncode == 0, done.stderr
    _, chisq, n, first = re.search(r"(chisq) (\S+) (\d+) (\d+)", done.stdout).groups()
    assert (n, first) == ("8", "000")
    code = snippets("python")[0].replace(
        "print(logrank(*arms.values()))", "print(logrank(*arms.values()).statistic ** 2)"
    )
    here = subprocess.run(
        [sys.executable, "-c", code], cwd=cohort, capture_output=True, text=True, check=True
    )
    assert float(here.stdout.splitlines()[-1]) == pytest.approx(float(chisq), rel=1e-5)
