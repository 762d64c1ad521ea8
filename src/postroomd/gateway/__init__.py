"""The REST gateway: the HTTP front of the gRPC service, driven by the descriptors of its contract."""

from postroomd.gateway.app import GatewayConfig, create_app, run_gateway

__all__ = ["GatewayConfig", "create_app", "run_gateway"]
