"""The storage as its callers see it: one small protocol per resource."""
