"""API keys: the digest of a secret, issuing keys, and the environment variables for the SDKs."""

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from postroomd.domain.errors import NotFound
from postroomd.domain.keys import ACCESS_KEY, hash_secret
from postroomd.runtime.keys import IssuedKey, issue_key, new_project
from postroomd.runtime.sdk_environment import api_url, sdk_environment
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.tenancy import Tenancy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "0b2c6a0e-5f0d-4b0a-9a39-0d7d3f1d2c4b"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('keys')}/postroom.db"
    migrate(url)
    return url


@pytest.fixture
async def tenancy(url: str) -> AsyncIterator[Tenancy]:
    repository = await open_repository(url)
    yield repository.tenancy
    await repository.close()


async def issue(
    tenancy: Tenancy,
    *,
    organization_id: str | None = None,
    project_id: str | None = None,
    read_only: bool = False,
    expires_at: datetime | None = None,
) -> IssuedKey:
    return await issue_key(
        tenancy,
        organization_id=organization_id,
        project_id=project_id,
        read_only=read_only,
        expires_at=expires_at,
        mailbox_quota=7,
        now=NOW,
    )


def test_a_secret_is_hashed_in_lower_case() -> None:
    assert hash_secret(SECRET) == hashlib.sha256(SECRET.encode()).digest()
    assert hash_secret(SECRET.upper()) == hash_secret(SECRET)


@pytest.mark.parametrize(
    "text", ["", "x", SECRET[:-1], f"{SECRET} ", SECRET.replace("-", ""), f"{{{SECRET}}}", "é" * 36]
)
def test_a_secret_that_is_not_a_uuid_is_rejected_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a secret must be a UUID$"):
        hash_secret(text)


async def test_the_first_key_creates_an_organization_and_its_first_project(tenancy: Tenancy) -> None:
    issued = await issue(tenancy)
    key = issued.key
    assert ACCESS_KEY.fullmatch(key.access_key)
    assert str(uuid.UUID(issued.secret)) == issued.secret
    assert await tenancy.find_key(hash_secret(issued.secret)) == key
    (project,) = await tenancy.list_projects(key.organization_id)
    assert (project.id, project.name, project.mailbox_quota) == (key.default_project_id, "default", 7)
    assert (key.project_id, key.read_only, key.created_at, key.expires_at) == (None, False, NOW, None)


async def test_the_default_project_of_a_key_is_the_oldest(tenancy: Tenancy) -> None:
    first = (await issue(tenancy)).key
    await tenancy.create_project(new_project(first.organization_id, "younger", 1, NOW + timedelta(days=1)))
    second = (await issue(tenancy, organization_id=first.organization_id, read_only=True, expires_at=NOW)).key
    assert second.organization_id == first.organization_id
    assert second.default_project_id == first.default_project_id
    assert (second.project_id, second.read_only, second.expires_at) == (None, True, NOW)
    assert second.access_key != first.access_key


@pytest.mark.parametrize("with_organization", [True, False], ids=["with its organization", "without"])
async def test_a_key_can_be_limited_to_a_project(tenancy: Tenancy, with_organization: bool) -> None:
    organization_id = (await issue(tenancy)).key.organization_id
    project = new_project(organization_id, "other", 1, NOW)
    await tenancy.create_project(project)
    key = (
        await issue(tenancy, organization_id=organization_id if with_organization else None, project_id=project.id)
    ).key
    assert (key.organization_id, key.project_id, key.default_project_id) == (organization_id, project.id, project.id)


async def test_unknown_ids_are_not_found_and_create_nothing(tenancy: Tenancy) -> None:
    ours, theirs = (await issue(tenancy)).key, (await issue(tenancy)).key
    before = await tenancy.list_keys()
    with pytest.raises(NotFound, match="organization"):
        await issue(tenancy, organization_id=str(uuid.uuid4()))
    with pytest.raises(NotFound, match="project"):
        await issue(tenancy, project_id=str(uuid.uuid4()))
    with pytest.raises(NotFound, match="project"):
        await issue(tenancy, organization_id=ours.organization_id, project_id=theirs.default_project_id)
    assert await tenancy.list_keys() == before


async def test_the_environment_has_the_secret_and_the_repr_has_not(tenancy: Tenancy) -> None:
    issued = await issue(tenancy)
    assert issued.secret not in repr(issued)
    environment = sdk_environment(issued, "http://127.0.0.1:8080")
    assert list(environment.items()) == [
        ("SCW_API_URL", "http://127.0.0.1:8080"),
        ("SCW_ACCESS_KEY", issued.key.access_key),
        ("SCW_SECRET_KEY", issued.secret),
        ("SCW_DEFAULT_ORGANIZATION_ID", issued.key.organization_id),
        ("SCW_DEFAULT_PROJECT_ID", issued.key.default_project_id),
    ]


async def test_the_database_does_not_contain_the_secret(tenancy: Tenancy, url: str) -> None:
    issued = await issue(tenancy)
    directory = Path(url.removeprefix("sqlite+aiosqlite:///")).parent
    stored = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in directory.iterdir()))
    assert issued.key.access_key.encode() in stored
    assert not re.search(re.escape(issued.secret).encode(), stored, re.IGNORECASE)


@pytest.mark.parametrize(
    ("http_address", "url"),
    [
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("api.example.org:80", "http://api.example.org:80"),
    ],
)
def test_the_api_url_is_reachable_on_this_machine(http_address: str, url: str) -> None:
    assert api_url(http_address, tls=False) == url
    assert api_url(http_address, tls=True) == url.replace("http:", "https:")
