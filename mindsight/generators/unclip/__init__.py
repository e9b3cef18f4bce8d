"""unCLIP: latent diffusion from image tokens to the image. ``demo`` is the small model that ships.

Knows nothing of brains.
"""
