"""The command that this process runs, which the audit log names. A process runs one command at a time."""

_commands = [""]


def begin(command: str) -> None:
    """Note the command that runs from now on, such as `keys create`."""
    _commands[0] = command


def running_command() -> str:
    """Return the command that runs; "" before the first one."""
    return _commands[0]
