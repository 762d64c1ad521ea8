"""Exponential backoff."""

from datetime import timedelta

_MAX_DOUBLINGS = 16  # which keeps the product below within the range of a timedelta


def backoff_delay(failures: int, first: timedelta, maximum: timedelta) -> timedelta:
    """Return the delay before the next retry: `first` doubled with each of the earlier failures, at most `maximum`."""
    return min(first * (1 << min(failures, _MAX_DOUBLINGS)), maximum)
