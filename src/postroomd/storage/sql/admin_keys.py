"""The operator's keys."""

from collections.abc import Sequence
from datetime import datetime
from hmac import compare_digest

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.errors import Conflict, NotFound, ResourceName
from postroomd.domain.tenancy import AdminKey
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.sql.rows import columns_of, from_row, to_row
from postroomd.storage.sql.tenancy import SECRET_PREFIX

KEY = columns_of(AdminKey, t.admin_keys)


class SqlAdminKeys:
    """The operator's keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, key: AdminKey, secret_hash: bytes) -> None:
        """Store a new key. Raises Conflict where there is one of its name, a revoked one included."""

        async def work(connection: AsyncConnection) -> None:
            if await _named(connection, key.name):
                message = f"there is an admin key {key.name} already"
                raise Conflict(message, [ResourceName("admin_key", key.name)])
            digest = {"secret_hash": secret_hash, "secret_prefix": secret_hash[:SECRET_PREFIX]}
            await connection.execute(insert(t.admin_keys).values(to_row(key) | digest))

        await self._database.write(work)

    async def list(self) -> Sequence[AdminKey]:
        """All of them: oldest first."""

        async def work(connection: AsyncConnection) -> Sequence[AdminKey]:
            listing = select(*KEY).order_by(t.admin_keys.c.created_at, t.admin_keys.c.name)
            return [from_row(AdminKey, row) for row in await connection.execute(listing)]

        return await self._database.read(work)

    async def revoke(self, name: str, now: datetime) -> AdminKey:
        """Revoke a key; one that is revoked stays as it is. Raises NotFound."""

        async def work(connection: AsyncConnection) -> AdminKey:
            this = (t.admin_keys.c.name == name, t.admin_keys.c.revoked_at.is_(None))
            await connection.execute(update(t.admin_keys).where(*this).values(revoked_at=now))
            key = await _named(connection, name)
            if key is None:
                raise NotFound("admin_key", name)
            return key

        return await self._database.write(work)

    async def find(self, secret_hash: bytes) -> AdminKey | None:
        """The key with this digest of its secret, revoked and expired ones included."""

        async def work(connection: AsyncConnection) -> AdminKey | None:
            # As SqlTenancy.find_key: what the index compares is no secret by itself.
            prefix = t.admin_keys.c.secret_prefix == secret_hash[:SECRET_PREFIX]
            finding = select(*KEY, t.admin_keys.c.secret_hash).where(prefix)
            for *values, stored in await connection.execute(finding):
                if compare_digest(stored, secret_hash):
                    return AdminKey(**dict(zip((column.name for column in KEY), values, strict=True)))
            return None

        return await self._database.read(work)


async def _named(connection: AsyncConnection, name: str) -> AdminKey | None:
    row = (await connection.execute(select(*KEY).where(t.admin_keys.c.name == name))).one_or_none()
    return from_row(AdminKey, row) if row else None
