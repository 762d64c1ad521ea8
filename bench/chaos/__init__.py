"""What a fault leaves: real processes are killed, cut off and starved while a ledger outside keeps what they promised.

`python -m bench.chaos` runs every scenario on both engines. Each module of `scenarios` is one kind of fault; beside
them stand what they share: an `arena` (a database with a tenant), `process` (a running Postroom), `client`, `ledger`
(what was acknowledged), `load`, and `audit` (what the database itself says).
"""
