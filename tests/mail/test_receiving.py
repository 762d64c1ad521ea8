"""Mail from other hosts: which addresses receive it, and the replies to others."""

import smtplib

from tests.mail.clients import STRANGER, TIMEOUT_SECONDS
from tests.mail.conftest import World
from tests.mail.postroom import PASSWORD
from tests.support.waiting import block_until


def test_a_new_mailbox_logs_in_and_receives_mail(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("first-domain.com"), "ann")
    assert world.mail.subjects(ann["email"]) == []
    assert world.mail.send(ann["email"], "hello")[0] == 250
    world.mail.wait_for(ann["email"], "hello")
    assert world.mail.subjects(ann["email"].upper()) == ["hello"]


def test_mail_reaches_a_mailbox_by_any_case_a_detail_and_its_aliases(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("addressed.com"), "ann")
    tenant.alias(ann, "info")
    recipients = ("Ann@Addressed.COM", "ann+news@addressed.com", "info@addressed.com", "info+x@addressed.com")
    for recipient in recipients:
        assert world.mail.send(recipient, f"to {recipient}")[0] == 250
    for recipient in recipients:
        world.mail.wait_for(ann["email"], f"to {recipient}")


def test_an_unknown_address_is_refused_permanently(world: World) -> None:
    tenant = world.postroom.tenant
    tenant.mailbox(tenant.domain("unknown-address.com"), "ann")
    code, text = world.mail.send("nobody@unknown-address.com", "hello")
    assert (code, text[:5]) == (550, "5.1.1")
    assert world.mail.login_code("nobody@unknown-address.com") == "AUTHENTICATIONFAILED"


def test_a_new_domain_is_hosted_once_it_is_verified(world: World) -> None:
    tenant = world.postroom.tenant
    registered = tenant.register("waiting-domain.com")
    ann = tenant.mailbox(registered, "ann")
    assert ann["status"] == "waiting_domain"
    assert world.mail.login_code(ann["email"]) == "AUTHENTICATIONFAILED"
    code, text = world.mail.send(ann["email"], "early")
    assert (code, text[:5]) == (554, "5.7.1"), "another host's mail would be relayed"
    tenant.domain_ready(registered)
    tenant.wait_for_mailbox(ann, "ready")  # which follows its domain
    assert world.mail.send(ann["email"], "hello")[0] == 250
    world.mail.wait_for(ann["email"], "hello")


def test_another_organizations_unverified_copy_of_a_domain_receives_nothing(world: World) -> None:
    owner, other = world.postroom.tenant, world.postroom.new_tenant()
    ann = owner.mailbox(owner.domain("copied.com"), "ann")
    copy = other.register("copied.com")
    other.mailbox(copy, "ann", password=PASSWORD[::-1])
    bob = other.mailbox(copy, "bob")
    assert world.mail.send("ann@copied.com", "for the owner")[0] == 250
    world.mail.wait_for(ann["email"], "for the owner")
    assert world.mail.login_code("ann@copied.com", PASSWORD[::-1]) == "AUTHENTICATIONFAILED"
    assert world.mail.send(bob["email"], "hello")[1][:5] == "5.1.1"
    assert world.mail.login_code(bob["email"]) == "AUTHENTICATIONFAILED"


def test_a_catch_all_has_the_mail_that_no_exact_address_has(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("catch-all.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.alias(bob, "info")
    assert world.mail.send("any@catch-all.com", "too early")[1][:5] == "5.1.1"
    tenant.alias(ann, "", catch_all=True)
    for recipient, mailbox in (
        ("any@catch-all.com", ann),
        ("any+detail@catch-all.com", ann),
        ("bob@catch-all.com", bob),
        ("bob+detail@catch-all.com", bob),
        ("info@catch-all.com", bob),
    ):
        assert world.mail.send(recipient, f"to {recipient}")[0] == 250
        world.mail.wait_for(mailbox["email"], f"to {recipient}")
    assert world.mail.send("any@below.catch-all.com", "hello")[0] != 250
    world.postroom.lock(ann)
    assert world.mail.send("any@catch-all.com", "while locked")[0] == 250
    world.postroom.unlock(ann)
    tenant.delete(ann)
    assert world.mail.send("any@catch-all.com", "too late")[1][:5] == "5.2.1"
    assert world.mail.send("bob@catch-all.com", "still")[0] == 250


def test_utf8_is_delivered_in_headers_and_refused_in_envelopes(world: World) -> None:
    """Dovecot's LMTP has no SMTPUTF8: mail that was accepted with it would be returned."""
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("utf8.com"), "ann")
    for port in (world.servers.ports.smtp, world.servers.ports.submission):
        with smtplib.SMTP("127.0.0.1", port, "elsewhere.example", TIMEOUT_SECONDS) as connection:
            connection.ehlo()
            assert connection.has_extn("8bitmime")
            assert not connection.has_extn("smtputf8")
    with smtplib.SMTP("127.0.0.1", world.servers.ports.smtp, "elsewhere.example", TIMEOUT_SECONDS) as connection:
        connection.ehlo()
        assert connection.docmd(f"MAIL FROM:<{STRANGER}> SMTPUTF8")[0] == 555
        assert connection.mail(STRANGER, ["BODY=8BITMIME"])[0] == 250
        assert connection.rcpt(ann["email"])[0] == 250
        assert connection.data(f"From: {STRANGER}\r\nSubject: grüße\r\n\r\nHello.\r\n".encode())[0] == 250
    block_until(lambda: world.mail.subjects(ann["email"]) != [])
    with world.mail.imap(ann["email"]) as imap:
        imap.select("INBOX", readonly=True)
        (part, *_) = imap.fetch("1", "(BODY.PEEK[HEADER])")[1]
        assert isinstance(part, tuple)
        assert "Subject: grüße".encode() in part[1]


def test_one_recipients_refusal_does_not_concern_another(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("mixed-recipients.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.delete(bob)
    recipients = [ann["email"], bob["email"], "nobody@mixed-recipients.com"]
    replies = world.mail.send_to(recipients, "to several")
    assert [replies[each][0] for each in recipients] == [250, 550, 550]
    world.mail.wait_for(ann["email"], "to several")
