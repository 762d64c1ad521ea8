"""Names, local parts and passwords at the limits of the rules are accepted."""

import pytest

from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.mailbox_pb2 import Mailbox, UpdateMailboxRequest
from tests.rpc.client import Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


@pytest.mark.parametrize(
    "name", ["ABC.example", "xn--bcher-kva.example", "b\u00fccher.example", "a-b.example", "123.example", "x.co.uk"]
)
async def test_a_valid_name_is_registered_in_canonical_form(tenant: Tenant, name: str) -> None:
    assert (await tenant.domain(name)).name == name.lower().encode("idna").decode()


@pytest.mark.parametrize("local_part", ["a", "x" * 64, "!#$&'=?^_`{}~-", "a.b.c", "0", "a-", "postmaster"])
async def test_a_valid_local_part_is_accepted(owner: Tenant, domain: Domain, local_part: str) -> None:
    mailbox = await owner.mailbox(domain, local_part)
    assert mailbox.email == f"{local_part}@{domain.name}"


@pytest.mark.parametrize(
    "password",
    ["xy" * 6, "xy" * 64, "\u00e9\u00e8" * 64, " " * 11 + "x", "\U0001f4a9" * 11 + "x", "e\u0301" * 127 + "x"],
)
async def test_a_valid_password_is_accepted(owner: Tenant, mailbox: Mailbox, password: str) -> None:
    request = UpdateMailboxRequest(mailbox_id=mailbox.id, new_password=password)
    assert (await owner.stub.UpdateMailbox(request)).id == mailbox.id
