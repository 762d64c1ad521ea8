"""The rules of ownership: the results of lookups, the release of a lost name, its hand-over and its return."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from postroomd.domain.domains import DOMAIN_TRANSITIONS, begin_validation
from postroomd.domain.events import DomainEvent
from postroomd.domain.model import Domain, DomainRecord, DomainStatus, RecordStatus
from postroomd.domain.ownership import (
    ABSENT_TOKEN_INTERVAL,
    DomainCheck,
    Registration,
    activate_domain,
    next_check_at,
    settle_validation,
)
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import ProvisionKind, provision_id
from postroomd.domain.records import NAME_OWNED_ELSEWHERE, RECORD_KINDS, Finding
from tests.support.lifecycle import DOMAIN, FREE, MICROSECOND, NOW, PLATFORM, domain
from tests.unit.test_domains import records

D = DomainStatus
INTERVAL = timedelta(days=1)
GRACE = FREE.release_grace
QUARTER = ABSENT_TOKEN_INTERVAL
VALID, NOT_FOUND = Finding(RecordStatus.VALID), Finding(RecordStatus.NOT_FOUND, "no record")
WRONG, UNANSWERED = Finding(RecordStatus.INVALID, "wrong"), Finding(RecordStatus.UNKNOWN_STATUS, "no response")
ALL_VALID: Mapping[str, Finding] = dict.fromkeys(RECORD_KINDS, VALID)
OWNER = Registration(replace(domain(D.READY), id="owner", organization_id="another"), records())
RELEASED = replace(domain(D.WAITING_VALIDATION), released_at=NOW - timedelta(days=9))


def token(finding: Finding, **others: Finding) -> Mapping[str, Finding]:
    """Findings of which the validation token's is this one."""
    return {**ALL_VALID, "domain_validation": finding, **others}


def settle(
    before: Domain,
    findings: Mapping[str, Finding] = ALL_VALID,
    owner: Registration | None = None,
    known: Mapping[str, DomainRecord] | None = None,
    **changes: Any,
) -> DomainCheck:
    arguments: dict[str, Any] = {"rival_tokens": {}, "interval": INTERVAL, "policy": FREE, "now": NOW} | changes
    return settle_validation(before, records() if known is None else known, owner, findings=findings, **arguments)


def look_up(before: Domain, token_findings: Sequence[tuple[timedelta, Finding]], **changes: Any) -> Domain:
    """The domain after lookups at these times after NOW."""
    for later, finding in token_findings:
        before = settle(before, token(finding), now=NOW + later, **changes).domain
    return before


# --- The result of a lookup -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owned_elsewhere", [False, True])
@pytest.mark.parametrize("findings", [ALL_VALID, {**ALL_VALID, "imap": NOT_FOUND}, {**ALL_VALID, "mx": NOT_FOUND}, {}])
@pytest.mark.parametrize("status", DomainStatus)
def test_a_lookup_moves_a_validating_domain_only(
    status: DomainStatus, findings: Mapping[str, Finding], owned_elsewhere: bool
) -> None:
    before = domain(status)
    check = settle(before, findings, OWNER if owned_elsewhere else None)
    if status is D.VALIDATING:
        if owned_elsewhere and "domain_validation" in findings:
            event, expected = DomainEvent.RECORDS_INVALID, D.VALIDATION_FAILED
        elif findings.get("mx") == VALID:
            event, expected = DomainEvent.RECORDS_VALID, D.PROVISIONING
        else:
            event, expected = DomainEvent.RECORDS_MISSING, D.WAITING_VALIDATION
        assert check.domain == replace(before, status=expected, cause=event, updated_at=NOW)
    else:
        assert check.domain is before
    assert (check.next_check_at is not None) == (status is D.READY)
    assert check.former_owner is None


def test_a_lookup_changes_the_records_whose_result_differs() -> None:
    first = settle(domain(D.VALIDATING), {"mx": NOT_FOUND, "spf": VALID})
    assert first.records == {
        "mx": replace(records()["mx"], status=RecordStatus.NOT_FOUND, error="no record", updated_at=NOW),
        "spf": replace(records()["spf"], status=RecordStatus.VALID, updated_at=NOW),
    }
    later = NOW + INTERVAL
    known = {**records(), **first.records}
    second = settle(first.domain, {"mx": VALID, "spf": VALID}, known=known, now=later)
    assert second.records == {"mx": replace(records()["mx"], status=RecordStatus.VALID, updated_at=later)}


