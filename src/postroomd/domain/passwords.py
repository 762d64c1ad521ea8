"""Passwords: which are accepted, and the form that is hashed."""

import re
from functools import cache
from typing import Any

from postroomd.domain.common_passwords import COMMON_PASSWORDS

MIN_PASSWORD, MAX_PASSWORD = 12, 128  # characters, after normalization
_MAX_SENT = 8 * MAX_PASSWORD
"""Maximum number of characters to normalize: no valid password has more, however it is composed."""
_SCHEME = re.compile(r"\{[A-Za-z0-9][A-Za-z0-9._-]*\}")


class InvalidPasswordLength(ValueError):
    """The password is too short or too long."""


class WeakPassword(ValueError):
    """The password is among the first that anyone would try. The message is for the caller."""


def canonical_password(text: str) -> str:
    """Return the password as it is hashed: by RFC 8265, OpaqueString (NFC, with every space as U+0020).

    Raises ValueError, with a message for the caller that repeats nothing of the password: InvalidPasswordLength and
    WeakPassword are its kinds.
    """
    if _SCHEME.match(text):
        # Mail servers take such a text for a hash, and the service would hash it again: nobody could log in with it.
        raise ValueError("must not begin with `{SCHEME}`: send the password itself, not its hash")
    if not MIN_PASSWORD <= len(text) <= _MAX_SENT:
        raise InvalidPasswordLength
    try:
        password: str = _opaque_string().enforce(text)
    except UnicodeEncodeError as error:
        raise ValueError(
            "must not contain characters that RFC 8265 (OpaqueString) disallows, such as invisible ones"
        ) from error
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidPasswordLength
    _require_unpredictable(password)
    return password


def _require_unpredictable(password: str) -> None:
    """Raise WeakPassword for one repeated character, and for a common password in any case."""
    if not password.strip(" "):
        raise WeakPassword("must not consist of spaces only")
    if password == password[0] * len(password):
        raise WeakPassword("must not be one repeated character")
    if password.lower() in COMMON_PASSWORDS:
        raise WeakPassword("must not be one of the most common passwords: choose one that is harder to guess")


@cache
def _opaque_string() -> Any:
    from precis_i18n import get_profile  # loads its tables, which only the service needs

    return get_profile("OpaqueString")
