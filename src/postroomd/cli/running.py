"""The command that this process runs: its name, which the audit log has, and how its arguments are written.

A process runs one command at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Running:
    """A command, such as `keys create`, and its parameters by name as they are written: `--name`, `DOMAIN`."""

    command: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


_running = [Running()]


def begin(command: str, parameters: Mapping[str, str]) -> None:
    """Note the command that runs from now on."""
    _running[0] = Running(command, parameters)


def running_command() -> str:
    """Return the command that runs; "" before the first one."""
    return _running[0].command


def running_parameters() -> Mapping[str, str]:
    """Return the parameters of the command that runs, by name as they are written."""
    return _running[0].parameters
