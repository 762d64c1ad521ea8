"""Commands on PostgreSQL: the database commands, import and the desired state."""

import os
from collections.abc import Iterator

import pytest

from tests.cli.running import CHEAP, Commands, commands_of
from tests.cli.test_apply import test_a_file_is_planned_and_applied_once as test_a_file_is_applied_once
from tests.cli.test_import import (
    test_a_batch_whose_response_was_lost_is_not_created_twice as test_a_lost_response_is_repeated,
)
from tests.cli.test_import import test_a_file_is_imported_once_and_exported_as_it_was as test_a_file_is_imported_once
from tests.e2e.support import start, terminate
from tests.support.databases import MIGRATED
from tools.postgres import PostgresServer

__all__ = ["test_a_file_is_applied_once", "test_a_file_is_imported_once", "test_a_lost_response_is_repeated"]
pytestmark = pytest.mark.xdist_group("postgresql")


@pytest.fixture(scope="module")
def postroom(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The commands of a Postroom on PostgreSQL."""
    name = f"commands_{os.getpid()}"
    postgres.sql(f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
    url = postgres.url(name)
    directory = tmp_path_factory.mktemp("postroom")
    up = start(directory, f"--database-url={url}", "--admin-address=127.0.0.1:0", *CHEAP)
    try:
        yield commands_of(up, url)
    finally:
        terminate(up)


def test_tenants_are_administered_in_the_database(postroom: Commands) -> None:
    (organization,) = postroom.rows("organizations", "create", "--name=Example")
    (project,) = postroom.rows("projects", "set-quota", organization["project_id"], "3")
    assert project["mailbox_quota"] == 3
    listed = {row["id"]: row for row in postroom.rows("organizations", "list")}
    assert listed[organization["id"]]["project_count"] == 1
    created = postroom.rows("keys", "create", "--organization-id", organization["id"], "--name=ci")
    rotated = postroom.rows("keys", "rotate", created["SCW_ACCESS_KEY"])
    assert rotated["SCW_DEFAULT_PROJECT_ID"] == organization["project_id"]
    assert postroom.rows("domains", "list", SCW_SECRET_KEY=rotated["SCW_SECRET_KEY"]) == []
    assert postroom.rows("domains", "list", SCW_SECRET_KEY=created["SCW_SECRET_KEY"]) == []  # within its grace


def test_hashes_are_exported_from_the_database(postroom: Commands) -> None:
    exported = postroom("mailboxes", "export", "--with-hashes").lines
    assert len(exported) > 1
    assert all("{ARGON2ID}$argon2id$" in line for line in exported[1:])
