"""`postroom forwardings`: the forwardings of a tenant's mailboxes, by the service."""

from typing import Annotated

import typer

from postroomd.cli.connection import tenant_service
from postroomd.cli.messages import NO_STATUS, enum_number, list_rows, to_row
from postroomd.cli.options import Etag, Limit, ProjectId, with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_row, print_rows
from postroomd.cli.resolve import SMALL_PAGE_SIZE, forwarding_id, mailbox_id
from postroomd.domain.model import ForwardingStatus
from postroomd.settings import Settings

COLUMNS = ("id", "mailbox_id", "email", "status", "created_at")

forwardings = typer.Typer(
    name="forwardings", help="Addresses that mail is forwarded to.", no_args_is_help=True, rich_markup_mode=None
)
Mailbox = Annotated[str, typer.Argument(metavar="MAILBOX", help="Address or id of the mailbox.")]
Forwarding = Annotated[
    str, typer.Argument(metavar="FORWARDING", help="Id of the forwarding, or its destination with --mailbox.")
]
OfMailbox = Annotated[str | None, typer.Option("--mailbox", metavar="MAILBOX", help="Address or id of the mailbox.")]
Destination = Annotated[str, typer.Argument(metavar="DESTINATION", help="Address that mail is forwarded to.")]


@forwardings.command("list")
@with_settings("tenant client")
def list_forwardings(
    *,
    settings: Settings,
    mailbox: OfMailbox = None,
    status: Annotated[
        ForwardingStatus | None, typer.Option("--status", help="Only forwardings in this status.")
    ] = None,
    project_id: ProjectId = "",
    limit: Limit = 0,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List forwardings by destination."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.forwarding_pb2 import Forwarding as ForwardingMessage
        from postroom.v1alpha1.forwarding_pb2 import ListForwardingsRequest

        request = ListForwardingsRequest(
            mailbox_id=mailbox_id(service, mailbox) if mailbox else "",
            status=enum_number(ForwardingMessage.Status, status or NO_STATUS),
            project_id=project_id,
            order_by=ListForwardingsRequest.OrderBy.EMAIL_ASC,
        )
        listed = list_rows(service.ListForwardings, request, "forwardings", SMALL_PAGE_SIZE, limit)
    print_rows(listed, COLUMNS, output)


@forwardings.command("show")
@with_settings("tenant client")
def show_forwarding(
    *, settings: Settings, forwarding: Forwarding, mailbox: OfMailbox = None, output: ListOutput = ListFormat.TABLE
) -> None:
    """Show a forwarding."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.forwarding_pb2 import GetForwardingRequest

        identifier = forwarding_id(service, forwarding, mailbox)
        found = service.GetForwarding(GetForwardingRequest(forwarding_id=identifier))
    print_row(to_row(found), output)


@forwardings.command("create")
@with_settings("tenant client")
def create_forwarding(
    *, settings: Settings, mailbox: Mailbox, destination: Destination, output: ListOutput = ListFormat.TABLE
) -> None:
    """Forward the mail of a mailbox to a further address, at most five."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.forwarding_pb2 import CreateForwardingRequest

        identifier = mailbox_id(service, mailbox)
        created = service.CreateForwarding(CreateForwardingRequest(mailbox_id=identifier, email=destination))
    print_rows([to_row(created)], COLUMNS, output)


@forwardings.command("update")
@with_settings("tenant client")
def update_forwarding(
    *,
    settings: Settings,
    forwarding: Forwarding,
    destination: Destination,
    mailbox: OfMailbox = None,
    etag: Etag = "",
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Change the destination of a forwarding."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.forwarding_pb2 import UpdateForwardingRequest

        identifier = forwarding_id(service, forwarding, mailbox)
        request = UpdateForwardingRequest(forwarding_id=identifier, email=destination, etag=etag)
        changed = service.UpdateForwarding(request)
    print_rows([to_row(changed)], COLUMNS, output)


@forwardings.command("delete")
@with_settings("tenant client")
def delete_forwarding(
    *, settings: Settings, forwarding: Forwarding, mailbox: OfMailbox = None, etag: Etag = ""
) -> None:
    """Delete a forwarding."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.forwarding_pb2 import DeleteForwardingRequest

        identifier = forwarding_id(service, forwarding, mailbox)
        deleted = service.DeleteForwarding(DeleteForwardingRequest(forwarding_id=identifier, etag=etag))
    typer.echo(f"The forwarding to {deleted.email} is deleted.")


@forwardings.command("settings")
@with_settings("tenant client")
def change_settings(
    *,
    settings: Settings,
    mailbox: Mailbox,
    keep_copy: Annotated[
        bool | None, typer.Option("--keep-copy/--no-keep-copy", help="Deliver forwarded mail to the mailbox as well.")
    ] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Forward mail, or pause it.")] = None,
    etag: Etag = "",
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Show the settings of a mailbox's forwardings, after changing those that are given."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.forwarding_pb2 import UpdateMailboxForwardingRequest

        identifier = mailbox_id(service, mailbox)
        if keep_copy is None and enabled is None:
            from postroom.v1alpha1.forwarding_pb2 import GetMailboxForwardingRequest

            current = service.GetMailboxForwarding(GetMailboxForwardingRequest(mailbox_id=identifier))
        else:
            request = UpdateMailboxForwardingRequest(
                mailbox_id=identifier, keep_copy=keep_copy, enabled=enabled, etag=etag
            )
            current = service.UpdateMailboxForwarding(request)
    print_row(to_row(current), output)
