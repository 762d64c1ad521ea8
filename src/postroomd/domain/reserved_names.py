"""Domain names that are reserved: special-use names, and those in the domains of the operator's mail hosts."""

from collections.abc import Iterator
from dataclasses import dataclass

from postroomd.domain.domain_names import is_public_suffix

# IANA's special-use domain names (RFC 6761, RFC 6762, RFC 7686, RFC 9476), and `internal`, which ICANN reserved for
# private use in 2024. `arpa` contains all others of them, such as home.arpa and in-addr.arpa. `test` and `example` are
# left out: nobody can own a name below them, and trials and documentation need them.
SPECIAL_USE = ("alt", "arpa", "internal", "invalid", "local", "localhost", "onion")


@dataclass(frozen=True, slots=True)
class ReservedNames:
    """The names that cannot be registered: those below `SPECIAL_USE`, and those at and below the mail hosts' domains.

    The domain of the host `imap.mail.example` is `mail.example`; that of `imap.example` is the host itself, since
    `example` is a public suffix. `allowed` has the names that the operator excepts, with every name below them. All
    names are canonical.
    """

    mail_hosts: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()

    def reason(self, name: str) -> str | None:
        """Return why a canonical name is reserved, for the caller; None if it is not."""
        names = {name, *_above(name)}
        if not names.isdisjoint(self.allowed):
            return None
        if special := names.intersection(SPECIAL_USE):
            return (
                f"must not be below `{special.pop()}`, which is reserved for special use (RFC 6761): use another name"
            )
        if any(host in names or self._domain(host) in names for host in self.mail_hosts):
            return "must not be in the domain of the service's own mail hosts: use another name"
        return None

    @staticmethod
    def _domain(host: str) -> str:
        _, _, domain = host.partition(".")
        return host if is_public_suffix(domain) else domain


def _above(name: str) -> Iterator[str]:
    """Yield the names above a name."""
    while name := name.partition(".")[2]:
        yield name
