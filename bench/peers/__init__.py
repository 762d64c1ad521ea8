"""Typical implementations of the same API, to compare Postroom with."""
