"""What the configuration of the mail servers depends on, and its check."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

MIN_KEY_LENGTH = 16
SQLITE_PREFIX = "sqlite+aiosqlite:///"

# What can't be quoted in every place of the files: their formats have different escapes, and most have none.
_MILTER = re.compile(r"inet:(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}|unix:[A-Za-z0-9_./-]+")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+:@,-]*")
_PLAIN_PASSWORD = re.compile(r"[A-Za-z0-9_.~!@^*+=:,/-]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_SYSTEM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")  # as useradd(8) allows, without a trailing `$`
MAX_PORT = 65_535
MAX_ROLE_NAME = 63  # octets: PostgreSQL truncates a longer one (NAMEDATALEN)
_RESERVED_ROLE = re.compile(r"pg_.*|public|none")  # CREATE ROLE refuses them


class LockedDelivery(StrEnum):
    """What happens to mail for a locked mailbox."""

    ACCEPT = "accept"
    DEFER = "defer"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAccess:
    """How the mail servers reach the database: an SQLite file, or a PostgreSQL server with a role of their own.

    `tls` is libpq's sslmode, empty for its default. `repr` has no password.
    """

    file: Path | None = None
    host: str = ""
    port: int = 5432
    name: str = ""
    user: str = ""
    password: str = ""
    tls: str = ""

    def __repr__(self) -> str:
        return "DatabaseAccess(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """The mail server to configure. `directory` is where its files are; the paths are absolute.

    `milter` is the address of rspamd's proxy in Postfix's notation, empty for none. `dkim_directory` is the worker's.
    """

    database: DatabaseAccess
    hostname: str
    directory: Path
    tls_cert: Path
    tls_key: Path
    mail_directory: Path = Path("/var/vmail")
    mail_user: str = "vmail"
    mail_group: str = "vmail"
    queue_directory: Path = Path("/var/spool/postfix")
    locked_delivery: LockedDelivery = LockedDelivery.ACCEPT
    aliases_may_send: bool = False
    forward_port: int = 10027
    srs_forward_port: int = 10001
    srs_reverse_port: int = 10002
    milter: str = ""
    rspamd_port: int = 11332
    dkim_directory: Path = Path("/var/lib/postroom/dkim")
    doveadm_port: int | None = None
    doveadm_key: str = field(default="", repr=False)
    """The key of Dovecot's doveadm HTTP API, which listens on this loopback port; None: it does not."""


def database_access(url: str, *, user: str, password: str) -> DatabaseAccess:
    """Return how the mail servers reach the database at Postroom's URL. Raises ValueError, with a remedy."""
    if url.startswith(SQLITE_PREFIX):
        file = Path(url.removeprefix(SQLITE_PREFIX)).resolve()
        require_plain_path("--database-url", file)
        return DatabaseAccess(file=file)
    parts = urlsplit(url)
    query = dict(each.partition("=")[::2] for each in parts.query.split("&") if each)
    host = unquote(parts.hostname or query.get("host", ""))
    name = unquote(parts.path.removeprefix("/"))
    if not host:
        raise ValueError("--database-url: names no host: the mail servers need one, or the directory of its socket")
    if not _PLAIN_NAME.fullmatch(name) or not re.fullmatch(r"[A-Za-z0-9_.:/-]+", host):
        raise ValueError(
            "--database-url: host and name may contain letters, digits and _.-: the mail servers' files can't hold"
            " others"
        )
    if not _PLAIN_NAME.fullmatch(user):
        raise ValueError("--name: may contain letters, digits and _.-: the mail servers' files can't hold others")
    if len(user) > MAX_ROLE_NAME:
        raise ValueError(f"--name: must have at most {MAX_ROLE_NAME} characters: PostgreSQL truncates longer names")
    if _RESERVED_ROLE.fullmatch(user):
        raise ValueError(f"--name: PostgreSQL reserves {user}: choose a name that does not begin with pg_")
    if not _PLAIN_PASSWORD.fullmatch(password):
        raise ValueError(
            "the password of the mail role may contain ASCII letters, digits and _.~!@^*+=:,/-: the mail servers' files"
            " can't hold others; change it with `postroom mail-role create`"
        )
    return DatabaseAccess(
        host=host,
        port=parts.port or int(query.get("port", "5432")),
        name=name,
        user=user,
        password=password,
        tls=query.get("sslmode", query.get("ssl", "")),
    )


def require_plain_path(argument: str, path: Path) -> None:
    """Raise ValueError for a path that the mail servers' files can't hold."""
    if not path.is_absolute() or not _PLAIN_PATH.fullmatch(str(path)):
        raise ValueError(f"{argument}: {path} must be an absolute path of letters, digits and _./+:@,-")


def require_plain_key(argument: str, key: str) -> None:
    """Raise ValueError, without the key, for one that the mail servers' files can't hold, or a short one."""
    if len(key) < MIN_KEY_LENGTH or not _PLAIN_PASSWORD.fullmatch(key):
        raise ValueError(
            f"{argument}: expected a key of at least {MIN_KEY_LENGTH} ASCII letters, digits and _.~!@^*+=:,/-"
        )


def postgresql_uri(access: DatabaseAccess) -> str:
    """Return the database as a URI of libpq, with the password."""
    host = "" if access.host.startswith("/") else f"{access.host}:{access.port}"
    query = [f"host={quote(access.host, safe='')}&port={access.port}"] if access.host.startswith("/") else []
    query += [f"sslmode={access.tls}"] if access.tls else []
    suffix = f"?{'&'.join(query)}" if query else ""
    credentials = f"{quote(access.user, safe='')}:{quote(access.password, safe='')}"
    return f"postgresql://{credentials}@{host}/{access.name}{suffix}"


def require_milter(option: str, address: str) -> None:
    """Raise ValueError for what is no address of a milter in Postfix's notation; an empty one is none."""
    valid = not address or _MILTER.fullmatch(address) is not None
    if address.startswith("inet:") and valid:
        valid = 0 < int(address.rpartition(":")[2]) <= MAX_PORT
    if not valid:
        raise ValueError(f"{option}: expected inet:HOST:PORT or unix:PATH, such as inet:127.0.0.1:11332")


def require_system_name(option: str, name: str) -> None:
    """Raise ValueError for what can't be the name of a system user or group."""
    if not _SYSTEM_NAME.fullmatch(name):
        raise ValueError(
            f"{option}: expected the name of a system user or group: 1 to 32 ASCII letters, digits and _.-, beginning"
            " with a letter or _"
        )


def require_different_ports(ports: Mapping[str, int]) -> None:
    """Raise ValueError if two options have one port: the servers could not both listen on it."""
    options: dict[int, str] = {}
    for option, port in ports.items():
        if (other := options.setdefault(port, option)) != option:
            raise ValueError(f"{option}: {port} is the port of {other} too: choose another")
