"""The admin service as a process, and the commands for its keys."""

import json
import re

import grpc
import pytest

from tests.e2e.conftest import Starter
from tests.e2e.support import Up, database_url
from tests.e2e.test_cli import fail, succeed
from tests.e2e.trial_process import address_of, admin_code, new_admin_key
from tools.ports import free_port


def flag(up: Up) -> str:
    return f"--database-url={database_url(up.directory)}"


# --- Keys -------------------------------------------------------------------------------------------------------------


def test_an_admin_key_is_printed_once_and_listed_without_its_secret(postroom: Up) -> None:
    printed = succeed("admin-keys", "create", "--name=billing", "--expires-in=30d", "--read-only", flag(postroom))
    match = re.fullmatch(r"export POSTROOM_ADMIN_SECRET=([0-9a-f-]{36})\n", printed)
    assert match
    listed = succeed("admin-keys", "list", "--output=json", flag(postroom))
    assert match[1] not in listed
    (key,) = (key for key in json.loads(listed) if key["name"] == "billing")
    assert key["read_only"] is True
    assert key["expires_at"] > key["created_at"]
    assert key["revoked_at"] is None
    header, *rows = succeed("admin-keys", "list", flag(postroom)).splitlines()
    assert header.split() == ["name", "read_only", "created_at", "expires_at", "revoked_at"]
    assert any(row.split()[:2] == ["billing", "yes"] for row in rows)


def test_the_name_of_a_revoked_admin_key_can_not_be_used_again(postroom: Up) -> None:
    new_admin_key(postroom, "support")
    assert succeed("admin-keys", "revoke", "--yes", "support", flag(postroom)) == "support is revoked.\n"
    line = fail(1, "admin-keys", "create", "--name=support", flag(postroom))
    assert line == "postroom: admin key name support is already in use: choose another name"


def test_revoking_an_unknown_admin_key_is_one_line(postroom: Up) -> None:
    assert fail(1, "admin-keys", "revoke", "--yes", "nobody", flag(postroom)) == (
        "postroom: admin key nobody not found: `postroom admin-keys list` prints those that exist"
    )


@pytest.mark.parametrize("name", ["", "Billing", "-x", "x-", "a b", "é", "x" * 65])
def test_an_invalid_admin_key_name_is_one_line(postroom: Up, name: str) -> None:
    line = fail(2, "admin-keys", "create", f"--name={name}", flag(postroom))
    assert line == "postroom: --name: expected 1 to 64 of a-z 0-9 . _ -, with a letter or digit first and last"


# --- The address ------------------------------------------------------------------------------------------------------


def test_the_admin_service_is_disabled_unless_its_address_is_set(postroom: Up) -> None:
    assert "admin" not in postroom.output
    assert admin_code(postroom.grpc_address, new_admin_key(postroom, "early")) is grpc.StatusCode.UNIMPLEMENTED


def test_the_admin_service_starts_and_stops_with_the_service(start_postroom: Starter) -> None:
    up = start_postroom("--admin-address=127.0.0.1:0")
    address, secret = address_of(up, "admin service"), new_admin_key(up, "billing")
    assert address != up.grpc_address
    assert admin_code(address, secret) is grpc.StatusCode.OK
    assert admin_code(address, up.environment["SCW_SECRET_KEY"]) is grpc.StatusCode.UNAUTHENTICATED
    assert up.stop() == 0
    assert up.error_lines == []
    assert admin_code(address, secret) is grpc.StatusCode.UNAVAILABLE


def test_the_same_address_for_both_services_is_one_line(start_postroom: Starter) -> None:
    address = f"127.0.0.1:{free_port()}"
    up = start_postroom(f"--admin-address={address}", f"--grpc-address={address}", wait=False)
    assert up.wait() == 1
    assert up.error_lines == [
        f"postroom: serve: can't listen for gRPC on {address}: the address is in use, or is not one of this machine"
    ]
