"""Closed-loop load from h2load, which is written in C and much faster than the servers under test.

It sends unary gRPC calls over HTTP/2, or HTTP/1.1 requests. h2load does not know gRPC: a failed call has HTTP status
200, and its error in trailers that h2load does not read. Therefore the length of the responses is checked.
"""

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.message import Message

from bench.percentiles import percentile

MISSING = (
    "h2load is not installed: `apt-get install nghttp2-client` on Debian and Ubuntu, `brew install nghttp2` on macOS"
)
WARM_UP_SECONDS = 1
GRPC_PREFIX_BYTES = 5  # compression flag and message length

_REQUESTS = re.compile(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", re.MULTILINE)
_DATA = re.compile(r"^traffic: .*\((\d+)\) data", re.MULTILINE)


class H2loadMissing(Exception):
    """h2load is not installed. The message says how to install it."""


class InvalidRun(Exception):
    """h2load did not measure what it should have."""


@dataclass(frozen=True, slots=True)
class GrpcTarget:
    """A gRPC method, called repeatedly with the same request."""

    address: str
    rpc: str
    request: Message
    response: Message
    """The expected response; another length means that calls failed."""
    token: str
    scheme: str = "http"

    def arguments(self, directory: Path) -> Sequence[str]:
        """Return h2load's arguments; writes the request into `directory`."""
        data = self.request.SerializeToString()
        path = directory / "request"
        path.write_bytes(b"\0" + len(data).to_bytes(GRPC_PREFIX_BYTES - 1, "big") + data)
        headers = {"content-type": "application/grpc", "te": "trailers", "x-auth-token": self.token}
        return [*_headers(headers), f"--data={path}", f"{self.scheme}://{self.address}/{self.rpc}"]

    @property
    def response_bytes(self) -> int:
        """The length of a response body."""
        return GRPC_PREFIX_BYTES + self.response.ByteSize()


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Paths that are requested in turn by GET over HTTP/1.1."""

    address: str
    paths: Sequence[str]
    response_bytes: int
    """The minimum length of a response body."""
    token: str
    scheme: str = "http"

    def arguments(self, directory: Path) -> Sequence[str]:
        """Return h2load's arguments; writes the URLs into `directory`."""
        path = directory / "urls"
        path.write_text("".join(f"{self.scheme}://{self.address}{path}\n" for path in self.paths))
        return ["--h1", *_headers({"x-auth-token": self.token}), f"--input-file={path}"]


@dataclass(frozen=True, slots=True)
class LoadShape:
    """Duration, concurrency and rate of a load."""

    seconds: float
    connections: int = 8
    streams: int = 4
    """Concurrent calls per connection, over HTTP/2."""
    per_second: int | None = None
    """Requests per second on each connection; without a limit if None."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of one run of h2load."""

    rate: float
    """Successful requests per second."""
    seconds: dict[int, list[float]] = field(repr=False)
    """HTTP status -> latency of each request with that status, sorted."""

    @property
    def statuses(self) -> Counter[int]:
        """The number of requests by HTTP status."""
        return Counter({status: len(latencies) for status, latencies in self.seconds.items()})

    def percentile(self, share: float, status: int = 200) -> float:
        """Return a percentile (0 to 1) of the latencies of a status, in seconds."""
        return percentile(self.seconds[status], share)


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals that h2load prints."""

    succeeded: int
    failed: int
    response_bytes: int


async def run_h2load(
    target: GrpcTarget | HttpTarget, shape: LoadShape, *, allow_rejections: bool = False
) -> LoadResult:
    """Run h2load once.

    Raises H2loadMissing, and InvalidRun if requests failed; with `allow_rejections`, only if all of them failed.
    """
    program = shutil.which("h2load")
    if program is None:
        raise H2loadMissing(MISSING)
    with TemporaryDirectory(prefix="postroom-bench-") as name:
        directory = Path(name)
        log = directory / "log"
        streams = shape.streams if isinstance(target, GrpcTarget) else 1
        command = [
            *(program, f"--duration={shape.seconds:g}", f"--warm-up-time={WARM_UP_SECONDS}", f"--log-file={log}"),
            *(f"--clients={shape.connections}", f"--max-concurrent-streams={streams}"),
            *([f"--rps={shape.per_second}"] if shape.per_second else []),
            *target.arguments(directory),
        ]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output = (await process.communicate())[0].decode()
        summary = parse_summary(output)
        check(summary, target.response_bytes, allow_rejections=allow_rejections)
        return LoadResult(rate=summary.succeeded / shape.seconds, seconds=parse_log(log.read_text()))


def parse_summary(output: str) -> Summary:
    """Parse h2load's output. Raises InvalidRun if the run did not complete."""
    requests, data = _REQUESTS.search(output), _DATA.search(output)
    if not (requests and data):
        raise InvalidRun(f"h2load did not complete: {output[-500:]}")
    succeeded, *others = map(int, requests.groups())
    return Summary(succeeded=succeeded, failed=sum(others), response_bytes=int(data[1]))


def check(summary: Summary, response_bytes: int, *, allow_rejections: bool = False) -> None:
    """Raise InvalidRun if requests failed, or if responses are shorter than `response_bytes` on average."""
    if not summary.succeeded:
        raise InvalidRun("no request succeeded")
    if allow_rejections:
        return
    if summary.failed:
        raise InvalidRun(f"{summary.failed} requests failed")
    mean_bytes = summary.response_bytes / summary.succeeded
    if mean_bytes < response_bytes * 0.95:  # the last responses are cut off at the end of the run
        raise InvalidRun(f"responses of {response_bytes} bytes were expected, but have {mean_bytes:.0f} on average")


def parse_log(text: str) -> dict[int, list[float]]:
    """Parse h2load's log. Returns HTTP status -> sorted latencies in seconds; status -1 means no response."""
    seconds: dict[int, list[float]] = {}
    for line in text.splitlines():
        _, status, microseconds = line.split("\t")[:3]
        seconds.setdefault(int(status), []).append(int(microseconds) / 1e6)
    return {status: sorted(latencies) for status, latencies in seconds.items()}


def _headers(headers: dict[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        yield f"--header={name}: {value}"
