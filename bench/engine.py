"""The engines that Postroom stores in."""

from enum import StrEnum


class Engine(StrEnum):
    """What Postroom stores in."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
