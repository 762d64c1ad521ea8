"""Load from h2load, a client far quicker than what it measures: unary gRPC over HTTP/2, and HTTP/1.1.

h2load knows nothing of gRPC: a failed call is a 200 to it, whose status stands in trailers that it doesn't read. So the
length of what was answered is held against what it should be.
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
PREFIX_OCTETS = 5  # of a gRPC message: whether it is compressed, and its length

_REQUESTS = re.compile(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", re.MULTILINE)
_DATA = re.compile(r"^traffic: .*\((\d+)\) data", re.MULTILINE)


class Missing(Exception):
    """h2load is not installed. The text says how it is."""


class Unusable(Exception):
    """What h2load saw is not what was to be measured."""


@dataclass(frozen=True, slots=True)
class Calls:
    """A gRPC method that is called with one message again and again."""

    address: str
    rpc: str
    request: Message
    answer: Message
    """What it answers: an answer of another length is a failure."""
    token: str

    def arguments(self, directory: Path) -> Sequence[str]:
        """What h2load is told."""
        data = self.request.SerializeToString()
        path = directory / "request"
        path.write_bytes(b"\0" + len(data).to_bytes(PREFIX_OCTETS - 1, "big") + data)
        headers = {"content-type": "application/grpc", "te": "trailers", "x-auth-token": self.token}
        return [*_headers(headers), f"--data={path}", f"http://{self.address}/{self.rpc}"]

    @property
    def octets(self) -> int:
        """The length of an answer."""
        return PREFIX_OCTETS + self.answer.ByteSize()


@dataclass(frozen=True, slots=True)
class Gets:
    """GET of paths, one after the other and again from the first, over HTTP/1.1."""

    address: str
    paths: Sequence[str]
    octets: int
    """The least length of an answer."""
    token: str

    def arguments(self, directory: Path) -> Sequence[str]:
        """What h2load is told."""
        path = directory / "urls"
        path.write_text("".join(f"http://{self.address}{path}\n" for path in self.paths))
        return ["--h1", *_headers({"x-auth-token": self.token}), f"--input-file={path}"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a load presses: so many connections, with so many requests at a time on each, for so long."""

    seconds: float
    connections: int = 8
    streams: int = 4
    per_second: int | None = None
    """Requests a second on each connection; as many as are answered where there is none."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of h2load saw."""

    rate: float
    """Successful requests a second."""
    seconds: dict[int, list[float]] = field(repr=False)
    """HTTP status -> how long each request of that status took, sorted."""

    @property
    def statuses(self) -> Counter[int]:
        """How many requests of each HTTP status."""
        return Counter({status: len(taken) for status, taken in self.seconds.items()})

    def percentile(self, share: float, status: int = 200) -> float:
        """The time, in seconds, within which this share of the requests of a status was answered."""
        return percentile(self.seconds[status], share)


@dataclass(frozen=True, slots=True)
class Summary:
    """What h2load printed."""

    succeeded: int
    failed: int
    octets: int


async def press(target: Calls | Gets, shape: Shape, *, refusals: bool = False) -> Load:
    """Press once. Raises Missing, and Unusable where requests failed: with `refusals`, only where all of them did."""
    program = shutil.which("h2load")
    if program is None:
        raise Missing(MISSING)
    with TemporaryDirectory(prefix="postroom-bench-") as name:
        directory = Path(name)
        log = directory / "log"
        streams = shape.streams if isinstance(target, Calls) else 1
        command = [
            *(program, f"--duration={shape.seconds:g}", f"--warm-up-time={WARM_UP_SECONDS}", f"--log-file={log}"),
            *(f"--clients={shape.connections}", f"--max-concurrent-streams={streams}"),
            *([f"--rps={shape.per_second}"] if shape.per_second else []),
            *target.arguments(directory),
        ]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        printed = (await process.communicate())[0].decode()
        summary = parse_summary(printed)
        check(summary, target.octets, refusals=refusals)
        return Load(rate=summary.succeeded / shape.seconds, seconds=parse_log(log.read_text()))


def parse_summary(printed: str) -> Summary:
    """Read what h2load printed. Raises Unusable where it came to no end."""
    requests, data = _REQUESTS.search(printed), _DATA.search(printed)
    if not (requests and data):
        raise Unusable(f"h2load came to no end: {printed[-500:]}")
    succeeded, *others = map(int, requests.groups())
    return Summary(succeeded=succeeded, failed=sum(others), octets=int(data[1]))


def check(summary: Summary, octets: int, *, refusals: bool = False) -> None:
    """Raise Unusable where requests failed, or were answered with less than `octets` each."""
    if not summary.succeeded:
        raise Unusable("no request succeeded")
    if refusals:
        return
    if summary.failed:
        raise Unusable(f"{summary.failed} requests failed")
    answered = summary.octets / summary.succeeded
    if answered < octets * 0.95:  # some of the last answers are cut off with the run
        raise Unusable(f"answers of {octets} octets were expected, and are {answered:.0f} long")


def parse_log(text: str) -> dict[int, list[float]]:
    """Read h2load's log: the seconds that each request took, sorted, by HTTP status. -1 stands for no answer."""
    seconds: dict[int, list[float]] = {}
    for line in text.splitlines():
        _, status, microseconds = line.split("\t")[:3]
        seconds.setdefault(int(status), []).append(int(microseconds) / 1e6)
    return {status: sorted(taken) for status, taken in seconds.items()}


def _headers(headers: dict[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        yield f"--header={name}: {value}"
