"""`postroom keys` and `postroom projects`: API keys, organizations and projects.

They access the database directly. A running service accepts a new key at once, and a revoked one for at most
`key_cache_seconds`.
"""

import json
import unicodedata
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from postroomd.cli.database import with_repository
from postroomd.cli.options import ExpiresIn, ReadOnly, expiry, with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows, print_table
from postroomd.domain.keys import ACCESS_KEY
from postroomd.domain.tenancy import ApiKey, Project
from postroomd.runtime.keys import issue_key, new_project
from postroomd.runtime.sdk_environment import api_url, export_lines, sdk_environment
from postroomd.settings import InvalidSetting, Settings
from postroomd.storage.protocols.repository import Repository

MAX_NAME_LENGTH = 255  # characters

keys = typer.Typer(name="keys", help="API keys.", no_args_is_help=True, rich_markup_mode=None)
projects = typer.Typer(name="projects", help="Projects of organizations.", no_args_is_help=True, rich_markup_mode=None)


class KeyFormat(StrEnum):
    """Format of a new key."""

    ENV = "env"
    JSON = "json"
    TABLE = "table"


OrganizationId = Annotated[
    str | None, typer.Option("--organization-id", metavar="ID", help="List only this organization's.")
]


@keys.command("create")
@with_settings("keys create")
def create_key(
    *,
    settings: Settings,
    organization_id: Annotated[
        str | None,
        typer.Option("--organization-id", metavar="ID", help="The key's organization; a new one if not set."),
    ] = None,
    project_id: Annotated[
        str | None, typer.Option("--project-id", metavar="ID", help="Limit the key to this project.")
    ] = None,
    read_only: ReadOnly = False,
    expires_in: ExpiresIn = None,
    output: Annotated[KeyFormat, typer.Option("--output", help="Output format.")] = KeyFormat.ENV,
) -> None:
    """Create an API key, and print its secret, which is not stored."""
    now = datetime.now(UTC)
    expires_at = expiry(expires_in, now)

    async def issue(repository: Repository) -> dict[str, str]:
        issued = await issue_key(
            repository.tenancy,
            organization_id=organization_id and organization_id.lower(),
            project_id=project_id and project_id.lower(),
            read_only=read_only,
            expires_at=expires_at,
            mailbox_quota=settings.mailbox_quota,
            now=now,
        )
        return sdk_environment(issued, api_url(settings.http_address, tls=settings.http_tls_cert is not None))

    environment = with_repository(settings, issue)
    match output:
        case KeyFormat.ENV:
            typer.echo("\n".join(export_lines(environment)))
        case KeyFormat.JSON:
            typer.echo(json.dumps(environment, indent=2))
        case KeyFormat.TABLE:
            print_table(("variable", "value"), list(environment.items()))


@keys.command("list")
@with_settings("keys list")
def list_keys(
    *, settings: Settings, organization_id: OrganizationId = None, output: ListOutput = ListFormat.TABLE
) -> None:
    """List API keys, oldest first, without their secrets."""
    listed = with_repository(settings, lambda repository: repository.tenancy.list_keys(_lower(organization_id)))
    print_rows([asdict(key) for key in listed], list(ApiKey.__dataclass_fields__), output)


@keys.command("revoke")
@with_settings("keys revoke")
def revoke_key(*, settings: Settings, access_key: Annotated[str, typer.Argument(metavar="ACCESS_KEY")]) -> None:
    """Revoke an API key permanently."""
    if not ACCESS_KEY.fullmatch(access_key):
        raise InvalidSetting("ACCESS_KEY: expected SCW and 17 characters of A-Z and 0-9")
    now = datetime.now(UTC)
    with_repository(settings, lambda repository: repository.tenancy.revoke_key(access_key, now))
    typer.echo(f"{access_key} is revoked.")


@projects.command("create")
@with_settings("projects create")
def create_project(
    *,
    settings: Settings,
    organization_id: Annotated[
        str, typer.Option("--organization-id", metavar="ID", help="Organization of the project.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Display name of the project.")],
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Create a project."""
    if not 1 <= len(name) <= MAX_NAME_LENGTH or any(unicodedata.category(character) == "Cc" for character in name):
        raise InvalidSetting(f"--name: expected 1 to {MAX_NAME_LENGTH} characters, none of them a control character")
    project = new_project(organization_id.lower(), name, settings.mailbox_quota, datetime.now(UTC))
    with_repository(settings, lambda repository: repository.tenancy.create_project(project))
    print_rows([asdict(project)], list(Project.__dataclass_fields__), output)


@projects.command("list")
@with_settings("projects list")
def list_projects(
    *, settings: Settings, organization_id: OrganizationId = None, output: ListOutput = ListFormat.TABLE
) -> None:
    """List projects, oldest first, with their mailbox quotas and mailbox counts."""
    listed = with_repository(settings, lambda repository: repository.tenancy.list_projects(_lower(organization_id)))
    print_rows([asdict(project) for project in listed], list(Project.__dataclass_fields__), output)


def _lower(text: str | None) -> str | None:
    return text and text.lower()
