"""Every response of a running gateway, errors included, matches the OpenAPI document.

Schemathesis generates the requests and checks their responses, and records them. A second validator, which knows
nothing of Schemathesis, checks what was recorded.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.e2e.support import clean_environment, start, terminate

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
URI = "urn:postroom:openapi"
EXAMPLES = os.environ.get("POSTROOM_OPENAPI_EXAMPLES", "5")
SEED = os.environ.get("POSTROOM_FUZZ_SEED", "1")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "unsupported_method",
)
MIN_RECORDED = 1_000
REQUEST_SECONDS = 60
CHEAP = ("--argon2-memory-kib=8", "--argon2-time-cost=1", "--dkim-bits=1024")


@dataclass(frozen=True)
class Recording:
    """A run of Schemathesis: its exit code and output, the gateway's log, and the requests with their responses."""

    code: int
    output: str
    log: str
    entries: list[Any]


@dataclass(frozen=True)
class Answer:
    """A recorded response to a request for a path of the document."""

    method: str
    template: str
    status: int
    content_type: str
    headers: frozenset[str]
    body: str


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    directory = tmp_path_factory.mktemp("openapi")
    archive = directory / "recorded.har"
    # With cheap hashes and keys: a batch of 100 passwords would take seconds, and longer than a request may.
    up = start(directory, *CHEAP)
    try:
        command: list[str | Path] = [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{up.environment['SCW_API_URL']}/openapi.json",
            f"--header=X-Auth-Token: {up.environment['SCW_SECRET_KEY']}",
            f"--checks={','.join(CHECKS)}",
            "--phases=examples,coverage,fuzzing,stateful",
            f"--max-examples={EXAMPLES}",
            f"--seed={SEED}",
            "--generation-database=none",
            f"--request-timeout={REQUEST_SECONDS}",
            "--suppress-health-check=too_slow",  # of the generation of data, on a busy machine
            "--report=har",
            f"--report-har-path={archive}",
            "--output-sanitize=false",
            "--no-color",
        ]
        done = subprocess.run(
            command, cwd=directory, env=clean_environment(), capture_output=True, text=True, check=False
        )
        entries = json.loads(archive.read_text(encoding="utf-8"))["log"]["entries"] if archive.exists() else []
        return Recording(done.returncode, done.stdout, up.log, entries)
    finally:
        terminate(up)


def test_responses_match_the_document(recording: Recording) -> None:
    assert recording.code == 0, recording.output[-20_000:]
    assert "26/26" in recording.output
    assert "Traceback" not in recording.log


def test_a_second_validator_accepts_a_thousand_recorded_responses(recording: Recording) -> None:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    validator = DocumentValidator(document)
    answers = list(answers_of(recording, document))
    faults = [
        f"{answer.method} {answer.template} {answer.status}: {fault}"
        for answer in answers
        for fault in validator.faults(answer)
    ]
    assert faults == []
    assert len(answers) >= MIN_RECORDED
    assert {answer.template for answer in answers} == set(document["paths"])
    statuses = Counter(answer.status for answer in answers)
    assert {200, 400, 401, 404, 405, 415} <= set(statuses), statuses
    print(f"{len(answers)} recorded responses match the document: {dict(sorted(statuses.items()))}")  # noqa: T201


def test_the_second_validator_finds_faults() -> None:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    validator = DocumentValidator(document)
    path = "/mailbox/v1alpha1/mailboxes/{mailbox_id}"
    error = {"type": "not_found", "message": "No.", "resource": "mailbox", "resource_id": "1"}
    headers = frozenset({"x-request-id"})

    def faults(status: int, body: object, content_type: str = "application/json") -> list[str]:
        return list(validator.faults(Answer("get", path, status, content_type, headers, json.dumps(body))))

    assert faults(404, error) == []
    assert faults(404, {**error, "resource": 5})
    assert faults(404, {"type": "not_found"})
    assert faults(418, error)
    assert faults(404, error, "text/html")
    assert faults(200, {"id": 1})


class DocumentValidator:
    """Validates responses by the schemas of a document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._registry: Registry[Any] = Registry().with_resource(URI, DRAFT202012.create_resource(document))

    def faults(self, answer: Answer) -> Iterator[str]:
        """Yield what is wrong with a response."""
        pointer = f"#/paths/{answer.template.replace('/', '~1')}/{answer.method}/responses/{answer.status}"
        operation = self._document["paths"][answer.template].get(answer.method)
        if operation is None:  # a method that the path does not have
            pointer = "#/components/responses/Error405"
            if answer.status != 405:
                yield "the path does not have this method"
                return
        elif str(answer.status) not in operation["responses"]:
            yield "the status is not documented"
            return
        pointer, response = self._follow(pointer)
        yield from (f"no header {name}" for name in self._required(response) if name.lower() not in answer.headers)
        content = response.get("content", {})
        if not content:
            if answer.body:
                yield "a body that is not documented"
            return
        if answer.content_type not in content:
            yield f"the content type {answer.content_type!r} is not documented"
            return
        reference = f"{URI}{pointer}/content/{answer.content_type.replace('/', '~1')}/schema"
        validator = Draft202012Validator({"$ref": reference}, registry=self._registry, format_checker=FormatChecker())
        yield from (f"{error.json_path}: {error.message}" for error in validator.iter_errors(json.loads(answer.body)))

    def _required(self, response: Mapping[str, Any]) -> Iterator[str]:
        for name, header in response.get("headers", {}).items():
            resolved = self._follow(header["$ref"])[1] if "$ref" in header else header
            if resolved.get("required"):
                yield name

    def _follow(self, pointer: str) -> tuple[str, Mapping[str, Any]]:
        """Return the final pointer of a chain of references, and what it points to."""
        value: Any = self._document
        for part in pointer.removeprefix("#/").split("/"):
            value = value[part.replace("~1", "/").replace("%7B", "{").replace("%7D", "}")]
        return (
            self._follow(value["$ref"]) if "$ref" in value else (pointer.replace("{", "%7B").replace("}", "%7D"), value)
        )


def answers_of(recording: Recording, document: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the recorded responses of the document's paths. A path that is only similar to one is left out."""
    patterns = [
        (re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template))), template) for template in document["paths"]
    ]
    for entry in recording.entries:
        request, response = entry["request"], entry["response"]
        path = urlsplit(request["url"]).path
        for pattern, template in patterns:
            if pattern.fullmatch(path) and response["status"]:
                yield Answer(
                    method=request["method"].lower(),
                    template=template,
                    status=response["status"],
                    content_type=response["content"].get("mimeType", ""),
                    headers=frozenset(header["name"].lower() for header in response["headers"]),
                    body=response["content"].get("text") or "",
                )
                break
