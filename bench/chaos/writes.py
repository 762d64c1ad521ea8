"""What is written while a fault comes: batches of mailboxes, aliases, deletions; each known by the names it makes."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from random import SystemRandom
from typing import Any

from postroom.v1alpha1 import alias_pb2, mailbox_pb2

BATCH = 3
PASSWORD = "correct horse battery staple"  # noqa: S105 # of no one
CHANCE = SystemRandom()


class Kind(StrEnum):
    """What a write does."""

    MAILBOXES = "mailboxes"
    ALIAS = "alias"
    DELETION = "deletion"


@dataclass(frozen=True, slots=True)
class Write:
    """One write: its RPC, its request, and what it names: the addresses that it makes, or the id that it deletes."""

    kind: Kind
    rpc: str
    request: Any
    names: tuple[str, ...]

    def ids(self, response: Any) -> tuple[str, ...]:
        """The ids in an answer to it, in the order of its names."""
        made = response.mailboxes if self.kind is Kind.MAILBOXES else [response]
        return tuple(one.id for one in made)


class Writes:
    """Makes writes that never collide. Addresses are numbered upwards, so that later ones sort behind earlier ones.

    `domains` are names by id.
    """

    def __init__(self, domains: Mapping[str, str]) -> None:
        self._domains = list(domains.items())
        self._numbers = count(1)
        self._may_have_aliases: list[str] = []
        self._may_be_deleted: deque[str] = deque()

    def learn(self, mailbox_ids: Sequence[str]) -> None:
        """Take in what a batch has made: one mailbox to give aliases to, the others to delete."""
        kept, *others = mailbox_ids
        self._may_have_aliases.append(kept)
        self._may_be_deleted.extend(others)

    def any(self) -> Write:
        """A write of some kind: batches mostly, since they are what could be left half done."""
        chance = CHANCE.random()
        if chance < 0.2 and self._may_have_aliases:
            return self.alias(CHANCE.choice(self._may_have_aliases))
        if chance < 0.4 and self._may_be_deleted:
            return self.deletion()
        return self.batch()

    def batch(self, size: int = BATCH) -> Write:
        """New mailboxes of one domain."""
        return self.mailboxes([f"m{next(self._numbers):08}" for _ in range(size)], CHANCE.choice(self._domains))

    def mailboxes(self, local_parts: Sequence[str], domain: tuple[str, str] | None = None) -> Write:
        """Mailboxes with these local parts, in a domain, (id, name), or in the first."""
        domain_id, domain_name = domain or self._domains[0]
        parameters = mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters
        request = mailbox_pb2.BatchCreateMailboxesRequest(
            domain_id=domain_id,
            mailboxes=[parameters(local_part=local_part, password=PASSWORD) for local_part in local_parts],
        )
        names = tuple(f"{local_part}@{domain_name}" for local_part in local_parts)
        return Write(Kind.MAILBOXES, "BatchCreateMailboxes", request, names)

    def alias(self, mailbox_id: str, local_part: str | None = None) -> Write:
        """A new alias of a mailbox. Its domain is the mailbox's: the name is its local part alone."""
        local_part = local_part or f"a{next(self._numbers):08}"
        request = alias_pb2.CreateAliasRequest(mailbox_id=mailbox_id, local_part=local_part)
        return Write(Kind.ALIAS, "CreateAlias", request, (local_part,))

    def deletion(self) -> Write:
        """The deletion of a mailbox that is there, and that nothing else concerns. Raises IndexError."""
        mailbox_id = self._may_be_deleted.popleft()
        request = mailbox_pb2.DeleteMailboxRequest(mailbox_id=mailbox_id)
        return Write(Kind.DELETION, "DeleteMailbox", request, (mailbox_id,))
