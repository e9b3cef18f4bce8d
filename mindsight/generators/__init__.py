"""Features → image: one folder per family of generators, one protocol (``base``), one list of kinds (``registry``).

Knows nothing of brains.
"""
