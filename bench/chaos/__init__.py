"""Fault injection: processes are killed, disconnected or run out of disk space under load, and no promise may break.

`python -m bench.chaos` runs every scenario on both engines. Each module of `scenarios` injects one kind of fault. They
share `harness` (a database with one tenant, and processes), `client`, `load`, `history` (every write and its outcome,
recorded outside the service and checked against the database) and `database` (direct reads and integrity checks).
"""
