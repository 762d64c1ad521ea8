"""The storage protocols over SQLAlchemy Core: one implementation for both engines."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.diagnosis import Finding
from postroomd.domain.model import Domain, DomainRecord
from postroomd.storage.database import Database
from postroomd.storage.idempotency import require_unused
from postroomd.storage.schema import SEARCHED_NAMES, TENANT_TABLE_NAMES
from postroomd.storage.secret_keys import NO_KEYS, SecretKeys
from postroomd.storage.sql.admin_keys import SqlAdminKeys
from postroomd.storage.sql.administration import SqlAdministration
from postroomd.storage.sql.aliases import SqlAliases
from postroomd.storage.sql.audit import SqlAuditLog
from postroomd.storage.sql.clocks import SqlClocks
from postroomd.storage.sql.diagnosis import diagnose, ready_domains
from postroomd.storage.sql.dkim import SqlSigningKeys
from postroomd.storage.sql.dkim_rotations import SqlDkimRotations
from postroomd.storage.sql.domains import SqlDomains
from postroomd.storage.sql.forwardings import SqlForwardings
from postroomd.storage.sql.mailboxes import SqlMailboxes
from postroomd.storage.sql.secrets import SqlSecrets
from postroomd.storage.sql.sessions import SqlSessionEnds
from postroomd.storage.sql.tenancy import SqlTenancy
from postroomd.storage.sql.work import SqlWork


class SqlRepository:
    """The Repository over one database."""

    def __init__(self, database: Database, secret_keys: SecretKeys = NO_KEYS) -> None:
        self._database = database
        self.tenancy = SqlTenancy(database)
        self.admin_keys = SqlAdminKeys(database)
        self.domains = SqlDomains(database, secret_keys)
        self.mailboxes = SqlMailboxes(database)
        self.aliases = SqlAliases(database)
        self.forwardings = SqlForwardings(database)
        self.work = SqlWork(database)
        self.administration = SqlAdministration(database)
        self.audit = SqlAuditLog(database)
        self.clocks = SqlClocks(database)
        self.dkim_rotations = SqlDkimRotations(database, secret_keys)
        self.signing_keys = SqlSigningKeys(database, secret_keys)
        self.secrets = SqlSecrets(database, secret_keys)
        self.session_ends = SqlSessionEnds(database)

    async def require_unused(self, context: CallContext) -> None:
        """Check the context's idempotency key. Raises Replayed or InvalidArguments if it was used."""
        if (request := context.idempotency) is not None:
            await self._database.read(lambda connection: require_unused(connection, context.scope, request), context)

    async def ping(self) -> None:
        """Run one statement on the database. Raises StorageUnavailable, with the reason if its files are at fault."""
        await self._database.require_intact_files()

        async def transaction(connection: AsyncConnection) -> None:
            await connection.execute(select(1))

        await self._database.read(transaction)

    async def faults(self) -> Sequence[str]:
        """Return what the database lacks to isolate and serve tenants. Raises StorageUnavailable."""
        driver = self._database.driver

        async def transaction(connection: AsyncConnection) -> Sequence[str]:
            return await connection.run_sync(driver.faults, TENANT_TABLE_NAMES, SEARCHED_NAMES)

        return await self._database.read(transaction)

    async def diagnose(self, *, with_records: bool = True) -> Sequence[Finding]:
        """Return the findings on the database and the domains in it. Raises StorageUnavailable."""
        return await diagnose(self._database, with_records=with_records)

    async def ready_domains(self, after: str, limit: int) -> Sequence[tuple[Domain, Mapping[str, DomainRecord]]]:
        """Return up to `limit` ready domains of any tenant with their records, after an id, "" for the first ones."""
        return await ready_domains(self._database, after, limit)

    async def close(self) -> None:
        """Wait for running transactions, then close every connection."""
        await self._database.close()
