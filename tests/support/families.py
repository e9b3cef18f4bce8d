"""One small member of every kind of decoder, encoder and generator, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mindsight.decoders.base import DecoderWeights
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout
from mindsight.decoders.mindeye2.decoder import MindEye2Weights
from mindsight.decoders.pair.decoder import PairWeights
from mindsight.encoders.demo import DemoEncoder, EncoderConfig
from mindsight.encoders.registry import EncoderOptions
from mindsight.features import FeatureSpace
from mindsight.generators.unclip.demo import DemoGenerator, Denoiser, GeneratorConfig
from support.tiny_open_clip import make_clip, write_config, write_files
from support.tiny_unclip import write_tiny

N_VOXELS = 40
SPACE = FeatureSpace("tiny-tokens", (4, 16), "none", "e" * 64)


def linear_weights(_: Path) -> DecoderWeights:
    rng = np.random.default_rng(0)
    return LinearDecoder.fit(rng.normal(size=(50, N_VOXELS)), rng.normal(size=(50, *SPACE.shape)))


def write_mindeye2(path: Path, prior: bool, *, lowlevel: bool = False, shape: tuple[int, ...] = SPACE.shape) -> None:
    """MindEye2 at a small size, for N_VOXELS and into tokens of this shape."""
    torch.manual_seed(1)
    tokens, dim = shape
    small = PriorLayout(depth=1, heads=2, dim_head=dim // 2, inner=32) if prior else None
    model = MindEye2(
        Layout(voxels=(N_VOXELS,), hidden=24, tokens=tokens, dim=dim, n_blocks=1, lowlevel=lowlevel, prior=small)
    )
    save_file({key: tensor.clone().contiguous() for key, tensor in model.state_dict().items()}, path)


def mindeye2_weights(folder: Path) -> DecoderWeights:
    write_mindeye2(folder / "weights.safetensors", prior=True)
    return MindEye2Weights(folder / "weights.safetensors")


def pair_weights(folder: Path) -> DecoderWeights:
    return PairWeights(linear_weights(folder), mindeye2_weights(folder))


DECODERS: dict[str, Callable[[Path], DecoderWeights]] = {
    "linear": linear_weights,
    "mindeye2": mindeye2_weights,
    "pair": pair_weights,
}


def demo_encoder(folder: Path) -> EncoderOptions:
    torch.manual_seed(2)
    DemoEncoder(EncoderConfig(image_size=32, token_dim=16, widths=(8, 8, 8))).save(folder / "encoder")
    return EncoderOptions(weights=folder / "encoder")


def openclip_encoder(folder: Path) -> EncoderOptions:
    weights = write_files(folder, make_clip())["release"]
    return EncoderOptions(weights=weights, model=str(write_config(folder)))


ENCODERS: dict[str, Callable[[Path], EncoderOptions]] = {"demo": demo_encoder, "openclip": openclip_encoder}


def unclip_demo(folder: Path) -> None:
    torch.manual_seed(3)
    config = GeneratorConfig(image_size=32, n_tokens=4, token_dim=16, widths=(16, 32), encoder_digest="e" * 64)
    DemoGenerator(Denoiser(config)).save(folder)


GENERATORS: dict[str, Callable[[Path], None]] = {"generator": unclip_demo, "unclip": write_tiny}
