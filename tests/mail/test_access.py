"""What a mailbox may do: by its password, its status, and its switches, from the next login or delivery on."""

import pytest

from tests.mail.clients import submit
from tests.mail.conftest import World
from tests.mail.postroom import PASSWORD

NEW_PASSWORD = "another correct horse battery"


def refused(reply: tuple[int, str]) -> tuple[int, str]:
    """Return code and enhanced status code of a reply."""
    return reply[0], reply[1].split()[0]


def test_a_wrong_password_fails_authentication(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("wrong-password.com"), "ann")
    for wrong in (PASSWORD[:-1], PASSWORD.upper(), "", "' OR '1'='1", "{PLAIN}x"):
        assert world.mail.login_code(ann["email"], wrong) == "AUTHENTICATIONFAILED"
    assert world.mail.login_code(ann["email"]) == ""


def test_a_password_change_applies_to_the_next_login(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("password-change.com"), "ann")
    assert world.mail.login_code(ann["email"]) == ""
    tenant.update(ann, new_password=NEW_PASSWORD)
    assert world.mail.login_code(ann["email"]) == "AUTHENTICATIONFAILED"
    assert world.mail.login_code(ann["email"], NEW_PASSWORD) == ""


def test_a_locked_mailbox_receives_but_neither_logs_in_nor_sends(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("locked.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    with world.mail.submission(ann["email"]) as session:
        assert submit(session, ann["email"], bob["email"], "before the lock")[0] == 250
        world.mail.wait_for(bob["email"], "before the lock")
        world.postroom.lock(ann)
        assert refused(submit(session, ann["email"], bob["email"], "locked")) == (553, "5.7.1")
    assert world.mail.login_code(ann["email"]) == "AUTHENTICATIONFAILED"
    assert refused(world.mail.submit(ann["email"], bob["email"], "locked")) == (535, "5.7.8")
    assert world.mail.send(ann["email"], "while locked")[0] == 250
    world.postroom.unlock(ann)
    world.mail.wait_for(ann["email"], "while locked")
    assert world.mail.submit(ann["email"], bob["email"], "unlocked")[0] == 250
    world.mail.wait_for(bob["email"], "unlocked")
    assert world.mail.subjects(bob["email"]) == ["before the lock", "unlocked"]


def test_a_deleted_mailbox_is_refused_and_a_restored_one_has_its_mail(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("deleted.com"), "ann")
    tenant.alias(ann, "info")
    world.mail.send(ann["email"], "kept")
    world.mail.wait_for(ann["email"], "kept")
    tenant.delete(ann)
    assert world.mail.login_code(ann["email"]) == "AUTHENTICATIONFAILED"
    for recipient in (ann["email"], "ann+x@deleted.com", "info@deleted.com"):
        assert refused(world.mail.send(recipient, "too late")) == (550, "5.2.1")
    assert refused(world.mail.submit(ann["email"], ann["email"], "too late")) == (535, "5.7.8")
    tenant.restore(ann)
    assert world.mail.subjects(ann["email"]) == ["kept"]
    assert world.mail.send("info@deleted.com", "again")[0] == 250
    world.mail.wait_for(ann["email"], "again")


def test_who_creates_a_purged_address_again_does_not_see_its_mail(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("created-again.com")
    ann = tenant.mailbox(domain, "ann")
    world.mail.send(ann["email"], "private")
    world.mail.wait_for(ann["email"], "private")
    assert (world.servers.mail_directory / ann["id"]).is_dir()
    tenant.delete(ann)
    world.postroom.advance("P31D")
    assert refused(world.mail.send(ann["email"], "to nobody")) == (550, "5.1.1")
    again = tenant.mailbox(domain, "ann", password=NEW_PASSWORD)
    assert again["email"] == ann["email"]
    assert world.mail.login_code(ann["email"]) == "AUTHENTICATIONFAILED"
    assert world.mail.subjects(ann["email"], NEW_PASSWORD) == []


@pytest.mark.parametrize("switch", ["login_disabled", "sending_disabled", "receiving_disabled"])
def test_a_switch_disables_what_it_names_and_nothing_else(world: World, switch: str) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain(f"{switch.replace('_', '-')}.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")

    def state() -> tuple[str, tuple[int, str], tuple[int, str]]:
        submitted = world.mail.submit(ann["email"], bob["email"], "submitted")
        return (
            world.mail.login_code(ann["email"]),
            (submitted[0], "" if submitted[0] == 250 else submitted[1].split()[0]),
            refused(world.mail.send(ann["email"], "received")),
        )

    works = ("", (250, ""), (250, "2.1.5"))
    assert state() == works
    tenant.update(ann, **{switch: True})
    assert (
        state()
        == {
            "login_disabled": ("AUTHENTICATIONFAILED", (535, "5.7.8"), (250, "2.1.5")),
            "sending_disabled": ("", (553, "5.7.1"), (250, "2.1.5")),
            "receiving_disabled": ("", (250, ""), (550, "5.2.1")),
        }[switch]
    )
    tenant.update(ann, **{switch: False})
    assert state() == works


def test_the_storage_quota_applies_at_once(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("quota.com"), "ann")
    tenant.update(ann, storage_quota_bytes=1_024_000)
    with world.mail.imap(ann["email"]) as connection:
        _, (_, (usage,)) = connection.getquotaroot("INBOX")
        assert isinstance(usage, bytes)
        assert b"STORAGE 0 1000" in usage  # KiB
    tenant.update(ann, storage_quota_bytes=0)
    assert world.mail.send(ann["email"], "unlimited")[0] == 250
    world.mail.wait_for(ann["email"], "unlimited")


def test_mail_for_a_full_mailbox_is_refused_until_it_has_room(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("full.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.update(ann, storage_quota_bytes=8_192)
    assert world.mail.send(ann["email"], "fits")[0] == 250
    world.mail.wait_for(ann["email"], "fits")
    with world.mail.imap(ann["email"]) as connection:
        assert connection.append("INBOX", "", "", b"Subject: large\r\n\r\n" + b"x" * 3_500)[0] == "OK"
    tenant.update(ann, storage_quota_bytes=1_024)
    for recipient in (ann["email"], "ann+detail@full.com"):
        code, text = world.mail.send(recipient, "too much")
        assert (code, text[:5], text.rpartition(": ")[2]) == (552, "5.2.2", "The mailbox is full")
    assert refused(world.mail.submit(bob["email"], ann["email"], "too much")) == (552, "5.2.2")
    friend = "friend@full.example.net"
    tenant.forward(ann, friend, keep_copy=False)
    assert world.mail.send(ann["email"], "forwarded")[0] == 250
    world.sink.wait_for(friend)
    tenant.forward(ann, enabled=False)
    tenant.alias(ann, "info")
    sender = "writer@full.example.com"
    assert world.mail.send("info@full.com", "too much", sender)[0] == 250
    (returned,) = world.sink.wait_for(sender)  # an alias has no quota: found out at delivery
    assert "5.2.2" in returned.text
    tenant.update(ann, storage_quota_bytes=1_000_000)
    assert world.mail.send(ann["email"], "fits again")[0] == 250
    world.mail.wait_for(ann["email"], "fits again")
