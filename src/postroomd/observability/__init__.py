"""Logs, metrics, and their exposition."""
