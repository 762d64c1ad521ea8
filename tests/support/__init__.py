"""Shared by several test packages: factories, databases, servers, waiting, metric scraping."""

import pytest

# These modules assert on behalf of the tests.
pytest.register_assert_rewrite(
    f"{__name__}.database_state", f"{__name__}.metrics", f"{__name__}.waiting", f"{__name__}.walk"
)
