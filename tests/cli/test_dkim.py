"""The rotation of DKIM keys by the commands of the operator."""

import re

from tests.cli.running import Commands
from tests.support.waiting import block_until

FLAGS = ("--dkim-bits=1024", "--dkim-overlap=1h")


def test_a_key_is_rotated_once_its_record_is_published(postroom: Commands) -> None:
    """The worker of the trial takes every record as published, at its next lookup."""
    identifier = postroom.ready_domain("example.org")
    assert postroom.rows("dkim", "list") == []
    (key,) = postroom.rows("dkim", "show", "example.org")["keys"]
    assert (key["role"], key["selector"]) == ("signing", "postroom")

    rotated = postroom.rows("dkim", "rotate", "EXAMPLE.org", "--selector=mail2026")
    assert rotated["domain_id"] == identifier
    assert "PRIVATE" not in str(rotated)
    block_until(lambda: len(postroom.rows("dkim", "show", identifier)["keys"]) == 2)
    block_until(lambda: postroom.rows("dkim", "show", identifier)["keys"][0]["selector"] == "mail2026")
    (listed,) = postroom.rows("dkim", "list")
    assert (listed["name"], listed["signing"], listed["next"], listed["previous"]) == (
        *("example.org", "mail2026"),
        *(None, "postroom"),
    )
    header, row = postroom("dkim", "list").lines
    assert header.split()[:4] == ["domain_id", "name", "signing", "next"]
    assert row.split()[:3] == [identifier, "example.org", "mail2026"]

    records = {record["record"]: record for record in postroom.rows("domains", "show", "example.org")["records"]}
    assert records["dkim"]["dns_name"] == "mail2026._domainkey.example.org."
    assert records["dkim_previous"]["dns_name"] == "postroom._domainkey.example.org."
    assert "dkim_next" not in records
    zone = postroom("domains", "show", "example.org", "--zone").lines
    assert len([line for line in zone if re.match(r"(mail2026|postroom)\._domainkey\.", line)]) == 2
    assert "is kept until" in postroom.failure(1, "dkim", "rotate", "example.org")
    assert "signs already" in postroom.failure(1, "dkim", "cancel", "example.org")


def test_a_key_is_rotated_at_once_on_request(postroom: Commands) -> None:
    postroom.rows("domains", "create", "unpublished.org")
    (signing, following) = postroom.rows("dkim", "rotate", "unpublished.org")["keys"]
    assert (signing["role"], following["role"]) == ("signing", "next")
    canceled = postroom.rows("dkim", "cancel", "unpublished.org")
    assert [key["role"] for key in canceled["keys"]] == ["signing"]
    lines = postroom("dkim", "rotate", "unpublished.org", "--now").lines
    roles = [line.split()[0] for line in lines if line.startswith(("signing", "previous", "next"))]
    assert roles == ["signing", "previous"]
    selector = next(line.split()[1] for line in lines if line.startswith("signing"))
    assert lines[-1].startswith(f'{selector}._domainkey.unpublished.org. IN TXT "v=DKIM1; ')


def test_wrong_arguments_are_named(postroom: Commands) -> None:
    assert postroom.failure(2, "dkim", "rotate", "x").startswith("DOMAIN: ")
    assert postroom.failure(2, "dkim", "rotate", "example.org", "--selector=a b").startswith("--selector: ")
    assert "not found" in postroom.failure(1, "dkim", "show", "absent.example")
