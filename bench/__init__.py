"""Benchmarks and fault injection. Timings are measured here, never in tests.

`python -m bench` measures every row against its baseline. Each module of `rows` defines one or a few rows. They share
`harness` (the processes of a row), `databases` (seeded databases), `h2load` and `open_loop` (load generators), and
`baseline` (servers that do nothing but the transport). `python -m bench.chaos` injects faults.
"""

import os

# gRPC reads this when it is imported. Benchmarks start processes during calls, and fork support can crash the child.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
