"""`postroom keys`: API keys, in the database.

A running service accepts a new key at once, and a revoked one for at most `key_cache_seconds`.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from postroomd.cli.confirmation import Yes, confirm
from postroomd.cli.database import with_repository
from postroomd.cli.options import MAX_KEY_LIFETIME, ExpiresIn, ReadOnly, expiry, with_settings
from postroomd.cli.organizations import OrganizationId, lower, validated_name
from postroomd.cli.output import ListFormat, ListOutput, print_rows, print_secret, table_text
from postroomd.domain.keys import ACCESS_KEY
from postroomd.domain.tenancy import ApiKey
from postroomd.durations import parse_duration
from postroomd.runtime.keys import IssuedKey, issue_key, rotate_key
from postroomd.runtime.sdk_environment import api_url, export_lines, sdk_environment
from postroomd.settings import InvalidSetting, Settings
from postroomd.storage.protocols.repository import Repository

keys = typer.Typer(name="keys", help="API keys.", no_args_is_help=True, rich_markup_mode=None)


class KeyFormat(StrEnum):
    """Format of a new key."""

    ENV = "env"
    JSON = "json"
    TABLE = "table"


KeyOutput = Annotated[KeyFormat, typer.Option("--output", help="Output format.")]
AccessKey = Annotated[str, typer.Argument(metavar="ACCESS_KEY")]


@keys.command("create")
@with_settings("keys create")
def create_key(
    *,
    settings: Settings,
    organization_id: Annotated[
        str | None, typer.Option("--organization-id", metavar="ID", help="The key's organization.")
    ] = None,
    project_id: Annotated[
        str | None, typer.Option("--project-id", metavar="ID", help="Limit the key to this project.")
    ] = None,
    new_organization: Annotated[
        bool, typer.Option("--new-organization", help="Create an organization with a project for the key.")
    ] = False,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the key is for.")] = "",
    read_only: ReadOnly = False,
    password_hashes: Annotated[
        bool,
        typer.Option("--password-hashes", help="Let the key create mailboxes with password hashes, for a migration."),
    ] = False,
    expires_in: ExpiresIn = None,
    output: KeyOutput = KeyFormat.ENV,
) -> None:
    """Create an API key, and print its secret, which is not stored."""
    if new_organization == bool(organization_id or project_id):
        raise InvalidSetting(
            "--organization-id, --project-id: set one, as `postroom organizations list` and `projects list` print them,"
            " or --new-organization"
        )
    if password_hashes and read_only:
        raise InvalidSetting("--password-hashes: a key that is --read-only creates nothing; set one of the two")
    validated_name(name, required=False)
    now = datetime.now(UTC)
    expires_at = expiry(expires_in, now)

    async def issue(repository: Repository) -> IssuedKey:
        return await issue_key(
            repository.tenancy,
            organization_id=lower(organization_id),
            project_id=lower(project_id),
            name=name,
            read_only=read_only,
            expires_at=expires_at,
            mailbox_quota=settings.mailbox_quota,
            now=now,
            password_hashes=password_hashes,
        )

    _print_issued(settings, with_repository(settings, issue), output)


@keys.command("rotate")
@with_settings("keys rotate")
def rotate(
    *,
    settings: Settings,
    access_key: AccessKey,
    grace: Annotated[
        str,
        typer.Option("--grace", metavar="DURATION", help="How long the former key stays valid: 24h, 30m, or 0."),
    ] = "24h",
    expires_in: ExpiresIn = None,
    output: KeyOutput = KeyFormat.ENV,
) -> None:
    """Replace an API key: create one with its name, scope and permissions, and let the former one expire."""
    _validate(access_key)
    try:
        remaining = parse_duration(grace)
    except ValueError as error:
        raise InvalidSetting(f"--grace: {error}") from error
    if not timedelta(0) <= remaining <= MAX_KEY_LIFETIME:
        raise InvalidSetting(f"--grace: expected 0 to {MAX_KEY_LIFETIME.days}d")
    now = datetime.now(UTC)
    expires_at = expiry(expires_in, now)
    issued = with_repository(
        settings,
        lambda repository: rotate_key(
            repository.tenancy, access_key, expires_at=expires_at, former_expires_at=now + remaining, now=now
        ),
    )
    _print_issued(settings, issued, output)


@keys.command("list")
@with_settings("keys list")
def list_keys(
    *, settings: Settings, organization_id: OrganizationId = None, output: ListOutput = ListFormat.TABLE
) -> None:
    """List API keys, oldest first, without their secrets."""
    listed = with_repository(settings, lambda repository: repository.tenancy.list_keys(lower(organization_id)))
    print_rows([asdict(key) for key in listed], list(ApiKey.__dataclass_fields__), output)


@keys.command("revoke")
@with_settings("keys revoke")
def revoke_key(*, settings: Settings, access_key: AccessKey, yes: Yes = False) -> None:
    """Revoke an API key permanently."""
    _validate(access_key)
    confirm(f"{access_key}: a revoked key can't be restored.", yes=yes)
    now = datetime.now(UTC)
    with_repository(settings, lambda repository: repository.tenancy.revoke_key(access_key, now))
    typer.echo(f"{access_key} is revoked.")


def _validate(access_key: str) -> None:
    if not ACCESS_KEY.fullmatch(access_key):
        raise InvalidSetting("ACCESS_KEY: expected SCW and 17 characters of A-Z and 0-9")


def _print_issued(settings: Settings, issued: IssuedKey, output: KeyFormat) -> None:
    environment = sdk_environment(issued, api_url(settings.http_address, tls=settings.http_tls_cert is not None))
    match output:
        case KeyFormat.ENV:
            text = "\n".join(export_lines(environment))
        case KeyFormat.JSON:
            text = json.dumps(environment, indent=2)
        case KeyFormat.TABLE:
            text = table_text(("variable", "value"), list(environment.items()))
    print_secret(text, f"postroom keys revoke {issued.key.access_key}")