@pytest.mark.parametrize("before", [*map(domain, DomainStatus), RELEASED])
def test_a_name_owned_elsewhere_invalidates_the_validation_record(before: Domain) -> None:
    record = settle(before, ALL_VALID, OWNER).records["domain_validation"]
    if before.status is D.VALIDATING or before is RELEASED:
        assert (record.status, record.error) == (RecordStatus.INVALID, NAME_OWNED_ELSEWHERE)
    else:
        assert (record.status, record.error) == (RecordStatus.VALID, None)


# --- The loss of a name -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", [NOT_FOUND, WRONG])
def test_a_ready_domain_is_released_after_the_grace_period_of_continuous_absence(lacking: Finding) -> None:
    first = settle(domain(D.READY), token(lacking))
    assert first.domain == replace(domain(D.READY), token_absent_since=NOW, token_checked_at=NOW)
    assert first.records["domain_validation"].status is lacking.status
    assert first.next_check_at == NOW + QUARTER
    last = look_up(first.domain, [(QUARTER, lacking), (GRACE - MICROSECOND, lacking)])
    assert last == replace(first.domain, token_checked_at=NOW + GRACE - MICROSECOND)
    now = NOW + GRACE
    lost = settle(last, token(lacking), now=now)
    assert lost.domain == replace(
        first.domain,
        status=D.WAITING_VALIDATION,
        cause=DomainEvent.OWNERSHIP_LOST,
        updated_at=now,
        token_checked_at=now,
        released_at=now,
    )
    assert lost.next_check_at == next_check_at(RELEASED, INTERVAL, FREE, now)


def test_the_last_lookup_of_the_grace_period_is_at_its_end() -> None:
    absent = replace(domain(D.READY), token_absent_since=NOW - GRACE + timedelta(minutes=4), token_checked_at=NOW)
    assert settle(absent, token(NOT_FOUND)).next_check_at == NOW + timedelta(minutes=4)
    often = settle(absent, token(NOT_FOUND), interval=timedelta(minutes=1)).next_check_at
    assert often is not None
    assert often < NOW + timedelta(minutes=2)


def test_a_token_that_returns_within_the_grace_period_ends_the_absence() -> None:
    absent = [(QUARTER * number, NOT_FOUND) for number in range(200)]
    returned = look_up(domain(D.READY), [*absent, (GRACE - QUARTER, VALID)])
    assert returned == domain(D.READY)
    assert settle(returned).next_check_at == next_check_at(domain(D.READY), INTERVAL, FREE, NOW)
    again = look_up(returned, [(GRACE, NOT_FOUND), (2 * GRACE - QUARTER, NOT_FOUND)])
    assert again.status is D.READY
    assert again.token_absent_since == NOW + GRACE


def test_servers_that_flap_release_nothing() -> None:
    flapping = [(QUARTER * number, VALID if number % 40 == 39 else NOT_FOUND) for number in range(3_000)]
    assert look_up(domain(D.READY), flapping).status is D.READY


def test_lookups_without_an_answer_release_nothing_and_do_not_count() -> None:
    week = [(timedelta(hours=number), UNANSWERED) for number in range(7 * 24)]
    assert look_up(domain(D.READY), week) == domain(D.READY)

    # The token is absent for an hour, the servers fail for a week, and it is absent again.
    failing = [(timedelta(hours=1 + number), UNANSWERED) for number in range(1, 7 * 24)]
    hour = [(timedelta(0), NOT_FOUND), (timedelta(hours=1), NOT_FOUND)]
    after = timedelta(hours=7 * 24)
    absent = look_up(domain(D.READY), [*hour, *failing, (after, NOT_FOUND)])
    assert absent.status is D.READY
    assert absent.token_absent_since == NOW + after - timedelta(hours=1)
    rest = after + GRACE - timedelta(hours=1)
    assert look_up(absent, [(rest - MICROSECOND, NOT_FOUND)]).status is D.READY
    assert look_up(absent, [(rest, NOT_FOUND)]).status is D.WAITING_VALIDATION


