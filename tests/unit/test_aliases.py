"""The rules of aliases."""

from dataclasses import replace
from functools import partial

import pytest

from postroomd.domain.aliases import delete_alias, describe_alias, new_alias, request_alias, require_aliases_allowed
from postroomd.domain.errors import InvalidArguments, PreconditionFailed, Reason
from postroomd.domain.model import Alias, AliasStatus, DomainStatus, MailboxStatus
from postroomd.domain.policy import LifecyclePolicy
from tests.support.lifecycle import FREE, NOW, PLATFORM, START, mailbox

A, D, M = AliasStatus, DomainStatus, MailboxStatus

create = partial(new_alias, alias_id="a", description="", now=START)


def alias(policy: LifecyclePolicy = FREE) -> Alias:
    return create(mailbox(), local_part="countess", policy=policy)


@pytest.mark.parametrize("status", MailboxStatus)
def test_aliases_are_allowed_for_a_ready_locked_or_waiting_mailbox(status: MailboxStatus) -> None:
    if status in {M.READY, M.LOCKED, M.WAITING_DOMAIN, M.WAITING_PAYMENT, M.CREATING}:
        require_aliases_allowed(mailbox(status))
        return
    with pytest.raises(PreconditionFailed, match=f"is {status}:") as caught:
        require_aliases_allowed(mailbox(status))
    assert (caught.value.subject.type, caught.value.subject.id) == ("mailbox", mailbox().id)


def test_a_new_alias_has_the_mailboxs_domain_and_tenant() -> None:
    of = mailbox()
    assert alias() == Alias(
        id="a",
        organization_id=of.organization_id,
        project_id=of.project_id,
        domain_id=of.domain_id,
        mailbox_id=of.id,
        email="countess@example.com",
        description="",
        status=A.READY,
        created_at=START,
        updated_at=START,
    )
    with pytest.raises(PreconditionFailed):
        create(mailbox(M.DELETING), local_part="countess", policy=FREE)


def test_a_new_aliass_address_has_at_most_254_octets() -> None:
    domain_name = ".".join(["d" * 63] * 3 + ["com"])  # 195 octets
    of = replace(mailbox(), email=f"ada@{domain_name}")
    assert len(create(of, local_part="a" * 58, policy=FREE).email) == 254
    with pytest.raises(InvalidArguments) as caught:
        create(of, local_part="a" * 59, policy=FREE)
    (violation,) = caught.value.violations
    assert (violation.field, violation.reason) == ("local_part", Reason.CONSTRAINT)


@pytest.mark.parametrize("same", [None, "the countess"])
def test_a_description_changes_only_if_another_one_is_sent(same: str | None) -> None:
    before = replace(alias(), description="the countess")
    assert describe_alias(before, description=same, now=NOW) is before
    assert describe_alias(before, description="", now=NOW) == replace(before, description="", updated_at=NOW)


@pytest.mark.parametrize("domain_status", DomainStatus)
@pytest.mark.parametrize("policy", [FREE, PLATFORM], ids=["free", "platform"])
def test_an_alias_is_requested_of_the_platform_in_a_ready_domain(
    policy: LifecyclePolicy, domain_status: DomainStatus
) -> None:
    requested = request_alias(alias(policy), domain_status)
    assert (requested.provision_id is not None) == (policy is PLATFORM and domain_status is D.READY)
    assert request_alias(requested, domain_status) is requested
    assert replace(requested, provision_id=None) == alias(policy)


def test_a_deleted_alias_stays_deleted() -> None:
    deleted = delete_alias(alias(), FREE, NOW)
    assert deleted == replace(alias(), status=A.DELETING, updated_at=NOW)
    assert delete_alias(deleted, FREE, NOW) is deleted
