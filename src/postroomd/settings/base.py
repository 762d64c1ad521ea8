"""What every group of settings is declared with: the commands that have a setting as a flag, and their base class."""

from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "POSTROOM_"

# Groups of commands that have a setting as a flag.
NEW_KEY = ("keys create", "keys rotate")
TENANCY = (
    *("organizations create", "organizations list", "projects create", "projects list", "projects set-quota"),
    *(*NEW_KEY, "keys list", "keys revoke"),
)
ADMIN_KEYS = ("admin-keys create", "admin-keys list", "admin-keys revoke")
ADMIN = (*ADMIN_KEYS, "doctor", "clock status", "clock accept")
PROCESSES = ("up", "serve", "gateway", "worker")
BACKUP = ("backup", "restore")
MAIL_CONFIG = ("mail-config dovecot", "mail-config postfix", "mail-config rspamd")
MAIL = ("mail-role create", *MAIL_CONFIG)
DATABASE = ("up", "serve", "worker", "migrate", "export", "secrets rotate", *BACKUP, *TENANCY, *ADMIN, *MAIL)
ALL = (*PROCESSES, "migrate", *TENANCY, *ADMIN)
RULES = ("up", "serve", "worker")
SERVICE = ("up", "serve")
GATEWAY = ("up", "gateway")
WORKER = ("up", "worker")
LOOKUPS = (*WORKER, "doctor")
# Groups of commands that call a running service: as a tenant, and as its operator.
# "client" is for commands that do either.
TENANT_CLIENT = ("tenant client", "client", "export", "doctor")
OPERATOR_CLIENT = ("operator client", "client")
CLIENT = (*TENANT_CLIENT, "operator client")


def setting(default: Any, commands: tuple[str, ...], description: str, **constraints: Any) -> Any:
    """Return a field with its default, the commands that have it as a flag, and its description with the unit."""
    return Field(default, description=description, json_schema_extra={"commands": list(commands)}, **constraints)


def flag(name: str) -> str:
    """Return the command-line flag of a setting."""
    return "--" + name.replace("_", "-")


class SettingsGroup(BaseSettings):
    """Base of the groups of settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )
