"""What the operator's customers were promised: every acknowledged mailbox, with all that belongs to it."""

import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.operate.machine import Machine


def password_hash(address: str) -> str:
    """Return a hash of its own for each address, as another mail system exports it."""
    return "{SHA512-CRYPT}$6$saltsalt$" + hashlib.sha256(address.encode()).hexdigest()[:43] * 2


@dataclass(frozen=True)
class Promised:
    """A mailbox as `mailboxes import` reads it, and `mailboxes export` writes it."""

    domain: str
    local_part: str
    period: str = "monthly"
    aliases: tuple[str, ...] = ()
    forwardings: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return f"{self.local_part}@{self.domain}"

    @property
    def row(self) -> dict[str, str]:
        """The row of a CSV file."""
        return {
            "domain": self.domain,
            "local_part": self.local_part,
            "password_hash": password_hash(self.address),
            "period": self.period,
            "aliases": " ".join(self.aliases),
            "forwardings": " ".join(self.forwardings),
        }


def to_csv(promised: Iterable[Promised]) -> str:
    """Return the file of an import."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Promised("", "").row))
    writer.writeheader()
    writer.writerows(each.row for each in promised)
    return text.getvalue()


@dataclass
class Ledger:
    """The acknowledged mailboxes by address, and the names of the domains."""

    mailboxes: dict[str, Promised] = field(default_factory=dict)
    domains: set[str] = field(default_factory=set)

    def add(self, *promised: Promised) -> None:
        """Record acknowledged mailboxes."""
        self.mailboxes |= {each.address: each for each in promised}

    def copy(self) -> "Ledger":
        """Return the ledger of this moment."""
        return Ledger(dict(self.mailboxes), set(self.domains))

    def check(self, machine: Machine, written_since: "Ledger | None" = None) -> None:
        """Compare with what a machine has: all of this, and nothing else, but for writes of a later ledger."""
        exported = csv.DictReader(io.StringIO(machine.postroom("mailboxes", "export", "--with-hashes")))
        found = {f"{row['local_part']}@{row['domain']}": _comparable(row) for row in exported}
        expected = {address: _comparable(each.row) for address, each in self.mailboxes.items()}
        missing = {address for address in expected if found.get(address) != expected[address]}
        assert not missing, f"{len(missing)} acknowledged mailboxes are not there: {sorted(missing)[:5]}"
        allowed = expected.keys() | (written_since.mailboxes.keys() if written_since else set())
        assert found.keys() <= allowed, f"never acknowledged: {sorted(found.keys() - allowed)[:5]}"
        names = {domain["name"] for domain in machine.rows("domains", "list")}
        assert self.domains <= names, f"domains are not there: {sorted(self.domains - names)[:5]}"


def _comparable(row: dict[str, str]) -> dict[str, object]:
    return {name: sorted(value.split()) if name in {"aliases", "forwardings"} else value for name, value in row.items()}
