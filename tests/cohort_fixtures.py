"""Patients of four balls of bone as files, for cohorts: each done in a fraction of a second."""

from __future__ import annotations

import csv
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from distributed import Client

from case_fixtures import GRID, patient
from petbone.io import write_nifti
from petbone.volume import Unit, Volume

HEAD = "case,ct,pet,tracer,bones,units,arm"


def write_scans(folder: Path, seed: int) -> None:
    """CT, mask, and PETs in SUV of two tracers whose hot ball is another with every seed."""
    ct, labels = patient()
    folder.mkdir(parents=True)
    write_nifti(ct, folder / "ct.nii.gz")
    write_nifti(labels, folder / "bones.nii.gz")
    noise = np.random.default_rng(seed)
    for tracer, hot in (("naf", 20.0), ("choline", 12.0)):
        suv = noise.uniform(0.5, 1.5, GRID.shape)
        suv[labels.data > 0] += 3
        found = np.argwhere(labels.data == (16, 17, 47, 48)[seed % 4])
        i, j, k = found[len(found) // 2]
        suv[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = hot
        write_nifti(Volume(suv.astype(np.float32), GRID, Unit.SUV), folder / f"{tracer}.nii.gz")


def line(case: str, folder: str, arm: str = "A") -> str:
    """The row of such a patient under `HEAD`."""
    return f"{case},{folder}/ct.nii.gz,{folder}/naf.nii.gz,naf,{folder}/bones.nii.gz,suv,{arm}"


def write_table(path: Path, *lines: str, head: str = HEAD) -> Path:
    """A table of these rows."""
    path.write_text("\n".join((head, *lines)) + "\n", encoding="utf-8")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def dask_processes(place: Path, workers: int = 2) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Address of a dask scheduler with workers, in processes of their own; and the scheduler's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    module, plain = [sys.executable, "-m"], "--no-dashboard"
    scheduler = [*module, "distributed.cli.dask_scheduler", plain, "--host", "127.0.0.1", "--port", port]
    worker = [*module, "distributed.cli.dask_worker", address, plain, "--nthreads", "1"]
    worker += ["--local-directory", str(place)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(words, **quiet) for words in (scheduler, *[worker] * workers)]
    try:
        with Client(address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, running[0]
    finally:
        for process in running:  # asked to leave they take seconds; a worker goes with its nanny
            process.kill()
            process.wait()
