"""h2load's output and log are parsed, and failures that it counts as successes are detected."""

from pathlib import Path

import pytest

from bench.h2load import GrpcTarget, HttpTarget, InvalidRun, Summary, check, parse_log, parse_summary
from postroom.v1alpha1 import mailbox_pb2

OUTPUT = """\
Main benchmark duration is over for thread #0. Stopping all clients.
Stopped all clients for thread #0

finished in 3.00s, 3810.50 req/s, 1.03MB/s
requests: 7621 total, 7621 started, 7621 done, 7619 succeeded, 2 failed, 1 errored, 0 timeout
status codes: 7619 2xx, 0 3xx, 2 4xx, 0 5xx
traffic: 2.06MB (2158209) total, 33.49KB (34296) headers (space savings 96.23%), 2.41MB (2527200) data
                     min         max         mean         sd        +/- sd
time for request:      486us     42.92ms      8.39ms      2.45ms    93.92%
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_scheme_of_a_target_is_that_of_its_urls(scheme: str, tmp_path: Path) -> None:
    message = mailbox_pb2.GetMailboxRequest(mailbox_id="1")
    assert GrpcTarget("h:1", "s/Get", message, message, "t", scheme).arguments(tmp_path)[-1] == f"{scheme}://h:1/s/Get"
    HttpTarget("h:2", ("/a", "/b"), 1, "t", scheme).arguments(tmp_path)
    assert (tmp_path / "urls").read_text() == f"{scheme}://h:2/a\n{scheme}://h:2/b\n"


def test_output_gives_the_totals() -> None:
    assert parse_summary(OUTPUT) == Summary(succeeded=7619, failed=3, response_bytes=2_527_200)


@pytest.mark.parametrize("output", ["", "starting benchmark...\n", OUTPUT.partition("traffic")[0]])
def test_incomplete_run_is_invalid(output: str) -> None:
    with pytest.raises(InvalidRun, match="did not complete"):
        parse_summary(output)


def test_log_gives_sorted_latencies_by_status() -> None:
    log = "1795628734671954\t200\t11709\n1795628734672231\t429\t150\n1795628734672437\t200\t2500\n1\t-1\t7\n"
    assert parse_log(log) == {200: [0.0025, 0.011709], 429: [0.00015], -1: [0.000007]}


def test_complete_responses_are_valid() -> None:
    check(Summary(succeeded=100, failed=0, response_bytes=33_000), 331)


@pytest.mark.parametrize(
    ("summary", "fault"),
    [
        (Summary(succeeded=0, failed=0, response_bytes=0), "no request succeeded"),
        (Summary(succeeded=100, failed=1, response_bytes=33_100), "1 requests failed"),
        # A failed gRPC call: HTTP status 200 with an empty body.
        (Summary(succeeded=100, failed=0, response_bytes=0), "331 bytes were expected"),
    ],
)
def test_failures_are_detected(summary: Summary, fault: str) -> None:
    with pytest.raises(InvalidRun, match=fault):
        check(summary, 331)


def test_rejections_may_be_allowed() -> None:
    check(Summary(succeeded=100, failed=900, response_bytes=331), 331, allow_rejections=True)
