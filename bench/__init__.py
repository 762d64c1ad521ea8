"""Measurements of Postroom: what is timed here is never a test.

`python -m bench` measures every figure beside its floor. Each module of `rows` is one kind of figure; beside them stand
what they share: a `stand` (the processes of a row), seeded `databases`, `h2load` and `open_loop` (load), and `floor`
(programs that do nothing but the transport). `bench.chaos` breaks things.
"""

import os

# Read when gRPC is imported: this process starts others while it has calls under way, and shares nothing with them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
