"""`postroom keys` and `postroom projects`: organizations, projects and keys, on the database itself.

They work while the service runs, which sees a new key at once, and a revoked one within key_cache_seconds.
"""

import asyncio
import json
import shlex
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from postroomd.domain.keys import ACCESS_KEY
from postroomd.domain.model import ApiKey, Project
from postroomd.keys import api_url, issue_key, new_project, scw_environment
from postroomd.options import takes_settings
from postroomd.processes import require_database
from postroomd.settings import BadSetting, Settings, parse_duration
from postroomd.storage.repository import Tenancy

Result = TypeVar("Result")

LONGEST_NAME = 255  # characters
LONGEST_LIFE = timedelta(days=36_500)
PIPE_WIDTH = 240  # columns of a table that goes to no terminal

keys = typer.Typer(name="keys", help="API keys.", no_args_is_help=True, rich_markup_mode=None)
projects = typer.Typer(name="projects", help="Projects of organizations.", no_args_is_help=True, rich_markup_mode=None)


class KeyOutput(StrEnum):
    """How a new key is shown."""

    ENV = "env"
    JSON = "json"
    TABLE = "table"


class ListOutput(StrEnum):
    """How a list is shown."""

    JSON = "json"
    TABLE = "table"


OrganizationId = Annotated[str | None, typer.Option("--organization-id", metavar="ID", help="Of this organization.")]
ListFormat = Annotated[ListOutput, typer.Option("--output", help="How to show it.")]


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
    read_only: Annotated[bool, typer.Option("--read-only", help="Let the key change nothing.")] = False,
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", metavar="DURATION", help="Let the key expire: 30d, 12h, or seconds.")
    ] = None,
    output: Annotated[KeyOutput, typer.Option("--output", help="How to show it.")] = KeyOutput.ENV,
) -> None:
    """Make an API key, and show its secret, once."""
    now = datetime.now(UTC)
    life = _life(expires_in) if expires_in is not None else None

    async def issue(tenancy: Tenancy) -> dict[str, str]:
        issued = await issue_key(
            tenancy,
            organization_id=organization_id and organization_id.lower(),
            project_id=project_id and project_id.lower(),
            read_only=read_only,
            expires_at=now + life if life else None,
            mailbox_quota=settings.mailbox_quota,
            now=now,
        )
        return scw_environment(issued, api_url(settings.http_address))

    environment = _on_database(settings, issue)
    match output:
        case KeyOutput.ENV:
            for name, value in environment.items():
                typer.echo(f"export {name}={shlex.quote(value)}")
        case KeyOutput.JSON:
            typer.echo(json.dumps(environment, indent=2))
        case KeyOutput.TABLE:
            _show_table(("variable", "value"), list(environment.items()))


@keys.command("list")
@takes_settings("keys list")
def list_keys(
    *, settings: Settings, organization_id: OrganizationId = None, output: ListFormat = ListOutput.TABLE
) -> None:
    """List API keys, oldest first; secrets are not kept."""
    listed = _on_database(settings, lambda tenancy: tenancy.list_keys(_lower(organization_id)))
    _show([asdict(key) for key in listed], ApiKey, output)


@keys.command("revoke")
@takes_settings("keys revoke")
def revoke_key(*, settings: Settings, access_key: Annotated[str, typer.Argument(metavar="ACCESS_KEY")]) -> None:
    """Revoke an API key, for good."""
    if not ACCESS_KEY.fullmatch(access_key):
        raise BadSetting("ACCESS_KEY: SCW and 17 characters of A-Z0-9 are expected")
    now = datetime.now(UTC)
    _on_database(settings, lambda tenancy: tenancy.revoke_key(access_key, now))
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
    _on_database(settings, lambda tenancy: tenancy.create_project(project))
    _show([asdict(project)], Project, output)


@projects.command("list")
@takes_settings("projects list")
def list_projects(
    *, settings: Settings, organization_id: OrganizationId = None, output: ListFormat = ListOutput.TABLE
) -> None:
    """List projects, oldest first, each with its mailbox quota and how many mailboxes it has."""
    listed = _on_database(settings, lambda tenancy: tenancy.list_projects(_lower(organization_id)))
    _show([asdict(project) for project in listed], Project, output)


def _lower(text: str | None) -> str | None:
    return text and text.lower()


def _life(text: str) -> timedelta:
    try:
        life = parse_duration(text)
    except ValueError as error:
        raise BadSetting(f"--expires-in: {error}") from error
    if not timedelta(0) < life <= LONGEST_LIFE:
        raise BadSetting(f"--expires-in: more than 0 and at most {LONGEST_LIFE.days}d is expected")
    return life


def _on_database(settings: Settings, work: Callable[[Tenancy], Awaitable[Result]]) -> Result:
    """What `work` answers. Raises SchemaMismatch, StorageUnavailable, Failed where there is no database."""
    from postroomd import logs
    from postroomd.storage.engine import open_repository
    from postroomd.storage.migrations import require_current

    # One line says what is wrong here: a log beside it would say it twice.
    logs.configure("debug" if settings.log_level == "debug" else "error", settings.log_format, process="cli")
    require_database(settings)
    url = settings.database_url.get_secret_value()
    require_current(url)

    async def run() -> Result:
        repository = await open_repository(url)
        try:
            return await work(repository.tenancy)
        finally:
            await repository.close()

    return asyncio.run(run())


def _show(rows: Sequence[Mapping[str, Any]], kind: type[ApiKey] | type[Project], output: ListOutput) -> None:
    if output is ListOutput.JSON:
        typer.echo(json.dumps(rows, indent=2, default=_rfc3339))
        return
    columns = list(kind.__dataclass_fields__)
    _show_table(columns, [[_text(row[column]) for column in columns] for row in rows])


def _rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case _:
            return str(value)


def _show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
