"""Conditional requests: If-Match and If-None-Match (RFC 9110, section 13)."""

from typing import Any

import pytest

from postroom.v1alpha1.alias_pb2 import Alias
from postroomd.gateway.headers import MAX_ETAGS
from tests.gateway.client import Client

IF_MATCH = "If-Match"


@pytest.mark.parametrize(
    ("headers", "etag"),
    [
        ([], ""),
        ([(IF_MATCH, "*")], ""),
        ([(IF_MATCH, '"1a"')], "1a"),
        ([(IF_MATCH, '"1a", "1b"')], '"1a", "1b"'),
        ([(IF_MATCH, '"1a"'), (IF_MATCH, '"1b"')], '"1a", "1b"'),
        ([(IF_MATCH, ', "1a" ,, W/"1b",')], ', "1a" ,, W/"1b",'),
        ([(IF_MATCH, 'W/"1a"')], 'W/"1a"'),
        ([(IF_MATCH, '"a,b"')], "a,b"),
        ([(IF_MATCH, ",".join(['"1"'] * MAX_ETAGS))], ",".join(['"1"'] * MAX_ETAGS)),
    ],
)
async def test_if_match_becomes_the_etag_of_the_request(call: Client, headers: Any, etag: str) -> None:
    assert (await call("DELETE", "/aliases/an-id", headers=headers)).status == 200
    assert call.stub.calls[0].request.etag == etag


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        *((malformed, "format") for malformed in ("1a", "", '"1a', '"1" "2"', '"1", *', "*, *", 'w/"1"', '"1"2"', ",")),
        (",".join(['"1"'] * (MAX_ETAGS + 1)), "constraint"),
    ],
)
async def test_malformed_and_too_many_etags_are_rejected(call: Client, value: str, reason: str) -> None:
    response = await call("DELETE", "/aliases/an-id", headers={IF_MATCH: value})
    assert response.violations == {"if-match": reason}
    assert not call.stub.calls


async def test_another_etag_in_the_body_than_in_if_match_is_rejected(call: Client) -> None:
    body, path = {"etag": "2"}, "/aliases/an-id"
    assert (await call("PATCH", path, json=body, headers={IF_MATCH: '"1"'})).violations == {"etag": "constraint"}
    assert (await call("PATCH", path, json=body, headers={IF_MATCH: '"2"'})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("If-None-Match", value)]
        for value in ('"1a"', 'W/"1a"', '"0", "1a"', '"0" ,W/"1a"', ',"1a",', "*", '"0", nonsense, "1a"')
    ]
    + [[("If-None-Match", '"0"'), ("If-None-Match", '"1a"')]],
)
async def test_if_none_match_accepts_any_etag_of_a_list(call: Client, headers: Any) -> None:
    call.stub.respond_with("GetAlias", Alias(etag="1a"))
    response = await call("GET", "/aliases/an-id", headers=headers)
    assert (response.status, response.raw, response.headers["ETag"]) == (304, b"", '"1a"')


@pytest.mark.parametrize("value", ['"1"', "1a", '"0", "1"', ""])
async def test_other_etags_in_if_none_match_get_the_resource(call: Client, value: str) -> None:
    call.stub.respond_with("GetAlias", Alias(etag="1a"))
    response = await call("GET", "/aliases/an-id", headers={"If-None-Match": value})
    assert (response.status, response.json["etag"]) == (200, "1a")
