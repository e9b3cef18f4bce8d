"""Weights read from files without running code.

Knows nothing of the networks they are for.
"""
