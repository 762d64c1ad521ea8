"""The OpenAPI document of the REST API, generated from the contract: `make openapi`."""
