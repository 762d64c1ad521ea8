"""The desired state of a file: `plan` and `apply`."""

import re
from pathlib import Path
from unittest.mock import patch

import pytest

from postroomd.cli.bulk import applying
from tests.cli.running import PASSWORD, Commands

NOTHING = "0 create, 0 update, 0 restore, 0 delete"


def write(directory: Path, text: str, name: str = "state.yaml") -> Path:
    (directory / "password").write_text(f"{PASSWORD}\n")
    file = directory / name
    file.write_text(text)
    return file


def plan(postroom: Commands, file: Path, *flags: str) -> list[str]:
    """Return the lines of a plan that must have a difference."""
    result = postroom("plan", file, *flags)
    assert result.code == 3, result
    return result.out.splitlines()


def assert_unchanged(postroom: Commands, file: Path, *flags: str) -> None:
    result = postroom("plan", file, *flags)
    assert (result.code, result.out.splitlines()) == (0, [NOTHING]), result
    assert postroom("apply", file, *flags).lines == [NOTHING]


FULL = """
domains:
  - name: Full.example
    mailboxes:
      - local_part: Ann
        period: yearly
        password_file: password
        display_name: Ann
        storage_quota_bytes: 1000
        aliases: [info, {local_part: sales, description: Sales team}, "@"]
        forwardings: [ann@example.net]
        keep_copy: false
      - {local_part: bob, password_file: password, aliases: [], forwardings: []}
"""


def test_a_file_is_planned_and_applied_once(postroom: Commands, tmp_path: Path) -> None:
    file = write(tmp_path, FULL)
    lines = plan(postroom, file)
    assert lines == [
        "+ domain full.example",
        "+ mailbox ann@full.example: period yearly, display_name Ann, storage_quota_bytes 1000",
        "+ mailbox bob@full.example: period monthly",
        "+ alias info@full.example of ann@full.example",
        '+ alias sales@full.example of ann@full.example: description "Sales team"',
        "+ alias @full.example of ann@full.example",
        "+ forwarding ann@example.net of ann@full.example",
        "~ forwarding settings ann@full.example: keep_copy yes -> no",
        "7 create, 1 update, 0 restore, 0 delete",
    ]
    assert postroom("plan", file).out.splitlines() == lines  # it has changed nothing
    assert postroom("apply", file).lines == lines
    shown = postroom.rows("mailboxes", "show", "ann@full.example")
    assert (shown["subscription_period"], shown["display_name"]) == ("yearly", "Ann")
    assert sorted(shown["aliases"]) == ["@full.example", "info@full.example", "sales@full.example"]
    assert postroom.rows("forwardings", "settings", "ann@full.example")["keep_copy"] is False
    before = {row["id"]: row["etag"] for row in postroom.rows("mailboxes", "search", "@full.example")}
    assert_unchanged(postroom, file)
    assert {row["id"]: row["etag"] for row in postroom.rows("mailboxes", "search", "@full.example")} == before


def test_differences_are_updated(postroom: Commands, tmp_path: Path) -> None:
    text = FULL.replace("Full", "Diff")
    assert postroom("apply", write(tmp_path, text)).code == 0
    changed = (
        text.replace("period: yearly", "period: canceled")
        .replace("Sales team", "Sales")
        .replace("display_name: Ann", "display_name: Ann B.\n        login_disabled: true")
        .replace("keep_copy: false", "keep_copy: true\n        forwarding_enabled: false")
    )
    file = write(tmp_path, changed)
    postroom.rows("mailboxes", "delete", "bob@diff.example")
    lines = plan(postroom, file)
    assert lines == [
        "~ mailbox bob@diff.example: restore",
        '~ mailbox ann@diff.example: display_name Ann -> "Ann B.", login_disabled no -> yes, period yearly -> canceled',
        '~ alias sales@diff.example of ann@diff.example: description "Sales team" -> Sales',
        "~ forwarding settings ann@diff.example: keep_copy no -> yes, enabled yes -> no",
        "0 create, 3 update, 1 restore, 0 delete",
    ]
    assert postroom("apply", file).lines == lines
    assert_unchanged(postroom, file)


def test_nothing_is_deleted_without_prune(postroom: Commands, tmp_path: Path) -> None:
    assert postroom("apply", write(tmp_path, FULL.replace("Full", "Prune"))).code == 0
    file = write(
        tmp_path,
        """
domains:
  - name: prune.example
    mailboxes:
      - {local_part: bob, password_file: password, aliases: [], forwardings: []}
      - {local_part: carl, password_file: password}
""",
    )
    result = postroom("apply", file)
    assert result.lines == ["+ mailbox carl@prune.example: period monthly", "1 create, 0 update, 0 restore, 0 delete"]
    assert result.err.startswith("1 more are not in the file and are kept")
    unmanaged = write(tmp_path, "domains: [{name: prune.example}]")
    assert postroom("plan", unmanaged).code == 0


