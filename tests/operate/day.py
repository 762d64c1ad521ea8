"""The state of an operator's day, which its steps share."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.operate.engines import Engine
from tests.operate.ledger import Ledger
from tests.operate.machine import Machine
from tests.operate.names import Names

DOMAINS = ("example.org", "example.net")


@dataclass
class Day:
    """The machine, the engine, the names, and what customers were promised so far."""

    engine: Engine
    machine: Machine
    names: Names
    directory: Path
    ledger: Ledger = field(default_factory=Ledger)
    at_backup: Ledger = field(default_factory=Ledger)

    def new_machine(self, name: str, url: str) -> Machine:
        """Return another machine with the same installation, on another database."""
        return Machine(self.directory / name, self.machine.installation, url, self.names.settings)
