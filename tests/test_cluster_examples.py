"""The files for clusters: dask knows the settings, and the containers' commands do a cohort."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from distributed import Client
from distributed.system import MEMORY_LIMIT

from cohort_fixtures import line, rows, write_scans, write_table
from petbone.cohort_workers import local_workers

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"
CONFIG = CLUSTER / "dask.yaml"


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        yield from leaves(value, f"{above}{name}.") if isinstance(value, dict) else [(above + name, value)]


def test_dask_knows_every_setting():
    settings = dict(leaves(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))))
    environ = "distributed.nanny.pre-spawn-environ"
    of_glibc = {name for name in settings if name.startswith(f"{environ}.")}
    assert (len(settings), len(of_glibc)) == (8, 3)
    for name in {environ, *settings} - of_glibc:
        assert dask.config.get(name, None) is not None, name


@contextmanager
def running(words: list[str], env: dict[str, str]) -> Iterator[None]:
    """A command of a container, with `dask` as it is installed beside this Python."""
    assert words[0] == "dask"
    program = [sys.executable, "-m", "dask", *words[1:]]
    process = subprocess.Popen(program, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_commands_of_the_containers_do_a_cohort(tmp_path):
    cluster, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8"))
    parts = {name: cluster["spec"][name]["spec"]["containers"][0] for name in ("scheduler", "worker")}
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    for part in (cluster["spec"]["worker"]["spec"], job["spec"]["template"]["spec"]):
        claims = {one["name"]: one.get("persistentVolumeClaim") for one in part["volumes"]}
        assert claims["data"] == {"claimName": "petbone-data"}
    service = f"tcp://{cluster['metadata']['name']}-scheduler:8786"  # the operator's name for it
    assert f"--scheduler={service}" in command

    for n in range(2):
        write_scans(tmp_path / f"s{n}", n)
    write_table(tmp_path / "patients.csv", line("a", "s0"), line("b", "s1"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    env = os.environ | {"DASK_CONFIG": str(CONFIG), "DASK_SCHEDULER_ADDRESS": address}  # as the operator
    with ExitStack() as up:
        up.enter_context(running([*parts["scheduler"]["args"], "--host", "127.0.0.1", "--port", port], env))
        for name in ("w0", "w1"):
            words = [word.replace("$(DASK_WORKER_NAME)", name) for word in parts["worker"]["args"]]
            up.enter_context(running([*words, "--local-directory", str(tmp_path / "scratch")], env))
        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            assert set(client.nthreads().values()) == {1}
            kept = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_ARENA_MAX")
            found = client.run(lambda: tuple(map(os.environ.get, kept))).values()
            assert set(found) == {(str(1 << 40), "0", "1")}
            pause = "distributed.worker.memory.pause"
            assert set(client.run(dask.config.get, pause).values()) == {False}
            assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures) == 1
            limits = client.run(lambda dask_worker: dask_worker.memory_manager.memory_limit).values()
            assert min(limits) > 0.9 * MEMORY_LIMIT  # and no core's share
        words = [word.replace("/data", str(tmp_path)).replace(service, address) for word in command[1:]]
        petbone = [sys.executable, "-c", "from petbone.cli import main; main()"]
        done = subprocess.run([*petbone, *words], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert {row["case"] for row in rows(tmp_path / "cohort/bones.csv")} == {"a", "b"}


def test_workers_here_and_on_a_cluster_keep_their_memory_alike():
    settings = dict(leaves(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))))
    of_glibc = {name.rpartition(".")[2]: str(value) for name, value in settings.items() if "MALLOC_" in name}
    with local_workers(1, None) as client:
        (environ,) = client.run(lambda: dict(os.environ)).values()
    assert {name: value for name, value in environ.items() if name.startswith("MALLOC_")} == of_glibc
    assert len(of_glibc) == 3


@pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed")
def test_the_job_that_slurm_is_given(tmp_path):
    words = [sys.executable, CLUSTER / "slurm.py", "patients.csv", "-o", "cohort", "--cpus", "3", "--print"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "#SBATCH --cpus-per-task=3" in said
    assert "--nthreads 1 " in said
    assert f"export DASK_CONFIG={CONFIG}" in said
