"""The background worker: validation, renewals, purges."""
