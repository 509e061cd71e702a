"""Groups of a cohort compared: what is counted, left out, refused and said; the numbers by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cohort_fixtures import HEAD, line, write_scans, write_table
from petbone.anatomy import BONES
from petbone.cohort import opened
from petbone.cohort_case import Networks, Record, do_case, run_in
from petbone.cohort_groups import BONE_MEASURES, MOST_GROUPS, compared_by, write_comparisons
from petbone.cohort_results import write_cohort
from petbone.cohort_table import CohortRow, CohortTable, read_cohort
from petbone.errors import InputErrors
from petbone.group_comparison import adjusted, compare_two, middle
from petbone.io import PetOptions
from petbone.pipeline import CaseFiles, CaseOptions

NAN = float("nan")


def row(case: str, tracer: str | None = "naf", sex: str | None = None, **kept: str) -> CohortRow:
    files = CaseFiles((Path("pet"),), (PetOptions(tracer=tracer, sex=sex),), Path("ct"))
    return CohortRow(case, files, tuple(kept.items()))


def cohort(rows: list[CohortRow], *by: str) -> CohortTable:
    return compared_by(CohortTable(tuple(rows), tuple(dict(rows[0].kept)), ()), by)


def compared(
    part: Path,
    table: CohortTable,
    values: dict[str, float],
    bones: dict[str, dict[str, tuple[str, float]]],
    failed: str = "",
) -> pd.DataFrame:
    """The comparisons of cases with these values of an index, and status and hotspot volume of some bones."""
    part.mkdir(exist_ok=True)
    done = [one for one in table.rows if one.case not in failed.split()]
    indices = [
        {"case": one.case, "tracer": "naf", "index": "FTV10", "unit": "mL", "value": values[one.case]}
        for one in done
    ]
    pd.DataFrame(indices).to_parquet(part / "indices.parquet")
    rows = []
    for one in done:
        for bone in BONES:
            status, volume = bones.get(one.case, {}).get(bone.name, ("absent", NAN))
            seen = 1.0 if status != "absent" else NAN
            rows.append((one.case, "naf", bone.name, status, volume, volume / 10, seen))
        rows.append((one.case, "naf", "T13", "complete", 1.0, 0.1, 1.0))
    columns = ["case", "tracer", "name", "status", *BONE_MEASURES]
    pd.DataFrame(rows, columns=columns).to_parquet(part / "bones.parquet")
    records = [Record(one.case, "failed" if one.case in failed.split() else "done") for one in table.rows]
    told = write_comparisons(table, records, part)
    found = pd.read_parquet(part / "comparisons.parquet")
    assert [column for column, *_ in told] == list(found)
    text = pd.read_csv(part / "comparisons.csv")
    pd.testing.assert_frame_equal(text, found, check_dtype=False)
    return found


A, B = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0], [5.3, 5.8, 9.7, 9.3, 2.4, 8.0]


def two_arms() -> tuple[list[CohortRow], dict[str, float]]:
    rows = [row(f"a{n}", arm="A") for n in range(len(A))] + [row(f"b{n}", arm="B") for n in range(len(B))]
    return rows, dict(zip((one.case for one in rows), A + B, strict=True))


def test_two_arms_by_hand(tmp_path):
    rows, values = two_arms()
    bones = {one.case: {"L3": ("complete", values[one.case]), "L4": ("cut", 0.0)} for one in rows}
    bones["a0"]["L3"] = ("cut", 3.0)
    del bones["b1"]["L3"]
    for n in range(6):
        bones[f"b{n}"]["T1"] = ("complete", 1.0 + n)
    found = compared(tmp_path, cohort(rows, "arm"), values, bones)
    assert len(found) == 1 + 62 * len(BONE_MEASURES)
    assert set(found["bone"].dropna()) == {bone.name for bone in BONES}

    index = found.iloc[0]
    expected = compare_two(A, B)
    told = [index[name] for name in "group_by tracer measure bone unit group_1 n_1 group_2 n_2 test".split()]
    assert told[:3] == ["arm", "naf", "FTV10"]
    assert pd.isna(told[3])
    assert told[4:] == ["mL", "A", 7, "B", 6, "Mann-Whitney"]
    assert (index["median_1"], index["median_2"]) == (3.0, 6.9)
    assert (index["median_low_1"], index["median_high_1"]) == pytest.approx(middle(A)[1])
    greater = sum(one > two for one in A for two in B)
    assert index["statistic"] == greater == expected.u
    assert index["effect"] == pytest.approx(2 * greater / 42 - 1, rel=1e-5)
    assert index["effect_name"] == "rank_biserial"
    assert index["shift"] == pytest.approx(np.median([one - two for one in A for two in B]))
    assert (index["shift_low"], index["shift_high"]) == pytest.approx(expected.shift_interval)
    assert index["p"] == pytest.approx(expected.p, rel=1e-5)
    assert pd.isna(index["p_holm"])
    assert index["no_value"] == 0
    assert pd.isna(index["cut"])
    assert index["note"] == (
        "first examination of each patient; A against B (above 0: A is greater); exact p; p not adjusted"
    )

    volumes = found[found["measure"] == "hotspot_volume_ml"].set_index("bone")
    lumbar = volumes.loc["L3"]
    assert (lumbar["n_1"], lumbar["n_2"], lumbar["no_value"], lumbar["cut"]) == (7, 5, 1, 1)
    assert lumbar["p"] == pytest.approx(compare_two(A, [B[0], *B[2:]]).p, rel=1e-5)
    assert "p adjusted for 1 bone" in lumbar["note"]
    assert (lumbar["p_holm"], lumbar["p_bh"]) == (lumbar["p"], lumbar["p"])
    cold = volumes.loc["L4"]  # seen and cold: 0, and nothing to test
    assert (cold["n_1"], cold["median_1"], cold["cut"]) == (7, 0, 13)
    assert "not tested: all values are the same" in cold["note"]
    alone = volumes.loc["T1"]  # not seen in arm A
    assert (alone["n_1"], alone["n_2"], alone["no_value"], alone["median_2"]) == (0, 6, 7, 3.5)
    assert pd.isna(alone["median_1"])
    assert "not tested: fewer than two groups of 3 values" in alone["note"]
    assert pd.isna(alone["test"])
    for name in ("statistic", "p", "p_holm", "p_bh", "effect", "shift", "shift_low"):
        assert volumes[name].notna().sum() == 1


def test_p_is_adjusted_over_the_bones_of_a_measure(tmp_path):
    rows, values = two_arms()
    rng = np.random.default_rng(2)
    names = [bone.name for bone in BONES[:20]]
    bones = {
        one.case: {
            name: ("complete", float(rng.normal() + (2 if one.case[0] == "a" and n < 3 else 0)))
            for n, name in enumerate(names)
        }
        for one in rows
    }
    found = compared(tmp_path, cohort(rows, "arm"), values, bones)
    for measure in ("hotspot_volume_ml", "hotspot_fraction"):
        own = found[(found["measure"] == measure) & found["p"].notna()]
        assert list(own["bone"]) == names
        holm, hochberg = adjusted(own["p"])
        np.testing.assert_allclose(own["p_holm"], holm, rtol=1e-4)
        np.testing.assert_allclose(own["p_bh"], hochberg, rtol=1e-4)
        assert own["note"].str.contains("p adjusted for 20 bones").all()
        assert (own["p_holm"] >= own["p"]).all()
        assert (own["p_holm"] > own["p"]).any()


def test_a_patient_counts_once_and_by_the_first(tmp_path):
    rows, values = two_arms()
    rows = [row(one.case, patient=one.case, date="2024-01-01", arm=dict(one.kept)["arm"]) for one in rows]
    once = compared(tmp_path / "once", cohort(rows, "arm"), values, {})
    later = [row(f"later {n}", patient=f"a{n}", date="2024-06-01", arm="B") for n in range(5)]
    twice = cohort([*later, *rows], "arm")
    assert twice.notes == ("--by arm: 5 patients change their group; that of the first examination counts",)
    values |= {one.case: 100.0 for one in later}
    pd.testing.assert_frame_equal(compared(tmp_path / "twice", twice, values, {}), once)
    random.Random(3).shuffle(rows)
    pd.testing.assert_frame_equal(compared(tmp_path / "shuffled", cohort(rows, "arm"), values, {}), once)


def test_a_failed_case_and_an_empty_cell_are_left_out(tmp_path):
    rows, values = two_arms()
    more = [row("gone", arm="A"), row("nobody", arm="")]
    table = cohort([*rows, *more], "arm")
    assert table.notes == ("--by arm: empty for 1 of 15 patients, who are left out",)
    found = compared(tmp_path, table, values | {"nobody": 50.0}, {}, failed="gone").iloc[0]
    assert (found["n_1"], found["n_2"], found["no_value"], found["p"]) == (
        *(7, 6, 1, pytest.approx(compare_two(A, B).p, rel=1e-5)),
    )


def test_three_groups_and_one_that_is_too_small(tmp_path):
    rows, values = two_arms()
    rows += [row(f"c{n}", arm="C") for n in range(4)]
    values |= {"c0": 1.0, "c1": 2.0, "c2": 3.0, "c3": 20.0}
    found = compared(tmp_path / "four", cohort(rows, "arm"), values, {}).iloc[0]
    assert (found["test"], found["effect_name"], found["n_3"]) == ("Kruskal-Wallis", "epsilon_squared", 4)
    # H of midranks by its definition: 12 / (N (N + 1)) sum R_j^2 / n_j - 3 (N + 1), over the correction.
    ranks = pd.Series([*A, *B, 1.0, 2.0, 3.0, 20.0]).rank()
    parts = (ranks[:7], ranks[7:13], ranks[13:])
    h = 12 / (17 * 18) * sum(part.sum() ** 2 / len(part) for part in parts) - 3 * 18
    ties = ranks.value_counts()
    h /= 1 - (ties**3 - ties).sum() / (17**3 - 17)
    assert found["statistic"] == pytest.approx(h, rel=1e-5)
    assert found["effect"] == pytest.approx(h / 16, rel=1e-5)
    assert pd.isna(found["shift"])
    table = cohort(rows[:-2], "arm")
    assert table.notes == ("--by arm: 'C' has too few patients for a test: 2 (expected 3)",)
    found = compared(tmp_path / "two", table, values, {}).iloc[0]
    assert (found["test"], found["n_3"], found["median_3"]) == ("Mann-Whitney", 2, 1.5)
    assert found["p"] == pytest.approx(compare_two(A, B).p, rel=1e-5)
    assert "left out of the test, fewer than 3 values: C (2)" in found["note"]


def test_swapped_names_turn_the_sign(tmp_path):
    rows, values = two_arms()
    here = compared(tmp_path / "here", cohort(rows, "arm"), values, {}).iloc[0]
    turned = [row(one.case, arm={"A": "Z", "B": "B"}[dict(one.kept)["arm"]]) for one in rows]
    there = compared(tmp_path / "there", cohort(turned, "arm"), values, {}).iloc[0]
    assert (there["group_1"], there["group_2"]) == ("B", "Z")
    assert (there["effect"], there["shift"]) == pytest.approx((-here["effect"], -here["shift"]), rel=1e-5)
    assert there["p"] == here["p"]
    assert (there["shift_low"], there["shift_high"]) == pytest.approx(
        (-here["shift_high"], -here["shift_low"])
    )


def test_numbers_stand_in_their_order_and_several_columns_apart(tmp_path):
    rows, values = two_arms()
    rows = [
        row(one.case, arm=("2" if n % 2 else "10"), site="xyz"[n % 3], sex="MF"[n % 2])
        for n, one in enumerate(rows)
    ]
    found = compared(tmp_path, cohort(rows, "arm", "site", "sex", "arm"), values, {})
    assert list(found["group_by"].drop_duplicates()) == ["arm", "site", "sex"]
    arm, site, sex = (found[found["group_by"] == name].iloc[0] for name in ("arm", "site", "sex"))
    assert (arm["group_1"], arm["group_2"]) == ("2", "10")
    assert pd.isna(arm["group_3"])
    assert list(site[["group_1", "group_2", "group_3"]]) == ["x", "y", "z"]
    assert list(sex[["group_1", "group_2"]]) == ["F", "M"]
    assert (sex["p"], sex["n_1"]) == (arm["p"], arm["n_1"])


def test_all_failed(tmp_path):
    rows, _ = two_arms()
    table = cohort(rows, "arm")
    texts, numbers = "case tracer index unit name status".split(), ["value", *BONE_MEASURES]
    empty = {name: pd.Series(dtype=str) for name in texts} | {
        name: pd.Series(dtype=float) for name in numbers
    }
    for name in ("indices", "bones"):
        pd.DataFrame(empty).to_parquet(tmp_path / f"{name}.parquet")
    write_comparisons(table, [Record(one.case, "failed") for one in rows], tmp_path)
    assert len(pd.read_csv(tmp_path / "comparisons.csv")) == 0


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("arn", "--by arn: expected sex or a column of your own in the table: arm, one, none, many"),
        ("one", "--by one: all patients are 'x'; expected two groups at least"),
        ("none", "--by none: the column is empty for all patients"),
        ("many", f"--by many: the column has 12 values; expected {MOST_GROUPS} groups at most"),
        ("patient", "--by patient: the column says who it is"),
        ("date", "--by date: the column says when it was"),
        ("case", "--by case: the column says which case it is"),
        ("sex", "--by sex: the column is empty for all patients"),
        ("ct", "--by ct: expected sex or a column of your own"),
    ],
)
def test_columns_that_are_none_of_groups(by, expected):
    rows = [
        row(f"c{n}", patient=f"P{n}", date="", arm="AB"[n % 2], one="x", none="", many=str(n))
        for n in range(12)
    ]
    with pytest.raises(InputErrors, match=expected.replace("(", r"\(")):
        cohort(rows, by)
    with pytest.raises(InputErrors) as both:
        cohort(rows, "arm", by, "nothing")
    assert [text.split(":")[0] for text in str(both.value).splitlines()] == [f"--by {by}", "--by nothing"]
    assert cohort(rows).by == ()
    assert cohort(rows, "arm", "arm").by == ("arm",)


def test_names_that_differ_in_capitals_are_told():
    rows = [row(f"c{n}", arm=("new", "New", "old")[n % 3]) for n in range(12)]
    assert cohort(rows, "arm").notes == (
        "--by arm: 2 groups differ by capital letters only (new); they stay apart",
    )


def test_refused_before_anything_runs(tmp_path, cli):
    write_scans(tmp_path / "s0", 0)
    table = write_table(tmp_path / "t.csv", line("a", "s0"), line("b", "s0"))
    answer = cli("cohort", table, "-o", tmp_path / "out", "--by", "arm", "--by", "centre")
    assert answer.status == 3
    said = answer.err.splitlines()
    assert [text.split(": ")[1] for text in said] == ["--by arm", "--by centre"]
    assert not (tmp_path / "out").exists()


def test_groups_redo_no_case_and_leave_no_old_comparisons(tmp_path):
    for seed in range(2):
        write_scans(tmp_path / f"s{seed}", seed)
    lines = [line(f"c{n}", f"s{n % 2}", "AB"[n % 2]) for n in range(6)]
    found = read_cohort(write_table(tmp_path / "t.csv", *lines, head=HEAD), tmp_path / "out")
    options = CaseOptions(processes=1)

    def run(table: CohortTable) -> str:
        with opened(tmp_path / "out") as cases:
            records = [do_case(one, options, cases, Networks().load, run_in(cases)) for one in table.rows]
            write_cohort(table, records, {}, tmp_path / "out")
        return " ".join(record.state for record in records)

    assert run(found) == " ".join(["done"] * 6)
    assert not (tmp_path / "out/comparisons.csv").exists()
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}
    assert run(compared_by(found, ["arm"])) == " ".join(["kept"] * 6)
    assert {path: path.read_bytes() for path in before} == before
    told = json.loads((tmp_path / "out/provenance.json").read_text(encoding="utf-8"))
    assert told["compared_by"] == ["arm"]
    tested = pd.read_csv(tmp_path / "out/comparisons.csv").set_index(["measure", "bone"])
    bones = pd.read_csv(tmp_path / "out/bones.csv").set_index(["case", "name"])
    for bone in ("L4", "hip_left"):
        for n, arm in ((1, "A"), (2, "B")):
            own = [bones.loc[(f"c{k}", bone), "hotspot_volume_ml"] for k in range(6) if "AB"[k % 2] == arm]
            assert tested.loc[("hotspot_volume_ml", bone), f"median_{n}"] == pytest.approx(np.median(own))
    assert run(found) == " ".join(["kept"] * 6)
    assert not list((tmp_path / "out").glob("comparisons*"))
    assert pq.read_schema(tmp_path / "out/patients.parquet").names[:4] == ["patient", "case", "date", "arm"]
