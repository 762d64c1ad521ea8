"""The storage as its callers see it: small protocols, whose docstrings name what each call raises.

Every call may also raise StorageUnavailable; a write that raised it has left nothing behind. A write is one
transaction, which runs to its end once it has begun, even when its caller is canceled.

Calls for a tenant take a Scope, and see what it reaches alone: anything else answers as what does not exist.
A *rule* is a pure function from a stored value to the value it should become. It is applied inside the transaction
that read the value, so that no other write comes in between; what it raises ends the transaction and reaches the
caller; returning the same object writes nothing. It may be applied more than once, and must give the same answer.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from postroomd.domain.model import (
    AdminKey,
    Alias,
    AliasQuery,
    ApiKey,
    Domain,
    DomainQuery,
    DomainRecord,
    DomainStatus,
    ListedMailbox,
    Mailbox,
    MailboxQuery,
    Organization,
    Page,
    Project,
    Scope,
)
from postroomd.domain.operations import Payment, Provision, Slice, Tombstone, Transition
from postroomd.domain.provisioning import Subject
from postroomd.domain.records import Finding
from postroomd.domain.terms import Terms

DomainRule = Callable[[Domain], Domain]
MailboxRule = Callable[[Mailbox, DomainStatus], Mailbox]
AliasRule = Callable[[Alias], Alias]
MailboxStep = Callable[[Mailbox, DomainStatus], Mailbox | None]
PurgeRule = Callable[[Mailbox], Mailbox | None]
DomainPurgeRule = Callable[[Domain], Domain | None]
PaymentRule = Callable[[Payment, Mailbox | None, DomainStatus], tuple[Payment, Mailbox | None]]
ProvisionRule = Callable[[Provision, Subject | None, DomainStatus], tuple[Provision, Subject | None]]
"""A rule of the operator's side is given the subject too, None where it is gone; it answers None for one that goes."""


@dataclass(frozen=True, slots=True)
class DomainSecrets:
    """What a domain keeps to itself: its validation token and its DKIM key (PKCS #8, PEM). Never served."""

    validation_token: str
    dkim_selector: str
    dkim_private_key: str

    def __repr__(self) -> str:
        return "DomainSecrets(…)"


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A mailbox to create in a domain that the transaction has yet to read.

    `make` gives the mailbox in that domain, and may raise; `password_hash` is stored beside it.
    """

    make: Callable[[Domain], Mailbox]
    password_hash: str

    def __repr__(self) -> str:
        return "NewMailbox(…)"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """How long after a purge an address can't be used again within its organization, and what time it is."""

    length: timedelta
    now: datetime


def quarantine_of(terms: Terms, now: datetime) -> Quarantine | None:
    """The quarantine that is in force, if there is one."""
    return Quarantine(terms.quarantine, now) if terms.quarantine else None


class RowFails(Exception):
    """What the worker was to do with a row, and it alone, has failed unexpectedly."""

    def __init__(self, row_id: str) -> None:
        super().__init__(row_id)
        self.row_id = row_id


@dataclass(frozen=True, slots=True)
class MailboxClaim:
    """A mailbox that a worker has been given, to move before another is given it.

    `generation` tells this claim from the next one: once there is one, this one moves nothing.
    """

    mailbox: Mailbox
    domain_status: DomainStatus
    generation: int
    failures: int


@dataclass(frozen=True, slots=True)
class DomainClaim:
    """A domain whose records a worker has been given to look up, as with MailboxClaim."""

    domain: Domain
    records: Mapping[str, DomainRecord]
    generation: int
    failures: int


@dataclass(frozen=True, slots=True)
class Due:
    """When there is something to do next: domains to look up, and all else. None: nothing is to come."""

    look_ups: datetime | None
    steps: datetime | None
    at_once: bool = False
    """Whether there are steps besides that wait for no instant."""

    def has_look_ups(self, now: datetime) -> bool:
        """Whether there is a domain to look up by now."""
        return self.look_ups is not None and self.look_ups <= now

    def has_steps(self, now: datetime) -> bool:
        """Whether there is anything else to do by now."""
        return self.at_once or (self.steps is not None and self.steps <= now)


class Tenancy(Protocol):
    """Organizations, projects and API keys."""

    async def create_organization(self, organization: Organization, first_project: Project) -> None:
        """Store a new organization with its first project."""

    async def create_project(self, project: Project) -> None:
        """Store a new project. Raises NotFound for an unknown organization."""

    async def get_project(self, scope: Scope, project_id: str) -> Project:
        """One project. Raises NotFound."""

    async def list_projects(self, organization_id: str | None = None) -> Sequence[Project]:
        """The projects of one organization, or of all: oldest first."""

    async def create_key(self, key: ApiKey, secret_hash: bytes) -> None:
        """Store a new key. Raises NotFound where its organization, or a project of it, is unknown."""

    async def list_keys(self, organization_id: str | None = None) -> Sequence[ApiKey]:
        """The keys of one organization, or of all: oldest first."""

    async def revoke_key(self, access_key: str, now: datetime) -> ApiKey:
        """Revoke a key; one that is revoked stays as it is. Raises NotFound."""

    async def find_key(self, secret_hash: bytes) -> ApiKey | None:
        """The key with this digest of its secret, revoked and expired ones included."""


