"""The gRPC service over a real loopback connection."""
