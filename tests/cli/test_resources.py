"""Domains, mailboxes, aliases and forwardings by the service."""

import csv
import io
import json
import urllib.request
from pathlib import Path

import pytest

from tests.cli.running import PASSWORD, Commands


@pytest.fixture(scope="module")
def domain(postroom: Commands) -> str:
    """The name of a domain that is ready, with the mailbox ann."""
    postroom.ready_domain("example.org")
    postroom.rows("mailboxes", "create", "Ann@Example.org", "--password-file=-", stdin=f"{PASSWORD}\n")
    return "example.org"


def test_a_domain_is_shown_with_the_state_of_each_record(postroom: Commands) -> None:
    (created,) = postroom.rows("domains", "create", "Bücher.example")
    shown = postroom.rows("domains", "show", "bücher.example")
    assert shown["id"] == created["id"]
    assert shown["name"] == "xn--bcher-kva.example"
    assert len(shown["records"]) == 12
    assert {record["status"] for record in shown["records"]} == {"unknown_status"}
    assert [record["level"] for record in shown["records"]][:5] == ["required"] * 5
    assert postroom("domains", "validate", created["id"]).code == 0
    lines = postroom("domains", "show", created["id"]).lines
    assert any(line.split() == ["status", "ready"] for line in lines)
    (mx,) = (line.split() for line in lines if line.startswith("mx "))
    assert mx[:5] == ["mx", "required", "valid", "mx_dns_type", "xn--bcher-kva.example."]


def test_a_zone_file_has_every_record(postroom: Commands, domain: str) -> None:
    zone = postroom("domains", "show", domain, "--zone").lines
    assert "$ORIGIN example.org." in zone
    assert "example.org. IN MX 10 mx.mail.example." in zone
    assert "_imaps._tcp.example.org. IN SRV 0 1 993 imap.mail.example." in zone
    assert "; mx: required, valid" in zone
    (dkim,) = (line for line in zone if line.startswith("postroom._domainkey.example.org. IN TXT "))
    strings = dkim.partition(" IN TXT ")[2].strip('"').split('" "')
    records = {record["record"]: record for record in postroom.rows("domains", "show", domain)["records"]}
    assert "".join(strings) == records["dkim"]["dns_value"]
    assert all(len(each) <= 255 for each in strings)
    assert len(strings) > 1


def test_a_mailbox_is_found_by_address_and_by_id(postroom: Commands, domain: str) -> None:
    by_address = postroom.rows("mailboxes", "show", "ANN@example.ORG")
    assert by_address["email"] == "ann@example.org"
    assert postroom.rows("mailboxes", "show", by_address["id"]) == by_address
    (found,) = postroom.rows("mailboxes", "search", "NN@exam")
    assert found["id"] == by_address["id"]
    assert postroom.rows("mailboxes", "list", "--domain", domain, "--status=locked") == []


