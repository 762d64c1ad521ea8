"""One effect a key, and changes that depend on what the caller last saw: over REST, through every process."""

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
    """A REST caller with the instance's first key."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        url = f"/mailbox/v1alpha1/{path}"
        async with self._session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.read(), response.headers

    async def made(self, path: str, body: object) -> dict[str, Any]:
        status, answer, _ = await self.call("POST", path, body)
        assert status == 200, answer
        found: dict[str, Any] = json.loads(answer)
        return found

    async def mailbox(self) -> dict[str, Any]:
        domain = await self.made("domains", {"name": f"{uuid4()}.example"})
        batch = {"domain_id": domain["id"], "mailboxes": [{"local_part": "ann", "password": PASSWORD}]}
        created: dict[str, Any] = (await self.made("batch-create-mailboxes", batch))["mailboxes"][0]
        return created


@pytest.fixture
async def rest(postroom: Up) -> AsyncIterator[Rest]:
    token = {"X-Auth-Token": postroom.environment["SCW_SECRET_KEY"]}
    async with aiohttp.ClientSession(postroom.environment["SCW_API_URL"], headers=token) as session:
        yield Rest(session)


async def test_a_repeated_call_is_answered_octet_by_octet(rest: Rest) -> None:
    body, key = {"name": f"{uuid4()}.example"}, {"Idempotency-Key": uuid4().hex}
    status, first, headers = await rest.call("POST", "domains", body, key)
    assert status == 200
    assert "Idempotency-Replayed" not in headers
    status, again, headers = await rest.call("POST", "domains", body, key)
    assert (status, again) == (200, first)
    assert headers["Idempotency-Replayed"] == "true"


async def test_a_batch_that_is_sent_twice_at_once_is_created_once(rest: Rest) -> None:
    domain = await rest.made("domains", {"name": f"{uuid4()}.example"})
    body = {"domain_id": domain["id"], "mailboxes": [{"local_part": "bob", "password": PASSWORD}]}
    key = {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(
        *(rest.call("POST", "batch-create-mailboxes", body, key) for _ in range(4)),
    )
    assert {(status, answer) for status, answer, _ in answers} == {(200, answers[0][1])}
    assert sum("Idempotency-Replayed" in headers for _, _, headers in answers) == 3


async def test_a_key_that_is_used_for_another_request_is_refused(rest: Rest) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    assert (await rest.call("POST", "domains", {"name": f"{uuid4()}.example"}, key))[0] == 200
    status, answer, _ = await rest.call("POST", "domains", {"name": f"{uuid4()}.example"}, key)
    assert status == 400
    assert [each["argument_name"] for each in json.loads(answer)["details"]] == ["idempotency-key"]


@pytest.mark.parametrize("key", ["", "a key", "k" * 256])
async def test_a_malformed_key_is_refused_and_nothing_is_done(rest: Rest, key: str) -> None:
    name = f"{uuid4()}.example"
    status, answer, _ = await rest.call("POST", "domains", {"name": name}, {"Idempotency-Key": key})
    assert status == 400
    assert json.loads(answer)["details"][0]["argument_name"] == "idempotency-key"
    status, answer, _ = await rest.call("GET", f"domains?search={name}")
    assert json.loads(answer)["total_count"] == 0


async def test_one_resource_is_answered_with_its_etag(rest: Rest) -> None:
    mailbox = await rest.mailbox()
    _, answer, headers = await rest.call("GET", f"mailboxes/{mailbox['id']}")
    assert headers["ETag"] == f'"{json.loads(answer)["etag"]}"'
    _, _, headers = await rest.call("GET", "mailboxes")
    assert "ETag" not in headers


@pytest.mark.parametrize("sent", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
async def test_what_the_caller_has_already_is_not_sent_again(rest: Rest, sent: str) -> None:
    mailbox = await rest.mailbox()
    condition = {"If-None-Match": sent.format(mailbox["etag"])}
    status, answer, headers = await rest.call("GET", f"mailboxes/{mailbox['id']}", headers=condition)
    assert (status, answer) == (304, b"")
    assert headers["ETag"] == f'"{mailbox["etag"]}"'


async def test_what_has_changed_is_sent_again(rest: Rest) -> None:
    mailbox = await rest.mailbox()
    path = f"mailboxes/{mailbox['id']}"
    assert (await rest.call("PATCH", path, {"subscription_period": "yearly"}))[0] == 200
    status, answer, _ = await rest.call("GET", path, headers={"If-None-Match": f'"{mailbox["etag"]}"'})
    assert status == 200
    assert json.loads(answer)["next_subscription_period"] == "yearly"


@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"subscription_period": "canceled"}), ("DELETE", None)], ids=["patch", "delete"]
)
async def test_a_change_under_an_outdated_etag_is_412_and_changes_nothing(
    rest: Rest, method: str, body: object
) -> None:
    mailbox = await rest.mailbox()
    path = f"mailboxes/{mailbox['id']}"
    _, before, _ = await rest.call("PATCH", path, {"subscription_period": "yearly"})
    status, answer, _ = await rest.call(method, path, body, {"If-Match": f'"{mailbox["etag"]}"'})
    told = json.loads(answer)
    assert (status, told["type"], told["resource_id"]) == (412, "precondition_failed", mailbox["id"])
    assert (await rest.call("GET", path))[1] == before
    status, _, _ = await rest.call(method, path, body, {"If-Match": f'"{json.loads(before)["etag"]}"'})
    assert status == 200


@pytest.mark.parametrize("sent", ['"0", "{}"', 'W/"0", "{}"', '"{}","0"'])
async def test_if_match_accepts_any_etag_of_a_list(rest: Rest, sent: str) -> None:
    mailbox = await rest.mailbox()
    path = f"mailboxes/{mailbox['id']}"
    for outdated in ('"0", "00"', f'W/"{mailbox["etag"]}"'):
        status, answer, _ = await rest.call("DELETE", path, headers={"If-Match": outdated})
        assert (status, json.loads(answer)["type"]) == (412, "precondition_failed")
    status, answer, _ = await rest.call("DELETE", path, headers={"If-Match": sent.format(mailbox["etag"])})
    assert (status, json.loads(answer)["status"]) == (200, "deletion_scheduled")


async def test_an_etag_that_says_nothing_is_an_argument_at_fault(rest: Rest) -> None:
    mailbox = await rest.mailbox()
    path = f"mailboxes/{mailbox['id']}"
    for etag in ("1a", '"1" "2"', '"1", *', ", ".join(['"1"'] * 33)):
        status, answer, _ = await rest.call("DELETE", path, headers={"If-Match": etag})
        assert status == 400
        assert json.loads(answer)["details"][0]["argument_name"] == "if-match"
    assert (await rest.call("DELETE", path, headers={"If-Match": "*"}))[0] == 200


async def test_a_call_without_an_etag_refuses_to_depend_on_one(rest: Rest) -> None:
    mailbox = await rest.mailbox()
    status, answer, _ = await rest.call("POST", f"mailboxes/{mailbox['id']}/restore", {}, {"If-Match": '"1"'})
    assert status == 400
    assert json.loads(answer)["details"][0] == {
        "argument_name": "if-match",
        "reason": "unknown",
        "help_message": "is not supported by this call",
    }


async def test_a_list_can_be_asked_for_strong_and_for_nothing_else(rest: Rest) -> None:
    assert (await rest.call("GET", "domains", headers={"X-Consistency": "strong"}))[0] == 200
    status, answer, _ = await rest.call("GET", "domains", headers={"X-Consistency": "casual"})
    assert status == 400
    assert json.loads(answer)["details"][0]["argument_name"] == "x-consistency"
