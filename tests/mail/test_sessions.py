"""Open sessions end when their mailbox may no longer log in, and those of others go on."""

import imaplib
from collections.abc import Callable
from typing import Any

import pytest

from tests.mail.conftest import World
from tests.support.waiting import block_until

NEW_PASSWORD = "another correct horse battery"

CHANGES: dict[str, Callable[[World, dict[str, Any], dict[str, Any]], object]] = {
    "lock": lambda world, _, mailbox: world.postroom.lock(mailbox),
    "deletion": lambda world, _, mailbox: world.postroom.tenant.delete(mailbox),
    "password": lambda world, _, mailbox: world.postroom.tenant.update(mailbox, new_password=NEW_PASSWORD),
    "switch": lambda world, _, mailbox: world.postroom.tenant.update(mailbox, login_disabled=True),
    "domain": lambda world, domain, _: world.postroom.tenant.call("DELETE", f"/domains/{domain['id']}?force=true"),
}


def has_ended(connection: imaplib.IMAP4_SSL) -> bool:
    """Whether the server has closed a session."""
    try:
        return connection.noop()[0] == "BYE"
    except (imaplib.IMAP4.abort, OSError):
        return True


@pytest.mark.parametrize("change", CHANGES)
def test_open_sessions_end_and_others_do_not(world: World, change: str) -> None:
    tenant = world.postroom.tenant
    domain, other = tenant.domain(f"{change}-ends.com"), tenant.domain(f"{change}-goes-on.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(other, "ann")
    with world.mail.imap(ann["email"]) as ended, world.mail.imap(bob["email"]) as kept:
        assert not has_ended(ended)
        CHANGES[change](world, domain, ann)
        block_until(lambda: has_ended(ended))
        assert not has_ended(kept)


def test_other_changes_end_no_session(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("goes-on.com"), "ann")
    carl = tenant.mailbox(tenant.domain("marker.com"), "carl")
    with world.mail.imap(ann["email"]) as kept, world.mail.imap(carl["email"]) as marker:
        tenant.update(ann, sending_disabled=True, display_name="Ann")
        tenant.alias(ann, "info")
        world.postroom.lock(carl)
        block_until(lambda: has_ended(marker))  # whatever was requested before has been carried out too
        assert not has_ended(kept)
