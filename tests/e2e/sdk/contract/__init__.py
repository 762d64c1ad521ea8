"""What the SDKs may rely on, whatever the engine: a test module of an engine's own takes it over and says where to run.

Its fixtures: `instance`, a running Postroom that the module's tests share, and `private_instance`, one that a test may
break.
"""

from tests.e2e.sdk.contract.errors import Errors
from tests.e2e.sdk.contract.lists import Lists
from tests.e2e.sdk.contract.secrets import Secrets
from tests.e2e.sdk.contract.tenants import Tenants
from tests.e2e.sdk.contract.walk import Walk


class SdkContract(Walk, Lists, Errors, Tenants, Secrets):
    """All of it, by topic."""
