"""Which scans are to be trusted, by arithmetic; and the tables of quality and concordance of real cases."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import petbone.net.sides
from case_fixtures import GRID
from cohort_fixtures import HEAD, line, write_scans, write_table
from petbone import examination, misnamed
from petbone.anatomy import BONES, SKELETON_49
from petbone.cohort_case import Networks, Record, do_case
from petbone.cohort_quality import (
    CHECKS,
    ELSEWHERE,
    IMPOSSIBLE,
    NO_COMMON,
    SWAPPED,
    VERDICTS,
    CaseFacts,
    Check,
    against_others,
    checks_of,
    judged_together,
    overall,
    software_of,
)
from petbone.cohort_results import write_cohort
from petbone.cohort_review import TABLES, write_quality
from petbone.cohort_table import CohortTable, read_cohort
from petbone.errors import ResourceError
from petbone.io import PetOptions, read_pet, write_nifti
from petbone.outliers import modified_z, modified_z_of_logs
from petbone.pipeline import CaseOptions
from petbone.volume import Unit, Volume

VERSIONS = {"python": "3.11.7", "numpy": "2.4.6"}


def pet(**other: Any) -> dict[str, Any]:
    """A PET that nothing is wrong with."""
    bones = [{"id": b.id, "name": b.name, "status": "complete", "name_confidence": 0.9} for b in BONES]
    index = {"index": "skeletal_suv_mean", "denominator_seen_fraction": 1.0}
    found = {"tracer": "naf", "bones": bones, "indices": [index], "hotspots": [], "suv": {"assumptions": []}}
    return found | {"alignment": {"far": False, "applied": False}} | other


def row(name: str, shift: float, interval: float) -> dict[str, str]:
    return {"name": name, "shift_mm": str(shift), "shift_uncertainty_mm": str(interval)}


def facts(*pets: dict[str, Any], warnings: tuple[str, ...] = (), placed: Any = None) -> CaseFacts:
    inputs = {"bones": None, "pets": [{"tracer": p["tracer"], "spacing_mm": [4.0, 4.0, 3.0]} for p in pets]}
    provenance = {"petbone": "0.1.0", "weights": "ab" * 32, "inputs": inputs, "versions": VERSIONS}
    lies = placed or {p["tracer"]: [row("whole", 1.0, 0.5), row("T1", 1.0, 0.5)] for p in pets}
    return CaseFacts("a", {"pets": list(pets), "warnings": list(warnings)}, provenance, lies)


def one(name: str, of: CaseFacts) -> Check:
    (found,) = (check for check in checks_of(of) if check.check == name)
    return found


def bones(**status: str) -> list[dict[str, Any]]:
    return [bone | {"status": status.get(bone["name"], "complete")} for bone in pet()["bones"]]


def test_a_good_case_passes_every_check():
    found = checks_of(facts(pet()))
    assert {check.check for check in found} == set(CHECKS) - {"other_software"}
    assert {check.verdict for check in found if check.check != "flagged_percent"} == {"ok"}
    assert overall("a", found).cells == ["overall", "0", "", "", "", "ok", ""]


@pytest.mark.parametrize(
    ("shift", "interval", "verdict"),
    [
        (4.4, 0.5, "ok"),  # at least 3.9 mm; a voxel is 4 mm
        (4.5, 0.5, "ok"),  # equal to the limit is within
        (4.6, 0.5, "warn"),
        (8.5, 0.5, "warn"),
        (8.6, 0.5, "bad"),
        (1.0, 6.9, "ok"),  # at most 7.9 mm
        (1.0, 7.1, ""),  # may be more than two voxels: nobody knows
    ],
)
def test_how_far_the_pet_lies_off_the_ct(shift, interval, verdict):
    found = one("pet_to_ct_mm", facts(pet(), placed={"naf": [row("whole", shift, interval)]}))
    assert (found.verdict, found.value, found.warn, found.bad) == (verdict, shift, 4.0, 8.0)
    assert f"{shift:.1f} ± {interval:.1f} mm" in found.note


def test_images_that_hardly_belong_together_are_bad_however_unsure():
    far = pet(alignment={"far": True, "applied": False})
    assert one("pet_to_ct_mm", facts(far, placed={"naf": [row("whole", 30, 28)]})).verdict == "bad"


def test_a_shift_that_is_not_known_is_not_judged():
    for name in ("pet_to_ct_mm", "bones_aside_percent"):
        found = one(name, facts(pet(), placed={"naf": []}))
        assert (found.value, found.verdict) == (None, "")


def test_bones_aside_are_a_part_of_those_measured():
    rows = [row("whole", 1, 0.5), *(row(f"T{n}", 9 if n < 3 else 2, 1) for n in range(1, 13))]
    found = one("bones_aside_percent", facts(pet(), placed={"naf": rows}))
    assert found.value == pytest.approx(100 * 2 / 12)
    assert (found.verdict, "T1, T2" in found.note) == ("warn", True)


@pytest.mark.parametrize(
    ("fraction", "verdict"), [(0.9, "ok"), (0.89, "warn"), (0.5, "warn"), (0.49, "bad"), (None, "")]
)
def test_how_much_of_the_skeleton_was_seen(fraction, verdict):
    seen = pet(indices=[{"index": "skeletal_suv_mean", "denominator_seen_fraction": fraction}])
    assert one("seen_fraction", facts(seen)).verdict == verdict


def test_absent_and_cut_bones_are_counted_apart_among_the_49():
    some = dict.fromkeys(("T1", "T2", "T3", "T4", "T5", "skull", "mandible"), "absent") | {"hip_left": "cut"}
    of = facts(pet(bones=bones(**some)))
    absent, cut = one("bones_absent", of), one("bones_cut", of)
    assert (absent.value, absent.verdict, cut.value, cut.verdict) == (5, "warn", 1, "ok")
    assert absent.note == "5 of 49 bones not found: T1, T2, T3, T4, T5"
    many = {bone.name: "absent" for bone in BONES if bone.id in SKELETON_49[:25]}
    assert one("bones_absent", facts(pet(bones=bones(**many)))).verdict == "bad"


def test_unsure_names_are_a_part_of_the_bones_seen():
    table = [
        bone | {"name_confidence": 0.64 if bone["name"] in ("T1", "T2") else 0.65} for bone in pet()["bones"]
    ]
    seen = [bone | {"status": "absent" if bone["id"] > 10 else "complete"} for bone in table]
    found = one("names_unsure_percent", facts(pet(bones=seen)))
    assert (found.value, found.verdict) == (20, "warn")
    mask = [bone | {"name_confidence": None} for bone in table]
    assert one("names_unsure_percent", facts(pet(bones=mask))).verdict == ""


def test_every_assumption_of_suv_is_looked_at_and_an_impossible_suv_is_bad():
    said = pet(suv={"assumptions": ["dose judged to be MBq in /data/doe/pet.json", "b"]})
    found = one("suv_doubts", facts(said))
    assert (found.value, found.verdict) == (2, "warn")
    assert "doe" not in found.note
    text = f"the highest SUV is 61240, {IMPOSSIBLE}"
    assert one("suv_doubts", facts(pet(), warnings=(text,))).verdict == "bad"


def test_the_flagged_part_is_of_the_uptake():
    spots = [
        {"tlu_g": 6.0, "flags": "disc: 80 %"},
        {"tlu_g": 3.0, "flags": None},
        {"tlu_g": 1.0, "flags": ""},
    ]
    found = one("flagged_percent", facts(pet(hotspots=spots)))
    assert (found.value, found.verdict) == (60, "warn")
    assert found.note == "1 of 3 hotspots, 60 % of the uptake, may be benign"
    assert one("flagged_percent", facts(pet())).value is None  # no hotspot: no part of it


@pytest.mark.parametrize(
    ("warning", "check", "value", "verdict"),
    [
        (petbone.net.sides._note("the liver is on the left"), "sides_swapped", 1, "bad"),
        (examination.NO_COMMON_BONE, "dates_apart", 2, "bad"),
        ("an altogether other warning", "dates_apart", 0, "ok"),
    ],
)
def test_warnings_of_the_whole_case(warning, check, value, verdict):
    found = one(check, facts(pet(), warnings=(warning,)))
    assert (found.value, found.verdict, found.tracer) == (value, verdict, "")


def test_the_checks_look_for_what_is_really_said(tmp_path):
    assert petbone.net.sides._note("").startswith(SWAPPED)
    assert examination.NO_COMMON_BONE.startswith(NO_COMMON)
    assert ELSEWHERE in Path(misnamed.__file__).read_text(encoding="utf-8")
    hot = np.full(GRID.shape, 1.0, np.float32)
    hot[5, 5, 5] = 61240
    write_nifti(Volume(hot, GRID, Unit.SUV), tmp_path / "hot.nii.gz")
    (said,) = read_pet(tmp_path / "hot.nii.gz", PetOptions(units="suv")).warnings
    assert IMPOSSIBLE in said


def test_what_a_case_was_made_with_is_held_against_most_cases():
    usual = software_of(facts(pet()).provenance)
    odd = usual | {"numpy": "1.0", "weights": "cd" * 32}
    found = {c.case: c for c in against_others({"a": usual, "b": odd, "c": usual})}
    assert [found[case].value for case in "abc"] == [0, 2, 0]
    assert found["b"].verdict == "warn"
    assert found["b"].note == (
        "not made as most cases: weights cdcdcdcdcdcd and not abababababab, numpy 1.0 and not 2.4.6"
    )
    given = facts(pet()).provenance | {"weights": None}
    given["inputs"] = {"bones": {"sha256": "1"}, "pets": []}
    assert software_of(given)["bones"] == "given"


def test_overall_is_the_worst_and_says_what_two_pets_share_once():
    naf, choline = pet(), pet(tracer="choline")
    for one_pet in (naf, choline):
        one_pet["indices"] = [{"index": "skeletal_suv_mean", "denominator_seen_fraction": 0.4}]
    choline["suv"] = {"assumptions": ["no half-life"]}
    checks = checks_of(facts(naf, choline))
    found = overall("a", checks)
    assert (found.verdict, found.value) == ("bad", 3)
    assert found.note == "40 % of the skeleton of 49 bones was seen; choline: no half-life"
    together = judged_together({"a": checks}, {"a": {}})
    assert [check.check for check in together][-2:] == ["other_software", "overall"]
    assert {check.verdict for check in together} <= {*VERDICTS, ""}


def test_bones_aside_are_no_reason_of_their_own_where_the_whole_pet_is():
    rows = [row("whole", 9, 0.1), row("T1", 9, 0.1), row("T2", 9, 0.1)]
    found = overall("a", checks_of(facts(pet(), placed={"naf": rows})))
    assert (found.value, found.verdict) == (2, "bad")
    assert found.note == "the PET lies 9.0 ± 0.1 mm off the CT, its voxel is 4.0 mm"


def test_modified_z_by_hand():
    values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 100]  # median 5.5, distances' median 2.5
    assert modified_z(values)[-1] == pytest.approx(0.6745 * 94.5 / 2.5)
    assert modified_z(values)[0] == pytest.approx(-0.6745 * 4.5 / 2.5)
    assert np.isnan(modified_z(values[:9])).all()  # fewer than ten
    assert np.isnan(modified_z([1] * 8 + [2, 3])).all()  # half of them the same
    logs = modified_z_of_logs([0.0, *np.exp(values)])
    assert np.isnan(logs[0])
    assert logs[1:] == pytest.approx(modified_z(values))


# Real cases


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases, one of them with two tracers, one that fails; a column of the user's that is no harm."""
    ground = tmp_path_factory.mktemp("cohort")
    for seed in range(3):
        write_scans(ground / f"s{seed}", seed)
    (ground / "s2/naf.nii.gz").write_bytes(b"no image")
    table = write_table(
        ground / "t.csv",
        f"{line('Fall 1 ä', 's0', '=1+1')},s0/choline.nii.gz,choline,suv",
        f"{line('b', 's1', '<b>x</b>')},,,",
        f"{line('c', 's2')},,,",
        head=f"{HEAD},pet2,tracer2,units2",
    )
    make(table, ground / "out")
    return ground / "out"


