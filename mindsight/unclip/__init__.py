"""Tokens to picture: a small latent diffusion model, and the encoder whose tokens it was trained to draw.

Knows nothing of brains. ``DEMO_FOLDER`` holds the pair that ships with Mindsight: ``encoder`` and ``generator``.
"""

from pathlib import Path

DEMO_FOLDER = Path(__file__).parent.parent / "models" / "demo"
