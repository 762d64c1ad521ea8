"""Issuing API keys and admin keys: the only place where their secrets exist in plain text."""

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from postroomd.domain.errors import NotFound, Precondition, PreconditionFailed, ResourceName
from postroomd.domain.keys import (
    ACCESS_KEY_ALPHABET,
    ACCESS_KEY_PREFIX,
    ACCESS_KEY_RANDOM,
    hash_secret,
)
from postroomd.domain.tenancy import AdminKey, ApiKey, Organization, Project
from postroomd.storage.protocols.tenancy import AdminKeys, Tenancy

FIRST_PROJECT_NAME = "default"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key with its secret, which is not stored."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key!r}, secret=…)"


async def issue_key(
    tenancy: Tenancy,
    *,
    organization_id: str | None,
    project_id: str | None,
    name: str = "",
    read_only: bool,
    expires_at: datetime | None,
    mailbox_quota: int,
    now: datetime,
    password_hashes: bool = False,
) -> IssuedKey:
    """Store a new API key, and return it with its secret.

    With a project, the key is limited to it. With only an organization, the key can access all of it, and the oldest
    project is its default. With neither, the key belongs to a new organization, whose first project has the quota
    `mailbox_quota`. Raises NotFound for an unknown id or a project of another organization.
    """
    if organization_id is None and project_id is None:
        project = await new_organization(tenancy, "", mailbox_quota, now)
    else:
        project = _find_project(await tenancy.list_projects(organization_id), project_id)
    secret = str(uuid.uuid4())
    key = ApiKey(
        access_key=_new_access_key(),
        name=name,
        organization_id=project.organization_id,
        project_id=project_id and project.id,
        default_project_id=project.id,
        read_only=read_only,
        created_at=now,
        expires_at=expires_at,
        revoked_at=None,
        password_hashes=password_hashes,
    )
    await tenancy.create_key(key, hash_secret(secret))
    return IssuedKey(key, secret)


async def rotate_key(
    tenancy: Tenancy, access_key: str, *, expires_at: datetime | None, former_expires_at: datetime, now: datetime
) -> IssuedKey:
    """Store a key with the name, scope and permissions of another, and return it with its secret.

    The other one expires at `former_expires_at`, unless earlier. Raises NotFound; PreconditionFailed for a key that is
    revoked or expired, and for one that expires while `expires_at` is None: its successor would be unlimited.
    """
    secret, new_access_key = str(uuid.uuid4()), _new_access_key()

    def successor(former: ApiKey) -> ApiKey:
        fault = ""
        if former.revoked_at is not None or (former.expires_at is not None and former.expires_at <= now):
            fault = "is revoked or expired: create another key with `postroom keys create`"
        elif former.expires_at is not None and expires_at is None:
            fault = f"expires at {former.expires_at:%Y-%m-%dT%H:%M:%SZ}: set --expires-in for its successor"
        if fault:
            subject = ResourceName("api_key", access_key)
            raise PreconditionFailed(subject, Precondition.UNKNOWN_PRECONDITION, f"ACCESS_KEY: {access_key} {fault}")
        return replace(former, access_key=new_access_key, created_at=now, expires_at=expires_at)

    return IssuedKey(await tenancy.rotate_key(access_key, successor, hash_secret(secret), former_expires_at), secret)


async def new_organization(tenancy: Tenancy, name: str, mailbox_quota: int, now: datetime) -> Project:
    """Store a new organization, and return its first project, whose quota is `mailbox_quota`."""
    organization = Organization(id=str(uuid.uuid4()), name=name, created_at=now)
    project = new_project(organization.id, FIRST_PROJECT_NAME, mailbox_quota, now)
    await tenancy.create_organization(organization, project)
    return project


def new_project(organization_id: str, name: str, mailbox_quota: int, now: datetime) -> Project:
    """Return a new project without mailboxes; it is not stored yet."""
    return Project(
        id=str(uuid.uuid4()),
        organization_id=organization_id,
        name=name,
        mailbox_quota=mailbox_quota,
        mailbox_count=0,
        created_at=now,
    )


def _find_project(projects: Sequence[Project], project_id: str | None) -> Project:
    if project_id is None:
        # Every organization has a project: one is created with it, and projects are never deleted.
        return projects[0]
    for project in projects:
        if project.id == project_id:
            return project
    raise NotFound("project", project_id)


async def issue_admin_key(
    admin_keys: AdminKeys, *, name: str, read_only: bool, expires_at: datetime | None, now: datetime
) -> str:
    """Store a new admin key, and return its secret. Raises Conflict if the name is in use."""
    secret = str(uuid.uuid4())
    key = AdminKey(name=name, read_only=read_only, created_at=now, expires_at=expires_at, revoked_at=None)
    await admin_keys.create(key, hash_secret(secret))
    return secret


def _new_access_key() -> str:
    return ACCESS_KEY_PREFIX + "".join(secrets.choice(ACCESS_KEY_ALPHABET) for _ in range(ACCESS_KEY_RANDOM))
