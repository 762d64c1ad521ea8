"""Encryption of secrets in the database: AES-256-GCM (NIST SP 800-38D) with keys from a file.

The first key of the file encrypts, and every one decrypts. The file is read again when it changes, so that running
processes use a new key without a restart.
"""

import base64
import binascii
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from postroomd.domain.errors import SecretKeyError, SecretKeyFileError
from postroomd.observability.logs import get_logger

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_OCTETS = 32
NONCE_OCTETS = 12  # random: AES-GCM allows 2^32 of them per key
MAX_FILE_OCTETS = 64 * 1024
SETTING = "--secret-key-file"

log = get_logger()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it is stored: its text, and the id of the key that encrypts it; None for a plain one."""

    text: str = field(repr=False)
    key_id: str | None


class SecretKeys:
    """The keys of a file; without a file, secrets are stored as they are."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the file. Raises SecretKeyError."""
        self._path = path
        self._keys: Mapping[str, bytes] = {}
        self._read_as: tuple[int, ...] = ()
        self._failing = False
        if path is not None:
            self._read(path)

    @property
    def current_id(self) -> str | None:
        """The id of the key that encrypts; None if there is none."""
        return next(iter(self._fresh()), None)

    def seal(self, secret: str, owner: str) -> Sealed:
        """Return a secret encrypted for `owner`, of which it can be decrypted alone; plain if there is no key."""
        key_id, key = next(iter(self._fresh().items()), (None, b""))
        if key_id is None:
            return Sealed(secret, None)
        nonce = os.urandom(NONCE_OCTETS)
        ciphertext = _cipher(key).encrypt(nonce, secret.encode(), owner.encode())
        return Sealed(base64.b64encode(nonce + ciphertext).decode(), key_id)

    def open(self, sealed: Sealed, owner: str) -> str:
        """Return a secret of `owner`. Raises SecretKeyError if there is no key for it, or if it was changed."""
        if sealed.key_id is None:
            return sealed.text
        key = self.require([sealed.key_id])[sealed.key_id]
        from cryptography.exceptions import InvalidTag

        octets = base64.b64decode(sealed.text)
        nonce, ciphertext = octets[:NONCE_OCTETS], octets[NONCE_OCTETS:]
        try:
            return str(_cipher(key).decrypt(nonce, ciphertext, owner.encode()).decode())
        except InvalidTag:
            raise SecretKeyError("a secret in the database was changed or moved: restore it from a backup") from None

    def require(self, key_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Return the keys by id. Raises SecretKeyError if one of these is missing."""
        keys = self._keys
        if not keys.keys() >= set(key_ids):
            keys = self._fresh()
        missing = [key_id for key_id in key_ids if key_id not in keys]
        if missing and self._path is None:
            raise SecretKeyFileError(
                f"{SETTING}: DKIM private keys in the database are encrypted: set it to the file with key {missing[0]}"
            )
        if missing:
            raise SecretKeyFileError(
                f"{SETTING}: {self._path} does not have key {missing[0]}, which encrypts DKIM private keys in the"
                " database: add it as a further line"
            )
        return keys

    def _fresh(self) -> Mapping[str, bytes]:
        """Return the keys by id, after the file is read again if it has changed.

        If that fails, the keys that were read before stay in use.
        """
        if self._path is None:
            return self._keys
        try:
            if _state(self._path) != self._read_as:
                self._read(self._path)
        except SecretKeyError as error:
            if not self._failing:
                log.warning("secret keys not read again", reason=str(error))
            self._failing = True
        return self._keys

    def _read(self, path: Path) -> None:
        state = _state(path)
        mode = state[-1]
        if not stat.S_ISREG(mode):
            raise SecretKeyFileError(f"{SETTING}: {path} is not a file")
        if stat.S_IMODE(mode) & 0o077:
            raise SecretKeyFileError(f"{SETTING}: {path} is accessible to others: run chmod 600 on it")
        try:
            with path.open("rb") as file:
                octets = file.read(MAX_FILE_OCTETS + 1)
        except OSError as error:
            raise SecretKeyFileError(f"{SETTING}: can't read {path}: {error.strerror}") from error
        self._keys, self._read_as, self._failing = _parse(path, octets), state, False


NO_KEYS = SecretKeys()
"""Secrets are stored as they are."""


def owner_of_dkim_key(domain_id: str, selector: str) -> str:
    """Return the associated data that binds a private key to its domain and its selector."""
    return f"dkim\0{domain_id}\0{selector}"


def _parse(path: Path, octets: bytes) -> Mapping[str, bytes]:
    """Return the keys by id. Raises SecretKeyError, which names the line and not its content."""
    keys: dict[str, bytes] = {}
    if len(octets) > MAX_FILE_OCTETS:
        raise SecretKeyFileError(f"{SETTING}: {path} is larger than {MAX_FILE_OCTETS} octets: it has one key a line")
    for number, line in enumerate(octets.splitlines(), 1):
        if not line.strip():
            continue
        try:
            key = base64.b64decode(line.strip(), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_OCTETS:
            raise SecretKeyFileError(
                f"{SETTING}: line {number} of {path} is not the base64 text of {KEY_OCTETS} octets: make a key by"
                f" `openssl rand -base64 {KEY_OCTETS}`"
            )
        keys[_key_id(key)] = key
    if not keys:
        raise SecretKeyFileError(f"{SETTING}: {path} is empty: make a key by `openssl rand -base64 {KEY_OCTETS}`")
    return keys


def _key_id(key: bytes) -> str:
    """Return the id of a key: 16 hexadecimal digits of a digest, from which it can't be guessed."""
    return sha256(b"postroom secret key\0" + key).hexdigest()[:16]


def _state(path: Path) -> tuple[int, ...]:
    """Return what tells whether a file has changed, its mode last. Raises SecretKeyError."""
    try:
        found = path.stat()
    except OSError as error:
        raise SecretKeyFileError(f"{SETTING}: can't read {path}: {error.strerror}") from error
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode)


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # slow to import, and rarely needed

    return AESGCM(key)
