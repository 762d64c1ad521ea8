"""The storage on every engine: its contract, and what each engine adds."""

import pytest

# These modules contain assertions of the tests, whose failures need the same detail.
pytest.register_assert_rewrite(f"{__name__}.contract")
