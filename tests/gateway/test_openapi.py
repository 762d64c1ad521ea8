"""The OpenAPI document: valid, complete, and served as it is committed."""

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from postroomd.gateway.app import SERVICES
from postroomd.gateway.errors import ERROR_TYPES
from postroomd.gateway.routes import read_routes
from tests.gateway.client import Client
from tools.openapi.errors import KEYS

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(DOCUMENT.read_text(encoding="utf-8"))


def test_the_document_is_valid(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_an_operation(document: Any) -> None:
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert operations == {(route.http_method, route.template) for route in read_routes(SERVICES)}


def test_operation_ids_are_unique(document: Any) -> None:
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def test_everything_has_a_description(document: Any) -> None:
    def missing(value: Any, path: str) -> list[str]:
        found = []
        for name, item in value.items():
            if not item.get("description"):
                found.append(f"{path}.{name}")
            found += missing(item.get("properties", {}), f"{path}.{name}")
        return found

    schemas = document["components"]["schemas"]
    assert not missing({name: schema for name, schema in schemas.items() if not name.endswith("Error")}, "")
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            assert all("$ref" in parameter or parameter["description"] for parameter in operation["parameters"])


def test_limits_of_the_contract_are_in_the_schemas(document: Any) -> None:
    paths = document["paths"]
    batch = paths["/mailbox/v1alpha1/batch-create-mailboxes"]["post"]["requestBody"]["content"]["application/json"]
    mailboxes = batch["schema"]["properties"]["mailboxes"]
    assert (mailboxes["minItems"], mailboxes["maxItems"]) == (1, 100)
    item = mailboxes["items"]
    assert (item["properties"]["local_part"]["minLength"], item["properties"]["local_part"]["maxLength"]) == (1, 64)
    assert (item["properties"]["password"]["minLength"], item["properties"]["password"]["maxLength"]) == (12, 128)
    assert item["required"] == ["local_part"]  # a password, or a password hash
    listing = {each.get("name"): each for each in paths["/mailbox/v1alpha1/mailboxes"]["get"]["parameters"]}
    page_size = listing["page_size"]["schema"]
    assert (page_size["minimum"], page_size["maximum"]) == (0, 1000)
    assert listing["search"]["schema"]["maxLength"] == 320


def test_every_error_type_is_documented(document: Any) -> None:
    assert KEYS.keys() == ERROR_TYPES.keys()
    responses = document["components"]["responses"]
    for kind, error in ERROR_TYPES.items():
        example = responses[f"Error{error.status}"]["content"]["application/json"]["examples"][kind]["value"]
        assert example["type"] == kind


async def test_the_gateway_serves_the_document(call: Client) -> None:
    call.token = None
    response = await call("GET", "/openapi.json")
    assert response.status == 200
    assert response.raw == DOCUMENT.read_bytes()
    assert response.headers["Content-Type"] == "application/json"
    etag = response.headers["ETag"]
    unchanged = await call("GET", "/openapi.json", headers={"If-None-Match": etag})
    assert (unchanged.status, unchanged.raw, unchanged.headers["ETag"]) == (304, b"", etag)
    assert (await call("POST", "/openapi.json", json={})).status == 405
