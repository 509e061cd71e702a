"""Seconds and memory of `petbone segment` on a CT of 512 x 512 x 458, beside TotalSegmentator's fast modes.

python benchmarks/segmentation_speed.py FOLDER [--peer-python PATH]

Makes a phantom patient in FOLDER the first time. PATH is the python of an environment with TotalSegmentator
(`pip install TotalSegmentator`); without it only petbone is measured. TotalSegmentator runs as its users run
it, but with random weights (segmentation_speed_peer.py), so that its answer means nothing and its seconds and
memory are those of the real one.

Every command runs in a process of its own, one after the other. Wall seconds need an idle machine (see the
load); processor seconds (user and system, children included) stand being disturbed better. Memory is the
largest sum over the command's processes, sampled ten times a second, shared pages counted once.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PARTS = """
import os, sys, time
from pathlib import Path
start = time.perf_counter(), sum(os.times()[:2])
from petbone.io import read_ct, write_nifti
from petbone.net.segment import Segmenter
imported = time.perf_counter(), sum(os.times()[:2])
scan = read_ct(Path(sys.argv[1]))
read = time.perf_counter(), sum(os.times()[:2])
bones = Segmenter.load().segment(scan.volume).bones
found = time.perf_counter(), sum(os.times()[:2])
write_nifti(bones, Path(sys.argv[2]))
written = time.perf_counter(), sum(os.times()[:2])
for name, (a, b) in {
    "import": (start, imported), "read": (imported, read), "bones": (read, found), "write": (found, written)
}.items():
    print(f"  of these {name}: {b[0] - a[0]:.1f} s, {b[1] - a[1]:.1f} processor s")
"""


@dataclass(frozen=True)
class Cost:
    wall_s: float
    processor_s: float
    gigabytes: float
    output: str


def _descendants(root: int) -> list[int]:
    """`root` and the processes that it started, and that these started."""
    found = [root]
    for pid in found:
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found.extend(map(int, (thread / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _memory_gb(pid: int) -> float:
    """Proportional set size: a page shared by n processes counts 1 / n in each."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e6


def cost(command: list[str], **environment: str) -> Cost:
    """Run a command to its end. Raises CalledProcessError, with what it said, if it fails."""
    before, started = os.times(), time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = [0.0]

    def watch() -> None:
        while process.poll() is None:
            peak.append(sum(map(_memory_gb, _descendants(process.pid))))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    wall_s = time.perf_counter() - started
    watcher.join()
    after = os.times()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    processor_s = after.children_user - before.children_user + after.children_system - before.children_system
    return Cost(wall_s, processor_s, max(peak), output)


def show(name: str, seen: Cost) -> None:
    load = os.getloadavg()[0]
    print(
        f"{name}: {seen.wall_s:.1f} s, {seen.processor_s:.1f} processor s, {seen.gigabytes:.2f} GB "
        f"(load {load:.1f} on {os.cpu_count()} cores)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the phantom patient and the answers")
    parser.add_argument("--peer-python", type=Path, help="python of an environment with TotalSegmentator")
    parser.add_argument("--modes", nargs="*", default=["fastest", "fast"], choices=["fastest", "fast"])
    options = parser.parse_args()
    folder = options.folder
    ct, answer = folder / "ct.nii.gz", folder / "answer.nii.gz"
    petbone = [sys.executable, "-c", "from petbone.cli import main; main()"]
    if not ct.exists():
        cost([*petbone, "phantom", "--size", "large", "-o", str(folder), "--overwrite"])

    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    show("petbone segment", cost([*petbone, "segment", str(ct), "-o", str(answer), "--overwrite", "--quiet"]))
    again = cost([sys.executable, "-c", PARTS, str(ct), str(folder / "again.nii.gz")])
    show("the same once more, part by part", again)
    print(again.output, end="")
    if options.peer_python is None:
        return

    home = folder / "totalsegmentator"
    tool = options.peer_python.parent / "TotalSegmentator"
    for mode in options.modes:
        script = Path(__file__).with_name("segmentation_speed_peer.py")
        print(cost([str(options.peer_python), str(script), str(home), mode]).output, end="")
        words = ["-i", str(ct), "-o", str(folder / f"{mode}.nii.gz"), "--ml", f"--{mode}", "-d", "cpu"]
        show(f"TotalSegmentator --{mode}", cost([str(tool), *words], TOTALSEG_HOME_DIR=str(home.absolute())))


if __name__ == "__main__":
    main()
