"""The rules of Postroom: pure functions over frozen values, with the time as an argument."""
