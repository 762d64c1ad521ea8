"""How a domain's DNS records are checked, as the worker sees it."""

from collections.abc import Mapping
from typing import Protocol

from postroomd.domain.model import Domain, DomainRecord, RecordStatus
from postroomd.domain.records import Finding


class Prober(Protocol):
    """Looks a domain's DNS records up."""

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        """What was found of each record, by kind."""


class TrustingProber:
    """Takes every record as present: for trials, where there is no DNS."""

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        """Every record as valid."""
        return {kind: Finding(RecordStatus.VALID) for kind in records}
