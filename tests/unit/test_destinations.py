"""The destinations of forwardings."""

import pytest

from postroomd.domain.destinations import canonical_destination, is_same_destination, local_address


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("ann@example.com", "ann@example.com"),
        ("Ann.Lee+News@Example.COM.", "Ann.Lee+News@example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@BU\u0308CHER.example", "ann@xn--bcher-kva.example"),
        ("!#$&'+=?^_`{}~-@example.com", "!#$&'+=?^_`{}~-@example.com"),
        ("ann@gov.uk", "ann@gov.uk"),  # a public suffix may have mail
        (f"{'a' * 64}@{'.'.join(['b' * 62] * 3)}", f"{'a' * 64}@{'.'.join(['b' * 62] * 3)}"),  # 253 octets
    ],
)
def test_a_destination_is_stored_with_its_domain_as_a_labels(sent: str, stored: str) -> None:
    assert canonical_destination(sent) == stored
    assert canonical_destination(stored) == stored


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("ann", "form local_part@domain_name"),
        ("@example.com", "dot-atom"),
        ("ann@", "the domain must"),
        ("ann@localhost", "the domain must have at least two labels"),
        ("ann@[192.0.2.1]", "the domain must be a host name"),
        ("ann@192.0.2.1", "the domain must not be an IP address"),
        ("ann@example.com\n", "the domain must be a host name"),
        (" ann@example.com", "dot-atom"),
        ("a@b@example.com", "dot-atom"),
        ("ann..lee@example.com", "dot-atom"),
        ("änn@example.com", "SMTPUTF8"),
        ('"ann lee"@example.com', "quoted"),
        ("-f@example.com", "option"),
        ("|program@example.com", "dot-atom"),
        ("/file@example.com", "dot-atom"),
        ("ann%example.org@example.com", "dot-atom"),
        ("*@example.com", "dot-atom"),
        (f"{'a' * 65}@example.com", "at most 64 octets"),
        (f"{'a' * 60}@{'.'.join(['b' * 62] * 3)}.example", "at most 254 octets"),
    ],
)
def test_what_is_no_safe_address_is_refused_by_its_part(sent: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        canonical_destination(sent)
    assert sent not in str(caught.value)


def test_destinations_are_the_same_without_regard_to_case() -> None:
    assert is_same_destination("Ann@example.com", "aNN@example.com")
    assert not is_same_destination("ann+a@example.com", "ann@example.com")


@pytest.mark.parametrize(
    ("destination", "address"),
    [
        ("Ann@example.com", "ann@example.com"),
        ("ANN+news+more@example.com", "ann@example.com"),
        ("+news@example.com", "+news@example.com"),
    ],
)
def test_the_local_address_of_a_destination_is_in_lower_case_without_a_detail(destination: str, address: str) -> None:
    assert local_address(destination) == address
