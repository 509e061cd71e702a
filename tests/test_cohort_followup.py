"""Examinations of one patient in a cohort: which are compared, what is said of them, when it is done anew."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from case_fixtures import BALLS, GRID, patient
from cohort_fixtures import write_table
from petbone.cohort import cohort_of, opened
from petbone.cohort_case import DONE, Record
from petbone.cohort_compare import Judge, do_pair, planned, sweep_pairs
from petbone.cohort_dates import TOGETHER_DAYS, Pair, Visit, pairs_of, visit_findings
from petbone.cohort_followup import COLUMNS, COURSES, TABLES, course, write_followup
from petbone.cohort_table import read_cohort
from petbone.cohort_workers import local_workers, run_pairs
from petbone.errors import InputErrors
from petbone.io import write_nifti
from petbone.pipeline import CaseOptions
from petbone.repeatability import published_limits
from petbone.volume import Unit, Volume

HEAD = "case,ct,pet,tracer,bones,units,patient,date,arm"
OPTIONS = CaseOptions()
Cli = Callable[..., Any]

# SUV of a cube of 27 voxels in the middle of each ball of bone: total uptake in g is 0.729 times the sum.
CUBE_ML = 27 * 0.027
DATES = {
    "up": ({16: 20}, {16: 40}),
    "down": ({16: 40}, {16: 20}),
    "same": ({16: 20}, {16: 22}),
    "new": ({16: 20}, {16: 20, 17: 20, 47: 20}),
    "mixed": ({16: 100}, {16: 16, 17: 16, 47: 16}),
    "crossed": ({16: 100, 17: 14, 47: 14}, {16: 100, 17: 16, 47: 16}),
}
COURSE_OF = {
    "up": "progressed", "down": "regressed", "same": "unchanged", "new": "progressed", "mixed": "mixed",
    "crossed": "unchanged",
}  # fmt: skip


def write_scans(folder: Path, hot: dict[int, float], tracer: str = "naf") -> None:
    """CT, mask, and a PET of SUV 1 with cubes of these SUVs in the middles of balls."""
    ct, labels = patient()
    folder.mkdir(parents=True, exist_ok=True)
    write_nifti(ct, folder / "ct.nii.gz")
    write_nifti(labels, folder / "bones.nii.gz")
    suv = np.ones(GRID.shape, np.float32)
    for label, value in hot.items():
        i, j, k = np.rint(GRID.ijk(np.array([BALLS[label]], float)))[0].astype(int)
        suv[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = value
    write_nifti(Volume(suv, GRID, Unit.SUV), folder / f"{tracer}.nii.gz")


def line(case: str, folder: str, patient: str, date: str, tracer: str = "naf") -> str:
    files = f"{folder}/ct.nii.gz,{folder}/{tracer}.nii.gz,{tracer},{folder}/bones.nii.gz"
    return f"{case},{files},suv,{patient},{date},A"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(table: Path, output: Path, **more: Any) -> dict[str, str]:
    """The cohort of a table by the workers of a run; the state of every case, and of every pair."""
    records = cohort_of(read_cohort(table, output), OPTIONS, output, (2, None), **more)
    return {f"{one.against}>{one.case}" if one.against else one.case: one.state for one in records}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients at two dates in NaF; the first has a third one, and choline ten days after the second."""
    ground = tmp_path_factory.mktemp("cohort")
    lines = []
    for name, dates in DATES.items():
        for n, hot in enumerate(dates, start=1):
            write_scans(ground / f"{name}{n}", hot)
            lines.append(line(f"{name}--{n}", f"{name}{n}", name, f"2023-0{3 * n}-15"))
    write_scans(ground / "up3", {16: 20, 17: 20})
    write_scans(ground / "up2", {17: 30, 48: 30}, "choline")
    lines.insert(0, line("up--3", "up3", "up", "2024-01-31"))  # dates, not rows, are the order
    lines.append(line("up-c", "up2", "up", "2023-06-25", "choline"))
    write_table(ground / "table.csv", *lines, head=HEAD)
    states = run(ground / "table.csv", ground / "out")
    assert set(states.values()) == {"done"}
    assert len(states) == 14 + 6 + 2 + 1
    return ground


