"""The exit codes of all commands."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says. docs/cli.md lists them."""

    SUCCESS = 0
    FAILURE = 1  # the change or the lookup failed, or was declined
    USAGE = 2  # an argument, a setting or a file is invalid: nothing was changed
    DIFFERENCE = 3  # `plan` found a difference, `doctor` something that needs attention
    UNAVAILABLE = 4  # the service can't be reached, or is overloaded: the command can be repeated
    DENIED = 5  # the key is missing, unknown or expired, or lacks a permission
    INTERRUPTED = 130  # Ctrl-C
