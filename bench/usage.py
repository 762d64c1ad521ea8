"""What processes use of the machine, by /proc."""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # a second
KIB = 1024
MEGABYTE = 1_000_000


def resident_mb(pid: int) -> float:
    """The resident memory of a process, in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * KIB / MEGABYTE
    raise ValueError(f"process {pid} has no memory")


def processor_seconds(pid: int) -> float:
    """The processor time of a process and of its children, those that have ended included, in seconds."""
    own = _processor_seconds(pid)
    return own + sum(map(_processor_seconds, _children(pid)))


def _processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has ended meanwhile
    return sum(map(int, fields[11:15])) / TICKS  # utime, stime, cutime, cstime


def _children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        yield from map(int, path.read_text().split())
