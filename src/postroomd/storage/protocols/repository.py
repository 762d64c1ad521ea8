"""All storage protocols as one object."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.diagnosis import Finding
from postroomd.domain.model import Domain, DomainRecord
from postroomd.storage.protocols.administration import Administration
from postroomd.storage.protocols.aliases import Aliases
from postroomd.storage.protocols.audit import AuditLog
from postroomd.storage.protocols.clocks import Clocks
from postroomd.storage.protocols.dkim import DkimRotations, SigningKeys
from postroomd.storage.protocols.domains import Domains
from postroomd.storage.protocols.forwardings import Forwardings
from postroomd.storage.protocols.mailboxes import Mailboxes
from postroomd.storage.protocols.secrets import Secrets
from postroomd.storage.protocols.sessions import SessionEnds
from postroomd.storage.protocols.tenancy import AdminKeys, Tenancy
from postroomd.storage.protocols.work import Work


class Repository(Protocol):
    """The storage of one database."""

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
    def forwardings(self) -> Forwardings:
        """Forwardings, and their settings."""

    @property
    def work(self) -> Work:
        """The due work of the background worker."""

    @property
    def administration(self) -> Administration:
        """The operator's view of all tenants."""

    @property
    def audit(self) -> AuditLog:
        """The committed changes of all tenants and the operator."""

    @property
    def clocks(self) -> Clocks:
        """The workers' heartbeats, and the operator's acceptances of a clock."""

    @property
    def dkim_rotations(self) -> DkimRotations:
        """The rotations of domains' DKIM keys."""

    @property
    def secrets(self) -> Secrets:
        """The encryption of private DKIM keys."""

    @property
    def signing_keys(self) -> SigningKeys:
        """The private DKIM keys, for the mail server's signer."""

    @property
    def session_ends(self) -> SessionEnds:
        """Sessions on the mail server that have to end."""

    async def require_unused(self, context: CallContext) -> None:
        """Check the context's idempotency key before the call does expensive work.

        Raises Replayed if the call was committed before, InvalidArguments if the key was used for another request.
        """

    async def ping(self) -> None:
        """Run one statement on the database. Raises StorageUnavailable, with the reason if its files are at fault."""

    async def faults(self) -> Sequence[str]:
        """Return what the database lacks to isolate and serve tenants, for the operator; empty if it is intact.

        A database restored from a dump may lack what the dump does not hold. Raises StorageUnavailable.
        """

    async def diagnose(self, *, with_records: bool = True) -> Sequence[Finding]:
        """Return the findings on the database and the domains in it, for the operator.

        `with_records` includes the worker's findings on the records of each domain. Raises StorageUnavailable.
        """

    async def ready_domains(self, after: str, limit: int) -> Sequence[tuple[Domain, Mapping[str, DomainRecord]]]:
        """Return up to `limit` ready domains of any tenant with their records, after an id, "" for the first ones."""

    async def close(self) -> None:
        """Wait for running transactions, then close every connection."""
