"""Runs cases against a target, checks the product in between, and collects failures."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.checks import check_grpc, check_http, check_log
from tests.fuzz.exchange import exchange_http, exchange_http2, parse_responses
from tests.fuzz.grpc_cases import ADMIN_SERVICE, SERVICE, GrpcCase, Method, grpc_case, methods_of
from tests.fuzz.messages import PASSWORD
from tests.fuzz.rest_cases import LAST_REQUEST, RestCase, rest_case
from tests.fuzz.target import Target

CONCURRENCY = 24
CASES_PER_CHECK = 250
MAX_FAILURES = 20
SHOWN_BYTES = 4_000

Case = RestCase | GrpcCase
_METHODS: Mapping[str, list[Method]] = {"grpc": methods_of(SERVICE), "admin": methods_of(ADMIN_SERVICE)}
SURFACES = ("rest", "grpc", "admin")


@dataclass
class Report:
    """What became of a run: failures, each with its case, and answers by kind, such as `rest 400`."""

    failures: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


def make_case(surface: str, seed: int, number: int, target: Target) -> Case:
    """Return a case of a surface, from its seed and number."""
    random = Random(f"{surface} {seed} {number}")
    if surface == "rest":
        return rest_case(random, target.ids, target.token)
    token = target.admin_token if surface == "admin" else target.token
    return grpc_case(random, target.ids, token, _METHODS[surface])


async def run_case(surface: str, case: Case, target: Target, answers: Counter[str]) -> None:
    """Send a case, and check what comes back. Raises AssertionError."""
    if isinstance(case, RestCase):
        received = await exchange_http(*target.http_address, case.data + LAST_REQUEST)
        for response in parse_responses(received):
            answers[f"{surface} {response.status}"] += 1
            check_http(response)
        return
    answered = await exchange_http2(*target.grpc_addresses[surface], case.data, case.awaited)
    for stream in answered.streams.values():
        answers[f"{surface} {stream.headers.get('grpc-status', stream.headers.get(':status', 'reset'))}"] += 1
        check_grpc(stream)


def reproducer(surface: str, seed: int, number: int, case: Case) -> str:
    """Return how to repeat a case, and its bytes."""
    shown = repr(case)
    rest = f"… {len(shown) - SHOWN_BYTES} more characters" if len(shown) > SHOWN_BYTES else ""
    command = f"python -m tests.fuzz --surface {surface} --seed {seed} --case {number}"
    return f"{command}\n{shown[:SHOWN_BYTES]}{rest}"


async def fuzz(
    target: Target, surfaces: Mapping[str, int], seed: int, progress: Callable[[int], None] = lambda _: None
) -> Report:
    """Run so many cases of each surface, and check the target after every few hundred and at the end.

    Ends early after MAX_FAILURES failures, or once the target no longer serves.
    """
    report = Report()
    numbered = [(number, surface) for surface, count in surfaces.items() for number in range(count)]
    numbered.sort()  # the surfaces in turn
    await target.check()
    for start in range(0, len(numbered), CASES_PER_CHECK):
        await target.refresh()
        pending = iter(numbered[start : start + CASES_PER_CHECK])
        await asyncio.gather(*(_worker(target, pending, seed, report) for _ in range(CONCURRENCY)))
        last = numbered[min(start + CASES_PER_CHECK, len(numbered)) - 1]
        if not await _record(report, f"after case {last}, seed {seed}, the target fails its check", target.check):
            break
        progress(start + CASES_PER_CHECK)
        if len(report.failures) >= MAX_FAILURES:
            break

    async def log() -> None:
        check_log(target.up.log, PASSWORD)

    await _record(report, "the log", log)
    return report


async def _worker(target: Target, pending: Iterator[tuple[int, str]], seed: int, report: Report) -> None:
    for number, surface in pending:
        case = make_case(surface, seed, number, target)

        async def run(surface: str = surface, case: Case = case) -> None:
            await run_case(surface, case, target, report.answers)

        await _record(report, reproducer(surface, seed, number, case), run)
        if len(report.failures) >= MAX_FAILURES:
            return


async def _record(report: Report, subject: str, check: Callable[[], Awaitable[None]]) -> bool:
    """Run a check, and add a failure to the report if it raises. Returns whether it has passed."""
    try:
        await check()
    except Exception as error:  # whatever is wrong, its case must be known
        report.failures.append(f"{type(error).__name__}: {error}\n{subject}")
        return False
    return True
