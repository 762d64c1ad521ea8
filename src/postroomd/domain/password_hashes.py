"""Password hashes from another mail system, in the form that Dovecot stores: `{SCHEME}` and the hash.

A hash is checked for its form, so that a login does not fail for a typing error, and for its cost: each login computes
it again, and a costly one makes logins a denial of service. Nothing of a hash is repeated in a message.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import TypeAlias

MAX_PASSWORD_HASH = 512  # characters
MAX_ARGON2_KIB = 65_536
MAX_ARGON2_PASSES = 10
MAX_ARGON2_LANES = 4
MAX_BCRYPT_COST = 14
MAX_ROUNDS = 1_000_000
_MIN_CRYPT_ROUNDS = 1_000  # fewer count as this many (SHA-crypt specification)

_SCHEME = re.compile(r"\{([A-Za-z0-9.-]+)\}", re.ASCII)
_ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)", re.ASCII
)
_BCRYPT = re.compile(r"\$2[aby]\$(\d{2})\$[./A-Za-z0-9]{53}", re.ASCII)
_PBKDF2 = re.compile(r"\$1\$[^$:\s]{8,64}\$(\d{1,9})\$[0-9a-f]{40}", re.ASCII)
_SSHA512_OCTETS = range(64 + 4, 64 + 64 + 1)  # the digest and a salt of 4 to 64 octets


class CostlyHash(ValueError):
    """The hash takes too long to verify, or is too cheap to be what its scheme promises."""


_Check: TypeAlias = Callable[[str], None]


def canonical_password_hash(text: str) -> str:
    """Return a hash as it is stored: with its scheme in upper case.

    Raises ValueError, with a message for the caller that repeats nothing of the hash; CostlyHash for a cost out of
    bounds.
    """
    if len(text) > MAX_PASSWORD_HASH:
        raise ValueError(f"must have at most {MAX_PASSWORD_HASH} characters")
    scheme = _SCHEME.match(text)
    if scheme is None or (check := _CHECKS.get(scheme[1].upper())) is None:
        known = ", ".join(f"{{{name}}}" for name in _CHECKS)
        raise ValueError(f"must begin with its scheme, one of {known}: send any other password in plain text")
    digest = text[scheme.end() :]
    if not digest.isascii():
        raise ValueError("must be ASCII")
    check(digest)
    return f"{{{scheme[1].upper()}}}{digest}"


def _check_argon2id(digest: str) -> None:
    form = _ARGON2ID.fullmatch(digest)
    if form is None or not all(_is_unpadded_base64(part, at_least) for part, at_least in ((form[4], 8), (form[5], 16))):
        raise ValueError("must have the form {ARGON2ID}$argon2id$v=19$m=…,t=…,p=…$salt$hash")
    memory, passes, lanes = (int(number) for number in form.groups()[:3])
    if not (
        1 <= lanes <= MAX_ARGON2_LANES and 8 * lanes <= memory <= MAX_ARGON2_KIB and 1 <= passes <= MAX_ARGON2_PASSES
    ):
        raise CostlyHash(
            f"must have m of 8 p to {MAX_ARGON2_KIB} (KiB), t of 1 to {MAX_ARGON2_PASSES} and p of 1 to"
            f" {MAX_ARGON2_LANES}: each login computes the hash"
        )


def _check_bcrypt(digest: str) -> None:
    form = _BCRYPT.fullmatch(digest)
    if form is None:
        raise ValueError("must have the form {BLF-CRYPT}$2y$cost$ and 53 characters; $2a$ and $2b$ are accepted too")
    if not 4 <= int(form[1]) <= MAX_BCRYPT_COST:
        raise CostlyHash(f"must have a cost of 04 to {MAX_BCRYPT_COST}: each login computes the hash")


def _check_sha_crypt(scheme: str, prefix: str, length: int) -> _Check:
    # crypt(3) reads rounds=… as the number of rounds wherever the salt would begin, so no salt may begin like that.
    pattern = re.compile(
        rf"{re.escape(prefix)}(?:rounds=(\d{{1,9}})\$)?(?!rounds=)[^$:\s]{{1,16}}\$[./A-Za-z0-9]{{{length}}}", re.ASCII
    )

    def check(digest: str) -> None:
        form = pattern.fullmatch(digest)
        if form is None:
            raise ValueError(
                f"must have the form {{{scheme}}}{prefix}salt$ or {prefix}rounds=…$salt$ and {length} characters"
            )
        if form[1] is not None:
            _check_rounds(int(form[1]), _MIN_CRYPT_ROUNDS)

    return check


def _check_pbkdf2(digest: str) -> None:
    form = _PBKDF2.fullmatch(digest)
    if form is None:
        raise ValueError("must have the form {PBKDF2}$1$salt$rounds$ and 40 lower-case hexadecimal digits")
    _check_rounds(int(form[1]), 1_000)  # the minimum of RFC 8018, section 4.2


def _check_rounds(rounds: int, minimum: int) -> None:
    if not minimum <= rounds <= MAX_ROUNDS:
        raise CostlyHash(f"must have {minimum} to {MAX_ROUNDS} rounds: each login computes the hash")


def _check_ssha512(digest: str) -> None:
    try:
        octets = b64decode(digest, validate=True)
    except ValueError:
        octets = b""
    if len(octets) not in _SSHA512_OCTETS or b64encode(octets).decode() != digest:
        raise ValueError("must have the form {SSHA512} and base64 of the digest and a salt of 4 to 64 octets")


_CHECKS: Mapping[str, _Check] = {
    "ARGON2ID": _check_argon2id,
    "BLF-CRYPT": _check_bcrypt,
    "SHA512-CRYPT": _check_sha_crypt("SHA512-CRYPT", "$6$", 86),
    "SHA256-CRYPT": _check_sha_crypt("SHA256-CRYPT", "$5$", 43),
    "PBKDF2": _check_pbkdf2,
    "SSHA512": _check_ssha512,
}
"""The accepted schemes, by their names in Dovecot."""


def _is_unpadded_base64(text: str, at_least: int) -> bool:
    """Whether a text is canonical base64 without padding, of `at_least` to 64 octets."""
    try:
        octets = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return False
    return at_least <= len(octets) <= 64 and b64encode(octets).decode().rstrip("=") == text
