"""Password hashes of other mail systems: form and cost."""

import hashlib
import warnings
from base64 import b64encode

import argon2
import pytest

from postroomd.domain.password_hashes import CostlyHash, canonical_password_hash

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import crypt

SECRET = "a password of old"
SALT = b"sixteen-octets!!"


def pbkdf2(rounds: int) -> str:
    digest = hashlib.pbkdf2_hmac("sha1", SECRET.encode(), SALT, 2).hex()
    return f"{{PBKDF2}}$1${SALT.decode()}${rounds}${digest}"


def argon2id(**costs: int) -> str:
    cheap = {"memory_cost": 64, "time_cost": 1, "parallelism": 1}
    made = argon2.PasswordHasher(**(cheap | costs)).hash(SECRET)  # type: ignore[arg-type]
    return f"{{ARGON2ID}}{made}"


def ssha512(salt: bytes) -> str:
    return "{SSHA512}" + b64encode(hashlib.sha512(SECRET.encode() + salt).digest() + salt).decode()


def bcrypt(cost: int, variant: str = "2b") -> str:
    return f"{{BLF-CRYPT}}${variant}${cost:02}${'a' * 53}"


ACCEPTED = [
    argon2id(),
    argon2id(parallelism=4, salt_len=8, hash_len=16),
    argon2id().replace("m=64,t=1", "m=65536,t=10"),
    *(bcrypt(14, variant) for variant in ("2a", "2b", "2y")),
    "{SHA512-CRYPT}" + crypt.crypt(SECRET, crypt.mksalt(crypt.METHOD_SHA512)),
    "{SHA256-CRYPT}" + crypt.crypt(SECRET, crypt.mksalt(crypt.METHOD_SHA256, rounds=2000)),
    "{SHA512-CRYPT}$6$rounds=1000000$s$" + "a" * 86,
    pbkdf2(1_000_000),
    ssha512(b"salt"),
    ssha512(SALT),
]

COSTLY = [
    argon2id().replace("m=64", "m=65537"),
    argon2id().replace("t=1,", "t=11,"),
    argon2id().replace("p=1", "p=5"),
    argon2id().replace("m=64", "m=7"),
    bcrypt(15),
    bcrypt(3),
    "{SHA512-CRYPT}$6$rounds=1000001$s$" + "a" * 86,
    "{SHA256-CRYPT}$5$rounds=999$s$" + "a" * 43,
    pbkdf2(1_000_001),
    pbkdf2(999),
]

MALFORMED = [
    "",
    SECRET,
    "{PLAIN}" + SECRET,
    "{CLEARTEXT}" + SECRET,
    "{MD5-CRYPT}$1$salt$" + "a" * 22,
    "{SHA512}" + "a" * 88,
    "{SSHA512.HEX}" + "0" * 136,
    "{ARGON2I}$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
    "$6$salt$" + "a" * 86,
    argon2id() + "=",
    argon2id() + "\n",
    argon2id().replace("v=19", "v=16"),
    bcrypt(10)[:-1],
    "{SHA512-CRYPT}$5$salt$" + "a" * 86,
    "{SHA512-CRYPT}$6$salt$" + "a" * 85,
    # What has no salt after the rounds is read as rounds by crypt(3).
    "{SHA512-CRYPT}$6$rounds=999999999$" + "a" * 86,
    "{SHA256-CRYPT}$5$rounds=2000000$" + "a" * 43,
    "{SHA256-CRYPT}$5$rounds=1000$rounds=9999999$" + "a" * 43,
    "{SHA512-CRYPT}$6$rounds=+2000000$" + "a" * 86,
    "{SHA512-CRYPT}$6$salt$" + "a" * 86 + "\n",
    "{SHA256-CRYPT}$5$a:b$" + "a" * 43,
    pbkdf2(5000).upper(),
    ssha512(b"abc"),
    ssha512(b"salt").rstrip("="),
    "{SSHA512}" + "a" * 600,
    "{BLF-CRYPT}$2b$10$" + "\u0661" * 53,
]


@pytest.mark.parametrize("text", ACCEPTED, ids=range(len(ACCEPTED)))  # their salts differ in each process
def test_a_hash_within_bounds_is_stored_as_it_is(text: str) -> None:
    assert canonical_password_hash(text) == text


def test_the_scheme_is_stored_in_upper_case() -> None:
    text = bcrypt(10)
    assert canonical_password_hash(text.replace("BLF-CRYPT", "blf-crypt")) == text


@pytest.mark.parametrize("text", COSTLY, ids=range(len(COSTLY)))  # their salts differ in each process
def test_a_costly_or_cheap_hash_is_refused(text: str) -> None:
    with pytest.raises(CostlyHash) as caught:
        canonical_password_hash(text)
    assert text.rpartition("$")[2] not in str(caught.value)


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))  # their salts differ in each process
def test_another_form_or_scheme_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        canonical_password_hash(text)
    assert not isinstance(caught.value, CostlyHash)
    assert SECRET not in str(caught.value)
