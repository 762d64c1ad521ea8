"""Contract of the encryption of private DKIM keys."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.encryption import Reencryption
from postroomd.domain.errors import SecretKeyError
from postroomd.storage import schema as t
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.secret_keys import SecretKeys
from tests.support.database_state import dump, rows_of
from tests.support.factories import OPERATOR, SECRETS, Tenant, new_domain, new_tenant, rotate_dkim_key
from tests.support.stores import Store


def key_file(directory: Path, *octets: int) -> SecretKeys:
    """Write a file with keys, the present one first, and read it."""
    path = directory / f"keys-{'-'.join(map(str, octets))}"
    path.touch(0o600)
    path.write_text("".join(base64.b64encode(bytes([octet]) * 32).decode() + "\n" for octet in octets))
    return SecretKeys(path)


@asynccontextmanager
async def opened(store: Store, keys: SecretKeys) -> AsyncIterator[Repository]:
    async with AsyncExitStack() as cleanups:
        repository = await open_repository(store.url, secret_keys=keys)
        cleanups.push_async_callback(repository.close)
        yield repository


async def exported(repository: Repository) -> list[tuple[str, str, str]]:
    page = await repository.signing_keys.page("", 100)
    return [(key.name, key.selector, key.private_pem) for key in page]


async def populate(repository: Repository) -> list[tuple[str, str, str]]:
    """Create domains without a rotation and at each of its stages. Returns what is exported of them."""
    tenant = await new_tenant(repository)
    for name in ("a.test", "b.test", "c.test", "d.test"):
        domain = await new_domain(repository, tenant, name)
        if name in {"b.test", "c.test"}:
            await rotate_dkim_key(repository, domain, immediately=name == "c.test")
    private_key = SECRETS.dkim_private_key
    new = ("c.test", "new", "the private key of new")
    old = [(f"{name}.test", SECRETS.dkim_selector, private_key) for name in "abcd"]
    return [*old[:2], new, *old[2:]]


async def reencrypt(repository: Repository, limit: int = 2) -> list[Reencryption]:
    steps = [await repository.secrets.reencrypt("", limit, OPERATOR)]
    while (after := steps[-1].last_id) is not None:
        steps.append(await repository.secrets.reencrypt(after, limit, OPERATOR))
    return steps


async def stored(raw: AsyncEngine) -> Counter[str | None]:
    """The number of stored private keys by the key that encrypts them; each is plain exactly if that is None."""
    domains = await rows_of(raw, select(t.domains.c.dkim_key_id, t.domains.c.dkim_private_key))
    rows = domains + await rows_of(raw, select(t.dkim_rotations.c.key_id, t.dkim_rotations.c.private_key))
    assert all(("private key" in text) == (key_id is None) for key_id, text in rows)
    return Counter(key_id for key_id, _ in rows)


class SecretsContract:
    """The contract of `Secrets`."""

    async def test_private_keys_are_encrypted_from_their_creation(
        self, store: Store, raw: AsyncEngine, tmp_path: Path
    ) -> None:
        keys = key_file(tmp_path, 1)
        async with opened(store, keys) as repository:
            expected = await populate(repository)
            assert await stored(raw) == {keys.current_id: 6}
            assert await exported(repository) == expected
            assert await repository.secrets.counts() == {keys.current_id: 6}
            await repository.secrets.require_keys()

    async def test_private_keys_are_encrypted_in_steps_and_then_with_another_key(
        self, store: Store, repository: Repository, raw: AsyncEngine, tmp_path: Path
    ) -> None:
        expected = await populate(repository)
        assert await stored(raw) == {None: 6}
        present: SecretKeys | None = None
        for octets in ((1,), (2, 1)):
            keys = key_file(tmp_path, *octets)
            async with opened(store, keys) as encrypting:
                steps = await reencrypt(encrypting)
                assert len(steps) == 3  # of 2, 2 and 0 domains
                changed = [sum(getattr(step, name) for step in steps) for name in ("encrypted", "reencrypted")]
                assert changed == ([6, 0] if present is None else [0, 6])
                assert {step.key_id for step in steps} == {keys.current_id}
                assert await stored(raw) == {keys.current_id: 6}
                assert await exported(encrypting) == expected
                before = await dump(raw)
                (again,) = await reencrypt(encrypting)
                assert (again.encrypted, again.reencrypted) == (0, 0)
                assert await dump(raw) == before
            present = keys

    async def test_an_interrupted_run_is_continued(
        self, store: Store, repository: Repository, raw: AsyncEngine, tmp_path: Path
    ) -> None:
        expected = await populate(repository)
        keys = key_file(tmp_path, 1)
        async with opened(store, keys) as encrypting:
            await encrypting.secrets.reencrypt("", 1)
            assert (await stored(raw))[None] in {4, 5}
            assert await exported(encrypting) == expected  # both kinds
            await reencrypt(encrypting)
            assert await stored(raw) == {keys.current_id: 6}

    async def test_a_rotation_goes_on_while_keys_are_encrypted(
        self, store: Store, repository: Repository, raw: AsyncEngine, tenant: Tenant, tmp_path: Path
    ) -> None:
        domains = [await new_domain(repository, tenant, f"d{number}.test") for number in range(6)]
        for domain in domains:
            await rotate_dkim_key(repository, domain)
        keys = key_file(tmp_path, 1)
        async with opened(store, keys) as encrypting:
            await asyncio.gather(
                reencrypt(encrypting, 1), *(rotate_dkim_key(repository, each, immediately=True) for each in domains)
            )
            assert await stored(raw) == {keys.current_id: 12}
            assert {key for _, _, key in await exported(encrypting)} == {
                SECRETS.dkim_private_key,
                "the private key of new",
            }

    async def test_a_missing_key_is_an_error_that_names_the_setting(
        self, store: Store, repository: Repository, tmp_path: Path
    ) -> None:
        await repository.secrets.require_keys()
        keys, other = key_file(tmp_path, 1), key_file(tmp_path, 2)
        async with opened(store, keys) as encrypting:
            await populate(encrypting)
        async with opened(store, other) as wrong:
            for refused in (repository, wrong):
                with pytest.raises(SecretKeyError, match=f"--secret-key-file.*{keys.current_id}"):
                    await refused.secrets.require_keys()
                with pytest.raises(SecretKeyError, match=f"--secret-key-file.*{keys.current_id}"):
                    await refused.signing_keys.page("", 10)
            with pytest.raises(SecretKeyError, match=f"--secret-key-file.*{keys.current_id}"):
                await reencrypt(wrong)
        with pytest.raises(SecretKeyError, match=r"^--secret-key-file: set it"):
            await repository.secrets.reencrypt("", 10)
        async with opened(store, key_file(tmp_path, 2, 1)) as both:
            await both.secrets.require_keys()

    async def test_each_step_that_changes_keys_is_audited(
        self, store: Store, repository: Repository, raw: AsyncEngine, tmp_path: Path
    ) -> None:
        await populate(repository)
        keys = key_file(tmp_path, 1)
        async with opened(store, keys) as encrypting:
            await reencrypt(encrypting)
        events = t.audit_events.c
        query = select(events.resource_id, events.organization_id).where(events.resource_type == "secret_key")
        assert await rows_of(raw, query) == [(keys.current_id, None)] * 2