def test_a_mailbox_goes_through_its_life(postroom: Commands, domain: str, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    (created,) = postroom.rows(
        "mailboxes", "create", "life@example.org", "--password-file", password, "--period=yearly"
    )
    assert (created["subscription_period"], created["status"]) == ("yearly", "ready")
    (changed,) = postroom.rows(
        "mailboxes", "update", "life@example.org", "--period=canceled", "--password-file", password
    )
    assert changed["next_subscription_period"] == "canceled"
    flags = ("--display-name=Life", "--storage-quota-bytes=5", "--no-login")
    (changed,) = postroom.rows("mailboxes", "update", "life@example.org", *flags)
    assert (changed["display_name"], changed["storage_quota_bytes"]) == ("Life", 5)
    assert (changed["login_disabled"], changed["sending_disabled"]) == (True, False)
    (deleted,) = postroom.rows("mailboxes", "delete", "life@example.org")
    assert deleted["status"] == "deletion_scheduled"
    (restored,) = postroom.rows("mailboxes", "restore", "life@example.org")
    assert (restored["id"], restored["status"]) == (created["id"], "ready")
    (locked,) = postroom.rows("mailboxes", "lock", "life@example.org", "--reason=abuse")
    assert (locked["id"], locked["status"], locked["lock_reason"]) == (created["id"], "locked", "abuse")
    (found,) = postroom.rows("mailboxes", "search", "LIFE@example.org", "--all-organizations")
    assert (found["id"], found["lock_reason"]) == (created["id"], "abuse")
    (unlocked,) = postroom.rows("mailboxes", "unlock", created["id"])
    assert (unlocked["status"], unlocked["lock_reason"]) == ("ready", None)
    causes = [row["cause"] for row in postroom.rows("history", "life@example.org")]
    assert causes == ["create", "delete", "restore", "lock", "unlock"]


def test_a_change_can_be_bound_to_an_etag(postroom: Commands, domain: str) -> None:
    create = ("mailboxes", "create", "etag@example.org", "--password-file=-", "--display-name=Etta Tag")
    (created,) = postroom.rows(*create, stdin=PASSWORD)
    assert created["display_name"] == "Etta Tag"
    stale = f"--etag={created['etag']}"
    (changed,) = postroom.rows("mailboxes", "update", "etag@example.org", stale, "--no-login")
    line = postroom.failure(1, "mailboxes", "update", "etag@example.org", stale, "--login")
    assert changed["etag"] in line or "etag" in line
    assert postroom.failure(1, "mailboxes", "delete", "etag@example.org", stale)
    (alias,) = postroom.rows("aliases", "create", "etag@example.org", "etag-alias@example.org")
    assert postroom.failure(1, "aliases", "delete", alias["id"], "--etag=0")
    assert postroom.failure(1, "aliases", "update", alias["id"], "--etag=0", "--description=x")
    assert alias in postroom.rows("aliases", "list", "--mailbox=etag@example.org", f"--status={alias['status']}")
    assert postroom.rows("aliases", "list", "--mailbox=etag@example.org", "--status=deleting") == []
    (forwarding,) = postroom.rows("forwardings", "create", "etag@example.org", "etta@example.net")
    assert postroom.failure(1, "forwardings", "delete", forwarding["id"], "--etag=0")
    assert postroom.failure(1, "forwardings", "update", forwarding["id"], "etta@example.com", "--etag=0")
    of_mailbox = ("forwardings", "list", "--mailbox=etag@example.org")
    assert [row["id"] for row in postroom.rows(*of_mailbox, "--status=ready")] == [forwarding["id"]]
    assert postroom.rows(*of_mailbox, "--status=deleting") == []
    assert postroom.failure(1, "forwardings", "settings", "etag@example.org", "--keep-copy", "--etag=0")
    assert postroom.failure(1, "domains", "delete", domain, "--yes", "--force", "--etag=0")
    assert postroom.rows("domains", "show", domain)["status"] == "ready"


def test_the_operator_sees_a_mailbox_of_any_tenant_by_its_id(postroom: Commands, domain: str) -> None:
    (created,) = postroom.rows("mailboxes", "create", "seen@example.org", "--password-file=-", stdin=PASSWORD)
    postroom.rows("mailboxes", "lock", "seen@example.org", "--reason=abuse")
    shown = postroom.rows("mailboxes", "show", created["id"], "--as-operator", SCW_SECRET_KEY="")
    assert (shown["email"], shown["lock_reason"], shown["payment_standing"]) == ("seen@example.org", "abuse", "settled")
    line = postroom.failure(2, "mailboxes", "show", "seen@example.org", "--as-operator")
    assert line.startswith("MAILBOX: expected an id")


def test_the_operator_names_one_of_several_organizations(postroom: Commands, domain: str) -> None:
    other = postroom.rows("keys", "create", "--new-organization")
    key = {"SCW_SECRET_KEY": other["SCW_SECRET_KEY"]}
    postroom.rows("domains", "create", domain, **key)
    (created,) = postroom.rows("mailboxes", "create", "ann@example.org", "--password-file=-", stdin=PASSWORD, **key)
    organization = other["SCW_DEFAULT_ORGANIZATION_ID"]
    found = postroom.rows("mailboxes", "search", "nn@example.org", "--all-organizations")
    assert len(found) == 2
    assert {row["organization_id"] for row in found} >= {organization}
    (of_one,) = postroom.rows("mailboxes", "search", "nn@example.org", f"--organization-id={organization}")
    assert of_one["id"] == created["id"]
    assert len(postroom.rows("domains", "search", "example.org", "--all-organizations")) == 2
    (of_one,) = postroom.rows("domains", "search", "example.org", f"--organization-id={organization}")
    assert of_one["organization_id"] == organization
    assert [row["name"] for row in postroom.rows("domains", "search", "example.o")] == [domain]
    header, *rows = postroom("mailboxes", "search", "ann@", "--all-organizations", "--limit=1").lines
    assert (header.split()[:3], len(rows)) == (["id", "email", "organization_id"], 1)
    line = postroom.failure(2, "mailboxes", "lock", "ann@example.org", "--reason=abuse")
    assert line.startswith("MAILBOX: several organizations have a mailbox with this address: name it by its id")
    assert created["id"] in line
    line = postroom.failure(1, "mailboxes", "unlock", "nobody@example.org")
    assert line == "mailbox nobody@example.org not found"
    assert postroom.failure(2, "mailboxes", "unlock", "nobody").startswith("MAILBOX: must be an address")
    line = postroom.failure(2, "mailboxes", "search", "ab", "--all-organizations")
    assert line == "TEXT: must have at least 3 characters"


def test_aliases_by_address_and_by_id(postroom: Commands, domain: str) -> None:
    (created,) = postroom.rows("aliases", "create", "ann@example.org", "info@example.org", "--description==1+1")
    assert postroom.rows("aliases", "show", "info@example.org") == created
    listed = csv.DictReader(io.StringIO(postroom("aliases", "list", "--mailbox=ann@example.org", "--output=csv").out))
    (row,) = listed
    assert row["description"] == "'=1+1"
    (changed,) = postroom.rows("aliases", "update", created["id"], "--description=Office")
    assert changed["description"] == "Office"
    assert postroom.rows("mailboxes", "show", "ann@example.org")["aliases"] == ["info@example.org"]
    (catch_all,) = postroom.rows("aliases", "create", "ann@example.org", "@example.org")
    assert catch_all["catch_all"] is True
    assert postroom.rows("aliases", "show", "@example.org") == catch_all
    assert postroom("aliases", "delete", "@example.org").code == 0
    assert postroom("aliases", "delete", "info@example.org", "--mailbox=ann@example.org").code == 0
    line = postroom.failure(1, "aliases", "show", "info@example.org")
    assert line.startswith("ALIAS: info@example.org not found")
    line = postroom.failure(2, "aliases", "create", "ann@example.org", "info@example.com")
    assert line.startswith("ADDRESS: it must be in the domain of ann@example.org")


def test_forwardings_by_destination_and_by_id(postroom: Commands, domain: str) -> None:
    (created,) = postroom.rows("forwardings", "create", "ann@example.org", "Ann@example.net")
    (changed,) = postroom.rows(
        "forwardings", "update", "ann@EXAMPLE.net", "ann@example.com", "--mailbox=ann@example.org"
    )
    assert (changed["id"], changed["email"]) == (created["id"], "ann@example.com")
    settings = postroom.rows("forwardings", "settings", "ann@example.org", "--no-keep-copy")
    assert (settings["keep_copy"], settings["enabled"]) == (False, True)
    assert postroom.rows("forwardings", "settings", "ann@example.org")["keep_copy"] is False
    assert postroom.failure(2, "forwardings", "delete", "ann@example.com").startswith("--mailbox: set it")
    assert postroom("forwardings", "delete", created["id"]).code == 0
    assert postroom.rows("forwardings", "list", "--mailbox=ann@example.org") == []


def test_deleting_a_domain_is_confirmed_and_can_be_forced(postroom: Commands) -> None:
    postroom.ready_domain("gone.example")
    postroom.rows("mailboxes", "create", "bob@gone.example", "--password-file=-", stdin=PASSWORD)
    line = postroom.failure(2, "domains", "delete", "gone.example")
    assert line.startswith("--yes: gone.example and its 1 mailboxes are deleted at once")
    line = postroom.failure(1, "domains", "delete", "gone.example", "--yes")
    assert "1 mailbox not scheduled for deletion" in line
    assert "with --force, which deletes all its mailboxes" in line
    assert postroom("domains", "delete", "gone.example", "--yes", "--force").lines == ["gone.example is being deleted."]


@pytest.mark.parametrize(
    ("code", "arguments", "line"),
    [
        (2, ["mailboxes", "create", "a+b@example.org", "--password-file=-"], "ADDRESS: must not contain `+`"),
        (2, ["mailboxes", "create", "nobody", "--password-file=-"], "ADDRESS: must be an address of the form"),
        (2, ["mailboxes", "create", "bob@example.org", "--password-file=-"], "--password-file: expected one line"),
        (2, ["mailboxes", "create", "bob@example.org"], "--password-file: there is no terminal to ask on"),
        (2, ["mailboxes", "create", "bob@example.org", "--password-file=/none"], "--password-file: can't read /none"),
        (2, ["mailboxes", "update", "ann@example.org"], "--period, --password, …: set what"),
        (1, ["mailboxes", "show", "nobody@example.org"], "MAILBOX: nobody@example.org not found"),
        (1, ["mailboxes", "show", "ann@nope.org"], "MAILBOX: ann@nope.org: domain nope.org not found"),
        (
            1,
            ["mailboxes", "create", "ann@nope.org", "--password-file={file}"],
            "ADDRESS: ann@nope.org: domain nope",
        ),
        (1, ["mailboxes", "list", "--domain=nope.org"], "--domain: nope.org not found"),
        (1, ["aliases", "list", "--mailbox=ann@nope.org"], "--mailbox: ann@nope.org: domain nope.org not found"),
        (2, ["mailboxes", "list", "--domain=a..b"], "--domain: "),
        (2, ["mailboxes", "update", "ann@example.org", "--display-name=a\nb"], "--display-name: "),
        (2, ["mailboxes", "update", "ann@example.org", "--storage-quota-bytes=9999999999999999"], "--storage-quota-b"),
        (2, ["aliases", "create", "ann@example.org", "x@example.org", "--description=a\nb"], "--description: "),
        (2, ["forwardings", "create", "ann@example.org", "nobody"], "DESTINATION: "),
        (2, ["audit", "--key={long}"], "--key: "),
        (1, ["mailboxes", "show", "00000000-0000-4000-8000-000000000000"], "mailbox 00000000-0000"),
        (1, ["domains", "show", "nowhere.example"], "DOMAIN: nowhere.example not found"),
        (2, ["domains", "create", "com"], "NAME: "),
        (2, ["domains", "show", "example.org", "--zone", "--output=json"], "--zone: it is a format of its own"),
        (2, ["domains", "list", "--project-id=x"], "--project-id: must be a UUID"),
        (2, ["aliases", "update", "info@example.org"], "--description: set it"),
        (2, ["mailboxes", "lock", "ann@example.org"], "Missing option '--reason'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_that_names_the_argument(
    postroom: Commands, domain: str, code: int, arguments: list[str], line: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    arguments = [argument.format(file=file, long="x" * 300) for argument in arguments]
    assert postroom.failure(code, *arguments).startswith(line)


def test_a_weak_password_names_the_password_and_does_not_repeat_it(postroom: Commands, domain: str) -> None:
    line = postroom.failure(2, "mailboxes", "create", "bob@example.org", "--password-file=-", stdin="hunter2")
    assert line == "password: must have 12 to 128 characters"


def test_a_missing_or_unknown_key_has_an_exit_code_of_its_own(postroom: Commands) -> None:
    assert postroom.failure(5, "domains", "list", SCW_SECRET_KEY="").startswith("SCW_SECRET_KEY: set it")
    unknown = "00000000-0000-4000-8000-000000000000"
    assert postroom.failure(5, "domains", "list", SCW_SECRET_KEY=unknown) == "SCW_SECRET_KEY: the API key is unknown"
    assert postroom.failure(5, "payments", "list", POSTROOM_ADMIN_SECRET="").startswith("POSTROOM_ADMIN_SECRET: set it")
    assert postroom.failure(2, "payments", "list", POSTROOM_ADMIN_ADDRESS="").startswith("--admin-address: set it")


def test_a_validated_domain_says_what_happens_next(postroom: Commands) -> None:
    postroom.rows("domains", "create", "next.example")
    assert postroom("domains", "validate", "next.example").lines[-1].startswith("next.example is ready: it can have")
    again = postroom("domains", "validate", "next.example").lines[-1]
    assert again.startswith("next.example is ready: its records are looked up again; `postroom domains show`")
    assert postroom("domains", "validate", "next.example", "--timeout=0").lines[-1].startswith("next.example is ")
    assert len(postroom.rows("domains", "validate", "next.example")) == 12


def test_a_list_is_read_page_by_page_up_to_its_limit(
    postroom: Commands, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroomd.cli.forwardings.SMALL_PAGE_SIZE", 2)
    for number in range(5):
        postroom.rows("forwardings", "create", "ann@example.org", f"f{number}@example.net")
    listed = postroom.rows("forwardings", "list", "--mailbox=ann@example.org")
    assert [row["email"] for row in listed] == [f"f{number}@example.net" for number in range(5)]
    assert postroom.rows("forwardings", "list", "--mailbox=ann@example.org", "--limit=3") == listed[:3]


def test_an_empty_list_has_the_same_header(postroom: Commands, domain: str) -> None:
    (header,) = postroom("mailboxes", "search", "nobody", "--output=csv").lines
    assert postroom("mailboxes", "search", "ann@", "--output=csv").lines[0] == header


def test_a_row_has_the_fields_of_the_rest_api(postroom: Commands, domain: str) -> None:
    url = postroom.environment["SCW_API_URL"] + "/mailbox/v1alpha1/mailboxes?search=ann@"
    headers = {"X-Auth-Token": postroom.environment["SCW_SECRET_KEY"]}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:  # noqa: S310
        over_rest = json.load(response)["mailboxes"]
    assert postroom.rows("mailboxes", "search", "ann@") == over_rest
