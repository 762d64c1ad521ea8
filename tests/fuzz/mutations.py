"""Mutations of bytes and text. Every function draws from the given random numbers alone."""

from collections.abc import Callable, Sequence
from random import Random

INTERESTING_BYTES = (
    b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b";", b",", b"%", b"/", b"?", b"#", b"&", b"=", b"+",
    b"\x7f", b"\x80", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x92\x8c", b"\xef\xbb\xbf", b"\xff\xff\xff\xff",
    b"%00", b"%ff", b"%2f", b"%zz", b"..", b"\\", b"'", b'"', b"{", b"}", b"[", b"]", b"null", b"0x10", b"-1", b"1e999",
)  # fmt: skip

INTERESTING_TEXTS = (
    "", " ", "\0", "\n", "a\0b", "\x7f", "\x85", "é", "e\u0301", "\u200b", "\u202e", "\ufeff", "\ufffd", "💌",
    "\U0010ffff", "ß", "İ", "ǅ", "ª", "xn--", "xn--a", "a" * 63, "a" * 64, "a" * 65, "a" * 254, "a." * 130,
    "a" * 10_000, "%", "_", "*", "%s%n", "{0}", "${x}", "'; --", '"', "\\", "../..", "-1", "0", "00", "+1", "1.0",
    "1e3", "NaN", "Infinity", "9" * 400, "9" * 5_000, "2147483647", "2147483648", "-2147483649", "9223372036854775808",
    "true", "null", "@", "a@b@c", "a@b.example", "00000000-0000-4000-8000-000000000000",
    "00000000000040008000000000000000",
    "{00000000-0000-4000-8000-000000000000}",
    "{ARGON2ID}$argon2id$", "2026-01-31T12:00:00Z", "unknown_status", "ready", "READY", "monthly", "created_at_desc",
)  # fmt: skip

Mutation = Callable[[Random, bytes], bytes]


def _position(random: Random, data: bytes) -> int:
    return random.randrange(len(data) + 1)


def _span(random: Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    start = _position(random, data)
    return start, min(len(data), start + random.randint(1, longest))


def _flip(random: Random, data: bytes) -> bytes:
    if not data:
        return data
    mutated = bytearray(data)
    mutated[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(mutated)


def _overwrite(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data, 4)
    return data[:start] + random.randbytes(end - start) + data[end:]


def _insert(random: Random, data: bytes) -> bytes:
    at = _position(random, data)
    inserted = random.choice(INTERESTING_BYTES) if random.random() < 0.7 else random.randbytes(random.randint(1, 8))
    return data[:at] + inserted * random.choice((1, 1, 1, 2, 50)) + data[at:]


def _delete(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _duplicate(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:end] + data[start:end] * random.choice((1, 1, 2, 100)) + data[end:]


def _move(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data)
    rest, at = data[:start] + data[end:], _position(random, data[:start] + data[end:])
    return rest[:at] + data[start:end] + rest[at:]


def _truncate(random: Random, data: bytes) -> bytes:
    return data[: _position(random, data)]


MUTATIONS: Sequence[Mutation] = (_flip, _overwrite, _insert, _insert, _delete, _duplicate, _move, _truncate)


def mutated(random: Random, data: bytes, most: int = 3) -> bytes:
    """Return the bytes after one to `most` mutations."""
    for _ in range(random.randint(1, most)):
        data = random.choice(MUTATIONS)(random, data)
    return data


def hostile_text(random: Random, valid: str = "") -> str:
    """Return text that is likely to be invalid, by itself or as a change of valid text."""
    kind = random.random()
    if kind < 0.6:
        return random.choice(INTERESTING_TEXTS)
    if kind < 0.8:
        at = random.randrange(len(valid) + 1)
        return valid[:at] + random.choice(INTERESTING_TEXTS) + valid[at:]
    return "".join(chr(_code_point(random)) for _ in range(random.randint(1, 20)))


def _code_point(random: Random) -> int:
    """Return any code point but a surrogate, which has no UTF-8."""
    point = random.choice((random.randrange(0x80), random.randrange(0x800), random.randrange(0x110000)))
    return 0x41 if 0xD800 <= point < 0xE000 else point
