"""Import and export of mailboxes as CSV."""

import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import grpc
import pytest

from postroom.client import channel
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
from postroomd.cli.bulk import calls, importing
from postroomd.cli.csv_cells import escape_formula, unescape_formula
from tests.cli.running import PASSWORD, Commands

HEADER = "domain,local_part,password,period,aliases,forwardings"


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8-sig")
    return path


@contextmanager
def connected(postroom: Commands) -> Iterator[MailboxServiceStub]:
    """Connect to the service as `import` does."""
    environment = postroom.environment
    with (
        patch.dict(os.environ, SCW_SECRET_KEY=environment["SCW_SECRET_KEY"]),
        channel(
            environment["POSTROOM_GRPC_ADDRESS"], environment["SCW_SECRET_KEY"], insecure=True, idempotency_keys=False
        ) as connection,
    ):
        yield MailboxServiceStub(connection)


def mailboxes_of(postroom: Commands, domain: str) -> dict[str, str]:
    return {row["email"]: row["id"] for row in postroom.rows("mailboxes", "list", "--domain", domain)}


def test_a_file_is_imported_once_and_exported_as_it_was(postroom: Commands, tmp_path: Path) -> None:
    postroom.ready_domain("once.example")
    file = write(
        tmp_path / "in.csv",
        f"Once.example,Ann,{PASSWORD},yearly,info sales@once.example,Ann@example.net bob@example.net",
        f"once.example,'=cmd,{PASSWORD},,,",
        "",
    )
    wanted = {"mailboxes": 2, "aliases": 2, "forwardings": 2, "existing": 0}
    assert postroom.rows("mailboxes", "import", file, "--dry-run") == [wanted]
    assert mailboxes_of(postroom, "once.example") == {}
    assert postroom.rows("mailboxes", "import", file) == [wanted]
    imported = mailboxes_of(postroom, "once.example")
    assert set(imported) == {"ann@once.example", "=cmd@once.example"}
    shown = postroom.rows("mailboxes", "show", "ann@once.example")
    assert shown["subscription_period"] == "yearly"
    assert shown["aliases"] == ["sales@once.example", "info@once.example"]

    again = {"mailboxes": 0, "aliases": 0, "forwardings": 0, "existing": 2}
    assert postroom.rows("mailboxes", "import", file) == [again]
    assert mailboxes_of(postroom, "once.example") == imported

    exported = postroom("mailboxes", "export", "--domain", "once.example").out
    assert list(csv.reader(io.StringIO(exported)))[1:] == [
        ["once.example", "'=cmd", "monthly", "", ""],
        ["once.example", "ann", "yearly", "info sales", "Ann@example.net bob@example.net"],
    ]


def test_what_a_mailbox_lacks_is_added(postroom: Commands, tmp_path: Path) -> None:
    postroom.ready_domain("lacks.example")
    postroom.rows("mailboxes", "create", "ann@lacks.example", "--password-file=-", stdin=PASSWORD)
    file = write(tmp_path / "in.csv", f"lacks.example,ann,{PASSWORD},,info,x@example.net")
    (counts,) = postroom.rows("mailboxes", "import", file)
    assert counts == {"mailboxes": 0, "aliases": 1, "forwardings": 1, "existing": 1}
    assert postroom.rows("mailboxes", "show", "ann@lacks.example")["forwardings"] == ["x@example.net"]


