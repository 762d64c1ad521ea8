"""Dataset sizes, durations and repetitions of a full and of a quick benchmark run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameters:
    """Sizes are in mailboxes, durations in seconds."""

    small: int = 1_000
    medium: int = 100_000
    large: int = 1_000_000
    runs: int = 3
    """Alternating runs of product and baseline."""
    process_runs: int = 5
    """Alternating runs if each run starts its own processes, whose speed varies by up to a tenth between starts."""
    run_seconds: float = 4.0
    """Duration of one run under load."""
    memory_seconds: float = 600.0
    """Duration of the mixed load in row memory."""
    renewals: int = 100_000
    """Number of renewals that are due at once."""


FULL = Parameters()
QUICK = Parameters(large=100_000, process_runs=3, run_seconds=2.0, memory_seconds=20.0, renewals=5_000)
