"""Floors: programs that do nothing but the transport, so that a figure can be read as a share of what is possible.

`service` is a gRPC server in the same event loop as Postroom's, `gateway` an HTTP server in front of it. Their answers
are the seeded mailboxes, octet by octet as long as Postroom's own.
"""
