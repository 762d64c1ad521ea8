"""Domains and their DNS records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.model import Domain, DomainRecord
from postroomd.domain.queries import DomainQuery, Page
from postroomd.storage.protocols.rules import DomainRule


@dataclass(frozen=True, slots=True)
class DomainSecrets:
    """What a domain keeps to itself: its validation token and its DKIM key (PKCS #8, PEM). Never served."""

    validation_token: str
    dkim_selector: str
    dkim_private_key: str

    def __repr__(self) -> str:
        return "DomainSecrets(…)"


class Domains(Protocol):
    """The domains of tenants, and their DNS records."""

    async def create(
        self, context: CallContext, domain: Domain, records: Sequence[DomainRecord], secrets: DomainSecrets
    ) -> Domain:
        """Store a new domain. Raises NotFound for its project, Conflict where the organization has the name."""

    async def get(self, context: CallContext, domain_id: str) -> Domain:
        """One domain. Raises NotFound."""

    async def list(self, context: CallContext, query: DomainQuery) -> Page[Domain]:
        """One page of domains."""

    async def records(self, context: CallContext, domain_id: str) -> Mapping[str, DomainRecord]:
        """A domain's DNS records by kind. Raises NotFound."""

    async def begin_validation(self, context: CallContext, domain_id: str, rule: DomainRule, now: datetime) -> Domain:
        """Apply a rule to a domain, and ask the worker to look its records up. Raises NotFound."""

    async def delete(self, context: CallContext, domain_id: str, rule: DomainRule, now: datetime) -> Domain:
        """Apply a rule that deletes a domain, and delete all its mailboxes and aliases with it. Raises NotFound."""