class AdminKeys(Protocol):
    """The operator's own keys, which are no tenant's."""

    async def create(self, key: AdminKey, secret_hash: bytes) -> None:
        """Store a new key. Raises Conflict where there is one of its name, a revoked one included."""

    async def list(self) -> Sequence[AdminKey]:
        """All of them: oldest first."""

    async def revoke(self, name: str, now: datetime) -> AdminKey:
        """Revoke a key; one that is revoked stays as it is. Raises NotFound."""

    async def find(self, secret_hash: bytes) -> AdminKey | None:
        """The key with this digest of its secret, revoked and expired ones included."""


class Domains(Protocol):
    """The domains of tenants, and their DNS records."""

    async def create(
        self, scope: Scope, domain: Domain, records: Sequence[DomainRecord], secrets: DomainSecrets
    ) -> Domain:
        """Store a new domain. Raises NotFound for its project, Conflict where the organization has the name."""

    async def get(self, scope: Scope, domain_id: str) -> Domain:
        """One domain. Raises NotFound."""

    async def list(self, scope: Scope, query: DomainQuery) -> Page[Domain]:
        """One page of domains."""

    async def records(self, scope: Scope, domain_id: str) -> Mapping[str, DomainRecord]:
        """A domain's DNS records by kind. Raises NotFound."""

    async def begin_validation(self, scope: Scope, domain_id: str, rule: DomainRule, now: datetime) -> Domain:
        """Apply a rule to a domain, and ask the worker to look its records up. Raises NotFound."""

    async def delete(self, scope: Scope, domain_id: str, rule: DomainRule, now: datetime) -> Domain:
        """Apply a rule that deletes a domain, and delete all its mailboxes and aliases with it. Raises NotFound."""


class Mailboxes(Protocol):
    """The mailboxes of tenants."""

    async def create(
        self, scope: Scope, domain_id: str, batch: Sequence[NewMailbox], quarantine: Quarantine | None = None
    ) -> Sequence[Mailbox]:
        """Store new mailboxes of one domain, all or none, and take their project's quota with them.

        Raises NotFound for the domain, Conflict with every address that is taken or in quarantine, QuotaExceeded.
        """

    async def get(self, scope: Scope, mailbox_id: str) -> Mailbox:
        """One mailbox. Raises NotFound."""

    async def shown(self, scope: Scope, mailbox_id: str) -> ListedMailbox:
        """What callers see of one mailbox. Raises NotFound."""

    async def list(self, scope: Scope, query: MailboxQuery) -> Page[Mailbox]:
        """One page of mailboxes."""

    async def listed(self, scope: Scope, query: MailboxQuery) -> Page[ListedMailbox]:
        """The same page, of what callers see: it is read in a quarter of the time."""

    async def change(
        self, scope: Scope, mailbox_id: str, rule: MailboxRule, password_hash: str | None = None
    ) -> Mailbox:
        """Apply a rule to a mailbox and the status of its domain, and store the password. Raises NotFound."""


