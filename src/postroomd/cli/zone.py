"""DNS records in the form of a zone file (RFC 1035, section 5)."""

from collections.abc import Iterable, Mapping
from typing import Any

MAX_STRING = 255  # octets of one character string of a TXT record (RFC 1035, section 3.3)
TTL = 3_600  # seconds


def zone_lines(name: str, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a zone file for the records of a domain, with the state of each as a comment."""
    lines = [f"; The DNS records of {name}, to copy into its zone", f"$ORIGIN {name}.", f"$TTL {TTL}"]
    for record in records:
        state = record["status"].replace("unknown_status", "not looked up")
        lines += [f"; {record['record']}: {record['level']}, {state}", zone_line(record)]
    return lines


def zone_line(record: Mapping[str, Any]) -> str:
    """Return the line of a zone file for one record."""
    kind = record["dns_type"].removesuffix("_dns_type").upper()
    value = quoted(record["dns_value"]) if kind == "TXT" else record["dns_value"]
    return f"{record['dns_name']} IN {kind} {value}"


def quoted(text: str) -> str:
    """Return a text as the quoted strings of a TXT record, of at most 255 octets each."""
    octets = text.encode()
    parts = [octets[start : start + MAX_STRING] for start in range(0, len(octets), MAX_STRING)] or [b""]
    return " ".join(f'"{"".join(map(_octet, part))}"' for part in parts)


def _octet(value: int) -> str:
    character = chr(value)
    if character in '"\\':
        return f"\\{character}"
    return character if 0x20 <= value < 0x7F else f"\\{value:03}"
