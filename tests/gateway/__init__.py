"""The gateway, over real sockets: HTTP in front, a stub of the gRPC service behind."""
