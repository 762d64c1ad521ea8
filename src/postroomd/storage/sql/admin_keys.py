"""Storage of the operator's keys."""

from collections.abc import Sequence
from datetime import datetime
from hmac import compare_digest

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.errors import Conflict, NotFound, ResourceName
from postroomd.domain.tenancy import AdminKey
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.sql.rows import columns_of, from_row, to_row
from postroomd.storage.sql.tenancy import PREFIX_OCTETS, digest_columns

KEY = columns_of(AdminKey, t.admin_keys)


class SqlAdminKeys:
    """The operator's keys, which belong to no tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, key: AdminKey, secret_hash: bytes) -> None:
        """Store a new admin key. Raises Conflict if another has its name, even a revoked one."""

        async def transaction(connection: AsyncConnection) -> AdminKey:
            if await _fetch_key(connection, key.name):
                message = f"admin key name {key.name} is already in use: choose another name"
                raise Conflict(message, [ResourceName("admin_key", key.name)])
            await connection.execute(insert(t.admin_keys).values(to_row(key) | digest_columns(secret_hash)))
            return key

        await self._database.write(transaction)

    async def list(self) -> Sequence[AdminKey]:
        """Return all admin keys, oldest first."""

        async def transaction(connection: AsyncConnection) -> Sequence[AdminKey]:
            query = select(*KEY).order_by(t.admin_keys.c.created_at, t.admin_keys.c.name)
            return [from_row(AdminKey, row) for row in await connection.execute(query)]

        return await self._database.read(transaction)

    async def revoke(self, name: str, now: datetime) -> AdminKey:
        """Revoke an admin key, unless it is revoked already, and return it. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> AdminKey | Unchanged[AdminKey]:
            valid = (t.admin_keys.c.name == name, t.admin_keys.c.revoked_at.is_(None))
            revoked = (await connection.execute(update(t.admin_keys).where(*valid).values(revoked_at=now))).rowcount
            key = await _fetch_key(connection, name)
            if key is None:
                raise NotFound("admin_key", name)
            return key if revoked else Unchanged(key)

        return await self._database.write(transaction)

    async def find(self, secret_hash: bytes) -> AdminKey | None:
        """Return the admin key whose secret has the digest, even if revoked or expired; None if there is none."""

        async def transaction(connection: AsyncConnection) -> AdminKey | None:
            # As in SqlTenancy.find_key, only the prefix is compared in variable time.
            prefix = t.admin_keys.c.secret_prefix == secret_hash[:PREFIX_OCTETS]
            query = select(*[*KEY, t.admin_keys.c.secret_hash]).where(prefix)
            for row in await connection.execute(query):
                if compare_digest(row.secret_hash, secret_hash):
                    return from_row(AdminKey, row)
            return None

        return await self._database.read(transaction)


async def _fetch_key(connection: AsyncConnection, name: str) -> AdminKey | None:
    row = (await connection.execute(select(*KEY).where(t.admin_keys.c.name == name))).one_or_none()
    return from_row(AdminKey, row) if row else None
