"""`postroom mail-role` and `postroom mail-config`: the mail servers' access to the database, and their files."""

import os
import stat
from pathlib import Path
from typing import Annotated, Any

import typer

from postroomd.cli.options import with_settings
from postroomd.cli.passwords import read_secret
from postroomd.mailserver.options import LockedDelivery
from postroomd.runtime.errors import FatalError
from postroomd.settings import InvalidSetting, Settings
from postroomd.settings import flag as _flag

PASSWORD_VARIABLE = "POSTROOM_MAIL_PASSWORD"  # noqa: S105 - the variable's name
MIN_PASSWORD_LENGTH = 16
SYSTEM_NAMES = frozenset({"mail_user", "mail_group"})
POSTFIX_PORTS = ("forward_port", "srs_forward_port", "srs_reverse_port")

mail_role = typer.Typer(
    name="mail-role", help="The mail servers' role on PostgreSQL.", no_args_is_help=True, rich_markup_mode=None
)
mail_config = typer.Typer(
    name="mail-config", help="Configuration of mail servers.", no_args_is_help=True, rich_markup_mode=None
)

RoleName = Annotated[
    str, typer.Option("--name", metavar="NAME", help="The mail servers' role on PostgreSQL.", show_default=True)
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="PATH",
        help=f"File with the role's password, readable by its owner only; otherwise {PASSWORD_VARIABLE} has it.",
    ),
]
Output = Annotated[Path, typer.Option("--output", metavar="DIR", help="Directory for the files.")]
HostName = Annotated[
    str, typer.Option("--hostname", metavar="NAME", help="Name of the mail server, to which MX records point.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="PATH",
        help="Certificate chain in PEM format. By default certbot's: /etc/letsencrypt/live/HOSTNAME/fullchain.pem.",
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", metavar="PATH", help="Its private key. By default certbot's: privkey.pem beside it."),
]
QueueDirectory = Annotated[
    Path, typer.Option("--queue-directory", metavar="DIR", help="Postfix's queue directory, which holds the sockets.")
]


@mail_role.command("create")
@with_settings("mail-role create")
def create_role(*, settings: Settings, name: RoleName = "postroom_mail", password_file: PasswordFile = None) -> None:
    """Create the PostgreSQL role of the mail servers, which may read the views mail_v1_… and nothing else.

    If it exists, its password is set and its access restored, such as after a dump was restored into another cluster.
    """
    from postroomd.observability import logs
    from postroomd.storage.mail_role import create_mail_role
    from postroomd.storage.migrations import require_current

    logs.configure("error", settings.log_format, process="cli")
    if settings.is_sqlite:
        raise FatalError("SQLite has no roles: the modes of the file decide who reads it, see docs/mail-server.md")
    password = _password(password_file)
    url = settings.database_url.get_secret_value()
    _database_access(url, name, password)  # whether the mail servers' files can hold them
    require_current(url)
    create_mail_role(url, name, password)
    typer.echo(f"The role {name} may read the views of the mail servers.")


@mail_config.command("dovecot")
@with_settings("mail-config dovecot")
def configure_dovecot(
    *,
    settings: Settings,
    output: Output,
    hostname: HostName,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    name: RoleName = "postroom_mail",
    password_file: PasswordFile = None,
    mail_directory: Annotated[
        Path, typer.Option("--mail-directory", metavar="DIR", help="Directory of the mailboxes, one per id.")
    ] = Path("/var/vmail"),
    mail_user: Annotated[
        str, typer.Option("--mail-user", metavar="USER", help="System user, and its group, that owns the mail.")
    ] = "vmail",
    mail_group: Annotated[
        str | None, typer.Option("--mail-group", metavar="GROUP", help="Its group, if it has another name.")
    ] = None,
    queue_directory: QueueDirectory = Path("/var/spool/postfix"),
    doveadm_port: Annotated[
        int | None,
        typer.Option(
            "--doveadm-port",
            help="Loopback port of the doveadm HTTP API, by which the worker ends sessions.",
            min=1,
            max=65_535,
        ),
    ] = None,
    doveadm_key_file: Annotated[
        Path | None,
        typer.Option("--doveadm-key-file", metavar="PATH", help="File with its key, readable by its owner only."),
    ] = None,
    force: Force = False,
) -> None:
    """Write the configuration of Dovecot 2.3: IMAP, POP3 and LMTP, which read this database."""
    options: dict[str, Any] = {"mail_directory": mail_directory, "mail_user": mail_user}
    options["mail_group"] = mail_group or mail_user
    options |= _doveadm(doveadm_port, doveadm_key_file)
    paths = _tls_paths(hostname, tls_cert, tls_key)
    access = (name, password_file)
    _write(
        "dovecot", settings, output, access, force=force, hostname=hostname, queue_directory=queue_directory,
        **paths, **options,
    )  # fmt: skip


@mail_config.command("postfix")
@with_settings("mail-config postfix")
def configure_postfix(
    *,
    settings: Settings,
    output: Output,
    hostname: HostName,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    name: RoleName = "postroom_mail",
    password_file: PasswordFile = None,
    locked_delivery: Annotated[
        LockedDelivery,
        typer.Option("--locked-delivery", help="Mail for a locked mailbox: accept it, or reply 451 or 550."),
    ] = LockedDelivery.ACCEPT,
    aliases_may_send: Annotated[
        bool, typer.Option("--aliases-may-send", help="Let a mailbox send from its aliases too.")
    ] = False,
    milter: Annotated[
        str, typer.Option("--milter", metavar="ADDRESS", help="rspamd's proxy, such as inet:127.0.0.1:11332.")
    ] = "",
    forward_port: Annotated[
        int, typer.Option("--forward-port", help="Loopback port of forwarded mail.", min=1, max=65_535)
    ] = 10027,
    srs_forward_port: Annotated[
        int, typer.Option("--srs-forward-port", help="postsrsd's forward port.", min=1, max=65_535)
    ] = 10001,
    srs_reverse_port: Annotated[
        int, typer.Option("--srs-reverse-port", help="postsrsd's reverse port.", min=1, max=65_535)
    ] = 10002,
    queue_directory: QueueDirectory = Path("/var/spool/postfix"),
    force: Force = False,
) -> None:
    """Write the configuration of Postfix 3.7: receiving, submission and forwarding, which read this database."""
    ports = {"forward_port": forward_port, "srs_forward_port": srs_forward_port, "srs_reverse_port": srs_reverse_port}
    options = {"locked_delivery": locked_delivery, "aliases_may_send": aliases_may_send, "milter": milter}
    paths = _tls_paths(hostname, tls_cert, tls_key)
    access = (name, password_file)
    _write(
        "postfix", settings, output, access, force=force, hostname=hostname, queue_directory=queue_directory,
        **paths, **options, **ports,
    )  # fmt: skip


@mail_config.command("rspamd")
@with_settings("mail-config rspamd")
def configure_rspamd(
    *,
    settings: Settings,
    output: Output,
    hostname: HostName,
    port: Annotated[int, typer.Option("--port", help="Loopback port of the milter.", min=1, max=65_535)] = 11332,
    force: Force = False,
) -> None:
    """Write the configuration of rspamd as Postfix's milter, which signs submitted mail and verifies its From."""
    if settings.dkim_directory is None:
        raise InvalidSetting("--dkim-directory: missing: pass the directory in which the worker keeps the DKIM keys")
    options: dict[str, Any] = {"rspamd_port": port, "dkim_directory": settings.dkim_directory.absolute()}
    _write(
        "rspamd", settings, output, None, force=force, hostname=hostname, **_tls_paths(hostname, None, None), **options
    )


def _tls_paths(hostname: str, cert: Path | None, key: Path | None) -> dict[str, Path]:
    if (cert is None) != (key is None):
        raise InvalidSetting("--tls-cert and --tls-key belong together: set both or neither")
    directory = Path("/etc/letsencrypt/live", hostname)
    return {"tls_cert": cert or directory / "fullchain.pem", "tls_key": key or directory / "privkey.pem"}


def _doveadm(port: int | None, key_file: Path | None) -> dict[str, Any]:
    from postroomd.mailserver.options import require_plain_key

    if (port is None) != (key_file is None):
        raise InvalidSetting("--doveadm-port and --doveadm-key-file belong together: set both or neither")
    if key_file is None:
        return {}
    key = _read_private("--doveadm-key-file", key_file)
    try:
        require_plain_key("--doveadm-key-file", key)
    except ValueError as error:
        raise InvalidSetting(str(error)) from error
    return {"doveadm_port": port, "doveadm_key": key}


def _write(
    server: str,
    settings: Settings,
    output: Path,
    access: tuple[str, Path | None] | None,
    *,
    force: bool,
    hostname: str,
    **options: Any,
) -> None:
    """Write the files of one server: all of them, or none if one exists. Raises InvalidSetting and FatalError."""
    from postroomd.mailserver.files import FILES
    from postroomd.mailserver.options import (
        DatabaseAccess,
        MailServer,
        require_different_ports,
        require_milter,
        require_plain_path,
        require_system_name,
    )
    from postroomd.mailserver.writing import FilesExist, write_files
    from postroomd.net import canonical_host_name

    directory = output.absolute()
    try:
        hostname = canonical_host_name(hostname)
    except ValueError as error:
        raise InvalidSetting(f"--hostname: {error}") from error
    if hostname.rpartition(".")[2].isdigit():
        raise InvalidSetting(
            f"--hostname: {hostname} is an IP address: pass the name to which MX records point, such as"
            " mail.example.org"
        )
    try:
        for option, value in {"output": directory, **options}.items():
            if isinstance(value, Path):
                require_plain_path(_flag(option), value)
            elif option in SYSTEM_NAMES:
                require_system_name(_flag(option), value)
        require_milter("--milter", options.get("milter", ""))
        require_different_ports({_flag(option): options[option] for option in POSTFIX_PORTS if option in options})
    except ValueError as error:
        raise InvalidSetting(str(error)) from error
    database = DatabaseAccess()
    if access:
        name, password_file = access
        password = "" if settings.is_sqlite else _password(password_file)
        database = _database_access(settings.database_url.get_secret_value(), name, password)
    configured = MailServer(database=database, hostname=hostname, directory=directory, **options)
    try:
        written = write_files(directory, [*FILES[server](configured)], overwrite=force)
    except FilesExist as error:
        raise FatalError(f"{error}: choose another --output, or pass --force to replace files") from error
    except OSError as error:
        raise FatalError(
            f"--output: can't write {error.filename}: {error.strerror}: correct that, or choose another directory, and"
            " run the command again"
        ) from error
    typer.echo(f"Wrote {', '.join(written)} in {directory}.")


def _database_access(url: str, name: str, password: str) -> Any:
    from postroomd.mailserver.options import database_access

    try:
        return database_access(url, user=name, password=password)
    except ValueError as error:
        raise InvalidSetting(str(error)) from error


def _password(file: Path | None) -> str:
    """Return the password of the mail role. Raises InvalidSetting, without the password."""
    if file is None:
        source, password = PASSWORD_VARIABLE, os.environ.get(PASSWORD_VARIABLE, "")
        if not password:
            raise InvalidSetting(
                f"--password-file: missing: pass a file with the mail role's password, or set {PASSWORD_VARIABLE}"
            )
    else:
        source = "--password-file"
        password = _read_private("--password-file", file)
    if len(password) < MIN_PASSWORD_LENGTH:
        raise InvalidSetting(f"{source}: the password must have at least {MIN_PASSWORD_LENGTH} characters")
    return password


def _read_private(option: str, file: Path) -> str:
    """Return the only line of a file. Raises InvalidSetting, also for one that others may read."""
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise InvalidSetting(f"{option}: {file} is accessible to others: run chmod 600 on it")
    return read_secret(option, file)
