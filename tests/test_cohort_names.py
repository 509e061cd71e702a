"""Names that would do harm in a spreadsheet, a path or a message do none, and no name of a file comes out."""

from __future__ import annotations

import gzip
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client

from cohort_fixtures import rows, write_scans
from petbone.cohort import opened
from petbone.cohort_case import Record
from petbone.cohort_results import write_cohort
from petbone.cohort_table import read_cohort
from petbone.cohort_workers import local_workers, run_cases
from petbone.errors import InputError
from petbone.folders import harmless
from petbone.pipeline import CaseOptions
from petbone.selftest.cases import HEADER, INJECTION
from petbone.selftest.series import write_series

# Every one holds QUINTERO, which must not come out.
FOLDERS = (
    "=QUINTERO|' C calc'!A0",
    "<b>QUINTERO<b>",
    "QUINTERO  two spaces",
    "..QUINTERO",
    "-rf QUINTERO",
    "QUINTERO; x, y: 1",
    unicodedata.normalize("NFD", "\u00c5se QUINTERO"),
    "QUINTERO\nline",
    '"QUINTERO"',
    "QUINTERO%s{0}\\n",
)
CELLS = ("=cmd|' /C calc'!A0", "<script>x</script>", "+1+1", "@SUM(1)", "-2+3", "\uff1d1+1", "a\nb", '"x";=1')
HEAD = ["case", "ct", "pet", "tracer", "bones", "units", "arm"]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_workers(1, None) as client:
        yield client


def done(table: list[list[str]], folder: Path, client: Client) -> list[Record]:
    """The cohort of a table with these rows."""
    pd.DataFrame(table, columns=HEAD).to_csv(folder / "cohort.csv", index=False)
    found = read_cohort(folder / "cohort.csv", folder / "out")
    with opened(folder / "out") as cases:
        return write_cohort(found, run_cases(found.rows, CaseOptions(), cases, client), {}, folder / "out")


