"""Check that an SPF record authorizes our hosts, following include and redirect (RFC 7208).

pyspf and checkdmarc were evaluated: both block, query through resolvers of their own, and thereby bypass the deadline,
the address checks and the query budget here. pyspf evaluates one client address at a time; checkdmarc requires httpx,
requests and cryptography. So the terms are walked here, over `DomainLookup`.
"""

from collections.abc import Awaitable, Callable, Sequence

import dns.exception
import dns.name
from dns.rdatatype import RdataType

from postroomd.dns.fault import Fault, missing, warning
from postroomd.dns.formatting import quote
from postroomd.dns.result import LookupResult, LookupStatus
from postroomd.dns.spf import LOOKUP_MECHANISMS, SpfSyntaxError, Term, expand_macros, parse_spf, spf_records
from postroomd.domain.model import RecordStatus

MAX_LOOKUPS = 10  # RFC 7208, section 4.6.4; also the maximum of MX records of an mx mechanism
MAX_VOID_LOOKUPS = 2
MAX_RECORD_LENGTH = 8_192  # octets; receivers limit the data that they evaluate as well (RFC 7208, section 11.1)

Resolve = Callable[[dns.name.Name, RdataType], Awaitable[LookupResult]]

_NON_PASS_RESULTS = {"-": "fail", "~": "softfail"}
_VOID = frozenset({LookupStatus.NXDOMAIN, LookupStatus.NO_DATA})


class _PermanentError(Exception):
    """The evaluation ends in a permerror. The text is a clause."""


async def spf_fault(resolve: Resolve, name: str, expected: str, texts: Sequence[str]) -> Fault | None:
    """Return the fault unless the one SPF record of `name` passes the include of the expected record."""
    records = spf_records(texts)
    if not records:
        return missing("no TXT record of the name starts with `v=spf1`")
    if len(records) > 1:
        return Fault(
            f"{len(records)} SPF records are published, a permanent error (RFC 7208, section 4.5): merge them into one",
            values=records,
        )
    (include,) = (term.domain for term in parse_spf(expected) if term.name == "include")
    walk = _Walk(resolve, name, include)
    try:
        qualifier = await walk.record(name, records[0], path=(_key(name),))
    except _PermanentError as error:
        return Fault(f"{error}, a permanent error (RFC 7208)", values=records)
    if qualifier in _NON_PASS_RESULTS:
        problem = f"the include's qualifier `{qualifier}` makes the result {_NON_PASS_RESULTS[qualifier]}"
        return Fault(problem, values=records)
    if qualifier is not None:
        return warning("; ".join([*walk.macros, *walk.failures]), records[0]) if walk.macros or walk.failures else None
    if walk.after_all:
        return Fault("the include follows `all` and is ignored (RFC 7208, section 5.1)", values=records)
    if walk.failures:
        return Fault(walk.failures[0], RecordStatus.UNKNOWN_STATUS, records)
    if walk.macros:
        return warning(f"{walk.macros[0]}, so it is not known whether the record includes ours", records[0])
    return Fault("the SPF record does not include ours", values=records)


