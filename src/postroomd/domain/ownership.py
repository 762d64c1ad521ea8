"""The rules of validation and of the ownership of a name, by the results of DNS lookups.

The organization whose validation token is in the name's DNS owns it. A ready domain whose token is lacking at every
server that responds is released after the grace period, or at once if the token of another organization's domain is
present. It is looked up periodically all the same, and returns by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zlib import crc32

from postroomd.domain.dkim import ROTATION_INTERVAL, KeySwitch, can_switch, switched_findings, switched_records
from postroomd.domain.domains import move_domain
from postroomd.domain.events import DomainEvent as Event
from postroomd.domain.model import Domain, DomainRecord, RecordStatus
from postroomd.domain.model import DomainStatus as D
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import ProvisionKind, provision_id
from postroomd.domain.records import (
    NAME_OWNED_ELSEWHERE,
    NEXT_DKIM_KIND,
    VALIDATION_KIND,
    Finding,
    Outcome,
    validation_event,
)

ABSENT_TOKEN_INTERVAL = timedelta(minutes=15)  # between lookups of a ready domain whose token is absent

_JITTER = 0.1  # of the interval between lookups, in both directions
_RETURNING = frozenset({D.WAITING_VALIDATION, D.VALIDATION_FAILED})
_UNANSWERED = Finding(RecordStatus.UNKNOWN_STATUS)


@dataclass(frozen=True, slots=True)
class Registration:
    """A domain and its records by kind."""

    domain: Domain
    records: Mapping[str, DomainRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainCheck:
    """A domain after a step of its validation, the records that changed, by kind, and when the next lookup is due.

    `looked_up_at` is the time of the lookup, None for a step without one. `former_owner` is another organization's
    domain that has lost the name to this one. With `key_switch`, the domain's next DKIM key signs from now on, and
    `records` are those after the switch.
    """

    domain: Domain
    records: Mapping[str, DomainRecord] = field(default_factory=dict)
    next_check_at: datetime | None
    looked_up_at: datetime | None = None
    former_owner: "DomainCheck | None" = None
    key_switch: KeySwitch | None = None


def settle_validation(
    domain: Domain,
    records: Mapping[str, DomainRecord],
    owner: Registration | None,
    *,
    findings: Mapping[str, Finding],
    rival_tokens: Mapping[str, Finding],
    interval: timedelta,
    policy: LifecyclePolicy,
    now: datetime,
    looked_up: bool = True,
) -> DomainCheck:
    """Return the domain and its changed records after a lookup, from what was found of them by kind.

    Without `looked_up`, the findings are assumed, and the check has no time of a lookup.

    `owner` is the domain of another organization that owns the name, if there is one, and `rival_tokens` are the
    findings for the tokens of other organizations' domains of this name, by id, looked up after the domain's.

    A validating domain moves by `validation_event`. If its token is present and another domain owns the name, that one
    is released if its token is lacking; otherwise the validating domain moves to validation_failed. A domain that was
    released returns once all required records are valid. Any other domain keeps its status. If the next DKIM key of a
    rotation is published, it signs from now on, and its record is the required one.
    """
    key_switch = None
    if can_switch(records, findings):
        key_switch = KeySwitch(now, now + policy.dkim_overlap)
        records, findings = switched_records(records), switched_findings(findings)
    token = findings.get(VALIDATION_KIND, _UNANSWERED)
    event = validation_event(records, findings)
    contending = domain.status is D.VALIDATING or _is_returning(domain)
    former_owner = None
    if contending and owner is not None and token.outcome is Outcome.PRESENT:
        owners_token = rival_tokens.get(owner.domain.id, _UNANSWERED)
        if owners_token.lacking:
            former_owner = _release_owner(owner, owners_token, interval, policy, now)
        elif event is not Event.RECORDS_INVALID:
            event = Event.RECORDS_INVALID
            findings = {**findings, VALIDATION_KIND: Finding(RecordStatus.INVALID, NAME_OWNED_ELSEWHERE)}
    moved = _track_token(domain, token, now)
    if domain.status is D.VALIDATING:
        moved = move_domain(moved, event, now)
    elif _is_returning(domain) and event is Event.RECORDS_VALID:
        moved = move_domain(moved, Event.OWNERSHIP_RESTORED, now)
    elif domain.status is D.READY and token.lacking:
        rivals_present = any(finding.outcome is Outcome.PRESENT for finding in rival_tokens.values())
        if rivals_present or _grace_is_over(moved, policy, now):
            moved = release_domain(moved, policy, now)
    if moved.status is D.PROVISIONING and domain.released_at is not None and policy.provisioning:
        moved = replace(moved, provision_id=provision_id(domain, ProvisionKind.RESTORE))
    return DomainCheck(
        domain=moved,
        records=changed_records(records, findings, now),
        next_check_at=_next_check_with_rotation(moved, records, findings, interval, policy, now),
        looked_up_at=now if looked_up else None,
        former_owner=former_owner,
        key_switch=key_switch,
    )


def changed_records(
    records: Mapping[str, DomainRecord], findings: Mapping[str, Finding], now: datetime
) -> Mapping[str, DomainRecord]:
    """Return the records whose findings differ from their last ones, with the new ones."""
    return {
        kind: replace(record, status=finding.status, error=finding.error, updated_at=now)
        for kind, record in records.items()
        if (finding := findings.get(kind)) and (record.status, record.error) != (finding.status, finding.error)
    }


def release_domain(domain: Domain, policy: LifecyclePolicy, now: datetime) -> Domain:
    """Return a domain that has lost its name, with its suspension requested of the mail platform, if there is one."""
    return replace(
        move_domain(domain, Event.OWNERSHIP_LOST, now),
        released_at=now,
        provision_id=provision_id(domain, ProvisionKind.SUSPEND) if policy.provisioning else None,
    )


def activate_domain(domain: Domain, interval: timedelta, policy: LifecyclePolicy, now: datetime) -> DomainCheck:
    """Return a provisioning domain as ready, with its next lookup due after the interval."""
    ready = replace(move_domain(domain, Event.ACTIVATE, now), released_at=None)
    return DomainCheck(domain=ready, next_check_at=next_check_at(ready, interval, policy, now))


def next_check_at(domain: Domain, interval: timedelta, policy: LifecyclePolicy, now: datetime) -> datetime | None:
    """Return when a domain that is ready, or was released, is due for the next lookup; None for any other domain.

    That is after the interval ± 10 %, or sooner while a ready domain lacks its token: after ABSENT_TOKEN_INTERVAL, and
    at the end of the grace period. The jitter depends on the id, so that domains which were looked up together spread
    out.
    """
    if domain.status is not D.READY and not _is_returning(domain):
        return None
    fraction = crc32(domain.id.encode()) / 2**32
    regular = now + interval * (1 - _JITTER + 2 * _JITTER * fraction)
    if domain.status is not D.READY or domain.token_absent_since is None:
        return regular
    ends = domain.token_absent_since + policy.release_grace
    return min(regular, now + ABSENT_TOKEN_INTERVAL, ends if ends > now else regular)


def _next_check_with_rotation(
    domain: Domain,
    records: Mapping[str, DomainRecord],
    findings: Mapping[str, Finding],
    interval: timedelta,
    policy: LifecyclePolicy,
    now: datetime,
) -> datetime | None:
    """Return when a domain is due for the next lookup: sooner while its next DKIM key is not published."""
    regular = next_check_at(domain, interval, policy, now)
    if regular is None or NEXT_DKIM_KIND not in records:
        return regular
    # A lookup that was running when the rotation began has not asked for its record.
    return min(regular, now + ROTATION_INTERVAL) if NEXT_DKIM_KIND in findings else now


def _is_returning(domain: Domain) -> bool:
    """Return whether a domain that was released waits for its name."""
    return domain.released_at is not None and domain.status in _RETURNING


def _track_token(domain: Domain, token: Finding, now: datetime) -> Domain:
    """Return a domain that owns or owned its name with the absence of its token; any other domain unchanged.

    A lookup without an answer does not end an absence, but the time since the last lookup does not count.
    """
    owned = domain.status is D.READY or (domain.released_at is not None and domain.status is not D.DELETING)
    since, checked_at = domain.token_absent_since, domain.token_checked_at
    if not owned or (since is None and not token.lacking):
        return domain
    if token.outcome is Outcome.PRESENT:
        return replace(domain, token_absent_since=None, token_checked_at=None)
    if since is None:
        since = now
    elif not token.lacking and checked_at is not None:
        since += max(now - checked_at, timedelta(0))
    return replace(domain, token_absent_since=since, token_checked_at=now)


def _grace_is_over(domain: Domain, policy: LifecyclePolicy, now: datetime) -> bool:
    return domain.token_absent_since is not None and domain.token_absent_since + policy.release_grace <= now


def _release_owner(
    owner: Registration, token: Finding, interval: timedelta, policy: LifecyclePolicy, now: datetime
) -> DomainCheck:
    absent = replace(
        owner.domain, token_absent_since=owner.domain.token_absent_since or now, token_checked_at=now
    )  # of a provisioning domain, too, which has had no lookup since its token was present
    released = release_domain(absent, policy, now)
    return DomainCheck(
        domain=released,
        records=changed_records(owner.records, {VALIDATION_KIND: token}, now),
        next_check_at=next_check_at(released, interval, policy, now),
    )
