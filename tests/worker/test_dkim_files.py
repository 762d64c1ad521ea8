"""The DKIM keys that the worker keeps in files: a signer that reads them signs what the published records verify."""

import stat
from collections.abc import Callable
from pathlib import Path

import dkim
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from postroomd.domain.domains import new_records
from postroomd.domain.model import DomainStatus
from postroomd.rpc.dkim import generate_dkim_key
from postroomd.storage import schema as t
from postroomd.storage.protocols.domains import DomainSecrets
from postroomd.storage.protocols.repository import Repository
from postroomd.worker import dkim_files
from postroomd.worker.dkim_files import DkimFiles
from tests.support.factories import SECRETS, Tenant, domain, new_domain, new_id, records
from tests.support.mail_hosts import MAIL_HOSTS

MESSAGE = b"From: ada@example.com\r\nTo: bob@example.org\r\nSubject: engine\r\n\r\nIt might act upon other things.\r\n"


def files_of(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def modes_of(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def prepare(directory: Path, mode: int) -> None:
    directory.mkdir(exist_ok=True)
    directory.chmod(mode)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "dkim"


async def test_a_message_signed_with_the_exported_key_is_verified_by_the_published_record(
    repository: Repository, tenant: Tenant, directory: Path
) -> None:
    key = generate_dkim_key(1024)
    new = domain(tenant, "example.com", DomainStatus.READY)
    made = new_records(new, MAIL_HOSTS, token="T0KEN", dkim_selector="post", dkim_key=key.public_base64, new_id=new_id)
    secrets = DomainSecrets("T0KEN", "post", key.private_pem)
    stored = await repository.domains.create(tenant.context, new, made, secrets)
    files = DkimFiles(repository.signing_keys, directory)
    assert await files.update() == 2
    path = directory / "example.com.post.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files_of(directory) == {path.name: key.private_pem, "selectors.map": "example.com post\n"}

    signature = dkim.sign(MESSAGE, b"post", b"example.com", path.read_bytes(), include_headers=[b"from", b"subject"])
    published = (await repository.domains.records(tenant.context, stored.id))["dkim"]
    dns = {published.dns_name.encode(): published.dns_value.encode()}
    assert dkim.verify(signature + MESSAGE, dnsfunc=lambda name, timeout=5: dns.get(name))
    assert not dkim.verify(
        signature + MESSAGE.replace(b"engine", b"Engine"), dnsfunc=lambda name, timeout=5: dns.get(name)
    )


async def test_the_files_follow_the_domains_that_own_their_names(
    repository: Repository,
    raw: AsyncEngine,
    tenant: Tenant,
    other: Tenant,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dkim_files, "PAGE", 2)
    kept, lost, *_ = [await new_domain(repository, tenant, f"{name}.test") for name in ("kept", "lost", "one", "two")]
    rival = domain(other, "lost.test", DomainStatus.WAITING_VALIDATION)
    await repository.domains.create(
        other.context, rival, records(rival), DomainSecrets("T", SECRETS.dkim_selector, "the rival's key")
    )
    selector = SECRETS.dkim_selector
    files = DkimFiles(repository.signing_keys, directory)
    assert await files.update() == 5
    assert await files.update() == 0
    (directory / "README").write_text("someone else's")
    names = [f"{name}.test.{selector}.key" for name in ("kept", "lost", "one", "two")]
    assert sorted(files_of(directory)) == sorted(["README", *names, "selectors.map"])

    async with raw.begin() as connection:  # the name changes hands
        for each, status in ((lost, DomainStatus.WAITING_VALIDATION), (rival, DomainStatus.READY)):
            await connection.execute(update(t.domains).where(t.domains.c.id == each.id).values(status=status))
    assert await files.update() == 1
    assert files_of(directory)[names[1]] == "the rival's key"
    async with raw.begin() as connection:
        await connection.execute(
            update(t.domains).where(t.domains.c.id != kept.id).values(status=DomainStatus.VALIDATING)
        )
    (directory / names[0]).unlink()
    assert await DkimFiles(repository.signing_keys, directory).update() == 5  # 3 removed, 1 written, and the map
    assert files_of(directory) == {
        "README": "someone else's",
        names[0]: SECRETS.dkim_private_key,
        "selectors.map": f"kept.test {selector}\n",
    }


async def test_a_group_reads_the_files_only_in_a_directory_with_the_set_group_id_bit(
    repository: Repository, tenant: Tenant, directory: Path
) -> None:
    await new_domain(repository, tenant)
    for bits, mode in ((0o2750, 0o640), (0o750, 0o600)):
        prepare(directory, bits)
        assert await DkimFiles(repository.signing_keys, directory).update() == 2
        assert modes_of(directory) == {mode}


def moved_behind_a_link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_suffix(".moved")))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "garbage": lambda path: path.write_bytes(b"\xff\x00garbage"),
    "other content of the same length": lambda path: path.write_text("x" * path.stat().st_size),
    "mode": lambda path: path.chmod(0o644),
    "missing": lambda path: path.unlink(),
    "symbolic link": moved_behind_a_link,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_damaged_file_is_repaired_and_logged_once(
    repository: Repository, tenant: Tenant, directory: Path, damage: str, restarted: bool
) -> None:
    for name in ("damaged.test", "intact.test"):
        await new_domain(repository, tenant, name)
    files = DkimFiles(repository.signing_keys, directory)
    await files.update()
    damaged, intact = (directory / f"{name}.test.{SECRETS.dkim_selector}.key" for name in ("damaged", "intact"))
    before = intact.stat()
    DAMAGES[damage](damaged)
    if restarted:
        files = DkimFiles(repository.signing_keys, directory)
    with capture_logs() as logs:
        assert await files.update() == 1
        assert await files.update() == 0
    assert damaged.read_text() == SECRETS.dkim_private_key
    assert stat.S_IMODE(damaged.lstat().st_mode) == 0o600
    assert not damaged.is_symlink()
    assert (intact.stat().st_ino, intact.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    repairs = [(line["log_level"], line["files"]) for line in logs if line["event"] == "DKIM key files repaired"]
    # A missing file may be that of a new domain, for a worker that has just started.
    assert repairs == ([] if restarted and damage == "missing" else [("warning", [damaged.name])])


async def test_an_intact_file_is_read_once(
    repository: Repository, tenant: Tenant, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await new_domain(repository, tenant)
    files = DkimFiles(repository.signing_keys, directory)
    await files.update()
    read: list[str] = []
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    for _ in range(3):
        await files.update()
    assert read == ["selectors.map"] * 3


async def test_a_key_is_not_in_the_repr(repository: Repository, tenant: Tenant) -> None:
    await new_domain(repository, tenant)
    (key,) = await repository.signing_keys.page("", 10)
    assert SECRETS.dkim_private_key not in repr(key)
    assert key.name == "example.com"
