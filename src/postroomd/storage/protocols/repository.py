"""All protocols together, as one object."""

from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.storage.protocols.administration import Administration
from postroomd.storage.protocols.aliases import Aliases
from postroomd.storage.protocols.domains import Domains
from postroomd.storage.protocols.mailboxes import Mailboxes
from postroomd.storage.protocols.tenancy import AdminKeys, Tenancy
from postroomd.storage.protocols.work import Work


class Repository(Protocol):
    """All that is stored, by room."""

    @property
    def tenancy(self) -> Tenancy:
        """Organizations, projects and API keys."""

    @property
    def admin_keys(self) -> AdminKeys:
        """The operator's keys."""

    @property
    def domains(self) -> Domains:
        """Domains and their DNS records."""

    @property
    def mailboxes(self) -> Mailboxes:
        """Mailboxes."""

    @property
    def aliases(self) -> Aliases:
        """Aliases."""

    @property
    def work(self) -> Work:
        """The worker's side of all of these."""

    @property
    def administration(self) -> Administration:
        """The operator's side of all of these."""

    async def require_unused(self, context: CallContext) -> None:
        """Raise Replayed where the call under way has been done before: a look ahead of its work.

        Raises InvalidArguments where its idempotency key was used for another request.
        """

    async def ping(self) -> None:
        """Ask the database for an answer. Raises StorageUnavailable."""

    async def close(self) -> None:
        """Let running transactions finish, then close every connection."""
