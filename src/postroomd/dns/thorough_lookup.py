"""Lookups at every server of a domain, for records whose absence or presence has consequences.

A secondary server may be behind the primary, so that one server's response settles nothing.
"""

from collections.abc import Sequence

from postroomd.dns.evaluation import evaluate, unanswered
from postroomd.dns.lookup import DomainLookup
from postroomd.dns.record_lookup import RDATA_TYPES, look_up_record, planned_name
from postroomd.domain.model import DomainRecord
from postroomd.domain.records import Finding, Outcome

_PRESENCE_FIRST = (Outcome.PRESENT, Outcome.WRONG, Outcome.ABSENT)
_ABSENCE_FIRST = (Outcome.ABSENT, Outcome.WRONG, Outcome.PRESENT)


async def look_up_token(lookup: DomainLookup, record: DomainRecord) -> Finding:
    """Return the finding for a validation token: it is lacking only if every server that responds lacks it.

    The ownership of the name depends on it. If a server could not be asked, because of a limit, the lookup counts as
    not answered.
    """
    first = evaluate(record, await look_up_record(lookup, record))
    if not first.lacking:
        return first
    chosen, unasked = await _look_up_everywhere(lookup, record, first, _PRESENCE_FIRST)
    return unanswered(record, unasked) if unasked and chosen.lacking else chosen


async def look_up_next_key(lookup: DomainLookup, record: DomainRecord) -> Finding:
    """Return the finding for the next DKIM key: it is present only if every server that responds has it.

    Mail is signed with it from then on, and its receivers may ask any of the servers.
    """
    first = evaluate(record, await look_up_record(lookup, record))
    if first.outcome is not Outcome.PRESENT:
        return first
    chosen, unasked = await _look_up_everywhere(lookup, record, first, _ABSENCE_FIRST)
    return unanswered(record, unasked) if unasked and not chosen.lacking else chosen


async def _look_up_everywhere(
    lookup: DomainLookup, record: DomainRecord, first: Finding, precedence: Sequence[Outcome]
) -> tuple[Finding, str]:
    """Return the finding with the foremost outcome of all servers, and why some could not be asked, or ""."""
    every = await lookup.resolve_at_every_server(planned_name(record), RDATA_TYPES[record.dns_type])
    findings = [first, *(evaluate(record, result) for result in every.results)]
    return min(findings, key=lambda finding: precedence.index(finding.outcome)), every.unasked