def texts_in(output: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file, unpacked, and every name."""
    for path in output.rglob("*"):
        yield path, str(path.relative_to(output)).encode()
        if path.is_file():
            content = path.read_bytes()
            yield path, gzip.decompress(content) if path.suffix == ".gz" else content


def formulas_in(output: Path) -> list[str]:
    """Cells of all CSV files that a spreadsheet could take for a formula."""
    number = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
    return [
        cell
        for path in output.rglob("*.csv")
        for row in rows(path)
        for cell in (*row, *row.values())
        if cell[:1] in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20") and cell and not number.fullmatch(cell)
    ]


def test_folders_of_any_name_are_read_and_come_out_nowhere(client, tmp_path):
    table = []
    for n, name in enumerate(FOLDERS):
        write_scans(tmp_path / name, n)
        files = [f"{name}/{image}.nii.gz" for image in ("ct", "naf", "bones")]
        table.append([f"c{n}", files[0], files[1], "naf", files[2], "suv", CELLS[n % len(CELLS)]])
    before = {path for path in tmp_path.rglob("*") if "QUINTERO" in path.name}
    records = done(table, tmp_path, client)
    assert [(record.state, record.error) for record in records] == [("done", "")] * len(FOLDERS)
    assert {path for path in tmp_path.rglob("*") if "QUINTERO" in path.name} == before
    assert [path for path, text in texts_in(tmp_path / "out") if b"QUINTERO" in text] == []
    assert formulas_in(tmp_path / "out") == []
    arms = pd.read_parquet(tmp_path / "out/indices.parquet").groupby("case")["arm"].first()
    assert [arms[f"c{n}"] for n in range(len(CELLS))] == [" ".join(cell.split()) for cell in CELLS]
    told = {row["case"]: row["arm"] for row in rows(tmp_path / "out/indices.csv")}
    assert [told["c0"], told["c2"], told["c4"]] == ["'=cmd|' /C calc'!A0", "'+1+1", "'-2+3"]


def test_failures_name_no_file_whatever_it_is_called(client, tmp_path):
    table = []
    for n, name in enumerate(FOLDERS):
        write_scans(tmp_path / name, n)
        pet = tmp_path / name / f"=QUINTERO{name}.nii.gz"
        (tmp_path / name / "naf.nii.gz").rename(pet)
        if n % 3 == 0:
            pet.write_bytes(b"no image")
        elif n % 3 == 1:  # taken by its name: no column has said it
            pet.with_name(pet.name.replace(".nii.gz", ".json")).write_text("{no JSON", encoding="utf-8")
        else:
            (tmp_path / name / "bones.nii.gz").write_bytes(pet.read_bytes())
        table.append(
            [f"c{n}", f"{name}/ct.nii.gz", f"{name}/{pet.name}", "naf", f"{name}/bones.nii.gz", "", "x"]
        )
    # A zip whose members would leave the folder, and the same cut short.
    write_series(tmp_path / "series", HEADER, INJECTION)
    files = sorted((tmp_path / "series").iterdir())
    archive = tmp_path / "QUINTERO QUINTERO.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for n, file in enumerate(files):
            packed.write(file, f"../../=QUINTERO/../QUINTERO {n}.dcm")
    write_scans(tmp_path / "plain", 0)
    table.append(["zip", "plain/ct.nii.gz", archive.name, "naf", "plain/bones.nii.gz", "", "x"])
    cut = tmp_path / "QUINTERO cut.zip"
    cut.write_bytes(archive.read_bytes()[:-300])
    table.append(["cut", "plain/ct.nii.gz", cut.name, "naf", "plain/bones.nii.gz", "", "x"])
    before = {path for path in tmp_path.rglob("*") if "QUINTERO" in path.name}
    records = done(table, tmp_path, client)
    assert [record.case for record in records if record.state != "failed"] == ["zip"]
    failures = rows(tmp_path / "out/failures.csv")
    assert [row["case"] for row in failures] == [row[0] for row in table if row[0] != "zip"]
    for row in failures:
        assert "QUINTERO" not in row["error"]
        assert "\u030a" not in row["error"]  # of the folder in NFD
        assert "defect" not in row["error"], row
        assert row["error"].partition(":")[0] in ("pet", "pet's sidecar", "bones")
    assert [path for path, text in texts_in(tmp_path / "out") if b"QUINTERO" in text] == []
    assert formulas_in(tmp_path / "out") == []
    assert {path for path in tmp_path.rglob("*") if "QUINTERO" in path.name} == before
    assert not list(tmp_path.parent.glob("*QUINTERO*"))


@pytest.mark.parametrize(
    "name", ["=cmd|' /C calc'!A0", "<b>x</b>", "../x", "..", "a/b", "+x", "\uff1dx", "x\ty"]
)
def test_such_names_of_cases_are_refused(tmp_path, name):
    write_scans(tmp_path / "s", 0)
    table = [[name, "s/ct.nii.gz", "s/naf.nii.gz", "naf", "s/bones.nii.gz", "suv", "x"]]
    pd.DataFrame(table, columns=HEAD).to_csv(tmp_path / "cohort.csv", index=False)
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        read_cohort(tmp_path / "cohort.csv", tmp_path / "out")


def test_two_unicode_forms_of_a_name_are_one_case(client, tmp_path):
    write_scans(tmp_path / "s", 0)
    row = ["s/ct.nii.gz", "s/naf.nii.gz", "naf", "s/bones.nii.gz", "suv", "x"]
    composed, parted = (unicodedata.normalize(form, "\u00c5se") for form in ("NFC", "NFD"))
    with pytest.raises(InputError, match="stands in row 2 already"):
        done([[composed, *row], [parted, *row]], tmp_path, client)
    assert [record.state for record in done([[parted, *row], ["a b", *row]], tmp_path, client)] == [
        "done"
    ] * 2
    assert [record.state for record in done([[composed, *row], ["a b", *row]], tmp_path, client)] == [
        "kept"
    ] * 2
    assert {path.name for path in (tmp_path / "out/cases").iterdir()} == {composed, "a b"}


@pytest.mark.parametrize("cell", ["\t=1", "\r=1", "\n=1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20x"])
def test_other_beginnings_of_formulas(cell):
    assert harmless(cell) == f"'{cell}"
