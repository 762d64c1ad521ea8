"""The one implementation of storage/repository.py, over SQLAlchemy Core."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.storage.engine import Database
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
        self.domains = SqlDomains(database)
        self.mailboxes = SqlMailboxes(database)
        self.aliases = SqlAliases(database)
        self.work = SqlWork(database)

    async def ping(self) -> None:
        """Ask the database for an answer. Raises StorageUnavailable."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(select(1))

        await self._database.read(work)

    async def close(self) -> None:
        """Let running transactions finish, then close every connection."""
        await self._database.close()
