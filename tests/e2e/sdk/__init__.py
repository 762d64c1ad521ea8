"""The official Python SDKs, `scaleway` and `scaleway-async`, against Postroom started by its command line."""

import pytest

# These modules assert on behalf of the tests.
pytest.register_assert_rewrite(f"{__name__}.contract", f"{__name__}.client", f"{__name__}.instances")
