"""A cohort on real worker processes: equal to single runs, continued, nothing lost when they are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client, LocalCluster

import petbone
from cohort_fixtures import HEAD, dask_processes, line, rows, write_scans, write_table
from petbone.cohort import LOCK, cohort_of, opened
from petbone.cohort_case import Networks, Record, digest_of, spoken
from petbone.cohort_results import TABLES, dictionary, write_cohort
from petbone.cohort_table import read_cohort
from petbone.cohort_workers import local_workers, refuse_unfit_workers, run_cases, workers_of
from petbone.errors import InputError, ResourceError, UsageError
from petbone.folders import harmless
from petbone.io import PetOptions
from petbone.phantom import SMALL, make_patient
from petbone.pipeline import CaseFiles, CaseOptions
from petbone.results import write_patient

OPTIONS = CaseOptions()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_workers(2, None) as client:
        yield client


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(4):
        write_scans(folder / f"s{seed}", seed)
    return folder


def done(table: Path, output: Path, client: Client, options: CaseOptions = OPTIONS) -> list[Record]:
    """The cohort of a table, as the command does it but for its workers."""
    found = read_cohort(table, output)
    with opened(output) as cases:
        records = run_cases(found.rows, options, cases, client)
        return write_cohort(found, records, {}, output)


def states(records: list[Record]) -> str:
    return " ".join(record.state for record in records)


def without_times(folder: Path) -> dict[str, object]:
    """Every file of a case; of the provenance and the page all but seconds, memory and threads."""
    found: dict[str, object] = {}
    for path in sorted(folder.iterdir()):
        if path.name == "provenance.json":
            told = json.loads(path.read_text(encoding="utf-8"))
            told["steps"] = [step["name"] for step in told["steps"]]
            told["options"].pop("threads")
            for one in (told["inputs"]["ct"], told["inputs"]["bones"], *told["inputs"]["pets"]):
                one.pop("seconds")
            found[path.name] = told
        elif path.name not in ("report.html", "cohort.json"):
            found[path.name] = path.read_bytes()
    return found


def test_a_cohort_is_its_single_runs_and_a_broken_case_stops_nobody(scans, client, tmp_path, cli):
    (tmp_path / "phantom").mkdir()
    write_patient(make_patient(SMALL), tmp_path / "phantom")
    write_scans(tmp_path / "Doe^John", 0)
    (tmp_path / "Doe^John/naf.nii.gz").write_bytes(b"\x1f\x8b no gzip")
    s0, s1 = (os.path.relpath(scans / name, tmp_path) for name in ("s0", "s1"))
    table = write_table(
        tmp_path / "cohort.csv",
        "phantom,phantom/ct.nii.gz,phantom/naf.nii.gz,naf,phantom/bones.nii.gz,suv,=1+1,,,",
        f"{line('two tracers', s0)},{s0}/choline.nii.gz,choline,suv",
        f"{line('broken', 'Doe^John')},,,",
        f"{line('Ödegård', s1, '-7')},,,",
        head=f"{HEAD},pet2,tracer2,units2",
    )
    output = tmp_path / "out"
    records = done(table, output, client)
    assert states(records) == "done done failed done"

    # failures: the step, the column in the place of the file, and no name of a file, which may be a patient's
    (failure,) = rows(output / "failures.csv")
    assert (failure["case"], failure["step"]) == ("broken", "read")
    assert failure["error"].startswith("pet: ")
    assert "Doe" not in (output / "failures.csv").read_text(encoding="utf-8")
    assert sorted(path.name for path in (output / "cases").iterdir()) == ["phantom", "two tracers", "Ödegård"]

    # cases: as petbone run leaves them
    for case, ct, pets in (
        ("phantom", "phantom/ct.nii.gz", {"naf": "phantom/naf.nii.gz"}),
        ("two tracers", f"{s0}/ct.nii.gz", {n: f"{s0}/{n}.nii.gz" for n in ("naf", "choline")}),
    ):
        bones = Path(ct).parent / "bones.nii.gz"
        single = tmp_path / f"single {case}"
        words = [word for tracer in pets for word in ("--tracer", tracer)]
        pet_paths = [tmp_path / pet for pet in pets.values()]
        more = ("--bones", tmp_path / bones, "--units", "suv", "-o", single, *words)
        assert cli("run", tmp_path / ct, *pet_paths, *more).status == 0
        assert without_times(single) == without_times(output / "cases" / case)

    # tables: every row of every case, cell by cell
    for name, columns in TABLES.items():
        expected = []
        for case, tracer, suffix, arm in (
            ("phantom", "naf", "", "'=1+1"),
            ("two tracers", "naf", "_naf", "A"),
            ("two tracers", "choline", "_choline", "A"),
            ("Ödegård", "naf", "", "-7"),
        ):
            for row in rows(output / "cases" / case / f"{name}{suffix}.csv"):
                expected.append({"case": case, "tracer": tracer, **row, "arm": arm})
        assert len(expected) > 4
        assert rows(output / f"{name}.csv") == expected
        assert list(expected[0]) == ["case", "tracer", *columns, "arm"]
        typed = pd.read_parquet(output / f"{name}.parquet")
        assert list(typed) == list(expected[0])
        assert set(typed["arm"]) == {"=1+1", "A", "-7"}
        for column in typed.select_dtypes("number"):
            text = [row[column] for row in expected]
            assert typed[column].isna().tolist() == [cell == "" for cell in text]
            assert typed[column].dropna().tolist() == [float(cell) for cell in text if cell]
    told = {(row["column"], row["table"]): row for row in rows(output / "cohort_dictionary.csv")}
    assert {(c, name) for name in TABLES for c in pd.read_parquet(output / f"{name}.parquet")} < set(told)
    assert told["suv_peak", "bones"]["unit"] == "g/mL"
    assert told["hotspot_volume_ml_shift_low", "bones"]["unit"] == "mL"
    facts = json.loads((output / "provenance.json").read_text(encoding="utf-8"))
    assert (facts["cases"], facts["failed"], facts["columns_kept"]) == (4, 1, ["arm"])


def test_running_again_does_what_was_changed_and_only_that(scans, client, tmp_path):
    for seed in (2, 3):
        write_scans(tmp_path / f"s{seed}", seed)
    table = write_table(tmp_path / "cohort.csv", line("a", "s2"), line("b", "s3"))
    output = tmp_path / "out"

    def again(options: CaseOptions = OPTIONS) -> str:
        return states(done(table, output, client, options))

    assert again() == "done done"
    before = {path: path.stat().st_mtime_ns for path in output.rglob("cases/*/*")}
    tables = {path.name: path.read_bytes() for path in output.glob("*.*") if path.name != LOCK}
    assert again(replace(OPTIONS, threads=1, max_memory_gb=8)) == "kept kept"  # no number depends on these
    assert {path: path.stat().st_mtime_ns for path in output.rglob("cases/*/*")} == before
    assert {name: (output / name).read_bytes() for name in tables} == tables

    write_scans(tmp_path / "other", 0)
    (tmp_path / "other/naf.nii.gz").replace(tmp_path / "s2/naf.nii.gz")
    assert again() == "done kept"
    write_table(table, line("a", "s2"), line("b", "s3").replace("naf,s3", "fdg,s3"), line("c", "s3"))
    assert again() == "kept done done"
    assert {row["tracer"] for row in rows(output / "indices.csv") if row["case"] == "b"} == {"fdg"}
    assert again(replace(OPTIONS, psf_mm=6.0)) == "done done done"
    assert again() == "done done done"
    # A table that somebody has saved over, and a file that is gone, are no results.
    with (output / "cases/a/bones.csv").open("a") as file:
        file.write("\n")
    (output / "cases/b/suv.nii.gz").unlink()
    assert again() == "done done kept"
    # What fails now is in no table, and it is said that its folder is of before.
    (tmp_path / "s2/naf.nii.gz").write_bytes(b"\x1f\x8b no gzip")
    assert again() == "failed kept kept"
    assert {row["case"] for row in rows(output / "bones.csv")} == {"b", "c"}
    (failure,) = rows(output / "failures.csv")
    assert "cases/a is of an earlier run" in failure["error"]


def test_the_digest_is_of_everything_that_numbers_come_from(scans, tmp_path, monkeypatch):
    write_scans(tmp_path / "s", 0)
    ct, pet, bones = (tmp_path / f"s/{name}.nii.gz" for name in ("ct", "naf", "bones"))
    rule = tmp_path / "rule.toml"
    rule.write_text("a", encoding="utf-8")
    files = CaseFiles((pet,), (PetOptions(units="bqml", injected_at="10:00"),), ct, bones)
    options = replace(OPTIONS, rule=rule)
    digests = [digest_of(files, options)]
    assert digest_of(files, replace(options, threads=3, processes=1, max_memory_gb=1)) == digests[0]
    stated = replace(files.pet_options[0], injected_at="10:01")
    digests += [
        digest_of(replace(files, pet_options=(stated,)), options),
        digest_of(replace(files, labels="totalsegmentator"), options),
        digest_of(replace(files, bones=None), options),
        digest_of(replace(files, second=files), options),
        *(digest_of(files, replace(options, **{key: value})) for key, value in
          {"index": "A50", "align": "rigid", "psf_mm": 5.0, "device": "cpu", "rule": None}.items()),
    ]  # fmt: skip
    rule.write_text("b", encoding="utf-8")
    digests.append(digest_of(files, options))
    (tmp_path / "s/naf.json").write_text('{"Units": "Bq/mL"}', encoding="utf-8")  # BIDS: taken by its name
    digests.append(digest_of(files, options))
    bones.write_bytes(bones.read_bytes() + b"x")
    digests.append(digest_of(files, options))
    monkeypatch.setattr(petbone, "__version__", "999")
    digests.append(digest_of(files, options))
    assert len(set(digests)) == len(digests)


def test_a_folder_of_slices_and_a_header_with_its_voxels(tmp_path):
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct/1").write_bytes(b"one")
    head, voxels = tmp_path / "pet.mhd", tmp_path / "other.raw"
    head.write_text("NDims = 3\nElementDataFile = other.raw\n", encoding="utf-8")
    voxels.write_bytes(b"a")
    files = CaseFiles((head,), (PetOptions(),), tmp_path / "ct", head)
    digests = [digest_of(files, OPTIONS)]
    voxels.write_bytes(b"b")
    digests.append(digest_of(files, OPTIONS))
    (tmp_path / "ct/2").write_bytes(b"two")
    digests.append(digest_of(files, OPTIONS))
    assert len(set(digests)) == 3
    voxels.unlink()
    head.unlink()
    with pytest.raises(InputError, match=r"^bones: cannot be read: No such file"):
        digest_of(files, OPTIONS)


def parts(output: Path) -> list[Path]:
    return list((output / "cases").glob(".*.part"))


def test_a_killed_worker_loses_and_doubles_nothing(scans, client, tmp_path):
    table = write_table(scans / "killed.csv", *(line(f"c{n}", f"s{n % 4}") for n in range(8)))
    found = read_cohort(table, tmp_path / "out")
    pids = list(client.run(os.getpid).values())
    killed = []

    def kill(record: Record) -> None:
        if not killed:
            patience = time.monotonic() + 2  # the other worker's case may be over, and none is begun now
            while not parts(tmp_path / "out") and time.monotonic() < patience:  # in the middle of a case
                time.sleep(0.001)
            os.kill(pids[0], signal.SIGKILL)
            killed.append(record)

    with opened(tmp_path / "out") as cases:
        records = run_cases(found.rows, OPTIONS, cases, client, kill)
        write_cohort(found, records, {}, tmp_path / "out")
    assert states(records) == " ".join(["done"] * 8)
    assert not parts(tmp_path / "out")
    reference = done(table, tmp_path / "undisturbed", client)
    assert states(reference) == states(records)
    for name in TABLES:
        assert (tmp_path / f"out/{name}.csv").read_bytes() == (
            tmp_path / f"undisturbed/{name}.csv"
        ).read_bytes()


def test_a_case_that_kills_its_workers_is_given_up_and_the_next_is_done(scans, client, tmp_path):
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            if any(path.name.startswith(".deadly") for path in parts(tmp_path / "out")):
                with suppress(OSError):  # a worker that is gone already
                    for pid in set(client.run(os.getpid, on_error="ignore").values()):
                        os.kill(pid, signal.SIGKILL)
                for path in parts(tmp_path / "out"):
                    path.rename(path.with_suffix(".old"))
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        records = done(write_table(scans / "killer.csv", line("deadly", "s0")), tmp_path / "out", client)
    finally:
        over.set()
        killer.join()
    assert (records[0].state, records[0].step) == ("failed", "worker")
    assert "its worker died each time" in records[0].error
    table = write_table(scans / "killer.csv", line("deadly", "s0"), line("next", "s1"))
    assert states(done(table, tmp_path / "out", client)) == "done done"


def test_an_interrupted_and_a_killed_run_go_on(scans, client, tmp_path):
    table = write_table(scans / "stopped.csv", *(line(f"c{n}", f"s{n % 4}") for n in range(9)))
    output = tmp_path / "out"
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from petbone.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "cohort", str(table), "-o", str(output), "--workers", "1"]

    def stopped_after(cases: int, sign: signal.Signals) -> tuple[int, str]:
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        while len(list(output.glob("cases/c*"))) < cases:
            assert running.poll() is None
            time.sleep(0.005)
        # Ctrl-C goes to every process of a terminal; a kill to one.
        (os.killpg if sign is signal.SIGINT else os.kill)(running.pid, sign)
        said = running.communicate(timeout=60)[1]
        return running.returncode, said

    assert stopped_after(2, signal.SIGINT) == (130, "petbone: interrupted\n")
    assert not parts(output)
    kept = len(list(output.glob("cases/c*")))
    assert 2 <= kept < 9
    assert not list(output.glob("*.csv"))
    assert stopped_after(kept + 2, signal.SIGKILL)[0] == -signal.SIGKILL
    kept = len(list(output.glob("cases/c*")))
    records = done(table, output, client)
    assert states(records).count("kept") == kept < 9
    assert states(records).count("done") == 9 - kept
    assert not parts(output)
    assert len(rows(output / "bones.csv")) == 9 * 62


def test_on_a_scheduler_that_runs_elsewhere(scans, tmp_path, cli):
    (tmp_path / "broken.nii.gz").write_bytes(b"")
    broken = line("broken", "s0").replace("s0/naf.nii.gz", str(tmp_path / "broken.nii.gz"))
    table = write_table(scans / "elsewhere.csv", *(line(f"c{n}", f"s{n}") for n in range(3)), broken)
    with dask_processes(tmp_path / "scratch") as (scheduler, _):
        answer = cli("cohort", table, "-o", tmp_path / "out", "--scheduler", scheduler)
        assert (answer.status, answer.out.splitlines()[0]) == (5, "3 done, 0 done before, 1 failed")
        assert answer.err.startswith("petbone: broken: read: pet: ")
        assert len(answer.err.splitlines()) == 1
        assert {row["case"] for row in rows(tmp_path / "out/bones.csv")} == {"c0", "c1", "c2"}
        answer = cli("cohort", table, "-o", tmp_path / "out", "--scheduler", scheduler, "--quiet")
        assert (answer.status, answer.out) == (5, "")


def test_workers_that_do_not_fit(client, tmp_path, monkeypatch):
    client.wait_for_workers(2, timeout=30)
    with pytest.raises(InputError, match="a worker does not see it"):
        refuse_unfit_workers(client, tmp_path / "gone")
    (tmp_path / LOCK).touch()
    refuse_unfit_workers(client, tmp_path / LOCK)
    with (
        pytest.raises(InputError, match="no scheduler answers"),
        workers_of("tcp://127.0.0.1:1", timeout_s=1),
    ):
        pass
    place = {"processes": False, "dashboard_address": "127.0.0.1:0"}
    for kind, said in (
        ({"n_workers": 0}, "the scheduler has no worker"),
        ({"n_workers": 1, "threads_per_worker": 2}, "a worker has 2 threads"),
    ):
        with (
            LocalCluster(**place, **kind, local_directory=str(tmp_path)) as cluster,
            Client(cluster) as other,
            pytest.raises(InputError, match=said),
        ):
            refuse_unfit_workers(other, tmp_path / LOCK)
    monkeypatch.setattr(petbone, "__version__", "999")
    with pytest.raises(InputError, match="a worker has petbone"):
        refuse_unfit_workers(client, tmp_path / LOCK)


@pytest.mark.parametrize(
    ("address", "end"),
    [
        ("tls://127.0.0.1:1", "as tcp://node1:8786; certificates stand in dask's configuration\n"),
        ("ucx://127.0.0.1:1", "as tcp://node1:8786\n"),
    ],
)
def test_addresses_that_dask_cannot_use(scans, tmp_path, address, end):
    table = write_table(scans / "address.csv", line("a", "s0"))
    words = ["cohort", table, "-o", tmp_path / "out", "--scheduler", address]
    program = [sys.executable, "-c", "from petbone.cli import main; main()"]
    answer = subprocess.run([*program, *map(str, words)], capture_output=True, text=True)
    assert answer.returncode == 3
    assert answer.stderr.startswith(f"petbone: {address}: no scheduler answers (")
    assert answer.stderr.endswith(end)
    assert len(answer.stderr.splitlines()) == 1


def test_folders_and_options_that_cannot_be_used(scans, tmp_path, cli):
    table = write_table(scans / "refused.csv", line("a", "s0"))
    found = read_cohort(table, tmp_path / "out")
    (tmp_path / "others").mkdir()
    (tmp_path / "others/file").touch()
    with pytest.raises(InputError, match="holds other files"):
        cohort_of(found, OPTIONS, tmp_path / "others", (1, None))
    with (
        opened(tmp_path / "out"),
        pytest.raises(InputError, match="another petbone cohort is at work"),
        opened(tmp_path / "out"),
    ):
        pass
    with pytest.raises(InputError, match="cannot be made"), opened(table / "out"):
        pass
    for options, kind, said in (
        (replace(OPTIONS, index="PET99"), UsageError, "--index"),
        (replace(OPTIONS, rule=tmp_path / "gone.toml"), InputError, "gone.toml"),
        (replace(OPTIONS, device="tpu"), UsageError, "'tpu' is none of"),
        (replace(OPTIONS, weights=tmp_path / "gone"), InputError, "no such weights file"),
    ):
        with pytest.raises(kind, match=said):
            cohort_of(found, options, tmp_path / "new", (1, None))
        assert not (tmp_path / "new").exists()
    answer = cli("cohort", table, "-o", tmp_path / "new", "--workers", "1", "--scheduler", "tcp://x:1")
    assert answer.status == 2


def test_a_full_disk_stops_the_cohort_with_its_figure_and_room_lets_it_go_on(scans, client, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = "size=600k"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", disk], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        table = write_table(scans / "full.csv", *(line(f"c{n}", f"s{n}") for n in range(4)))
        with pytest.raises(ResourceError, match=r"the disk is full \(\d+ MB free\) with \d of 4 cases done"):
            done(table, disk / "out", client)
        assert not parts(disk / "out")
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        records = done(table, disk / "out", client)
        assert len(rows(disk / "out/bones.csv")) == 4 * 62
        assert "failed" not in states(records)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_results_that_another_run_has_replaced_are_in_no_table(scans, client, tmp_path):
    table = write_table(scans / "replaced.csv", line("a", "s0"), line("b", "s1"))
    (one, two) = done(table, tmp_path / "out", client)
    found = read_cohort(table, tmp_path / "out")
    records = write_cohort(found, [replace(one, provenance_sha256="0"), two], {}, tmp_path / "out")
    assert [(record.state, record.step) for record in records] == [("failed", "tables"), ("done", "")]
    assert {row["case"] for row in rows(tmp_path / "out/bones.csv")} == {"b"}


def test_errors_name_columns_and_no_files():
    folder = Path("/data/Doe John")
    files = CaseFiles((folder / "pet",), (PetOptions(),), folder / "ct.nii.gz", None)
    say = [
        (InputError(f"{folder}/pet/IM 1: no slices"), "pet: no slices"),
        (InputError("ct.nii.gz: is no\nimage"), "ct: is no image"),
        (FileNotFoundError(2, "No such file", "/home/doe/x"), "defect of petbone: FileNotFoundError: "
         "[Errno 2] No such file: '(a path)'"),
        (ZeroDivisionError(), "defect of petbone: ZeroDivisionError"),
        (MemoryError(), "not enough memory for this case"),
        (ResourceError("needs 3 GB"), "needs 3 GB"),
    ]  # fmt: skip
    for error, said in say:
        assert spoken(error, files, OPTIONS) == said


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-x", "@sum", "-1-1", '="a"', "+1;2"])
def test_no_cell_is_a_formula(cell):
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "a=b", "-7", "+5", "-1.5e-3", "2026-03-01"])
def test_other_cells_and_numbers_stay(cell):
    assert harmless(cell) == cell


def test_every_column_of_the_dictionary_has_a_meaning():
    told = dictionary(("arm",))
    assert all(meaning for *_, meaning in told)
    assert len({(column, table) for column, table, *_ in told}) == len(told)


def test_a_worker_reads_the_network_once(one_thread):
    networks = Networks()
    options = replace(OPTIONS, device="cpu", threads=1)
    first = networks.load(options)
    assert networks.load(replace(options, psf_mm=5.0)) is first
    assert networks.load(replace(options, threads=2)) is not first
