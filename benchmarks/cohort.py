"""Cohorts at their limits: many patients, processes that are killed, two workers, a full disk, little memory.

    python benchmarks/cohort.py many   [--cases 500] [--size small]   against as many single runs
    python benchmarks/cohort.py kills  [--cases 12] [--repeats 30] [--kinds parent,worker,...]
    python benchmarks/cohort.py speed  [--cases 6] [--size large] [--network]
    python benchmarks/cohort.py limits [--size small]                 needs root for a small disk

What is found wrong is printed, and the exit status is 1. Linux only. Patients are phantoms: tiny (a pelvis),
small, default or large (clinical size). Everything is made in a temporary folder (TMPDIR), `many` takes 4 GB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

from cohort_patients import TABLES, make_cohort, rows_of, tables_of, unwhole, without_times

COMMAND = [sys.executable, "-c", "from petbone.cli import main; main()", "cohort"]


def begin(table: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    words = [*COMMAND, str(table), "-o", str(output), *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(running: subprocess.Popen[str], limit_s: float = 3600) -> tuple[int, list[str], list[str]]:
    """Exit status and the lines on either stream."""
    out, err = running.communicate(timeout=limit_s)
    return running.returncode, out.splitlines(), err.splitlines()


def cases_of(table: Path) -> list[str]:
    return [row["case"] for row in rows_of(table)]


# --- many ---------------------------------------------------------------------------------------------------


def many(options: argparse.Namespace, work: Path) -> list[str]:
    """All good cases done, each broken one named with its reason, all as single runs leave them."""
    patients = work / "patients"
    broken = make_cohort(patients, options.cases, options.size, options.broken_every)
    print(f"{options.cases} patients made, {len(broken)} of them broken", flush=True)
    table, output = patients / "patients.csv", work / "out"
    memory: list[tuple[float, int]] = []
    started = time.perf_counter()
    running = begin(table, output, "--workers", str(options.workers))
    while running.poll() is None:
        memory.append((time.perf_counter() - started, resident_kb(running.pid)))
        time.sleep(0.5)
    status, out, err = finish(running)
    if not out:
        return [f"status {status}", *err]
    print(f"status {status}, {time.perf_counter() - started:.0f} s: {out[-2]}", flush=True)
    parts = [memory[int(share * (len(memory) - 1))][1] // 1000 for share in (0.1, 0.25, 0.5, 0.75, 1)]
    print(
        f"MB of the parent after 10, 25, 50, 75 and 100 % of the time: {parts}, most "
        f"{max(kb for _, kb in memory) // 1000}"
    )
    wrong = [] if status == 5 else [f"status {status}"]
    failures = rows_of(output / "failures.csv")
    if [row["case"] for row in failures] != list(broken):
        wrong.append("failures.csv has other cases than the broken ones")
    for row in failures:
        kind = broken.get(row["case"])
        if kind and not (re.fullmatch(kind.step, row["step"]) and re.search(kind.said, row["error"])):
            wrong.append(f"{kind.name}: {row['step']}: {row['error']}")
    for name, text in {
        broken[row["case"]].name: row["error"] for row in failures if row["case"] in broken
    }.items():
        print(f"  {name}: {text}")
    started = time.perf_counter()
    status, out, _ = finish(begin(table, output, "--workers", str(options.workers)))
    print(f"again: status {status}, {time.perf_counter() - started:.0f} s: {out[-2]}", flush=True)
    wrong += unwhole(output, [case for case in cases_of(table) if case not in broken])
    return wrong + unequal_to_single_runs(table, output, set(broken), work / "single")


def resident_kb(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def unequal_to_single_runs(table: Path, output: Path, broken: set[str], work: Path) -> list[str]:
    """Every case alone by `petbone run`, in a process of its own; tables of the cohort against theirs."""
    import petbone.results  # noqa: F401  once, and not in each of the processes

    rows = rows_of(table)
    wrong: list[str] = []
    started = time.perf_counter()
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        jobs = [(row, table.parent, work / row["case"]) for row in rows]
        statuses = pool.starmap(single_run, jobs, chunksize=1)
    print(f"{len(rows)} single runs: {time.perf_counter() - started:.0f} s", flush=True)
    expected: dict[str, list[dict[str, str]]] = {name: [] for name in TABLES}
    for row, status in zip(rows, statuses, strict=True):
        case = row["case"]
        if case in broken:
            wrong += [] if status == 3 else [f"{case}: status {status} alone"]
            continue
        if status:
            wrong.append(f"{case}: status {status} alone")
            continue
        one, other = without_times(work / case), without_times(output / "cases" / case)
        differ = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
        wrong += [f"{case}: {name} differs" for name in differ]
        for image in sorted((work / case).glob("*.nii.gz")):
            again = output / "cases" / case / image.name
            if image.read_bytes() != again.read_bytes():
                kept = Path(tempfile.mkdtemp(prefix="differ-"))
                shutil.copy(image, kept / f"single-{image.name}")
                shutil.copy(again, kept / f"cohort-{image.name}")
                print(f"{case}: {image.name}: other bytes, kept in {kept}", flush=True)
        for name in TABLES:
            own = {name: row[name] for name in ("patient", "date", "arm")}
            lines = rows_of(work / case / f"{name}.csv")
            expected[name] += [{"case": case, "tracer": "naf", **line, **own} for line in lines]
    for name in TABLES:
        found = rows_of(output / f"{name}.csv")
        print(f"{name}.csv: {len(found)} rows, {len(expected[name])} of single runs", flush=True)
        wrong += [] if found == expected[name] else [f"{name}.csv differs from the single runs"]
    return wrong


def single_run(row: dict[str, str], place: Path, folder: Path) -> int:
    from petbone.cli import main

    words = ["run", place / row["ct"], place / row["pet"], "--bones", place / row["bones"], "-o", folder]
    words += ["--tracer", row["tracer"], "--units", row["units"], "--threads", "1", "--quiet"]
    sys.argv = ["petbone", *map(str, words), *(["--labels", row["labels"]] if row["labels"] else [])]
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


# --- kills --------------------------------------------------------------------------------------------------


@contextmanager
def cluster(work: Path, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address of a scheduler with workers, and their processes, the scheduler's first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [
        "-m",
        "distributed.cli.dask_scheduler",
        "--no-dashboard",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    worker = ["-m", "distributed.cli.dask_worker", address, "--no-dashboard", "--nthreads", "1"]
    worker += ["--local-directory", str(work / "scratch")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen([sys.executable, *words], **quiet) for words in [scheduler, *[worker] * workers]
    ]
    try:
        from distributed import Client

        with Client(address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, processes
    finally:
        for process in processes:  # a worker goes with its nanny
            process.kill()
            process.wait()


def workers_below(pid: int) -> list[int]:
    """Processes of workers that a process has begun."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def kills(options: argparse.Namespace, work: Path) -> list[str]:
    """Each kind of process killed at so many random moments of a run; what is done stays."""
    make_cohort(work / "patients", options.cases, options.size, visits=2)
    table = work / "patients/patients.csv"
    reference = work / "undisturbed"
    started = time.perf_counter()
    assert finish(begin(table, reference, "--workers", "2"))[0] == 0
    seconds = time.perf_counter() - started
    print(f"{options.cases} cases, undisturbed {seconds:.1f} s", flush=True)
    expected = (
        tables_of(reference),
        {case: without_times(reference / "cases" / case) for case in cases_of(table)},
    )
    moments = random.Random(options.seed)
    wrong: list[str] = []
    for kind in options.kinds.split(","):
        counts: dict[str, int] = {}
        for n in range(options.repeats):
            output = work / f"{kind}-{n}"
            found, said = killed_once(kind, table, output, moments.uniform(0, seconds), work)
            counts[said] = counts.get(said, 0) + 1
            found += unwhole(output, cases_of(table))
            found += [] if tables_of(output) == expected[0] else ["other tables"]
            for case, files in expected[1].items():
                found += [] if without_times(output / "cases" / case) == files else [f"{case} is another"]
            wrong += [f"{kind} {n}: {one}" for one in found]
            print(*(f"{kind} {n}: {one}" for one in found), sep="\n", end="", flush=True)
        print(f"{kind}: {options.repeats} kills: {counts}, wrong so far {len(wrong)}", flush=True)
    return wrong


