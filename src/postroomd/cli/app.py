"""The command line, `postroom`.

A failure is one line on stderr and one of the exit codes of `exit_codes`. Modules that are slow to import are imported
by the commands that need them.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from postroomd import __version__
from postroomd.cli.admin_keys import admin_keys
from postroomd.cli.aliases import aliases
from postroomd.cli.audit import audit
from postroomd.cli.backup import backup, restore
from postroomd.cli.bulk.desired import apply, plan
from postroomd.cli.bulk.transfer import export_mailboxes, import_mailboxes
from postroomd.cli.clock import clock_commands
from postroomd.cli.copy import copy
from postroomd.cli.dkim import dkim
from postroomd.cli.doctor import doctor
from postroomd.cli.domains import domains
from postroomd.cli.errors import explain
from postroomd.cli.exit_codes import ExitCode
from postroomd.cli.forwardings import forwardings
from postroomd.cli.history import history
from postroomd.cli.keys import keys
from postroomd.cli.mail import mail_config, mail_role
from postroomd.cli.mailboxes import mailboxes
from postroomd.cli.options import with_settings
from postroomd.cli.organizations import organizations, projects
from postroomd.cli.output import print_error
from postroomd.cli.payments import payments, provisions
from postroomd.cli.secrets import secrets
from postroomd.net import is_loopback, split_address
from postroomd.runtime.errors import FatalError
from postroomd.settings import InvalidSetting, Settings, UpSettings

app = typer.Typer(
    name="postroom",
    help="Postroom: the control plane for e-mail mailboxes.",
    no_args_is_help=True,
    rich_markup_mode=None,  # its panels truncate the names of variables
    pretty_exceptions_enable=False,
)
for group in (
    *(domains, mailboxes, aliases, forwardings, payments, provisions, dkim),
    *(organizations, projects, keys, admin_keys, clock_commands),
    *(mail_role, mail_config, secrets),
):
    app.add_typer(group)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"postroom {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command()
@with_settings("up", UpSettings)
def up(
    *,
    settings: UpSettings,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="PATH",
            help="File to write the SCW_ variables to when everything is ready; the secret is then not printed.",
        ),
    ] = None,
    clock: Annotated[
        str | None,
        typer.Option(
            "--clock",
            metavar="HOST:PORT",
            help="Loopback address of a trial clock, for tests: all processes use it, and HTTP requests advance it.",
        ),
    ] = None,
    no_restart: Annotated[
        bool,
        typer.Option("--no-restart", help="Stop if one of the processes exits, as always with --clock."),
    ] = False,
) -> None:
    """Run service, gateway and worker on one database.

    One that crashes is restarted, after 1 to 30 seconds.

    The database is migrated first. The first start issues an API key, and prints the SCW_ variables for the SDKs; with
    --env-file, the secret is written to the file only.
    """
    from postroomd.observability import logs
    from postroomd.runtime.sdk_environment import require_writable
    from postroomd.runtime.supervisor import supervise

    logs.configure(settings.log_level, settings.log_format, process="up")
    if env_file and (env_file.is_dir() or not env_file.parent.is_dir()):
        raise FatalError(f"--env-file: can't create {env_file}: it is a directory, or its directory does not exist")
    if env_file:
        try:
            require_writable(env_file)  # before a key is issued, whose secret would be lost
        except OSError as error:
            raise FatalError(f"--env-file: can't create {env_file}: {error.strerror}") from error
    if clock is not None and not is_loopback(clock):
        raise InvalidSetting(
            "--clock: expected HOST:PORT on loopback, such as 127.0.0.1:8090: every caller can advance the time"
        )
    _prepare_database(settings)
    raise typer.Exit(supervise(settings, env_file, clock, restart=not no_restart))


@app.command()
@with_settings("serve")
def serve(*, settings: Settings) -> None:
    """Run the gRPC service."""
    _run_process("serve", settings)


@app.command()
@with_settings("gateway")
def gateway(*, settings: Settings) -> None:
    """Run the REST gateway in front of the gRPC service."""
    if split_address(settings.grpc_address)[1] == 0:
        raise InvalidSetting("--grpc-address: port 0 does not identify the service: set the port that it listens on")
    _run_process("gateway", settings)


@app.command()
@with_settings("worker")
def worker(*, settings: Settings) -> None:
    """Run the worker: DNS validation, renewals and purges."""
    _run_process("worker", settings)


@app.command()
@with_settings("migrate")
def migrate(*, settings: Settings) -> None:
    """Migrate the database to the current schema.

    A missing SQLite file is created.
    """
    from postroomd.observability import logs
    from postroomd.storage import migrations

    logs.configure(settings.log_level, settings.log_format, process="migrate")
    _prepare_database(settings)
    migrations.migrate(settings.database_url.get_secret_value())
    typer.echo("The database is up to date.")


mailboxes.command("import")(import_mailboxes)
mailboxes.command("export")(export_mailboxes)
app.command()(backup)
app.command()(restore)
app.command()(copy)
app.command()(plan)
app.command()(apply)
app.command()(history)
app.command()(audit)
app.command()(doctor)


def _run_process(name: str, settings: Settings) -> None:
    if settings.processes > 1 and name != "worker":
        from postroomd.observability import logs
        from postroomd.runtime.prefork import run_processes

        logs.configure(settings.log_level, settings.log_format, process=name)
        raise typer.Exit(run_processes(name, settings))
    from postroomd.runtime.processes import run_process

    run_process(name, settings)


def _prepare_database(settings: Settings) -> None:
    """Create a missing SQLite file and its directory, accessible only to their owner. Raises FatalError, OSError."""
    from postroomd.runtime.database_locks import require_file

    os.umask(0o077)
    if settings.is_sqlite:
        path = settings.database_path
        require_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Errors are printed on stderr, in one line."""
    if sys.stdout is None:  # then a new key's secret would be lost, and a file that is opened would get its number
        print_error("standard output is closed: redirect it to /dev/null if it is not wanted")
        return ExitCode.FAILURE
    try:
        code = app(list(arguments), prog_name="postroom", standalone_mode=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        explained = explain(error)
        if explained is None:
            raise
        message, code = explained
        if message:
            print_error(message)
        try:
            sys.stdout.flush()
        except OSError:
            # Python flushes stdout at exit, which would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(code) if isinstance(code, int) else 0


def main() -> None:
    """Run the command given by the arguments of this process, and exit."""
    sys.exit(run(sys.argv[1:]))
