"""What a database path leads to, if not to a file: opening a FIFO would wait forever, and a device holds nothing."""

import stat
from collections.abc import Callable, Sequence
from pathlib import Path

_KINDS: Sequence[tuple[Callable[[int], bool], str]] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_fault(path: Path) -> str | None:
    """Return why a path can't be a database, or None for a file, one that can't be examined, and one without a file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    return kind and f"it is {kind}, where a database file is expected: correct the path"
