"""Refinement: a finished image, its caption and its low-level image in, a more natural image out.

Knows nothing of brains or of how the image was made.
"""
