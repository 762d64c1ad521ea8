"""Every setting, in one frozen class that is read once and passed down.

Each setting is a command-line flag (`--grpc-address`) and an environment variable (`POSTROOM_GRPC_ADDRESS`); the flag
wins. The command line and the README's table are made from the fields here. `python -m postroomd.settings` prints
the table.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from postroomd.domain.policy import LifecyclePolicy
from postroomd.durations import format_duration, parse_duration
from postroomd.net import join_address, split_address

PREFIX = "POSTROOM_"
SQLITE_PREFIX = "sqlite+aiosqlite:///"
POSTGRESQL_PREFIX = "postgresql+asyncpg://"

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


class BadSetting(ValueError):
    """A setting is wrong. The text names its flag or variable, and repeats nothing of its value."""


def _checked_address(address: str) -> str:
    try:
        return join_address(*split_address(address))
    except ValueError as error:  # IPv6Address repeats what it was given
        raise ValueError("HOST:PORT is expected, such as 127.0.0.1:8080 or [::1]:8080") from error


def _checked_host(name: str) -> str:
    name = name.lower().removesuffix(".")
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("a host name is expected, such as mx.example.org")
    return name


def _checked_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text.startswith(POSTGRESQL_PREFIX) and len(text) > len(POSTGRESQL_PREFIX):
        return url
    path = text.removeprefix(SQLITE_PREFIX)
    if path == text or not path or path.endswith("/") or path.startswith(":") or {"?", "#", "\0"} & set(path):
        raise ValueError(
            f"{SQLITE_PREFIX}PATH or {POSTGRESQL_PREFIX}USER:PASSWORD@HOST/NAME is expected,"
            f" such as {SQLITE_PREFIX}data/postroom.db"
        )
    return url


def _checked_resolvers(text: str) -> str:
    if text:
        from postroomd.dns import parse_endpoint  # which takes long to import, and few name resolvers

        for endpoint in text.split(","):
            parse_endpoint(endpoint.strip())
    return text


def _checked_replica_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(POSTGRESQL_PREFIX):
        raise ValueError(f"{POSTGRESQL_PREFIX}USER:PASSWORD@HOST/NAME is expected")
    return url


Address = Annotated[str, AfterValidator(_checked_address)]
HostName = Annotated[str, AfterValidator(_checked_host)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_checked_url)]
Resolvers = Annotated[str, AfterValidator(_checked_resolvers)]
ReplicaUrl = Annotated[SecretStr, AfterValidator(_checked_replica_url)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]

_TENANCY = ("keys create", "keys list", "keys revoke", "projects create", "projects list")
_OPERATION = ("admin-keys create", "admin-keys list", "admin-keys revoke", "history")
_PROCESSES = ("up", "serve", "gateway", "worker")
_DATABASE = ("up", "serve", "worker", "migrate", *_TENANCY, *_OPERATION)
_ALL = (*_PROCESSES, "migrate", *_TENANCY, *_OPERATION)
_RULES = ("up", "serve", "worker")
_SERVICE = ("up", "serve")
_GATEWAY = ("up", "gateway")
_WORKER = ("up", "worker")


def _setting(default: Any, commands: tuple[str, ...], description: str, **constraints: Any) -> Any:
    """A field: its default, the commands that have it as a flag, and what it is, with its unit."""
    return Field(default, description=description, json_schema_extra={"commands": list(commands)}, **constraints)


class Settings(BaseSettings):
    """The settings of every process of Postroom."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    database_url: DatabaseUrl = _setting(
        SecretStr(f"{SQLITE_PREFIX}data/postroom.db"),
        _DATABASE,
        f"The database: `{SQLITE_PREFIX}PATH` or `{POSTGRESQL_PREFIX}…`.",
    )
    database_pool_size: int = _setting(
        10, _RULES, "Connections of one process to PostgreSQL, at the most.", ge=3, le=1_000
    )
    database_replica_url: ReplicaUrl | None = _setting(
        None, _SERVICE, "A streaming replica of PostgreSQL, `postgresql+asyncpg://…`, that serves lists."
    )
    replica_staleness_seconds: float = _setting(
        5.0, _SERVICE, "How far behind the replica may be before the primary serves lists.", ge=1, le=3_600
    )
    grpc_address: Address = _setting(
        "127.0.0.1:50051",
        ("up", "serve", "gateway"),
        "`HOST:PORT` of the gRPC service. Port 0 takes a free one.",
    )
    admin_address: Address | None = _setting(
        None, _SERVICE, "`HOST:PORT` of the admin service, which sees every tenant; off unless it is set."
    )
    http_address: Address = _setting(
        "127.0.0.1:8080",
        (*_GATEWAY, "keys create"),
        "`HOST:PORT` of the REST gateway. It takes a free port for port 0.",
    )
    metrics_address: Address | None = _setting(
        None, _PROCESSES, "`HOST:PORT` where Prometheus scrapes metrics, to be kept inside; off unless it is set."
    )
    workers: int = _setting(
        1, ("serve", "gateway"), "Processes that share the address. SQLite has room for one `serve`.", ge=1, le=256
    )
    domain_validation: Literal["dns", "trust"] = _setting(
        "dns", _RULES, "How a domain's records are checked: `dns` looks them up, `trust` takes them as present."
    )
    mailbox_quota: int = _setting(
        1_000,
        ("up", "keys create", "projects create"),
        "Mailboxes that a new project may have.",
        ge=0,
        le=2_000_000_000,
    )
    deletion_retention: Duration = _setting(
        timedelta(days=30),
        _RULES,
        "How long a deleted mailbox can be restored: `30d`, `12h`, or seconds.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    address_quarantine: Duration = _setting(
        timedelta(0),
        _SERVICE,
        "How long a purged mailbox's address can't be used again in its organization.",
        ge=timedelta(0),
        le=timedelta(days=36_500),
    )
    billing: Literal["none", "manual"] = _setting(
        "none", _RULES, "`manual`: each period waits for its payment to be confirmed; `none`: periods cost nothing."
    )
    payment_term: Duration = _setting(
        timedelta(days=7), _RULES, "How long a payment is awaited.", ge=timedelta(seconds=1), le=timedelta(days=3_650)
    )
    payment_grace: Duration = _setting(
        timedelta(days=7),
        _RULES,
        "How long after a payment has failed its mailbox is locked.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    suspension_grace: Duration = _setting(
        timedelta(days=14),
        _RULES,
        "How long after that lock the mailbox is scheduled for deletion.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    provisioning: Literal["none", "manual"] = _setting(
        "none",
        _RULES,
        "`manual`: the mail platform confirms what it has made and deleted; `none`: what is stored is provided.",
    )
    argon2_memory_kib: int = _setting(19_456, _SERVICE, "Memory of a password hash, in KiB.", ge=8, le=4_194_304)
    argon2_time_cost: int = _setting(2, _SERVICE, "Passes over that memory.", ge=1, le=100)
    argon2_parallelism: int = _setting(1, _SERVICE, "Lanes of a password hash.", ge=1, le=64)
    hash_threads: int = _setting(0, _SERVICE, "Threads that hash passwords; 0 for one per core but one.", ge=0, le=256)
    hash_wait_seconds: float = _setting(
        1.0,
        _SERVICE,
        "Seconds of hashing for others that a call may wait for before it is refused; or as many as its own takes.",
        ge=0,
        le=3_600,
    )
    max_calls: int = _setting(
        128,
        _SERVICE,
        "Reads that one process has in progress before more are refused; and as many changes.",
        ge=1,
        le=100_000,
    )
    key_cache_seconds: float = _setting(
        5.0, _SERVICE, "How long a key may still be taken after it is revoked, in seconds.", ge=0, le=5
    )
    mx_host: HostName = _setting("mx.mail.example", _SERVICE, "Host that receives mail, in MX records.")
    imap_host: HostName = _setting("imap.mail.example", _SERVICE, "Host of IMAP over TLS, port 993.")
    pop3_host: HostName = _setting("pop3.mail.example", _SERVICE, "Host of POP3 over TLS, port 995.")
    smtp_host: HostName = _setting("smtp.mail.example", _SERVICE, "Host of submission over TLS, port 465.")
    webmail_host: HostName = _setting("webmail.mail.example", _SERVICE, "Host of the webmail, over HTTPS.")
    dav_host: HostName = _setting("dav.mail.example", _SERVICE, "Host of CalDAV and CardDAV, over HTTPS.")
    autoconfig_host: HostName = _setting("autoconfig.mail.example", _SERVICE, "Host that `autoconfig` names point at.")
    autodiscover_host: HostName = _setting(
        "autodiscover.mail.example", _SERVICE, "Host that `autodiscover` names point at."
    )
    spf_include: HostName = _setting("_spf.mail.example", _SERVICE, "Name that SPF records include.")
    dmarc_policy: Literal["none", "quarantine", "reject"] = _setting("none", _SERVICE, "Policy of DMARC records.")
    dkim_selector: HostName = _setting("postroom", _SERVICE, "Selector of new domains' DKIM keys.", max_length=63)
    max_body_bytes: int = _setting(
        1_048_576, _GATEWAY, "Longest body of a REST request, in bytes.", ge=1_024, le=4_194_304
    )
    max_requests: int = _setting(
        128,
        _GATEWAY,
        "Reads over REST that one gateway has in progress before more are refused; and as many changes.",
        ge=1,
        le=100_000,
    )
    max_connections: int = _setting(
        1_000, _GATEWAY, "Connections that one gateway has open before more are refused.", ge=1, le=1_000_000
    )
    call_timeout_seconds: float = _setting(
        30.0, _GATEWAY, "How long the gateway waits for the service, in seconds.", gt=0, le=3_600
    )
    drain_seconds: float = _setting(
        10.0, _PROCESSES, "How long requests may take to finish on a stop, in seconds.", ge=0, le=3_600
    )
    worker_interval_seconds: float = _setting(
        0.5, _WORKER, "How long the worker rests when nothing is due, in seconds.", gt=0, le=3_600
    )
    revalidation_interval: Duration = _setting(
        timedelta(days=1),
        _WORKER,
        "How long until a ready domain's records are looked up again, or a tenth of it about.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    dns_resolvers: Resolvers = _setting(
        "",
        _WORKER,
        "Resolvers that name a domain's servers: `IP`, `IP:PORT` or `[IPv6]:PORT`, comma-separated; else the system's.",
    )
    dns_timeout_seconds: float = _setting(
        3.0, _WORKER, "How long one DNS server is waited for, in seconds.", gt=0, le=60
    )
    dns_deadline_seconds: float = _setting(
        20.0, _WORKER, "How long all look-ups of one domain may take, in seconds.", gt=0, le=600
    )
    dns_allow_private: bool = _setting(
        False, _WORKER, "`true` lets a domain's DNS servers have addresses that are not public."
    )
    dns_authoritative_port: int = _setting(
        53, _WORKER, "Port of the domains' DNS servers, for trials.", ge=1, le=65_535
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", _ALL, "Least level that is logged.")
    log_format: Literal["auto", "json", "console"] = _setting(
        "auto", _ALL, "`json` lines, `console` for people, `auto`: console on a terminal."
    )

    @field_validator("argon2_parallelism")
    @classmethod
    def _enough_memory(cls, lanes: int, info: ValidationInfo) -> int:
        if info.data.get("argon2_memory_kib", sys.maxsize) < 8 * lanes:  # RFC 9106, section 3.1
            raise ValueError("Argon2 needs 8 KiB of memory or more a lane")
        return lanes

    def lifecycle_policy(self) -> LifecyclePolicy:
        """Return the part of the settings that the rules of mailboxes and domains depend on."""
        return LifecyclePolicy(
            retention=self.deletion_retention,
            billing=self.billing == "manual",
            payment_term=self.payment_term,
            payment_grace=self.payment_grace,
            suspension_grace=self.suspension_grace,
            provisioning=self.provisioning == "manual",
            quarantine=self.address_quarantine,
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of this machine."""
        return self.database_url.get_secret_value().startswith(SQLITE_PREFIX)

    @property
    def database_path(self) -> Path:
        """The file of the database, which must be SQLite."""
        return Path(self.database_url.get_secret_value().removeprefix(SQLITE_PREFIX))


class UpSettings(Settings):
    """The settings of `postroom up`, which is to work before any DNS record is published."""

    domain_validation: Literal["dns", "trust"] = _setting(
        "trust", _RULES, Settings.model_fields["domain_validation"].description or ""
    )


def flag(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def fields_of(command: str) -> Iterator[tuple[str, FieldInfo]]:
    """The settings that a command has as flags, by name."""
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and command in (extra["commands"] or ()):  # type: ignore[operator]
            yield name, field


def default_text(field: FieldInfo) -> str:
    """The default of a setting, as it would be written."""
    match field.default:
        case None:
            return "none"
        case timedelta() as duration:
            return format_duration(duration)
        case SecretStr() as secret:  # a default is no secret
            return secret.get_secret_value()
        case float() as number:
            return f"{number:g}"
        case other:
            return str(other)


def load_settings(flags: Mapping[str, str | None], kind: type[Settings] = Settings) -> Settings:
    """The settings by flags, then environment, then defaults. Raises BadSetting, naming each that is wrong."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return kind(**given)  # type: ignore[arg-type] # texts, which the fields' validators read
    except ValidationError as error:
        faults = [
            f"{flag(name) if name in given else variable(name)}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
            for name in [str(fault["loc"][0])]
        ]
    # Outside the handler: the error that is dropped here holds the values.
    raise BadSetting("; ".join(faults))


def markdown_table() -> str:
    """The settings as the README's table."""
    rows = ["| flag | variable | default | what it is |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = f"`{default_text(field) or 'none'}`"
        if (of_up := default_text(UpSettings.model_fields[name])) != default_text(field):
            default += f" (`up`: `{of_up}`)"
        rows.append(f"| `{flag(name)}` | `{variable(name)}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown_table())
