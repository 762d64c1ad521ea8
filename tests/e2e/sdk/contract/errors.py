"""Each type of error that a healthy Postroom answers, as an SDK's user sees it: status, body, headers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.sdk.client import (
    PASSWORD_MARK,
    SDKS,
    Answers,
    Sdk,
    eventually,
    http,
    is_refused,
    names,
    password,
    refused,
)
from tests.e2e.sdk.instances import Instance
from tests.e2e.sdk.operations import BY_ID

API = "/mailbox/v1alpha1"
SOME_ID = "123e4567-e89b-42d3-a456-426614174000"


@dataclass(frozen=True)
class Made:
    """A domain with a mailbox and its alias, all the test's own."""

    domain: Any
    mailbox: Any
    alias: Any


def details(*violations: tuple[str, str, str]) -> dict[str, list[dict[str, str]]]:
    """The keys of invalid_arguments."""
    keys = ("argument_name", "reason", "help_message")
    return {"details": [dict(zip(keys, violation, strict=True)) for violation in violations]}


@contextmanager
def put(instance: Instance, table: str, resource: Any, status: str) -> Iterator[None]:
    """Give a resource another status, behind the service's back, for a while."""
    instance.database.sql(f"UPDATE {table} SET status = '{status}' WHERE id = '{resource.id}'")
    yield
    instance.database.sql(f"UPDATE {table} SET status = '{resource.status}' WHERE id = '{resource.id}'")


def require_problem(status: int, body: Any, expected: int, kind: str) -> None:
    """Check an error that says nothing but what it is."""
    assert (status, body["type"]) == (expected, kind)
    assert body.keys() == {"type", "message"}


