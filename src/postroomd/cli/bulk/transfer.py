"""`postroom mailboxes import` and `export`: mailboxes as CSV."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from postroomd.cli.bulk.faults import Fault, code_of_failures, number_of
from postroomd.cli.bulk.progress import progress_bar
from postroomd.cli.connection import tenant_service
from postroomd.cli.database import with_repository
from postroomd.cli.errors import CommandFailed
from postroomd.cli.exit_codes import ExitCode
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows
from postroomd.cli.resolve import domain_name
from postroomd.replaced_file import replaced_file
from postroomd.settings import InvalidSetting, Settings

COLUMNS = ("domain", "local_part", "period", "aliases", "forwardings")
MAX_FAULTS = 1_000  # printed


@with_settings("tenant client")
def import_mailboxes(
    *,
    settings: Settings,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV with the columns domain, local_part, password or password_hash, and perhaps period, aliases and"
            " forwardings, these separated by spaces.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the file against the service, and list every fault.")
    ] = False,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Create the mailboxes of a CSV file, with their aliases and forwardings.

    A file with a fault is not imported at all. Mailboxes that exist keep their password and get the aliases and
    forwardings that they lack, so that the same command resumes an interrupted import, and changes nothing the second
    time.
    """
    from postroomd.cli.bulk.csv_file import read_rows
    from postroomd.cli.bulk.importing import carry_out, compare
    from postroomd.cli.bulk.state import read_state

    rows, faults = read_rows(file)
    with tenant_service(settings, idempotency_keys=False) as service:
        names = {row.address.domain_name for row in rows}
        # Aliases also without any in the file: an address of the file may be one.
        state = read_state(service, names, aliases=True, forwardings=any(row.forwardings for row in rows))
        work = compare(rows, state)
        _refuse(sorted(faults + work.faults, key=lambda fault: fault.line), file, output)
        missing = list(work.missing)
        counts = {
            "mailboxes": len(work.new),
            "aliases": sum(len(row.aliases) for row in work.new) + sum(len(item[2]) for item in missing),
            "forwardings": sum(len(row.forwardings) for row in work.new) + sum(len(item[3]) for item in missing),
            "existing": len(work.existing),
        }
        if dry_run:
            print_rows([counts], list(counts), output)
            return
        try:
            with progress_bar("importing", len(rows)) as progress:
                failed = carry_out(service, work, state, progress)
        except KeyboardInterrupt:
            message = "interrupted: run the same command again to resume"
            raise CommandFailed(message, ExitCode.INTERRUPTED) from None
    _refuse(failed, file, output, code_of_failures(fault.code for fault in failed))
    print_rows([counts], list(counts), output)


@with_settings("export")
def export_mailboxes(
    *,
    settings: Settings,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="Only the mailboxes of this domain.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="PATH", help="File to write, for its owner only; else stdout.")
    ] = None,
    with_hashes: Annotated[
        bool,
        typer.Option("--with-hashes", help="Add the password hashes, from the database: the file is then a secret."),
    ] = False,
) -> None:
    """Write mailboxes with their aliases and forwardings as CSV; with --with-hashes, in the form that `import` reads.

    Mailboxes that are scheduled for deletion are left out. Cells that a spreadsheet would run as formulas are escaped.
    """
    from postroomd.cli.bulk.importing import UNUSABLE
    from postroomd.cli.bulk.state import read_state

    names = None if domain is None else [domain_name("--domain", domain)]
    with tenant_service(settings) as service:
        state = read_state(service, names, aliases=True, forwardings=True)
    if names and not state:
        raise CommandFailed(f"--domain: {names[0]} not found")
    found = [
        (name, mailbox)
        for name, present in state.items()
        for mailbox in present.mailboxes.values()
        if mailbox.row["status"] not in UNUSABLE
    ]
    hashes: Mapping[str, str] = {}
    if with_hashes:
        ids = [mailbox.row["id"] for _, mailbox in found]
        hashes = with_repository(settings, lambda repository: repository.administration.password_hashes(ids))
    rows = []
    for name, mailbox in found:
        following = mailbox.row["next_subscription_period"]
        row = {
            "domain": name,
            "local_part": mailbox.local_part,
            "period": following if following in {"monthly", "yearly"} else mailbox.row["subscription_period"],
            "aliases": " ".join(local_part or "@" for local_part in sorted(mailbox.aliases)),
            "forwardings": " ".join(sorted(mailbox.forwardings)),
        }
        rows.append(row | ({"password_hash": hashes.get(mailbox.row["id"], "")} if with_hashes else {}))
    _write(rows, [*COLUMNS, *(["password_hash"] if with_hashes else [])], file)


def _write(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], file: Path | None) -> None:
    from postroomd.cli.csv_cells import escape_formula

    def write(stream: Any) -> None:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([escape_formula(str(row[column])) for column in columns] for row in rows)

    if file is None:
        write(sys.stdout)
        return
    try:
        if file.exists() and not file.is_file():  # such as a pipe
            with file.open("w", encoding="utf-8", newline="") as stream:
                write(stream)
        else:
            with replaced_file(file.resolve(), newline="") as replaced:
                write(replaced)
    except OSError as error:
        raise InvalidSetting(f"--file: can't write {file}: {error.strerror}") from error
    typer.echo(f"{len(rows)} mailboxes are written to {file}", err=True)


def _refuse(faults: Sequence[Fault], file: Path, output: ListFormat, code: ExitCode = ExitCode.USAGE) -> None:
    """Print the faults, on stdout for a program and otherwise on stderr, and raise CommandFailed if there are any."""
    if not faults:
        return
    shown = faults[:MAX_FAULTS]
    if output is ListFormat.TABLE:
        for fault in shown:
            typer.echo(f"{file}:{fault}", err=True)
    else:
        rows = [{"line": fault.line, "column": fault.field, "message": fault.message} for fault in shown]
        print_rows(rows, ("line", "column", "message"), output)
    more = f", of which {MAX_FAULTS} are listed" if len(faults) > MAX_FAULTS else ""
    outcome = "nothing was imported" if code is ExitCode.USAGE else "the other rows were imported"
    remedy = "use a key with the permission" if code is ExitCode.DENIED else "correct the file"
    remedy = "the same command goes on" if code is ExitCode.UNAVAILABLE else f"{remedy} and run the command again"
    raise CommandFailed(f"FILE: {number_of(faults)}{more}: {outcome}; {remedy}", code)
