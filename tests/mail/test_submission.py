"""Submission: who may send mail, and from which addresses."""

import re
import smtplib

from tests.mail.clients import submit
from tests.mail.conftest import World

FRIEND = "friend@submitted-to.example.net"
NEW_PASSWORD = "another correct horse battery"
OTHERS_PASSWORD = "the password of somebody else"


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


def test_an_open_session_ends_with_its_password_and_with_nothing_else(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("session-password.com"), "ann")
    tenant.alias(ann, "info")
    own = (ann["email"], "info@session-password.com")
    with world.mail.submission(ann["email"]) as session, world.mail.imap(ann["email"]) as imap:
        assert [submit(session, sender, FRIEND, "before")[0] for sender in own] == [250, 250]
        tenant.update(ann, display_name="Ann", storage_quota_bytes=10_000_000)
        assert [submit(session, sender, FRIEND, "other changes")[0] for sender in own] == [250, 250]
        assert imap.noop()[0] == "OK"
        tenant.update(ann, new_password=NEW_PASSWORD)
        for sender in own:
            assert refused(submit(session, sender, FRIEND, "too late")) == (553, "5.7.1")
        with world.mail.submission(ann["email"], NEW_PASSWORD) as renewed:
            assert [submit(renewed, sender, FRIEND, "after")[0] for sender in own] == [250, 250]
    assert world.mail.subjects(ann["email"], NEW_PASSWORD) == []


def test_an_open_session_does_not_send_as_the_next_owner_of_its_address(world: World) -> None:
    former, next_owner = world.postroom.new_tenant(), world.postroom.new_tenant()
    domain = former.domain("session-owner.com")
    ann = former.mailbox(domain, "ann")
    former.alias(ann, "info")
    with world.mail.submission(ann["email"]) as session:
        assert submit(session, ann["email"], FRIEND, "own")[0] == 250
        former.call("DELETE", f"/domains/{domain['id']}?force=true")
        registered = next_owner.domain("session-owner.com")
        again = next_owner.mailbox(registered, "ann", password=OTHERS_PASSWORD)
        next_owner.alias(again, "info")
        assert again["email"] == ann["email"]
        for sender in (ann["email"], "ann+news@session-owner.com", "info@session-owner.com"):
            assert refused(submit(session, sender, FRIEND, "hijacked")) == (553, "5.7.1")
    with world.mail.submission(ann["email"], OTHERS_PASSWORD) as session:
        assert submit(session, ann["email"], FRIEND, "of the next owner")[0] == 250


def test_the_log_names_the_mailbox_and_the_address_of_a_login(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("session-log.com"), "ann")
    assert world.mail.submit(ann["email"], FRIEND, "logged")[0] == 250
    log = world.servers.postfix_log.read_text()
    names = set(re.findall(r"sasl_username=(\S+)", log))
    (name,) = [name for name in names if name.startswith(f"{ann['id']}/")]
    assert re.fullmatch(rf"{ann['id']}/[A-Za-z0-9+/]{{8}}/ann@session-log\.com", name)