class Errors:
    """Each type of error that a Postroom answers whose processes are well."""

    @pytest.fixture
    async def made(self, sdk: Sdk) -> Made:
        domain = await sdk.create_domain(name=f"{uuid4().hex}.example")
        (mailbox,) = await sdk.create_mailboxes(domain.id, "someone")
        return Made(domain, mailbox, await sdk.create_alias(mailbox_id=mailbox.id, local_part="alias"))

    async def test_invalid_arguments_names_every_fault_of_a_batch(self, sdk: Sdk, made: Made) -> None:
        wrong = [
            sdk.mailbox("fine"),
            sdk.mailbox("", "short"),
            sdk.mailbox("with+detail", f"{PASSWORD_MARK}\x07" + "x" * 120),
            sdk.mailbox("FINE"),
            sdk.mailbox("jörg", ""),
        ]
        call = sdk.batch_create_mailboxes(
            domain_id=made.domain.id, mailboxes=wrong, subscription_period=sdk.types.MailboxSubscriptionPeriod.CANCELED
        )
        assert (await refused(call, 400, "invalid_arguments")).keys == details(
            ("mailboxes[1].local_part", "required", "must be set"),
            ("mailboxes[1].password", "constraint", "must have 12 to 128 characters"),
            (
                "mailboxes[2].local_part",
                "format",
                "must not contain `+`, the recipient delimiter: mail to name+detail is delivered to name",
            ),
            ("mailboxes[2].password", "constraint", "must have 12 to 128 characters"),
            ("mailboxes[2].password", "format", "must not contain control characters"),
            ("mailboxes[3].local_part", "constraint", "must differ from mailboxes[0].local_part"),
            (
                "mailboxes[4].local_part",
                "format",
                "must be ASCII letters, digits and !#$%&'*/=?^_`{|}~-. (SMTPUTF8, RFC 6531, is not supported)",
            ),
            ("mailboxes[4].password", "required", "must be set"),
            ("subscription_period", "constraint", "must be monthly or yearly"),
        )
        listed = await sdk.list_mailboxes(domain_id=made.domain.id)
        assert listed.mailboxes == [made.mailbox]

    async def test_invalid_arguments_tells_a_password_that_is_the_address(self, sdk: Sdk, made: Made) -> None:
        local_part = "long.enough.for.both"
        call = sdk.batch_create_mailboxes(
            domain_id=made.domain.id,
            mailboxes=[sdk.mailbox(local_part, local_part.upper()), sdk.mailbox("other", f"other@{made.domain.name}")],
        )
        message = "must differ from the address and its local part"
        assert (await refused(call, 400, "invalid_arguments")).keys == details(
            ("mailboxes[0].password", "constraint", message), ("mailboxes[1].password", "constraint", message)
        )

    async def test_invalid_arguments_of_each_other_kind(self, sdk: Sdk, made: Made) -> None:
        uuid = "must be a UUID, such as 123e4567-e89b-42d3-a456-426614174000"
        assert (
            await refused(sdk.create_domain(name="co.uk", project_id="x"), 400, "invalid_arguments")
        ).keys == details(
            ("name", "format", "must not be a public suffix: register a name below it"),
            ("project_id", "format", uuid),
        )
        call = sdk.list_mailboxes(domain_id="x", page=-1, page_size=1_001, search="\n" + "x" * 320, project_id="y")
        assert (await refused(call, 400, "invalid_arguments")).keys == details(
            ("page", "constraint", "must be 1 or more"),
            ("page_size", "constraint", "must be 1 to 1000"),
            ("domain_id", "format", uuid),
            ("project_id", "format", uuid),
            ("search", "constraint", "must have at most 320 characters"),
            ("search", "format", "must not contain control characters"),
        )
        call = sdk.list_aliases(order_by="no_order", status="gone", page_size=101)
        assert (await refused(call, 400, "invalid_arguments")).keys == details(
            (
                "order_by",
                "constraint",
                f"must be one of {', '.join(order.value for order in sdk.types.ListAliasesRequestOrderBy)}",
            ),
            ("status", "constraint", f"must be one of {', '.join(status.value for status in sdk.types.AliasStatus)}"),
        )
        call = sdk.create_alias(mailbox_id="x", local_part='"quoted"', description="x" * 256)
        assert (await refused(call, 400, "invalid_arguments")).keys == details(
            ("mailbox_id", "format", uuid),
            ("local_part", "format", "must be a dot-atom (RFC 5322): quoted local parts are not supported"),
            ("description", "constraint", "must have at most 255 characters"),
        )
        call = sdk.update_mailbox(mailbox_id=made.mailbox.id, new_password="too short")
        assert (await refused(call, 400, "invalid_arguments")).keys == details(
            ("new_password", "constraint", "must have 12 to 128 characters")
        )
        call = sdk.get_mailbox(mailbox_id="no-uuid")
        assert (await refused(call, 400, "invalid_arguments")).keys == details(("mailbox_id", "format", uuid))

    @pytest.mark.parametrize("operation", BY_ID, ids=lambda operation: operation.name)
    async def test_not_found_names_what_is_not_there(self, sdk: Sdk, operation: Any) -> None:
        missing = str(uuid4())
        refusal = await refused(operation.call(sdk, missing), 404, "not_found")
        assert refusal.keys == {"resource": operation.resource, "resource_id": missing}

    async def test_not_found_of_a_project(self, sdk: Sdk) -> None:
        missing = str(uuid4())
        refusal = await refused(sdk.create_domain(name="somewhere.example", project_id=missing), 404, "not_found")
        assert refusal.keys == {"resource": "project", "resource_id": missing}

    async def test_conflict_names_what_is_in_the_way(self, sdk: Sdk, made: Made) -> None:
        calls = {
            ("domain", made.domain.id): sdk.create_domain(name=made.domain.name.upper()),
            ("mailbox", made.mailbox.id): sdk.create_mailboxes(made.domain.id, "new", "SOMEONE"),
            ("alias", made.alias.id): sdk.create_mailboxes(made.domain.id, "alias"),
        }
        for (resource, resource_id), call in calls.items():
            refusal = await refused(call, 409, "conflict")
            assert refusal.keys == {"resource": resource, "resource_id": resource_id}
        for local_part, resource, resource_id in (
            ("Alias", "alias", made.alias.id),
            ("someone", "mailbox", made.mailbox.id),
        ):
            refusal = await refused(
                sdk.create_alias(mailbox_id=made.mailbox.id, local_part=local_part), 409, "conflict"
            )
            assert refusal.keys == {"resource": resource, "resource_id": resource_id}
        await sdk.delete_mailbox(mailbox_id=made.mailbox.id)
        await refused(sdk.create_mailboxes(made.domain.id, "someone"), 409, "conflict")  # it can still be restored
        assert names((await sdk.list_mailboxes(domain_id=made.domain.id)).mailboxes) == ["someone"]

    async def test_transient_state_tells_the_state(self, sdk: Sdk, instance: Instance, made: Made) -> None:
        # `creating` is a state that no worker ends, so that there is time to look at it.
        with put(instance, "domains", made.domain, "creating"):
            refusal = await refused(sdk.validate_domain_records(domain_id=made.domain.id), 409, "transient_state")
        assert refusal.keys == {"resource": "domain", "resource_id": made.domain.id, "current_state": "creating"}

        with put(instance, "mailboxes", made.mailbox, "deleting"):
            period = sdk.types.MailboxSubscriptionPeriod.YEARLY
            call = sdk.update_mailbox(mailbox_id=made.mailbox.id, subscription_period=period)
            refusal = await refused(call, 409, "transient_state")
        assert refusal.keys == {"resource": "mailbox", "resource_id": made.mailbox.id, "current_state": "deleting"}

    async def test_locked_until_the_operator_unlocks(self, sdk: Sdk, instance: Instance, made: Made) -> None:
        with put(instance, "mailboxes", made.mailbox, "locked"):
            assert (await sdk.get_mailbox(mailbox_id=made.mailbox.id)).status == "locked"
            for change in (
                {"new_password": password()},
                {"subscription_period": sdk.types.MailboxSubscriptionPeriod.CANCELED},
            ):
                refusal = await refused(sdk.update_mailbox(mailbox_id=made.mailbox.id, **change), 423, "locked")
                assert refusal.keys == {"resource": "mailbox", "resource_id": made.mailbox.id}
        await sdk.update_mailbox(mailbox_id=made.mailbox.id, new_password=password())

    async def test_precondition_failed_helps(self, sdk: Sdk, made: Made) -> None:
        async def help_message(call: Any) -> str:
            keys = (await refused(call, 412, "precondition_failed")).keys
            assert keys.keys() == {"precondition", "help_message"}
            assert keys["precondition"] == "unknown_precondition"
            return str(keys["help_message"])

        mailbox_id = made.mailbox.id
        assert await help_message(sdk.restore_mailbox(mailbox_id=mailbox_id)) == (
            "the mailbox is waiting_domain: only a mailbox that is deletion_scheduled can be restored"
        )
        await sdk.delete_mailbox(mailbox_id=mailbox_id)
        assert await help_message(sdk.update_mailbox(mailbox_id=mailbox_id, new_password=password())) == (
            "the password can't be changed while the mailbox is deletion_scheduled: restore it first"
        )
        assert await help_message(sdk.create_alias(mailbox_id=mailbox_id, local_part="another")) == (
            "the mailbox is deletion_scheduled: aliases can be created while it is"
            " creating, locked, ready, waiting_domain, waiting_payment"
        )

    async def test_quotas_exceeded_tells_the_quota(self, both: list[Sdk], instance: Instance) -> None:
        organization = f"--organization-id={both[0].environment['SCW_DEFAULT_ORGANIZATION_ID']}"
        small = ("projects", "create", organization, "--name=small", "--mailbox-quota=3", "--output=json")
        (project,) = json.loads(instance.command(*small))
        environment = instance.new_key(organization, f"--project-id={project['id']}")
        limited = [sdk.with_key(environment) for sdk in both]
        domain = await limited[0].create_domain(name="small.example")
        assert domain.project_id == project["id"]

        async def require_exceeded(current: int, *local_parts: str) -> None:
            for sdk in limited:
                refusal = await refused(sdk.create_mailboxes(domain.id, *local_parts), 403, "quotas_exceeded")
                assert refusal.keys == {"details": [{"resource": "mailboxes", "quota": 3, "current": current}]}

        await require_exceeded(0, "one", "two", "three", "four")
        made = await limited[0].create_mailboxes(domain.id, "one", "two", "three")
        await require_exceeded(3, "four")
        await limited[1].delete_mailbox(mailbox_id=made[0].id)
        await require_exceeded(3, "four")  # a deleted mailbox counts until it is purged
        assert (await limited[1].list_mailboxes()).total_count == 3

    async def test_permissions_denied_to_a_read_only_key(self, sdk: Sdk, instance: Instance, made: Made) -> None:
        organization = f"--organization-id={sdk.environment['SCW_DEFAULT_ORGANIZATION_ID']}"
        reader = sdk.with_key(instance.shared_key(organization, "--read-only"))
        assert await reader.get_mailbox(mailbox_id=made.mailbox.id) == made.mailbox
        assert await reader.get_alias(alias_id=made.alias.id) == made.alias
        ids = {"domain": made.domain.id, "mailbox": made.mailbox.id, "alias": made.alias.id}
        writing = [operation for operation in BY_ID if operation.writes]
        calls = [(operation.about, operation.call(reader, ids[operation.resource])) for operation in writing]
        calls.append(("domain", reader.create_domain(name="read-only.example")))
        for resource, call in calls:
            refusal = await refused(call, 403, "permissions_denied")
            assert refusal.keys == {"details": [{"resource": resource, "action": "write"}]}
        assert await sdk.get_mailbox(mailbox_id=made.mailbox.id) == made.mailbox

    async def test_denied_authentication_of_an_unknown_key(self, sdk: Sdk) -> None:
        refusal = await refused(sdk.with_secret(str(uuid4())).list_domains(), 401, "denied_authentication")
        assert refusal.keys == {"method": "api_key", "reason": "not_found"}
        for malformed in ("not-a-uuid", "x" * 2_000):
            refusal = await refused(sdk.with_secret(malformed).list_domains(), 401, "denied_authentication")
            assert refusal.keys == {"method": "api_key", "reason": "invalid_argument"}

    async def test_denied_authentication_of_a_revoked_key(self, both: list[Sdk], instance: Instance) -> None:
        environment = instance.new_key()
        clients = [sdk.with_key(environment) for sdk in both]
        for client in clients:
            assert (await client.list_mailboxes()).total_count == 0
        instance.command("keys", "revoke", environment["SCW_ACCESS_KEY"])
        await eventually(lambda: is_refused(clients[0].list_mailboxes(), 401))  # a cache may hold it for a while
        for client in clients:
            refusal = await refused(client.list_mailboxes(), 401, "denied_authentication")
            assert refusal.keys == {"method": "api_key", "reason": "not_found"}

    async def test_denied_authentication_of_an_expired_key(self, both: list[Sdk], instance: Instance) -> None:
        environment = instance.new_key("--expires-in", "1s")
        clients = [sdk.with_key(environment) for sdk in both]
        await eventually(lambda: is_refused(clients[0].list_mailboxes(), 401))
        for client in clients:
            refusal = await refused(client.list_mailboxes(), 401, "denied_authentication")
            assert refusal.keys == {"method": "api_key", "reason": "expired"}

    async def test_payload_too_large(self, sdk: Sdk, made: Made) -> None:
        for octets in (1_100_000, 4 * 1024 * 1024):
            large = [sdk.mailbox("large", PASSWORD_MARK + "x" * octets)]
            call = sdk.batch_create_mailboxes(domain_id=made.domain.id, mailboxes=large)
            assert (await refused(call, 413, "payload_too_large")).keys == {}

    def test_unsupported_media_type(self, instance: Instance, answers: Answers) -> None:
        headers = {"X-Auth-Token": instance.environment["SCW_SECRET_KEY"], "Content-Type": "text/plain"}
        body = json.dumps({"name": "media.example"}).encode()
        response = http("POST", f"{instance.url}{API}/domains", headers=headers, body=body, answers=answers)
        require_problem(response.status, response.json, 415, "unsupported_media_type")

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("PUT", "/domains", "GET, HEAD, POST"),
            ("PATCH", f"/domains/{SOME_ID}", "DELETE, GET, HEAD"),
            ("GET", "/batch-create-mailboxes", "POST"),
            ("DELETE", f"/mailboxes/{SOME_ID}/restore", "POST"),
        ],
    )
    def test_method_not_allowed(self, instance: Instance, answers: Answers, method: str, path: str, allow: str) -> None:
        headers = {"X-Auth-Token": instance.environment["SCW_SECRET_KEY"]}
        response = http(method, f"{instance.url}{API}{path}", headers=headers, answers=answers)
        require_problem(response.status, response.json, 405, "method_not_allowed")
        assert sorted(response.headers["Allow"].split(", ")) == allow.split(", ")

    async def test_internal_tells_a_request_id_and_nothing_of_the_cause(self, private_instance: Instance) -> None:
        clients = [Sdk(module, private_instance.environment) for module in SDKS]
        domain = await clients[0].create_domain(name="internal.example")
        (mailbox,) = await clients[0].create_mailboxes(domain.id, "someone")
        private_instance.database.sql("ALTER TABLE aliases RENAME TO elsewhere")
        request_ids = set()
        for sdk in clients:
            for call in (
                sdk.list_aliases(),
                sdk.get_alias(alias_id=domain.id),
                sdk.create_alias(mailbox_id=mailbox.id, local_part="alias"),
            ):
                refusal = await refused(call, 500, "internal")
                assert refusal.keys == {"request_id": refusal.headers["X-Request-Id"]}
                request_ids.add(refusal.keys["request_id"])
        assert len(request_ids) == 6
        log = private_instance.up.log
        for request_id in request_ids:  # the operator finds what the user was not told
            (line,) = [line for line in log.splitlines() if request_id in line and '"exception"' in line]
            assert "aliases" in line
        private_instance.database.sql("ALTER TABLE elsewhere RENAME TO aliases")
        assert (await clients[0].list_aliases()).aliases == []
