"""Token buckets: a burst and a rate, no more, in bounded memory."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroomd import token_buckets
from postroomd.token_buckets import TokenBuckets


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 1_000), st.integers(1, 1_000), st.lists(st.floats(0, 0.5), max_size=200))
def test_a_bucket_allows_a_burst_and_its_rate_and_no_more(rate: int, capacity: int, pauses: list[float]) -> None:
    clock = Clock()
    buckets = TokenBuckets(rate, capacity, clock)
    allowed, tokens = 0, float(capacity)
    for pause in pauses:
        clock.now += pause
        tokens = min(capacity, tokens + pause * rate)
        wait = buckets.take("key")
        taken = wait == 0
        if abs(tokens - round(tokens)) > 0.01:  # elsewhere either outcome may be rounded
            assert taken == (tokens >= 1)
        if taken:
            allowed += 1
            tokens -= 1
        else:
            assert wait == buckets.seconds_until_token("key")
            assert 0 < wait <= 1.01 / rate
        assert buckets.tokens("key") == pytest.approx(tokens, abs=1.01)
    assert allowed <= capacity + sum(pauses[1:]) * rate + 1


def test_a_full_burst_is_allowed_at_one_instant() -> None:
    buckets = TokenBuckets(50, 20, Clock())
    left = []
    while not buckets.take("key"):
        left.append(buckets.tokens("key"))
    assert left == list(range(19, -1, -1))
    assert buckets.seconds_until_token("key") == pytest.approx(1 / 50, abs=0.001)
    assert buckets.tokens("other") == 20
    assert buckets.seconds_until_token("other") == 0


def test_a_bucket_refills_at_its_rate_up_to_its_capacity() -> None:
    clock = Clock()
    buckets = TokenBuckets(2, 3, clock)
    assert [buckets.take("key") for _ in range(4)] == pytest.approx([0, 0, 0, 0.5])
    clock.now += 0.5
    assert [buckets.take("key") for _ in range(2)] == pytest.approx([0, 0.5])
    clock.now += 100
    assert [buckets.take("key") for _ in range(4)] == pytest.approx([0, 0, 0, 0.5])


def test_full_buckets_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_buckets, "MAX_BUCKETS", 10)
    clock = Clock()
    buckets = TokenBuckets(5, 5, clock)
    for number in range(1_000):
        clock.now += 0.1
        buckets.take(number)
        assert len(buckets) <= 10
    assert buckets.tokens(999) == 4


def test_of_too_many_buckets_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_buckets, "MAX_BUCKETS", 10)
    buckets = TokenBuckets(1, 1, Clock())
    assert not any(buckets.take(number) for number in range(11))
    assert len(buckets) == 10
    assert buckets.take(10) > 0
    assert buckets.take(0) == 0
