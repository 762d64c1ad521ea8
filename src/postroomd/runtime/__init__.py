"""The processes of Postroom: the service, the gateway, the worker, and what starts and supervises them."""
