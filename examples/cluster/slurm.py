"""A cohort done by Slurm: jobs of one worker each, begun and ended by dask-jobqueue.

    pip install dask-jobqueue
    python examples/cluster/slurm.py patients.csv -o cohort --jobs 20 --partition cpu --print
    python examples/cluster/slurm.py patients.csv -o cohort --jobs 20 --partition cpu --interface ib0

Run it where jobs can be submitted; it stays until the cohort is done, perhaps in a small job of its own.
The scheduler lives in this process. `--print` shows the script of a job and submits nothing. Table, images
and the folder of results must have the same paths on every node. Options that are not listed below go to
petbone cohort. Run again, it continues.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import dask
from dask_jobqueue import SLURMCluster

CONFIG = Path(__file__).resolve().with_name("dask.yaml")


def jobs_of(options: argparse.Namespace) -> SLURMCluster:
    """Workers with one thread for dask, and with all cores of their job for the case that they do."""
    dask.config.set({"distributed.scheduler.allowed-failures": 1})  # as dask.yaml says; it is for the jobs
    where = {"interface": options.interface} if options.interface else {}
    return SLURMCluster(
        queue=options.partition,
        account=options.account,
        walltime=options.walltime,
        cores=1,  # threads of dask
        processes=1,
        job_cpu=options.cpus,
        memory=options.memory,
        log_directory=options.logs,
        local_directory="/tmp",
        worker_extra_args=["--no-dashboard"],
        job_script_prologue=[f"export DASK_CONFIG={CONFIG}"],
        scheduler_options={"dashboard_address": "127.0.0.1:0"} | where,
        **where,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--cpus", type=int, default=4, help="cores of a job")
    parser.add_argument("--memory", default="8GB", help="of a job")
    parser.add_argument("--walltime", default="08:00:00")
    parser.add_argument("--partition")
    parser.add_argument("--account")
    parser.add_argument("--interface", help="network by which nodes reach each other, as ib0")
    parser.add_argument("--logs", default="slurm-logs")
    parser.add_argument("--print", action="store_true", dest="only_print")
    options, more = parser.parse_known_args()
    with jobs_of(options) as jobs:
        if options.only_print:
            print(jobs.job_script())
            return 0
        jobs.scale(jobs=options.jobs)
        jobs.wait_for_workers(1)
        petbone = [sys.executable, "-c", "from petbone.cli import main; main()"]
        words = ["cohort", options.table, "-o", options.output, "--scheduler", jobs.scheduler_address]
        return subprocess.run([*petbone, *words, "--threads", str(options.cpus), *more]).returncode


if __name__ == "__main__":
    sys.exit(main())
