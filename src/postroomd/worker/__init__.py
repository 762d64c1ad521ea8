"""The background worker: validations, renewals, purges."""
