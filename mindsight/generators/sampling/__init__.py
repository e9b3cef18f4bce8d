"""Samplers as tables of numbers.

Knows nothing of networks or images.
"""
