"""Etags that a request names, compared with the current one."""

import pytest

from postroomd.rpc.etags import MAX_ETAGS, etag_matches


@pytest.mark.parametrize("expected", ["1a", '"1a"', '"0", "1a"', '"1a","1b"', 'W/"1a", "1a"'])
def test_an_etag_matches_by_itself_or_in_a_list(expected: str) -> None:
    assert etag_matches(expected, "1a")


@pytest.mark.parametrize(
    "expected", ["1", "1A", '"1"', 'W/"1a"', '"1", W/"1a"', '"0,1a"', "0,1a", "0, 1a", '"1a', '""']
)
def test_other_and_weak_etags_do_not_match(expected: str) -> None:
    assert not etag_matches(expected, "1a")


def test_the_number_of_compared_etags_is_bounded() -> None:
    others = ['"0"'] * (MAX_ETAGS - 1)
    assert etag_matches(", ".join([*others, '"1a"']), "1a")
    assert not etag_matches(", ".join([*others, '"0"', '"1a"']), "1a")
