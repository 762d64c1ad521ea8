"""Forwardings: to other hosts and to local mailboxes, with and without a copy, and without loops."""

import re

from tests.mail.clients import STRANGER
from tests.mail.conftest import World
from tests.mail.servers import HOSTNAME


def test_mail_is_forwarded_with_a_copy_without_one_and_not_while_disabled(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("forwarded.com"), "ann")
    friend = "friend@forwarded-to.example.net"
    tenant.forward(ann, friend)
    world.mail.send(ann["email"], "with a copy")
    world.mail.wait_for(ann["email"], "with a copy")
    world.sink.wait_for(friend)
    tenant.forward(ann, keep_copy=False)
    world.mail.send("ann+detail@forwarded.com", "without a copy")
    messages = world.sink.wait_for(friend, 2)
    assert ["Subject: without a copy" in each.text for each in messages] == [False, True]
    tenant.forward(ann, enabled=False)
    world.mail.send(ann["email"], "not forwarded")
    world.mail.wait_for(ann["email"], "not forwarded")
    world.servers.wait_until_queue_is_empty()
    assert world.mail.subjects(ann["email"]) == ["with a copy", "not forwarded"]
    assert len(world.sink.to(friend)) == 2


def test_the_sender_of_forwarded_mail_is_rewritten_and_its_bounces_reach_him(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("rewritten.com"), "ann")
    tenant.forward(ann, "friend@rewritten.example.net", keep_copy=False)
    sender = "writer@rewriting.example.com"
    world.mail.send(ann["email"], "rewritten", sender)
    (message,) = world.sink.wait_for("friend@rewritten.example.net")
    assert re.fullmatch(rf"SRS0=.+=rewriting\.example\.com=writer@{re.escape(HOSTNAME)}", message.sender)
    assert f"From: {sender}" in message.text
    assert world.mail.send(message.sender, "bounced", sender="")[0] == 250
    (bounce,) = world.sink.wait_for(sender)
    assert (bounce.sender, "Subject: bounced" in bounce.text) == ("", True)
    forged = message.sender.replace("=rewriting.example.com=", "=elsewhere.example.com=")
    assert world.mail.send(forged, "spam", sender="")[1][:5] == "5.1.1"


def test_a_hosted_senders_mail_is_forwarded_under_its_own_address(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("hosted-sender.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.forward(ann, "friend@hosted.example.net")
    assert world.mail.submit(bob["email"], ann["email"], "from bob")[0] == 250
    (message,) = world.sink.wait_for("friend@hosted.example.net")
    assert message.sender == bob["email"]


def test_five_destinations_of_which_some_are_local_receive_one_copy_each(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("five-destinations.com")
    ann, bob, cid = (tenant.mailbox(domain, name) for name in ("ann", "bob", "cid"))
    tenant.alias(cid, "info")
    others = [f"friend{number}@five.example.net" for number in range(3)]
    tenant.forward(ann, bob["email"], "info@five-destinations.com", *others, keep_copy=False)
    world.mail.send(ann["email"], "to five")
    for mailbox in (bob, cid):
        world.mail.wait_for(mailbox["email"], "to five")
    for other in others:
        world.sink.wait_for(other)
    world.servers.wait_until_queue_is_empty()
    assert [world.mail.subjects(each["email"]) for each in (ann, bob, cid)] == [[], ["to five"], ["to five"]]
    assert [len(world.sink.to(other)) for other in others] == [1, 1, 1]


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


def test_mail_that_comes_back_is_delivered_and_not_forwarded_again(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("comes-back.com"), "ann")
    friend = "friend@comes-back.example.net"
    tenant.forward(ann, friend)
    sender = "writer@comes-back.example.com"
    world.mail.send(ann["email"], "first time", sender)
    (message,) = world.sink.wait_for(friend)
    world.mail.relay(message.text, ann["email"], "forwarder@comes-back.example.org")
    (returned,) = world.sink.wait_for("forwarder@comes-back.example.org")
    assert "forwarding loop" in returned.text
    world.servers.wait_until_queue_is_empty()
    assert world.mail.subjects(ann["email"]) == ["first time", "first time"]
    assert len(world.sink.to(friend)) == 1


def test_mail_forwarded_to_a_deleted_mailbox_is_returned(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("to-deleted.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.forward(ann, bob["email"], keep_copy=False)
    tenant.delete(bob)
    sender = "writer@to-deleted.example.com"
    assert world.mail.send(ann["email"], "to a deleted one", sender)[0] == 250
    (bounce,) = world.sink.wait_for(sender)
    assert "5.2.1" in bounce.text
    tenant.restore(bob)
    assert world.mail.send(ann["email"], "restored", STRANGER)[0] == 250
    world.mail.wait_for(bob["email"], "restored")
    assert world.mail.subjects(bob["email"]) == ["restored"]


def test_forwardings_of_a_locked_mailbox_pause_and_it_keeps_the_mail(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("locked-forwarding.com"), "ann")
    friend = "friend@locked-forwarding.example.net"
    tenant.forward(ann, friend, keep_copy=False)
    world.postroom.lock(ann)
    assert world.mail.send(ann["email"], "while locked")[0] == 250
    world.servers.wait_until_queue_is_empty()
    world.postroom.unlock(ann)
    world.mail.wait_for(ann["email"], "while locked")
    assert world.sink.to(friend) == []
