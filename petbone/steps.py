"""The clock of a case: seconds and peak memory of each step, and its progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Steps:
    """Records every step in `records`; calls `on_progress(step, fraction)` as the work goes on."""

    def __init__(self, on_progress: Callable[[str, float], None] | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self._on_progress = on_progress
        self.current = ""  # the step that is going on, or that was the last

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the body of a ``with`` as the step `name`."""
        self.current = name
        self.progress(0.0)
        started = time.perf_counter()
        yield
        self.records.append(
            {
                "name": name,
                "seconds": round(time.perf_counter() - started, 3),
                "peak_memory_mb": round(peak_memory_mb()),
            }
        )
        self.progress(1.0)

    def progress(self, fraction: float) -> None:
        """Tell how far the current step is, 0 to 1."""
        if self._on_progress is not None:
            self._on_progress(self.current, fraction)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far; 0 where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return 0.0
    import resource  # does not exist on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def available_memory_gb() -> float | None:
    """Memory that this machine, or the container or job that this is in, can still give.

    None where the system does not tell (other than Linux).
    """
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    free = int(lines["MemAvailable"].split()[0]) * 1024
    return min([free, *cgroup_free_bytes()]) / 1e9


def cgroup_free_bytes(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """What each limit on this process's control groups leaves, files that are only cached left out.

    Version 2 and 1 of the kernel's interface; containers, Slurm and Kubernetes limit by these.
    """
    found = []
    for line in own.read_text().splitlines() if own.exists() else ():
        _, kinds, place = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        ground = root / kinds
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit, usage, cached = names if kinds else ("memory.max", "memory.current", "inactive_file")
        group = ground / place.strip("/")
        for level in (group, *group.parents):
            try:
                most, now = (int((level / name).read_text()) for name in (limit, usage))
                stat = dict(line.split() for line in (level / "memory.stat").read_text().splitlines())
                found.append(max(most - now + int(stat.get(cached, 0)), 0))
            except (OSError, ValueError):  # no limit ("max"), or no such file
                pass
            if level == ground:
                break
    return found
