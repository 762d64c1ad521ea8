"""The repository against its contract, on every engine."""

from tests.storage.contract import RepositoryContract


class TestRepository(RepositoryContract):
    """The SQL repository, on each engine of conftest.py."""
