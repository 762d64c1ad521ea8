"""The repository against its contract, on every engine."""

from .contract import RepositoryContract


class TestRepository(RepositoryContract):
    """The SQL repository, on each engine of conftest.py."""
