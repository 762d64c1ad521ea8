"""The validation token at every authoritative server: absent only if all that respond lack it."""

from collections.abc import Mapping, Sequence

import dns.rcode
import pytest
from dns.rdatatype import RdataType

from postroomd.domain.model import RecordStatus
from tests.support.dns_probe import (
    INVALID,
    NOT_FOUND,
    RECORDS,
    UNANSWERED,
    VALID,
    faults,
    first_server,
    probe,
    second_server,
)
from tests.support.dns_records import NAME, zone
from tests.support.dns_server import Authority, Handler, Internet, no_reply, rcode_reply

TOKEN = RECORDS["domain_validation"]
OTHER_TOKEN: Mapping[str, Sequence[str]] = {"domain_validation": ['TXT "postroom-validation=0ther"']}
NO_TOKEN: Mapping[str, Sequence[str]] = {"domain_validation": []}


def authority(overrides: Mapping[str, Sequence[str]] | None = None, apex: str = NAME, text: str = "") -> Authority:
    """An authoritative server of example.com, or of another zone."""
    served = Authority()
    served.serve(apex, text or zone(RECORDS, overrides))
    return served


async def token_finding(internet: Internet, **changes: object) -> tuple[RecordStatus, str]:
    found = faults(await probe(internet, **changes))
    return found.get("domain_validation", (VALID, ""))


def token_queries(internet: Internet) -> dict[str, int]:
    """The number of queries for the token by server address, retransmissions not counted."""
    return {
        address: len(
            {each.query.id for each in server.queries if each.name.to_text() == TOKEN.dns_name and not each.tcp}
        )
        for address, server in internet.servers.items()
    }


