"""What the metadata and the connection of a call say: its request id, consistency, idempotency key, certificate."""

import re
from collections.abc import Mapping
from dataclasses import replace
from random import getrandbits
from typing import Any

from postroomd.domain.context import CallContext, Consistency
from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.rpc.client_address import Metadata

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


def request_id_of(metadata: Metadata) -> str:
    """Return the request id that the caller sent, or a new one if it sent no valid one."""
    for name, value in metadata:
        if name == "x-request-id" and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    # Unique suffices, it need not be secret: os.urandom is a system call that releases the interpreter lock.
    return f"{getrandbits(128):032x}"


def with_consistency(context: CallContext, metadata: Metadata) -> CallContext:
    """Return the context with the requested consistency. Raises InvalidArguments for an unknown one."""
    if context.tenant is None:
        return context
    requested = {value for name, value in metadata if name == "x-consistency"}
    if not requested:
        return context
    if requested - {"strong"}:
        raise InvalidArguments([Violation("x-consistency", Reason.CONSTRAINT, "must be `strong`, or absent")])
    return replace(context, consistency=Consistency.STRONG)


def idempotency_key_of(metadata: Metadata) -> str | None:
    """Return the call's idempotency key, None without one. Raises InvalidArguments for a malformed or second key."""
    keys = [str(value) for name, value in metadata if name == "idempotency-key"]
    if not keys:
        return None
    if len(keys) > 1 or not IDEMPOTENCY_KEY.fullmatch(keys[0]):
        message = "must be a single key of 1 to 255 visible ASCII characters"
        raise InvalidArguments([Violation("idempotency-key", Reason.FORMAT, message)])
    return keys[0]


def client_certificate(grpc_context: Any) -> Mapping[str, str]:
    """Return the log field that names the client's certificate: its first alternative name, or its common name."""
    authentication = grpc_context.auth_context()
    for name in ("x509_subject_alternative_name", "x509_common_name"):
        if values := authentication.get(name):
            return {"client_certificate": values[0].decode("utf-8", "replace")}
    return {}
