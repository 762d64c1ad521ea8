"""A rotation end to end: the DNS decides which key signs, by the prober, the worker and the exported files."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import dkim
import pytest

from postroomd.domain.dkim import NewDkimKey, next_record
from postroomd.domain.model import DomainRecord, DomainStatus, RecordStatus
from postroomd.rpc.dkim import generate_dkim_key
from postroomd.storage.opening import open_repository
from postroomd.worker.dkim_files import DkimFiles
from tests.support.databases import NewDatabase
from tests.support.dns_environment import Environment, Registered
from tests.support.dns_probe import second_server
from tests.support.dns_records import NAME, zone
from tests.support.dns_server import Authority, Internet
from tests.support.factories import new_id, rotate_dkim_key
from tests.support.lifecycle import FREE

MESSAGE = b"From: ada@example.com\r\nTo: bob@example.org\r\nSubject: engine\r\n\r\nIt might act upon other things.\r\n"


@pytest.fixture
def database(new_sqlite_database: NewDatabase) -> str:
    return new_sqlite_database()


@pytest.fixture
async def environment(internet: Internet, database: str) -> AsyncIterator[Environment]:
    async with AsyncExitStack() as cleanups:
        repository = await open_repository(database)
        cleanups.push_async_callback(repository.close)
        yield Environment(repository, internet)


async def published_records(environment: Environment, registered: Registered) -> Mapping[str, DomainRecord]:
    return await environment.repository.domains.records(registered.context, registered.domain_id)


def sign(directory: Path) -> tuple[str, bytes]:
    """Sign a message as a signer that reads the exported files. Returns its selector and the signed message."""
    name, selector = (directory / "selectors.map").read_text().split()
    key = (directory / f"{name}.{selector}.key").read_bytes()
    signature = dkim.sign(MESSAGE, selector.encode(), name.encode(), key, include_headers=[b"from", b"subject"])
    return selector, signature + MESSAGE


def key_files(directory: Path) -> int:
    return len(list(directory.glob("*.key")))


def is_verified(message: bytes, records: Mapping[str, DomainRecord]) -> bool:
    """Whether a message is verified by the DKIM records among these, as the API returns them."""
    dns = {each.dns_name.encode(): each.dns_value.encode() for each in records.values()}
    return bool(dkim.verify(message, dnsfunc=lambda name, timeout=5: dns.get(name)))


async def test_mail_is_verified_before_during_and_after_a_rotation(environment: Environment, tmp_path: Path) -> None:
    registered = await environment.register("T0KEN")
    environment.internet.publish(NAME, zone(registered.records))
    await registered.request_validation()
    await environment.run_worker()
    assert await registered.status() is DomainStatus.READY
    domain = await environment.repository.domains.get(registered.context, registered.domain_id)
    for name in ("first", "second"):  # the key that the domain was registered with is no key pair
        pair = generate_dkim_key(1024)
        record = next_record(domain, name, pair.public_base64, record_id=new_id(), now=environment.now)
        key = NewDkimKey(selector=name, private_pem=pair.private_pem, record=record)
        rotate = partial(rotate_dkim_key, environment.repository, domain, key=key)
        await rotate(immediately=name == "first", now=environment.now)
        if name == "first":
            await environment.run_worker(FREE.dkim_overlap)

    files = DkimFiles(environment.repository.signing_keys, tmp_path)
    await files.update()
    selector, in_transit = sign(tmp_path)
    assert selector == "first"
    assert is_verified(in_transit, await published_records(environment, registered))
    unpublished = await published_records(environment, registered)
    current = {kind: record for kind, record in unpublished.items() if kind != "dkim_next"}

    environment.internet.publish(NAME, zone(current))
    await environment.run_worker()
    assert await registered.status() is DomainStatus.READY
    assert (await registered.results())["dkim_next"][0] is RecordStatus.NOT_FOUND

    environment.internet.publish(NAME, zone(unpublished))
    server, behind = second_server(environment.internet), Authority()
    up_to_date, server.handler = server.handler, behind
    behind.serve(NAME, zone(current))
    await rotate(now=environment.now)
    await environment.run_worker()
    assert (await registered.results())["dkim_next"][0] is RecordStatus.NOT_FOUND  # at one of the servers
    await files.update()
    assert sign(tmp_path)[0] == "first"

    server.handler = up_to_date
    await rotate(now=environment.now)  # which has it looked up
    await environment.run_worker()
    await files.update()
    records = await published_records(environment, registered)
    assert {kind for kind in records if kind.startswith("dkim")} == {"dkim", "dkim_previous"}
    selector, message = sign(tmp_path)
    assert selector == "second"
    assert is_verified(message, records)
    assert is_verified(in_transit, records)
    assert key_files(tmp_path) == 2

    await environment.run_worker(FREE.dkim_overlap)
    assert await files.update() == 1
    records = await published_records(environment, registered)
    assert {kind for kind in records if kind.startswith("dkim")} == {"dkim"}
    assert is_verified(message, records)
    assert not is_verified(in_transit, records)
    assert key_files(tmp_path) == 1
    assert await registered.status() is DomainStatus.READY
