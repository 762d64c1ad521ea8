"""Copying a whole database into an empty one of either engine."""
