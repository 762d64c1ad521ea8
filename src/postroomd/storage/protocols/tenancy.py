"""Storage of organizations, projects, API keys and admin keys."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.tenancy import AdminKey, ApiKey, Organization, OrganizationSummary, Project


class Tenancy(Protocol):
    """Organizations, projects and API keys."""

    async def create_organization(self, organization: Organization, first_project: Project) -> None:
        """Store a new organization with its first project."""

    async def list_organizations(self) -> Sequence[OrganizationSummary]:
        """Return all organizations, oldest first."""

    async def create_project(self, project: Project) -> None:
        """Store a new project. Raises NotFound for its organization."""

    async def get_project(self, context: CallContext, project_id: str) -> Project:
        """Return a project. Raises NotFound."""

    async def list_projects(self, organization_id: str | None = None) -> Sequence[Project]:
        """Return the projects of an organization, by default of all, oldest first. Raises NotFound."""

    async def set_mailbox_quota(self, project_id: str, mailbox_quota: int) -> Project:
        """Set the mailbox quota of a project, also below the number of its mailboxes. Raises NotFound."""

    async def create_key(self, key: ApiKey, secret_hash: bytes) -> None:
        """Store a new API key with the SHA-256 digest of its secret (32 octets).

        Raises NotFound for its organization, or a project of the key that is not in the organization.
        """

    async def list_keys(self, organization_id: str | None = None) -> Sequence[ApiKey]:
        """Return the API keys of an organization, by default of all, oldest first. Raises NotFound."""

    async def revoke_key(self, access_key: str, now: datetime) -> ApiKey:
        """Revoke an API key, unless it is revoked already, and return it. Raises NotFound."""

    async def rotate_key(
        self, access_key: str, successor: Callable[[ApiKey], ApiKey], secret_hash: bytes, expires_at: datetime
    ) -> ApiKey:
        """Store the successor of an API key, and return it; the former key expires at `expires_at`, unless earlier.

        `successor` returns the new key for the former one, and may raise. Raises NotFound.
        """

    async def find_key(self, secret_hash: bytes) -> ApiKey | None:
        """Return the API key whose secret has the digest, even if revoked or expired; None if there is none."""


class AdminKeys(Protocol):
    """The operator's keys, which belong to no tenant."""

    async def create(self, key: AdminKey, secret_hash: bytes) -> None:
        """Store a new admin key with the SHA-256 digest of its secret (32 octets).

        Raises Conflict if an admin key, revoked or not, has its name.
        """

    async def list(self) -> Sequence[AdminKey]:
        """Return all admin keys, oldest first."""

    async def revoke(self, name: str, now: datetime) -> AdminKey:
        """Revoke an admin key, unless it is revoked already, and return it. Raises NotFound."""

    async def find(self, secret_hash: bytes) -> AdminKey | None:
        """Return the admin key whose secret has the digest, even if revoked or expired; None if there is none."""
