"""Overload attacks on real processes, and what another tenant experiences meanwhile: `python -m bench.attack`."""
