"""Random writes: batches of mailboxes, aliases and deletions, each identified by the names it creates or deletes."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from random import SystemRandom
from typing import Any

from postroom.v1alpha1 import alias_pb2, mailbox_pb2

BATCH_SIZE = 3
PASSWORD = "correct horse battery staple"  # noqa: S105 - of test mailboxes
RANDOM = SystemRandom()


class Kind(StrEnum):
    """The kind of a write."""

    MAILBOXES = "mailboxes"
    ALIAS = "alias"
    DELETION = "deletion"


@dataclass(frozen=True, slots=True)
class Write:
    """One call, with the addresses that it creates or the id of the mailbox that it deletes."""

    kind: Kind
    rpc: str
    request: Any
    names: tuple[str, ...]

    def ids(self, response: Any) -> tuple[str, ...]:
        """Return the ids in a response, in the order of `names`."""
        resources = response.mailboxes if self.kind is Kind.MAILBOXES else [response]
        return tuple(resource.id for resource in resources)


class WriteGenerator:
    """Generates writes that never conflict with each other, to the given domains, id -> name.

    Local parts are numbered in ascending order, so that later addresses sort after earlier ones.
    """

    def __init__(self, domains: Mapping[str, str]) -> None:
        self._domains = list(domains.items())
        self._numbers = count(1)
        self._for_aliases: list[str] = []
        self._for_deletion: deque[str] = deque()

    def add_mailboxes(self, mailbox_ids: Sequence[str]) -> None:
        """Use the mailboxes of a created batch: the first for aliases, the others for deletions."""
        first, *others = mailbox_ids
        self._for_aliases.append(first)
        self._for_deletion.extend(others)

    def random(self) -> Write:
        """Return a write of a random kind; mostly batches, because only they could be stored in part."""
        number = RANDOM.random()
        if number < 0.2 and self._for_aliases:
            return self.alias(RANDOM.choice(self._for_aliases))
        if number < 0.4 and self._for_deletion:
            return self.deletion()
        return self.batch()

    def batch(self, size: int = BATCH_SIZE) -> Write:
        """Return the creation of a batch of mailboxes in a random domain."""
        return self.mailboxes([f"m{next(self._numbers):08}" for _ in range(size)], RANDOM.choice(self._domains))

    def mailboxes(self, local_parts: Sequence[str], domain: tuple[str, str] | None = None) -> Write:
        """Return the creation of mailboxes in a domain, (id, name); by default, the first one."""
        domain_id, domain_name = domain or self._domains[0]
        parameters = mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters
        request = mailbox_pb2.BatchCreateMailboxesRequest(
            domain_id=domain_id,
            mailboxes=[parameters(local_part=local_part, password=PASSWORD) for local_part in local_parts],
        )
        names = tuple(f"{local_part}@{domain_name}" for local_part in local_parts)
        return Write(Kind.MAILBOXES, "BatchCreateMailboxes", request, names)

    def alias(self, mailbox_id: str, local_part: str | None = None) -> Write:
        """Return the creation of an alias. Its name is its local part, since its domain is the mailbox's."""
        local_part = local_part or f"a{next(self._numbers):08}"
        request = alias_pb2.CreateAliasRequest(mailbox_id=mailbox_id, local_part=local_part)
        return Write(Kind.ALIAS, "CreateAlias", request, (local_part,))

    def deletion(self) -> Write:
        """Return the deletion of a mailbox that no other write uses. Raises IndexError if there is none."""
        mailbox_id = self._for_deletion.popleft()
        request = mailbox_pb2.DeleteMailboxRequest(mailbox_id=mailbox_id)
        return Write(Kind.DELETION, "DeleteMailbox", request, (mailbox_id,))
