"""Tests of what operators do, with the commands and tools that the documentation names."""
