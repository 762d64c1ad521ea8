"""`postroom plan` and `apply`: the desired state of a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postroomd.cli.bulk.faults import Fault, code_of_failures, number_of
from postroomd.cli.bulk.progress import progress_bar
from postroomd.cli.confirmation import Yes, confirm
from postroomd.cli.connection import tenant_service
from postroomd.cli.errors import CommandFailed
from postroomd.cli.exit_codes import ExitCode
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_error, print_rows
from postroomd.settings import InvalidSetting, Settings

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
    from postroomd.cli.bulk.diff import Change, Plan
    from postroomd.cli.bulk.document import WantedDomain
    from postroomd.cli.bulk.state import PresentDomain

COLUMNS = ("action", "kind", "name", "mailbox", "changes")

DesiredState = Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of the desired state: see docs/cli.md.")]
Prune = Annotated[bool, typer.Option("--prune", help="Delete what the file does not have.")]


@with_settings("tenant client")
def plan(
    *, settings: Settings, file: DesiredState, prune: Prune = False, output: ListOutput = ListFormat.TABLE
) -> None:
    """Print what `apply` would change. The exit code is 3 if there is a difference, 0 if there is none."""
    wanted = _read(file)
    with tenant_service(settings) as service:
        found, _ = _plan(service, wanted, file, prune=prune)
    _print(found, output)
    if found.changes:
        raise typer.Exit(ExitCode.DIFFERENCE)


@with_settings("tenant client")
def apply(
    *,
    settings: Settings,
    file: DesiredState,
    prune: Prune = False,
    max_deletions: Annotated[
        int, typer.Option("--max-deletions", metavar="N", min=0, help="Change nothing if more would be deleted.")
    ] = 10,
    yes: Yes = False,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Make domains, mailboxes, aliases and forwardings what a file says.

    Nothing is deleted without --prune. Passwords are set at the creation only. Applied again, the file changes nothing.
    """
    from postroomd.cli.bulk.applying import Applier

    wanted = _read(file)
    with tenant_service(settings, idempotency_keys=False) as service:
        found, domain_ids = _plan(service, wanted, file, prune=prune)
        if found.deletions > max_deletions:
            raise CommandFailed(
                f"--max-deletions: {found.deletions} resources would be deleted, and {max_deletions} may be: nothing"
                " was changed; see `postroom plan --prune`"
            )
        if found.deletions and not yes:
            for change in found.changes:
                if change.step.action == "delete":
                    typer.echo(str(change), err=True)
            confirm(f"{found.deletions} resources are deleted.", yes=yes)
        try:
            with progress_bar("applying", len(found.changes)) as progress:
                failures = Applier(service, domain_ids, progress).apply(found.changes)
        except KeyboardInterrupt:
            message = "interrupted: run the same command again to go on"
            raise CommandFailed(message, ExitCode.INTERRUPTED) from None
    failed = {id(change) for change, *_ in failures}
    found.changes = [change for change in found.changes if id(change) not in failed]
    _print(found, output)
    if failures:
        for change, reason, _ in failures:
            print_error(f"{change}: {reason}")
        outcome = "the others are made" if found.changes else "nothing was changed"
        message = f"{len(failures)} of {len(failures) + len(found.changes)} changes failed: {outcome}"
        raise CommandFailed(message, code_of_failures(code for *_, code in failures))


def _read(file: Path) -> "Mapping[str, WantedDomain]":
    """Return the domains of the file. Raises InvalidSetting after printing its faults."""
    from postroomd.cli.bulk.document import read_document

    wanted, faults = read_document(file)
    _refuse(faults, file)
    return wanted


def _plan(
    service: "MailboxServiceStub", wanted: "Mapping[str, WantedDomain]", file: Path, *, prune: bool
) -> "tuple[Plan, dict[str, str]]":
    """Return the plan, and the ids of the present domains by name. Raises InvalidSetting after printing its faults."""
    from postroomd.cli.bulk.diff import Step, make_plan
    from postroomd.cli.bulk.state import read_state

    mailboxes = [each for domain in wanted.values() for each in (domain.mailboxes or {}).values()]
    present = read_state(
        service,
        None if prune else wanted,
        aliases=True,
        forwardings=any(each.forwardings is not None for each in mailboxes),
    )
    _read_forwarding_settings(service, wanted, present)
    found = make_plan(wanted, present, prune=prune)
    for change in found.changes:
        if change.step is Step.CREATE_MAILBOX and change.wanted is not None:
            found.faults += [Fault(change.wanted.line, *fault) for fault in _faults_of_password(change)]
    _refuse(found.faults, file)
    return found, {name: domain.row["id"] for name, domain in present.items()}


def _faults_of_password(change: "Change") -> list[tuple[str, str]]:
    """Return the faults of a new mailbox's password: it is read now, so that they are found before any change."""
    from postroomd.cli.passwords import read_secret
    from postroomd.domain.errors import InvalidArguments
    from postroomd.domain.validation import check_password_differs, checking

    wanted = change.wanted
    if wanted is None or wanted.password_file is None:
        return []
    try:
        password = read_secret("password_file", wanted.password_file)
        with checking() as check:
            check_password_differs(check, "password_file", check.password("password_file", password), wanted.address)
    except InvalidSetting as error:
        return [("", str(error))]
    except InvalidArguments as error:
        return [(violation.field, violation.help_message) for violation in error.violations]
    return []


def _read_forwarding_settings(
    service: "MailboxServiceStub", wanted: "Mapping[str, WantedDomain]", present: "Mapping[str, PresentDomain]"
) -> None:
    """Read the settings of forwardings of the mailboxes for which the file has them: there is no list of them."""
    from concurrent.futures import ThreadPoolExecutor

    from postroom.v1alpha1.forwarding_pb2 import GetMailboxForwardingRequest
    from postroomd.cli.bulk.state import PresentMailbox

    def read(mailbox: PresentMailbox) -> None:
        found = service.GetMailboxForwarding(GetMailboxForwardingRequest(mailbox_id=mailbox.row["id"]))
        mailbox.forwarding_settings = {"keep_copy": found.keep_copy, "enabled": found.enabled}

    compared = [
        present[name].mailboxes[local_part]
        for name, domain in wanted.items()
        if name in present
        for local_part, mailbox in (domain.mailboxes or {}).items()
        if mailbox.forwarding_settings and local_part in present[name].mailboxes
    ]
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(read, compared))


def _refuse(faults: Sequence[Fault], file: Path) -> None:
    if faults:
        for fault in faults:
            typer.echo(f"{file}:{fault}", err=True)
        raise InvalidSetting(f"FILE: {number_of(faults)}: nothing was changed")


def _print(found: "Plan", output: ListFormat) -> None:
    if output is not ListFormat.TABLE:
        print_rows([change.to_row() for change in found.changes], COLUMNS, output)
        return
    for change in found.changes:
        typer.echo(str(change))
    counts = dict.fromkeys(("create", "update", "restore", "delete"), 0)
    for change in found.changes:
        counts[change.step.action] += 1
    typer.echo(", ".join(f"{count} {action}" for action, count in counts.items()))
    if found.kept:
        typer.echo(f"{found.kept} more are not in the file and are kept: --prune deletes them", err=True)
