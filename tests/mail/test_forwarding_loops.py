"""Loops of forwardings: over mailboxes of this host, and over other hosts."""

import pytest

from tests.mail.conftest import World


def test_mailboxes_that_forward_to_each_other_receive_one_copy_each(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("mutual.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.forward(ann, bob["email"])
    tenant.forward(bob, ann["email"])
    world.mail.send(ann["email"], "around")
    world.mail.wait_for(bob["email"], "around")
    world.servers.wait_until_queue_is_empty()
    assert [world.mail.subjects(each["email"]) for each in (ann, bob)] == [["around"], ["around"]]


def test_a_loop_in_which_nobody_keeps_a_copy_is_refused(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("loop.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.forward(ann, bob["email"], keep_copy=False)
    tenant.forward(bob, ann["email"], keep_copy=False)
    code, text = world.mail.send(ann["email"], "around")
    assert (code, text.split()[0]) == (451, "4.6.0")


@pytest.mark.parametrize("sender", ["same", "changed", "hosted", "null"])
def test_mail_that_comes_back_is_delivered_and_not_forwarded_again(world: World, sender: str) -> None:
    """Whatever envelope sender the other host returns it with: its own, the one of the forwarding, the original one."""
    tenant = world.postroom.tenant
    domain = tenant.domain(f"{sender}-comes-back.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    friends = [f"friend{number}@{sender}.example.net" for number in range(2)]
    tenant.forward(ann, *friends)
    writer = {"hosted": bob["email"], "null": ""}.get(sender, f"writer@{sender}.example.com")
    world.mail.send(ann["email"], "first time", writer)
    for friend in friends:
        (message,) = world.sink.wait_for(friend)
        returning = {"same": message.sender, "changed": "forwarder@comes-back.example.org"}.get(sender, writer)
        assert returning.startswith("SRS0=") == (sender == "same")
        world.mail.relay(message.text, ann["email"], returning)
    world.servers.wait_until_queue_is_empty()
    assert world.mail.subjects(ann["email"]) == ["first time"] * 3
    assert [len(world.sink.to(friend)) for friend in friends] == [1, 1]
    bounced_to = {"changed": "forwarder@comes-back.example.org"}.get(sender, writer)
    bounces = world.sink.to(bounced_to) if sender in {"same", "changed"} else []
    assert ["5.4.6 Mail forwarding loop" in each.text for each in bounces] == [True] * len(bounces)
    assert len(bounces) == (2 if sender in {"same", "changed"} else 0)
    assert len(world.mail.subjects(bob["email"])) == (2 if sender == "hosted" else 0)
