"""The REST gateway: the HTTP front of the gRPC service, driven by the descriptors of its contract."""

from postroomd.gateway.app import GatewayConfig, open_gateway, run_gateway

__all__ = ["GatewayConfig", "open_gateway", "run_gateway"]
