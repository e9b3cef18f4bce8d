"""From voxels to pixels at the published size (Scotti et al. 2024: 15,724 voxels, 256 x 1,664 tokens, 768 pixels), on a
card that ``meta`` stands in for: what runs where, in which precision, with how many operations and in how much memory.

It measures no time. The operations are compared with counts of the published networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mindsight.decoders.base import PriorOptions
from mindsight.decoders.mindeye2.backbone import Backbone
from mindsight.decoders.mindeye2.decoder import BACKBONE, MindEye2Decoder
from mindsight.decoders.mindeye2.folded import FoldedMindEye2
from mindsight.decoders.mindeye2.layout import Layout, PriorLayout
from mindsight.decoders.mindeye2.prior import DiffusionPrior
from mindsight.decoding import SAMPLING_BYTES
from mindsight.encoders.openclip import _build as build_tower
from mindsight.encoders.openclip import _configuration as configuration
from mindsight.features import FeatureSpace
from mindsight.generators.refiner.refiner import Refiner
from mindsight.generators.refiner.text import TextEncoders
from mindsight.generators.sampling.presets import plan
from mindsight.generators.unclip.sdxl.pipeline import Unclip
from mindsight.generators.unclip.sdxl.unet import UnetLayout, build_unet
from mindsight.generators.unclip.sdxl.vae import LatentDecoder, VaeLayout, build_vae
from mindsight.retrieval.on_card import PoolOnCard
from mindsight.weights.device import Placement
from support.meta_card import MetaCard

CARD = Placement("meta", "float16")
V, HIDDEN, N, D = 15_724, 4_096, 256, 1_664
POOL = 1_000  # the images that all subjects of the Natural Scenes Dataset saw
STEPS = 20
EVALUATION = 3.773e12  # operations of the U-Net for one latent
KEYS_VALUES = 2 * 256 * 1_664 * 166_400  # of these for the tokens, once for an image: 0.142e12
GB = 10**9


class Walk:
    """One trial, stage by stage; each stage has what was seen of it."""

    def __init__(self) -> None:
        self.stages: dict[str, MetaCard] = {}
        self.weights: list[Any] = []
        self.unclip: Unclip
        self.tokens: torch.Tensor

    def stage(self, name: str, run: Callable[[], Any]) -> Any:
        card = self.stages[name] = MetaCard()
        card.hold(*self.weights)
        with card, torch.inference_mode():
            return run()


def on_card(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.fixture(scope="module")
def walk() -> Walk:
    layout = Layout(voxels=(V,), hidden=HIDDEN, tokens=N, dim=D, n_blocks=0, prior=PriorLayout())
    with torch.device("meta"):
        prior, trunk = DiffusionPrior(layout), Backbone(layout)
        unet, vae = build_unet(UnetLayout()), build_vae(VaeLayout())
    ridge, rows_ND = on_card(HIDDEN, V), on_card(POOL, N * D)
    folded = FoldedMindEye2(trunk, ridge, on_card(HIDDEN), prior)
    folded.place(CARD)
    CARD.place(unet)  # and the autoencoder stays in float32: it overflows in float16
    decoder = MindEye2Decoder(folded, FeatureSpace("bigG", (N, D)), CARD)
    pool = PoolOnCard(CARD, rows_ND, np.arange(POOL))
    walk = Walk()
    walk.weights = [trunk, ridge, prior, unet, vae, rows_ND]
    features = walk.stage("decode", lambda: decoder(np.zeros((1, V), np.float32)))
    walk.stage("retrieve", lambda: pool.scores(features["bigG"].mean(axis=0)))
    options = PriorOptions(steps=STEPS, draws=1)
    refined = walk.stage("prior", lambda: decoder.refine({BACKBONE: features[BACKBONE]}, 0, options))
    walk.unclip, walk.tokens = Unclip(unet, vae, UnetLayout()), refined.features["bigG"]
    picture = draw(walk, "distilled", 1)
    assert (picture.shape, picture.device.type) == ((1, 3, 768, 768), "meta")
    return walk


def draw(walk: Walk, preset: str, steps: int) -> torch.Tensor:
    unclip, table = walk.unclip, plan(preset, steps)
    inputs = walk.stage("noise", lambda: unclip.inputs(table, walk.tokens, seed=0))
    latent = walk.stage("latent", lambda: unclip.latents(table, inputs))
    picture: torch.Tensor = walk.stage("pixels", lambda: unclip.shown(latent))
    return picture


HALF = ("decode", "retrieve", "prior", "latent")


@pytest.mark.parametrize("stage", [*HALF, "pixels"])
def test_everything_is_on_the_card_in_its_precision(walk: Walk, stage: str) -> None:
    """A value that the host waited for would have been refused."""
    card = walk.stages[stage]
    assert card.strays == []
    assert card.dtypes() == {torch.float16 if stage in HALF else torch.float32}


def test_betas_and_noise_are_all_that_is_copied_to_the_card(walk: Walk) -> None:
    tokens = ((1, N, D), torch.float32)
    positions = ((2 * N + 1, 2 * N + 2), torch.int64)  # with the first trajectory only
    assert walk.stages["decode"].uploads == [((1, V), torch.float32)]
    assert walk.stages["retrieve"].uploads == []
    assert walk.stages["prior"].uploads == [positions] + [tokens] * (STEPS - 1)
    assert walk.stages["noise"].uploads == [((1, 4, 96, 96), torch.float32), ((1, 1024), torch.float32)]
    assert walk.stages["latent"].uploads == walk.stages["pixels"].uploads == []


def test_operations_are_those_of_the_published_networks(walk: Walk) -> None:
    counted = {name: card.operations for name, card in walk.stages.items()}
    assert counted["decode"] == 2 * (V * HIDDEN + HIDDEN * N * D + 3 * N * D * D)
    assert counted["retrieve"] == 2 * POOL * N * D
    # 0.253e12 for an evaluation of all rows; the last layer computes half of them
    assert 0.9 * 0.253e12 < counted["prior"] / (STEPS - 1) < 0.253e12
    assert counted["latent"] == pytest.approx(EVALUATION, rel=1e-3)
    assert counted["pixels"] == pytest.approx(5.75e12, rel=1e-2)


@pytest.mark.slow  # `make test` walks one of these steps
def test_the_fast_preset_is_eight_steps_of_which_three_are_guided(walk: Walk) -> None:
    draw(walk, "fast", 8)
    card = walk.stages["latent"]
    assert card.operations == pytest.approx(11 * (EVALUATION - KEYS_VALUES) + 2 * KEYS_VALUES, rel=1e-3)
    assert (card.strays, card.dtypes(), card.uploads) == ([], {torch.float16}, [])
    assert card.peak_bytes < 16 * GB


def test_a_trial_fits_into_16_gigabytes(walk: Walk) -> None:
    """With all weights and the pool; attention counts as if it were written out, which a card's kernel does not do."""
    peaks = {name: card.peak_bytes for name, card in walk.stages.items()}
    weights = MetaCard().hold(*walk.weights)
    print(f"weights {weights / GB:.2f} GB, at most {max(peaks.values()) / GB:.2f} GB without refinement")
    assert 9 * GB < weights < max(peaks.values()) < 16 * GB
    assert max(peaks.values()) - weights < SAMPLING_BYTES


