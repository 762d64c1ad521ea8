"""The gRPC side: thin servicers between the contract in protobuf and the rules."""
