"""Storage of organizations, projects and API keys."""

from collections.abc import Callable, Sequence
from datetime import datetime
from hmac import compare_digest

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.errors import NotFound
from postroomd.domain.tenancy import ApiKey, Organization, OrganizationSummary, Project, RotatedKey, Scope
from postroomd.storage import schema as t
from postroomd.storage.compiled import CompiledRead
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.sql.rows import columns_of, from_row, to_row

ORGANIZATION = columns_of(Organization, t.organizations)
PROJECT = columns_of(Project, t.projects)
KEY = columns_of(ApiKey, t.api_keys)
KEY_FIELDS = [column.name for column in KEY]

PREFIX_OCTETS = 8
"""How many octets of a secret's digest are indexed."""

_LOOKUP_BY_PREFIX = CompiledRead(
    select(t.api_keys.c.secret_hash, *KEY).where(t.api_keys.c.secret_prefix == bindparam("prefix")), by_key=True
)


async def fetch_project(connection: AsyncConnection, scope: Scope, project_id: str) -> Project:
    """Return a project in the scope. Raises NotFound."""
    row = None
    if scope.project_id in {None, project_id}:
        query = select(*PROJECT).where(t.projects.c.organization_id == scope.organization_id)
        row = (await connection.execute(query.where(t.projects.c.id == project_id))).one_or_none()
    if row is None:
        raise NotFound("project", project_id)
    return from_row(Project, row)


def digest_columns(secret_hash: bytes) -> dict[str, bytes]:
    """Return the columns that hold the digest of a key's secret."""
    return {"secret_hash": secret_hash, "secret_prefix": secret_hash[:PREFIX_OCTETS]}


