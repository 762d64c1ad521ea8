"""Calls, and raw frames, for one gRPC connection: from valid calls to random bytes."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from bench.attack.attackers import http2
from postroom.admin.v1alpha1 import admin_service_pb2
from postroom.v1alpha1 import mailbox_service_pb2
from postroomd.rpc.reflection import V1
from tests.fuzz.messages import Ids, message_bytes, valid_message
from tests.fuzz.mutations import hostile_text, mutated

SERVICE: ServiceDescriptor = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
ADMIN_SERVICE: ServiceDescriptor = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
HEALTH_SERVICE: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]

INITIAL_WINDOW_SIZE, LARGEST_WINDOW = 4, 2**31 - 1  # RFC 9113, section 6.5.2
MAX_FRAME_BYTES = 16_384
MAX_BODY_BYTES = 60_000  # below the window that the server grants a new connection
UNENDING = "Watch"

Header = tuple[str | bytes, str | bytes]

METADATA: Mapping[str, Sequence[str | bytes]] = {
    "te": ("trailers", "x", ""),
    "grpc-timeout": ("1S", "30S", "1n", "99999999H", "100000000S", "0S", "-1S", "1", "S", "", "1X", "1.5S", "9" * 40),
    "grpc-encoding": ("identity", "gzip", "deflate", "snappy", "zstd", "", "x", "GZIP", "gzip,identity", b"\xff"),
    "grpc-accept-encoding": ("identity", "gzip,deflate", "x", "", ",,,"),
    "grpc-message-type": ("x",),
    "grpc-status": ("0", "13"),
    "grpc-previous-rpc-attempts": ("1", "-1", "x"),
    "grpc-tags-bin": ("AAAA", "!", ""),
    "grpc-trace-bin": ("AAAA", "*"),
    "x-request-id": ("the-id", "i" * 129, "", "a b", b"\xff"),
    "idempotency-key": ("one", "k" * 256, "", "with space", b"\x01"),
    "x-consistency": ("strong", "weak", ""),
    "x-accept-details": ("all", "x"),
    "x-client-address": ("192.0.2.1", "", "x"),
    "x-gateway-secret": ("guessed", ""),
    "x-filler": ("x", "x" * 1_000, "x" * 7_000, "x" * 20_000),
    "x-filler-bin": ("AAAA", "AAA", "A", "A===", "%", ",", "A" * 1_001, b"\xff"),
    "connection": ("close",),
    "content-length": ("0", "5", "x"),
    "host": ("localhost", ""),
    "user-agent": ("x", b"\xff" * 10),
    ":path": ("/x",),
    ":status": ("200",),
    "X-Upper": ("x",),
    "": ("x",),
    "a b": ("x",),
    "lb-token": ("x",),
}  # fmt: skip

CONTENT_TYPES = (
    "application/grpc+proto", "application/grpc;x=y", "application/grpc+json", "application/grpc+x",
    "application/grpcx", "application/grpc-web", "application/json", "text/html", "", b"\xff",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A method that a case calls."""

    path: str
    request: Descriptor


@dataclass(frozen=True)
class GrpcCase:
    """The bytes of a connection, and the streams that must end; None if nobody can tell."""

    data: bytes
    awaited: Sequence[int] | None = None


def methods_of(service: ServiceDescriptor) -> list[Method]:
    """Return the methods of a service, and those of the health service and reflection, which each port has."""
    methods = [
        Method(f"/{each.full_name}/{method.name}", method.input_type)
        for each in (service, HEALTH_SERVICE)
        for method in each.methods
    ]
    reflection: Any = reflection_pb2.ServerReflectionRequest.DESCRIPTOR
    return [*methods, Method(f"/{V1}/ServerReflectionInfo", reflection)]


def preface() -> bytes:
    """Return the start of a connection whose peer may send as much as it likes."""
    window = struct.pack(">HI", INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
    return (
        http2.PREFACE
        + http2.frame(http2.SETTINGS, 0, 0, window)
        + http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - 65_535))
    )


def grpc_case(random: Random, ids: Ids, token: str, methods: Sequence[Method]) -> GrpcCase:
    """Return a case: one to three calls, or frames with faults."""
    if random.random() < 0.25:
        return GrpcCase(_frames_with_faults(random, ids, token, methods))
    data, awaited = bytearray(preface()), []
    for stream in range(1, 2 * random.choice((1, 1, 2, 3)), 2):
        call, method, ends = _call(random, ids, token, methods, stream)
        data += call
        if ends and method.path.rpartition("/")[2] != UNENDING:
            awaited.append(stream)
    return GrpcCase(bytes(data), awaited)


def _call(random: Random, ids: Ids, token: str, methods: Sequence[Method], stream: int) -> tuple[bytes, Method, bool]:
    """Return the frames of a call, its method, and whether the client's side ends."""
    method = random.choice(methods)
    block = http2.header_block(_headers(random, token, method))
    body = _body(random, method, ids)[:MAX_BODY_BYTES]
    ends = random.random() < 0.95
    return _header_frames(random, stream, block) + _data_frames(random, stream, body, ends=ends), method, ends


