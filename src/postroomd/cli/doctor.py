"""`postroom doctor`: what is wrong with an installation, and what to do."""

import asyncio
import os
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated

import typer

from postroomd.cli.bulk.progress import progress_bar
from postroomd.cli.exit_codes import ExitCode
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows
from postroomd.domain.diagnosis import Condition, worst
from postroomd.settings import Settings

COLUMNS = ("check", "condition", "detail", "remedy")
EXIT_CODES = {
    Condition.OK: ExitCode.SUCCESS,
    Condition.WARNING: ExitCode.DIFFERENCE,
    Condition.ERROR: ExitCode.FAILURE,
}


@with_settings("doctor")
def doctor(
    *,
    settings: Settings,
    look_up: Annotated[
        bool,
        typer.Option(
            "--look-up",
            help="Look up the DNS records of each ready domain now; otherwise the worker's latest findings are shown.",
        ),
    ] = False,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Examine the database, the mail servers' views, the processes, DNS and certificates.

    Each fault has a remedy.

    Changes nothing. Run it with the settings of the service and the gateway. The exit code is 0 if everything is well,
    3 if something needs attention, 1 if something does not work.
    """
    from postroomd.observability import logs
    from postroomd.runtime.doctor.examination import examine

    # gRPC's core would write to stderr what is a finding; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Failures are findings, which log lines would only repeat.
    logs.configure("debug" if settings.log_level == "debug" else "error", settings.log_format, process="cli")
    with progress_bar("looking up", None) if look_up else nullcontext() as progress:
        findings = asyncio.run(examine(settings, progress))
    print_rows([asdict(finding) for finding in findings], COLUMNS, output)
    raise typer.Exit(EXIT_CODES[worst(findings)])
