"""The scenarios: what the attacker does, and through which door the victim comes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.attack.stack import Stack

Arguments = Callable[[Stack], Mapping[str, Any]]


@dataclass(frozen=True)
class Scenario:
    """One attack. `victim` is the protocol of the victim's calls, `flags` are further arguments of the processes."""

    name: str
    attack: str
    victim: str
    arguments: Arguments
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seeded_mailboxes: int = 0


def _grpc(**arguments: object) -> Arguments:
    def make(stack: Stack) -> Mapping[str, Any]:
        host, _, port = stack.grpc_address.rpartition(":")
        return {"host": host, "port": int(port), **arguments}

    return make


def _http(*, authenticated: bool = False, **arguments: object) -> Arguments:
    def make(stack: Stack) -> Mapping[str, Any]:
        host, _, port = stack.http_address.rpartition(":")
        key = {"token": stack.attacker.token} if authenticated else {}
        return {"host": host, "port": int(port), **key, **arguments}

    return make


def _tenant(**arguments: object) -> Arguments:
    return lambda stack: {"address": stack.grpc_address, "token": stack.attacker.token, **arguments}


def _batches(stack: Stack) -> Mapping[str, Any]:
    return {"address": stack.grpc_address, "token": stack.attacker.token, "domain_id": stack.attacker.domain_id}


SCENARIOS: Sequence[Scenario] = (
    Scenario("grpc-calls", "calls", "grpc", _grpc(connections=1)),
    Scenario("grpc-calls-reset", "calls-reset", "grpc", _grpc(connections=1)),
    Scenario("grpc-many-connections", "calls-reset", "grpc", _grpc(connections=50)),
    Scenario("grpc-unfinished-streams", "unfinished-streams", "grpc", _grpc(connections=10)),
    Scenario("grpc-continuations", "continuations", "grpc", _grpc(connections=10)),
    Scenario("grpc-pings", "pings", "grpc", _grpc(connections=10)),
    Scenario("grpc-settings", "settings", "grpc", _grpc(connections=10)),
    Scenario("grpc-settings-reconnecting", "settings", "grpc", _grpc(connections=10, patience_seconds=0.3)),
    Scenario("grpc-oversized-metadata", "oversized-metadata", "grpc", _grpc(connections=10)),
    Scenario("grpc-invalid-keys", "invalid-keys", "grpc", lambda stack: {"address": stack.grpc_address}),
    Scenario("rest-silent-sockets", "silent", "rest", _http(connections=1_000)),
    Scenario("rest-unfinished-headers", "unfinished-headers", "rest", _http(connections=1_000)),
    Scenario("rest-unfinished-bodies", "unfinished-bodies", "rest", _http(connections=256)),
    Scenario(
        "rest-unfinished-bodies-with-key", "unfinished-bodies", "rest", _http(connections=256, authenticated=True)
    ),
    Scenario("rest-unread-pages", "unread", "rest", _http(connections=30, authenticated=True), seeded_mailboxes=1_000),
    Scenario("tenant-password-batches", "password-batches", "grpc", _batches),
    Scenario("tenant-searches", "searches", "grpc", _tenant(), seeded_mailboxes=200_000),
)
