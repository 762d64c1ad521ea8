"""Memory and CPU time of processes, from /proc."""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KIB = 1024
MEGABYTE = 1_000_000


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in megabytes. Raises ValueError for a zombie."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * KIB / MEGABYTE
    raise ValueError(f"process {pid} has no memory")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children, including children that have ended, in seconds."""
    return _cpu_seconds(pid) + sum(map(_cpu_seconds, _children(pid)))


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # the process has ended
    return sum(map(int, fields[11:15])) / TICKS_PER_SECOND  # utime, stime, cutime, cstime


def _children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        yield from map(int, path.read_text().split())
