"""The gRPC services, called by clients on loopback."""

import pytest

# This module asserts on behalf of the tests.
pytest.register_assert_rewrite(f"{__name__}.failures")
