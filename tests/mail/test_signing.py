"""rspamd on submitted mail: signatures that the records of the API verify, and the address in From."""

import re
import smtplib
from typing import Any
from uuid import uuid4

import dkim
import pytest

from tests.mail.clients import STRANGER, message
from tests.mail.conftest import World
from tests.mail.servers import Received
from tests.support.waiting import block_until

FRIEND = "friend@signed-for.example.net"


def published(world: World, domain: dict[str, Any]) -> dict[bytes, bytes]:
    """Return the DKIM records of a domain as the API has them, also those of a rotation: name -> value."""
    records = world.postroom.tenant.call("GET", f"/domains/{domain['id']}/records")
    found = [records[kind] for kind in ("dkim", "dkim_next", "dkim_previous") if records.get(kind)]
    return {record["dns_name"].encode(): record["dns_value"].encode() for record in found}


def verifies(text: str, records: dict[bytes, bytes]) -> bool:
    return bool(dkim.verify(text.encode(), dnsfunc=lambda name, timeout=5: records.get(name)))


def signers(received: Received) -> list[tuple[str, str]]:
    """Return the domain and selector of each signature."""
    headers = received.text.partition("\r\n\r\n")[0]
    return re.findall(r"(?m)^DKIM-Signature:(?:[^;]*;)*?\s+d=(\S+);\s+s=(\S+);", headers)


def submitted(world: World, user: str, recipient: str, subject: str, sender: str | None = None) -> Received:
    """Submit a message; returns it as the recipient's host has received it, perhaps after others."""
    unique = f"{subject} {uuid4().hex}"
    assert world.mail.submit(user, recipient, unique, sender)[0] == 250

    def received() -> Received | None:
        return next((each for each in world.sink.to(recipient) if f"Subject: {unique}" in each.text), None)

    return block_until(received)


def signed(world: World, user: str, domain: str, *, except_by: str = "") -> Received:
    """Submit messages until one is signed for a domain, by another key than that of a selector.

    The worker exports the key, then rspamd reads of it.
    """

    def one_more() -> Received | None:
        received = submitted(world, user, FRIEND, "signed")
        return received if dict(signers(received)).get(domain, except_by) != except_by else None

    return block_until(one_more)


def test_submitted_mail_of_a_new_domain_is_signed_and_the_published_record_verifies_it(world: World) -> None:
    tenant = world.postroom.tenant
    for name in ("signed.com", "below.signed.com"):  # a subdomain has a key of its own
        domain = tenant.domain(name)
        ann = tenant.mailbox(domain, "ann")
        tenant.alias(ann, "info")
        received = signed(world, ann["email"], name)
        records = published(world, domain)
        assert verifies(received.text, records)
        for tampered in (received.text.replace("Hello.", "Hallo."), f"From: president@{name}\r\n{received.text}"):
            assert not verifies(tampered, records)
        for sender in (f"info@{name}", f"ann+news@{name}", f"Ann@{name.title()}"):
            received = submitted(world, ann["email"], FRIEND, "signed too", sender)
            assert [each for each, _ in signers(received)] == [name]
            assert verifies(received.text, records)


def test_a_rotated_key_signs_and_mail_of_the_previous_one_is_verified_during_the_overlap(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("rotated.com")
    ann = tenant.mailbox(domain, "ann")
    before = signed(world, ann["email"], "rotated.com")
    ((_, previous),) = signers(before)
    world.postroom.rotate_dkim_key(domain)
    after = signed(world, ann["email"], "rotated.com", except_by=previous)
    for received in (before, after):
        assert verifies(received.text, published(world, domain))
    world.postroom.advance("P8D")
    assert verifies(after.text, published(world, domain))
    assert not verifies(before.text, published(world, domain))
    ((_, selector),) = signers(submitted(world, ann["email"], FRIEND, "signed"))
    assert selector != previous


def test_mail_from_other_hosts_is_not_signed_for_a_hosted_domain(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("impersonated.com"), "ann")
    tenant.forward(ann, "friend@impersonated.example.net")
    signed(world, ann["email"], "impersonated.com")
    assert world.mail.send(ann["email"], "forged", sender=ann["email"])[0] == 250
    (forwarded,) = world.sink.wait_for("friend@impersonated.example.net")
    assert f"From: {ann['email']}" in forwarded.text
    assert signers(forwarded) == []


@pytest.fixture(scope="module")
def author(world: World) -> str:
    """A mailbox that tries to send as others."""
    tenant = world.postroom.tenant
    domain = tenant.domain("author.com")
    tenant.mailbox(domain, "bob")
    return str(tenant.mailbox(domain, "ann")["email"])


FOREIGN = (
    "From: president@elsewhere.example.com",
    "From: bob@author.com",
    "From: Ann <ann@author.com>, bob@author.com",
    "From: ann@author.com\r\nFrom: president@elsewhere.example.com",
    "From: president@elsewhere.example.com\r\nfrom: ann@author.com",
    "From : president@elsewhere.example.com\r\nFrom: ann@author.com",
    "From: ann@author.com\r\nFROM : president@elsewhere.example.com",
    "From: ann@author.com <president@elsewhere.example.com>",
    'From: "ann@author.com" <president@elsewhere.example.com>',
    "From: Ann:president@elsewhere.example.com;",
    "From: Ann",
    "From: ",
)
OWN = (
    "From: ann@author.com",
    "from: <ANN@Author.com>",
    'From: "President, the" <ann@author.com>',
    "From: =?utf-8?q?=C3=84nn?=\r\n <ann@author.com>",
)


def submit_with(world: World, user: str, headers: str) -> tuple[int, str]:
    """Submit a message with these headers, and others; returns the reply to it."""
    with world.mail.submission(user) as connection:
        connection.mail(user)
        connection.rcpt(FRIEND)
        code, text = connection.data(f"To: {FRIEND}\r\n{headers}\r\nSubject: from\r\n\r\nHello.\r\n".encode())
    return code, text.decode()


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_from_that_is_not_the_envelope_sender_is_refused(world: World, author: str, headers: str) -> None:
    assert submit_with(world, author, headers) == (554, "5.7.1 The From address must be the envelope sender")


@pytest.mark.parametrize("headers", OWN)
def test_the_own_address_in_from_may_be_written_in_any_way(world: World, author: str, headers: str) -> None:
    assert submit_with(world, author, headers)[0] == 250


def test_other_hosts_may_send_as_whoever_they_are(world: World, author: str) -> None:
    made = message("list-member@elsewhere.example.com", author, "by a mailing list")
    world.mail.relay(made.as_string(), author, STRANGER)
    world.mail.wait_for(author, "by a mailing list")


def test_without_rspamd_mail_is_deferred(world: World, author: str) -> None:
    world.servers.rspamd.stop()
    try:
        with pytest.raises(smtplib.SMTPResponseException) as deferred:
            submit_with(world, author, "From: ann@author.com")
        assert 400 <= deferred.value.smtp_code < 500
    finally:
        world.servers.start_rspamd()
    assert submit_with(world, author, "From: ann@author.com")[0] == 250
