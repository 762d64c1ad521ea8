"""`postroom aliases`: the aliases of a tenant, by the service."""

from typing import Annotated

import typer

from postroomd.cli.connection import tenant_service
from postroomd.cli.messages import NO_STATUS, enum_number, list_rows, to_row
from postroomd.cli.options import Etag, Limit, ProjectId, with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_row, print_rows
from postroomd.cli.resolve import SMALL_PAGE_SIZE, alias_id, domain_name, mailbox_id, parse_address
from postroomd.domain.addresses import Address
from postroomd.domain.model import AliasStatus
from postroomd.settings import InvalidSetting, Settings

COLUMNS = ("id", "email", "mailbox_id", "status", "description")

aliases = typer.Typer(
    name="aliases", help="Further addresses of mailboxes.", no_args_is_help=True, rich_markup_mode=None
)
Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="Address or id of the alias.")]
OfMailbox = Annotated[
    str | None, typer.Option("--mailbox", metavar="MAILBOX", help="Address or id of the mailbox that it belongs to.")
]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="Free text about the alias.")]


@aliases.command("list")
@with_settings("tenant client")
def list_aliases(
    *,
    settings: Settings,
    mailbox: OfMailbox = None,
    status: Annotated[AliasStatus | None, typer.Option("--status", help="Only aliases in this status.")] = None,
    project_id: ProjectId = "",
    limit: Limit = 0,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List aliases by address."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.alias_pb2 import Alias as AliasMessage
        from postroom.v1alpha1.alias_pb2 import ListAliasesRequest

        request = ListAliasesRequest(
            mailbox_id=mailbox_id(service, mailbox) if mailbox else "",
            status=enum_number(AliasMessage.Status, status or NO_STATUS),
            project_id=project_id,
            order_by=ListAliasesRequest.OrderBy.NAME_ASC,
        )
        listed = list_rows(service.ListAliases, request, "aliases", SMALL_PAGE_SIZE, limit)
    print_rows(listed, COLUMNS, output)


@aliases.command("show")
@with_settings("tenant client")
def show_alias(
    *, settings: Settings, alias: Alias, mailbox: OfMailbox = None, output: ListOutput = ListFormat.TABLE
) -> None:
    """Show an alias."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.alias_pb2 import GetAliasRequest

        found = service.GetAlias(GetAliasRequest(alias_id=alias_id(service, alias, mailbox)))
    print_row(to_row(found), output)


@aliases.command("create")
@with_settings("tenant client")
def create_alias(
    *,
    settings: Settings,
    mailbox: Annotated[str, typer.Argument(metavar="MAILBOX", help="Address or id of the mailbox.")],
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="The alias, in the domain of the mailbox; @DOMAIN is the catch-all."),
    ],
    description: Description = None,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Create an alias of a mailbox."""
    sent = _parse(address)
    with tenant_service(settings) as service:
        from postroom.v1alpha1.alias_pb2 import CreateAliasRequest
        from postroom.v1alpha1.mailbox_pb2 import GetMailboxRequest

        owner = service.GetMailbox(GetMailboxRequest(mailbox_id=mailbox_id(service, mailbox)))
        if sent.domain_name != owner.email.rpartition("@")[2]:
            raise InvalidSetting(f"ADDRESS: it must be in the domain of {owner.email}, as all aliases of a mailbox are")
        created = service.CreateAlias(
            CreateAliasRequest(
                mailbox_id=owner.id, local_part=sent.local_part, description=description, catch_all=not sent.local_part
            )
        )
    print_rows([to_row(created)], COLUMNS, output)


@aliases.command("update")
@with_settings("tenant client")
def update_alias(
    *,
    settings: Settings,
    alias: Alias,
    description: Description = None,
    mailbox: OfMailbox = None,
    etag: Etag = "",
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Change the description of an alias."""
    if description is None:
        raise InvalidSetting("--description: set it: nothing else of an alias can be changed")
    with tenant_service(settings) as service:
        from postroom.v1alpha1.alias_pb2 import UpdateAliasRequest

        identifier = alias_id(service, alias, mailbox)
        changed = service.UpdateAlias(UpdateAliasRequest(alias_id=identifier, description=description, etag=etag))
    print_rows([to_row(changed)], COLUMNS, output)


@aliases.command("delete")
@with_settings("tenant client")
def delete_alias(*, settings: Settings, alias: Alias, mailbox: OfMailbox = None, etag: Etag = "") -> None:
    """Delete an alias. Its address becomes available again."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1.alias_pb2 import DeleteAliasRequest

        deleted = service.DeleteAlias(DeleteAliasRequest(alias_id=alias_id(service, alias, mailbox), etag=etag))
    typer.echo(f"{deleted.email} is deleted.")


def _parse(address: str) -> Address:
    """Return the address of an alias, without a local part for a catch-all. Raises InvalidSetting."""
    if address.startswith("@"):
        return Address("", domain_name("ADDRESS", address[1:]))
    return parse_address("ADDRESS", address)
