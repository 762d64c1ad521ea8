"""`postroom doctor`: what is wrong with an installation, and what to do."""

import asyncio
from dataclasses import asdict

import typer

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
def doctor(*, settings: Settings, output: ListOutput = ListFormat.TABLE) -> None:
    """Examine the database, the processes, DNS and certificates, with a remedy for each fault.

    Changes nothing. Run it with the settings of the service and the gateway. The exit code is 0 if everything is well,
    3 if something needs attention, 1 if something does not work.
    """
    from postroomd.observability import logs
    from postroomd.runtime.doctor.examination import examine

    # Failures are findings, which log lines would only repeat.
    logs.configure("debug" if settings.log_level == "debug" else "error", settings.log_format, process="cli")
    findings = asyncio.run(examine(settings))
    print_rows([asdict(finding) for finding in findings], COLUMNS, output)
    raise typer.Exit(EXIT_CODES[worst(findings)])
