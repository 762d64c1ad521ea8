"""Failures that end a process, reported to the operator as one line on stderr."""

from postroomd.domain.errors import PostroomError, StorageUnavailable
from postroomd.tls import CertificateError


class FatalError(Exception):
    """A process can't start or go on. The text is one line for the operator."""


def listen_error(purpose: str, address: str, error: OSError) -> FatalError:
    """Return the error to raise when an address can't be bound."""
    reason = (error.strerror or str(error)).rpartition(": ")[2]  # asyncio's text repeats the address
    return FatalError(f"can't listen for {purpose} on {address}: {reason}")


def operator_message(error: BaseException) -> str | None:
    """Return one line about an error that the operator can fix; None for a bug, which needs its traceback."""
    message = _message(error)
    return None if message is None else "; ".join(line.strip() for line in message.splitlines())


def _message(error: BaseException) -> str | None:
    if isinstance(error, StorageUnavailable) and error.reason:
        return error.reason
    if isinstance(error, PostroomError | FatalError | CertificateError):
        return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    return None
