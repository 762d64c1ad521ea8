"""What can go wrong with an installation: each problem, what doctor says of it, and the repair that it names."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from tests.operate.day import DOMAINS, Day
from tests.operate.installation import COMMAND_SECONDS
from tests.operate.machine import HOST, UNITS
from tests.support.waiting import block_until

ATTENTION = 3
FAULT = 1


@dataclass(frozen=True)
class Problem:
    """A problem that exists during a block, which yields further variables for doctor."""

    check: str
    code: int
    inject: Callable[[Day], AbstractContextManager[dict[str, str]]]


@contextmanager
def stopped(unit: str, day: Day) -> Iterator[dict[str, str]]:
    """A process does not run."""
    day.machine.stop(unit)
    yield {}
    day.machine.start(unit)


@contextmanager
def certificate(valid_for: timedelta, day: Day) -> Iterator[dict[str, str]]:
    """The certificate is not renewed in time."""
    day.machine.authority.issue("server", HOST, not_after=datetime.now(UTC) + valid_for)
    yield {}
    day.machine.authority.issue("server", HOST)


@contextmanager
def lost_record(day: Day) -> Iterator[dict[str, str]]:
    """The MX record of a ready domain is deleted."""
    name = DOMAINS[1]
    zone = day.machine.postroom("domains", "show", name, "--zone")
    day.names.publish(name, "".join(line for line in zone.splitlines(keepends=True) if " IN MX " not in line))
    day.machine.postroom("domains", "validate", name)  # of a ready domain: the worker looks it up soon afterwards
    block_until(lambda: _status(day, name, "mx") != "valid", COMMAND_SECONDS)
    yield {}
    day.names.publish(name, zone)
    day.machine.succeed_at_last("domains", "validate", name)


def _status(day: Day, domain: str, record: str) -> str:
    """Return the status of a domain's record, as the worker has found it."""
    shown = day.machine.rows("domains", "show", domain)
    return next(str(each["status"]) for each in shown["records"] if each["record"] == record)


@contextmanager
def unreachable_database(day: Day) -> Iterator[dict[str, str]]:
    """The database can't be opened with the settings."""
    yield {"POSTROOM_DATABASE_URL": day.engine.unreachable(day.machine)}


PROBLEMS = {
    "no service": Problem("service", FAULT, partial(stopped, UNITS[0])),
    "no gateway": Problem("gateway", FAULT, partial(stopped, UNITS[2])),
    "a certificate that expires soon": Problem("https certificate", ATTENTION, partial(certificate, timedelta(days=5))),
    "an expired certificate": Problem("grpc certificate", FAULT, partial(certificate, -timedelta(hours=1))),
    "a lost record": Problem(f"dns of {DOMAINS[1]}", ATTENTION, lost_record),
    "an unreachable database": Problem("database", FAULT, unreachable_database),
}
