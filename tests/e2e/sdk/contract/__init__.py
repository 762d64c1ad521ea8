"""What the SDKs may rely on, whatever the engine: a test module of an engine's own takes it over and says where to run.

Its fixtures: `instance`, a running Postroom that the module's tests share, and `private_instance`, one that a test may
break.
"""

from .errors import Errors
from .lists import Lists
from .secrets import Secrets
from .tenants import Tenants
from .walk import Walk


class SdkContract(Walk, Lists, Errors, Tenants, Secrets):
    """All of it, by topic."""
