"""The official Python SDKs, `scaleway` and `scaleway-async`, against Postroom as its command line starts it."""

import pytest

# These modules assert on behalf of the tests: a failure there is to be told as fully.
pytest.register_assert_rewrite(f"{__name__}.contract", f"{__name__}.client", f"{__name__}.instances")
