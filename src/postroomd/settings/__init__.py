"""The settings of all processes, in one frozen class that is read once and passed down.

Each setting is a command-line flag (`--grpc-address`) and an environment variable (`POSTROOM_GRPC_ADDRESS`); the flag
takes precedence. The command-line options and the README's table are generated from the fields.
`python -m postroomd.settings` prints the table.
"""

from postroomd.settings.base import flag
from postroomd.settings.combined import Settings, UpSettings
from postroomd.settings.loading import (
    InvalidSetting,
    default_text,
    fields_of,
    load_settings,
    markdown_table,
    variable,
)
from postroomd.settings.types import POSTGRESQL_PREFIX, SQLITE_PREFIX, DatabaseUrl

__all__ = [
    "POSTGRESQL_PREFIX",
    "SQLITE_PREFIX",
    "DatabaseUrl",
    "InvalidSetting",
    "Settings",
    "UpSettings",
    "default_text",
    "fields_of",
    "flag",
    "load_settings",
    "markdown_table",
    "variable",
]
