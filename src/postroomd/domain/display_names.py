"""Display names of mailboxes, as a substring search compares them."""

import unicodedata


def folded_name(text: str) -> str:
    """Return a text without the differences of case and of Unicode composition (Unicode, section 3.13, D146)."""
    folded = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", folded).casefold())
