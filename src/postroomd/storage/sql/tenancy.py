"""Organizations, projects and API keys."""

from collections.abc import Sequence
from datetime import datetime
from hmac import compare_digest

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.errors import NotFound
from postroomd.domain.tenancy import ApiKey, Organization, Project, Scope
from postroomd.storage import schema as t
from postroomd.storage.compiled import CompiledRead
from postroomd.storage.database import Database
from postroomd.storage.sql.rows import columns_of, from_row, to_row

PROJECT = columns_of(Project, t.projects)
KEY = columns_of(ApiKey, t.api_keys)
KEY_FIELDS = [column.name for column in KEY]
SECRET_PREFIX = 8  # octets
_BY_PREFIX = CompiledRead(
    select(t.api_keys.c.secret_hash, *KEY).where(t.api_keys.c.secret_prefix == bindparam("prefix")), by_key=True
)


async def fetch_project(connection: AsyncConnection, scope: Scope, project_id: str) -> Project:
    """One project of the caller's. Raises NotFound."""
    row = None
    if scope.project_id in {None, project_id}:
        found = select(*PROJECT).where(t.projects.c.organization_id == scope.organization_id)
        row = (await connection.execute(found.where(t.projects.c.id == project_id))).one_or_none()
    if row is None:
        raise NotFound("project", project_id)
    return from_row(Project, row)


class SqlTenancy:
    """Organizations, projects and API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_organization(self, organization: Organization, first_project: Project) -> None:
        """Store a new organization with its first project."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(t.organizations).values(to_row(organization)))
            await connection.execute(insert(t.projects).values(to_row(first_project)))

        await self._database.write(work)

    async def create_project(self, project: Project) -> None:
        """Store a new project. Raises NotFound for an unknown organization."""

        async def work(connection: AsyncConnection) -> None:
            await _require_organization(connection, project.organization_id)
            await connection.execute(insert(t.projects).values(to_row(project)))

        await self._database.write(work)

    async def get_project(self, context: CallContext, project_id: str) -> Project:
        """One project. Raises NotFound."""
        return await self._database.read(
            lambda connection: fetch_project(connection, context.scope, project_id), context
        )

    async def list_projects(self, organization_id: str | None = None) -> Sequence[Project]:
        """The projects of one organization, or of all: oldest first."""

        async def work(connection: AsyncConnection) -> list[Project]:
            listing = select(*PROJECT).order_by(t.projects.c.created_at, t.projects.c.id)
            if organization_id is not None:
                listing = listing.where(t.projects.c.organization_id == organization_id)
            return [from_row(Project, row) for row in await connection.execute(listing)]

        return await self._database.read(work)

    async def create_key(self, key: ApiKey, secret_hash: bytes) -> None:
        """Store a new key. Raises NotFound where its organization, or a project of it, is unknown."""

        async def work(connection: AsyncConnection) -> None:
            await _require_organization(connection, key.organization_id)
            scope = Scope(organization_id=key.organization_id)
            for project_id in {key.project_id, key.default_project_id} - {None}:
                await fetch_project(connection, scope, str(project_id))
            digest = {"secret_hash": secret_hash, "secret_prefix": secret_hash[:SECRET_PREFIX]}
            await connection.execute(insert(t.api_keys).values(to_row(key) | digest))

        await self._database.write(work)

    async def list_keys(self, organization_id: str | None = None) -> Sequence[ApiKey]:
        """The keys of one organization, or of all: oldest first."""

        async def work(connection: AsyncConnection) -> list[ApiKey]:
            listing = select(*KEY).order_by(t.api_keys.c.created_at, t.api_keys.c.access_key)
            if organization_id is not None:
                listing = listing.where(t.api_keys.c.organization_id == organization_id)
            return [from_row(ApiKey, row) for row in await connection.execute(listing)]

        return await self._database.read(work)

    async def revoke_key(self, access_key: str, now: datetime) -> ApiKey:
        """Revoke a key; one that is revoked stays as it is. Raises NotFound."""

        async def work(connection: AsyncConnection) -> ApiKey:
            named = t.api_keys.c.access_key == access_key
            revoking = update(t.api_keys).where(named, t.api_keys.c.revoked_at.is_(None)).values(revoked_at=now)
            await connection.execute(revoking)
            row = (await connection.execute(select(*KEY).where(named))).one_or_none()
            if row is None:
                raise NotFound("api_key", access_key)
            return from_row(ApiKey, row)

        return await self._database.write(work)

    async def find_key(self, secret_hash: bytes) -> ApiKey | None:
        """The key with this digest of its secret, revoked and expired ones included."""
        # The time that the index takes tells of 8 octets of the digest; the rest is compared in constant time.
        for stored, *values in await self._database.fetch(_BY_PREFIX, {"prefix": secret_hash[:SECRET_PREFIX]}):
            if compare_digest(stored, secret_hash):
                return ApiKey(**dict(zip(KEY_FIELDS, values, strict=True)))
        return None


async def _require_organization(connection: AsyncConnection, organization_id: str) -> None:
    found = select(t.organizations.c.id).where(t.organizations.c.id == organization_id)
    if (await connection.execute(found)).one_or_none() is None:
        raise NotFound("organization", organization_id)
