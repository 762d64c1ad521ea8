"""One running Postroom per module of tests of the commands."""

from collections.abc import Iterator

import pytest

from tests.cli.running import CHEAP, Commands, commands_of
from tests.e2e.support import start, terminate


@pytest.fixture(scope="module")
def postroom(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The commands of a Postroom on SQLite. A module's FLAGS are further flags of `up`."""
    flags = getattr(request.module, "FLAGS", ())
    up = start(tmp_path_factory.mktemp("postroom"), "--admin-address=127.0.0.1:0", *CHEAP, *flags)
    try:
        yield commands_of(up)
    finally:
        terminate(up)
