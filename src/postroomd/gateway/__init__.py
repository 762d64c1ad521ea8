"""REST gateway: an HTTP/JSON front end of the gRPC service, compiled from the service's descriptors."""

from postroomd.gateway.app import GatewayConfig, open_gateway, run_gateway

__all__ = ["GatewayConfig", "open_gateway", "run_gateway"]
