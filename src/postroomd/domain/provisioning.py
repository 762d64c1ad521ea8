"""What the mail platform is asked for, and what comes of its answers."""

from datetime import datetime
from typing import TypeAlias

from postroomd.domain.model import Alias, Domain, DomainStatus, Mailbox
from postroomd.domain.operations import Provision

Subject: TypeAlias = Domain | Mailbox | Alias
"""What the mail platform works on."""


def confirm_provision(
    provision: Provision, subject: Subject | None, domain_status: DomainStatus, *, now: datetime
) -> tuple[Provision, Subject | None]:
    """The work done, and what it was about as it is then; None where that goes, or is gone already.

    Raises PreconditionFailed for one that is void.
    """
    raise NotImplementedError


def fail_provision(
    provision: Provision, subject: Subject | None, domain_status: DomainStatus, *, reason: str, now: datetime
) -> tuple[Provision, Subject | None]:
    """The work to be tried again later: what it is about stays as it is.

    Raises PreconditionFailed for one that is confirmed or void.
    """
    raise NotImplementedError
