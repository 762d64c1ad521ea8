"""Bytes for one REST connection: one or several requests, from valid ones to random bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from urllib.parse import quote

from google.protobuf.descriptor import FieldDescriptor

from postroomd.gateway.app import SERVICES
from postroomd.gateway.routes import Route, read_routes
from tests.fuzz.messages import Ids, json_bytes, json_value, valid_message
from tests.fuzz.mutations import hostile_text, mutated

ROUTES: Sequence[Route] = read_routes(SERVICES)
METHODS = ("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", "", "G\0T")
VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/9.9",
    "http/1.1",
    "",
    "HTTP/1",
)
LAST_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""Sent after each case, so that the gateway closes a connection that it can still read from."""

QUERIES = ("&", "&x=1", "&=", "&%", "&page=%ff", "&page[]=1", "&" * 1_000, "&a=1" * 500, "?", "&page=1" * 2)

HEADER_VALUES: dict[str, Sequence[str]] = {
    "Content-Type": (
        "application/json", "application/json; charset=utf-8", "text/plain", "application/json; charset=latin-1",
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/grpc", "", ";",
        "a/b; c=\"",
    ),
    "Content-Encoding": ("identity", "gzip", "br", "zstd", "x"),
    "Accept-Encoding": ("gzip", "identity;q=0", "*", "\x7f"),
    "Accept": ("text/html", "*/*", "application/json;q=x"),
    "Expect": ("100-continue", "100-Continue", "the-unexpected"),
    "If-Match": ('"1"', '"1", "2"', "*", 'W/"1"', '"', "1", '"' + "x" * 300 + '"', ",".join(['"1"'] * 40), '"\xe9"'),
    "If-None-Match": ('"1"', "*", 'W/"1"', '"', ",,,", '"1"' * 1_000),
    "Idempotency-Key": ("one", "k" * 255, "k" * 256, "", "with space", "\xe9", "\x01"),
    "X-Request-Id": ("the-id", "i" * 129, "", "a b", "\xff\xfe", "%0d%0a"),
    "X-Consistency": ("strong", "weak", "", "STRONG"),
    "X-Forwarded-For": ("192.0.2.1", "192.0.2.1, 198.51.100.2", "[2001:db8::1]:80", "unknown", ",,,", "1" * 999),
    "Host": ("localhost", "", "a b", "\xff", "localhost:99999", "[::1", "x" * 5_000),
    "Origin": ("https://app.example.org", "null", "\xff"),
    "Access-Control-Request-Method": ("POST", "x", ""),
    "Connection": ("close", "keep-alive", "upgrade", "x-auth-token", "close, keep-alive"),
    "Upgrade": ("h2c", "websocket", "\x00"),
    "HTTP2-Settings": ("AAMAAABkAAQAoAAAAAIAAAAA",),
    "Transfer-Encoding": ("chunked", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked\x0b", "X"),
    "Content-Length": ("0", "1", "-1", "+2", "0x2", "2, 2", "2, 3", "99999999", "9" * 30, "", " 2", "1e3", "٢"),
    "Range": ("bytes=0-1", "bytes=x"),
    "Cookie": ("a=b", "a" * 4_000, ";;;"),
    "X-Http-Method-Override": ("DELETE",),
    "Sec-WebSocket-Key": ("x",),
    "X-Gateway-Secret": ("guessed",),
    "X-Client-Address": ("192.0.2.1",),
}  # fmt: skip


@dataclass(frozen=True)
class RestCase:
    """The bytes of a connection."""

    data: bytes


def rest_case(random: Random, ids: Ids, token: str) -> RestCase:
    """Return a case."""
    kind = random.random()
    if kind < 0.03:
        return RestCase(random.randbytes(random.randint(1, 300)))
    count = random.choice((1, 1, 1, 1, 2, 5))  # pipelined
    data = b"".join(_request(random, ids, token) for _ in range(count))
    return RestCase(mutated(random, data, 4) if kind < 0.3 else data)


def _request(random: Random, ids: Ids, token: str) -> bytes:
    """Return one request of a route with faults in some of its parts."""
    route = random.choice(ROUTES)
    method = random.choice(METHODS) if random.random() < 0.05 else route.http_method
    version = random.choice(VERSIONS) if random.random() < 0.05 else "HTTP/1.1"
    target = _target(random, route, ids)
    body = json_bytes(random, route.request, ids) if route.body else b""
    if random.random() < 0.05:
        body = random.choice((b"", b"{}", b"x" * 2_000_000 if random.random() < 0.1 else b"x"))
    headers = _headers(random, token, body)
    head = "\r\n".join([f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers), "", ""])
    return head.encode("latin-1", "replace") + _framed(random, headers, body)


