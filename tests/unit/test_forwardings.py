"""The rules of forwardings and of their settings."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from postroomd.domain.aliases import new_alias
from postroomd.domain.errors import (
    InvalidArguments,
    NameTaken,
    PreconditionFailed,
    QuotaExceeded,
    TransientState,
)
from postroomd.domain.forwardings import (
    FORWARDINGS_ALLOWED,
    ForwardingSource,
    apply_settings,
    change_settings,
    default_settings,
    delete_forwarding,
    new_forwarding,
    redirect_forwarding,
    request_forwarding,
    require_no_forwarding,
)
from postroomd.domain.model import DomainStatus, Forwarding, ForwardingStatus, Mailbox, MailboxStatus
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision, fail_provision, pending_provision
from postroomd.domain.provisions import Provision, ProvisionKind
from tests.support.lifecycle import FREE, NOW, PLATFORM, START, mailbox

F, D, M = ForwardingStatus, DomainStatus, MailboxStatus

DESTINATION = "ann@elsewhere.example"
each_policy = pytest.mark.parametrize("policy", [FREE, PLATFORM], ids=["free", "platform"])


def source(*forwardings: Forwarding, of: Mailbox | None = None, alias: Any = None) -> ForwardingSource:
    return ForwardingSource(mailbox=of or mailbox(), forwardings=forwardings, alias=alias)


def forwarding(
    policy: LifecyclePolicy = FREE, destination: str = DESTINATION, forwarding_id: str = "f", **fields: Any
) -> Forwarding:
    new = new_forwarding(source(), forwarding_id=forwarding_id, destination=destination, policy=policy, now=START)
    return replace(new, **fields)


create = partial(new_forwarding, forwarding_id="new", policy=FREE, now=NOW)
redirect = partial(redirect_forwarding, now=NOW)


def requested(subject: Forwarding) -> Provision:
    provision = pending_provision(subject, NOW)
    assert provision is not None
    return provision


def confirmed(subject: Forwarding, domain_status: DomainStatus = D.READY) -> Any:
    return confirm_provision(requested(subject), subject, domain_status, now=NOW)[1]


@each_policy
def test_a_new_forwarding_has_the_mailboxs_domain_and_tenant(policy: LifecyclePolicy) -> None:
    of = mailbox()
    assert forwarding(policy) == Forwarding(
        id="f",
        organization_id=of.organization_id,
        project_id=of.project_id,
        domain_id=of.domain_id,
        mailbox_id=of.id,
        email=DESTINATION,
        status=F.READY if policy is FREE else F.PROVISIONING,
        created_at=START,
        updated_at=START,
    )


@pytest.mark.parametrize("status", MailboxStatus)
def test_forwardings_are_created_in_the_statuses_that_permit_aliases(status: MailboxStatus) -> None:
    if status in FORWARDINGS_ALLOWED:
        create(source(of=mailbox(status)), destination=DESTINATION)
        return
    with pytest.raises(PreconditionFailed, match=f"is {status}:"):
        create(source(of=mailbox(status)), destination=DESTINATION)


@pytest.mark.parametrize("own", ["ada@example.com", "ADA@example.com", "Ada+news@example.com"])
def test_the_mailboxs_own_address_is_refused_in_any_form(own: str) -> None:
    calls: list[Callable[[], Forwarding]] = [
        lambda: create(source(), destination=own),
        lambda: redirect(forwarding(), source(), destination=own, policy=FREE),
    ]
    for call in calls:
        with pytest.raises(InvalidArguments) as caught:
            call()
        assert [violation.field for violation in caught.value.violations] == ["email"]
    create(source(), destination=own.replace("example.com", "example.org"))


def test_an_alias_of_the_mailbox_is_refused() -> None:
    alias = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=FREE, now=START)
    with pytest.raises(InvalidArguments):
        create(source(alias=alias), destination=alias.email)
    with pytest.raises(InvalidArguments):
        redirect(forwarding(), source(alias=alias), destination=alias.email, policy=FREE)


def test_an_alias_that_is_a_destination_of_the_mailbox_is_refused() -> None:
    alias = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=FREE, now=START)
    existing = forwarding(destination="Countess+x@example.com")
    require_no_forwarding(alias, [forwarding()])
    with pytest.raises(NameTaken, match="is the destination of forwarding f, ready: use it, or delete it") as caught:
        require_no_forwarding(alias, [forwarding(), existing])
    assert [(taken.field, taken.resource_id) for taken in caught.value.taken] == [("local_part", "f")]


def test_a_destination_is_unique_among_the_forwardings_of_a_mailbox() -> None:
    existing = forwarding()
    with pytest.raises(NameTaken, match=f"^{DESTINATION} is the destination of forwarding f, ready: use it"):
        create(source(existing), destination="ANN@elsewhere.example")
    other = forwarding(forwarding_id="other", destination="other@elsewhere.example")
    with pytest.raises(NameTaken):
        redirect(other, source(existing, other), destination=DESTINATION, policy=FREE)
    deleting = replace(existing, status=F.DELETING)
    with pytest.raises(NameTaken, match="deleting: wait until it is deleted"):
        create(source(deleting), destination=DESTINATION)
    # The case of its own destination can be changed.
    assert redirect(existing, source(existing), destination="Ann@elsewhere.example", policy=FREE).email[:3] == "Ann"


def test_a_mailbox_has_at_most_five_forwardings() -> None:
    four = [forwarding(forwarding_id=str(n), destination=f"{n}@elsewhere.example") for n in range(4)]
    fifth = create(source(*four), destination=DESTINATION)
    with pytest.raises(QuotaExceeded, match="has 5 forwardings and a quota of 5: delete one first") as caught:
        create(source(*four, fifth), destination="sixth@elsewhere.example")
    assert (caught.value.owner.type, caught.value.current) == ("mailbox", 5)
    with pytest.raises(QuotaExceeded, match="1 of them scheduled for deletion"):
        create(source(*four, replace(fifth, status=F.DELETING)), destination="sixth@elsewhere.example")
    assert redirect(fifth, source(*four, fifth), destination="sixth@elsewhere.example", policy=FREE)


@each_policy
def test_a_ready_forwarding_is_updating_until_the_platform_confirms(policy: LifecyclePolicy) -> None:
    ready = forwarding(policy, status=F.READY)
    changed = redirect(ready, source(ready), destination="b@elsewhere.example", policy=policy)
    assert (changed.email, changed.updated_at) == ("b@elsewhere.example", NOW)
    if policy is FREE:
        assert (changed.status, changed.provision_id) == (F.READY, None)
        return
    assert changed.status is F.UPDATING
    provision = requested(changed)
    assert (provision.kind, provision.forwarding_id, provision.alias_id) == (ProvisionKind.UPDATE, ready.id, None)
    assert provision.mailbox_id == ready.mailbox_id
    assert fail_provision(provision, changed, D.READY, reason="no", now=NOW)[1] is changed
    assert confirmed(changed) == replace(changed, status=F.READY, provision_id=None)


@pytest.mark.parametrize("same", [None, DESTINATION])
@each_policy
def test_a_destination_changes_only_if_another_one_is_sent(policy: LifecyclePolicy, same: str | None) -> None:
    for status in ForwardingStatus:
        before = forwarding(policy, status=status)
        assert redirect(before, source(before), destination=same, policy=policy) is before


def test_a_change_replaces_a_pending_provision() -> None:
    creating = request_forwarding(forwarding(PLATFORM), D.READY)
    moved = redirect(creating, source(creating), destination="b@elsewhere.example", policy=PLATFORM)
    moved = replace(moved, revision=2)
    assert moved.status is F.PROVISIONING
    again = redirect(moved, source(moved), destination="c@elsewhere.example", policy=PLATFORM)
    assert len({creating.provision_id, moved.provision_id, again.provision_id}) == 3
    assert requested(again).kind is ProvisionKind.CREATE
    assert confirm_provision(requested(creating), again, D.READY, now=NOW)[1] is again, "it confirms the former state"
    updating = replace(
        redirect(confirmed(again), source(), destination="d@elsewhere.example", policy=PLATFORM), revision=4
    )
    later = redirect(updating, source(), destination="e@elsewhere.example", policy=PLATFORM)
    assert (later.status, requested(later).kind) == (F.UPDATING, ProvisionKind.UPDATE)
    assert later.provision_id != updating.provision_id


def test_a_forwarding_that_the_platform_does_not_know_is_changed_without_it() -> None:
    waiting = forwarding(PLATFORM)
    moved = redirect(waiting, source(waiting), destination="b@elsewhere.example", policy=PLATFORM)
    assert (moved.status, moved.provision_id) == (F.PROVISIONING, None)


@pytest.mark.parametrize("status", MailboxStatus)
def test_forwardings_are_unchangeable_while_their_mailbox_is_deleted(status: MailboxStatus) -> None:
    before, of = forwarding(), mailbox(status)
    settings = default_settings(of)
    calls = (
        lambda: redirect(before, source(before, of=of), destination="b@elsewhere.example", policy=FREE),
        lambda: change_settings(settings, of, keep_copy=False, enabled=None, now=NOW),
    )
    error = {M.DELETION_SCHEDULED: PreconditionFailed, M.DELETING: TransientState}.get(status)
    for call in calls:
        if error is None:
            call()
        else:
            with pytest.raises(error):
                call()
    assert change_settings(settings, of, keep_copy=True, enabled=None, now=NOW) is settings


def test_a_deleting_forwarding_cannot_be_redirected() -> None:
    deleting = forwarding(status=F.DELETING)
    with pytest.raises(TransientState):
        redirect(deleting, source(deleting), destination="b@elsewhere.example", policy=FREE)


@pytest.mark.parametrize("domain_status", DomainStatus)
@each_policy
def test_a_forwarding_is_requested_of_the_platform_in_a_ready_domain(
    policy: LifecyclePolicy, domain_status: DomainStatus
) -> None:
    asked = request_forwarding(forwarding(policy), domain_status)
    assert (asked.provision_id is not None) == (policy is PLATFORM and domain_status is D.READY)
    assert request_forwarding(asked, domain_status) is asked
    assert replace(asked, provision_id=None) == forwarding(policy)


@pytest.mark.parametrize("status", [F.READY, F.UPDATING])
def test_the_platform_deletes_a_forwarding_that_it_knows(status: ForwardingStatus) -> None:
    deleted = delete_forwarding(forwarding(PLATFORM, status=status), PLATFORM, NOW)
    assert (deleted.status, deleted.updated_at) == (F.DELETING, NOW)
    assert requested(deleted).kind is ProvisionKind.DELETE
    assert confirmed(deleted) is None
    assert delete_forwarding(deleted, PLATFORM, NOW) is deleted


def test_a_forwarding_unknown_to_the_platform_is_deleted_at_once() -> None:
    assert delete_forwarding(forwarding(PLATFORM), PLATFORM, NOW).provision_id is None
    assert delete_forwarding(forwarding(), FREE, NOW).provision_id is None
    assert delete_forwarding(request_forwarding(forwarding(PLATFORM), D.READY), PLATFORM, NOW).provision_id


def test_a_confirmation_keeps_a_forwarding_of_a_deleted_domain_deleting() -> None:
    deleting = replace(request_forwarding(forwarding(PLATFORM), D.READY), status=F.DELETING)
    provision = replace(requested(deleting), kind=ProvisionKind.CREATE)
    assert confirm_provision(provision, deleting, D.DELETING, now=NOW)[1] == replace(deleting, provision_id=None)


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_the_default_settings_are_as_old_as_the_mailbox() -> None:
    settings = default_settings(mailbox())
    assert (settings.keep_copy, settings.enabled) == (True, True)
    assert settings.created_at == settings.updated_at == mailbox().created_at
    assert settings.id == settings.mailbox_id == mailbox().id


def test_only_settings_that_are_sent_change() -> None:
    settings = default_settings(mailbox())
    change = partial(change_settings, mailbox=mailbox(), now=NOW)
    without_copy = change(settings, keep_copy=False, enabled=None)
    assert without_copy == replace(settings, keep_copy=False, updated_at=NOW)
    assert change(without_copy, keep_copy=None, enabled=False) == replace(without_copy, enabled=False)
    assert change(without_copy, keep_copy=False, enabled=None) is without_copy
    assert change(without_copy, keep_copy=None, enabled=None) is without_copy


def test_changed_settings_are_requested_for_every_forwarding_that_the_platform_keeps() -> None:
    ready = forwarding(PLATFORM, status=F.READY)
    updating = apply_settings(ready, PLATFORM, NOW)
    assert (updating.status, updating.updated_at) == (F.UPDATING, NOW)
    assert requested(updating).kind is ProvisionKind.UPDATE
    creating = request_forwarding(forwarding(PLATFORM), D.READY)
    again = apply_settings(creating, PLATFORM, NOW)
    assert (again.status, again.provision_id == creating.provision_id) == (F.PROVISIONING, False)
    deleting = delete_forwarding(ready, PLATFORM, NOW)
    waiting = forwarding(PLATFORM)
    for unchanged, policy in ((ready, FREE), (deleting, PLATFORM), (waiting, PLATFORM)):
        assert apply_settings(unchanged, policy, NOW) is unchanged
