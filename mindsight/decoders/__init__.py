"""Beta → features of the image: one folder per decoder, one protocol (``base``), one list of kinds (``registry``).

Knows nothing of candidate pools, generators or sessions.
"""