class _Walk:
    """One walk over a record and those it refers to, counting lookups as if no mechanism matched."""

    def __init__(self, resolve: Resolve, sender_domain: str, include: str) -> None:
        self._resolve = resolve
        self._sender_domain = sender_domain
        self._include = _key(include)
        self._lookups = 0
        self._void_lookups = 0
        self.macros: list[str] = []
        self.failures: list[str] = []
        self.after_all = False

    async def record(self, domain: str, record: str, path: tuple[str, ...]) -> str | None:
        """Return the qualifier with which the record of `domain` matches our include, or None. Raises _PermanentError.

        `path` holds the names from the validated domain to this one.
        """
        if len(record) > MAX_RECORD_LENGTH:
            raise _PermanentError(
                f"the SPF record of {domain} has {len(record)} octets (maximum {MAX_RECORD_LENGTH}): shorten it"
            )
        try:
            terms = parse_spf(record)
        except SpfSyntaxError as error:
            raise _PermanentError(f"the SPF record of {domain} has an invalid term {quote(str(error))}") from error
        result: str | None = None
        for position, term in enumerate(terms):
            if term.name == "all":
                following = [after for after in terms[position + 1 :] if after.name == "include"]
                self.after_all |= any(self._is_ours(after, domain) for after in following)
                return result
            if term.name in LOOKUP_MECHANISMS and not term.modifier:
                matched = await self._mechanism(term, domain, path)
                result = result or matched
        redirect = next((term for term in terms if term.modifier and term.name == "redirect"), None)
        if redirect is not None:
            self._count(redirect, domain)
            redirected = await self._redirected(redirect, domain, path)
            result = result or redirected  # the first match decides (RFC 7208, section 4.6.2)
        return result

    async def _redirected(self, redirect: Term, domain: str, path: tuple[str, ...]) -> str | None:
        if self._is_ours(redirect, domain):
            await self._count_ours()
            return "+"
        return await self._target(redirect, domain, path)

    async def _mechanism(self, term: Term, domain: str, path: tuple[str, ...]) -> str | None:
        self._count(term, domain)
        if term.name == "include":
            if self._is_ours(term, domain):
                await self._count_ours()
                return term.qualifier
            return term.qualifier if await self._target(term, domain, path) == "+" else None
        if term.name != "ptr":
            await self._check_void(term, domain)
        return None

    async def _target(self, term: Term, domain: str, path: tuple[str, ...]) -> str | None:
        """Walk the record that an include or redirect refers to."""
        target = self._expand(term, domain)
        if target is None:
            return None
        if _key(target) in path:
            raise _PermanentError(f"the SPF term {quote(term.text)} of {domain} leads back to {target}")
        result = await self._lookup(term, target, RdataType.TXT)
        if result is None:
            return None
        records = spf_records(result.values)
        if len(records) != 1:
            number = "no SPF record" if not records else f"{len(records)} SPF records"
            raise _PermanentError(f"the SPF term {quote(term.text)} of {domain} refers to {target}, which has {number}")
        return await self.record(target, records[0], (*path, _key(target)))

    async def _check_void(self, term: Term, domain: str) -> None:
        """Look up the target of an a, mx or exists mechanism, which counts as void if it has no records."""
        target = self._expand(term, domain)
        if target is None:
            return
        if term.name == "mx":
            result = await self._lookup(term, target, RdataType.MX)
            if result is not None and len(result.values) > MAX_LOOKUPS:
                raise _PermanentError(f"the SPF term {quote(term.text)} of {domain} has more than 10 MX records")
            return
        await self._lookup(term, target, RdataType.A, *([RdataType.AAAA] if term.name == "a" else []))

    async def _lookup(self, term: Term, target: str, *rdtypes: RdataType) -> LookupResult | None:
        """Return the first result with records; None if there is none, after counting it as void, or if it failed."""
        try:
            name = dns.name.from_text(target)
        except (dns.exception.DNSException, UnicodeError):
            raise _PermanentError(f"the SPF term {quote(term.text)} expands to an invalid name") from None
        for rdtype in rdtypes:
            result = await self._resolve(name, rdtype)
            if result.status is LookupStatus.FOUND:
                return result
            if result.status not in _VOID:
                cause = result.error or "its CNAME records do not end"
                self.failures.append(f"the lookup of SPF term {quote(term.text)} failed: {cause}")
                return None
        self._void_lookups += 1
        if self._void_lookups > MAX_VOID_LOOKUPS:
            raise _PermanentError(
                f"the SPF term {quote(term.text)} exceeds the {MAX_VOID_LOOKUPS} lookups without records allowed"
            )
        return LookupResult(status=LookupStatus.NO_DATA, chain=(target,))

    async def _count_ours(self) -> None:
        """Count the lookups within our own record, as far as it can be read; its faults are not the domain's."""
        try:
            result = await self._resolve(dns.name.from_text(self._include), RdataType.TXT)
            (record,) = spf_records(result.values)
            terms = parse_spf(record)
        except (dns.exception.DNSException, SpfSyntaxError, ValueError):
            return
        for term in terms:
            if term.name in LOOKUP_MECHANISMS and not term.modifier:
                self._count(term, self._include)

    def _count(self, term: Term, domain: str) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _PermanentError(
                f"the SPF term {quote(term.text)} of {domain} needs more than the {MAX_LOOKUPS} lookups allowed"
            )

    def _expand(self, term: Term, domain: str) -> str | None:
        target = expand_macros(term.domain or domain, domain=domain, sender_domain=self._sender_domain)
        if target is None:
            self.macros.append(f"the macro in SPF term {quote(term.text)} can't be evaluated without a message")
        return target

    def _is_ours(self, term: Term, domain: str) -> bool:
        target = expand_macros(term.domain, domain=domain, sender_domain=self._sender_domain)
        return target is not None and _key(target) == self._include


def _key(name: str) -> str:
    return name.lower().removesuffix(".")
