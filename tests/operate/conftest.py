"""Fixtures: Postroom installed from its wheels, and steps of which none runs after one that failed."""

from collections.abc import Iterator

import pytest

from tests.operate.installation import Installation, install

FAILED = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheels of this clone, installed as documented."""
    return install(tmp_path_factory.mktemp("opt") / "postroom")


@pytest.fixture
def in_order(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a step of a day at once if one before it, on the same engine, has failed."""
    failed = request.session.stash.setdefault(FAILED, set())
    engine = request.node.callspec.params["day"]
    if engine in failed:
        pytest.fail("an earlier step has failed", pytrace=False)
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before:
        failed.add(engine)
