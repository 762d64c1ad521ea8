"""Opening a repository by its URL."""

from dataclasses import dataclass

from sqlalchemy import make_url

from postroomd.domain.context import CallContext
from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.storage.database import Database
from postroomd.storage.drivers import driver_for, open_engines
from postroomd.storage.failures import located
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.replica import Replica
from postroomd.storage.secret_keys import NO_KEYS, SecretKeys
from postroomd.storage.sql import SqlRepository

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaUrl:
    """The URL of a read replica, and the maximum staleness of its reads."""

    url: str
    max_staleness_seconds: float

    def __repr__(self) -> str:
        return "ReplicaUrl(…)"  # a URL may hold a password


async def open_repository(
    url: str,
    *,
    owner: bool = False,
    worker: bool = False,
    pool_size: int = 10,
    isolation: str | None = None,
    replica: ReplicaUrl | None = None,
    statement_timeout_seconds: float = 0,
    traced: bool = False,
    command: CallContext | None = None,
    secret_keys: SecretKeys = NO_KEYS,
) -> Repository:
    """Open the repository over the database at `url`: sqlite+aiosqlite:///PATH or postgresql+asyncpg://….

    `owner` is the one process that checkpoints an SQLite file: it holds the lock of the service. A `worker` waits for
    checkpoints before it writes more. `isolation` overrides the default isolation level of
    a PostgreSQL server, which cancels statements after `statement_timeout_seconds`; 0 for never. If `traced`, the
    statements of calls that have a span get spans below it. The audit log records the changes of a process that runs
    one `command`. `secret_keys` encrypt private DKIM keys. Raises StorageUnavailable.
    """
    if (owner or worker) and (fault := driver_for(url).write_fault(make_url(url))):
        # A process that only reads until its first change would report it to callers, as a failure to retry.
        raise StorageUnavailable(reason=f"{driver_for(url).describe(make_url(url))}: {fault}")
    database = open_database(
        url,
        owner=owner,
        worker=worker,
        pool_size=pool_size,
        isolation=isolation,
        replica=replica,
        statement_timeout_seconds=statement_timeout_seconds,
        traced=traced,
        command=command,
    )
    repository = SqlRepository(database, secret_keys)
    try:
        await repository.ping()
        if (owner or worker) and (fault := await database.read(database.driver.read_only_fault)):
            raise StorageUnavailable(reason=fault)
    except StorageUnavailable as error:
        await repository.close()
        raise located(url, error) from error
    except BaseException:
        await repository.close()
        raise
    return repository


def open_database(
    url: str,
    *,
    owner: bool = False,
    worker: bool = False,
    pool_size: int = 10,
    isolation: str | None = None,
    replica: ReplicaUrl | None = None,
    statement_timeout_seconds: float = 0,
    traced: bool = False,
    command: CallContext | None = None,
) -> Database:
    """Return the database at `url`, which connects on first use. Needs a running event loop."""
    driver = driver_for(url)
    log.info("opening database", engine=driver.name, **driver.versions())
    timeout = statement_timeout_seconds
    engines = open_engines(
        url,
        owner=owner,
        worker=worker,
        pool_size=pool_size,
        isolation=isolation,
        statement_timeout_seconds=timeout,
    )
    database = _traced_database() if traced else Database
    if replica is None:
        return database(engines, command=command)
    replica_engines = open_engines(replica.url, owner=False, pool_size=pool_size, statement_timeout_seconds=timeout)
    staleness = replica.max_staleness_seconds
    return database(engines, replica=Replica(replica_engines, engines, staleness), command=command)


def _traced_database() -> type[Database]:
    from postroomd.storage.traced_database import TracedDatabase  # needs OpenTelemetry

    return TracedDatabase
