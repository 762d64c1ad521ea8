"""What h2load prints and logs is read as it is meant, and failures that it takes for successes are found."""

import pytest

from bench.h2load import Summary, Unusable, check, parse_log, parse_summary

PRINTED = """\
Main benchmark duration is over for thread #0. Stopping all clients.
Stopped all clients for thread #0

finished in 3.00s, 3810.50 req/s, 1.03MB/s
requests: 7621 total, 7621 started, 7621 done, 7619 succeeded, 2 failed, 1 errored, 0 timeout
status codes: 7619 2xx, 0 3xx, 2 4xx, 0 5xx
traffic: 2.06MB (2158209) total, 33.49KB (34296) headers (space savings 96.23%), 2.41MB (2527200) data
                     min         max         mean         sd        +/- sd
time for request:      486us     42.92ms      8.39ms      2.45ms    93.92%
"""


def test_what_is_printed() -> None:
    assert parse_summary(PRINTED) == Summary(succeeded=7619, failed=3, octets=2_527_200)


@pytest.mark.parametrize("printed", ["", "starting benchmark...\n", PRINTED.partition("traffic")[0]])
def test_a_run_without_an_end_is_unusable(printed: str) -> None:
    with pytest.raises(Unusable, match="no end"):
        parse_summary(printed)


def test_log_gives_sorted_seconds_by_status() -> None:
    log = "1795628734671954\t200\t11709\n1795628734672231\t429\t150\n1795628734672437\t200\t2500\n1\t-1\t7\n"
    assert parse_log(log) == {200: [0.0025, 0.011709], 429: [0.00015], -1: [0.000007]}


def test_complete_answers_are_taken() -> None:
    check(Summary(succeeded=100, failed=0, octets=33_000), 331)


@pytest.mark.parametrize(
    ("summary", "fault"),
    [
        (Summary(succeeded=0, failed=0, octets=0), "no request succeeded"),
        (Summary(succeeded=100, failed=1, octets=33_100), "1 requests failed"),
        # A gRPC call that failed: a 200 with an empty body.
        (Summary(succeeded=100, failed=0, octets=0), "331 octets were expected"),
    ],
)
def test_failures_are_found(summary: Summary, fault: str) -> None:
    with pytest.raises(Unusable, match=fault):
        check(summary, 331)


def test_refusals_may_be_allowed() -> None:
    check(Summary(succeeded=100, failed=900, octets=331), 331, refusals=True)
