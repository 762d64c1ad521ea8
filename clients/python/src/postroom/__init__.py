"""The client of Postroom: `client` has channels and errors, `v1alpha1` and `admin` the generated stubs."""
