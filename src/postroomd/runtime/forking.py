"""The children of the supervisor: first forks, then new interpreters, each the leader of a session of its own."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from postroomd.clock import Clock
from postroomd.runtime.channel import FAILED, START, Channel
from postroomd.runtime.child import run_child
from postroomd.runtime.spawning import spawn
from postroomd.settings import Settings


@dataclass(slots=True)
class Child:
    """A process. `ready` has the addresses that it listens on, `exited` its exit code (negative: the signal).

    `wait` blocks until it exits, and returns the exit code.
    """

    name: str
    pid: int
    channel: Channel
    wait: Callable[[], int]
    failure: str | None = None
    ready: asyncio.Future[list[str]] = field(init=False)
    exited: asyncio.Future[int] = field(init=False)

    def prepare(self) -> None:
        """Create the futures, once there is an event loop."""
        loop = asyncio.get_running_loop()
        self.ready, self.exited = loop.create_future(), loop.create_future()

    def start(self, grpc_address: str) -> None:
        """Let the child run, with the address of the gRPC service."""
        self.channel.send(START, grpc_address)

    def signal(self, number: int) -> None:
        """Send a signal, unless the child has exited. Until it is reaped, its pid is not reused."""
        if not self.exited.done():
            os.kill(self.pid, number)

    async def watch(self) -> None:
        """Receive the child's messages until it exits, then reap it. Sets `ready`, `failure` and `exited`."""
        while message := await self.channel.receive():
            kind, text = message
            if kind == FAILED:
                self.failure = text
            elif not self.ready.done():
                self.ready.set_result(text.split())
        self.exited.set_result(await asyncio.to_thread(self.wait))
        self.channel.close()

    def exit_reason(self) -> str:
        """Return one line about why the child exited."""
        code = self.exited.result()
        if self.failure:
            return f"{self.name}: {self.failure}"
        if code < 0:
            return f"{self.name} was killed by {signal.Signals(-code).name}"
        return f"{self.name} exited with code {code}"


def fork(name: str, settings: Settings, clock: Clock, siblings: Sequence[Child]) -> Child:
    """Fork a child that runs a process once it is started. This process must have no thread and no event loop."""
    parent_end, child_end = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        parent_end.close()
        for sibling in siblings:
            sibling.channel.close()  # an inherited copy would delay its end of file until this child exits
        _run_fork(name, settings, child_end, clock)
    child_end.close()
    return Child(name, pid, Channel(parent_end), partial(_wait_for_fork, pid))


def exec_child(name: str, settings: Settings, grpc_address: str) -> Child:
    """Start a child as a new interpreter, and let it run with the address of the gRPC service."""
    process, channel = spawn(name, settings, grpc_address)
    child = Child(name, process.pid, channel, process.wait)
    child.prepare()
    return child


def _wait_for_fork(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _run_fork(name: str, settings: Settings, end: socket.socket, clock: Clock) -> NoReturn:
    code = 1
    try:
        os.setsid()
        code = run_child(name, settings, end, clock)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # the stack below belongs to the parent
