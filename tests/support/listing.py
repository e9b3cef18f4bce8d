"""The published checkpoints' keys and shapes, at full size or with every width divided by eight."""

from __future__ import annotations

import zlib
from pathlib import Path

import torch
from torch import Tensor

from mindsight.decoders.mindeye2.schedule import alphas_cumprod

# the tokens' number goes down with their width: 256 tokens of 1664 become 32 of 208
EIGHTH = {
    n: n // 8
    for n in (4096, 425984 // 8, 1664, 3328, 13312, 6656, 256, 15724, 14278, 15226, 13153, 13039, 17907, 12682, 14386)
} | {425984: 32 * 208}


def released(shared: Path, section: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a released layout."""
    text = (shared / "fixtures/mindeye2_state_dict.txt").read_text().split(f"#### {section}. ")[1].split("####")[0]
    rows = (line.split("\t") for line in text.splitlines()[1:] if line and not line.startswith("#"))
    return {key: tuple(int(n) for n in shape.strip("()").split(",") if n.strip()) for key, shape, *_ in rows}


def at_an_eighth(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """What is MindEye2's own at an eighth; what comes from elsewhere (low-level head, buckets, heads' width) stays."""
    fixed = ("backbone.bupsampler.", "backbone.bnorm.", "backbone.b_maps_projector.")
    small = {
        key: shape if key.startswith(fixed) else tuple(EIGHTH.get(n, n) for n in shape) for key, shape in shapes.items()
    }
    bias = "diffusion_prior.net.causal_transformer.rel_pos_bias.relative_attention_bias.weight"
    return small | {bias: (32, 4)}


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights as an untrained network has them: gains near one, the rest with a variance of one over the inputs."""
    state = {}
    for key, shape in shapes.items():
        rng = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        if key.startswith("diffusion_prior.noise_scheduler."):
            state[key] = torch.from_numpy(alphas_cumprod()).float()
        elif key.endswith("rotary_emb.freqs"):
            state[key] = 10000.0 ** -(torch.arange(16) / 16)
        else:
            scale = max(1, torch.Size(shape[1:]).numel()) ** -0.5
            offset = 1.0 if len(shape) == 1 and key.endswith(("weight", ".g")) else 0.0
            state[key] = torch.randn(shape, generator=rng) * (0.1 if len(shape) == 1 else scale) + offset
    return state