class SqlTenancy:
    """Organizations, projects and API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_organization(self, organization: Organization, first_project: Project) -> None:
        """Store a new organization with its first project."""

        async def transaction(connection: AsyncConnection) -> Organization:
            await connection.execute(insert(t.organizations).values(to_row(organization)))
            await connection.execute(insert(t.projects).values(to_row(first_project)))
            return organization

        await self._database.write(transaction)

    async def list_organizations(self) -> Sequence[OrganizationSummary]:
        """Return all organizations, oldest first."""

        async def transaction(connection: AsyncConnection) -> list[OrganizationSummary]:
            counts = [
                func.count(t.projects.c.id).label("project_count"),
                func.coalesce(func.sum(t.projects.c.mailbox_count), 0).label("mailbox_count"),
            ]
            query = (
                select(*ORGANIZATION, *counts)
                .outerjoin(t.projects, t.projects.c.organization_id == t.organizations.c.id)
                .group_by(t.organizations.c.id)
                .order_by(t.organizations.c.created_at, t.organizations.c.id)
            )
            return [from_row(OrganizationSummary, row) for row in await connection.execute(query)]

        return await self._database.read(transaction)

    async def create_project(self, project: Project) -> None:
        """Store a new project. Raises NotFound for its organization."""

        async def transaction(connection: AsyncConnection) -> Project:
            await require_organization(connection, project.organization_id)
            await connection.execute(insert(t.projects).values(to_row(project)))
            return project

        await self._database.write(transaction)

    async def get_project(self, context: CallContext, project_id: str) -> Project:
        """Return a project. Raises NotFound."""
        return await self._database.read(
            lambda connection: fetch_project(connection, context.scope, project_id), context
        )

    async def list_projects(self, organization_id: str | None = None) -> Sequence[Project]:
        """Return the projects of an organization, by default of all, oldest first. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> list[Project]:
            query = select(*PROJECT).order_by(t.projects.c.created_at, t.projects.c.id)
            if organization_id is not None:
                await require_organization(connection, organization_id)
                query = query.where(t.projects.c.organization_id == organization_id)
            return [from_row(Project, row) for row in await connection.execute(query)]

        return await self._database.read(transaction)

    async def set_mailbox_quota(self, project_id: str, mailbox_quota: int) -> Project:
        """Set the mailbox quota of a project, also below the number of its mailboxes. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Project:
            this_project = t.projects.c.id == project_id
            await connection.execute(update(t.projects).where(this_project).values(mailbox_quota=mailbox_quota))
            row = (await connection.execute(select(*PROJECT).where(this_project))).one_or_none()
            if row is None:
                raise NotFound("project", project_id)
            return from_row(Project, row)

        return await self._database.write(transaction)

    async def create_key(self, key: ApiKey, secret_hash: bytes) -> None:
        """Store a new API key. Raises NotFound for its organization, or a project that is not in it."""

        async def transaction(connection: AsyncConnection) -> ApiKey:
            await require_organization(connection, key.organization_id)
            scope = Scope(organization_id=key.organization_id)
            for project_id in {key.project_id, key.default_project_id} - {None}:
                await fetch_project(connection, scope, str(project_id))
            await connection.execute(insert(t.api_keys).values(to_row(key) | digest_columns(secret_hash)))
            return key

        await self._database.write(transaction)

    async def list_keys(self, organization_id: str | None = None) -> Sequence[ApiKey]:
        """Return the API keys of an organization, by default of all, oldest first. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> list[ApiKey]:
            query = select(*KEY).order_by(t.api_keys.c.created_at, t.api_keys.c.access_key)
            if organization_id is not None:
                await require_organization(connection, organization_id)
                query = query.where(t.api_keys.c.organization_id == organization_id)
            return [from_row(ApiKey, row) for row in await connection.execute(query)]

        return await self._database.read(transaction)

    async def revoke_key(self, access_key: str, now: datetime) -> ApiKey:
        """Revoke an API key, unless it is revoked already, and return it. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> ApiKey | Unchanged[ApiKey]:
            this_key = t.api_keys.c.access_key == access_key
            revoking = update(t.api_keys).where(this_key, t.api_keys.c.revoked_at.is_(None)).values(revoked_at=now)
            revoked = (await connection.execute(revoking)).rowcount
            row = (await connection.execute(select(*KEY).where(this_key))).one_or_none()
            if row is None:
                raise NotFound("api_key", access_key)
            key = from_row(ApiKey, row)
            return key if revoked else Unchanged(key)

        return await self._database.write(transaction)

    async def rotate_key(
        self, access_key: str, successor: Callable[[ApiKey], ApiKey], secret_hash: bytes, expires_at: datetime
    ) -> ApiKey:
        """Store the successor of an API key, and return it; the former key expires at `expires_at`, unless earlier."""

        async def transaction(connection: AsyncConnection) -> RotatedKey:
            this_key = t.api_keys.c.access_key == access_key
            row = (await connection.execute(select(*KEY).where(this_key).with_for_update())).one_or_none()
            if row is None:
                raise NotFound("api_key", access_key)
            former = from_row(ApiKey, row)
            key = successor(former)
            await connection.execute(insert(t.api_keys).values(to_row(key) | digest_columns(secret_hash)))
            ends = min(former.expires_at or expires_at, expires_at)
            await connection.execute(update(t.api_keys).where(this_key).values(expires_at=ends))
            return RotatedKey(key=key, former=former)

        return (await self._database.write(transaction)).key

    async def find_key(self, secret_hash: bytes) -> ApiKey | None:
        """Return the API key whose secret has the digest, even if revoked or expired; None if there is none."""
        # The index search takes variable time, and so may leak the indexed 8 octets of the digest, no more: the whole
        # digest is compared in constant time.
        rows = await self._database.fetch(_LOOKUP_BY_PREFIX, {"prefix": secret_hash[:PREFIX_OCTETS]})
        for stored_hash, *values in rows:
            if compare_digest(stored_hash, secret_hash):
                return ApiKey(**dict(zip(KEY_FIELDS, values, strict=True)))
        return None


async def require_organization(connection: AsyncConnection, organization_id: str) -> None:
    """Raise NotFound for an unknown organization."""
    query = select(t.organizations.c.id).where(t.organizations.c.id == organization_id)
    if (await connection.execute(query)).one_or_none() is None:
        raise NotFound("organization", organization_id)
