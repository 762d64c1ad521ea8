"""The rotation of a domain's DKIM key, without interrupting the signatures of its mail.

A rotation begins with the next key: its record is published beside that of the signing key, which goes on signing. Once
the domain's DNS servers have the next key's record, that key signs, and the record of the previous one stays published
for the overlap period, so that mail in transit is verified. Then the worker erases the previous key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName, TransientState
from postroomd.domain.model import DnsType, Domain, DomainRecord, DomainStatus, RecordLevel, RecordStatus
from postroomd.domain.records import DKIM_KIND, NEXT_DKIM_KIND, PREVIOUS_DKIM_KIND, Finding, Outcome, dkim_record

MAX_SELECTOR = 63
ROTATION_INTERVAL = timedelta(hours=1)  # between lookups of a ready domain whose next key is not published


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimRotation:
    """A rotation in progress. `selector` is that of the key that does not sign: the next one, then the previous one.

    The next key has signed since `switched_at`, and the previous one is erased at `retires_at`; both are None before.
    """

    domain_id: str
    organization_id: str
    selector: str
    started_at: datetime
    switched_at: datetime | None = None
    retires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimKeys:
    """The DKIM keys of a domain: the selector of the signing key, the rotation if one is in progress, and the records.

    `records` has those of the kinds `dkim`, `dkim_next` and `dkim_previous` that the domain has.
    """

    domain: Domain
    selector: str
    rotation: DkimRotation | None
    records: Mapping[str, DomainRecord]

    @property
    def domain_id(self) -> str:
        """The id of the domain."""
        return self.domain.id

    @property
    def organization_id(self) -> str:
        """The organization of the domain."""
        return self.domain.organization_id

    @property
    def project_id(self) -> str:
        """The project of the domain."""
        return self.domain.project_id


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDkimKey:
    """A key to sign with next: its selector, its private key (PEM, PKCS #8), and its record."""

    selector: str
    private_pem: str = field(repr=False)
    record: DomainRecord


@dataclass(frozen=True, slots=True)
class KeySwitch:
    """The next key signs from `at` on, and the previous one is erased at `retires_at`."""

    at: datetime
    retires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationChange:
    """What a call changes: it starts a rotation with a new key, switches to the next key, or requests a lookup."""

    new_key: NewDkimKey | None = None
    switch: KeySwitch | None = None
    look_up: bool = False


def new_selector(base: str, now: datetime, suffix: str) -> str:
    """Return a selector for a new key, such as `postroom-20261126-9f3a`: no earlier key may have had it.

    `suffix` is random. A selector that is used again could be verified with the former key, from a cache.
    """
    ending = f"-{now:%Y%m%d}-{suffix}"
    return base[: MAX_SELECTOR - len(ending)].rstrip("-.") + ending


def next_record(domain: Domain, selector: str, public_key: str, *, record_id: str, now: datetime) -> DomainRecord:
    """Return the record of a domain's next key. It is no required one: until it is published the other key signs."""
    dns_name, dns_value = dkim_record(domain.name, selector, public_key)
    return DomainRecord(
        id=record_id,
        domain_id=domain.id,
        kind=NEXT_DKIM_KIND,
        status=RecordStatus.UNKNOWN_STATUS,
        level=RecordLevel.RECOMMENDED,
        dns_type=DnsType.TXT_DNS_TYPE,
        dns_name=dns_name,
        dns_value=dns_value,
        error=None,
        created_at=now,
        updated_at=now,
    )


def needs_key(keys: DkimKeys) -> bool:
    """Whether a rotation of the domain would begin with a new key."""
    return keys.rotation is None and keys.domain.status is not DomainStatus.DELETING


def rotate_key(
    keys: DkimKeys, *, new_key: NewDkimKey | None, selector: str, immediately: bool, overlap: timedelta, now: datetime
) -> RotationChange:
    """Return what a rotation changes; `immediately` switches to the next key whether it is published or not.

    A rotation whose next key waits for its record continues with that key, and its record is looked up. `selector` is
    the one that the caller asked for, "" for any. Raises TransientState for a domain that is being deleted,
    PreconditionFailed if a rotation with another selector is in progress.
    """
    _require_not_deleting(keys.domain)
    rotation = keys.rotation
    switch = KeySwitch(now, now + overlap) if immediately else None
    if rotation is None:
        if new_key is None:
            # Another rotation has ended since the caller saw it in progress.
            raise TransientState(ResourceName("domain", keys.domain.id), "changing")
        if new_key.selector == keys.selector:
            raise _in_use(keys, f"{new_key.selector} is the selector of the signing key: choose another one")
        return RotationChange(new_key=new_key, switch=switch, look_up=True)
    if rotation.switched_at is None:
        if selector and selector != rotation.selector:
            raise _in_use(
                keys,
                f"a rotation to selector {rotation.selector} is in progress: publish its record, or cancel it first",
            )
        return RotationChange(switch=switch, look_up=True)
    if selector and selector == keys.selector:
        return RotationChange()
    raise _in_use(
        keys,
        f"the key was rotated to {keys.selector}, and the previous one, {rotation.selector}, is kept until"
        f" {_text(rotation.retires_at)}: rotate again after that",
    )


def require_cancelable(keys: DkimKeys) -> None:
    """Raise TransientState or PreconditionFailed if a domain's rotation can't be canceled."""
    _require_not_deleting(keys.domain)
    if keys.rotation is not None and keys.rotation.switched_at is not None:
        raise _in_use(keys, f"{keys.selector} signs already: rotate again after {_text(keys.rotation.retires_at)}")


def can_switch(records: Mapping[str, DomainRecord], findings: Mapping[str, Finding]) -> bool:
    """Whether a domain's next key is published: its mail can be signed with it."""
    found = findings.get(NEXT_DKIM_KIND)
    return NEXT_DKIM_KIND in records and found is not None and found.outcome is Outcome.PRESENT


KINDS_AFTER = {DKIM_KIND: PREVIOUS_DKIM_KIND, NEXT_DKIM_KIND: DKIM_KIND}
"""What the switch makes of the kinds of records, in an order in which a domain never has two of one kind."""

LEVELS = {DKIM_KIND: RecordLevel.REQUIRED, PREVIOUS_DKIM_KIND: RecordLevel.RECOMMENDED}
"""The importance of the records of the signing key and of the previous one."""


def switched_records(records: Mapping[str, DomainRecord]) -> Mapping[str, DomainRecord]:
    """Return a domain's records by kind once the next key signs."""
    kinds = {kind: KINDS_AFTER.get(kind, kind) for kind in records}
    return {
        kind: replace(records[before], kind=kind, level=LEVELS.get(kind, records[before].level))
        for before, kind in kinds.items()
    }


def switched_findings(findings: Mapping[str, Finding]) -> Mapping[str, Finding]:
    """Return findings by the kinds that the records have once the next key signs."""
    return {KINDS_AFTER.get(kind, kind): finding for kind, finding in findings.items()}


def _require_not_deleting(domain: Domain) -> None:
    if domain.status is DomainStatus.DELETING:
        raise TransientState(ResourceName("domain", domain.id), domain.status)


def _in_use(keys: DkimKeys, message: str) -> PreconditionFailed:
    return PreconditionFailed(ResourceName("domain", keys.domain.id), Precondition.UNKNOWN_PRECONDITION, message)


def _text(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC" if instant else ""
