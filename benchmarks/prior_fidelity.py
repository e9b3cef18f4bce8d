"""How faithful the diffusion prior is at few steps: the shipped, trained decoder against the truth, 20 and 100 steps.

    python benchmarks/prior_fidelity.py [--scenes 60] [--draws 8] [--noise 0.8]

Scenes that training did not see become tokens, tokens the shared latent, and the latent gets noise as a ridge layer's
errors make it (``--noise``, in standard deviations of the latent). The prior draws image tokens from what the backbone
makes of that. Cosines are over all tokens of an image, means over scenes: of one draw with the true tokens, of the
mean of all draws with the true tokens, and of that mean with the mean at 20 and at 100 steps. Two halves of the draws
at 100 steps say how far means of so few draws are apart anyway.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mindsight import assets
from mindsight.decoders.mindeye2 import Sampler, load_mindeye2
from mindsight.encoders.demo import DemoEncoder
from mindsight.simulator.scenes import random_scenes, render_batch

STEPS = (100, 20, 10, 5, 3)


def cosine(a_KND: Tensor, b_KND: Tensor) -> float:
    return float(F.cosine_similarity(a_KND.flatten(1), b_KND.flatten(1)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--noise", type=float, default=0.8)
    given = parser.parse_args()
    model = load_mindeye2(assets.MINDEYE2).requires_grad_(False)
    assert model.prior is not None
    pictures = render_batch(random_scenes(np.random.default_rng(5), given.scenes), 64)
    true_KND = torch.from_numpy(DemoEncoder.load(assets.ENCODER).encode(pictures))
    latent_KH = model.ridge(true_KND.flatten(1))
    noise_KH = torch.randn(latent_KH.shape, generator=torch.Generator().manual_seed(0))
    condition_KND = model.tokens_of(latent_KH + given.noise * noise_KH * latent_KH.std(0)).backbone

    drawn, seconds = {}, {}
    for steps in STEPS:
        began = time.process_time()
        sampler, rng = Sampler(model.prior, steps), torch.Generator().manual_seed(0)
        drawn[steps] = torch.stack([sampler(condition_KND, generator=rng) for _ in range(given.draws)])
        seconds[steps] = time.process_time() - began
    halves = drawn[100].unflatten(0, (2, -1)).mean(1)
    print(f"condition and truth: {cosine(condition_KND, true_KND):.3f}")
    print(f"halves of the draws at 100 steps: {cosine(*halves):.3f}")
    print(f"{'steps':>6}{'one draw':>10}{'mean':>8}{'with 20':>9}{'with 100':>10}{'cpu ms':>8}")
    for steps in STEPS:
        mean_KND = drawn[steps].mean(0)
        row = [cosine(drawn[steps][0], true_KND), cosine(mean_KND, true_KND)]
        row += [cosine(mean_KND, drawn[other].mean(0)) for other in (20, 100)]
        cells = "".join(f"{value:{width}.3f}" for value, width in zip(row, (10, 8, 9, 10), strict=True))
        print(f"{steps:>6}{cells}{1e3 * seconds[steps] / given.draws / given.scenes:8.1f}")


if __name__ == "__main__":
    main()
