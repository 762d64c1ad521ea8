"""One module a row, or a few rows that are measured together. Each `run` answers the figures of one engine."""