class Aliases(Protocol):
    """The aliases of tenants."""

    async def create(
        self, scope: Scope, mailbox_id: str, make: Callable[[Mailbox], Alias], quarantine: Quarantine | None = None
    ) -> Alias:
        """Store a new alias, made from its mailbox.

        Raises NotFound for the mailbox, Conflict for an address that is taken or in quarantine.
        """

    async def get(self, scope: Scope, alias_id: str) -> Alias:
        """One alias. Raises NotFound."""

    async def list(self, scope: Scope, query: AliasQuery) -> Page[Alias]:
        """One page of aliases."""

    async def change(self, scope: Scope, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule to an alias. Raises NotFound."""

    async def delete(self, scope: Scope, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule that deletes an alias, and remove it unless its mail platform has to first. Raises NotFound.

        The platform has to where the rule leaves it with a `provision_id`.
        """


class Work(Protocol):
    """What the worker does by itself, for every tenant. Limits bound one transaction, not the work.

    What takes a worker long is claimed for a while, the lease; no other worker is given it until that is over. What
    another has been given since is changed by none of the former's steps.

    What takes rows passes over those that it is told to skip, by their ids. A fault of one row keeps no other waiting:
    where a chunk fails unexpectedly, one row is taken alone, and RowFails says which one it is that fails.
    """

    async def next_due(self, *, platform: bool = True) -> Due:
        """When there is something to do next: one look, which an index answers.

        Without a mail platform what one was asked for is to be done too.
        """

    async def claim_domains(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[DomainClaim]:
        """Domains whose records are to be looked up by now, the longest waiting first. Raises RowFails."""

    async def settle_validation(
        self, claim: DomainClaim, findings: Mapping[str, Finding], interval: timedelta, now: datetime
    ) -> Domain:
        """Store what was found of a domain's records by kind, and move the domain where it still waits for that.

        A validating domain goes on to provisioning where every required record is valid and no other organization
        has the name, else to validation_failed; a ready one stays, and is looked up again after the interval. Answers
        the domain as it is then; as it was where it is gone, or another worker has it.
        """

    async def put_off_domain(self, claim: DomainClaim, until: datetime) -> None:
        """Count a failed look-up, and have the domain looked up again at an instant."""

    async def finish_provisioning(
        self, interval: timedelta, now: datetime, limit: int, skipping: Collection[str] = ()
    ) -> int:
        """Make provisioned domains ready, and the mailboxes due that wait for them.

        The mail platform is asked for their aliases. Their records are looked up again after the interval. Answers of
        how many domains some of that was done: a domain that has more aliases than the limit takes several calls.
        Raises RowFails.
        """

    async def claim_mailboxes(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[MailboxClaim]:
        """Mailboxes whose next step is due, the longest overdue first. Raises RowFails."""

    async def advance(self, claim: MailboxClaim, rule: MailboxStep, now: datetime) -> bool:
        """Apply a rule to a mailbox in one transaction; None purges it.

        False where it is gone, or another worker has it.
        """

    async def put_off_mailbox(self, claim: MailboxClaim, until: datetime) -> None:
        """Count a failed step, and have the mailbox taken up again at an instant."""

    async def purge_domains(
        self,
        mailbox_rule: PurgeRule,
        domain_rule: DomainPurgeRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> int:
        """Apply a rule to up to `limit` mailboxes of a deleting domain, or one to such a domain that has none left.

        None purges them. Answers how many mailboxes and domains changed or went. Raises RowFails for the domain.
        """

    async def forget_answers(self, now: datetime, limit: int) -> int:
        """Drop answers under idempotency keys that have expired. Answers how many."""


class Operations(Protocol):
    """The operator's side of every tenant's mailboxes. A cursor is "" for the start of a list, and opaque."""

    async def pending_payments(self, cursor: str, limit: int) -> Slice[Payment]:
        """Payments that are pending, refused or overdue, oldest first, but for those of mailboxes that are to go.

        Raises InvalidArguments for a cursor that no list gave.
        """

    async def settle_payment(self, payment_id: str, rule: PaymentRule) -> Payment:
        """Apply a rule to a payment and its mailbox. Raises NotFound."""

    async def pending_provisions(self, now: datetime, cursor: str, limit: int) -> Slice[Provision]:
        """The mail platform's work that may be tried by now, the longest due first. Raises as `pending_payments`."""

    async def settle_provision(self, provision_id: str, rule: ProvisionRule) -> Provision:
        """Apply a rule to a piece of work and what it is about. Raises NotFound."""

    async def change_mailbox(self, mailbox_id: str, rule: MailboxRule) -> Mailbox:
        """Apply a rule to a mailbox of any tenant. Raises NotFound, also for a purged one."""

    async def get_mailbox(self, mailbox_id: str) -> Mailbox | Tombstone:
        """A mailbox of any tenant, or what is left of it. Raises NotFound for one that never was."""

    async def transitions(self, mailbox_id: str, after: int, limit: int) -> Sequence[Transition]:
        """A mailbox's history beyond a revision, in order. Raises NotFound for a mailbox that never was."""

    async def mailboxes_with_address(self, address: str) -> Sequence[str]:
        """The ids of all mailboxes that have the address, or had it when they were purged: newest last."""


class Repository(Protocol):
    """All that is stored, by room."""

    @property
    def tenancy(self) -> Tenancy:
        """Organizations, projects and API keys."""

    @property
    def admin_keys(self) -> AdminKeys:
        """The operator's keys."""

    @property
    def domains(self) -> Domains:
        """Domains and their DNS records."""

    @property
    def mailboxes(self) -> Mailboxes:
        """Mailboxes."""

    @property
    def aliases(self) -> Aliases:
        """Aliases."""

    @property
    def work(self) -> Work:
        """The worker's side of all of these."""

    @property
    def operations(self) -> Operations:
        """The operator's side of all of these."""

    async def require_unused(self, scope: Scope) -> None:
        """Raise Replayed where the call under way has been done before: a look ahead of its work.

        Raises InvalidArguments where its idempotency key was used for another request.
        """

    async def ping(self) -> None:
        """Ask the database for an answer. Raises StorageUnavailable."""

    async def close(self) -> None:
        """Let running transactions finish, then close every connection."""