def _headers(random: Random, token: str, body: bytes) -> list[tuple[str, str]]:
    headers = [("Host", "localhost"), ("Content-Type", "application/json")]
    if random.random() < 0.95:
        headers.append(_credentials(random, token))
    if random.random() < 0.8:
        headers.append(("Content-Length", str(len(body))))
    else:
        headers.append(("Transfer-Encoding", "chunked"))
    for name, values in HEADER_VALUES.items():
        if random.random() < (0.01 if name in ("Transfer-Encoding", "Content-Length", "Host") else 0.04):
            headers.append((name, random.choice(values)))
    if random.random() < 0.03:
        headers.append((_header_text(random, "X-Header"), _header_text(random, "value")))
    if random.random() < 0.02:
        headers += [("X-Filler", "x" * random.choice((1, 1_000, 9_000)))] * random.choice((1, 10, 200))
    if random.random() < 0.05:
        random.shuffle(headers)
    return headers


def _header_text(random: Random, valid: str) -> str:
    return hostile_text(random, valid).encode("utf-8").decode("latin-1")


def _credentials(random: Random, token: str) -> tuple[str, str]:
    if random.random() < 0.9:
        return ("X-Auth-Token", token)
    wrong = ("", "x", token[:-1], token + ", " + token, "00000000-0000-4000-8000-000000000000", "\xff", "t" * 600)
    return random.choice(
        (("Authorization", f"Bearer {token}"), ("Authorization", "Basic x"), ("X-Auth-Token", random.choice(wrong)))
    )


def _target(random: Random, route: Route, ids: Ids) -> str:
    """Return path and query."""
    path = route.template
    for name in route.path_fields:
        value = ids.get(name.removesuffix("_id"), "x")
        if random.random() < 0.1:
            value = random.choice((hostile_text(random, value), value.upper(), value.replace("-", "")))
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    if random.random() < 0.05:
        faults = (f"{path}/", path.replace("/", "//"), f"http://h{path}", f"{path}#x", path.upper(), "*", "/")
        path = random.choice(faults)
    query = "" if route.body else _query(random, route, ids)
    if random.random() < 0.05:
        query += random.choice(QUERIES)
    target = f"{path}?{query}" if query else path
    return mutated(random, target.encode()).decode("latin-1") if random.random() < 0.05 else target


def _query(random: Random, route: Route, ids: Ids) -> str:
    fields = [field for field in route.request.fields if field.name not in route.path_fields]
    value = json_value(valid_message(random, route.request, ids))
    pairs: list[tuple[str, str]] = []
    for field in fields:
        texts = _texts(field, value.get(field.name))
        if random.random() < 0.15:
            texts = [hostile_text(random, text) for text in texts or [""]] * random.choice((1, 1, 2))
        pairs += [(field.name, text) for text in texts]
    return "&".join(f"{name}={quote(text, safe='')}" for name, text in pairs)


def _texts(field: FieldDescriptor, value: object) -> list[str]:
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    return [("true" if item else "false") if isinstance(item, bool) else str(item) for item in values]


def _framed(random: Random, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """Return the body as the last Transfer-Encoding says, at times with faults."""
    if not any(name == "Transfer-Encoding" for name, _ in headers):
        return body
    parts = []
    while body:
        size = random.choice((1, 7, 100, 5_000, 1_000_000))
        chunk, body = body[:size], body[size:]
        extension = random.choice(("", "", "", ";x", ';x="y"', ";" + "x" * 100))
        parts.append(f"{len(chunk):x}{extension}\r\n".encode() + chunk + b"\r\n")
    trailer = random.choice((b"", b"", b"X-Trailer: x\r\n", b"Content-Length: 5\r\n", b"\xff: x\r\n"))
    framed = b"".join(parts) + b"0\r\n" + trailer + b"\r\n"
    return mutated(random, framed) if random.random() < 0.2 else framed
