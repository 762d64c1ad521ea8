"""The command line, `postroom`: one module per command group."""