def test_the_course_of_made_up_patients(cohort: Path):
    found = {(one["patient"], one["case_2"]): one for one in rows(cohort / "out/followup.csv")}
    for name, expected in COURSE_OF.items():
        one = found[name, f"{name}--2"]
        assert (one["course"], one["against"]) == (expected, "first"), one["why"]
        assert (one["date_1"], one["date_2"], one["days"]) == ("2023-03-15", "2023-06-15", "92")
        for n, hot in enumerate(DATES[name], start=1):
            seen = [suv for suv in hot.values() if suv >= 15]
            assert float(one[f"total_tlu_g_{n}"]) == pytest.approx(CUBE_ML * sum(seen), rel=1e-5)
            assert float(one[f"total_volume_ml_{n}"]) == pytest.approx(CUBE_ML * len(seen), rel=1e-5)
            assert one[f"count_{n}"] == str(len(seen))
        assert one["rule"] == "PET15"
        assert one["total_limits"] == "0.70-1.44"
    changes = {name: [found[name, f"{name}--2"][key] for key in CLASSES] for name in COURSE_OF}
    assert changes == {
        "up": ["0", "0", "0", "1", "0", "0"],
        "down": ["0", "0", "0", "0", "0", "1"],
        "same": ["0", "0", "0", "0", "1", "0"],
        "new": ["2", "0", "0", "0", "1", "0"],
        "mixed": ["2", "0", "0", "0", "0", "1"],
        "crossed": ["2", "2", "0", "0", "1", "0"],
    }
    verdicts = {name: found[name, f"{name}--2"]["total_verdict"] for name in COURSE_OF}
    assert [verdicts[name] for name in ("up", "down", "same", "mixed")] == ["up", "down", "within", "down"]


CLASSES = ("new", "new_crossed", "gone", "grown", "stable", "shrunk")


def test_every_later_examination_is_against_the_first_and_the_one_before(cohort: Path):
    found = [one for one in rows(cohort / "out/followup.csv") if one["patient"] == "up"]
    pairs = {(one["case_1"], one["case_2"]): (one["against"], one["days"]) for one in found}
    assert pairs == {
        ("up--1", "up--2"): ("first", "92"),
        ("up--1", "up--3"): ("first", "322"),
        ("up--2", "up--3"): ("previous", "230"),
    }
    typed = pd.read_parquet(cohort / "out/followup.parquet")
    assert list(typed) == [column.name for column in COLUMNS]
    assert typed["days"].dtype == np.int64
    assert typed["total_tlu_ratio"].dtype == np.float64


