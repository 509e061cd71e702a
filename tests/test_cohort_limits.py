"""A cohort that is stopped, or whose machine is too small: one line with the figure, and it goes on later."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from distributed import Client

from cohort_fixtures import dask_processes, line, rows, write_scans, write_table
from petbone import cohort_workers
from petbone.cohort import LOCK, cohort_of, opened
from petbone.cohort_case import DONE, Networks, Record, do_case, failed, run_in
from petbone.cohort_results import write_cohort
from petbone.cohort_table import read_cohort
from petbone.cohort_workers import local_workers, run_cases
from petbone.errors import ResourceError
from petbone.pipeline import CaseOptions
from petbone.steps import available_memory_gb, cgroup_free_bytes

OPTIONS = CaseOptions()
ENTRY = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from petbone.cli import main; print('ready', flush=True); main()"
)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(2):
        write_scans(folder / f"s{seed}", seed)
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_workers(1, None) as client:
        yield client


def begun(table: Path, output: Path, *options: str, **env: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, when it can be interrupted."""
    words = [sys.executable, "-c", ENTRY, "cohort", str(table), "-o", str(output), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(words, start_new_session=True, env=os.environ | env, **pipes)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    return running


def alive_in(group: int) -> list[str]:
    """Commands of the processes of a session that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == group and state != "Z":
                found.append((path / "cmdline").read_text())
    return found


def left_behind(output: Path) -> list[Path]:
    return [path for path in output.rglob(".*") if path.suffix in (".part", ".old")]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("seconds", [0.1, 0.3, 1.0, 2.0, 3.0])
def test_an_interrupt_at_any_moment_is_one_line(scans, tmp_path, seconds):
    table = write_table(scans / "moments.csv", *(line(f"c{n}", f"s{n % 2}") for n in range(30)))
    running = begun(table, tmp_path / "out", "--workers", "2", "--quiet")
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: the parent and its workers
    time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGINT)  # somebody in a hurry
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "petbone: interrupted\n")
    for _ in range(50):  # multiprocessing's tracker of resources leaves when it finds its parent gone
        if not (left := alive_in(running.pid)):
            break
        time.sleep(0.1)
    assert not left
    assert not left_behind(tmp_path)


def test_a_lost_scheduler_is_one_line_and_the_next_one_goes_on(scans, tmp_path):
    table = write_table(scans / "lost.csv", *(line(f"c{n}", f"s{n % 2}") for n in range(12)))
    output = tmp_path / "out"
    with dask_processes(tmp_path / "scratch") as (address, scheduler):
        # Dask looks for a lost scheduler as long as this, 30 s where nothing is said.
        running = begun(table, output, "--scheduler", address, DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="2s")
        while len(list(output.glob("cases/c*"))) < 3:
            assert running.poll() is None
            time.sleep(0.01)
        scheduler.kill()
        _, err = running.communicate(timeout=60)
    assert running.returncode == 4
    assert err == (
        "petbone: the scheduler is lost; the cases that are done stay: run again when it is back\n"
    )
    whole = len(list(output.glob("cases/c*/cohort.json")))
    assert whole < 12
    with dask_processes(tmp_path / "scratch") as (address, _):
        running = begun(table, output, "--scheduler", address)
        out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")
    assert int(out.splitlines()[-2].split()[2]) >= whole
    assert len(rows(output / "bones.csv")) == 12 * 62
    assert not left_behind(output)


def test_a_case_of_a_run_that_is_over_leaves_nothing(scans, tmp_path):
    (row,) = read_cohort(write_table(scans / "stale.csv", line("a", "s0")), tmp_path / "out").rows
    with opened(tmp_path / "out") as cases:
        first = run_in(cases)
    with opened(tmp_path / "out") as cases:
        assert run_in(cases) not in ("", first)
        stale = do_case(row, OPTIONS, cases, Networks().load, first)
        assert (stale.state, stale.error) == ("failed", "given up: another run is at work in this folder")
        assert not list(cases.iterdir())
        assert do_case(row, OPTIONS, cases, Networks().load, run_in(cases)).state == "done"


def test_what_a_killed_run_has_left_is_swept(tmp_path):
    with opened(tmp_path / "out"):
        pass
    lost = [
        tmp_path / "out" / place for place in (".tables-x.part", "cases/.a-x.part", "cases/.a-x.part.old")
    ]
    for folder in lost:
        folder.mkdir()
        (folder / "bones.csv").touch()
    with opened(tmp_path / "out"):
        assert not any(folder.exists() for folder in lost)


def test_a_ct_that_needs_more_memory_fails_alone_with_its_figure(scans, tmp_path, cli):
    with_network = line("network", "s1").replace("s1/bones.nii.gz", "")
    table = write_table(scans / "memory.csv", with_network, line("mask", "s0"))
    words = ("cohort", table, "-o", tmp_path / "out", "--workers", "1", "--max-memory-gb")
    answer = cli(*words, "0.6")
    assert answer.status == 4
    case, last = answer.err.splitlines()
    assert case.startswith(
        "petbone: network: bones: a CT of 0 M voxels needs about 0.7 GB and --max-memory-gb allows 0.6 GB"
    )
    assert last == (
        "petbone: the machine is too small for 1 of 2 cases (memory: up to 0.7 GB needed); make room, or "
        "give a larger --max-memory-gb or fewer --workers, and run again: it continues"
    )
    assert answer.out.splitlines()[0] == "1 done, 0 done before, 1 failed"
    assert [row["case"] for row in rows(tmp_path / "out/failures.csv")] == ["network"]
    assert {row["case"] for row in rows(tmp_path / "out/bones.csv")} == {"mask"}
    table.write_text(table.read_text().replace(with_network, line("network", "s1")))
    answer = cli(*words, "2")
    assert (answer.status, answer.out.splitlines()[0]) == (0, "1 done, 1 done before, 0 failed")


def test_a_worker_that_is_ended_for_its_memory_says_what_it_took(scans, tmp_path):
    table = write_table(scans / "ended.csv", line("a", "s0"))
    found = read_cohort(table, tmp_path / "out")
    with opened(tmp_path / "out") as cases, local_workers(1, 0.19) as small:
        records = run_cases(found.rows, OPTIONS, cases, small)
        write_cohort(found, records, {}, tmp_path / "out")
    (record,) = records
    assert (record.state, record.step, record.too_small) == ("failed", "worker", True)
    assert record.needed_gb is not None
    assert record.needed_gb > 0.18
    (failure,) = rows(tmp_path / "out/failures.csv")
    assert failure["error"] == (
        f"its worker took {record.needed_gb:.2f} GB and may take 0.19 GB; give a larger --max-memory-gb, or "
        "fewer --workers"
    )


def test_more_workers_than_memory_for_them(scans, tmp_path):
    free_gb = available_memory_gb()
    if free_gb is None:
        pytest.skip("this system does not tell how much memory is free")
    found = read_cohort(write_table(scans / "shares.csv", line("a", "s0")), tmp_path / "out")
    with pytest.raises(ResourceError, match=r"GB for each of 5000 workers; a worker takes 0.5 GB"):
        cohort_of(found, OPTIONS, tmp_path / "out", (5000, None))


def test_the_limits_of_a_container_count(tmp_path):
    job = tmp_path / "own"
    for folder, files in {
        "slurm": {"memory.max": "8000", "memory.current": "5000", "memory.stat": "a 1\ninactive_file 1500"},
        "slurm/job": {"memory.max": "max", "memory.current": "5000", "memory.stat": "anon 1"},
        "memory": {"memory.limit_in_bytes": "7000", "memory.usage_in_bytes": "7100",
                   "memory.stat": "total_inactive_file 20"},
    }.items():  # fmt: skip
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name).write_text(f"{content}\n")
    job.write_text("0::/slurm/job\n")
    assert cgroup_free_bytes(tmp_path, job) == [4500]
    job.write_text("4:memory:/docker/named/elsewhere\n3:cpuset:/\n")
    assert cgroup_free_bytes(tmp_path, job) == [0]
    assert cgroup_free_bytes(tmp_path, tmp_path / "gone") == []


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place]
    if sys.platform != "linux" or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_no_room_for_the_tables_leaves_the_earlier_ones(scans, client, tmp_path):
    table = write_table(scans / "tables.csv", line("a", "s0"), line("b", "s1"))
    with small_disk(tmp_path / "disk", "5m") as disk:
        output = disk / "out"
        found = read_cohort(table, output)

        def again() -> None:
            with opened(output) as cases:
                write_cohort(found, run_cases(found.rows, OPTIONS, cases, client), {}, output)

        again()
        tables = {
            path.name: path.read_bytes() for path in output.iterdir() if path.suffix in (".csv", ".parquet")
        }
        for name in tables:
            (output / name).write_text("earlier\n")
        with suppress(OSError), (disk / "ballast").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        for more_kb in (0, 8, 16, 16):  # it ends in one table or another
            with (disk / "ballast").open("r+b") as file:
                file.truncate((disk / "ballast").stat().st_size - more_kb * 1024)
            with pytest.raises(
                ResourceError, match=r"the tables cannot be written: No space.*\(\d+ MB free\)"
            ):
                again()
            assert {(output / name).read_text() for name in tables} == {"earlier\n"}
            assert not left_behind(output)
        (disk / "ballast").unlink()
        again()
        assert {name: (output / name).read_bytes() for name in tables} == tables


def test_a_long_name_of_many_bytes_is_done_anew(scans, client, tmp_path):
    case = "\u00c5" * 100  # 200 bytes
    found = read_cohort(write_table(scans / "long.csv", line(case, "s0")), tmp_path / "out")
    for psf_mm in (None, 5.0):
        with opened(tmp_path / "out") as cases:
            (record,) = run_cases(found.rows, CaseOptions(psf_mm=psf_mm), cases, client)
        assert record.state == "done", record.error
    assert json.loads((cases / case / DONE).read_text())["files"]
    assert (tmp_path / "out" / LOCK).exists()


@pytest.mark.parametrize("failures", [1, 2])
def test_workers_that_die_as_they_begin_are_begun_once_more(monkeypatch, failures):
    begun = cohort_workers.LocalCluster
    left = [RuntimeError("Nanny failed to start.")] * failures

    def dying(**place):
        if left:
            raise left.pop()
        return begun(**place)

    monkeypatch.setattr(cohort_workers, "LocalCluster", dying)
    if failures == 1:
        with local_workers(1, None) as client:
            assert client.submit(abs, -2).result() == 2
    else:
        with (
            pytest.raises(ResourceError, match="no 1 workers can be begun here: Nanny failed"),
            local_workers(1, None),
        ):
            pass


@pytest.mark.parametrize(
    ("reason", "too_small", "full"),
    [(errno.ENOSPC, True, True), (errno.EACCES, False, False), (errno.EIO, False, False)],
)
def test_only_a_machine_too_small_is_called_so(reason, too_small, full):
    try:
        try:
            raise OSError(reason, os.strerror(reason))
        except OSError as error:
            raise ResourceError("the results cannot be written") from error
    except ResourceError as error:
        told = failed(Record("c", "failed"), error)
    assert (told.too_small, told.disk_full) == (too_small, full)
    assert failed(Record("c", "failed"), ResourceError("a CT needs 9.0 GB", 9.0)).too_small
