"""The faults, each in a module of its own; `catalogue` lists them."""