@pytest.mark.slow
def test_each_way_to_draw_less_needs_less_memory(walk: Walk) -> None:
    """A guided step as one batch and as two, and the image by the full and by the tiny autoencoder."""
    from diffusers import AutoencoderTiny

    with torch.device("meta"):
        tiny = AutoencoderTiny().half()
    unclip, table = walk.unclip, plan("fast")
    inputs = walk.stage("noise", lambda: unclip.inputs(table, walk.tokens, seed=0))
    for name, sparing in (("whole", False), ("halves", True)):
        walk.stage(name, lambda sparing=sparing: next(unclip.estimates(table, inputs, after=(1,), sparing=sparing)))
    latent = on_card(1, 4, 96, 96, dtype=torch.float32)
    walk.stage("full decoder", lambda: unclip.shown(latent))
    unclip.preview = LatentDecoder(tiny)
    try:
        walk.stage("tiny decoder", lambda: unclip.shown(latent, preview=True))
    finally:
        unclip.preview = None
    weights = MetaCard().hold(*walk.weights)
    names = ("whole", "halves", "full decoder", "tiny decoder")
    taken = {name: (walk.stages[name].peak_bytes - weights) / GB for name in names}
    print(", ".join(f"{name} {peak:.2f} GB" for name, peak in taken.items()))
    assert taken["halves"] < 0.6 * taken["whole"]
    assert taken["tiny decoder"] < 0.5 * taken["full decoder"]