def test_prune_deletes_at_most_what_is_allowed_and_asks(postroom: Commands, tmp_path: Path) -> None:
    names = [row["name"] for row in postroom.rows("domains", "list")]
    others = "".join(f"  - name: {name}\n" for name in names)
    assert postroom("apply", write(tmp_path, FULL.replace("Full", "Gone"))).code == 0
    fewer = f"""
domains:
{others}
  - name: gone.example
    mailboxes:
      - {{local_part: ann, aliases: [info], forwardings: []}}
"""
    file = write(tmp_path, fewer)
    lines = plan(postroom, file, "--prune")
    assert lines == [
        "- alias @gone.example of ann@gone.example",
        "- alias sales@gone.example of ann@gone.example",
        "- forwarding ann@example.net of ann@gone.example",
        "- mailbox bob@gone.example",
        "0 create, 0 update, 0 restore, 4 delete",
    ]
    line = postroom.failure(1, "apply", file, "--prune", "--max-deletions=3", "--yes")
    assert line.startswith("--max-deletions: 4 resources would be deleted, and 3 may be: nothing was changed")
    result = postroom("apply", file, "--prune")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[:4] == lines[:4]
    assert "--yes: 4 resources are deleted." in result.err
    assert plan(postroom, file, "--prune") == lines
    assert postroom("apply", file, "--prune", "--yes").lines == lines
    assert_unchanged(postroom, file, "--prune")

    none = write(tmp_path, f"domains:\n{others}" if others else "domains: []\n")
    assert plan(postroom, none, "--prune")[:-1] == ["- mailbox ann@gone.example", "- domain gone.example"]
    assert postroom("apply", none, "--prune", "--yes").code == 0
    assert_unchanged(postroom, none, "--prune")


def test_an_alias_moves_only_with_prune(postroom: Commands, tmp_path: Path) -> None:
    kept = [row["name"] for row in postroom.rows("domains", "list") if row["status"] != "deleting"]
    names = "".join(f"  - name: {name}\n" for name in kept)
    text = f"""
domains:
{names}
  - name: move.example
    mailboxes:
      - {{local_part: ann, password_file: password, aliases: [info]}}
      - {{local_part: bob, password_file: password, aliases: []}}
"""
    assert postroom("apply", write(tmp_path, text)).code == 0
    moved = text.replace("aliases: []", "aliases: [INFO]", 1).replace("aliases: [info]", "aliases: []", 1)
    file = write(tmp_path, moved)
    result = postroom("plan", file)
    assert result.code == 2
    assert "info@move.example is an alias of ann@move.example: delete it, or have --prune do so" in result.err
    assert postroom("apply", file, "--prune", "--yes").code == 0
    assert postroom.rows("mailboxes", "show", "bob@move.example")["aliases"] == ["info@move.example"]
    assert_unchanged(postroom, file, "--prune")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["1: domains: must be set"]),
        ("domain: []", ["1: domain: is unknown: use domains", "1: domains: must be set"]),
        ("domains: {a: b}", ["1: domains: must be a list"]),
        ("domains:\n  - name: com\n", ["2: domains[0].name: "]),
        ("domains:\n  - name: a.example\n    name: b.example\n", ["3: domains[0].name: is repeated"]),
        (
            "domains:\n  - name: a.example\n    mailboxes:\n"
            "      - {local_part: a+b, period: weekly, keep_copy: maybe}\n"
            "      - {local_part: bob, aliases: [c, c], forwardings: [x], storage_quota_bytes: -1}\n"
            "      - {local_part: bob, password_file: a, password_hash: b}\n",
            [
                "4: domains[0].mailboxes[0].local_part: must not contain `+`",
                "4: domains[0].mailboxes[0].period: must be one of monthly",
                "5: domains[0].mailboxes[1].aliases[1]",
                "5: domains[0].mailboxes[1].forwardings[0]: must be an address",
                "5: domains[0].mailboxes[1].storage_quota_bytes: must be 0 to",
                "6: domains[0].mailboxes[2].local_part: bob@a.example is on line 5 already",
                "6: domains[0].mailboxes[2].password_hash: set it or password_file, not both",
                "6: domains[0].mailboxes[2].password_hash: must begin with its scheme",
            ],
        ),
        ("domains:\n  - name: new.example\n    mailboxes: [{local_part: ann}]\n", ["3: password_file: must be set"]),
        (
            "domains:\n  - name: new.example\n    mailboxes: [{local_part: ann, password_file: none}]\n",
            ["3: password_file: can't read"],
        ),
        ("domains:\n", ["1: domains: must be a list: write [] for none, or leave it out"]),
        (
            "domains:\n  - name: new.example\n    mailboxes:\n#     - local_part: ann\n",
            ["3: domains[0].mailboxes: must be a list: write [] for none, or leave it out"],
        ),
        (
            "domains:\n  - name: new.example\n    mailboxes:\n"
            "      - {local_part: ann, aliases: [info], forwardings: [Ann+x@new.example, info@new.example]}\n",
            [
                "4: domains[0].mailboxes[0].forwardings: Ann+x@new.example must not be the mailbox's own address",
                "4: domains[0].mailboxes[0].forwardings: info@new.example must not be an alias of the mailbox",
            ],
        ),
        (
            "domains:\n  - name: new.example\n    mailboxes:\n      - &a {local_part: ann}\n      - <<: *a\n",
            ["5: domains[0].mailboxes[1]: merge keys (<<) are not supported"],
        ),
    ],
    ids=[
        *("empty", "unknown", "no list", "bad name", "repeated", "mailboxes", "no password", "no file"),
        *("no domains", "no mailboxes", "loops", "merge key"),
    ],
)
def test_every_fault_is_listed_by_line_and_nothing_is_changed(
    postroom: Commands, tmp_path: Path, text: str, faults: list[str]
) -> None:
    file = write(tmp_path, text)
    for command in ("plan", "apply"):
        result = postroom(command, file)
        assert (result.code, result.out) == (2, "")
        *lines, last = result.err.splitlines()
        for fault in faults:
            assert any(line.startswith(f"{file}:{fault}") for line in lines), (fault, lines)
        assert re.search(r"(^|\D)(1 fault|\d+ faults): nothing was changed$", last)
    assert "new.example" not in [row["name"] for row in postroom.rows("domains", "list")]


