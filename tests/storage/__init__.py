"""The storage against its contract, on every engine."""

import pytest

# These modules assert on behalf of the tests: a failure there is to be told as fully.
pytest.register_assert_rewrite(f"{__name__}.contract", f"{__name__}.looks")