@pytest.mark.slow
def test_measuring_the_fit_takes_a_quarter_of_one_evaluation(walk: Walk) -> None:
    """The image tower in half precision, which is loaded beside the rest only if the memory is enough for both."""
    visual = build_tower(*configuration("ViT-bigG-14")[:2]).eval().requires_grad_(False)
    CARD.place(visual)
    visual.output_tokens = True
    weights = walk.weights
    walk.weights = [*weights, visual]
    try:
        tokens = walk.stage("fit", lambda: visual(on_card(1, 3, 224, 224))[1])
    finally:
        walk.weights = weights
    card = walk.stages["fit"]
    tower_bytes = MetaCard().hold(visual)
    most = max(one.peak_bytes for name, one in walk.stages.items() if name != "fit") + tower_bytes
    print(f"{card.operations:.3g} operations, {tower_bytes / GB:.2f} GB; at most {most / GB:.2f} GB without refinement")
    assert tokens.shape == (1, N, D)
    assert (card.strays, card.dtypes()) == ([], {torch.float16})
    # each weight of the layers once a token, and attention
    assert card.operations == pytest.approx(2 * 257 * 48 * (4 * D * D + 2 * D * 8192) + 48 * 4 * 257**2 * D, rel=0.01)
    assert card.operations < 0.26 * EVALUATION
    assert 3.6 * GB < tower_bytes < 3.8 * GB
    assert most < 16 * GB
    assert card.peak_bytes - MetaCard().hold(*walk.weights, visual) < 0.1 * GB


def published_text() -> TextEncoders:
    """SDXL's text encoders (Podell et al. 2023) in half precision; their words do not matter here."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    begin, end = "<|startoftext|>", "<|endoftext|>"
    words = {word: number for number, word in enumerate([*"abcdefghijklmnopqrstuvwxyz,", begin, end])}
    vocabulary = {"vocab_size": 49_408, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    small = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    with torch.device("meta"):
        first = CLIPTextModel(CLIPTextConfig(**vocabulary, **small))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**vocabulary, **large, projection_dim=1280))
    for encoder in (first, second):
        CARD.place(encoder)
        encoder.eval().requires_grad_(False)
    tokenizers = [CLIPTokenizer(words, [], pad_token=pad) for pad in (end, "a")]
    return TextEncoders((first, second), (tokenizers[0], tokenizers[1]))


@pytest.mark.slow
def test_with_refinement_a_trial_fits_into_24_gigabytes(walk: Walk) -> None:
    """All weights of a trial and of its refinement at once, the first of twelve steps, and the image."""
    layout = UnetLayout(token_dim=2048, vector_dim=2816)
    with torch.device("meta"):
        unet, vae = build_unet(layout), build_vae(VaeLayout())
    CARD.place(unet)
    text = published_text()
    assert sum(weight.numel() for one in text.encoders for weight in one.parameters()) == 817_720_320
    refiner = Refiner(Unclip(unet, vae, layout), text)
    image_HW3 = np.zeros((768, 768, 3), np.uint8)
    weights = walk.weights
    walk.weights = [*weights, unet, vae, *text.encoders]
    try:
        walk.stage("refine", lambda: next(refiner.refine(image_HW3, "a dog", 0)))
        walk.stage("refined", lambda: refiner.decoded(on_card(1, 4, 96, 96, dtype=torch.float32), (768, 768), None))
    finally:
        walk.weights = weights
    step, decoding = walk.stages["refine"], walk.stages["refined"]
    print(f"at most {max(step.peak_bytes, decoding.peak_bytes) / GB:.2f} GB with refinement")
    assert step.strays == decoding.strays == []
    assert step.dtypes() == {torch.float16, torch.float32}  # the autoencoder stays in float32
    assert max(step.peak_bytes, decoding.peak_bytes) < 24 * GB
    assert [shape for shape, _ in step.uploads if len(shape) == 3] == [(768, 768, 3)]


def test_the_stand_in_sees_what_must_not_be() -> None:
    """A wait for the card, a tensor that was left on the host, another precision, and memory that is not given back."""
    with MetaCard() as card:
        there = on_card(3, 4)
        with pytest.raises(NotImplementedError):
            there.cpu()
        with pytest.raises(RuntimeError):
            there.sum().item()
        torch.mm(there.float(), on_card(4, 5, dtype=torch.float32))
        torch.zeros(7).to("meta")
        assert card.strays == []
        with pytest.raises(RuntimeError, match="expected device"):
            torch.add(there, torch.zeros(3, 4, dtype=torch.float16))
        torch.mm(there, torch.zeros(4, 5, dtype=torch.float16))  # meta lets it pass
    assert card.dtypes() == {torch.float32, torch.float16}
    assert card.operations == 2 * (2 * 3 * 4 * 5)
    assert card.uploads == [((7,), torch.float32)]
    assert card.strays == ["mm"]
    with MetaCard() as card:
        kept = on_card(1000, dtype=torch.float32)
        for _ in range(5):
            kept = kept + 1
    assert card.peak_bytes == 2 * 4000
    assert card.bytes == 4000
