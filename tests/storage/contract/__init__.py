"""The contract of storage/protocols as tests, one class per protocol.

The tests are independent of the engine: the fixture `clean_store` (tests/support/stores.py) provides an empty database
on each engine in turn.
"""

from tests.storage.contract.admin_keys import AdminKeysContract
from tests.storage.contract.administration import AdministrationContract
from tests.storage.contract.aliases import AliasesContract
from tests.storage.contract.audit import AuditContract
from tests.storage.contract.clocks import ClocksContract
from tests.storage.contract.diagnosis import DiagnosisContract
from tests.storage.contract.dkim import DkimContract
from tests.storage.contract.domain_work import DomainWorkContract
from tests.storage.contract.domains import DomainsContract
from tests.storage.contract.forwardings import ForwardingsContract
from tests.storage.contract.lists import ListsContract
from tests.storage.contract.mailbox_work import MailboxWorkContract
from tests.storage.contract.mailboxes import MailboxesContract
from tests.storage.contract.ownership import OwnershipContract
from tests.storage.contract.purges import PurgesContract
from tests.storage.contract.quotas import QuotasContract
from tests.storage.contract.secrets import SecretsContract
from tests.storage.contract.sequences import SequencesContract
from tests.storage.contract.storage_quotas import StorageQuotasContract
from tests.storage.contract.tenancy import TenancyContract
from tests.storage.contract.transactions import TransactionsContract


class RepositoryContract(
    TenancyContract,
    AdminKeysContract,
    DomainsContract,
    MailboxesContract,
    QuotasContract,
    AliasesContract,
    ForwardingsContract,
    DomainWorkContract,
    MailboxWorkContract,
    PurgesContract,
    OwnershipContract,
    AdministrationContract,
    TransactionsContract,
    StorageQuotasContract,
    SequencesContract,
    ListsContract,
    ClocksContract,
    AuditContract,
    DiagnosisContract,
    DkimContract,
    SecretsContract,
):
    """All contracts. The fixture `repository` is a repository over an empty, migrated database."""
