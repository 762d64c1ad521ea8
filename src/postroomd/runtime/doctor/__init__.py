"""The examination of an installation, for `postroom doctor`."""
