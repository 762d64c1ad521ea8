"""One module per row, or per few related rows. Each `run` returns the measurements on one engine."""