def test_an_unanswered_lookup_at_the_end_of_the_grace_period_releases_nothing() -> None:
    absent = replace(domain(D.READY), token_absent_since=NOW - GRACE - INTERVAL, token_checked_at=NOW - INTERVAL)
    check = settle(absent, token(UNANSWERED))
    assert check.domain.status is D.READY
    assert check.next_check_at is not None
    assert check.next_check_at > NOW


def test_a_clock_that_is_set_back_extends_no_absence() -> None:
    absent = replace(domain(D.READY), token_absent_since=NOW, token_checked_at=NOW + INTERVAL)
    assert settle(absent, token(UNANSWERED)).domain.token_absent_since == NOW


@pytest.mark.parametrize("status", [status for status in D if status is not D.READY])
def test_a_domain_that_was_never_ready_is_not_released(status: DomainStatus) -> None:
    after = look_up(domain(status), [(timedelta(0), NOT_FOUND), (GRACE * 2, NOT_FOUND)])
    assert after.token_absent_since is after.released_at is None


def test_without_a_grace_period_the_first_absence_releases() -> None:
    policy = replace(FREE, release_grace=timedelta(0))
    assert settle(domain(D.READY), token(NOT_FOUND), policy=policy).domain.status is D.WAITING_VALIDATION


def test_a_rival_whose_token_is_present_releases_at_once() -> None:
    for finding, status in ((VALID, D.WAITING_VALIDATION), (UNANSWERED, D.READY), (NOT_FOUND, D.READY)):
        check = settle(domain(D.READY), token(WRONG), rival_tokens={"rival": finding})
        assert check.domain.status is status
    assert settle(domain(D.READY), token(UNANSWERED), rival_tokens={"rival": VALID}).domain.status is D.READY


# --- The hand-over ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [domain(D.VALIDATING), RELEASED], ids=["validating", "returning"])
@pytest.mark.parametrize("owners_status", [D.READY, D.PROVISIONING])
@pytest.mark.parametrize("gone", [NOT_FOUND, WRONG])
def test_a_name_is_handed_over_from_an_owner_without_token(
    before: Domain, owners_status: DomainStatus, gone: Finding
) -> None:
    owner = replace(OWNER, domain=replace(OWNER.domain, status=owners_status))
    check = settle(before, ALL_VALID, owner, rival_tokens={"owner": gone})
    assert check.domain.status is D.PROVISIONING
    assert check.records["domain_validation"].status is RecordStatus.VALID
    former = check.former_owner
    assert former is not None
    assert former.domain == replace(
        owner.domain,
        status=D.WAITING_VALIDATION,
        cause=DomainEvent.OWNERSHIP_LOST,
        updated_at=NOW,
        released_at=NOW,
        token_absent_since=NOW,
        token_checked_at=NOW,
    )
    assert {kind: record.status for kind, record in former.records.items()} == {"domain_validation": gone.status}
    assert former.next_check_at is not None


@pytest.mark.parametrize("rival_tokens", [{}, {"owner": VALID}, {"owner": UNANSWERED}, {"another": NOT_FOUND}])
def test_an_owner_keeps_its_name_unless_its_token_is_lacking(rival_tokens: Mapping[str, Finding]) -> None:
    check = settle(domain(D.VALIDATING), ALL_VALID, OWNER, rival_tokens=rival_tokens)
    assert check.domain.status is D.VALIDATION_FAILED
    assert check.former_owner is None


@pytest.mark.parametrize("finding", [NOT_FOUND, WRONG, UNANSWERED])
def test_a_name_is_not_handed_over_to_a_domain_without_token(finding: Finding) -> None:
    check = settle(domain(D.VALIDATING), token(finding), OWNER, rival_tokens={"owner": NOT_FOUND})
    assert check.former_owner is None
    assert check.domain.status in {D.WAITING_VALIDATION, D.VALIDATION_FAILED}


@pytest.mark.parametrize(("mx", "status"), [(NOT_FOUND, D.WAITING_VALIDATION), (WRONG, D.VALIDATION_FAILED)])
def test_an_owner_loses_its_name_also_to_a_domain_with_other_faults(mx: Finding, status: DomainStatus) -> None:
    check = settle(domain(D.VALIDATING), {**ALL_VALID, "mx": mx}, OWNER, rival_tokens={"owner": NOT_FOUND})
    assert check.domain.status is status
    assert check.former_owner is not None
    assert check.former_owner.domain.status is D.WAITING_VALIDATION