def test_every_fault_is_listed_by_line_and_column(postroom: Commands, tmp_path: Path) -> None:
    postroom.ready_domain("faults.example")
    postroom.rows("mailboxes", "create", "taken@faults.example", "--password-file=-", stdin=PASSWORD)
    postroom.rows("aliases", "create", "taken@faults.example", "alias@faults.example")
    file = write(
        tmp_path / "in.csv",
        "faults.example,a+b,short,weekly,info@other.example,nobody",
        "faults.example,ann,ann@faults.example,,,",
        f"nowhere.example,bob,{PASSWORD},,,",
        "faults.example,carl,,,bob bob,",
        f"faults.example,dora,{PASSWORD},,bob,",
        f"faults.example,alias,{PASSWORD},,,",
        f"faults.example,eve,{PASSWORD},,taken,",
        f"com,fred,{PASSWORD},,,a@b.cd a@B.cd",
        "faults.example",
        f"faults.example,gus,{PASSWORD},,info,Gus+x@faults.example info@faults.example",
        'faults.example,hal,short,"weekly\n",,',
        "faults.example,ira,short,,,",
    )
    result = postroom("mailboxes", "import", file, "--dry-run", "--output=csv")
    assert result.code == 2
    listed = [(int(row["line"]), row["column"]) for row in csv.DictReader(io.StringIO(result.out))]
    assert listed == [
        *[(2, "local_part"), (2, "password"), (2, "period"), (2, "aliases"), (2, "forwardings")],
        (3, "password"),
        (4, "domain"),
        *[(5, "password"), (5, "aliases")],
        (6, "aliases"),
        (7, "local_part"),
        (8, "aliases"),
        *[(9, "domain"), (9, "forwardings")],
        (10, ""),
        *[(11, "forwardings")] * 2,
        *[(12, "password"), (12, "period"), (14, "password")],
    ]
    assert result.err.endswith("nothing was imported; correct the file and run the command again\n")
    assert PASSWORD not in result.err + result.out
    messages = {(int(row["line"]), row["column"]): row["message"] for row in csv.DictReader(io.StringIO(result.out))}
    assert messages[2, "aliases"].startswith("info@other.example: ")
    assert messages[2, "forwardings"].startswith("nobody: ")
    assert messages[8, "aliases"].startswith("taken@faults.example ")
    as_text = postroom("mailboxes", "import", file)
    assert as_text.err.splitlines()[5].startswith(f"{file}:3: password: must differ from the address")
    assert set(mailboxes_of(postroom, "faults.example")) == {"taken@faults.example"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("domain,local_part\n", "FILE: line 1: password or password_hash is missing: expected the columns domain"),
        ("domain,local_part,password,colour\n", "FILE: line 1: a column is unknown: expected the columns"),
        ("", "FILE: line 1: domain, local_part, password or password_hash is missing"),
        (f'{HEADER}\nx,"y\n', "FILE: "),
    ],
)
def test_a_file_of_another_form_is_one_line(postroom: Commands, tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "in.csv"
    file.write_text(text)
    assert postroom.failure(2, "mailboxes", "import", file).startswith(line)
    file.write_bytes(b"\xff\xfe")
    assert postroom.failure(2, "mailboxes", "import", file).endswith("is not UTF-8: save it as CSV in UTF-8")
    assert postroom.failure(2, "mailboxes", "import", tmp_path / "none").startswith("FILE: can't read")


def test_an_interrupted_import_is_resumed(postroom: Commands, tmp_path: Path) -> None:
    postroom.ready_domain("resume.example")
    file = write(tmp_path / "in.csv", *(f"resume.example,m{number},{PASSWORD},,," for number in range(50)))
    original = calls.create_mailboxes
    done: list[object] = []

    def interrupted(*arguments: object) -> object:
        if done:
            raise KeyboardInterrupt
        done.append(arguments)
        return original(*arguments)  # type: ignore[arg-type] # as they came

    with patch.object(importing, "create_mailboxes", interrupted), patch.object(importing, "CALLS_OF_PASSWORDS", 1):
        line = postroom.failure(130, "mailboxes", "import", file)
    assert line == "interrupted: run the same command again to resume"
    assert len(mailboxes_of(postroom, "resume.example")) == importing.BATCH_OF_PASSWORDS
    (counts,) = postroom.rows("mailboxes", "import", file)
    assert (counts["mailboxes"], counts["existing"]) == (30, 20)
    assert len(mailboxes_of(postroom, "resume.example")) == 50


def test_a_batch_whose_response_was_lost_is_not_created_twice(postroom: Commands) -> None:
    domain_id = postroom.ready_domain("lost.example")
    batch = [calls.NewMailbox(f"m{number}", PASSWORD) for number in range(3)]
    with connected(postroom) as service:
        first = calls.create_mailboxes(service, domain_id, "monthly", batch)
        again = calls.create_mailboxes(service, domain_id, "monthly", batch)
        assert [mailbox.id for mailbox in again] == [mailbox.id for mailbox in first]
        with pytest.raises(calls.CallFailed) as caught:
            calls.create_mailboxes(service, domain_id, "yearly", batch)
        assert caught.value.details.code is grpc.StatusCode.ALREADY_EXISTS


def test_a_batch_that_conflicts_is_named_and_the_others_are_imported(postroom: Commands, tmp_path: Path) -> None:
    domain_id = postroom.ready_domain("race.example")
    rows = [f"race.example,m{number:02},{PASSWORD},,," for number in range(importing.BATCH_OF_PASSWORDS + 2)]
    file = write(tmp_path / "in.csv", *rows)
    original = importing.compare

    def raced(*arguments: object) -> object:
        work = original(*arguments)  # type: ignore[arg-type] # as they came
        with connected(postroom) as service:  # another caller is faster
            calls.create_mailboxes(service, domain_id, "monthly", [calls.NewMailbox("m03", PASSWORD)])
        return work

    with patch.object(importing, "compare", raced):
        result = postroom("mailboxes", "import", file)
    assert result.code == 1
    assert result.err.startswith(f"{file}:5: local_part: m03@race.example")
    assert result.err.endswith("the other rows were imported; correct the file and run the command again\n")
    assert set(mailboxes_of(postroom, "race.example")) == {f"m{number:02}@race.example" for number in (3, 20, 21)}


HASH = "{SHA512-CRYPT}$6$saltsalt$" + "a" * 86


def test_hashes_are_imported_by_a_key_that_permits_them(postroom: Commands, tmp_path: Path) -> None:
    postroom.ready_domain("hashes.example")
    organization = postroom.environment["SCW_DEFAULT_ORGANIZATION_ID"]
    key = postroom.rows("keys", "create", "--organization-id", organization, "--password-hashes")
    header = "domain,local_part,password_hash,aliases"
    rows = [f"hashes.example,m{number},{HASH},{'a0 @' if number == 0 else ''}" for number in range(250)]
    file = write(tmp_path / "in.csv", *rows, header=header)
    result = postroom("mailboxes", "import", file)
    assert result.code == 5
    assert result.err.startswith(f"{file}:2: lines 2 to 101 were not imported: ")
    assert HASH not in result.err
    with patch.object(calls, "_create", wraps=calls._create) as create:
        (counts,) = postroom.rows("mailboxes", "import", file, SCW_SECRET_KEY=key["SCW_SECRET_KEY"])
    assert create.call_count == 3  # batches of 100
    assert (counts["mailboxes"], counts["aliases"]) == (250, 2)
    exported = list(csv.DictReader(io.StringIO(postroom("mailboxes", "export", "--with-hashes").out)))
    imported = [row for row in exported if row["domain"] == "hashes.example"]
    assert {row["password_hash"] for row in imported} == {HASH}
    assert {row["aliases"] for row in imported} == {"", "'@ a0"}
    faulty = write(tmp_path / "bad.csv", "hashes.example,x,secret,", header=header)
    result = postroom("mailboxes", "import", faulty)
    assert result.err.startswith(f"{faulty}:2: password_hash: must begin with its scheme")
    assert "secret" not in result.err


def test_an_export_with_hashes_is_private(postroom: Commands, tmp_path: Path) -> None:
    postroom.ready_domain("secret.example")
    postroom.rows("mailboxes", "create", "ann@secret.example", "--password-file=-", stdin=PASSWORD)
    file = tmp_path / "out.csv"
    file.touch(mode=0o644)
    command = ("mailboxes", "export", "--domain=secret.example")
    assert postroom(*command, "--with-hashes", "--file", file).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    (row,) = csv.DictReader(io.StringIO(file.read_text()))
    assert row["password_hash"].startswith("{ARGON2ID}$argon2id$")
    assert "password_hash" not in postroom(*command).out
    assert postroom.failure(1, "mailboxes", "export", "--domain=none.example") == "--domain: none.example not found"


@pytest.mark.parametrize("cell", ["", "=1", "'=1", "''=1", "+1", "-x", "@x", "\tx", "'tis", "ann", "a=1"])
def test_escaped_cells_are_no_formulas_and_are_read_back(cell: str) -> None:
    escaped = escape_formula(cell)
    assert not escaped.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unescape_formula(escaped) == cell
