"""The rules of the rotation of a DKIM key."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from postroomd.domain.dkim import (
    MAX_SELECTOR,
    ROTATION_INTERVAL,
    DkimKeys,
    DkimRotation,
    KeySwitch,
    NewDkimKey,
    RotationChange,
    needs_key,
    new_selector,
    next_record,
    require_cancelable,
    rotate_key,
)
from postroomd.domain.errors import PreconditionFailed, TransientState
from postroomd.domain.model import DomainRecord, DomainStatus, RecordLevel, RecordStatus
from postroomd.domain.ownership import DomainCheck, settle_validation
from postroomd.domain.records import RECORD_KINDS, Finding
from tests.support.lifecycle import DOMAIN, FREE, NOW, domain
from tests.unit.test_domains import records

D = DomainStatus
OVERLAP = timedelta(days=7)
INTERVAL = timedelta(days=1)
NEXT = next_record(DOMAIN, "new", "TkVX", record_id="next", now=NOW)
KEY = NewDkimKey(selector="new", private_pem="a private key", record=NEXT)
SWITCH = KeySwitch(NOW, NOW + OVERLAP)
PENDING = DkimRotation(
    domain_id=DOMAIN.id, organization_id=DOMAIN.organization_id, selector="new", started_at=NOW - INTERVAL
)
SWITCHED = replace(PENDING, selector="post", switched_at=NOW, retires_at=NOW + OVERLAP)
VALID, NOT_FOUND = Finding(RecordStatus.VALID), Finding(RecordStatus.NOT_FOUND, "no record")
WRONG, UNANSWERED = Finding(RecordStatus.INVALID, "wrong"), Finding(RecordStatus.UNKNOWN_STATUS, "no response")
ALL_VALID: Mapping[str, Finding] = dict.fromkeys(RECORD_KINDS, VALID)
ROTATING: Mapping[str, DomainRecord] = {**records(), "dkim_next": NEXT}


def keys(rotation: DkimRotation | None = None, status: DomainStatus = D.READY) -> DkimKeys:
    signing = "new" if rotation and rotation.switched_at else "post"
    return DkimKeys(domain=replace(DOMAIN, status=status), selector=signing, rotation=rotation, records={})


def rotate(known: DkimKeys, *, immediately: bool = False, **arguments: Any) -> RotationChange:
    values: dict[str, Any] = {"new_key": KEY, "selector": "", "overlap": OVERLAP, "now": NOW} | arguments
    return rotate_key(known, immediately=immediately, **values)


# --- Selectors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "selector"),
    [
        ("postroom", "postroom-20240210-9f3a"),
        ("mail.2024", "mail.2024-20240210-9f3a"),
        ("x" * 63, "x" * 49 + "-20240210-9f3a"),
        ("x" * 48 + ".abc", "x" * 48 + "-20240210-9f3a"),
    ],
)
def test_a_new_selector_has_the_date_and_a_random_suffix(base: str, selector: str) -> None:
    assert new_selector(base, NOW, "9f3a") == selector
    assert len(selector) <= MAX_SELECTOR


def test_the_next_record_is_no_required_one() -> None:
    assert (NEXT.kind, NEXT.level, NEXT.status) == ("dkim_next", RecordLevel.RECOMMENDED, RecordStatus.UNKNOWN_STATUS)
    assert NEXT.dns_name == f"new._domainkey.{DOMAIN.name}."
    assert NEXT.dns_value == records()["dkim"].dns_value.replace("S0VZ", "TkVX")


# --- Calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("immediately", [False, True])
def test_a_rotation_starts_with_a_new_key(immediately: bool) -> None:
    assert needs_key(keys())
    change = rotate(keys(), immediately=immediately)
    assert change == RotationChange(new_key=KEY, switch=SWITCH if immediately else None, look_up=True)
    assert "a private key" not in repr(change)


@pytest.mark.parametrize("selector", ["", "new"])
def test_a_rotation_that_waits_for_its_record_continues_with_its_key(selector: str) -> None:
    assert not needs_key(keys(PENDING))
    assert rotate(keys(PENDING), selector=selector, new_key=None) == RotationChange(look_up=True)
    assert rotate(keys(PENDING), selector=selector, immediately=True) == RotationChange(switch=SWITCH, look_up=True)


def test_a_rotation_with_another_selector_is_refused_while_one_waits() -> None:
    with pytest.raises(PreconditionFailed, match="rotation to selector new is in progress: publish its record, or"):
        rotate(keys(PENDING), selector="newer")


def test_another_rotation_is_refused_while_the_previous_key_is_kept() -> None:
    assert not needs_key(keys(SWITCHED))
    assert rotate(keys(SWITCHED), selector="new") == RotationChange()
    for selector in ("", "newer"):
        for immediately in (False, True):
            with pytest.raises(PreconditionFailed, match=r"post, is kept until 2024-02-17 12:30:00 UTC: rotate again"):
                rotate(keys(SWITCHED), selector=selector, immediately=immediately)


def test_the_selector_of_the_signing_key_is_refused() -> None:
    same = replace(KEY, selector="post")
    with pytest.raises(PreconditionFailed, match="post is the selector of the signing key"):
        rotate(keys(), new_key=same, selector="post")


def test_a_rotation_that_has_ended_since_it_was_seen_is_retried() -> None:
    with pytest.raises(TransientState):
        rotate(keys(), new_key=None)


@pytest.mark.parametrize("rotation", [None, PENDING, SWITCHED])
def test_nothing_is_rotated_or_canceled_in_a_domain_that_is_being_deleted(rotation: DkimRotation | None) -> None:
    deleting = keys(rotation, D.DELETING)
    assert not needs_key(deleting)
    for call in (rotate, require_cancelable):
        with pytest.raises(TransientState):
            call(deleting)


def test_a_rotation_is_canceled_until_its_key_signs() -> None:
    require_cancelable(keys())
    require_cancelable(keys(PENDING))
    with pytest.raises(PreconditionFailed, match="new signs already: rotate again after 2024-02-17"):
        require_cancelable(keys(SWITCHED))


# --- Lookups ----------------------------------------------------------------------------------------------------------


def settle(
    status: DomainStatus, findings: Mapping[str, Finding], known: Mapping[str, DomainRecord] = ROTATING
) -> DomainCheck:
    return settle_validation(
        domain(status), known, None, findings=findings, rival_tokens={}, interval=INTERVAL, policy=FREE, now=NOW
    )


@pytest.mark.parametrize("status", D)
def test_the_next_key_signs_once_its_record_is_found(status: DomainStatus) -> None:
    check = settle(status, {**ALL_VALID, "dkim_next": VALID})
    assert check.key_switch == KeySwitch(NOW, NOW + FREE.dkim_overlap)
    signing, previous = check.records["dkim"], check.records["dkim_previous"]
    assert (signing.id, signing.level, signing.status) == ("next", RecordLevel.REQUIRED, RecordStatus.VALID)
    assert (previous.id, previous.level) == (records()["dkim"].id, RecordLevel.RECOMMENDED)
    assert "dkim_next" not in check.records


@pytest.mark.parametrize("finding", [NOT_FOUND, WRONG, UNANSWERED])
def test_a_next_key_that_is_not_published_changes_nothing_but_its_record(finding: Finding) -> None:
    for status in D:
        check, regular = settle(status, {**ALL_VALID, "dkim_next": finding}), settle(status, ALL_VALID, records())
        assert check.key_switch is None
        assert check.domain == regular.domain
        assert {kind: record for kind, record in check.records.items() if kind != "dkim_next"} == regular.records
    assert settle(D.READY, {**ALL_VALID, "dkim_next": finding}).next_check_at == NOW + ROTATION_INTERVAL


def test_a_lookup_from_before_the_rotation_is_repeated_at_once() -> None:
    check = settle(D.READY, ALL_VALID)
    assert (check.key_switch, check.next_check_at) == (None, NOW)


def test_the_previous_key_is_not_required() -> None:
    known = {**records(), "dkim_previous": replace(NEXT, kind="dkim_previous")}
    check = settle(D.VALIDATING, {**ALL_VALID, "dkim_previous": NOT_FOUND}, known)
    assert (check.domain.status, check.key_switch) == (D.PROVISIONING, None)
    assert check.records["dkim_previous"].status is RecordStatus.NOT_FOUND


def test_a_domain_becomes_ready_with_the_next_key_alone() -> None:
    check = settle(D.VALIDATING, {**ALL_VALID, "dkim": NOT_FOUND, "dkim_next": VALID})
    assert check.domain.status is D.PROVISIONING
    assert check.records["dkim_previous"].status is RecordStatus.NOT_FOUND
