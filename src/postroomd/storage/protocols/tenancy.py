"""Organizations, projects, API keys and admin keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.tenancy import AdminKey, ApiKey, Organization, Project


class Tenancy(Protocol):
    """Organizations, projects and API keys."""

    async def create_organization(self, organization: Organization, first_project: Project) -> None:
        """Store a new organization with its first project."""

    async def create_project(self, project: Project) -> None:
        """Store a new project. Raises NotFound for an unknown organization."""

    async def get_project(self, context: CallContext, project_id: str) -> Project:
        """One project. Raises NotFound."""

    async def list_projects(self, organization_id: str | None = None) -> Sequence[Project]:
        """The projects of one organization, or of all: oldest first."""

    async def create_key(self, key: ApiKey, secret_hash: bytes) -> None:
        """Store a new key. Raises NotFound where its organization, or a project of it, is unknown."""

    async def list_keys(self, organization_id: str | None = None) -> Sequence[ApiKey]:
        """The keys of one organization, or of all: oldest first."""

    async def revoke_key(self, access_key: str, now: datetime) -> ApiKey:
        """Revoke a key; one that is revoked stays as it is. Raises NotFound."""

    async def find_key(self, secret_hash: bytes) -> ApiKey | None:
        """The key with this digest of its secret, revoked and expired ones included."""


class AdminKeys(Protocol):
    """The operator's own keys, which are no tenant's."""

    async def create(self, key: AdminKey, secret_hash: bytes) -> None:
        """Store a new key. Raises Conflict where there is one of its name, a revoked one included."""

    async def list(self) -> Sequence[AdminKey]:
        """All of them: oldest first."""

    async def revoke(self, name: str, now: datetime) -> AdminKey:
        """Revoke a key; one that is revoked stays as it is. Raises NotFound."""

    async def find(self, secret_hash: bytes) -> AdminKey | None:
        """The key with this digest of its secret, revoked and expired ones included."""
