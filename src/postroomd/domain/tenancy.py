"""Tenants: organizations, projects, keys, and what a key can reach."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """A tenant: nothing of one organization is visible to another."""

    id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A part of an organization, with its own mailbox quota.

    `mailbox_count` counts the mailboxes that are not purged yet.
    """

    id: str
    organization_id: str
    name: str
    mailbox_quota: int
    mailbox_count: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of an organization; its secret is kept as a SHA-256 digest alone.

    `project_id` limits the key to one project where it is set. `default_project_id` is the project of what it creates
    without naming one.
    """

    access_key: str
    organization_id: str
    project_id: str | None
    default_project_id: str
    read_only: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminKey:
    """A key of the operator's; its secret is kept as a SHA-256 digest alone. `name` is no other admin key's."""

    name: str
    read_only: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a caller can reach: one organization, or one project of it."""

    organization_id: str
    project_id: str | None = None