def killed_once(kind: str, table: Path, output: Path, moment_s: float, work: Path) -> tuple[list[str], str]:
    """A run with a kill at a moment, and one to its end; what is wrong, and what became of the first run."""
    with ExitStack() as up:
        where, processes = ("--workers", "2"), []
        if kind in ("scheduler", "parent-elsewhere", "worker-elsewhere"):
            address, processes = up.enter_context(cluster(work))
            where = ("--scheduler", address)
        running = begin(table, output, *where)
        time.sleep(moment_s)
        if kind in ("parent", "parent-elsewhere"):
            running.kill()
        elif kind == "scheduler":
            processes[0].kill()
        else:
            nannies = [running.pid] if kind == "worker" else [process.pid for process in processes[1:]]
            for pid in [pid for nanny in nannies for pid in workers_below(nanny)][:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        whole = len(list(output.glob("cases/[!.]*/cohort.json"))) if "parent" in kind else 0
        status, out, err = finish(running)
        allowed = {"scheduler": (0, 3, 4), "worker": (0,), "worker-elsewhere": (0,)}.get(kind, (0, -9))
        wrong = [] if status in allowed else [f"status {status}: {out[-2:]} {err[-2:]}"]
        if len(err) > 1 and "parent" not in kind:  # Python's tracker of resources misses a killed parent
            wrong.append(f"{len(err)} lines on standard error: {err[-1]}")
        if kind == "scheduler":
            up.close()
            address, _ = up.enter_context(cluster(work))
            where = ("--scheduler", address)
        again, out, err = finish(begin(table, output, *where))
        if again or err:
            wrong.append(f"again: status {again}: {err}")
        else:
            kept = int(re.search(r"(\d+) done before", "\n".join(out))[1])  # type: ignore[index]
            wrong += [] if kept >= whole else [f"{whole} were done and {kept} were kept"]
    return wrong, f"status {status}"


# --- speed --------------------------------------------------------------------------------------------------


def speed(options: argparse.Namespace, work: Path) -> list[str]:
    """Seconds of one and of two workers, by turns; of each the least."""
    make_cohort(work / "patients", options.cases, options.size)
    table = work / "patients/patients.csv"
    if options.network:
        lines = table.read_text(encoding="utf-8").splitlines()
        kept = [",".join(c for n, c in enumerate(line.split(",")) if n not in (4, 6)) for line in lines]
        table.write_text("\n".join(kept) + "\n", encoding="utf-8")
    for threads in options.threads.split(","):
        best: dict[int, float] = {}
        for turn in range(options.repeats):
            for workers in (1, 2):
                more = [] if threads == "share" else ["--threads", threads]
                used = resource.getrusage(resource.RUSAGE_CHILDREN)
                started = time.perf_counter()
                status, _, err = finish(
                    begin(table, work / f"o{threads}{turn}{workers}", "--workers", str(workers), *more)
                )
                seconds = time.perf_counter() - started
                now = resource.getrusage(resource.RUSAGE_CHILDREN)
                assert status == 0, err
                cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
                print(
                    f"threads {threads}, {workers} worker(s): {seconds:.1f} s, of processors {cpu:.1f} s, "
                    f"load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
                best[workers] = min(best.get(workers, seconds), seconds)
        ratio = best[1] / best[2] / 2
        print(f"threads {threads}: two workers reach {ratio:.2f} of twice the speed of one", flush=True)
    return []


# --- limits -------------------------------------------------------------------------------------------------


def limits(options: argparse.Namespace, work: Path) -> list[str]:
    """A full disk, while cases and while tables are written, and too little memory: status 4; then on."""
    make_cohort(work / "patients", options.cases, options.size)
    table, reference = work / "patients/patients.csv", work / "undisturbed"
    assert finish(begin(table, reference, "--workers", "2"))[0] == 0
    expected = tables_of(reference)
    wrong = little_memory(work, table)
    disk = work / "disk"
    disk.mkdir()
    case_kb = sum(path.stat().st_size for path in (reference / "cases").rglob("*") if path.is_file()) // 1000
    size = f"size={case_kb // 2}k"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", disk], capture_output=True).returncode:
        print("no small disk can be mounted here: not tried")
        return wrong
    try:
        status, _, err = finish(begin(table, disk / "out", "--workers", "2"))
        print(f"disk for half of the cases: status {status}: {err}")
        wrong += (
            [] if (status, len(err)) == (4, 1) and "the disk is full" in err[0] else [f"full: {status} {err}"]
        )
        subprocess.run(["mount", "-o", f"remount,size={case_kb * 4}k", disk], check=True)
        status, out, err = finish(begin(table, disk / "out", "--workers", "2"))
        print(f"with room: status {status}: {out[-2]}")
        wrong += [] if status == 0 and tables_of(disk / "out") == expected else [f"room: {status} {err}"]
        (disk / "out/bones.csv").write_text("earlier\n", encoding="utf-8")
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"0" * 4096)
                file.flush()
        status, _, err = finish(begin(table, disk / "out", "--workers", "2"))
        print(f"no room for tables: status {status}: {err}")
        wrong += [] if (status, len(err)) == (4, 1) and "MB free" in err[0] else [f"tables: {status} {err}"]
        if (disk / "out/bones.csv").read_text(encoding="utf-8") != "earlier\n":
            wrong.append("the earlier tables are gone")
        ballast.unlink()
        status, out, err = finish(begin(table, disk / "out", "--workers", "2"))
        print(f"with room: status {status}: {out[-2]}")
        wrong += [] if status == 0 and tables_of(disk / "out") == expected else [f"room: {status} {err}"]
        return wrong + unwhole(disk / "out", cases_of(table))
    finally:
        subprocess.run(["umount", disk], check=True)


def little_memory(work: Path, table: Path) -> list[str]:
    """A CT for the network that is larger than the others' needs, and a mask that its worker is ended for."""
    make_cohort(work / "heavy", 2, "default")
    rows = rows_of(table)[:2]
    for row in rows:
        row |= {name: str(table.parent / row[name]) for name in ("ct", "pet", "bones")}
    network, mask = rows_of(work / "heavy/patients.csv")
    network["bones"] = ""
    network["patient"], mask["patient"] = "network", "mask"
    head = list(network)
    path = work / "heavy/patients.csv"
    lines = [
        ",".join(row[name] for name in head)
        for row in (network | {"case": "network"}, mask | {"case": "mask"}, *rows)
    ]
    path.write_text("\n".join([",".join(head), *lines]) + "\n", encoding="utf-8")
    wrong = []
    for gb, expected in ((0.55, 4), (4, 0)):
        status, out, err = finish(
            begin(path, work / "heavy-out", "--workers", "1", "--max-memory-gb", str(gb))
        )
        print(f"{gb} GB for the worker: status {status}: {out[-2:-1]}", *err, sep="\n  ", flush=True)
        wrong += [] if status == expected else [f"{gb} GB: status {status} {err}"]
    return wrong + unwhole(work / "heavy-out", cases_of(path))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("many", "kills", "speed", "limits"))
    parser.add_argument("--cases", type=int)
    parser.add_argument("--size", choices=("tiny", "small", "default", "large"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--broken-every", type=int, default=20)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--kinds", default="parent,worker,scheduler,parent-elsewhere,worker-elsewhere")
    parser.add_argument("--threads", default="share,1", help="of speed: a number, or share of the cores")
    parser.add_argument("--network", action="store_true", help="of speed: no masks")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    usual = {
        "many": (500, "small", 1),
        "kills": (12, "tiny", 30),
        "speed": (6, "large", 2),
        "limits": (12, "small", 1),
    }
    cases, size, repeats = usual[options.what]
    options.cases, options.size = options.cases or cases, options.size or size
    options.repeats = options.repeats or repeats
    with tempfile.TemporaryDirectory() as folder:
        wrong = globals()[options.what](options, Path(folder))
    print(*(f"WRONG: {one}" for one in wrong), f"{len(wrong)} wrong", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
