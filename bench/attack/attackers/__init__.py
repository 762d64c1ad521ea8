"""Attackers: each is a process that loads one address until it is stopped."""
