"""RPCs: how a servicer implements one, and what its descriptor says of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from postroomd.domain.context import CallContext

# The first of these that occurs in an RPC's name is the resource that PermissionDenied names.
_RESOURCES = ("Domain", "Mailbox", "Alias", "Forwarding", "Payment", "Provision", "Transition", "Audit", "Dkim")


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC: `perform` executes it, `response` converts its result to a message.

    They are separate so that the response can be stored in the same transaction as the effect. A mutating RPC makes one
    scoped write, and returns that write's result. A read without `response` returns the serialized message itself.

    `current` returns the result of a call that changed nothing when it is repeated under its idempotency key: it reads
    the resource as it is now. Without it, the response of such a call is stored like any other.
    """

    perform: Callable[[Any, CallContext], Awaitable[Any]]
    response: Callable[[Any], Message] | None = None
    current: Callable[[Any, CallContext], Awaitable[Any]] | None = None

    def encode(self, result: Any) -> bytes:
        """Return the serialized response to a result."""
        serialized: bytes = self.response(result).SerializeToString() if self.response else result
        return serialized


class ResponseEncoder:
    """Encodes the response of one call once per result: for the transaction that stores it, and for the caller.

    A retried transaction has another result, and so another encoding.
    """

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode
        self._latest: tuple[Any, bytes] | None = None

    def __call__(self, result: Any) -> bytes:
        """Return the serialized response to a result."""
        if self._latest is None or self._latest[0] is not result:
            self._latest = (result, self._encode(result))
        return self._latest[1]


def resource_of(method: MethodDescriptor) -> str:
    """Return the resource type in an RPC's name, such as `mailbox`. Raises ValueError for a name without one."""
    for name in _RESOURCES:
        if name in method.name:
            return name.lower()
    known = ", ".join(_RESOURCES)
    raise ValueError(f"{method.full_name} names none of the resources {known}: add its resource to _RESOURCES")


def is_mutating(method: MethodDescriptor) -> bool:
    """Whether an RPC may change anything: REST does not map it to GET, and it has no NO_SIDE_EFFECTS option."""
    options = method.GetOptions()
    http_get = options.Extensions[annotations_pb2.http].get
    return not http_get and options.idempotency_level != MethodOptions.NO_SIDE_EFFECTS
