"""`postroom admin-keys` and `postroom history`: the operator's own keys, and what became of a mailbox."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from heapq import merge
from typing import Annotated

import typer

from postroomd.cli.database import ExpiresIn, ListFormat, ListOutput, ReadOnly, end_of_life, on_database, show
from postroomd.cli.options import takes_settings
from postroomd.domain.addresses import Address, canonical_local_part
from postroomd.domain.errors import NotFound
from postroomd.domain.history import Transition
from postroomd.domain.keys import ADMIN_KEY_NAME
from postroomd.domain.tenancy import AdminKey
from postroomd.runtime.keys import issue_admin_key
from postroomd.settings import BadSetting, Settings
from postroomd.storage.protocols.administration import Administration
from postroomd.storage.protocols.repository import Repository

HISTORY_CHUNK = 500  # transitions read at a time
HISTORY_COLUMNS = ("mailbox_id", "at", "from_status", "to_status", "cause", "actor")

admin_keys = typer.Typer(
    name="admin-keys", help="Keys of the admin service.", no_args_is_help=True, rich_markup_mode=None
)


class SecretOutput(StrEnum):
    """How a new admin key is shown."""

    ENV = "env"
    JSON = "json"


@admin_keys.command("create")
@takes_settings("admin-keys create")
def create_admin_key(
    *,
    settings: Settings,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Whose it is: the history and the log say so.")],
    read_only: ReadOnly = False,
    expires_in: ExpiresIn = None,
    output: Annotated[SecretOutput, typer.Option("--output", help="How to show it.")] = SecretOutput.ENV,
) -> None:
    """Make an admin key, and show its secret, once."""
    if not ADMIN_KEY_NAME.fullmatch(name):
        raise BadSetting("--name: 1 to 64 of a-z 0-9 . _ -, a letter or a digit first and last, are expected")
    now = datetime.now(UTC)
    expires_at = end_of_life(expires_in, now)
    secret = on_database(
        settings,
        lambda repository: issue_admin_key(
            repository.admin_keys, name=name, read_only=read_only, expires_at=expires_at, now=now
        ),
    )
    if output is SecretOutput.JSON:
        typer.echo(json.dumps({"name": name, "secret": secret}, indent=2))
    else:
        typer.echo(f"export POSTROOM_ADMIN_SECRET={secret}")


@admin_keys.command("list")
@takes_settings("admin-keys list")
def list_admin_keys(*, settings: Settings, output: ListFormat = ListOutput.TABLE) -> None:
    """List admin keys, oldest first; secrets are not kept."""
    listed = on_database(settings, lambda repository: repository.admin_keys.list())
    show([asdict(key) for key in listed], list(AdminKey.__dataclass_fields__), output)


@admin_keys.command("revoke")
@takes_settings("admin-keys revoke")
def revoke_admin_key(*, settings: Settings, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Revoke an admin key, for good: its name is not used again."""
    now = datetime.now(UTC)
    on_database(settings, lambda repository: repository.admin_keys.revoke(name, now))
    typer.echo(f"{name} is revoked.")


@takes_settings("history")
def history(
    *,
    settings: Settings,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    output: ListFormat = ListOutput.TABLE,
) -> None:
    """List what became of the mailboxes that have an address, or had it when they were purged: oldest first."""

    canonical = _canonical(address)

    async def read(repository: Repository) -> list[Transition]:
        operations = repository.administration
        mailbox_ids = await operations.mailboxes_with_address(canonical)
        if not mailbox_ids:
            raise NotFound("mailbox", canonical)
        # Each in its own order, whatever the clock did; those of several organizations may have lived side by side.
        histories = [await _transitions(operations, mailbox_id) for mailbox_id in mailbox_ids]
        return list(merge(*histories, key=lambda transition: transition.at))

    show([asdict(transition) for transition in on_database(settings, read)], HISTORY_COLUMNS, output)


async def _transitions(operations: Administration, mailbox_id: str) -> Sequence[Transition]:
    found: list[Transition] = []
    while chunk := await operations.transitions(mailbox_id, found[-1].revision if found else 0, HISTORY_CHUNK):
        found += chunk
    return found


def _canonical(address: str) -> str:
    from postroomd.domain.domain_names import canonical_domain_name  # deferred: its tables take long to import

    try:
        sent = Address.parse(address)
        return str(Address(canonical_local_part(sent.local_part), canonical_domain_name(sent.domain_name)))
    except ValueError as error:
        raise BadSetting(f"ADDRESS: {error}") from error
