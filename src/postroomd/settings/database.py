"""The settings of the database."""

from pathlib import Path

from pydantic import SecretStr

from postroomd.settings.base import DATABASE, RULES, SERVICE, SettingsGroup, setting
from postroomd.settings.types import POSTGRESQL_PREFIX, SQLITE_PREFIX, DatabaseUrl, ReplicaUrl


class DatabaseSettings(SettingsGroup):
    """The settings of the database."""

    database_url: DatabaseUrl = setting(
        SecretStr(f"{SQLITE_PREFIX}data/postroom.db"),
        DATABASE,
        f"URL of the database: `{SQLITE_PREFIX}PATH` or `{POSTGRESQL_PREFIX}USER:PASSWORD@HOST/NAME`.",
    )
    database_pool_size: int = setting(
        10, RULES, "Maximum PostgreSQL connections per process; calls wait while all are in use.", ge=3, le=1_000
    )
    statement_timeout_seconds: float = setting(
        30.0,
        RULES,
        "Maximum duration of a statement on PostgreSQL, in seconds; a call that exceeds it fails. 0: unlimited.",
        ge=0,
        le=3_600,
    )
    database_replica_url: ReplicaUrl | None = setting(
        None, SERVICE, "URL of a PostgreSQL streaming replica, `postgresql+asyncpg://…`, from which lists are read."
    )
    replica_staleness_seconds: float = setting(
        5.0, SERVICE, "Maximum lag of the replica, in seconds; beyond it the primary serves lists.", ge=1, le=3_600
    )

    secret_key_file: Path | None = setting(
        None,
        (*RULES, "doctor", "secrets rotate"),
        "File with the keys that encrypt DKIM private keys in the database: base64 of 32 octets a line, the present key"
        " first; readable by its owner only. Without it, new ones are stored unencrypted.",
    )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return self.database_url.get_secret_value().startswith(SQLITE_PREFIX)

    @property
    def database_path(self) -> Path:
        """The database file; for SQLite only."""
        return Path(self.database_url.get_secret_value().removeprefix(SQLITE_PREFIX))
