"""Every type of error of a healthy Postroom, as SDK users get it: status, body, headers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.sdk.client import (
    PASSWORD_MARKER,
    SDKS,
    ResponseLog,
    Sdk,
    expect_error,
    fails,
    http_request,
    local_parts,
    new_password,
)
from tests.e2e.sdk.instances import Instance
from tests.support.operations import OPERATIONS, Operation
from tests.support.waiting import wait_until

API = "/mailbox/v1alpha1"
SOME_ID = "123e4567-e89b-42d3-a456-426614174000"


@dataclass(frozen=True)
class Resources:
    """A domain with a mailbox, its alias and its forwarding, created for one test."""

    domain: Any
    mailbox: Any
    alias: Any
    forwarding: Any


def details(*violations: tuple[str, str, str]) -> dict[str, list[dict[str, str]]]:
    """Return the keys of an invalid_arguments error."""
    keys = ("argument_name", "reason", "help_message")
    return {"details": [dict(zip(keys, violation, strict=True)) for violation in violations]}


@contextmanager
def with_status(instance: Instance, table: str, resource: Any, status: str) -> Iterator[None]:
    """Set the status of a resource in the database during the block."""
    instance.database.sql(f"UPDATE {table} SET status = '{status}' WHERE id = '{resource.id}'")
    yield
    instance.database.sql(f"UPDATE {table} SET status = '{resource.status}' WHERE id = '{resource.id}'")


def check_error(status: int, body: Any, expected: int, kind: str) -> None:
    """Check an error that has no keys besides type and message."""
    assert (status, body["type"]) == (expected, kind)
    assert body.keys() == {"type", "message"}


class Errors:
    """Every type of error of a healthy Postroom."""

    @pytest.fixture
    async def resources(self, sdk: Sdk) -> Resources:
        domain = await sdk.create_domain(name=f"{uuid4().hex}.example")
        (mailbox,) = await sdk.create_mailboxes(domain.id, "someone")
        alias = await sdk.create_alias(mailbox_id=mailbox.id, local_part="alias")
        forwarding = await sdk.create_forwarding(mailbox_id=mailbox.id, email="ann@elsewhere.example")
        return Resources(domain, mailbox, alias, forwarding)

    async def test_invalid_arguments_names_every_fault_of_a_batch(self, sdk: Sdk, resources: Resources) -> None:
        wrong = [
            sdk.mailbox("fine"),
            sdk.mailbox("", "short"),
            sdk.mailbox("with+detail", f"{PASSWORD_MARKER}\x07" + "x" * 120),
            sdk.mailbox("FINE"),
            sdk.mailbox("jörg", ""),
        ]
        call = sdk.batch_create_mailboxes(
            domain_id=resources.domain.id,
            mailboxes=wrong,
            subscription_period=sdk.types.MailboxSubscriptionPeriod.CANCELED,
        )
        assert (await expect_error(call, 400, "invalid_arguments")).keys == details(
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
                "must be ASCII letters, digits and !#$&'=?^_`{}~-. (SMTPUTF8, RFC 6531, is not supported)",
            ),
            ("mailboxes[4].password", "required", "must be set"),
            ("subscription_period", "constraint", "must be monthly or yearly"),
        )
        listed = await sdk.list_mailboxes(domain_id=resources.domain.id)
        assert listed.mailboxes == [resources.mailbox]

    async def test_invalid_arguments_rejects_the_address_as_password(self, sdk: Sdk, resources: Resources) -> None:
        local_part = "long.enough.for.both"
        call = sdk.batch_create_mailboxes(
            domain_id=resources.domain.id,
            mailboxes=[
                sdk.mailbox(local_part, local_part.upper()),
                sdk.mailbox("other", f"other@{resources.domain.name}"),
            ],
        )
        message = "must differ from the address and its local part"
        assert (await expect_error(call, 400, "invalid_arguments")).keys == details(
            ("mailboxes[0].password", "constraint", message), ("mailboxes[1].password", "constraint", message)
        )

    async def test_invalid_arguments_of_other_operations(self, sdk: Sdk, resources: Resources) -> None:
        uuid = "must be a UUID, such as 123e4567-e89b-42d3-a456-426614174000"
        assert (
            await expect_error(sdk.create_domain(name="co.uk", project_id="x"), 400, "invalid_arguments")
        ).keys == details(
            ("name", "format", "must not be a public suffix: register a name below it"),
            ("project_id", "format", uuid),
        )
        call = sdk.list_mailboxes(domain_id="x", page=-1, page_size=1_001, search="\n" + "x" * 320, project_id="y")
        assert (await expect_error(call, 400, "invalid_arguments")).keys == details(
            ("page", "constraint", "must be 1 to 2147483647"),
            ("page_size", "constraint", "must be 1 to 1000"),
            ("domain_id", "format", uuid),
            ("project_id", "format", uuid),
            ("search", "constraint", "must have at most 320 characters"),
            ("search", "format", "must not contain control characters"),
        )
        call = sdk.list_aliases(order_by="no_order", status="gone", page_size=101)
        assert (await expect_error(call, 400, "invalid_arguments")).keys == details(
            (
                "order_by",
                "constraint",
                f"must be one of {', '.join(order.value for order in sdk.types.ListAliasesRequestOrderBy)}",
            ),
            ("status", "constraint", f"must be one of {', '.join(status.value for status in sdk.types.AliasStatus)}"),
        )
        call = sdk.create_alias(mailbox_id="x", local_part='"quoted"', description="x" * 129)
        assert (await expect_error(call, 400, "invalid_arguments")).keys == details(
            ("mailbox_id", "format", uuid),
            ("local_part", "format", "must be a dot-atom (RFC 5322): quoted local parts are not supported"),
            ("description", "constraint", "must have at most 128 characters"),
        )
        call = sdk.update_mailbox(mailbox_id=resources.mailbox.id, new_password="too short")
        assert (await expect_error(call, 400, "invalid_arguments")).keys == details(
            ("new_password", "constraint", "must have 12 to 128 characters")
        )
        call = sdk.get_mailbox(mailbox_id="no-uuid")
        assert (await expect_error(call, 400, "invalid_arguments")).keys == details(("mailbox_id", "format", uuid))

    @pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
    async def test_not_found_names_the_missing_resource(self, sdk: Sdk, operation: Operation) -> None:
        unknown_id = str(uuid4())
        error = await expect_error(sdk.call_operation(operation, unknown_id), 404, "not_found")
        assert error.keys == {"resource": operation.resource, "resource_id": unknown_id}

    async def test_conflict_names_the_existing_resource(self, sdk: Sdk, resources: Resources) -> None:
        calls = {
            ("domain", resources.domain.id): sdk.create_domain(name=resources.domain.name.upper()),
            ("mailbox", resources.mailbox.id): sdk.create_mailboxes(resources.domain.id, "new", "SOMEONE"),
            ("alias", resources.alias.id): sdk.create_mailboxes(resources.domain.id, "alias"),
        }
        for (resource, resource_id), call in calls.items():
            error = await expect_error(call, 409, "conflict")
            assert (error.keys["resource"], error.keys["resource_id"]) == (resource, resource_id)
            (taken,) = error.keys["details"]
            assert (taken["resource"], taken["resource_id"]) == (resource, resource_id)
        for local_part, resource, resource_id in (
            ("Alias", "alias", resources.alias.id),
            ("someone", "mailbox", resources.mailbox.id),
        ):
            error = await expect_error(
                sdk.create_alias(mailbox_id=resources.mailbox.id, local_part=local_part), 409, "conflict"
            )
            assert (error.keys["resource"], error.keys["resource_id"]) == (resource, resource_id)
        await sdk.delete_mailbox(mailbox_id=resources.mailbox.id)
        await expect_error(
            sdk.create_mailboxes(resources.domain.id, "someone"), 409, "conflict"
        )  # restorable, so its address is taken
        assert local_parts((await sdk.list_mailboxes(domain_id=resources.domain.id)).mailboxes) == ["someone"]

    async def test_conflict_and_quota_of_forwardings_name_them(self, sdk: Sdk, resources: Resources) -> None:
        mailbox_id, forwarding_id = resources.mailbox.id, resources.forwarding.id
        call = sdk.create_forwarding(mailbox_id=mailbox_id, email="ANN@elsewhere.example")
        error = await expect_error(call, 409, "conflict")
        assert (error.keys["resource"], error.keys["resource_id"]) == ("forwarding", forwarding_id)
        assert error.keys["details"] == [
            {
                "argument_name": "email",
                "resource": "forwarding",
                "resource_id": forwarding_id,
                "email": "ann@elsewhere.example",
                "current_state": "ready",
            }
        ]
        for number in range(4):
            await sdk.create_forwarding(mailbox_id=mailbox_id, email=f"{number}@elsewhere.example")
        call = sdk.create_forwarding(mailbox_id=mailbox_id, email="sixth@elsewhere.example")
        error = await expect_error(call, 403, "quotas_exceeded")
        assert error.keys == {"details": [{"resource": "forwardings", "quota": 5, "current": 5}]}

    async def test_transient_state_names_the_state(self, sdk: Sdk, instance: Instance, resources: Resources) -> None:
        # No worker ends the state `creating` if provisioning is off, so that the test can observe it.
        with with_status(instance, "domains", resources.domain, "creating"):
            error = await expect_error(
                sdk.validate_domain_records(domain_id=resources.domain.id), 409, "transient_state"
            )
        assert error.keys == {"resource": "domain", "resource_id": resources.domain.id, "current_state": "creating"}

        with with_status(instance, "mailboxes", resources.mailbox, "deleting"):
            period = sdk.types.MailboxSubscriptionPeriod.YEARLY
            call = sdk.update_mailbox(mailbox_id=resources.mailbox.id, subscription_period=period)
            error = await expect_error(call, 409, "transient_state")
        assert error.keys == {"resource": "mailbox", "resource_id": resources.mailbox.id, "current_state": "deleting"}

    async def test_locked_mailbox_rejects_changes_until_unlocked(
        self, sdk: Sdk, instance: Instance, resources: Resources
    ) -> None:
        with with_status(instance, "mailboxes", resources.mailbox, "locked"):
            assert (await sdk.get_mailbox(mailbox_id=resources.mailbox.id)).status == "locked"
            for change in (
                {"new_password": new_password()},
                {"subscription_period": sdk.types.MailboxSubscriptionPeriod.CANCELED},
            ):
                error = await expect_error(sdk.update_mailbox(mailbox_id=resources.mailbox.id, **change), 423, "locked")
                assert error.keys == {"resource": "mailbox", "resource_id": resources.mailbox.id}
        await sdk.update_mailbox(mailbox_id=resources.mailbox.id, new_password=new_password())

    async def test_precondition_failed_has_a_help_message(self, sdk: Sdk, resources: Resources) -> None:
        async def help_message(call: Any) -> str:
            keys = (await expect_error(call, 412, "precondition_failed")).keys
            assert keys.keys() == {"precondition", "help_message"}
            assert keys["precondition"] == "unknown_precondition"
            return str(keys["help_message"])

        mailbox_id = resources.mailbox.id
        assert await help_message(sdk.restore_mailbox(mailbox_id=mailbox_id)) == (
            "the mailbox is waiting_domain: only a mailbox that is deletion_scheduled can be restored"
        )
        await sdk.delete_mailbox(mailbox_id=mailbox_id)
        assert await help_message(sdk.update_mailbox(mailbox_id=mailbox_id, new_password=new_password())) == (
            "the password can't be changed while the mailbox is deletion_scheduled: restore it first"
        )
        assert await help_message(sdk.create_alias(mailbox_id=mailbox_id, local_part="another")) == (
            "the mailbox is deletion_scheduled: aliases can be created while it is"
            " creating, locked, ready, waiting_domain, waiting_payment"
        )

    async def test_quotas_exceeded_gives_the_quota(self, both_sdks: list[Sdk], instance: Instance) -> None:
        organization = f"--organization-id={both_sdks[0].environment['SCW_DEFAULT_ORGANIZATION_ID']}"
        small = ("projects", "create", organization, "--name=small", "--mailbox-quota=3", "--output=json")
        (project,) = json.loads(instance.command(*small))
        environment = instance.new_key(organization, f"--project-id={project['id']}")
        limited = [sdk.with_key(environment) for sdk in both_sdks]
        domain = await limited[0].create_domain(name="small.example")
        assert domain.project_id == project["id"]

        async def check_exceeded(current: int, *names: str) -> None:
            for sdk in limited:
                error = await expect_error(sdk.create_mailboxes(domain.id, *names), 403, "quotas_exceeded")
                assert error.keys == {"details": [{"resource": "mailboxes", "quota": 3, "current": current}]}

        await check_exceeded(0, "one", "two", "three", "four")
        created = await limited[0].create_mailboxes(domain.id, "one", "two", "three")
        await check_exceeded(3, "four")
        await limited[1].delete_mailbox(mailbox_id=created[0].id)
        await check_exceeded(3, "four")  # a deleted mailbox counts until it is purged
        assert (await limited[1].list_mailboxes()).total_count == 3

    async def test_permissions_denied_to_a_read_only_key(
        self, sdk: Sdk, instance: Instance, resources: Resources
    ) -> None:
        organization = f"--organization-id={sdk.environment['SCW_DEFAULT_ORGANIZATION_ID']}"
        reader = sdk.with_key(instance.shared_key(organization, "--read-only"))
        assert await reader.get_mailbox(mailbox_id=resources.mailbox.id) == resources.mailbox
        assert await reader.get_alias(alias_id=resources.alias.id) == resources.alias
        ids = {"domain": resources.domain.id, "mailbox": resources.mailbox.id, "alias": resources.alias.id}
        ids |= {"forwarding": resources.forwarding.id, "project": sdk.environment["SCW_DEFAULT_PROJECT_ID"]}
        for operation in OPERATIONS:
            if operation.mutating:
                call = reader.call_operation(operation, ids[operation.resource])
                error = await expect_error(call, 403, "permissions_denied")
                assert error.keys == {"details": [{"resource": operation.affects, "action": "write"}]}
        assert await sdk.get_mailbox(mailbox_id=resources.mailbox.id) == resources.mailbox

    async def test_denied_authentication_of_an_unknown_key(self, sdk: Sdk) -> None:
        error = await expect_error(sdk.with_secret(str(uuid4())).list_domains(), 401, "denied_authentication")
        assert error.keys == {"method": "api_key", "reason": "not_found"}
        for malformed in ("not-a-uuid", "x" * 2_000):
            error = await expect_error(sdk.with_secret(malformed).list_domains(), 401, "denied_authentication")
            assert error.keys == {"method": "api_key", "reason": "invalid_argument"}

    async def test_denied_authentication_of_a_revoked_key(self, both_sdks: list[Sdk], instance: Instance) -> None:
        environment = instance.new_key()
        clients = [sdk.with_key(environment) for sdk in both_sdks]
        for client in clients:
            assert (await client.list_mailboxes()).total_count == 0
        instance.command("keys", "revoke", "--yes", environment["SCW_ACCESS_KEY"])
        await wait_until(lambda: fails(clients[0].list_mailboxes(), 401))  # the key cache expires after a while
        for client in clients:
            error = await expect_error(client.list_mailboxes(), 401, "denied_authentication")
            assert error.keys == {"method": "api_key", "reason": "not_found"}

    async def test_denied_authentication_of_an_expired_key(self, both_sdks: list[Sdk], instance: Instance) -> None:
        environment = instance.new_key("--expires-in", "1s")
        clients = [sdk.with_key(environment) for sdk in both_sdks]
        await wait_until(lambda: fails(clients[0].list_mailboxes(), 401))
        for client in clients:
            error = await expect_error(client.list_mailboxes(), 401, "denied_authentication")
            assert error.keys == {"method": "api_key", "reason": "expired"}

    async def test_payload_too_large(self, sdk: Sdk, resources: Resources) -> None:
        for size in (1_100_000, 4 * 1024 * 1024):
            large = [sdk.mailbox("large", PASSWORD_MARKER + "x" * size)]
            call = sdk.batch_create_mailboxes(domain_id=resources.domain.id, mailboxes=large)
            assert (await expect_error(call, 413, "payload_too_large")).keys == {}

    def test_unsupported_media_type(self, instance: Instance, responses: ResponseLog) -> None:
        headers = {"X-Auth-Token": instance.environment["SCW_SECRET_KEY"], "Content-Type": "text/plain"}
        body = json.dumps({"name": "media.example"}).encode()
        response = http_request("POST", f"{instance.url}{API}/domains", headers=headers, body=body, responses=responses)
        check_error(response.status, response.json, 415, "unsupported_media_type")

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("PUT", "/domains", "GET, HEAD, POST"),
            ("PATCH", f"/domains/{SOME_ID}", "DELETE, GET, HEAD"),
            ("GET", "/batch-create-mailboxes", "POST"),
            ("DELETE", f"/mailboxes/{SOME_ID}/restore", "POST"),
        ],
    )
    def test_method_not_allowed(
        self, instance: Instance, responses: ResponseLog, method: str, path: str, allow: str
    ) -> None:
        headers = {"X-Auth-Token": instance.environment["SCW_SECRET_KEY"]}
        response = http_request(method, f"{instance.url}{API}{path}", headers=headers, responses=responses)
        check_error(response.status, response.json, 405, "method_not_allowed")
        assert sorted(response.headers["Allow"].split(", ")) == allow.split(", ")

    async def test_internal_gives_a_request_id_and_no_cause(self, private_instance: Instance) -> None:
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
                error = await expect_error(call, 500, "internal")
                assert error.keys == {"request_id": error.headers["X-Request-Id"]}
                request_ids.add(error.keys["request_id"])
        assert len(request_ids) == 6
        log = private_instance.up.log
        for request_id in request_ids:  # by which the operator finds the cause
            (line,) = [line for line in log.splitlines() if request_id in line and '"exception"' in line]
            assert "aliases" in line
        private_instance.database.sql("ALTER TABLE elsewhere RENAME TO aliases")
        assert (await clients[0].list_aliases()).aliases == []
