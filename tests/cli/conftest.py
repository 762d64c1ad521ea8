"""One running Postroom per module of tests of the commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import CHEAP, Commands, commands_of
from tests.e2e.support import place_database, start, terminate


@pytest.fixture(scope="module")
def postroom(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Commands]:
    """The commands of a Postroom on SQLite. A module's FLAGS are further flags of `up`."""
    flags = getattr(request.module, "FLAGS", ())
    directory = tmp_path_factory.mktemp("postroom")
    place_database(sqlite_template, directory)
    up = start(directory, "--admin-address=127.0.0.1:0", *CHEAP, *flags)
    try:
        yield commands_of(up)
    finally:
        terminate(up)
