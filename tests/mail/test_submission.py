"""Submission: who may send mail, and from which addresses."""

import smtplib

from tests.mail.conftest import World

FRIEND = "friend@submitted-to.example.net"


def refused(reply: tuple[int, str]) -> tuple[int, str]:
    return reply[0], reply[1].split()[0]


def test_a_mailbox_sends_as_itself_and_as_its_aliases_and_as_nobody_else(world: World) -> None:
    tenant, other = world.postroom.tenant, world.postroom.new_tenant()
    domain = tenant.domain("submission.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.alias(ann, "info")
    tenant.alias(bob, "sales")
    cid = other.mailbox(other.domain("submission-of-others.com"), "cid")
    own = (ann["email"], "Ann@Submission.com", "ann+news@submission.com", "info@submission.com")
    for number, sender in enumerate(own, 1):
        assert world.mail.submit(ann["email"], FRIEND, f"as {sender}", sender)[0] == 250
        assert world.sink.wait_for(FRIEND, number)[-1].sender.lower() == sender.lower()
    for sender in (
        bob["email"],
        "sales@submission.com",
        "nobody@submission.com",
        cid["email"],
        "president@elsewhere.example.com",
        "ann",
        "",
    ):
        code, _ = refused(world.mail.submit(ann["email"], FRIEND, "forged", sender))
        assert code in {501, 504, 550, 553, 554}, sender
    world.servers.wait_until_queue_is_empty()
    assert len(world.sink.to(FRIEND)) == len(own)


def test_a_catch_all_gives_no_right_to_send_from_every_address(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("catch-all-sender.com"), "ann")
    tenant.alias(ann, "", catch_all=True)
    reply = world.mail.submit(ann["email"], FRIEND, "forged", "president@catch-all-sender.com")
    assert refused(reply) == (553, "5.7.1")


def test_submitted_mail_reaches_local_mailboxes_and_is_refused_for_others_as_from_outside(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("local-submission.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    assert world.mail.submit(ann["email"], bob["email"], "hello")[0] == 250
    world.mail.wait_for(bob["email"], "hello")
    assert refused(world.mail.submit(ann["email"], "nobody@local-submission.com", "hello")) == (550, "5.1.1")
    tenant.delete(bob)
    assert refused(world.mail.submit(ann["email"], bob["email"], "hello")) == (550, "5.2.1")


def test_nobody_submits_without_a_login(world: World) -> None:
    with smtplib.SMTP("127.0.0.1", world.servers.ports.submission, "laptop.example", 30) as connection:
        connection.ehlo()
        assert connection.mail("ann@submission.com")[0] == 530  # STARTTLS first
        connection.starttls(context=world.mail.tls)
        connection.ehlo()
        connection.mail("ann@submission.com")
        assert connection.rcpt(FRIEND)[0] == 554
