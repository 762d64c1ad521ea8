"""The operator's part of `postroom mailboxes`, by the admin service: locks, and mailboxes of any tenant."""

from typing import Annotated, Any

import typer

from postroomd.cli.connection import admin_service
from postroomd.cli.messages import Rows, pages, to_row
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows
from postroomd.cli.resolve import PAGE_SIZE, is_id, parse_address
from postroomd.settings import InvalidSetting, Settings

LOCK_COLUMNS = ("id", "email", "status", "lock_reason", "payment_standing", "provision_standing")

Mailbox = Annotated[str, typer.Argument(metavar="MAILBOX", help="Address or id of the mailbox.")]


@with_settings("operator client")
def lock_mailbox(
    *,
    settings: Settings,
    mailbox: Mailbox,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason, which tenants do not see.")],
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Lock a mailbox, as the operator."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1 import mailbox_pb2 as pb

        locked = service.LockMailbox(pb.LockMailboxRequest(**_subject(mailbox), reason=reason))
    print_rows([admin_row(locked)], LOCK_COLUMNS, output)


@with_settings("operator client")
def unlock_mailbox(*, settings: Settings, mailbox: Mailbox, output: ListOutput = ListFormat.TABLE) -> None:
    """Remove the operator's lock of a mailbox."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1 import mailbox_pb2 as pb

        unlocked = service.UnlockMailbox(pb.UnlockMailboxRequest(**_subject(mailbox)))
    print_rows([admin_row(unlocked)], LOCK_COLUMNS, output)


def search_organizations(settings: Settings, text: str, organization_id: str, limit: int) -> Rows:
    """Return the mailboxes of one organization, or of all, whose address or display name contains a text."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1 import mailbox_pb2 as pb
        from postroom.v1alpha1.mailbox_pb2 import Mailbox as TenantMailbox

        request = pb.SearchMailboxesRequest(search=text, organization_id=organization_id)
        found = pages(service.SearchMailboxes, request, "mailboxes", PAGE_SIZE, limit)
        return Rows(map(admin_row, found), [*admin_row(pb.Mailbox(mailbox=TenantMailbox()))])


def _subject(mailbox: str) -> dict[str, str]:
    """Return the field of a request to the admin service that names a mailbox of any tenant, by id or address."""
    return {"mailbox_id": mailbox} if is_id(mailbox) else {"address": str(parse_address("MAILBOX", mailbox))}


def show_as_operator(settings: Settings, mailbox: str) -> dict[str, Any]:
    """Return the row of a mailbox of any tenant, or of the tombstone of a purged one. Raises InvalidSetting."""
    if not is_id(mailbox):
        raise InvalidSetting(
            "MAILBOX: expected an id, which `mailboxes search --all-organizations` and `history` print"
        )
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1 import mailbox_pb2 as pb

        found = service.GetMailbox(pb.GetMailboxRequest(mailbox_id=mailbox))
    return to_row(found.tombstone) if found.HasField("tombstone") else admin_row(found.mailbox)


def admin_row(mailbox: Any) -> dict[str, Any]:
    """Return a mailbox of the admin service, with the fields that its tenant sees beside the operator's."""
    row = to_row(mailbox)
    return {**row.pop("mailbox"), **row}
