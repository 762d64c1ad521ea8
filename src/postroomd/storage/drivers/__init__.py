"""One module per database engine: everything that differs between them."""
