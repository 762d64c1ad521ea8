"""`postroom clock`: the state of the clocks, and the acceptance of one that has leapt."""

from datetime import datetime
from typing import Any

import typer

from postroomd.cli.database import with_repository
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows
from postroomd.clock import Clock
from postroomd.domain.clock_leaps import find_database_leap, find_leap, reference_at_start
from postroomd.settings import Settings

THIS_MACHINE = "this machine"
COLUMNS = ("clock", "state", "time", "trusted_at")

clock_commands = typer.Typer(
    name="clock",
    help="Leaps of the system's clock, on which workers pause.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@clock_commands.command("status")
@with_settings("clock status")
def show_status(*, settings: Settings, output: ListOutput = ListFormat.TABLE) -> None:
    """Show whether this machine's clock is trusted, and those of the workers.

    There is one line per boot of a machine on which workers have run in the last 30 days: the time of its clock at the
    last heartbeat, and the latest time that was trusted. The exit code is 1 if this machine's clock or that of a worker
    has leapt.
    """
    records = with_repository(settings, lambda repository: repository.clocks.read())
    reading, limits = Clock().read(), settings.leap_limits()
    reference = reference_at_start(reading, records.heartbeats, records.acceptance)
    leap = find_leap(reading, reference, limits)
    if leap is None and records.database_time:
        leap = find_database_leap(reading, reference, records.database_time, records.acceptance, limits)
    rows = [_row(THIS_MACHINE, reading.time, reference.latest, leapt=leap is not None)]
    rows += [
        _row(each.time_scale, each.leapt_to or each.trusted_at, each.trusted_at, leapt=each.leapt_to is not None)
        for each in records.heartbeats
    ]
    print_rows(rows, COLUMNS, output)
    if any(row["state"] == "leapt" for row in rows):
        raise typer.Exit(1)


@clock_commands.command("accept")
@with_settings("clock accept")
def accept(*, settings: Settings) -> None:
    """Accept this machine's clock as right: workers that pause because it has leapt continue.

    Check the time that the command prints. What is due by then is done: renewals, purges and releases.
    """
    accepted = with_repository(settings, lambda repository: repository.clocks.accept(Clock().system_time()))
    typer.echo(f"Accepted: the time is {accepted.accepted_at:%Y-%m-%d %H:%M:%S}Z. Running workers continue at once.")


def _row(clock: str, time: datetime, trusted_at: datetime | None, *, leapt: bool) -> dict[str, Any]:
    return {"clock": clock, "state": "leapt" if leapt else "trusted", "time": time, "trusted_at": trusted_at}
