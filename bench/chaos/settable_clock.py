"""A Postroom process whose system clock is off by what a file says: `python -m bench.chaos.settable_clock worker FILE`.

Setting the machine's own clock would need privileges, and disturb everything else on it.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from postroomd.clock import LATEST, Clock
from postroomd.runtime.processes import run_process
from postroomd.settings import load_settings


class SettableClock(Clock):
    """The system's clock, off by a number of seconds in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def system_time(self) -> datetime:
        """Return the time."""
        return min(super().system_time() + timedelta(seconds=float(self._file.read_text())), LATEST)


def set_clock(file: Path, off: timedelta) -> None:
    """Set by how much the clock is off, at once."""
    new = file.with_suffix(".new")
    new.write_text(str(off.total_seconds()))
    new.replace(file)


if __name__ == "__main__":
    run_process(sys.argv[1], load_settings({}), SettableClock(Path(sys.argv[2])))
