"""Acceptance of HTTPS connections, which are in the connection table from before their handshake.

asyncio's own servers hand a connection over after its handshake: until then, silent clients would be outside all
limits.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence

from aiohttp import web

from postroomd.gateway.addresses import canonical_address
from postroomd.gateway.connection_table import ConnectionTable, Phase
from postroomd.gateway.connections import Connection
from postroomd.observability.logs import get_logger

ACCEPT_RETRY_SECONDS = 0.2
"""Pause after a failed accept, such as for lack of file descriptors."""
SHUTDOWN_SECONDS = 1.0
"""Time for a client to confirm the end of a connection (RFC 8446, section 6.1) before it is aborted."""

logger = get_logger()


def bind(host: str, port: int, *, reuse_port: bool, backlog: int) -> socket.socket:
    """Return a listening, non-blocking socket. Raises OSError if the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=backlog, reuse_port=reuse_port)
    listening.setblocking(False)
    return listening


class TlsListener:
    """Accepts connections on a socket until it is closed."""

    def __init__(
        self,
        server: web.Server,
        table: ConnectionTable,
        context: Callable[[], ssl.SSLContext],
        listening: socket.socket,
    ) -> None:
        """Require a running event loop. `context` returns the TLS context of a new connection."""
        self._server = server
        self._table = table
        self._context = context
        self._socket = listening
        self._accepting = asyncio.create_task(self._accept())
        self._handshakes: set[asyncio.Task[None]] = set()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening sockets."""
        return (self._socket,)

    def close(self) -> None:
        """Stop accepting, and end the handshakes in progress."""
        self._accepting.cancel()
        self._socket.close()
        for handshake in self._handshakes:
            handshake.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(self._socket)
            except OSError as error:
                logger.warning("connection not accepted", error=error.strerror)
                await asyncio.sleep(ACCEPT_RETRY_SECONDS)
                continue
            handshake = loop.create_task(self._shake_hands(accepted, canonical_address(peer[0])))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, accepted: socket.socket, address: str) -> None:
        """Upgrade a connection to TLS; Connection then replaces it in the table."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 # for the type checker
        entry = Handshake(address, task)
        if not self._table.admit(entry):  # a response would cost a handshake
            accepted.close()
            return
        self._table.move(entry, None, Phase.HEADERS)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self._server, self._table, entry),
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=self._table.limits.header_timeout_seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except OSError as error:  # ssl.SSLError and ConnectionError are among them
            logger.debug("TLS handshake failed", client_address=address, error=type(error).__name__)
        finally:
            self._table.remove(entry)


class Handshake:
    """A connection during its TLS handshake, as an entry of the connection table."""

    output_bytes = 0

    def __init__(self, address: str, task: asyncio.Task[None]) -> None:
        self.address = address
        self._task = task

    def abort(self) -> None:
        """End the handshake, which closes the connection."""
        self._task.cancel()
