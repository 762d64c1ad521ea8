"""`postroom mailboxes`: the mailboxes of a tenant, by the service."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from postroomd.cli.connection import tenant_service
from postroomd.cli.messages import enum_number, list_rows, pages, to_row, to_rows
from postroomd.cli.operator_mailboxes import (
    Mailbox,
    lock_mailbox,
    search_organizations,
    show_as_operator,
    unlock_mailbox,
)
from postroomd.cli.options import AllOrganizations, Etag, Limit, OrganizationId, ProjectId, with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_row, print_rows
from postroomd.cli.passwords import PasswordFile, read_password, read_secret
from postroomd.cli.resolve import PAGE_SIZE, domain_id, find_domain, mailbox_id, parse_address
from postroomd.domain.model import MailboxStatus, SubscriptionPeriod
from postroomd.settings import InvalidSetting, Settings

COLUMNS = ("id", "email", "status", "subscription_period", "next_subscription_period", "deletion_scheduled_at")
NOT_SET = "unknown_subscription_period"
FOUND_COLUMNS = ("id", "email", "organization_id", "project_id", "status", "lock_reason")

mailboxes = typer.Typer(name="mailboxes", help="Mailboxes.", no_args_is_help=True, rich_markup_mode=None)


class FirstPeriod(StrEnum):
    """The first period of a new mailbox."""

    MONTHLY = "monthly"
    YEARLY = "yearly"


@mailboxes.command("list")
@with_settings("tenant client")
def list_mailboxes(
    *,
    settings: Settings,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="DOMAIN", help="Only mailboxes of this domain: a name or an id.")
    ] = None,
    status: Annotated[
        list[MailboxStatus] | None, typer.Option("--status", help="Only mailboxes in this status.")
    ] = None,
    project_id: ProjectId = "",
    limit: Limit = 0,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List mailboxes by address."""
    _list(settings, domain, "", status or (), project_id, limit, output)


@mailboxes.command("search")
@with_settings("client")
def search_mailboxes(
    *,
    settings: Settings,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="A part of the address or the display name, in any case.")
    ],
    all_organizations: AllOrganizations = False,
    organization_id: OrganizationId = "",
    limit: Limit = 0,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List the mailboxes whose address or display name contains a text.

    With --all-organizations or --organization-id, it searches as the operator, by the admin service; `postroom history`
    finds mailboxes that are purged.
    """
    if not all_organizations and not organization_id:
        _list(settings, None, text, (), "", limit, output)
        return
    rows = search_organizations(settings, text, organization_id, limit)
    print_rows(rows, FOUND_COLUMNS, output)


@mailboxes.command("show")
@with_settings("client")
def show_mailbox(
    *,
    settings: Settings,
    mailbox: Mailbox,
    as_operator: Annotated[
        bool,
        typer.Option("--as-operator", help="Show a mailbox of any tenant by its id, and what remains of a purged one."),
    ] = False,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Show a mailbox with its aliases and forwardings.

    With --as-operator, the admin service shows its lock, payment and provision instead.
    """
    if as_operator:
        print_row(show_as_operator(settings, mailbox), output)
        return
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import alias_pb2, forwarding_pb2, mailbox_pb2

        found = service.GetMailbox(mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id(service, mailbox)))
        aliases = pages(service.ListAliases, alias_pb2.ListAliasesRequest(mailbox_id=found.id), "aliases", 100)
        request = forwarding_pb2.ListForwardingsRequest(mailbox_id=found.id)
        forwardings = pages(service.ListForwardings, request, "forwardings", 100)
        row = to_row(found) | {
            "aliases": [alias.email for alias in aliases],
            "forwardings": [forwarding.email for forwarding in forwardings],
        }
    print_row(row, output)


