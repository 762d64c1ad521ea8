"""Measurements of Postroom: what is timed here is never a test."""
