"""Mutation fuzzers against a running Postroom: REST, gRPC and raw HTTP/2, from a seed.

A case is made from the seed and its number alone, apart from ids that the server has given. `test_fuzz.py` runs a
sample; `make fuzz` runs more, with CASES= and SEED=. A failure prints how to repeat its case:
`python -m tests.fuzz --surface rest --seed 1 --case 17`.

| module | holds |
|---|---|
| `mutations` | mutations of bytes and text |
| `messages` | messages and JSON values from the descriptors, valid and mutated |
| `rest_cases` | bytes for a REST connection |
| `grpc_cases` | calls, and raw frames, for a gRPC connection |
| `exchange` | sends a case, and reads what comes back until the server has finished |
| `checks` | what may come back |
| `target` | the running product, its callers and resources |
| `runner` | runs many cases, checks the product in between, collects failures |
"""
