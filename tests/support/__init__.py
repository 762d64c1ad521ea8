"""Shared by several test packages: factories, databases, servers, waiting, metric scraping."""

import pytest

# These modules assert on behalf of the tests.
for module in ("database_state", "metrics", "waiting", "walk"):
    pytest.register_assert_rewrite(f"{__name__}.{module}")