def test_a_pair_is_what_compare_leaves(cohort: Path, cli: Cli, tmp_path: Path):
    cases = cohort / "out/cases"
    assert cli("compare", cases / "mixed--1", cases / "mixed--2", "-o", tmp_path / "own").status == 0
    made = cohort / "out/followup/mixed--1/mixed--2"
    names = {path.name for path in (tmp_path / "own").iterdir()}
    assert {path.name for path in made.iterdir()} - names == {DONE}
    for name in names - {"provenance.json", "compare.html"}:
        assert (made / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
    facts = [
        json.loads((folder / "provenance.json").read_text("utf-8")) for folder in (made, tmp_path / "own")
    ]
    for one in facts:
        one.pop("steps")
    assert facts[0] == facts[1]


def test_two_tracers_of_two_rows_are_what_two_pets_of_one_row_are(cohort: Path, cli: Cli, tmp_path: Path):
    scans = cohort / "up2"
    pets = [scans / "naf.nii.gz", scans / "choline.nii.gz"]
    words = ("--bones", scans / "bones.nii.gz", "--tracer", "naf", "--tracer", "choline", "--units", "suv")
    assert cli("run", scans / "ct.nii.gz", *pets, *words, "-o", tmp_path / "own").status == 0
    made = cohort / "out/tracers/up--2/up-c"
    for name in ("concordance.csv", "hotspot_matches.csv", "tracer_agreement.csv"):
        assert (made / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
    (row,) = rows(cohort / "out/tracer_pairs.csv")
    assert (row["patient"], row["case_1"], row["case_2"], row["days"]) == ("up", "up--2", "up-c", "10")
    (own,) = rows(tmp_path / "own/tracer_agreement.csv")
    assert {key: row[key] for key in own} == own
    assert row["bones_compared"] == "4"


def test_two_tracers_at_both_dates(tmp_path: Path):
    lines = []
    for n, (naf, choline) in enumerate((({16: 20}, {17: 20}), ({16: 60}, {17: 20, 47: 20, 48: 20})), start=1):
        write_scans(tmp_path / f"s{n}", naf)
        write_scans(tmp_path / f"s{n}", choline, "choline")
        lines.append(f"{line(f'c{n}', f's{n}', 'P', f'2024-0{n}-01')},s{n}/choline.nii.gz,choline,suv")
    table = write_table(tmp_path / "t.csv", *lines, head=f"{HEAD},pet2,tracer2,units2")
    assert run(table, tmp_path / "out") == {"c1": "done", "c2": "done", "c1>c2": "done"}
    found = {one["tracer"]: one for one in rows(tmp_path / "out/followup.csv")}
    assert {name: (one["rule"], one["new"]) for name, one in found.items()} == {
        "naf": ("PET15", "0"),
        "choline": ("A50", "2"),
    }
    assert (found["naf"]["course"], found["naf"]["total_verdict"]) == ("progressed", "up")
    # limits are known of naf alone; two new hotspots are two new ones in any tracer
    assert (found["choline"]["course"], found["choline"]["total_verdict"]) == ("progressed", "no limits")
    assert rows(tmp_path / "out/tracer_pairs.csv") == []


def test_dates_stay_in_the_tables(cohort: Path):
    output = cohort / "out"
    for place in ("cases", "followup", "tracers"):
        files = [path for path in (output / place).rglob("*") if path.suffix in (".json", ".csv", ".html")]
        assert len(files) > 4
        for path in files:
            text = path.read_text(encoding="utf-8")
            assert not any(date in text for date in ("2023-03-15", "2023-06-15", "2023-06-25", "2024-01-31"))
    assert "2023" not in (output / "provenance.json").read_text(encoding="utf-8")


def test_the_dictionary_and_the_provenance_tell_of_pairs(cohort: Path):
    explained = {(one["table"], one["column"]) for one in rows(cohort / "out/cohort_dictionary.csv")}
    for name, columns in TABLES.items():
        assert {(name, column.name) for column in columns} <= explained
        assert all(column.meaning for column in columns)
    told = json.loads((cohort / "out/provenance.json").read_text(encoding="utf-8"))
    assert (told["cases"], told["compared"], told["compared_failed"]) == (14, 9, 0)
    assert {"case_1": "up--1", "case_2": "up--3"}.items() <= told["compared_sha256"][1].items()
    assert told["options"]["limits"] is False


def test_pairs_are_kept_and_done_anew_with_their_cases(cohort: Path, tmp_path: Path):
    shutil.copytree(cohort, tmp_path / "c")
    ground, output = tmp_path / "c", tmp_path / "c/out"
    table = ground / "table.csv"
    assert set(run(table, output).values()) == {"kept"}

    # other limits: follow-up anew, tracers not
    judge = Judge(published_limits(), own=True)
    states = run(table, output, judge=judge)
    assert [key for key, state in states.items() if state == "kept" and ">" in key] == ["up--2>up-c"]
    run(table, output)

    # another third date: its pairs, and no other
    write_scans(ground / "up3", {16: 60})
    states = run(table, output)
    anew = {key for key, state in states.items() if state == "done"}
    assert anew == {"up--3", "up--1>up--3", "up--2>up--3"}
    (row,) = [one for one in rows(output / "followup.csv") if one["case_1"] == "up--2"]
    assert float(row["total_tlu_ratio"]) == pytest.approx(1.5)

    # a table of it that somebody has saved over
    (output / "followup/up--1/up--2/bone_changes.csv").write_text("mine", encoding="utf-8")
    states = run(table, output)
    assert {key for key, state in states.items() if state == "done"} == {"up--1>up--2"}

    # what a kill has left, and pairs of cases that the table has no more
    (output / "followup/up--1/.up--2-x.part").mkdir()
    lines = table.read_text(encoding="utf-8").splitlines()
    write_table(table, *(text for text in lines[1:] if not text.startswith("up--2")), head=HEAD)
    states = run(table, output)
    assert states["up--1>up--3"] == "kept"
    assert sorted(path.name for path in (output / "followup/up--1").iterdir()) == ["up--3"]
    assert not (output / "followup/up--2").exists()
    assert not (output / "tracers").exists()
    assert (output / "cases/up--2").is_dir()

    # a case that was done before and fails now: what was compared with it goes, too
    (ground / "up3/naf.nii.gz").write_bytes(b"\x1f\x8b no gzip")
    assert run(table, output)["up--1>up--3"] == "hindered"
    assert (output / "cases/up--3").is_dir()
    assert not (output / "followup/up--1").exists()


def test_a_killed_worker_loses_no_pair(cohort: Path, tmp_path: Path):
    output = tmp_path / "out"
    shutil.copytree(cohort / "out/cases", output / "cases")
    shutil.copy(cohort / "out/cohort.lock", output)
    found = read_cohort(cohort / "table.csv", output)
    pairs, hindered = planned(found.visits, [Record(one.case, "done") for one in found.visits], output)
    assert not hindered
    killed = []
    with local_workers(2, None) as client:
        pids = list(client.run(os.getpid).values())

        def kill(record: Record) -> None:
            for _ in range(0 if killed else 100):
                if list((output / "followup").glob("**/.*.part")):  # in the middle of a pair
                    os.kill(pids[0], signal.SIGKILL)
                    killed.append(record)
                    return
                time.sleep(0.005)

        with opened(output):
            judge = Judge(published_limits(), own=False)
            records = run_pairs(pairs, judge, None, output, client, on_record=kill)
    assert killed
    assert {one.state for one in records} == {"done"}
    assert [(one.against, one.case) for one in records] == [
        (pair.first.case, pair.second.case) for pair in pairs
    ]
    assert not list((output / "followup").glob("**/.*.part"))
    for pair in pairs:
        made = [place / pair.kind / pair.first.case / pair.second.case for place in (output, cohort / "out")]
        for path in made[1].glob("*.csv"):
            assert path.read_bytes() == (made[0] / path.name).read_bytes()


def test_what_fails_stops_nobody_and_is_told(tmp_path: Path, cli: Cli):
    for name in ("a", "b", "c", "d"):
        write_scans(tmp_path / name, {16: 20})
    labels = patient()[1]
    low = np.where(labels.data == 16, 16, 0).astype(np.uint8)
    write_nifti(Volume(low, GRID, Unit.LABEL), tmp_path / "a/bones.nii.gz")
    high = np.where(labels.data == 47, 47, 0).astype(np.uint8)
    write_nifti(Volume(high, GRID, Unit.LABEL), tmp_path / "b/bones.nii.gz")
    (tmp_path / "d/naf.nii.gz").write_bytes(b"\x1f\x8b no gzip")
    table = write_table(
        tmp_path / "t.csv",
        line("a", "a", "P1", "2024-01-01"),
        line("b", "b", "P1", "2024-02-01"),  # no bone in common with the first
        line("c", "c", "P1", "2024-03-01"),
        line("d", "d", "P2", "2024-01-01"),  # fails
        line("e", "c", "P2", "2024-02-01"),
        line("f", "b", "P2", "2024-03-01"),
        head=HEAD,
    )
    done = cli("cohort", table, "-o", tmp_path / "out", "--workers", 1)
    assert done.status == 5
    assert "5 done, 0 done before, 1 failed" in done.out
    assert "compared: 3 done, 0 done before, 1 failed, 2 whose case failed" in done.out
    assert "petbone: b with a: compare: " in done.err
    failures = {(one["case"], one["step"]): one["error"] for one in rows(tmp_path / "out/failures.csv")}
    assert set(failures) == {("b", "compare"), ("d", "read")}
    assert failures["b", "compare"].startswith("cases/b: has no bone in common with cases/a")
    assert str(tmp_path) not in "".join(failures.values())
    found = {(one["case_1"], one["case_2"]): one for one in rows(tmp_path / "out/followup.csv")}
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c"), ("d", "e"), ("d", "f"), ("e", "f")}
    for pair, why in ((("a", "b"), failures["b", "compare"]), (("d", "e"), "case d failed")):
        assert (found[pair]["course"], found[pair]["why"]) == ("not judged", why)
        assert not any(found[pair][key] for key in ("total_tlu_g_1", "new", "count_1", "rule"))
        assert found[pair]["days"] == "31"
    # the first that failed stays the first
    assert found["e", "f"]["against"] == "previous"
    assert not (tmp_path / "out/followup/a/b").exists()


def test_all_findings_of_patient_and_date_at_once(tmp_path: Path):
    write_scans(tmp_path / "s", {})
    table = write_table(
        tmp_path / "t.csv",
        line("a", "s", "P1", "2024-01-01"),
        line("b", "s", "P1", "2024-01-01"),
        line("c", "s", "P1", ""),
        line("d", "s", "", "2024-01-01"),
        line("e", "s", "P2", "01.02.2024"),
        line("f", "s", "P3", "2023-02-29"),
        line("g", "s", "p1", "2024-03-01"),
        line("h", "s", "P4", ""),
        line("i", "s", "P5", "20240301"),
        line("j", "s", "", ""),
        head=HEAD,
    )
    with pytest.raises(InputErrors) as refused:
        read_cohort(table, tmp_path / "out")
    said = [text.removeprefix(f"{table}: ") for text in str(refused.value).splitlines()]
    assert said == [
        "row 3: patient 'P1' has naf of this date in row 2 already; expected one case of a tracer at a date",
        "row 4: no date, and patient 'P1' has several cases; expected YYYY-MM-DD",
        "row 5: date without a patient; expected both, or neither",
        "row 6: date '01.02.2024': expected YYYY-MM-DD, as 2024-05-31",
        "row 7: date '2023-02-29': expected YYYY-MM-DD, as 2024-05-31",
        "row 8: patient 'p1' differs from 'P1' of row 2 in capitals only; expected one spelling of one "
        "patient",
        "row 10: date '20240301': expected YYYY-MM-DD, as 2024-05-31",
    ]


def test_a_date_needs_a_column_patient(tmp_path: Path):
    write_scans(tmp_path / "s", {})
    head = HEAD.replace("patient", "person")
    table = write_table(tmp_path / "t.csv", line("a", "s", "P1", "2024-01-01"), head=head)
    with pytest.raises(InputErrors, match="has a column date and none called patient; expected both"):
        read_cohort(table, tmp_path / "out")


def visit(case: str, date: str, *tracers: str, apart: bool = False) -> Visit:
    return Visit(f"row {case}", case, "P", date, tracers, apart)


def test_a_row_of_two_examinations_is_none_of_several():
    some = [visit("2", "2024-01-01", "naf"), visit("3", "2024-02-01", "naf", "choline", apart=True)]
    ((row, said),) = visit_findings(some)
    assert row == "row 3"
    assert "expected a row for each examination" in said
    assert not list(visit_findings(some[1:]))


def named(pairs: list[Pair]) -> list[tuple[str, str, str, tuple[str, ...], tuple[str, ...]]]:
    return [(one.kind, one.first.case, one.second.case, one.tracers, one.against) for one in pairs]


def test_each_tracer_has_its_own_first():
    pairs, refused = pairs_of(
        [
            visit("1", "2024-01-01", "naf"),
            visit("2", "2024-06-01", "naf", "choline"),
            visit("3", "2025-01-01", "naf", "choline"),
        ]
    )
    assert not refused
    assert named(pairs) == [
        ("followup", "1", "2", ("naf",), ("first",)),
        ("followup", "1", "3", ("naf",), ("first",)),
        ("followup", "2", "3", ("naf", "choline"), ("previous", "first")),
    ]


def test_two_tracers_belong_together_when_each_is_the_others_nearest():
    choline, later = visit("1", "2024-01-01", "choline"), visit("2", "2024-01-20", "naf")
    last = visit("3", "2024-03-01", "naf")
    (two,) = [one for one in pairs_of([choline, later, last])[0] if one.kind == "tracers"]
    # the tracer that stands first is the same in every patient, whichever was injected first
    assert (two.first.case, two.second.case, two.days) == ("2", "1", -19)
    for days, together in ((TOGETHER_DAYS, True), (TOGETHER_DAYS + 1, False)):
        other = visit("4", str(np.datetime64("2024-01-01") + days), "naf")
        assert bool(pairs_of([choline, other])[0]) is together
    # as near before as after: the earlier
    around = [visit("5", "2024-01-11", "naf"), visit("6", "2023-12-22", "naf")]
    (two,) = [one for one in pairs_of([choline, *around])[0] if one.kind == "tracers"]
    assert two.first.case == "6"


def test_what_cannot_be_put_in_order():
    # tracers that only the files told
    pairs, refused = pairs_of([visit("1", "2024-01-01", "naf"), visit("2", "2024-01-01", "naf")])
    assert not pairs
    ((later, earlier, why),) = refused
    assert (later.case, earlier.case) == ("2", "1")
    assert "of the same patient and date" in why
    assert "2024" not in why
    # a failed case whose tracer nobody knows may have been the first
    some = [visit("1", "2024-01-01", "naf"), visit("2", "2024-02-01"), visit("3", "2024-03-01", "naf")]
    pairs, refused = pairs_of(some)
    assert not pairs
    assert [(one[0].case, one[1].case) for one in refused] == [("3", "2")]
    assert "no column tells its tracer" in refused[0][2]


def test_a_case_whose_summary_cannot_be_read_has_no_tracer(tmp_path: Path):
    visits = [visit("2", "2024-01-01"), visit("3", "2024-02-01", "naf")]
    records = [Record(one.case, "done") for one in visits]
    pairs, hindered = planned(visits, records, tmp_path)
    assert (pairs, hindered) == ([], [])


def test_a_pair_whose_folder_is_not_what_was_written(cohort: Path, tmp_path: Path):
    pair = Pair(
        "followup",
        "up",
        Visit("row 2", "up--1", "up", "2023-03-15", ("naf",)),
        Visit("row 3", "up--2", "up", "2023-06-15", ("naf",)),
        ("naf",),
        ("first",),
    )
    (tmp_path / "part").mkdir()
    record = Record("up--2", "done", "compare", provenance_sha256="0", against="up--1")
    ((checked,), _) = write_followup([(pair, record)], cohort / "out", tmp_path / "part")
    assert (checked.state, checked.step) == ("failed", "tables")
    assert "was changed while the cohort ran" in checked.error
    (row,) = rows(tmp_path / "part/followup.csv")
    assert (row["course"], row["why"]) == ("not judged", checked.error)


def test_a_folder_that_is_no_pair_of_ours_is_left_alone(cohort: Path, tmp_path: Path):
    shutil.copytree(cohort / "out/cases", tmp_path / "cases")
    mine = tmp_path / "followup/up--1/up--2"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine", encoding="utf-8")
    visits = [Visit(f"row {n}", f"up--{n}", "up", f"2023-0{n}-15", ("naf",)) for n in (1, 2)]
    pair = Pair("followup", "up", *visits, ("naf",), ("first",))
    record = do_pair(pair, Judge(published_limits(), own=False), tmp_path, 1)
    assert record.state == "failed"
    assert record.error.startswith("followup/up--1/up--2: exists and holds other files")
    assert (mine / "notes.txt").read_text(encoding="utf-8") == "mine"
    shutil.rmtree(tmp_path / "followup")
    (tmp_path / "followup").write_text("mine", encoding="utf-8")
    record = do_pair(pair, Judge(published_limits(), own=False), tmp_path, 1)
    assert record.error.startswith("followup: cannot be made: File exists; expected a folder of petbone")


def test_a_folder_of_pairs_may_lie_elsewhere(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "followup").symlink_to(tmp_path / "elsewhere")
    sweep_pairs(tmp_path, [])
    assert (tmp_path / "followup").is_dir()


@pytest.mark.parametrize(
    ("changed", "expected", "said"),
    [
        ({}, "unchanged", "total uptake x 1.1, within the limits 0.70-1.44"),
        ({"new": 1}, "unchanged", "1 new hotspot (2 or more are progression, PCWG3)"),
        ({"new": 2}, "progressed", "2 new hotspots"),
        ({"new": 3, "new_crossed": 2}, "unchanged", "2 more may have crossed the threshold only"),
        ({"total_verdict": "up"}, "progressed", "above the limits"),
        ({"total_verdict": "down"}, "regressed", "below the limits"),
        ({"total_verdict": "down", "new": 2}, "mixed", "below the limits"),
        ({"total_verdict": "no limits"}, "not judged", "no limits of repeatability are known"),
        ({"total_verdict": "no limits", "new": 2}, "progressed", "no limits of repeatability are known"),
        ({"total_verdict": None, "count_1": 0}, "not judged", "no hotspot at the earlier date"),
        ({"total_verdict": None, "count_1": 0, "new": 2}, "progressed", "no hotspot at the earlier date"),
        ({"total_verdict": None, "count_1": 0, "count_2": 0}, "unchanged", "no hotspot at either date"),
        ({"total_verdict": "no limits", "count_1": 0, "count_2": 0}, "unchanged", "at either date"),
        ({"total_verdict": None, "count_1": 0, "count_2": 0, "unseen": 1}, "not judged", "1 where one date"),
        ({"unseen": 4}, "unchanged", "4 where one date did not look left out"),
    ],
)
def test_the_course_by_its_rules(changed: dict[str, Any], expected: str, said: str):
    row = {
        "new": 0, "new_crossed": 0, "unseen": 0, "count_1": 3, "count_2": 3, "total_tlu_ratio": 1.1,
        "total_limits": "0.70-1.44", "total_verdict": "within",
    } | changed  # fmt: skip
    found, why = course(row)
    assert found == expected
    assert found in COURSES
    assert said in why
