"""Confirmation before a step that can't be undone."""

import sys
from typing import Annotated

import typer

from postroomd.cli.errors import CommandFailed
from postroomd.settings import InvalidSetting

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def confirm(consequence: str, *, yes: bool) -> None:
    """Ask whether to go on, unless `yes`. `consequence` is a sentence about what can't be undone.

    Raises InvalidSetting if there is no terminal to ask on, CommandFailed if the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidSetting(f"--yes: {consequence} There is no terminal to ask on: confirm with --yes")
    if not typer.confirm(f"{consequence} Continue?", err=True):
        raise CommandFailed("canceled: nothing was changed")
