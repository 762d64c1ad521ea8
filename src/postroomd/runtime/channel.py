"""Messages between a parent process, the supervisor or prefork, and a child: lines over a socket pair.

The parent sends `start GRPC_ADDRESS`, and the child `ready ADDRESS…` or `failed TEXT`. The end of file signals to
each side that the other has exited, for whatever reason.
"""

import asyncio
import socket

START, READY, FAILED = "start", "ready", "failed"


class Channel:
    """One end of the socket pair."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._unread = b""

    def send(self, kind: str, *arguments: str) -> None:
        """Send a message, which is far smaller than the socket's buffer. Raises OSError if the other end is closed."""
        self._socket.sendall(f"{' '.join((kind, *arguments))}\n".encode())

    async def receive(self) -> tuple[str, str] | None:
        """Return kind and arguments of the next message; None once the other end is closed."""
        while b"\n" not in self._unread:
            try:
                received = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
            except ConnectionError:  # the other end was closed with messages unread
                received = b""
            if not received:
                return None
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        kind, _, arguments = line.decode().partition(" ")
        return kind, arguments

    async def wait_closed(self) -> None:
        """Return once the other end is closed."""
        while await self.receive():
            pass

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
