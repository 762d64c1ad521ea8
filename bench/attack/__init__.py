"""Overload attacks on real processes, and what another tenant experiences meanwhile: `python -m bench.attack`.

Each scenario starts service, gateway and worker on a new database, with two tenants. The attacker is a process that
loads one of the two ports until it is stopped. The victim is a process that issues 50 reads and writes a second over
gRPC or REST, in an open loop. Then the attacker is replaced by a control, processes that use as much processor time and
send nothing. A scenario meets its target if the victim loses at most 1 % of its calls, and if its p99 is at most three
times that with the control.

| module | holds |
|---|---|
| `scenarios` | the scenarios: attacker, victim's protocol, seeded mailboxes |
| `attackers/http2` | floods of raw HTTP/2 frames without a valid key, on the gRPC port |
| `attackers/sockets` | silent, slow and unread connections to the REST port |
| `attackers/tenant` | a tenant that asks for more than its share, and callers with invalid keys |
| `stack`, `seed` | the product with its tenants, and many mailboxes |
| `victim`, `control`, `report` | the victim, the control, and the comparison of the two |

`tests/attack` runs a sample, in which the victim has all the time it needs, and asserts counts: `make test-attack`.
"""
