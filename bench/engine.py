"""The database engines."""

from enum import StrEnum


class Engine(StrEnum):
    """A database engine that Postroom supports."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


BOTH = (Engine.SQLITE, Engine.POSTGRESQL)
