"""Tokens to picture: a small latent diffusion model, and the encoder whose tokens it was trained to draw.

Knows nothing of brains.
"""
