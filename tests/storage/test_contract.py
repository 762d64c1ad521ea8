"""The SQL repository fulfills the storage contract on every engine."""

from tests.storage.contract import RepositoryContract


class TestRepository(RepositoryContract):
    """The SQL repository, on each engine in turn."""