async def test_a_published_token_takes_one_query(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    assert await token_finding(internet) == (VALID, "")
    assert sum(token_queries(internet).values()) == 1


@pytest.mark.parametrize("behind", [NO_TOKEN, OTHER_TOKEN], ids=["no token", "another token"])
async def test_a_token_at_any_server_is_valid(internet: Internet, behind: Mapping[str, Sequence[str]]) -> None:
    for lagging, current in (
        (first_server(internet), second_server(internet)),
        (second_server(internet), first_server(internet)),
    ):
        lagging.handler, current.handler = authority(behind), authority()
        assert await token_finding(internet) == (VALID, "")


@pytest.mark.parametrize(
    ("overrides", "status"), [(NO_TOKEN, NOT_FOUND), (OTHER_TOKEN, INVALID)], ids=["no token", "another token"]
)
async def test_a_token_that_every_server_lacks_is_lacking(
    internet: Internet, overrides: Mapping[str, Sequence[str]], status: RecordStatus
) -> None:
    await internet.delegate(NAME, "127.0.0.1", "127.0.0.2", "127.0.0.3", "::1")
    internet.publish(NAME, zone(RECORDS, overrides))
    assert (await token_finding(internet))[0] is status
    queries = token_queries(internet)
    assert min(queries.values()) >= 1
    assert sum(queries.values()) == 5  # one, and then one to each server


async def test_a_wrong_token_is_reported_before_a_missing_one(internet: Internet) -> None:
    first_server(internet).handler, second_server(internet).handler = authority(NO_TOKEN), authority(OTHER_TOKEN)
    status, error = await token_finding(internet)
    assert status is INVALID
    assert "belongs to another registration" in error


@pytest.mark.parametrize("failing", [no_reply, rcode_reply(dns.rcode.SERVFAIL), rcode_reply(dns.rcode.REFUSED)])
async def test_servers_that_do_not_answer_are_left_out(internet: Internet, failing: Handler) -> None:
    first_server(internet).handler, second_server(internet).handler = failing, authority(NO_TOKEN)
    assert (await token_finding(internet, timeout_seconds=1.0))[0] is NOT_FOUND
    second_server(internet).handler = failing
    assert (await token_finding(internet, timeout_seconds=1.0))[0] is UNANSWERED


async def test_a_zone_that_its_parent_denies_lacks_the_token(internet: Internet) -> None:
    await internet.delegate("com", "127.0.0.4")
    internet.publish("com", "other.com. 60 IN NS ns.other.com.\n")
    internet.set_resolver_records(NAME, RdataType.NS)
    status, error = await token_finding(internet)
    assert status is NOT_FOUND
    assert "does not exist" in error


async def test_name_servers_beyond_the_first_four_are_asked_for_a_lacking_token(internet: Internet) -> None:
    addresses = [f"127.0.0.{number}" for number in range(1, 7)]
    await internet.delegate(NAME, *addresses)
    for address in addresses:
        internet.servers[address].handler = authority() if address == addresses[-1] else authority(NO_TOKEN)
    assert await token_finding(internet) == (VALID, "")
    internet.servers[addresses[-1]].handler = authority(NO_TOKEN)
    assert (await token_finding(internet))[0] is NOT_FOUND


async def test_no_more_than_two_addresses_of_a_name_server_are_asked(internet: Internet) -> None:
    await internet.delegate(NAME, "127.0.0.1")
    await internet.delegate("unused.test", "127.0.0.2", "127.0.0.3", "127.0.0.4")
    internet.set_resolver_records(f"ns1.{NAME}", RdataType.A, *(f"127.0.0.{number}" for number in range(1, 5)))
    internet.publish(NAME, zone(RECORDS, NO_TOKEN))
    assert (await token_finding(internet))[0] is NOT_FOUND
    assert len([address for address, number in token_queries(internet).items() if number]) == 2


async def test_each_server_may_delegate_the_token_elsewhere(internet: Internet) -> None:
    await internet.delegate("current.test", "127.0.0.3")
    await internet.delegate("stale.test", "127.0.0.4", "127.0.0.5")
    for server, target in ((first_server(internet), "current"), (second_server(internet), "stale")):
        server.handler = authority({"domain_validation": [f"CNAME token.{target}.test."]})
    internet.servers["127.0.0.3"].handler = authority(None, "current.test", f'token 60 IN TXT "{TOKEN.dns_value}"\n')
    for address in ("127.0.0.4", "127.0.0.5"):
        internet.servers[address].handler = authority(None, "stale.test", 'token 60 IN TXT "x"\n')
    assert await token_finding(internet) == (VALID, "")

    internet.servers["127.0.0.3"].handler = authority(None, "current.test", 'token 60 IN TXT "x"\n')
    assert (await token_finding(internet))[0] is NOT_FOUND
    # The servers of one target do not respond: they may have the token.
    internet.servers["127.0.0.3"].handler = rcode_reply(dns.rcode.SERVFAIL)
    assert (await token_finding(internet))[0] is UNANSWERED


async def test_the_token_in_a_child_zone_is_asked_of_every_server_of_the_child(internet: Internet) -> None:
    child = TOKEN.dns_name.removesuffix(".")
    delegating = authority({"domain_validation": [f"NS ns1.{child}.", f"NS ns2.{child}."]})
    first_server(internet).handler = second_server(internet).handler = delegating
    for number, address in enumerate(("127.0.0.3", "127.0.0.4"), 1):
        await internet.delegate(f"host{number}.test", address)
        internet.set_resolver_records(f"ns{number}.{child}", RdataType.A, address)
    internet.servers["127.0.0.3"].handler = authority(None, child, f'@ 60 IN TXT "{TOKEN.dns_value}"\n')
    internet.servers["127.0.0.4"].handler = authority(None, child, "x 60 IN A 192.0.2.1\n")
    for _ in range(2):
        assert await token_finding(internet) == (VALID, "")
        first, second = internet.servers["127.0.0.3"], internet.servers["127.0.0.4"]
        first.handler, second.handler = second.handler, first.handler
    second.handler = first.handler = authority(None, child, "x 60 IN A 192.0.2.1\n")
    assert (await token_finding(internet))[0] is NOT_FOUND


async def test_an_exhausted_packet_budget_is_no_absence(internet: Internet) -> None:
    await internet.delegate(NAME, *(f"127.0.0.{number}" for number in range(1, 5)))
    internet.publish(NAME, zone(RECORDS, NO_TOKEN))
    assert (await token_finding(internet, max_packets=4, concurrency=1))[0] is UNANSWERED
    assert (await token_finding(internet))[0] is NOT_FOUND


@pytest.mark.parametrize("budget", [9, 5], ids=["fifth-name-server", "third-name-server"])
async def test_name_servers_that_a_limit_keeps_from_being_resolved_are_no_absence(
    internet: Internet, budget: int
) -> None:
    await internet.delegate(NAME, *(f"127.0.0.{number}" for number in range(1, 6)))
    internet.publish(NAME, zone(RECORDS, NO_TOKEN))
    status, error = await token_finding(internet, max_resolver_queries=budget)
    assert status is UNANSWERED
    assert f"more than the {budget} queries to resolvers allowed per domain" in error
    assert (await token_finding(internet))[0] is NOT_FOUND
