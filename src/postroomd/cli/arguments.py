"""Fields of requests as the user of a command has written them: as its options and arguments."""

import re
from collections.abc import Mapping

from postroomd.cli.running import running_parameters

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "domain_id": ("domain", "address"),
    "mailbox_id": ("mailbox", "address"),
    "alias_id": ("alias",),
    "forwarding_id": ("forwarding",),
    "local_part": ("address",),
    "catch_all": ("address",),  # @DOMAIN
    "address": ("mailbox", "address"),
    "name": ("name", "address", "domain"),
    "email": ("destination",),
    "search": ("text", "search"),
    "statuses": ("status",),
    "subscription_period": ("period",),
    "new_password": ("password_file",),
    "password": ("password_file",),
    "password_hash": ("password_hash_file",),
    "login_disabled": ("login",),
    "sending_disabled": ("sending",),
    "receiving_disabled": ("receiving",),
    "actor": ("key",),
    "immediately": ("now",),
    "include_waiting": ("due",),
}
"""The options or arguments that a field is made from, in the order of preference. Others have the field's name."""

PASSWORDS = frozenset({"password", "new_password"})
"""Fields whose value comes from a prompt or from a file: they are named by what they are."""
IN_FILES = {"subscription_period": "period", "email": "forwarding"}
"""The field of a request -> the field of a file, for commands that read one. Others have the field's name."""
_ITEM = re.compile(r"\w+\[\d+\]\.")


def argument(field: str) -> str:
    """Return how the running command's user writes an invalid field of a request, such as `--display-name`.

    A field that no option or argument is made from, as in commands that read a file, is named as in the file.
    """
    name = _ITEM.sub("", field)
    if name in PASSWORDS:
        return "password"
    written = running_parameters()
    for parameter in (*SPELLINGS.get(name, ()), name):
        if parameter in written:
            return written[parameter]
    return IN_FILES.get(name, name)
