"""`postroom admin-keys`: keys of the admin service, in the database."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from postroomd.cli.confirmation import Yes, confirm
from postroomd.cli.database import with_repository
from postroomd.cli.options import ExpiresIn, ReadOnly, expiry, with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows, print_secret
from postroomd.domain.keys import ADMIN_KEY_NAME
from postroomd.domain.tenancy import AdminKey
from postroomd.runtime.keys import issue_admin_key
from postroomd.settings import InvalidSetting, Settings

VARIABLE = "export POSTROOM_ADMIN_SECRET"

admin_keys = typer.Typer(
    name="admin-keys", help="Keys of the admin service.", no_args_is_help=True, rich_markup_mode=None
)


class AdminKeyFormat(StrEnum):
    """Format of a new admin key."""

    ENV = "env"
    JSON = "json"


@admin_keys.command("create")
@with_settings("admin-keys create")
def create_admin_key(
    *,
    settings: Settings,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the key, which the history and the log record.")
    ],
    read_only: ReadOnly = False,
    expires_in: ExpiresIn = None,
    output: Annotated[AdminKeyFormat, typer.Option("--output", help="Output format.")] = AdminKeyFormat.ENV,
) -> None:
    """Create an admin key, and print its secret, which is not stored."""
    if not ADMIN_KEY_NAME.fullmatch(name):
        raise InvalidSetting("--name: expected 1 to 64 of a-z 0-9 . _ -, with a letter or digit first and last")
    now = datetime.now(UTC)
    expires_at = expiry(expires_in, now)
    secret = with_repository(
        settings,
        lambda repository: issue_admin_key(
            repository.admin_keys, name=name, read_only=read_only, expires_at=expires_at, now=now
        ),
    )
    as_json = output is AdminKeyFormat.JSON
    text = json.dumps({"name": name, "secret": secret}, indent=2) if as_json else f"{VARIABLE}={secret}"
    print_secret(text, f"postroom admin-keys revoke {name}")


@admin_keys.command("list")
@with_settings("admin-keys list")
def list_admin_keys(*, settings: Settings, output: ListOutput = ListFormat.TABLE) -> None:
    """List admin keys, oldest first, without their secrets."""
    listed = with_repository(settings, lambda repository: repository.admin_keys.list())
    print_rows([asdict(key) for key in listed], list(AdminKey.__dataclass_fields__), output)


@admin_keys.command("revoke")
@with_settings("admin-keys revoke")
def revoke_admin_key(
    *, settings: Settings, name: Annotated[str, typer.Argument(metavar="NAME")], yes: Yes = False
) -> None:
    """Revoke an admin key permanently. Its name can't be used again."""
    confirm(f"A revoked key can't be restored, and the name {name} not be used again.", yes=yes)
    now = datetime.now(UTC)
    with_repository(settings, lambda repository: repository.admin_keys.revoke(name, now))
    typer.echo(f"{name} is revoked.")
