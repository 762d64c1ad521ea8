"""Every fact, checked against one recording."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.compatibility.deviations import DEVIATIONS
from tests.compatibility.facts import FACTS, Fact
from tests.compatibility.recording import Recording, recorded

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recording(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Recording]:
    async with recorded(tmp_path_factory.mktemp("postroom")) as exchanges:
        yield exchanges


@pytest.mark.parametrize("fact", [*FACTS, *DEVIATIONS], ids=str)
async def test_the_fact_holds(fact: Fact, recording: Recording) -> None:
    fact.check(recording)


async def test_no_answer_is_an_internal_error(recording: Recording) -> None:
    assert {label for label, exchange in recording.exchanges.items() if exchange.status >= 500} == set()
