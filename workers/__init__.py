"""Processes: a loop around the library each."""
