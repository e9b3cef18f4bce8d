"""Image → features, and where images come from.

Knows nothing of brains.
"""
