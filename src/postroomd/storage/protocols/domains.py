"""Storage of domains and their DNS records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.model import Domain, DomainRecord
from postroomd.domain.policy import DEFAULT_QUOTAS, Quotas
from postroomd.domain.queries import DomainQuery, Page
from postroomd.storage.protocols.rules import DomainDeletionRule, DomainRule

NO_INTERVAL = timedelta(0)


@dataclass(frozen=True, slots=True)
class DomainSecrets:
    """The validation token and the private DKIM key (PEM, PKCS #8) of a domain. No method returns them."""

    validation_token: str
    dkim_selector: str
    dkim_private_key: str

    def __repr__(self) -> str:
        return "DomainSecrets(…)"


class Domains(Protocol):
    """The domains of a tenant and their DNS records."""

    async def create(
        self,
        context: CallContext,
        domain: Domain,
        records: Sequence[DomainRecord],
        secrets: DomainSecrets,
        quotas: Quotas = DEFAULT_QUOTAS,
    ) -> Domain:
        """Store and return a new domain.

        Raises NotFound for its project, Conflict if the organization has registered the name, QuotaExceeded if it has
        too many domains.
        """

    async def require_quota(self, context: CallContext, quotas: Quotas) -> None:
        """Raise QuotaExceeded if the organization can have no further domain: before expensive work for one."""

    async def get(self, context: CallContext, domain_id: str) -> Domain:
        """Return a domain. Raises NotFound."""

    async def is_ready(self, name: str) -> bool:
        """Whether any tenant has a domain of this stored name with status `ready`: what its DNS shows to everyone."""

    async def list(self, context: CallContext, query: DomainQuery) -> Page[Domain]:
        """Return one page of domains."""

    async def records(self, context: CallContext, domain_id: str) -> Mapping[str, DomainRecord]:
        """Return a domain's DNS records by kind, as `validating` while the domain is. Raises NotFound."""

    async def begin_validation(
        self,
        context: CallContext,
        domain_id: str,
        rule: DomainRule,
        now: datetime,
        min_interval: timedelta = NO_INTERVAL,
    ) -> Domain:
        """Apply a rule to a domain, make its DNS lookup due, and return the domain. Raises NotFound.

        The lookup is due at `now`, or `min_interval` after the last one if that is later. If one is requested already,
        it keeps its due time.
        """

    async def delete(self, context: CallContext, domain_id: str, rule: DomainDeletionRule, now: datetime) -> Domain:
        """Apply a rule that deletes a domain, and return the domain. Raises NotFound.

        Its mailboxes, aliases and forwardings become `deleting` in the same transaction. The rule may be applied twice:
        with the number of mailboxes before and after their rows are locked.
        """
