"""The reference of the commands in docs/cli.md: `python -m tools.cli_reference docs/cli.md` replaces it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from postroomd.cli.app import app
from postroomd.cli.options import PANEL

START = "<!-- commands: python -m tools.cli_reference docs/cli.md -->\n"
END = "<!-- end of commands -->\n"


def reference() -> str:
    """Return the commands in Markdown: what each does, its arguments and its own options."""
    return "\n".join(_commands(get_command(app), "postroom")) + "\n"


def replaced(document: str) -> str:
    """Return a document with its reference replaced."""
    before, _, rest = document.partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n{reference()}\n{END}{after}"


def _commands(group: Any, name: str) -> Iterator[str]:
    for command_name, command in group.commands.items():
        full_name = f"{name} {command_name}"
        if hasattr(command, "commands"):
            yield from _commands(command, full_name)
        else:
            yield from _command(command, full_name)


def _command(command: Any, name: str) -> Iterator[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [
        each
        for each in command.params
        if each.param_type_name == "option" and getattr(each, "rich_help_panel", None) != PANEL
    ]
    signature = " ".join([name, *(each.metavar or each.name.upper() for each in arguments)])
    yield f"### `{signature}`"
    yield ""
    yield " ".join(command.help.split())
    yield ""
    context = command.make_context(name, [], resilient_parsing=True)
    records = [each.get_help_record(context) for each in options]
    described = [f"- `{each.metavar}`: {each.help}" for each in arguments if each.help]
    described += [f"- `{option}`: {text}" for option, text in records]
    if described:
        yield from described
        yield ""


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(replaced(path.read_text(encoding="utf-8")), encoding="utf-8")
