"""`postroom keys` and `postroom projects`: organizations, projects and keys, on the database itself.

They work while the service runs, which sees a new key at once, and a revoked one within key_cache_seconds.
"""

import json
import shlex
import unicodedata
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from postroomd.cli.database import (
    ExpiresIn,
    ListFormat,
    ListOutput,
    ReadOnly,
    end_of_life,
    on_database,
    show,
    show_table,
)
from postroomd.cli.options import takes_settings
from postroomd.domain.keys import ACCESS_KEY
from postroomd.domain.tenancy import ApiKey, Project
from postroomd.runtime.keys import api_url, issue_key, new_project, scw_environment
from postroomd.settings import BadSetting, Settings
from postroomd.storage.protocols.repository import Repository

LONGEST_NAME = 255  # characters

keys = typer.Typer(name="keys", help="API keys.", no_args_is_help=True, rich_markup_mode=None)
projects = typer.Typer(name="projects", help="Projects of organizations.", no_args_is_help=True, rich_markup_mode=None)


class KeyOutput(StrEnum):
    """How a new key is shown."""

    ENV = "env"
    JSON = "json"
    TABLE = "table"


OrganizationId = Annotated[str | None, typer.Option("--organization-id", metavar="ID", help="Of this organization.")]


@keys.command("create")
@takes_settings("keys create")
def create_key(
    *,
    settings: Settings,
    organization_id: Annotated[
        str | None,
        typer.Option("--organization-id", metavar="ID", help="The key's organization; a new one where none is given."),
    ] = None,
    project_id: Annotated[
        str | None, typer.Option("--project-id", metavar="ID", help="Limit the key to this project.")
    ] = None,
    read_only: ReadOnly = False,
    expires_in: ExpiresIn = None,
    output: Annotated[KeyOutput, typer.Option("--output", help="How to show it.")] = KeyOutput.ENV,
) -> None:
    """Make an API key, and show its secret, once."""
    now = datetime.now(UTC)
    expires_at = end_of_life(expires_in, now)

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
        return scw_environment(issued, api_url(settings.http_address))

    environment = on_database(settings, issue)
    match output:
        case KeyOutput.ENV:
            for name, value in environment.items():
                typer.echo(f"export {name}={shlex.quote(value)}")
        case KeyOutput.JSON:
            typer.echo(json.dumps(environment, indent=2))
        case KeyOutput.TABLE:
            show_table(("variable", "value"), list(environment.items()))


@keys.command("list")
@takes_settings("keys list")
def list_keys(
    *, settings: Settings, organization_id: OrganizationId = None, output: ListFormat = ListOutput.TABLE
) -> None:
    """List API keys, oldest first; secrets are not kept."""
    listed = on_database(settings, lambda repository: repository.tenancy.list_keys(_lower(organization_id)))
    show([asdict(key) for key in listed], list(ApiKey.__dataclass_fields__), output)


@keys.command("revoke")
@takes_settings("keys revoke")
def revoke_key(*, settings: Settings, access_key: Annotated[str, typer.Argument(metavar="ACCESS_KEY")]) -> None:
    """Revoke an API key, for good."""
    if not ACCESS_KEY.fullmatch(access_key):
        raise BadSetting("ACCESS_KEY: SCW and 17 characters of A-Z0-9 are expected")
    now = datetime.now(UTC)
    on_database(settings, lambda repository: repository.tenancy.revoke_key(access_key, now))
    typer.echo(f"{access_key} is revoked.")


@projects.command("create")
@takes_settings("projects create")
def create_project(
    *,
    settings: Settings,
    organization_id: Annotated[str, typer.Option("--organization-id", metavar="ID", help="Its organization.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What people call it.")],
    output: ListFormat = ListOutput.TABLE,
) -> None:
    """Make a project."""
    if not 1 <= len(name) <= LONGEST_NAME or any(unicodedata.category(character) == "Cc" for character in name):
        raise BadSetting(f"--name: 1 to {LONGEST_NAME} characters, none of them a control character, are expected")
    project = new_project(organization_id.lower(), name, settings.mailbox_quota, datetime.now(UTC))
    on_database(settings, lambda repository: repository.tenancy.create_project(project))
    show([asdict(project)], list(Project.__dataclass_fields__), output)


@projects.command("list")
@takes_settings("projects list")
def list_projects(
    *, settings: Settings, organization_id: OrganizationId = None, output: ListFormat = ListOutput.TABLE
) -> None:
    """List projects, oldest first, each with its mailbox quota and how many mailboxes it has."""
    listed = on_database(settings, lambda repository: repository.tenancy.list_projects(_lower(organization_id)))
    show([asdict(project) for project in listed], list(Project.__dataclass_fields__), output)


def _lower(text: str | None) -> str | None:
    return text and text.lower()