def make(table: Path, output: Path) -> list[Record]:
    """The cohort of a table in this process."""
    found = read_cohort(table, output)
    (output / "cases").mkdir(parents=True)
    load = Networks().load
    options = CaseOptions(processes=1, threads=1)
    records = [do_case(row, options, output / "cases", load, "") for row in found.rows]
    return write_cohort(found, records, {}, output)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_quality_of_real_cases(cohort):
    table = rows(cohort / "quality.csv")
    assert list(table[0]) == [*(column.name for column in TABLES["quality"]), "arm"]
    assert {row["case"] for row in table} == {"Fall 1 ä", "b"}  # failed ones are in no table
    assert {row["arm"] for row in table} == {"'=1+1", "<b>x</b>"}
    for case, tracers in (("Fall 1 ä", ("naf", "choline")), ("b", ("naf",))):
        for tracer in tracers:
            own = {row["check"]: row for row in table if row["case"] == case and row["tracer"] == tracer}
            suffix = f"_{tracer}" if len(tracers) > 1 else ""
            left = pd.read_csv(cohort / "cases" / case / f"bones{suffix}.csv")
            absent = (left["id"].isin(SKELETON_49) & (left["status"] == "absent")).sum()
            assert float(own["bones_absent"]["value"]) == absent == 45
            index = pd.read_csv(cohort / "cases" / case / f"indices{suffix}.csv").set_index("index")
            fraction = index.loc["skeletal_suv_mean", "denominator_seen_fraction"]
            assert float(own["seen_fraction"]["value"]) == pytest.approx(fraction, rel=1e-5)
            whole = pd.read_csv(cohort / "cases" / case / f"alignment{suffix}.csv").set_index("name")
            assert float(own["pet_to_ct_mm"]["value"]) == pytest.approx(whole.loc["whole", "shift_mm"])
            assert (own["pet_to_ct_mm"]["limit"], own["pet_to_ct_mm"]["limit_bad"]) == ("3", "6")
            assert own["names_unsure_percent"]["verdict"] == ""
    (last,) = (row for row in table if row["case"] == "b" and row["check"] == "overall")
    assert (last["verdict"], last["tracer"]) == ("bad", "")
    typed = pd.read_parquet(cohort / "quality.parquet")
    assert set(typed["arm"]) == {"=1+1", "<b>x</b>"}
    assert [f"{value:.6g}" for value in typed["value"].dropna()] == [
        row["value"] for row in table if row["value"]
    ]


