"""Failures of commands as one line on stderr, and an exit code."""

import sys
from typing import TYPE_CHECKING

from typer.exceptions import Abort, TyperException

from postroomd.cli.arguments import argument
from postroomd.cli.exit_codes import ExitCode
from postroomd.domain.errors import InvalidArguments, NotFound, SecretKeyFileError
from postroomd.runtime.errors import FatalError, operator_message
from postroomd.settings import InvalidSetting
from postroomd.tls import CertificateError

if TYPE_CHECKING:
    from postroom.client import ErrorDetails

CODES = {
    "INVALID_ARGUMENT": ExitCode.USAGE,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": ExitCode.UNAVAILABLE,
    "UNAUTHENTICATED": ExitCode.DENIED,
    "PERMISSION_DENIED": ExitCode.DENIED,
}
WRONG_SERVER = (
    "the server lacks this call: check that --grpc-address is the address of the service and --admin-address that of"
    " the admin service, and that the service is not of an older version"
)
LISTS = {
    "organization": "organizations list",
    "project": "projects list",
    "api_key": "keys list",
    "admin_key": "admin-keys list",
}
"""The type of a resource in the database -> the command that lists those that there are."""


class CommandFailed(FatalError):
    """A command has failed with an exit code of its own. The text is one line for the operator."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.code = code


def explain(error: BaseException) -> tuple[str, ExitCode] | None:
    """Return one line about the failure of a command and its exit code; None for a bug, which needs its traceback.

    The line is empty if there is nothing to say.
    """
    if isinstance(error, InvalidSetting):
        return str(error), ExitCode.USAGE
    if isinstance(error, TyperException):
        return error.format_message().replace("Value error, ", ""), ExitCode(error.exit_code)  # pydantic's prefix
    if isinstance(error, CommandFailed):
        return str(error), error.code
    if isinstance(error, Abort | KeyboardInterrupt):
        return "interrupted", ExitCode.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return "", ExitCode.FAILURE  # the reader of the output has closed the pipe
    if "grpc" in sys.modules:  # otherwise it is not the error of a call, and the import takes a while
        import grpc

        if isinstance(error, grpc.RpcError):
            from postroom.client import decode_error

            return explain_call(decode_error(error))
    if isinstance(error, InvalidArguments):
        return "; ".join(f"{argument(each.field)}: {each.help_message}" for each in error.violations), ExitCode.USAGE
    if isinstance(error, SecretKeyFileError | CertificateError):
        return str(error), ExitCode.USAGE
    if isinstance(error, NotFound) and (command := LISTS.get(error.resource.type)):
        return f"{error}: `postroom {command}` prints those that exist", ExitCode.FAILURE
    message = operator_message(error)
    return None if message is None else (message, ExitCode.FAILURE)


def explain_call(details: "ErrorDetails") -> tuple[str, ExitCode]:
    """Return one line about a failed call, which names each invalid argument, and the exit code."""
    code = CODES.get(details.code.name, ExitCode.FAILURE)
    if details.violations:
        return "; ".join(f"{argument(each.field)}: {each.description}" for each in details.violations), code
    if details.retry_after is not None:
        return details.message, ExitCode.UNAVAILABLE
    if details.code.name == "UNIMPLEMENTED":
        return WRONG_SERVER, code
    if details.code.name == "INTERNAL" and details.request_id:
        return f"{details.message}: the service's log has the cause under request id {details.request_id}", code
    return details.message.replace("force=true", "--force") or details.code.name.lower(), code
