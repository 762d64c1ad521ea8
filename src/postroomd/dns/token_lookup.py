"""Lookup of the validation token, on which the ownership of a name depends."""

from postroomd.dns.evaluation import evaluate, unanswered
from postroomd.dns.lookup import DomainLookup
from postroomd.dns.record_lookup import RDATA_TYPES, look_up_record, planned_name
from postroomd.domain.model import DomainRecord
from postroomd.domain.records import Finding, Outcome

_PRECEDENCE = (Outcome.PRESENT, Outcome.WRONG, Outcome.ABSENT)


async def look_up_token(lookup: DomainLookup, record: DomainRecord) -> Finding:
    """Return the finding for a validation token: it is lacking only if every server that responds lacks it.

    A secondary server may be behind the primary. So one that lacks the token settles nothing, and all are asked; if one
    could not be asked, because of a limit, the lookup counts as not answered.
    """
    first = evaluate(record, await look_up_record(lookup, record))
    if not first.lacking:
        return first
    every = await lookup.resolve_at_every_server(planned_name(record), RDATA_TYPES[record.dns_type])
    findings = [first, *(evaluate(record, result) for result in every.results)]
    chosen = min(findings, key=lambda finding: _PRECEDENCE.index(finding.outcome))
    return unanswered(record, every.unasked) if every.unasked and chosen.lacking else chosen
