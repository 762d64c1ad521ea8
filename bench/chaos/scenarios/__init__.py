"""One module per fault. Each `run` injects it a number of times and returns the outcome."""
