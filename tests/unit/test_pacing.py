"""Failures beyond a rate are recognized, and delays are spread."""

import pytest

from postroomd import pacing
from postroomd.pacing import ANSWERS_PER_SECOND, UNAUTHENTICATED_BURST, LateAnswers


def test_few_calls_with_invalid_keys_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "UNAUTHENTICATED_PER_SECOND", 0.001)
    late = LateAnswers(0.5)
    delays = [late.delay(unauthenticated=True) for _ in range(UNAUTHENTICATED_BURST + 2)]
    assert delays[:UNAUTHENTICATED_BURST] == [0.0] * UNAUTHENTICATED_BURST
    assert all(delays[UNAUTHENTICATED_BURST:])


def test_late_answers_follow_each_other_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "monotonic", lambda: 1_000.0)
    late, interval = LateAnswers(0.5), 1 / ANSWERS_PER_SECOND
    delays = [late.delay(unauthenticated=False) for _ in range(3)]
    assert delays == pytest.approx([0.5, 0.5 + interval, 0.5 + 2 * interval])


def test_no_answer_waits_for_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "monotonic", lambda: 1_000.0)
    answers = LateAnswers(0.5)
    delays = [answers.delay(unauthenticated=False, limit=2.0) for _ in range(10 * ANSWERS_PER_SECOND)]
    assert max(delays) <= 2.0
    late = delays[2 * ANSWERS_PER_SECOND :]
    assert all(each >= 1.0 for each in late)
    assert len(set(late)) > 1  # not all at once
    assert answers.delay(unauthenticated=False, limit=3.0) <= 2.0 + 1 / ANSWERS_PER_SECOND  # the others take no turn
