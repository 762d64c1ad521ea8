"""A sample of the fuzzers: `make test-attack`; POSTROOM_FUZZ_CASES and POSTROOM_FUZZ_SEED select another."""

import asyncio
import os
from pathlib import Path

from tests.fuzz.runner import SURFACES, fuzz
from tests.fuzz.target import running_target
from tests.support.waiting import block_until

CASES = int(os.environ.get("POSTROOM_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("POSTROOM_FUZZ_SEED", "1"))
ANSWERS = {
    "rest 200",
    "rest 400",
    "rest 401",
    "rest 404",
    "grpc 0",
    "grpc 3",
    "grpc 12",
    "grpc 16",
    "admin 0",
    "admin 5",
}
"""Some of those that must occur: the cases reach the RPCs."""


def test_no_case_harms_the_product(tmp_path: Path) -> None:
    with running_target(tmp_path) as target:
        before = target.remaining()
        report = asyncio.run(fuzz(target, dict.fromkeys(SURFACES, CASES // len(SURFACES)), SEED))
        assert not report.failures, "\n\n".join(report.failures)
        assert report.answers.keys() >= ANSWERS
        # No call and no connection of a case is left.
        block_until(lambda: all(count <= before[name] for name, count in target.remaining().items()))