def test_a_file_that_is_no_yaml_is_one_line(postroom: Commands, tmp_path: Path) -> None:
    file = write(tmp_path, "domains: [\nsecret: {")
    line = postroom.failure(2, "plan", file)
    assert line.startswith(f"FILE: {file}:")
    assert "secret" not in line
    assert postroom.failure(2, "plan", tmp_path / "none").startswith("FILE: can't read")


def test_a_plan_as_json_has_no_passwords(postroom: Commands, tmp_path: Path) -> None:
    result = postroom("plan", write(tmp_path, FULL.replace("Full", "Json")), "--output=json")
    assert result.code == 3
    assert PASSWORD not in result.out
    assert '"action": "create"' in result.out
    assert "password" not in result.out


def test_a_change_that_fails_is_named_and_the_others_are_made(postroom: Commands, tmp_path: Path) -> None:
    postroom.ready_domain("fails.example")
    postroom.rows("mailboxes", "create", "ann@fails.example", "--password-file=-", stdin=PASSWORD)
    postroom.rows("mailboxes", "lock", "ann@fails.example", "--reason=abuse")
    file = write(
        tmp_path,
        """
domains:
  - name: fails.example
    mailboxes:
      - {local_part: ann, period: yearly, aliases: [info]}
""",
    )
    result = postroom("apply", file)
    assert result.code == 1
    assert result.out.splitlines()[0] == "+ alias info@fails.example of ann@fails.example"
    failed, summary = result.err.splitlines()
    assert failed.startswith("postroom: ~ mailbox ann@fails.example: period monthly -> yearly: mailbox ")
    assert summary == "postroom: 1 of 2 changes failed: the others are made"


def test_what_a_failed_creation_would_have_is_named(postroom: Commands, tmp_path: Path) -> None:
    file = write(tmp_path, FULL.replace("Full.example", "never.local"))
    result = postroom("apply", file)
    assert result.code == 1
    domain, *others, summary = result.err.splitlines()
    assert domain.startswith("postroom: + domain never.local: name: ")
    assert others[0].endswith(": never.local was not created")
    assert any(line.endswith(": ann@never.local was not created") for line in others)
    assert summary == "postroom: 8 of 8 changes failed: nothing was changed"


def test_an_interrupted_apply_goes_on(postroom: Commands, tmp_path: Path) -> None:
    file = write(tmp_path, FULL.replace("Full", "Halted"))
    with patch.object(applying, "create_alias", side_effect=KeyboardInterrupt):
        line = postroom.failure(130, "apply", file)
    assert line == "interrupted: run the same command again to go on"
    lines = postroom("apply", file).lines
    assert lines[-1] == "4 create, 1 update, 0 restore, 0 delete"
    assert_unchanged(postroom, file)
