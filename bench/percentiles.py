"""Percentiles, as everybody counts them who has the values themselves: by nearest rank."""

from collections.abc import Sequence
from math import ceil


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least value that this share (0 to 1) of the values, sorted, doesn't exceed. Raises ValueError for none."""
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
