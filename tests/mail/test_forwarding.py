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


def test_a_hosted_senders_mail_is_forwarded_under_this_hosts_address(world: World) -> None:
    """Whoever names a hosted sender would otherwise get mail that passes the SPF check of the sender's domain."""
    tenant, other = world.postroom.tenant, world.postroom.new_tenant()
    ann = tenant.mailbox(tenant.domain("hosted-sender.com"), "ann")
    ceo = other.mailbox(other.domain("hosted-bank.com"), "ceo")
    friend = "friend@hosted.example.net"
    tenant.forward(ann, friend)
    world.mail.send(ann["email"], "spoofed", ceo["email"])
    assert world.mail.submit(ceo["email"], ann["email"], "submitted")[0] == 250
    messages = world.sink.wait_for(friend, 2)
    for message in messages:
        assert re.fullmatch(rf"SRS0=.+=hosted-bank\.com=ceo@{re.escape(HOSTNAME)}", message.sender)
    assert world.mail.submit(ceo["email"], friend, "not forwarded")[0] == 250
    assert world.sink.wait_for(friend, 3)[-1].sender == ceo["email"]
    assert world.mail.send(messages[0].sender, "bounced", sender="")[0] == 250
    world.mail.wait_for(ceo["email"], "bounced")


def test_an_encoded_destination_is_refused_from_clients(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("encoded.com"), "ann")
    for recipient in ("friend=encoded.example.net", "friend+x=encoded.example.net", '"friend=encoded.example.net"'):
        for domain in (f"forward.{HOSTNAME}", f"Forward.{HOSTNAME}.", f"below.forward.{HOSTNAME}"):
            code, text = world.mail.send(f"{recipient}@{domain}", "relayed")
            assert (code, text[:5]) == (554, "5.7.1")
            code, text = world.mail.submit(ann["email"], f"{recipient}@{domain}", "relayed")
            assert (code, text[:5]) == (554, "5.7.1")


def test_unusual_and_long_destinations_are_forwarded_to_as_they_are(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("unusual-destinations.com"), "ann")
    destinations = [
        "!#$&'+=?^_`{}~-@unusual.example.net",
        "A.B+c=d.example=@unusual.example.net",
        f"ann=elsewhere.example@forward.{HOSTNAME}.example.net",
        f"{'x' * 64}@{'.'.join(('y' * 59, 'y' * 60, 'y' * 56, 'example.net'))}",
    ]
    assert len(destinations[-1]) == 254
    tenant.forward(ann, *destinations, keep_copy=False)
    assert world.mail.send(ann["email"], "unusual")[0] == 250
    for destination in destinations:
        world.sink.wait_for(destination)


def test_mail_is_forwarded_over_aliases_a_catch_all_and_further_mailboxes(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("chained.com")
    ann, bob, cid = (tenant.mailbox(domain, name) for name in ("ann", "bob", "cid"))
    tenant.alias(bob, "info")
    tenant.alias(cid, "", catch_all=True)
    tenant.forward(ann, "Info+detail@chained.com", keep_copy=False)
    tenant.forward(bob, "anything@chained.com", keep_copy=False)
    tenant.forward(cid, "friend@chained.example.net")
    for number, recipient in enumerate((ann["email"], "info+detail@chained.com", "other@chained.com"), 1):
        assert world.mail.send(recipient, f"to {recipient}")[0] == 250
        assert f"Subject: to {recipient}" in world.sink.wait_for("friend@chained.example.net", number)[-1].text
        world.mail.wait_for(cid["email"], f"to {recipient}")


def test_a_destination_whose_domain_becomes_hosted_is_delivered_to_here(world: World) -> None:
    tenant, other = world.postroom.tenant, world.postroom.new_tenant()
    ann = tenant.mailbox(tenant.domain("before-hosting.com"), "ann")
    tenant.forward(ann, "bob@becomes-hosted.com", keep_copy=False)
    world.mail.send(ann["email"], "elsewhere")
    world.sink.wait_for("bob@becomes-hosted.com")
    bob = other.mailbox(other.domain("becomes-hosted.com"), "bob")
    world.mail.send(ann["email"], "here")
    world.mail.wait_for(bob["email"], "here")
    assert len(world.sink.to(bob["email"])) == 1


def test_a_bounce_of_forwarded_mail_names_the_addresses_and_may_be_forwarded_itself(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("bounced-forwarding.com")
    ann, bob = tenant.mailbox(domain, "ann"), tenant.mailbox(domain, "bob")
    tenant.forward(ann, "refused@bounced.example.net", keep_copy=False)
    tenant.forward(bob, "friend@bounced.example.net", keep_copy=False)
    assert world.mail.submit(bob["email"], ann["email"], "refused")[0] == 250
    (bounce,) = world.sink.wait_for("friend@bounced.example.net")
    assert bounce.sender == ""
    assert f"X-Postroom-Forwarded: {HOSTNAME}" in bounce.text.partition("Subject: refused")[0]
    for line in (f"Original-Recipient: rfc822;{ann['email']}", "Final-Recipient: rfc822; refused@bounced.example.net"):
        assert line in bounce.text
    assert "refused=" not in bounce.text


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
