"""Persistence: the repository protocols, their implementation over SQL, and one driver per database engine."""
