"""The status history and the audit log, by the admin service."""

import json

import pytest

from tests.cli.running import PASSWORD, Commands
from tests.support.waiting import block_until

FLAGS = ("--deletion-retention=1s",)


@pytest.fixture(scope="module")
def domain(postroom: Commands) -> str:
    """The id of a domain that is ready."""
    return postroom.ready_domain("example.org")


def audit(postroom: Commands, *flags: str) -> list[dict[str, object]]:
    """The events that `postroom audit` prints as JSON lines."""
    return [json.loads(line) for line in postroom("audit", "--output=json", *flags).lines]


def test_the_history_of_an_address_has_all_mailboxes_that_had_it(postroom: Commands, domain: str) -> None:
    ids = []
    for _ in range(2):
        (created,) = postroom.rows("mailboxes", "create", "ann@example.org", "--password-file=-", stdin=PASSWORD)
        ids.append(created["id"])
        postroom.rows("mailboxes", "delete", "ann@example.org")
        block_until(lambda: postroom.rows("history", "ann@example.org")[-1]["to_status"] is None)
    listed = postroom.rows("history", "Ann@EXAMPLE.org")
    assert [(row["mailbox_id"], row["cause"], row["from_status"], row["to_status"]) for row in listed] == [
        (mailbox, *step)
        for mailbox in ids
        for step in (
            ("create", None, "ready"),
            ("delete", "ready", "deletion_scheduled"),
            ("purge_due", "deletion_scheduled", None),
        )
    ]
    assert {row["domain_id"] for row in listed} == {domain}
    assert listed[0]["actor"].startswith("key:")
    tombstone = postroom.rows("mailboxes", "show", ids[0], "--as-operator")
    assert (tombstone["mailbox_id"], tombstone["cause"]) == (ids[0], "purge_due")
    header, *rows = postroom("history", "ann@example.org").lines
    assert header.split() == ["mailbox_id", "at", "from_status", "to_status", "cause", "actor", "reason"]
    assert len(rows) == len(listed)


def test_an_unknown_organization_or_project_is_not_found(postroom: Commands) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    searches = [(kind, "search", "example", f"--organization-id={unknown}") for kind in ("domains", "mailboxes")]
    for command in (("audit", f"--organization-id={unknown}"), *searches):
        assert postroom.failure(1, *command) == f"organization {unknown} not found"
    assert postroom.failure(1, "audit", f"--project-id={unknown}") == f"project {unknown} not found"


def test_the_history_of_a_domain_lists_its_transitions(postroom: Commands) -> None:
    (created,) = postroom.rows("domains", "create", "history.example.org")
    (row,) = postroom.rows("history", "HISTORY.example.org")
    assert (row["domain_id"], row["from_status"], row["to_status"], row["cause"]) == (
        created["id"],
        None,
        "waiting_validation",
        "create",
    )
    header, *rows = postroom("history", "history.example.org").lines
    assert header.split() == ["domain_id", "at", "from_status", "to_status", "cause", "actor"]
    assert len(rows) == 1
    assert postroom.failure(1, "history", "unknown.example.org") == "domain unknown.example.org not found"


def test_the_history_of_an_unknown_address_is_one_line(postroom: Commands) -> None:
    line = postroom.failure(1, "history", "Nobody@Bücher.example")
    assert line == "mailbox nobody@xn--bcher-kva.example not found"


@pytest.mark.parametrize("address", ["", "nobody", "@example.org", "a b@example.org", "nobody@"])
def test_the_history_of_an_invalid_address_is_one_line(postroom: Commands, address: str) -> None:
    assert postroom.failure(2, "history", address).startswith("ADDRESS: ")


def test_the_audit_log_lists_calls_and_commands_as_json_lines(postroom: Commands) -> None:
    postroom.rows("domains", "create", "audit.example.org")
    key = postroom.rows("keys", "create", "--new-organization")
    assert postroom("keys", "revoke", key["SCW_ACCESS_KEY"], "--yes").code == 0
    listed = audit(postroom)
    assert [each["at"] for each in listed] == sorted([str(each["at"]) for each in listed], reverse=True)
    revoked, *issued = listed[:3]
    assert (revoked["action"], revoked["resource_id"]) == ("keys revoke", key["SCW_ACCESS_KEY"])
    assert {(event["action"], event["resource_type"]) for event in issued} == {
        ("keys create", "api_key"),
        ("keys create", "organization"),
    }
    assert all(str(event["actor"]).startswith("command:") for event in listed[:3])
    calls = audit(postroom, f"--key={postroom.environment['SCW_ACCESS_KEY']}")
    call = next(event for event in calls if event["action"] == "CreateDomain")
    assert (call["client_address"], call["arguments"]) == ("127.0.0.1", ["name"])
    of_domain = f"--resource-id={call['resource_id']}"
    assert len(postroom("audit", "--since=1h", of_domain).lines) == 2
    assert audit(postroom, "--until=1h", of_domain) == []
    assert len(audit(postroom, "--limit=2")) == 2
    (admin_key,) = [each for each in audit(postroom, "--limit=0") if each["resource_type"] == "admin_key"]
    assert (admin_key["organization_id"], admin_key["project_id"]) == (None, None)


def test_the_rotation_of_a_key_names_both_keys(postroom: Commands) -> None:
    former = postroom.rows("keys", "create", "--new-organization")["SCW_ACCESS_KEY"]
    new = postroom.rows("keys", "rotate", former, "--grace=1h")["SCW_ACCESS_KEY"]
    (event,) = audit(postroom, f"--resource-id={new}")
    assert (event["action"], event["resource_type"]) == ("keys rotate", "api_key")
    assert event["resource_ids"] == [former, new]


@pytest.mark.parametrize("option", ["--organization-id=x", "--project-id=x", "--since=yesterday", "--until=x"])
def test_an_invalid_filter_of_the_audit_log_is_one_line(postroom: Commands, option: str) -> None:
    assert postroom.failure(2, "audit", option).startswith(f"{option.partition('=')[0]}: expected ")


def test_history_and_audit_need_an_admin_key(postroom: Commands) -> None:
    for command in (("history", "ann@example.org"), ("audit",)):
        line = postroom.failure(5, *command, POSTROOM_ADMIN_SECRET=postroom.environment["SCW_SECRET_KEY"])
        assert line == "POSTROOM_ADMIN_SECRET: the API key is unknown"
        assert "POSTROOM_ADMIN_SECRET" in postroom.failure(5, *command, POSTROOM_ADMIN_SECRET="")


def test_the_address_of_another_service_is_the_cause(postroom: Commands) -> None:
    service, admin = (postroom.environment[f"POSTROOM_{name}_ADDRESS"] for name in ("GRPC", "ADMIN"))
    assert "--admin-address that of the admin service" in postroom.failure(1, "audit", POSTROOM_ADMIN_ADDRESS=service)
    assert "--grpc-address is the address of the service" in postroom.failure(
        *(1, "domains", "list"), POSTROOM_GRPC_ADDRESS=admin
    )
