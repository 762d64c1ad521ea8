"""Idempotency keys, ETags and strong reads over REST, through every process."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tests.e2e.support import Up

PASSWORD = "correct horse battery staple"


class Rest:
    """A REST client with the first API key."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        url = f"/mailbox/v1alpha1/{path}"
        async with self._session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.read(), response.headers

    async def create(self, path: str, body: object) -> dict[str, Any]:
        status, content, _ = await self.call("POST", path, body)
        assert status == 200, content
        created: dict[str, Any] = json.loads(content)
        return created

    async def create_mailbox(self) -> dict[str, Any]:
        domain = await self.create("domains", {"name": f"{uuid4()}.example"})
        batch = {"domain_id": domain["id"], "mailboxes": [{"local_part": "ann", "password": PASSWORD}]}
        created: dict[str, Any] = (await self.create("batch-create-mailboxes", batch))["mailboxes"][0]
        return created


@pytest.fixture
async def rest(postroom: Up) -> AsyncIterator[Rest]:
    token = {"X-Auth-Token": postroom.environment["SCW_SECRET_KEY"]}
    async with aiohttp.ClientSession(postroom.environment["SCW_API_URL"], headers=token) as session:
        yield Rest(session)


async def test_a_repeated_call_returns_the_same_bytes(rest: Rest) -> None:
    body, key = {"name": f"{uuid4()}.example"}, {"Idempotency-Key": uuid4().hex}
    status, first, headers = await rest.call("POST", "domains", body, key)
    assert status == 200
    assert "Idempotency-Replayed" not in headers
    status, again, headers = await rest.call("POST", "domains", body, key)
    assert (status, again) == (200, first)
    assert headers["Idempotency-Replayed"] == "true"


async def test_concurrent_repeats_of_a_batch_create_it_once(rest: Rest) -> None:
    domain = await rest.create("domains", {"name": f"{uuid4()}.example"})
    body = {"domain_id": domain["id"], "mailboxes": [{"local_part": "bob", "password": PASSWORD}]}
    key = {"Idempotency-Key": uuid4().hex}
    responses = await asyncio.gather(
        *(rest.call("POST", "batch-create-mailboxes", body, key) for _ in range(4)),
    )
    assert {(status, content) for status, content, _ in responses} == {(200, responses[0][1])}
    assert sum("Idempotency-Replayed" in headers for _, _, headers in responses) == 3


async def test_a_key_of_another_request_is_rejected(rest: Rest) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    assert (await rest.call("POST", "domains", {"name": f"{uuid4()}.example"}, key))[0] == 200
    status, content, _ = await rest.call("POST", "domains", {"name": f"{uuid4()}.example"}, key)
    assert status == 400
    assert [detail["argument_name"] for detail in json.loads(content)["details"]] == ["idempotency-key"]


@pytest.mark.parametrize("key", ["", "a key", "k" * 256])
async def test_a_malformed_key_is_rejected_without_effect(rest: Rest, key: str) -> None:
    name = f"{uuid4()}.example"
    status, content, _ = await rest.call("POST", "domains", {"name": name}, {"Idempotency-Key": key})
    assert status == 400
    assert json.loads(content)["details"][0]["argument_name"] == "idempotency-key"
    status, content, _ = await rest.call("GET", f"domains?search={name}")
    assert json.loads(content)["total_count"] == 0


async def test_a_single_resource_has_an_etag_header(rest: Rest) -> None:
    mailbox = await rest.create_mailbox()
    _, content, headers = await rest.call("GET", f"mailboxes/{mailbox['id']}")
    assert headers["ETag"] == f'"{json.loads(content)["etag"]}"'
    _, _, headers = await rest.call("GET", "mailboxes")
    assert "ETag" not in headers


@pytest.mark.parametrize("sent", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
async def test_an_unchanged_resource_is_304(rest: Rest, sent: str) -> None:
    mailbox = await rest.create_mailbox()
    condition = {"If-None-Match": sent.format(mailbox["etag"])}
    status, content, headers = await rest.call("GET", f"mailboxes/{mailbox['id']}", headers=condition)
    assert (status, content) == (304, b"")
    assert headers["ETag"] == f'"{mailbox["etag"]}"'


async def test_a_changed_resource_is_sent(rest: Rest) -> None:
    mailbox = await rest.create_mailbox()
    path = f"mailboxes/{mailbox['id']}"
    assert (await rest.call("PATCH", path, {"subscription_period": "yearly"}))[0] == 200
    status, content, _ = await rest.call("GET", path, headers={"If-None-Match": f'"{mailbox["etag"]}"'})
    assert status == 200
    assert json.loads(content)["next_subscription_period"] == "yearly"


@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"subscription_period": "canceled"}), ("DELETE", None)], ids=["patch", "delete"]
)
async def test_a_change_with_an_outdated_etag_is_412_without_effect(rest: Rest, method: str, body: object) -> None:
    mailbox = await rest.create_mailbox()
    path = f"mailboxes/{mailbox['id']}"
    _, before, _ = await rest.call("PATCH", path, {"subscription_period": "yearly"})
    status, content, _ = await rest.call(method, path, body, {"If-Match": f'"{mailbox["etag"]}"'})
    error = json.loads(content)
    assert (status, error["type"], error["resource_id"]) == (412, "precondition_failed", mailbox["id"])
    assert (await rest.call("GET", path))[1] == before
    status, _, _ = await rest.call(method, path, body, {"If-Match": f'"{json.loads(before)["etag"]}"'})
    assert status == 200


@pytest.mark.parametrize("sent", ['"0", "{}"', 'W/"0", "{}"', '"{}","0"'])
async def test_if_match_accepts_any_etag_of_a_list(rest: Rest, sent: str) -> None:
    mailbox = await rest.create_mailbox()
    path = f"mailboxes/{mailbox['id']}"
    for outdated in ('"0", "00"', f'W/"{mailbox["etag"]}"'):
        status, content, _ = await rest.call("DELETE", path, headers={"If-Match": outdated})
        assert (status, json.loads(content)["type"]) == (412, "precondition_failed")
    status, content, _ = await rest.call("DELETE", path, headers={"If-Match": sent.format(mailbox["etag"])})
    assert (status, json.loads(content)["status"]) == (200, "deletion_scheduled")


async def test_a_malformed_etag_is_an_invalid_argument(rest: Rest) -> None:
    mailbox = await rest.create_mailbox()
    path = f"mailboxes/{mailbox['id']}"
    for etag in ("1a", '"1" "2"', '"1", *', ", ".join(['"1"'] * 33)):
        status, content, _ = await rest.call("DELETE", path, headers={"If-Match": etag})
        assert status == 400
        assert json.loads(content)["details"][0]["argument_name"] == "if-match"
    assert (await rest.call("DELETE", path, headers={"If-Match": "*"}))[0] == 200


async def test_if_match_is_rejected_where_it_does_not_apply(rest: Rest) -> None:
    mailbox = await rest.create_mailbox()
    status, content, _ = await rest.call("POST", f"mailboxes/{mailbox['id']}/restore", {}, {"If-Match": '"1"'})
    assert status == 400
    assert json.loads(content)["details"][0] == {
        "argument_name": "if-match",
        "reason": "unknown",
        "help_message": "is not supported by this call",
    }


async def test_strong_is_the_only_consistency_of_a_list(rest: Rest) -> None:
    assert (await rest.call("GET", "domains", headers={"X-Consistency": "strong"}))[0] == 200
    status, content, _ = await rest.call("GET", "domains", headers={"X-Consistency": "casual"})
    assert status == 400
    assert json.loads(content)["details"][0]["argument_name"] == "x-consistency"
