"""Access to the database for commands that use it directly, also while the service runs."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from postroomd.cli.running import running_command
from postroomd.domain.errors import StorageUnavailable
from postroomd.runtime.commands import command_context
from postroomd.runtime.processes import require_database
from postroomd.settings import Settings
from postroomd.storage.protocols.repository import Repository

Result = TypeVar("Result")


def with_repository(
    settings: Settings,
    operation: Callable[[Repository], Awaitable[Result]],
    secret_key_file: Path | None = None,
) -> Result:
    """Open the repository, and return the result of an operation on it, with the keys of a file if there is one.

    Its changes are in the audit log, under the running command.

    Raises SchemaMismatch, SecretKeyError, StorageUnavailable, and FatalError if the database does not exist.
    """
    from postroomd.observability import logs
    from postroomd.storage.failures import located
    from postroomd.storage.migrations import require_current
    from postroomd.storage.opening import open_repository
    from postroomd.storage.secret_keys import SecretKeys

    # The command prints one line about a failure, which a log line would only repeat.
    logs.configure("debug" if settings.log_level == "debug" else "error", settings.log_format, process="cli")
    require_database(settings)
    url = settings.database_url.get_secret_value()
    require_current(url)

    command = command_context(running_command(), datetime.now(UTC))
    secret_keys = SecretKeys(secret_key_file)

    async def run() -> Result:
        repository = await open_repository(url, command=command, secret_keys=secret_keys)
        try:
            return await operation(repository)
        except StorageUnavailable as error:
            # Whoever runs the command can remedy the cause, which callers of the service are not told.
            raise located(url, error) from error
        finally:
            await repository.close()

    return asyncio.run(run())
