"""The card of a student: what it is, how it was made, and how faithful it is beside how fast.

Knows nothing of how figures are measured.
"""

from __future__ import annotations

from training.distillation.config import Config


def card(config: Config, teacher_digest: str, device: str, figures: str) -> str:
    """Markdown. figures : the table of fidelity"""
    trained = "all weights" if config.weights == "all" else f"low-rank changes of rank {config.rank}, merged"
    return f"""# An unCLIP of two to four steps

Distilled by latent consistency distillation (Luo et al. 2023) from the unCLIP of digest {teacher_digest[:12]}. Its
guidance of {config.guidance:g} is part of the weights: the preset is `distilled`, in 4 steps or 2, without guidance.

Trained: {trained}; {config.steps:,} steps of {config.batch} images, learning rate {config.learning_rate:g}, average of
weights {config.ema:g}, seed {config.seed}, networks in {config.precision}.

## Fidelity beside speed

Measured on images that were held out, from their own tokens, on {device}, in {config.precision}. Retrieval: the
share of images whose tokens are nearest to those of what was made of them.

{figures}"""
