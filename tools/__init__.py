"""Development tools shared by tests, benchmarks and the Makefile; no part of the product."""
