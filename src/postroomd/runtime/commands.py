"""The context of a command that changes the database directly, for the audit log."""

import os
import pwd
from datetime import datetime

from postroomd.domain.audit import AuditedCall
from postroomd.domain.context import CallContext


def command_context(command: str, now: datetime) -> CallContext:
    """Return the context of a command, such as `keys create`, with the user of the operating system as its actor."""
    return CallContext(actor=f"command:{_user()}", audit=AuditedCall(action=command, at=now))


def _user() -> str:
    """Return the name of the user who runs this process, or its number if it has no name, as in many containers.

    Not the name that the environment gives, which anyone can set.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
