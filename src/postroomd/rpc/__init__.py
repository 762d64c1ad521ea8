"""The gRPC services: thin servicers that convert between the protobuf contract and the domain."""
