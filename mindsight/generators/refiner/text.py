"""SDXL's two text encoders: a prompt to the tokens and the vector that its U-Net is conditioned on.

Knows nothing of images. transformers' classes, filled from a diffusers folder without running code in it. Letters:
B prompts, N tokens, D numbers of a token (both encoders' side by side), C numbers of the pooled vector.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.weights.device import HOST, Placement
from mindsight.weights.fit import require_fit
from mindsight.weights.state_dict import read_safetensors

ENCODERS, TOKENIZERS = ("text_encoder", "text_encoder_2"), ("tokenizer", "tokenizer_2")
_PREFIX = "text_model."  # files have it, and transformers' first class does not
_RECOMPUTED = "embeddings.position_ids"
WEIGHTS = ("model.safetensors", "model.fp16.safetensors")


class Prompt(NamedTuple):
    """tokens_BND : of the layer before the last; pooled_BC : the second encoder's projection of the whole text"""

    tokens_BND: Tensor
    pooled_BC: Tensor


@dataclass(frozen=True, eq=False)
class TextEncoders:
    """Both encoders with their tokenizers, on a device."""

    encoders: tuple[Any, Any]
    tokenizers: tuple[Any, Any]

    @property
    def token_dim(self) -> int:
        return sum(int(one.config.hidden_size) for one in self.encoders)

    @property
    def pooled_dim(self) -> int:
        return int(self.encoders[1].config.projection_dim)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Prompt:
        """Text beyond the encoders' length is cut off, as in SDXL (77 tokens)."""
        hidden, pooled = [], None
        for encoder, tokenizer in zip(self.encoders, self.tokenizers, strict=True):
            length = int(encoder.config.max_position_embeddings)
            ids = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            seen = encoder(ids.input_ids.to(encoder.device), output_hidden_states=True)
            hidden.append(seen.hidden_states[-2])
            pooled = seen[0]  # of the second: its projection
        assert pooled is not None
        return Prompt(torch.cat(hidden, dim=-1), pooled)


def load_text_encoders(folder: Path, placement: Placement = HOST) -> TextEncoders:
    """Of a diffusers folder of SDXL: ``text_encoder``, ``text_encoder_2``, ``tokenizer``, ``tokenizer_2``.

    Raises ModelMismatch (``refiner.folder``, ``checkpoint.unreadable``, ``checkpoint.keys``).
    """
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer  # seconds of import

    first, second = (
        _encoder(folder / name, kind, placement)
        for name, kind in zip(ENCODERS, (CLIPTextModel, CLIPTextModelWithProjection), strict=True)
    )
    try:
        for name in TOKENIZERS:  # of which the tokenizers' own errors have no class
            dict(json.loads((folder / name / "vocab.json").read_bytes()))
        one, other = (CLIPTokenizer.from_pretrained(folder / name, local_files_only=True) for name in TOKENIZERS)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelMismatch(
            f"expected vocab.json and merges.txt in {' and '.join(TOKENIZERS)} of {folder.name}, got files that cannot"
            f" be read ({type(error).__name__}): download SDXL's again",
            code="checkpoint.unreadable",
        ) from None
    return TextEncoders((first, second), (one, other))


def _encoder(folder: Path, kind: Any, placement: Placement) -> Any:
    from transformers import CLIPTextConfig

    try:
        config = CLIPTextConfig(**json.loads((folder / "config.json").read_bytes()))
        with torch.device("meta"):
            encoder = kind(config)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelMismatch(
            f"expected the configuration of a CLIP text encoder in {folder.name}, got another ({type(error).__name__}):"
            " download SDXL's again",
            code="checkpoint.unreadable",
        ) from None
    wanted = encoder.state_dict()
    has_prefix = next(iter(wanted)).startswith(_PREFIX)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])
    read = {key: tensor for key, tensor in read_safetensors(weights).items() if not key.endswith(_RECOMPUTED)}
    state = read if has_prefix else {key.removeprefix(_PREFIX): tensor for key, tensor in read.items()}
    require_fit(f"the text encoder in {folder.name}", state, wanted)
    encoder.load_state_dict({key: placement.weight(tensor) for key, tensor in state.items()}, assign=True)
    embeddings = (encoder.text_model if has_prefix else encoder).embeddings
    embeddings.position_ids = torch.arange(config.max_position_embeddings, device=placement.device)[None]
    return encoder.eval().requires_grad_(False)
