"""Children that are new interpreters: those of prefork, and those that the supervisor restarts.

A process that has loaded gRPC, or runs threads, must not be forked.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta

from pydantic import SecretStr

from postroomd.clock import Clock
from postroomd.durations import format_duration
from postroomd.runtime.channel import START, Channel
from postroomd.runtime.child import run_child
from postroomd.settings import Settings, load_settings, variable


def spawn(name: str, settings: Settings, grpc_address: str) -> tuple[subprocess.Popen[bytes], Channel]:
    """Start a process with settings, and let it run with the address of the gRPC service.

    Returns it with the channel on which it reports.
    """
    parent_end, child_end = socket.socketpair()
    descriptor = child_end.fileno()
    # A session of its own, so that Ctrl-C reaches only this process, which forwards it once.
    process = subprocess.Popen(  # noqa: S603 # our own interpreter and module
        [sys.executable, "-m", "postroomd.runtime.spawning", name, str(descriptor)],
        env=os.environ | to_environment(settings),
        pass_fds=[descriptor],
        start_new_session=True,
    )
    child_end.close()
    channel = Channel(parent_end)
    channel.send(START, grpc_address)
    return process, channel


def to_environment(settings: Settings) -> Mapping[str, str]:
    """Return the environment variables that give another process these settings. They may contain secrets."""
    return {
        variable(name): _to_text(value)
        for name in Settings.model_fields
        if (value := getattr(settings, name)) is not None
    }


def _to_text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case timedelta():
            return format_duration(value)
        case _:
            return str(value)


def main() -> None:
    """Run one child. The arguments are its name and the descriptor of its end of the socket pair."""
    name, descriptor = sys.argv[1:]
    sys.exit(run_child(name, load_settings({}), socket.socket(fileno=int(descriptor)), Clock()))


if __name__ == "__main__":
    main()