# --- The return -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [D.WAITING_VALIDATION, D.VALIDATION_FAILED])
def test_a_released_domain_is_looked_up_and_returns_by_itself(status: DomainStatus) -> None:
    released = replace(RELEASED, status=status, token_absent_since=NOW - INTERVAL, token_checked_at=NOW - INTERVAL)
    for findings in (token(NOT_FOUND), token(UNANSWERED), token(VALID, mx=NOT_FOUND)):
        waiting = settle(released, findings)
        assert waiting.domain.status is status
        assert waiting.next_check_at == next_check_at(released, INTERVAL, FREE, NOW)
        assert (waiting.domain.token_absent_since is None) == (findings["domain_validation"] is VALID)
    returned = settle(released).domain
    assert returned == replace(
        released,
        status=D.PROVISIONING,
        cause=DomainEvent.OWNERSHIP_RESTORED,
        updated_at=NOW,
        token_absent_since=None,
        token_checked_at=None,
    )
    check = activate_domain(returned, INTERVAL, FREE, NOW)
    assert (check.domain.status, check.domain.released_at) == (D.READY, None)


def test_a_requested_validation_of_a_released_domain_keeps_its_periodic_lookups() -> None:
    validating = begin_validation(RELEASED, NOW)
    failed = settle(validating, token(WRONG))
    assert failed.domain.status is D.VALIDATION_FAILED
    assert failed.next_check_at is not None
    assert settle(failed.domain).domain.status is D.PROVISIONING


def test_a_deleted_domain_is_neither_released_nor_looked_up() -> None:
    deleting = replace(RELEASED, status=D.DELETING)
    for findings in (ALL_VALID, token(NOT_FOUND)):
        check = settle(deleting, findings)
        assert check.domain is deleting
        assert check.next_check_at is None


@pytest.mark.parametrize("policy", [FREE, PLATFORM])
def test_the_mail_platform_is_told_of_the_loss_and_the_return(policy: LifecyclePolicy) -> None:
    absent = replace(domain(D.READY), token_absent_since=NOW - GRACE, token_checked_at=NOW - INTERVAL)
    lost = settle(absent, token(NOT_FOUND), policy=policy).domain
    returned = settle(lost, ALL_VALID, policy=policy).domain
    expected = [provision_id(absent, ProvisionKind.SUSPEND), provision_id(lost, ProvisionKind.RESTORE)]
    assert [lost.provision_id, returned.provision_id] == (expected if policy.provisioning else [None, None])


# --- Activation and the next lookup -----------------------------------------------------------------------------------


def test_an_activated_domain_is_ready_and_due_for_its_next_lookup() -> None:
    check = activate_domain(domain(D.PROVISIONING), INTERVAL, FREE, NOW)
    assert check.domain == replace(domain(D.READY), cause=DomainEvent.ACTIVATE, updated_at=NOW)
    assert check.next_check_at == next_check_at(check.domain, INTERVAL, FREE, NOW)


def test_the_next_lookup_is_after_the_interval_with_ten_percent_jitter() -> None:
    def delay(number: int) -> float:
        at = next_check_at(replace(domain(D.READY), id=str(number)), INTERVAL, FREE, NOW)
        assert isinstance(at, datetime)
        return (at - NOW) / INTERVAL

    delays = [delay(number) for number in range(1_000)]
    assert len(set(delays)) > 900
    assert 0.9 <= min(delays) < 0.92
    assert 1.08 < max(delays) <= 1.1
    assert delay(0) == delays[0]


def test_every_event_of_a_lookup_is_in_the_table() -> None:
    assert set(DOMAIN_TRANSITIONS[DomainEvent.OWNERSHIP_LOST]) == {D.READY, D.PROVISIONING}
    assert set(DOMAIN_TRANSITIONS[DomainEvent.OWNERSHIP_RESTORED]) == {D.WAITING_VALIDATION, D.VALIDATION_FAILED}
    assert DOMAIN.released_at is None