def test_concordance_is_that_of_the_case_cell_by_cell(cohort):
    pooled = rows(cohort / "concordance.csv")
    single = rows(cohort / "cases/Fall 1 ä/concordance.csv")
    assert len(pooled) == len(single) == 62
    for together, alone in zip(pooled, single, strict=True):
        assert (together["tracer_1"], together["tracer_2"]) == ("naf", "choline")
        for name in ("id", "name", "status", "concordance"):
            assert together[name] == alone[name]
        for n, tracer in ((1, "naf"), (2, "choline")):
            for name in ("suv_max", "suv_mean", "hotspot_count", "hotspot_volume_ml"):
                assert together[f"{name}_{n}"] == alone[f"{name}_{tracer}"]
    (agreement,) = rows(cohort / "tracer_agreement.csv")
    (own,) = rows(cohort / "cases/Fall 1 ä/tracer_agreement.csv")
    assert agreement == {"case": "Fall 1 ä"} | own | {"arm": "'=1+1"}


def test_every_column_is_in_the_dictionary(cohort):
    told = {(row["column"], row["table"]): row for row in rows(cohort / "cohort_dictionary.csv")}
    for name in TABLES:
        for column in pd.read_parquet(cohort / f"{name}.parquet"):
            assert told[column, name]["meaning"]
    assert told["suv_max_1", "concordance"]["unit"] == "g/mL"


def test_a_folder_that_changes_while_the_tables_are_made_is_said(cohort, tmp_path, monkeypatch):
    write_scans(tmp_path / "s0", 0)
    table = write_table(tmp_path / "t.csv", line("a", "s0"))
    records = make(table, tmp_path / "out")
    found = read_cohort(table, tmp_path / "out")
    changed = [replace(record, provenance_sha256="0" * 64) for record in records]
    from petbone.cohort_review import write_quality

    with pytest.raises(ResourceError, match="cases/a: was changed while the tables were made"):
        write_quality(found, changed, tmp_path, tmp_path / "out")


def test_no_two_columns_have_one_name(tmp_path):
    kept = ("check", "your_check", "arm")
    write_quality(CohortTable((), kept, ()), [], tmp_path, tmp_path)
    names = list(pd.read_parquet(tmp_path / "quality.parquet"))
    assert names[-3:] == ["your_your_check", "your_check", "arm"]
    assert len(names) == len(set(names))
