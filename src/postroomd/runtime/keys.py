"""Issuing keys: the one place where a secret exists in clear, to be shown once."""

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from postroomd.domain.errors import NotFound
from postroomd.domain.keys import (
    ACCESS_KEY_ALPHABET,
    ACCESS_KEY_PREFIX,
    ACCESS_KEY_RANDOM,
    hash_secret,
)
from postroomd.domain.tenancy import AdminKey, ApiKey, Organization, Project
from postroomd.net import connectable
from postroomd.storage.protocols.tenancy import AdminKeys, Tenancy

FIRST_PROJECT_NAME = "default"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key with its secret, which is stored nowhere."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key!r}, secret=…)"


async def issue_key(
    tenancy: Tenancy,
    *,
    organization_id: str | None,
    project_id: str | None,
    read_only: bool,
    expires_at: datetime | None,
    mailbox_quota: int,
    now: datetime,
) -> IssuedKey:
    """Store a new key, and answer it with its secret.

    Without an organization and a project, it is the key of a new organization, whose first project may have
    `mailbox_quota` mailboxes. With a project, the key is limited to it. With an organization alone, the key reaches
    all of it, and makes things in its oldest project. Raises NotFound for an id that is unknown, or a project of
    another organization.
    """
    if organization_id is None and project_id is None:
        project = await _new_organization(tenancy, mailbox_quota, now)
    else:
        project = _choose(await tenancy.list_projects(organization_id), organization_id, project_id)
    secret = str(uuid.uuid4())
    key = ApiKey(
        access_key=_new_access_key(),
        organization_id=project.organization_id,
        project_id=project_id and project.id,
        default_project_id=project.id,
        read_only=read_only,
        created_at=now,
        expires_at=expires_at,
        revoked_at=None,
    )
    await tenancy.create_key(key, hash_secret(secret))
    return IssuedKey(key, secret)


async def _new_organization(tenancy: Tenancy, mailbox_quota: int, now: datetime) -> Project:
    organization = Organization(id=str(uuid.uuid4()), created_at=now)
    project = new_project(organization.id, FIRST_PROJECT_NAME, mailbox_quota, now)
    await tenancy.create_organization(organization, project)
    return project


def new_project(organization_id: str, name: str, mailbox_quota: int, now: datetime) -> Project:
    """An empty project, yet to be stored."""
    return Project(
        id=str(uuid.uuid4()),
        organization_id=organization_id,
        name=name,
        mailbox_quota=mailbox_quota,
        mailbox_count=0,
        created_at=now,
    )


def _choose(projects: Sequence[Project], organization_id: str | None, project_id: str | None) -> Project:
    # An organization is made with a project, and projects stay: one without any doesn't exist.
    if organization_id is not None and not projects:
        raise NotFound("organization", organization_id)
    if project_id is None:
        return projects[0]
    for project in projects:
        if project.id == project_id:
            return project
    raise NotFound("project", project_id)


async def issue_admin_key(
    admin_keys: AdminKeys, *, name: str, read_only: bool, expires_at: datetime | None, now: datetime
) -> str:
    """Store a new admin key, and answer its secret. Raises Conflict where the name is taken."""
    secret = str(uuid.uuid4())
    key = AdminKey(name=name, read_only=read_only, created_at=now, expires_at=expires_at, revoked_at=None)
    await admin_keys.create(key, hash_secret(secret))
    return secret


def _new_access_key() -> str:
    return ACCESS_KEY_PREFIX + "".join(secrets.choice(ACCESS_KEY_ALPHABET) for _ in range(ACCESS_KEY_RANDOM))


def api_url(http_address: str) -> str:
    """The URL of the gateway that listens on `http_address`."""
    return f"http://{connectable(http_address)}"


def scw_environment(issued: IssuedKey, api_url: str) -> dict[str, str]:
    """The variables by which the SDKs find the API and the key, in the order they are shown."""
    return {
        "SCW_API_URL": api_url,
        "SCW_ACCESS_KEY": issued.key.access_key,
        "SCW_SECRET_KEY": issued.secret,
        "SCW_DEFAULT_ORGANIZATION_ID": issued.key.organization_id,
        "SCW_DEFAULT_PROJECT_ID": issued.key.default_project_id,
    }
