"""The one implementation of storage/repository.py, over SQLAlchemy Core."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.storage.database import Database
from postroomd.storage.idempotency import require_unused
from postroomd.storage.sql.admin_keys import SqlAdminKeys
from postroomd.storage.sql.administration import SqlAdministration
from postroomd.storage.sql.aliases import SqlAliases
from postroomd.storage.sql.domains import SqlDomains
from postroomd.storage.sql.mailboxes import SqlMailboxes
from postroomd.storage.sql.tenancy import SqlTenancy
from postroomd.storage.sql.work import SqlWork


class SqlRepository:
    """All that is stored, by room, over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.tenancy = SqlTenancy(database)
        self.admin_keys = SqlAdminKeys(database)
        self.domains = SqlDomains(database)
        self.mailboxes = SqlMailboxes(database)
        self.aliases = SqlAliases(database)
        self.work = SqlWork(database)
        self.administration = SqlAdministration(database)

    async def require_unused(self, context: CallContext) -> None:
        """Raise Replayed where the call under way has been done before: a look ahead of its work.

        Raises InvalidArguments where its idempotency key was used for another request.
        """
        if (request := context.idempotency) is not None:
            await self._database.read(lambda connection: require_unused(connection, context.scope, request), context)

    async def ping(self) -> None:
        """Ask the database for an answer. Raises StorageUnavailable."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(select(1))

        await self._database.read(work)

    async def close(self) -> None:
        """Let running transactions finish, then close every connection."""
        await self._database.close()
