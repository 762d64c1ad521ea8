"""The role of the mail servers on PostgreSQL, which may read the views of the SQL contract and nothing else."""

import asyncio

from sqlalchemy import Connection

from postroomd.domain.errors import StorageUnavailable
from postroomd.storage.database import raise_translated
from postroomd.storage.drivers import driver_of, migration_engine
from postroomd.storage.failures import explain_for
from postroomd.storage.mail_views import MAIL_VIEWS


def create_mail_role(url: str, name: str, password: str) -> None:
    """Create the role of the mail servers, or set the password of an existing one, and grant it the views.

    Raises RoleRefused for a role that may do more, and StorageUnavailable, with a remedy.
    """

    def create(connection: Connection) -> None:
        driver_of(connection).create_reader(connection, name, password, [*MAIL_VIEWS])

    async def run() -> None:
        engine = migration_engine(url)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(create)
        except Exception as error:
            if reason := explain_for(url, error):
                raise StorageUnavailable(reason=reason) from error
            raise_translated(error)
        finally:
            await engine.dispose()

    asyncio.run(run())
