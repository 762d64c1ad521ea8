"""What storage/repository.py promises, held against a repository over a clean store of any engine.

Nothing here knows an engine: an engine joins in conftest.py, with one fixture that makes a clean store.
"""

from tests.storage.contract.admin_keys import AdminKeysContract
from tests.storage.contract.administration import OperationsContract
from tests.storage.contract.aliases import AliasesContract
from tests.storage.contract.domains import DomainsContract
from tests.storage.contract.lists import ListsContract
from tests.storage.contract.mailboxes import MailboxesContract
from tests.storage.contract.sequences import SequencesContract
from tests.storage.contract.tenancy import TenancyContract
from tests.storage.contract.transactions import TransactionsContract
from tests.storage.contract.work import WorkContract


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
