"""Syntax of SPF records (RFC 7208, sections 4.5 to 7 and 12)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

import dns.exception
import dns.name

_VERSION = re.compile(r"v=spf1(?: |\Z)", re.IGNORECASE)
_MECHANISM = re.compile(r"(?P<qualifier>[+?~-]?)(?P<name>[a-z][a-z0-9]*)(?P<argument>[:/].*)?", re.IGNORECASE)
_MODIFIER = re.compile(r"(?P<name>[a-z][a-z0-9_.-]*)=(?P<argument>.*)", re.IGNORECASE)
_CIDR_LENGTH = r"(?:0|[1-9][0-9]?)"
_DUAL_CIDR = re.compile(rf"(?P<domain>.*?)(?:/(?P<v4>{_CIDR_LENGTH}))?(?://(?P<v6>{_CIDR_LENGTH}|1[0-9][0-9]))?")
_MACRO = re.compile(
    r"%(?:\{(?P<letter>[slodiphcrtv])(?P<digits>(?:[1-9][0-9]*)?)(?P<reverse>r?)(?P<delimiters>[-.+,/_=]*)\}|[%_-])",
    re.IGNORECASE,
)
_LITERALS = {"%%": "%", "%_": " ", "%-": "%20"}
_MAX_NAME_LENGTH = 253  # characters of a domain name
_TOP_LABEL = re.compile(r"(?=.*[a-z-])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.IGNORECASE)

LOOKUP_MECHANISMS = frozenset({"include", "a", "mx", "ptr", "exists"})
_MECHANISMS = LOOKUP_MECHANISMS | {"all", "ip4", "ip6"}


class SpfSyntaxError(Exception):
    """A term outside the grammar: a permanent error of the whole record. The text is the term."""


@dataclass(frozen=True, slots=True)
class Term:
    """A mechanism or modifier. `domain` is its domain-spec, macros unexpanded, or empty."""

    text: str
    name: str
    domain: str = ""
    qualifier: str = "+"
    modifier: bool = False


def spf_records(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts that are SPF records."""
    return tuple(text for text in texts if _VERSION.match(text))


def parse_spf(record: str) -> list[Term]:
    """Parse the terms of a record. Raises SpfSyntaxError."""
    terms = [_parse_term(text) for text in record.split(" ")[1:] if text]
    for name in ("redirect", "exp"):
        duplicates = [term for term in terms if term.modifier and term.name == name][1:]
        if duplicates:
            raise SpfSyntaxError(duplicates[0].text)
    return terms


def expand_macros(text: str, *, domain: str, sender_domain: str) -> str | None:
    """Return a domain-spec with its macros expanded; None if one depends on the message or the client.

    A name of more than 253 characters loses labels on the left (RFC 7208, section 7.3).
    """
    values = {"d": domain, "o": sender_domain}
    expanded: list[str] = []
    position = 0
    for match in _MACRO.finditer(text):
        expanded.append(text[position : match.start()])
        position = match.end()
        if match["letter"] is None:
            expanded.append(_LITERALS[match[0]])
        elif match["letter"].lower() in values:
            expanded.append(_transform(values[match["letter"].lower()], match))
        else:
            return None
    name = "".join([*expanded, text[position:]])
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    tail = name[-_MAX_NAME_LENGTH - 1 :]
    return tail.partition(".")[2] or tail


def _transform(value: str, match: re.Match[str]) -> str:
    """Split, reverse and shorten a macro's value (RFC 7208, section 7.3)."""
    labels = re.split("[" + re.escape(match["delimiters"] or ".") + "]", value)
    if match["reverse"]:
        labels.reverse()
    # Four digits exceed the labels of any name, and int() rejects thousands of them.
    return ".".join(labels[-int(match["digits"][:4]) :] if match["digits"] else labels)


def _parse_term(text: str) -> Term:
    if not text.isascii() or not text.isprintable():
        raise SpfSyntaxError(text)
    mechanism = _MECHANISM.fullmatch(text)
    if mechanism and mechanism["name"].lower() in _MECHANISMS:
        name, argument = mechanism["name"].lower(), mechanism["argument"] or ""
        return Term(text, name, _domain_of(text, name, argument), mechanism["qualifier"] or "+")
    modifier = _MODIFIER.fullmatch(text)
    if modifier is None:
        raise SpfSyntaxError(text)
    name, argument = modifier["name"].lower(), modifier["argument"]
    if name in {"redirect", "exp"}:
        _check_domain_spec(text, argument)
    elif "%" in _MACRO.sub("", argument):
        raise SpfSyntaxError(text)
    return Term(text, name, argument, modifier=True)


def _domain_of(text: str, name: str, argument: str) -> str:
    """Check a mechanism's argument and return its domain-spec."""
    if name in {"ip4", "ip6"}:
        _check_network(text, name, argument)
        return ""
    domain = argument
    if name in {"a", "mx"}:
        split = _DUAL_CIDR.fullmatch(argument)
        if split is None or int(split["v4"] or 0) > 32 or int(split["v6"] or 0) > 128:
            raise SpfSyntaxError(text)
        domain = split["domain"]
    if not domain and name in {"all", "a", "mx", "ptr"}:
        return ""
    if name == "all" or not domain.startswith(":"):
        raise SpfSyntaxError(text)
    _check_domain_spec(text, domain[1:])
    return domain[1:]


def _check_network(text: str, name: str, argument: str) -> None:
    address, slash, length = argument[1:].partition("/")
    try:
        if not argument.startswith(":") or "%" in address or (slash and not re.fullmatch(r"0|[1-9][0-9]{0,2}", length)):
            raise SpfSyntaxError(text)
        (IPv4Interface if name == "ip4" else IPv6Interface)(address + slash + length)
    except ValueError as error:
        raise SpfSyntaxError(text) from error


def _check_domain_spec(text: str, domain: str) -> None:
    """Raise SpfSyntaxError unless the domain-spec ends in a macro or in a top label after a dot (section 7.1)."""
    plain = _MACRO.sub("x", domain)
    if "%" in plain:
        raise SpfSyntaxError(text)
    ends_in_macro = any(match.end() == len(domain) and match["letter"] for match in _MACRO.finditer(domain))
    parent, dot, top = plain.removesuffix(".").rpartition(".")
    if not ends_in_macro and not (parent and dot and _TOP_LABEL.fullmatch(top)):
        raise SpfSyntaxError(text)
    if plain == domain:
        try:
            dns.name.from_text(domain)
        except (dns.exception.DNSException, UnicodeError) as error:
            raise SpfSyntaxError(text) from error
