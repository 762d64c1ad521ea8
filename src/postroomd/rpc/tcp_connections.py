"""The TCP connections that this process accepts, as Linux knows them: bytes received, pausing, closing, refusing.

gRPC tells nothing of its connections, but their sockets are this process's. They are found among its open files. Their
file descriptors belong to gRPC, which may close one at any time and whose number another file then gets: each access
checks the socket's inode.
"""

import os
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISSOCK

from postroomd.rpc import socket_filters
from postroomd.rpc.client_address import Endpoint, canonical_address

_OPEN_FILES = Path("/proc/self/fd")

# linux/tcp.h: struct tcp_info, whose further fields older kernels do not have.
_TCP_INFO_BYTES = 136
_BYTES_RECEIVED = struct.Struct("=Q")
_BYTES_RECEIVED_OFFSET = 128


def is_supported() -> bool:
    """Whether this system tells what `AcceptedConnections` needs: Linux with /proc."""
    if sys.platform != "linux" or not _OPEN_FILES.is_dir():
        return False
    with socket.socket() as probe:
        try:
            return len(probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)) >= _TCP_INFO_BYTES
        except OSError:
            return False


class _OpenSocket:
    """A socket that belongs to gRPC."""

    __slots__ = ("_fd", "_inode")

    def __init__(self, fd: int, inode: int) -> None:
        self._fd = fd
        self._inode = inode

    @contextmanager
    def _duplicate(self) -> Iterator[socket.socket | None]:
        """Give the block a duplicate of the socket, None once it is closed."""
        try:
            fd = os.dup(self._fd)
        except OSError:
            yield None
            return
        if _inode(fd) != self._inode:
            os.close(fd)
            yield None
            return
        with socket.socket(fileno=fd) as duplicate:
            yield duplicate


class TcpConnection(_OpenSocket):
    """One accepted connection: the port that accepted it, and its other end."""

    __slots__ = ("endpoint", "port")

    def __init__(self, fd: int, inode: int, port: int, endpoint: Endpoint) -> None:
        super().__init__(fd, inode)
        self.port = port
        self.endpoint = endpoint

    def bytes_received(self) -> int | None:
        """Return how many bytes have arrived, read or not; None once the connection is closed."""
        # No duplicate: it would keep the connection open while gRPC closes it. The C type takes a third of the time.
        try:
            borrowed = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, self._fd)
        except OSError:
            return None
        try:
            info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return None
        finally:
            borrowed.detach()
        received: int = _BYTES_RECEIVED.unpack_from(info, _BYTES_RECEIVED_OFFSET)[0]
        return received if _inode(self._fd) == self._inode else None

    def pause(self) -> None:
        """Receive nothing more until `resume`, without closing the connection. Close it if the system can't."""
        with self._duplicate() as duplicate:
            if duplicate is not None:
                try:
                    socket_filters.attach(duplicate, socket_filters.WITH_DATA)
                except OSError:
                    _shut_down(duplicate)

    def resume(self) -> None:
        """Receive again."""
        with self._duplicate() as duplicate:
            if duplicate is not None:
                with suppress(OSError):  # it could not be paused, and was closed
                    socket_filters.detach(duplicate)

    def close(self) -> None:
        """Shut the connection down: gRPC then closes it, as if the client had done so."""
        with self._duplicate() as duplicate:
            if duplicate is not None:
                _shut_down(duplicate)


class _Listener(_OpenSocket):
    """A socket that listens, and the networks of which it accepts no new connections."""

    __slots__ = ("_refused",)

    def __init__(self, fd: int, inode: int) -> None:
        super().__init__(fd, inode)
        self._refused: frozenset[str] = frozenset()

    def refuse(self, networks: frozenset[str]) -> None:
        """Accept no new connections from these networks, only from all others; or as before, if the system can't."""
        if networks == self._refused:
            return
        with self._duplicate() as duplicate, suppress(OSError):
            if duplicate is not None:
                if networks:
                    socket_filters.attach(duplicate, socket_filters.connecting_from(networks))
                else:
                    socket_filters.detach(duplicate)
                self._refused = networks


class AcceptedConnections:
    """The connections that this process has accepted on some ports."""

    def __init__(self, ports: Collection[int]) -> None:
        self._ports = frozenset(ports)
        self._by_fd: dict[int, TcpConnection] = {}
        self._others: dict[int, int] = {}  # the inodes of other sockets
        self._listeners: dict[int, _Listener] = {}  # those of the ports, by inode

    def scan(self) -> Iterator[tuple[TcpConnection, int]]:
        """Yield the open connections, with the bytes that each has received. A connection is the same object each time.

        Scans one after the other: a further one needs the end of the last.
        """
        found: dict[int, TcpConnection] = {}
        others: dict[int, int] = {}
        for name in os.listdir(_OPEN_FILES):  # noqa: PTH208 # os.listdir takes half the time
            fd = int(name)
            known = self._by_fd.get(fd)
            received = known.bytes_received() if known is not None else None
            if received is None:
                inode = _inode(fd)
                if inode is None:
                    continue
                known = self._inspect(fd, inode) if self._others.get(fd) != inode else None
                received = known.bytes_received() if known is not None else None
                if known is None:
                    others[fd] = inode
            if known is not None and received is not None:
                found[fd] = known
                yield known, received
        self._by_fd, self._others = found, others
        open_inodes = set(others.values())
        self._listeners = {inode: each for inode, each in self._listeners.items() if inode in open_inodes}

    def refuse(self, networks: frozenset[str]) -> None:
        """Accept no new connections from these networks, at most `socket_filters.MAX_NETWORKS`, until the next time.

        Those of `client_address.client_network`. Clients in them try again after a second.
        """
        for listener in self._listeners.values():
            listener.refuse(networks)

    def _inspect(self, fd: int, inode: int) -> TcpConnection | None:
        """Return the connection of a socket, None if it is not an accepted one. Remember one that listens."""
        try:
            duplicate = socket.socket(fileno=os.dup(fd))
        except OSError:
            return None
        with duplicate:
            if duplicate.family not in (socket.AF_INET, socket.AF_INET6) or duplicate.type != socket.SOCK_STREAM:
                return None
            try:
                port = duplicate.getsockname()[1]
                if port not in self._ports:
                    return None
                if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    self._listeners[inode] = _Listener(fd, inode)
                    return None
                address, peer_port, *_ = duplicate.getpeername()
            except OSError:  # it is closed
                return None
            return TcpConnection(fd, inode, port, (canonical_address(address), peer_port))


def _inode(fd: int) -> int | None:
    """Return the inode of a socket, None if the file is not a socket or not open."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_ino if S_ISSOCK(status.st_mode) else None


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # the client has closed it
        connection.shutdown(socket.SHUT_RDWR)
