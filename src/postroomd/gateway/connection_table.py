"""All open connections of a gateway: their number, and which one to close when there are too many."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from postroomd.gateway.addresses import TrustedProxies, address_group
from postroomd.observability.logs import RateLimitedWarning
from postroomd.observability.metrics import CONNECTIONS_CLOSED, CONNECTIONS_REFUSED

RESERVED_CONNECTIONS = 8
"""Connections beyond the maximum that are accepted for health checks."""
MAX_OUTPUT_BYTES = 32 * 1024 * 1024
"""Response bytes that slow readers may leave in memory, together."""


class Phase(Enum):
    """What a connection waits for from its client, in the order in which connections are closed at the limit."""

    HEADERS = auto()
    NEXT_REQUEST = auto()
    BODY = auto()
    READING = auto()


class CloseReason(Enum):
    """Why the gateway closed a connection by itself: a label of the metric."""

    HEADER_TIMEOUT = "header_timeout"
    WRITE_TIMEOUT = "write_timeout"
    OUTPUT_LIMIT = "output_limit"
    EVICTED = "evicted"


class TableEntry(Protocol):
    """A connection, as the table sees it."""

    address: str

    @property
    def output_bytes(self) -> int:
        """Response bytes not yet taken by the client's kernel buffers."""

    def abort(self) -> None:
        """Close immediately, discarding output."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on connections, in seconds and numbers."""

    max_connections: int = 1_000
    max_connections_per_address: int = 0  # 0: no limit
    header_timeout_seconds: float = 10.0
    idle_timeout_seconds: float = 75.0
    write_timeout_seconds: float = 30.0
    trusted_proxies: Collection[str] = ()


class ConnectionTable:
    """Open connections, and those that wait for their client, by phase and in order of waiting."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.proxies = TrustedProxies(limits.trusted_proxies)
        self._open: set[TableEntry] = set()
        self._waiting: dict[Phase, dict[TableEntry, None]] = {phase: {} for phase in Phase}
        self._per_address: Counter[str] = Counter()
        self._refused = RateLimitedWarning("connections refused", CONNECTIONS_REFUSED.labels())
        self._closed = {
            reason: RateLimitedWarning(
                "connections closed", CONNECTIONS_CLOSED.labels(reason.value), reason=reason.value
            )
            for reason in CloseReason
        }

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether further connections are accepted for health checks only."""
        return len(self._open) >= self.limits.max_connections

    def admit(self, connection: TableEntry) -> bool:
        """Add a connection, closing others that wait for their clients if there are too many; False to refuse it."""
        while self.is_full and (victim := self._longest_waiting()) is not None:
            self.close(victim, CloseReason.EVICTED)
        group = self._group(connection)
        max_per_address = self.limits.max_connections_per_address
        if (group and self._per_address[group] >= max_per_address) or (
            len(self._open) >= self.limits.max_connections + RESERVED_CONNECTIONS
        ):
            self._refused.record()
            return False
        self._open.add(connection)
        if group:
            self._per_address[group] += 1
        return True

    def remove(self, connection: TableEntry) -> None:
        """Remove a closed connection; may be called again."""
        if connection not in self._open:
            return
        self._open.remove(connection)
        for waiting in self._waiting.values():
            waiting.pop(connection, None)
        if group := self._group(connection):
            self._per_address[group] -= 1
            if not self._per_address[group]:
                del self._per_address[group]

    def move(self, connection: TableEntry, old: Phase | None, new: Phase | None) -> None:
        """Record what a connection waits for from now on; None: for the gateway."""
        if old is not None:
            self._waiting[old].pop(connection, None)
        if new is not None and connection in self._open:
            self._waiting[new][connection] = None

    def close(self, connection: TableEntry, reason: CloseReason) -> None:
        """Close a connection, and count it under its reason."""
        self.remove(connection)
        self._closed[reason].record()
        connection.abort()

    def limit_output(self) -> None:
        """Close the slowest readers while their unread responses exceed MAX_OUTPUT_BYTES together."""
        readers = self._waiting[Phase.READING]
        total = sum(reader.output_bytes for reader in readers)
        while total > MAX_OUTPUT_BYTES and readers:
            slowest = next(iter(readers))
            total -= slowest.output_bytes
            self.close(slowest, CloseReason.OUTPUT_LIMIT)

    def _longest_waiting(self) -> TableEntry | None:
        return next((connection for waiting in self._waiting.values() for connection in waiting), None)

    def _group(self, connection: TableEntry) -> str:
        """Return the group that the limit per address counts; empty if it does not apply, as to a trusted proxy."""
        if not self.limits.max_connections_per_address or connection.address in self.proxies:
            return ""
        return address_group(connection.address)
