"""Tenants and their keys: organizations, projects, API keys and scopes; and the operator's admin keys."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """A tenant: none of its data is visible to another organization."""

    id: str
    name: str = ""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationSummary(Organization):
    """An organization with the number of its projects, and of their mailboxes that count towards the quotas."""

    project_count: int
    mailbox_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A part of an organization, with a mailbox quota of its own.

    `mailbox_count` is the number of its mailboxes that count towards the quota: those that are not purged yet, without
    those that were deleted before they were ever paid for.
    """

    id: str
    organization_id: str
    name: str
    mailbox_quota: int
    mailbox_count: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of an organization. Its secret is stored as a SHA-256 digest only.

    `name` says what the key is for; it need not be unique. `project_id`, if set, limits the key to one project.
    `default_project_id` is the project of a resource that is created without one.
    `password_hashes` lets it create mailboxes with password hashes of another mail system.
    """

    access_key: str
    name: str = ""
    organization_id: str
    project_id: str | None
    default_project_id: str
    read_only: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    password_hashes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RotatedKey:
    """The successor of an API key, and the key that it replaces."""

    key: ApiKey
    former: ApiKey


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminKey:
    """A key of the operator, with a unique name. Its secret is stored as a SHA-256 digest only."""

    name: str
    read_only: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a tenant's call can reach: one organization, or one project of it."""

    organization_id: str
    project_id: str | None = None
