"""What storage/repository.py promises, held against a repository over a clean store of any engine.

Nothing here knows an engine: an engine joins in conftest.py, with one fixture that makes a clean store.
"""

from .aliases import AliasesContract
from .domains import DomainsContract
from .mailboxes import MailboxesContract
from .operations import OperationsContract
from .sequences import SequencesContract
from .tenancy import TenancyContract
from .transactions import TransactionsContract
from .work import WorkContract


class RepositoryContract(
    TenancyContract,
    DomainsContract,
    MailboxesContract,
    AliasesContract,
    WorkContract,
    OperationsContract,
    TransactionsContract,
    SequencesContract,
):
    """The whole contract. Its tests ask for the fixture `repository`: one over an empty, migrated database."""
