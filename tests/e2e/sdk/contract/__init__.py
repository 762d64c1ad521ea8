"""Tests of the SDKs that run on each engine. A test module per engine subclasses SdkContract and creates databases.

Fixtures: `instance` is a running Postroom that the module's tests share; `private_instance` is one that a test may
break.
"""

from tests.e2e.sdk.contract.errors import Errors
from tests.e2e.sdk.contract.lists import Lists
from tests.e2e.sdk.contract.secrets import Secrets
from tests.e2e.sdk.contract.tenants import Tenants
from tests.e2e.sdk.contract.walk import Walk


class SdkContract(Walk, Lists, Errors, Tenants, Secrets):
    """All tests, by topic."""
