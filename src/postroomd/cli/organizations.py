"""`postroom organizations`, `projects`: tenants and their quotas, in the database."""

import unicodedata
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from postroomd.cli.database import with_repository
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows
from postroomd.domain.tenancy import OrganizationSummary, Project
from postroomd.runtime.keys import new_organization, new_project
from postroomd.settings import InvalidSetting, Settings

MAX_NAME_LENGTH = 255  # characters
MAX_QUOTA = 2_000_000_000
PROJECT_COLUMNS = tuple(Project.__dataclass_fields__)
ORGANIZATION_COLUMNS = tuple(OrganizationSummary.__dataclass_fields__)

organizations = typer.Typer(
    name="organizations", help="Organizations: the tenants.", no_args_is_help=True, rich_markup_mode=None
)
projects = typer.Typer(name="projects", help="Projects of organizations.", no_args_is_help=True, rich_markup_mode=None)

OrganizationId = Annotated[
    str | None, typer.Option("--organization-id", metavar="ID", help="List only this organization's.")
]


def validated_name(name: str, *, required: bool = True) -> str:
    """Return a display name. Raises InvalidSetting."""
    if (
        len(name) > MAX_NAME_LENGTH
        or any(unicodedata.category(character) == "Cc" for character in name)
        or (required and not name)
    ):
        raise InvalidSetting(f"--name: expected 1 to {MAX_NAME_LENGTH} characters, none of them a control character")
    return name


def lower(text: str | None) -> str | None:
    """Return an id in the case in which it is stored."""
    return text and text.lower()


@organizations.command("create")
@with_settings("organizations create")
def create_organization(
    *,
    settings: Settings,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Display name of the organization.")],
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Create an organization and its first project, `default`."""
    validated_name(name)
    now = datetime.now(UTC)
    project = with_repository(
        settings, lambda repository: new_organization(repository.tenancy, name, settings.mailbox_quota, now)
    )
    row = {"id": project.organization_id, "name": name, "project_id": project.id, "created_at": now}
    print_rows([row], list(row), output)


@organizations.command("list")
@with_settings("organizations list")
def list_organizations(*, settings: Settings, output: ListOutput = ListFormat.TABLE) -> None:
    """List organizations, oldest first, with the numbers of their projects and mailboxes."""
    listed = with_repository(settings, lambda repository: repository.tenancy.list_organizations())
    print_rows([asdict(organization) for organization in listed], ORGANIZATION_COLUMNS, output)


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
    project = new_project(organization_id.lower(), validated_name(name), settings.mailbox_quota, datetime.now(UTC))
    with_repository(settings, lambda repository: repository.tenancy.create_project(project))
    print_rows([asdict(project)], PROJECT_COLUMNS, output)


@projects.command("list")
@with_settings("projects list")
def list_projects(
    *, settings: Settings, organization_id: OrganizationId = None, output: ListOutput = ListFormat.TABLE
) -> None:
    """List projects, oldest first, with their mailbox quotas and mailbox counts."""
    listed = with_repository(settings, lambda repository: repository.tenancy.list_projects(lower(organization_id)))
    print_rows([asdict(project) for project in listed], PROJECT_COLUMNS, output)


@projects.command("set-quota")
@with_settings("projects set-quota")
def set_quota(
    *,
    settings: Settings,
    project_id: Annotated[str, typer.Argument(metavar="PROJECT_ID")],
    mailboxes: Annotated[
        int, typer.Argument(metavar="MAILBOXES", min=0, max=MAX_QUOTA, help="Maximum mailboxes of the project.")
    ],
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Set the mailbox quota of a project.

    Below the number of its mailboxes, no more can be created; existing ones stay.
    """
    project = with_repository(
        settings, lambda repository: repository.tenancy.set_mailbox_quota(project_id.lower(), mailboxes)
    )
    print_rows([asdict(project)], PROJECT_COLUMNS, output)
