"""Image → features: one protocol (``base``), one list of kinds (``registry``); and sources of images.

Knows nothing of brains.
"""
