"""Baseline servers that do nothing but the transport, so that a rate can be read as a share of what is possible.

`service` is a gRPC server in the same event loop as Postroom's; `gateway` is an HTTP server in front of it. Their
responses are the seeded mailboxes, with the same size in bytes as Postroom's.
"""
