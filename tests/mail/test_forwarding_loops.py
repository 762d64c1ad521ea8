"""Loops of forwardings: over mailboxes of this host, and over other hosts."""

from itertools import pairwise

import pytest

from tests.mail.conftest import World
from tests.mail.postroom import PASSWORD


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


def test_mailboxes_of_a_loop_without_copies_keep_the_mail_and_other_recipients_get_theirs(world: World) -> None:
    tenant, other = world.postroom.tenant, world.postroom.new_tenant()
    domain = tenant.domain("loop.com")
    two = [tenant.mailbox(domain, name) for name in ("ann", "bob")]
    three = [tenant.mailbox(domain, name) for name in ("cid", "dan", "eve")]
    outside = tenant.mailbox(domain, "fay")
    tenant.alias(three[0], "info")
    innocent = other.mailbox(other.domain("no-loop.com"), "gus")
    for source, destination in (
        *((two[0], two[1]["email"]), (two[1], two[0]["email"])),
        *((three[0], three[1]["email"]), (three[1], three[2]["email"]), (three[2], "Info+detail@loop.com")),
        (outside, three[0]["email"]),
    ):
        tenant.forward(source, destination, keep_copy=False)
    recipients = [innocent["email"], two[0]["email"], outside["email"]]
    assert {code for code, _ in world.mail.send_to(recipients, "around").values()} == {250}
    world.servers.wait_until_queue_is_empty()
    for mailbox in (innocent, *two, *three):
        assert world.mail.subjects(mailbox["email"]) == ["around"], mailbox["email"]
    assert world.mail.subjects(outside["email"]) == []


def test_a_chain_of_forwardings_is_followed_to_its_end(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("long-chain.com")
    chain = tenant.mailboxes(domain, [{"local_part": f"box{n}", "password": PASSWORD} for n in range(40)])
    for source, destination in pairwise(chain):
        tenant.forward(source, destination["email"], keep_copy=False)
    assert world.mail.send(chain[0]["email"], "to the end")[0] == 250
    world.mail.wait_for(chain[-1]["email"], "to the end")


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
