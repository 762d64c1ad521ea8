"""The rules of Postroom: pure functions over frozen values, with the time passed in."""
