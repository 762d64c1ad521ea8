"""What Postroom remembers: the contract in repository.py, its one implementation over SQL beside it."""
