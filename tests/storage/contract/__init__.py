"""What storage/repository.py promises, held against a repository over a clean store of any engine.

Nothing here knows an engine: an engine joins in conftest.py, with one fixture that makes a clean store.
"""

from .admin_keys import AdminKeysContract
from .aliases import AliasesContract
from .domains import DomainsContract
from .lists import ListsContract
from .mailboxes import MailboxesContract
from .operations import OperationsContract
from .sequences import SequencesContract
from .tenancy import TenancyContract
from .transactions import TransactionsContract
from .work import WorkContract


class RepositoryContract(
    TenancyContract,
    AdminKeysContract,
    DomainsContract,
    MailboxesContract,
    AliasesContract,
    WorkContract,
    OperationsContract,
    TransactionsContract,
    SequencesContract,
    ListsContract,
):
    """The whole contract. Its tests ask for the fixture `repository`: one over an empty, migrated database."""