@mailboxes.command("create")
@with_settings("tenant client")
def create_mailbox(
    *,
    settings: Settings,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the mailbox, in one of your domains.")],
    password_file: PasswordFile = None,
    password_hash_file: Annotated[
        Path | None,
        typer.Option(
            "--password-hash-file",
            metavar="PATH",
            help="File with the hash of its password in another mail system, or `-`, instead of a password.",
        ),
    ] = None,
    period: Annotated[FirstPeriod, typer.Option("--period", help="The first period.")] = FirstPeriod.MONTHLY,
    display_name: Annotated[str, typer.Option("--display-name", metavar="TEXT", help="Name of its user.")] = "",
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Create a mailbox."""
    sent = parse_address("ADDRESS", address)
    if password_file and password_hash_file:
        raise InvalidSetting("--password-file and --password-hash-file: set one of them")
    password = "" if password_hash_file else read_password(password_file)
    password_hash = read_secret("--password-hash-file", password_hash_file) if password_hash_file else ""
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import mailbox_pb2 as pb

        request = pb.BatchCreateMailboxesRequest(
            domain_id=find_domain(service, sent.domain_name, address).id,
            mailboxes=[
                pb.BatchCreateMailboxesRequest.MailboxParameters(
                    local_part=sent.local_part,
                    password=password,
                    password_hash=password_hash,
                    display_name=display_name,
                )
            ],
            subscription_period=enum_number(pb.Mailbox.SubscriptionPeriod, period),
        )
        created = service.BatchCreateMailboxes(request).mailboxes
    print_rows(to_rows(created), COLUMNS, output)


@mailboxes.command("update")
@with_settings("tenant client")
def update_mailbox(
    *,
    settings: Settings,
    mailbox: Mailbox,
    period: Annotated[
        SubscriptionPeriod | None, typer.Option("--period", help="The period that follows the current one.")
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="PATH", help="File with a new password, or `-` for standard input."),
    ] = None,
    display_name: Annotated[
        str | None, typer.Option("--display-name", metavar="TEXT", help="Name of its user; an empty one is cleared.")
    ] = None,
    storage_quota_bytes: Annotated[
        int | None, typer.Option("--storage-quota-bytes", metavar="N", min=0, help="Maximum stored mail; 0: no limit.")
    ] = None,
    login: Annotated[bool | None, typer.Option("--login/--no-login", help="Allow logging in.")] = None,
    sending: Annotated[bool | None, typer.Option("--sending/--no-sending", help="Allow sending mail.")] = None,
    receiving: Annotated[bool | None, typer.Option("--receiving/--no-receiving", help="Allow receiving mail.")] = None,
    etag: Etag = "",
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Change a mailbox: its next period, its password, its display name or what it may do."""
    settings_of_mailbox: dict[str, Any] = {
        "display_name": display_name,
        "storage_quota_bytes": storage_quota_bytes,
        "login_disabled": None if login is None else not login,
        "sending_disabled": None if sending is None else not sending,
        "receiving_disabled": None if receiving is None else not receiving,
    }
    given = [period, password or None, password_file, *settings_of_mailbox.values()]
    if all(value is None for value in given):
        raise InvalidSetting("--period, --password, …: set what is to be changed; --help lists them")
    new_password = read_password(password_file) if password or password_file else None
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import mailbox_pb2 as pb

        request = pb.UpdateMailboxRequest(
            mailbox_id=mailbox_id(service, mailbox),
            subscription_period=enum_number(pb.Mailbox.SubscriptionPeriod, period or NOT_SET),
            new_password=new_password,
            etag=etag,
            **settings_of_mailbox,
        )
        changed = service.UpdateMailbox(request)
    print_rows([to_row(changed)], COLUMNS, output)


@mailboxes.command("delete")
@with_settings("tenant client")
def delete_mailbox(
    *, settings: Settings, mailbox: Mailbox, etag: Etag = "", output: ListOutput = ListFormat.TABLE
) -> None:
    """Schedule a mailbox for deletion. `mailboxes restore` brings it back until the date that is printed."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import mailbox_pb2 as pb

        request = pb.DeleteMailboxRequest(mailbox_id=mailbox_id(service, mailbox), etag=etag)
        deleted = service.DeleteMailbox(request)
    print_rows([to_row(deleted)], COLUMNS, output)


@mailboxes.command("restore")
@with_settings("tenant client")
def restore_mailbox(*, settings: Settings, mailbox: Mailbox, output: ListOutput = ListFormat.TABLE) -> None:
    """Restore a mailbox that is scheduled for deletion."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import mailbox_pb2 as pb

        restored = service.RestoreMailbox(pb.RestoreMailboxRequest(mailbox_id=mailbox_id(service, mailbox)))
    print_rows([to_row(restored)], COLUMNS, output)


def _list(
    settings: Settings,
    domain: str | None,
    search: str,
    statuses: Any,
    project_id: str,
    limit: int,
    output: ListFormat,
) -> None:
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import mailbox_pb2 as pb

        request = pb.ListMailboxesRequest(
            domain_id=domain_id(service, domain) if domain else "",
            search=search,
            project_id=project_id,
            statuses=[enum_number(pb.Mailbox.Status, each) for each in statuses],
            order_by=pb.ListMailboxesRequest.OrderBy.EMAIL_ASC,
        )
        listed = list_rows(service.ListMailboxes, request, "mailboxes", PAGE_SIZE, limit)
    print_rows(listed, COLUMNS, output)


mailboxes.command("lock")(lock_mailbox)
mailboxes.command("unlock")(unlock_mailbox)
