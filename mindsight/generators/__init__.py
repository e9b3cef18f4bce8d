"""Features → image: one folder per family of generators.

Knows nothing of brains.
"""
