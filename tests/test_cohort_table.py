"""The table of a cohort: every format gives the same cases, and all that is wrong is said at once."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petbone.cohort_table import _OF_A_PET, KNOWN, OF_THE_PATIENT, harm_of, read_cohort
from petbone.errors import InputError, InputErrors
from petbone.io import PetOptions

NAMES = ["case", "ct", "pet", "tracer", "weight_kg", "injected_at", "arm", "date", "patient"]
ROWS = [
    ["a", "ct.nii", "pet.nii", "naf", 82.5, datetime(2026, 3, 1, 9, 30), "new", datetime(2026, 3, 1), "P1"],
    ["b 2", "ct.nii", "pet2.nii", None, 70, None, None, None, "P2"],
]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name in ("ct.nii", "pet.nii", "pet2.nii", "ct2.nii", "bones.nii", "said.json"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def table(site: Path, *lines: str) -> Path:
    path = site / "cohort.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def findings(site: Path, *lines: str) -> list[str]:
    path = table(site, *lines)
    with pytest.raises(InputError) as told:
        read_cohort(path, site / "out")
    said = str(told.value).splitlines()
    assert all(one.startswith(f"{path}: ") for one in said)
    return [one.removeprefix(f"{path}: ") for one in said]


def written(site: Path, kind: str) -> Path:
    text = [
        ["" if cell is None else str(cell).replace(" 09:30:00", "T09:30:00") for cell in row] for row in ROWS
    ]
    text = [[cell.replace(" 00:00:00", "") for cell in row] for row in text]
    path = site / f"cohort.{kind.partition(' ')[0]}"
    if kind == "xlsx":
        book = openpyxl.Workbook()
        for row in [NAMES, *ROWS]:
            book.active.append(row)
        book.save(path)
    elif kind == "parquet":
        pd.DataFrame(ROWS, columns=NAMES).to_parquet(path)
    else:
        sign = {"csv": ",", "csv with semicolons": ";", "tsv": "\t"}[kind]
        path.write_text("\ufeff" + "\r\n".join(sign.join(row) for row in [NAMES, *text]), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "csv with semicolons", "tsv", "xlsx", "parquet"])
def test_every_format_gives_the_same_cases(site, kind):
    found = read_cohort(written(site, kind), site / "out")
    one, two = found.rows
    assert (one.case, two.case) == ("a", "b 2")
    assert one.files.ct == site / "ct.nii"
    assert one.files.pets == (site / "pet.nii",)
    assert one.files.pet_options == (
        PetOptions(tracer="naf", weight_kg=82.5, injected_at="2026-03-01T09:30:00"),
    )
    assert two.files.pet_options == (PetOptions(weight_kg=70),)
    assert found.kept == ("arm", "date", "patient")
    assert one.kept == (("arm", "new"), ("date", "2026-03-01"), ("patient", "P1"))
    assert two.kept == (("arm", ""), ("date", ""), ("patient", "P2"))


def test_every_option_of_a_pet_has_its_column():
    assert set(PetOptions.__dataclass_fields__) == {*_OF_A_PET, *OF_THE_PATIENT}
    contract = "case ct pet tracer bones labels sidecar units weight_kg height_cm sex dose_mbq injected_at "
    assert set((contract + "scan_start pet2 tracer2 ct2 bones2 patient date").split()) <= set(KNOWN)


def test_two_pets_of_one_examination_and_of_two(site):
    path = table(
        site,
        "case,ct,pet,tracer,dose_mbq,ct2,pet2,tracer2,dose_mbq2,bones2,labels2,sex",
        "one,ct.nii,pet.nii,naf,200,,pet2.nii,choline,300,,,M",
        "two,ct.nii,pet.nii,naf,200,ct2.nii,pet2.nii,choline,300,bones.nii,totalsegmentator,M",
    )
    one, two = (row.files for row in read_cohort(path, site / "out").rows)
    said = (
        PetOptions(tracer="naf", dose_mbq=200, sex="M"),
        PetOptions(tracer="choline", dose_mbq=300, sex="M"),
    )
    assert (one.pets, one.pet_options, one.second) == ((site / "pet.nii", site / "pet2.nii"), said, None)
    assert (two.pets, two.pet_options) == ((site / "pet.nii",), said[:1])
    assert two.second is not None
    assert (two.second.ct, two.second.pets) == (site / "ct2.nii", (site / "pet2.nii",))
    assert (two.second.bones, two.second.labels) == (site / "bones.nii", "totalsegmentator")
    assert two.second.pet_options == said[1:]


def test_all_that_is_wrong_is_said_at_once_with_its_row(site):
    said = findings(
        site,
        "case,ct,pet,bones,labels,tracer,units,sex,weight_kg,scan_start,pet2,tracer2,ct2,bones2",
        "a,ct.nii,pet.nii,,,naf,suv,M,80,10:00:00,,,,",
        "",
        "A,gone.nii,pet.nii,,,NaF,SUV,X,\"82,5\",yesterday,,choline,,",
        "b,,,,moose,,,,-1,2026-03-01,,,,",
        "c,ct.nii,pet.nii,,,naf,,,,,pet2.nii,naf,,",
        "d,ct.nii,pet.nii,,,naf,,,,,,,,bones.nii",
        "e,ct.nii,pet.nii,bones.nii,nonsense,naf,,,,,,,,",
        "f,out/cases/a/bones.nii.gz,pet.nii,,,naf,,,,,,,,",
    )  # fmt: skip
    rows = [int(one.split(":")[0].removeprefix("row ")) for one in said]
    assert rows == [4] * 8 + [5] * 5 + [6] + [7] * 2 + [8] + [9]
    text = "\n".join(said)
    for expected in (
        "row 4: case 'A' stands in row 2 already",
        "row 4: weight_kg '82,5': expected a number above 0 (a decimal point, no comma)",
        "row 4: sex 'X': expected one of M, F, O",
        "row 4: tracer 'NaF': expected one of naf, choline, psma, fdg, other",
        "row 4: units 'SUV': expected one of suv, bqml",
        "row 4: scan_start 'yesterday': expected HH:MM:SS",
        "row 4: tracer2 without pet2",
        "row 4: ct 'gone.nii': no such file or folder",
        "row 5: weight_kg '-1': expected a number above 0",
        "row 5: has no pet",
        "row 5: has neither ct nor bones",
        "row 5: scan_start '2026-03-01': expected HH:MM:SS",
        "row 5: labels says whose labels a mask has",
        "row 6: both PETs are of naf",
        "row 7: bones2 without pet2",
        "row 7: bones2 without ct2",
        "row 8: labels 'nonsense'",
    ):
        assert expected in text


def test_inputs_among_the_results_are_refused(site):
    (site / "out/cases/a").mkdir(parents=True)
    (site / "out/cases/a/bones.nii.gz").write_bytes(b"x")
    said = findings(site, "case,bones,pet", "a,out/cases/a/bones.nii.gz,pet.nii")
    assert said == [
        "row 2: bones 'out/cases/a/bones.nii.gz': lies among the results of this cohort; copy it first"
    ]
    assert findings(site, "case,ct,pet", "a,ct.nii,.") == [
        "row 2: pet '.': the results would lie in it; choose another -o"
    ]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("case,ct", "has no column pet"),
        ("case,pet", "has neither a column ct nor bones"),
        ("case,ct,pet,pet", "has the column pet twice"),
        ("case,ct,pet,weight", "'weight' is not known and looks like weight_kg"),
        ("case,ct,pet,Tracer", "'Tracer' is not known and looks like tracer"),
        ("case,ct,pet,suv_max", "'suv_max' is one of petbone's own tables"),
        ("case,ct,pet,=1+1", "expected a name that begins with a letter"),
        ("case,ct,pet,,arm", "column 4 of those that hold something has no name"),
    ],
)
def test_columns(site, columns, expected):
    assert expected in "\n".join(findings(site, columns, "a,ct.nii,pet.nii,x,x"))


def test_empty_columns_and_rows_are_none(site):
    found = read_cohort(table(site, "case,ct,,pet,,", ",,,,,", "a,ct.nii,,pet.nii,,"), site / "out")
    assert [(row.case, row.files.pets) for row in found.rows] == [("a", (site / "pet.nii",))]
    assert found.kept == ()


def test_the_pet_of_another_row_is_noted(site):
    found = read_cohort(table(site, "case,ct,pet", "a,ct.nii,pet.nii", "b,ct.nii,./pet.nii"), site / "out")
    assert found.notes == ("row 3: has the PET of row 2",)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("gone.csv", None, "no such file"),
        ("table.xls", b"x", "expected a name ending in .csv, .tsv, .xlsx, .parquet"),
        ("table.csv", b"", "has no names of columns"),
        ("table.csv", b"case,ct,pet\n", "holds no case"),
        ("table.csv", b"case,ct,pet\n\xff\xfe", "no text in UTF-8"),
        ("table.csv", b'case,ct,pet\n"a', "no proper table"),
        ("table.xlsx", b"x", "cannot be read as .xlsx"),
        ("table.parquet", b"x", "cannot be read as Parquet"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, name, content, expected):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected):
        read_cohort(tmp_path / name, tmp_path / "out")


NO_NAMES = [
    *("", "..", "../x", "a/b", "a\\b", ".hidden", "=1+1", "-o", "@x", "a:b", "<b>", "a\nb", "a\x00", "nul"),
    *("COM1.txt", "end.", "a" * 101, "\U00010400" * 51),
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_would_do_harm_are_refused(name):
    assert harm_of(name)


@pytest.mark.parametrize("name", ["a", "7", "Ödegård 07", "p-1_b.2", "患者1", "a" * 100, "console"])
def test_names_that_do_none(name):
    assert harm_of(name) is None


@given(st.text(max_size=30))
def test_no_accepted_name_leaves_its_folder(name):
    name = unicodedata.normalize("NFC", name)
    if harm_of(name) is None:
        assert Path("cases", name).parts == ("cases", name)
        assert name[0] not in "=+-@."
        assert name.strip() == name


def test_the_findings_are_lines_of_the_command(site, cli):
    path = table(site, "case,ct,pet", "../a,gone.nii,pet.nii")
    answer = cli("cohort", path, "-o", site / "out")
    assert answer.status == 3
    assert [one.split(": ")[2] for one in answer.err.splitlines()] == ["row 2", "row 2"]
    assert not (site / "out").exists()
    assert issubclass(InputErrors, InputError)
