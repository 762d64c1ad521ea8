"""The rules of domains: creation, validation, activation, deletion."""

from dataclasses import replace
from itertools import count

import pytest

from postroomd.domain.domains import (
    DOMAIN_TRANSITIONS,
    begin_validation,
    delete_domain,
    move_domain,
    new_domain,
    new_records,
    require_mailboxes_allowed,
)
from postroomd.domain.errors import Precondition, PreconditionFailed, TransientState
from postroomd.domain.events import DomainEvent
from postroomd.domain.mailboxes import new_mailbox
from postroomd.domain.model import DomainRecord, DomainStatus, RecordStatus, SubscriptionPeriod
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.records import plan_records, visible_record
from tests.support.lifecycle import DOMAIN, FREE, NOW, PLATFORM, domain
from tests.support.mail_hosts import MAIL_HOSTS

D, P = DomainStatus, SubscriptionPeriod


def records() -> dict[str, DomainRecord]:
    """The records of DOMAIN, by kind."""
    ids = map(str, count())
    new = new_records(
        DOMAIN, MAIL_HOSTS, token="T0KEN", dkim_selector="post", dkim_key="S0VZ", new_id=lambda: next(ids)
    )
    return {record.kind: record for record in new}


# --- Creation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "status"), [(FREE, D.WAITING_VALIDATION), (PLATFORM, D.CREATING)])
def test_a_new_domain_waits_for_the_platform_if_there_is_one(policy: LifecyclePolicy, status: DomainStatus) -> None:
    new = new_domain(
        domain_id=DOMAIN.id,
        organization_id=DOMAIN.organization_id,
        project_id=DOMAIN.project_id,
        name=DOMAIN.name,
        policy=policy,
        now=DOMAIN.created_at,
    )
    assert replace(new, provision_id=None) == replace(DOMAIN, status=status)
    assert (new.provision_id is not None) == policy.provisioning


@pytest.mark.parametrize(("event", "status"), [(event, status) for event in DomainEvent for status in DomainStatus])
def test_an_event_moves_a_domain_as_its_table_says(event: DomainEvent, status: DomainStatus) -> None:
    before = domain(status)
    moved = move_domain(before, event, NOW)
    if status in DOMAIN_TRANSITIONS[event]:
        (after,) = DOMAIN_TRANSITIONS[event][status]
        if after is None:  # a purge, which leaves nothing to move
            assert moved is before
        else:
            assert moved == replace(before, status=after, cause=event, updated_at=NOW)
    else:
        assert moved is before


@pytest.mark.parametrize("status", [D.WAITING_VALIDATION, D.VALIDATION_FAILED])
def test_validation_begins_in_a_domain_that_waits_for_it_or_failed(status: DomainStatus) -> None:
    begun = begin_validation(domain(status), NOW)
    assert begun == replace(domain(status), status=D.VALIDATING, cause=DomainEvent.VALIDATE, updated_at=NOW)


@pytest.mark.parametrize("status", [D.VALIDATING, D.READY])
def test_validation_leaves_a_validating_or_ready_domain_unchanged(status: DomainStatus) -> None:
    before = domain(status)
    assert begin_validation(before, NOW) is before


@pytest.mark.parametrize("status", [D.CREATING, D.PROVISIONING, D.DELETING])
def test_validation_is_refused_in_a_transient_state(status: DomainStatus) -> None:
    with pytest.raises(TransientState) as caught:
        begin_validation(domain(status), NOW)
    assert caught.value.current_state == status
    assert (caught.value.resource.type, caught.value.resource.id) == ("domain", DOMAIN.id)


@pytest.mark.parametrize("status", DomainStatus)
def test_mailboxes_are_allowed_unless_the_domain_is_deleting(status: DomainStatus) -> None:
    if status is not D.DELETING:
        require_mailboxes_allowed(domain(status))
        return
    with pytest.raises(PreconditionFailed) as caught:
        require_mailboxes_allowed(domain(status))
    assert caught.value.subject.id == DOMAIN.id
    assert caught.value.precondition is Precondition.UNKNOWN_PRECONDITION
    with pytest.raises(PreconditionFailed):
        new_mailbox(domain(status), mailbox_id="b", local_part="ada", period=P.MONTHLY, policy=FREE, now=NOW)


@pytest.mark.parametrize("status", [D.READY, D.WAITING_VALIDATION, D.VALIDATING, D.VALIDATION_FAILED])
def test_a_domain_whose_token_is_absent_refuses_mailboxes(status: DomainStatus) -> None:
    lost = replace(domain(status), token_absent_since=NOW)
    with pytest.raises(PreconditionFailed, match="domain_validation record") as caught:
        new_mailbox(lost, mailbox_id="b", local_part="ada", period=P.MONTHLY, policy=FREE, now=NOW)
    assert caught.value.precondition is Precondition.UNKNOWN_PRECONDITION
    # Once the token is published again, only other records are missing.
    require_mailboxes_allowed(replace(lost, token_absent_since=None, released_at=NOW))


def test_new_records_are_the_planned_ones_without_a_result() -> None:
    plans = plan_records(DOMAIN.name, MAIL_HOSTS, token="T0KEN", dkim_selector="post", dkim_key="S0VZ")
    assert list(records().values()) == [
        DomainRecord(
            id=str(number),
            domain_id=DOMAIN.id,
            kind=plan.kind,
            status=RecordStatus.UNKNOWN_STATUS,
            level=plan.level,
            dns_type=plan.dns_type,
            dns_name=plan.dns_name,
            dns_value=plan.dns_value,
            error=None,
            created_at=DOMAIN.created_at,
            updated_at=DOMAIN.created_at,
        )
        for number, plan in enumerate(plans)
    ]


# --- Visible records, and deletion ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", DomainStatus)
def test_records_of_a_validating_domain_are_shown_without_a_result(status: DomainStatus) -> None:
    record = replace(records()["mx"], status=RecordStatus.INVALID, error="wrong")
    visible = visible_record(record, status)
    if status is D.VALIDATING:
        assert visible == replace(record, status=RecordStatus.VALIDATING, error=None)
    else:
        assert visible is record


def test_a_deleted_domain_waits_for_no_provision() -> None:
    before = replace(domain(D.CREATING), provision_id="c0000000-0000-4000-8000-000000000001")
    deleted = delete_domain(before, 0, force=False, now=NOW)
    assert deleted == replace(before, status=D.DELETING, cause=DomainEvent.DELETE, provision_id=None, updated_at=NOW)
    assert delete_domain(deleted, 1, force=False, now=NOW) is deleted


@pytest.mark.parametrize(("in_use", "counted"), [(1, "1 mailbox "), (7, "7 mailboxes ")])
def test_a_domain_with_mailboxes_in_use_is_deleted_only_with_force(in_use: int, counted: str) -> None:
    before = domain(D.READY)
    with pytest.raises(PreconditionFailed, match="force=true") as refused:
        delete_domain(before, in_use, force=False, now=NOW)
    assert refused.value.precondition is Precondition.RESOURCE_STILL_IN_USE
    assert counted in str(refused.value)
    assert delete_domain(before, in_use, force=True, now=NOW).status is D.DELETING
