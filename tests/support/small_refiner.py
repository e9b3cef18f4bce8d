"""An SDXL base small enough for a test, as diffusers' folder: random weights, every part and name as published."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from safetensors.torch import save_file

from mindsight.generators.unclip.sdxl.vae import VaeLayout, build_vae

LENGTH = 12  # tokens of a prompt
_WIDTHS = (16, 24)
_POOLED = 8
_START, _END = "<|startoftext|>", "<|endoftext|>"


def write_refiner(folder: Path) -> None:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(8)
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1),
        attention_head_dim=(2, 4),
        cross_attention_dim=sum(_WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=_POOLED + 6 * 256,
    )
    unet.save_pretrained(folder / "unet")
    build_vae(VaeLayout(widths=(32, 32, 32, 32), resnets=1)).save_pretrained(folder / "vae")
    letters = [*string.ascii_lowercase, *string.digits, *"!,.'-"]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "do", "dog</w>", _START, _END]
    for number, width in enumerate(_WIDTHS):
        suffix = "_2" if number else ""
        _write_tokenizer(folder / f"tokenizer{suffix}", vocabulary, "!" if number else _END)
        _write_encoder(folder / f"text_encoder{suffix}", len(vocabulary), width, has_projection=bool(number))


def _write_tokenizer(folder: Path, vocabulary: list[str], padding: str) -> None:
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\nd o\ndo g</w>\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": _START,
        "eos_token": _END,
        "unk_token": _END,
        "pad_token": padding,
        "model_max_length": LENGTH,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _write_encoder(folder: Path, n_words: int, width: int, has_projection: bool) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=n_words,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=_POOLED,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        hidden_act="gelu" if has_projection else "quick_gelu",
        bos_token_id=0,
        eos_token_id=2,  # SDXL's files state 2, by which transformers knows to look for the highest number
        pad_token_id=1,
    )
    encoder = (CLIPTextModelWithProjection if has_projection else CLIPTextModel)(config)
    config.architectures = [type(encoder).__name__]
    config.save_pretrained(folder)
    named = {key if has_projection else f"text_model.{key}": of for key, of in encoder.state_dict().items()}
    named["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    save_file({key: tensor.contiguous() for key, tensor in named.items()}, folder / "model.safetensors")
