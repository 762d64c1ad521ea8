"""The command line, `postroom`.

Exit codes: 0 for success, 1 where something failed, 2 where a setting or an argument is wrong; both with one line on
stderr. Modules that take long to import are imported by the commands that need them.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from postroomd import __version__
from postroomd.cli.admin import admin_keys, history
from postroomd.cli.copy import copy
from postroomd.cli.options import takes_settings
from postroomd.cli.tenancy import keys, projects
from postroomd.net import is_loopback, split_address
from postroomd.runtime.processes import Failed, known_failure
from postroomd.settings import BadSetting, Settings, UpSettings

app = typer.Typer(
    name="postroom",
    help="Postroom: the control plane for e-mail mailboxes.",
    no_args_is_help=True,
    rich_markup_mode=None,  # its panels cut the names of variables off
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys)
app.add_typer(projects)
app.add_typer(admin_keys)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"postroom {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version, and end.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


@app.command()
@takes_settings("up", UpSettings)
def up(
    *,
    settings: UpSettings,
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", metavar="PATH", help="Write the SCW_ variables to this file once all is ready."),
    ] = None,
    clock: Annotated[
        str | None,
        typer.Option(
            "--clock", metavar="HOST:PORT", help="Serve a clock here, on loopback, that a trial can move on over HTTP."
        ),
    ] = None,
) -> None:
    """Run everything: the gRPC service, the REST gateway and the worker, on one database."""
    from postroomd.observability import logs
    from postroomd.runtime.supervisor import run

    logs.configure(settings.log_level, settings.log_format, process="up")
    if env_file and (env_file.is_dir() or not env_file.parent.is_dir()):
        raise Failed(f"--env-file: {env_file} can't be made a file")
    if clock is not None and not is_loopback(clock):
        raise BadSetting(
            "--clock: HOST:PORT on loopback is expected, such as 127.0.0.1:8090: whoever reaches it moves time"
        )
    _make_private_database(settings)
    raise typer.Exit(run(settings, env_file, clock))


@app.command()
@takes_settings("serve")
def serve(*, settings: Settings) -> None:
    """Run the gRPC service."""
    _run_alone("serve", settings)


@app.command()
@takes_settings("gateway")
def gateway(*, settings: Settings) -> None:
    """Run the REST gateway in front of the gRPC service."""
    if split_address(settings.grpc_address)[1] == 0:
        raise BadSetting("--grpc-address: the gateway needs to know the service's port: it can't be 0")
    _run_alone("gateway", settings)


@app.command()
@takes_settings("worker")
def worker(*, settings: Settings) -> None:
    """Run the worker: DNS checks, renewals, deletions that are due."""
    _run_alone("worker", settings)


@app.command()
@takes_settings("migrate")
def migrate(*, settings: Settings) -> None:
    """Bring the database's schema up to date; a missing database is made."""
    from postroomd.observability import logs
    from postroomd.storage import migrations

    logs.configure(settings.log_level, settings.log_format, process="migrate")
    _make_private_database(settings)
    migrations.migrate(settings.database_url.get_secret_value())
    typer.echo("The database is up to date.")


app.command()(copy)
app.command()(history)


def _run_alone(name: str, settings: Settings) -> None:
    if settings.workers > 1 and name != "worker":
        from postroomd.observability import logs
        from postroomd.runtime.prefork import run_workers

        logs.configure(settings.log_level, settings.log_format, process=name)
        raise typer.Exit(run_workers(name, settings))
    from postroomd.runtime.processes import run_alone

    run_alone(name, settings)


def _make_private_database(settings: Settings) -> None:
    """See to it that an SQLite file exists; what is made for it is its owner's alone. Raises OSError."""
    os.umask(0o077)
    if settings.is_sqlite:
        path = settings.database_path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass


def run(arguments: Sequence[str]) -> int:
    """Run one command, and answer its exit code; what went wrong stands on stderr in one line."""
    try:
        code = app(list(arguments), prog_name="postroom", standalone_mode=False)
    except (TyperException, BadSetting) as error:
        text = error.format_message() if isinstance(error, TyperException) else str(error)
        _say(text)
        return getattr(error, "exit_code", 2)
    except Exception as error:
        line = known_failure(error)
        if line is None:
            raise
        _say(line)
        return 1
    return code if isinstance(code, int) else 0


def _say(text: str) -> None:
    # Help, which is shown where no command is given, has many lines and needs no name before it.
    typer.echo(text if "\n" in text else f"postroom: {text}", err=True)


def main() -> None:
    """Run the command that the process's arguments name."""
    sys.exit(run(sys.argv[1:]))