def _headers(random: Random, token: str, method: Method) -> list[Header]:
    path: str | bytes = method.path
    if random.random() < 0.05:
        service, _, name = method.path.rpartition("/")
        path = random.choice((
            f"{service}/{name}x", f"{service}x/{name}", service, "/", "", "*", name, f"/{name}", f"{method.path}/",
            method.path * 50, method.path.upper(), mutated(random, method.path.encode()),
        ))  # fmt: skip
    headers: list[Header] = [
        (":method", random.choice(("GET", "PUT", "", "x")) if random.random() < 0.02 else "POST"),
        (":scheme", random.choice(("https", "", "x")) if random.random() < 0.02 else "http"),
        (":path", path),
        (":authority", random.choice(("", "x" * 300, b"\xff")) if random.random() < 0.02 else "localhost"),
        ("content-type", random.choice(CONTENT_TYPES) if random.random() < 0.05 else "application/grpc"),
    ]
    if random.random() < 0.02:
        del headers[random.randrange(len(headers))]
    if random.random() < 0.9:
        headers += [("te", "trailers")]
    if random.random() < 0.95:
        headers.append(("x-auth-token", _token(random, token)))
    for name, values in METADATA.items():
        if random.random() < 0.02:
            headers.append((name, random.choice(values)))
    if random.random() < 0.03:
        headers.append((hostile_text(random, "x-name"), hostile_text(random, "value")))
    if random.random() < 0.02:
        headers += [(f"x-filler-{number}", "x" * 50) for number in range(random.choice((1, 50, 300)))]
    if random.random() < 0.02:
        random.shuffle(headers)
    return headers


def _token(random: Random, token: str) -> str | bytes:
    if random.random() < 0.95:
        return token
    return random.choice(("", "x", token[:-1], f"{token}x", token.upper(), b"\xff", "t" * 5_000))


def _body(random: Random, method: Method, ids: Ids) -> bytes:
    """Return the messages of a call with their prefixes: a flag and a length."""
    message = message_bytes(random, method.request, ids)
    body = struct.pack(">BI", 0, len(message)) + message
    if random.random() < 0.85:
        return body
    faults: Sequence[Callable[[], bytes]] = (
        lambda: b"",
        lambda: body[: random.randrange(len(body))],
        lambda: body + body,
        lambda: body + random.randbytes(random.randint(1, 10)),
        lambda: struct.pack(">BI", random.choice((1, 2, 255)), len(message)) + message,
        lambda: struct.pack(">BI", 0, random.choice((len(message) + 1, 2**31, 2**32 - 1, 5_000_000))) + message,
        lambda: struct.pack(">BI", 0, max(0, len(message) - 1)) + message,
        lambda: mutated(random, body),
        lambda: random.randbytes(random.randint(1, 100)),
        lambda: struct.pack(">BI", 0, 50_000) + bytes(50_000),
    )
    return random.choice(faults)()


def _header_frames(random: Random, stream: int, block: bytes) -> bytes:
    size = random.choice((1, 10, 100)) if random.random() < 0.05 else MAX_FRAME_BYTES
    parts = [block[start : start + size] for start in range(0, len(block), size)] or [b""]
    frames = []
    for number, part in enumerate(parts):
        kind = http2.CONTINUATION if number else http2.HEADERS
        frames.append(http2.frame(kind, http2.END_HEADERS if number == len(parts) - 1 else 0, stream, part))
    return b"".join(frames)


def _data_frames(random: Random, stream: int, body: bytes, *, ends: bool) -> bytes:
    size = random.choice((1, 3, 100)) if random.random() < 0.1 and len(body) < 2_000 else MAX_FRAME_BYTES
    frames = [http2.frame(http2.DATA, 0, stream, body[start : start + size]) for start in range(0, len(body), size)]
    if random.random() < 0.05:
        frames.insert(0, http2.frame(http2.DATA, http2.PADDED, stream, b"\4" + bytes(4)))
    if ends:
        frames.append(http2.frame(http2.DATA, http2.END_STREAM, stream))
    return b"".join(frames)


def _frames_with_faults(random: Random, ids: Ids, token: str, methods: Sequence[Method]) -> bytes:
    """Return a connection's bytes with faults below the level of calls (RFC 9113)."""
    frames = [preface()]
    for stream in range(1, 2 * random.randint(1, 4), 2):
        message = valid_message(random, (method := random.choice(methods)).request, ids).SerializeToString()
        block = http2.header_block(_headers(random, token, method))
        frames.append(_header_frames(random, stream, block))
        frames.append(http2.frame(http2.DATA, http2.END_STREAM, stream, struct.pack(">BI", 0, len(message)) + message))
    for _ in range(random.randint(0, 3)):
        frames.insert(random.randrange(len(frames) + 1), _odd_frame(random))
    if random.random() < 0.3:
        random.shuffle(frames)
    data = b"".join(frames)
    return mutated(random, data, 6) if random.random() < 0.6 else data


def _odd_frame(random: Random) -> bytes:
    """Return a frame that a client rarely, or never, sends."""
    kind = random.randrange(12)
    payload = random.choice((b"", bytes(4), bytes(8), random.randbytes(random.randint(1, 40)), bytes(17_000)))
    flags = random.choice((0, 0, 1, 4, 5, 8, 32, 255))
    stream = random.choice((0, 1, 2, 3, 99, 2**31 - 1, 2**32 - 1))
    return http2.frame(kind, flags, stream, payload) * random.choice((1, 1, 1, 5))
