"""Commands against a running Postroom, in the process of the tests."""

import json
from dataclasses import dataclass
from typing import Any

from tests.e2e.support import Up, database_url, run
from tests.e2e.trial_process import address_of, new_admin_key

PASSWORD = "correct horse battery staple"
CHEAP = ("--argon2-memory-kib=8", "--argon2-time-cost=1", "--worker-interval-seconds=0.02")


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> Any:
        """The output as JSON; the command must have succeeded."""
        assert (self.code, self.err) == (0, ""), self
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """The lines of the output; the command must have succeeded."""
        assert self.code == 0, self
        return self.out.splitlines()


@dataclass(frozen=True)
class Commands:
    """Runs commands as the first tenant and the operator of a running Postroom."""

    up: Up
    environment: dict[str, str]

    def __call__(self, *arguments: object, stdin: str | None = None, **environment: str) -> Result:
        """Run one command. Without `stdin`, there is no standard input to read."""
        done = run(*map(str, arguments), stdin=stdin or "", **self.environment | environment)
        return Result(done.returncode, done.stdout, done.stderr)

    def rows(self, *arguments: object, **keywords: Any) -> Any:
        """Return the JSON output of a command that must succeed."""
        return self(*arguments, "--output=json", **keywords).rows

    def failure(self, code: int, *arguments: object, **keywords: Any) -> str:
        """Return the only line of a command that must fail with this exit code."""
        result = self(*arguments, **keywords)
        assert (result.code, result.out) == (code, ""), result
        (line,) = result.err.splitlines()
        return line.removeprefix("postroom: ")

    def ready_domain(self, name: str) -> str:
        """Create and validate a domain; returns its id."""
        (domain,) = self.rows("domains", "create", name)
        assert self("domains", "validate", name).code == 0
        return str(domain["id"])


def commands_of(up: Up, url: str | None = None) -> Commands:
    """Return the commands for a Postroom that was started with an admin service."""
    environment = up.environment | {
        "POSTROOM_GRPC_ADDRESS": up.grpc_address,
        "POSTROOM_ADMIN_ADDRESS": address_of(up, "admin service"),
        "POSTROOM_DATABASE_URL": url or database_url(up.directory),
    }
    if url is None:
        return Commands(up, environment | {"POSTROOM_ADMIN_SECRET": new_admin_key(up, "operator")})
    commands = Commands(up, environment)
    (secret,) = [commands.rows("admin-keys", "create", "--name=operator")["secret"]]
    return Commands(up, environment | {"POSTROOM_ADMIN_SECRET": secret})
