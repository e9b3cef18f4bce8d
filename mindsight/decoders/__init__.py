"""Beta → features of the picture: one folder per decoder.

Knows nothing of candidate pools, pictures or sessions.
"""
