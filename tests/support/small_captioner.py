"""GIT's layout at a tiny size, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{i}" for i in range(4, 30)))


def write_captioner(folder: Path, n_tokens: int, token_dim: int) -> None:
    """With a converter from this number of tokens and their width."""
    draw = torch.Generator().manual_seed(0)

    def linear(outputs: int, inputs: int) -> dict[str, torch.Tensor]:
        return {"weight": torch.randn(outputs, inputs, generator=draw) / 3, "bias": torch.zeros(outputs)}

    norm = {"weight": torch.ones(8), "bias": torch.zeros(8)}
    layer = "git.encoder.layer.0"
    parts = {
        "git.embeddings.LayerNorm": norm,
        "git.embeddings.word_embeddings": {"weight": torch.randn(len(WORDS), 8, generator=draw)},
        "git.embeddings.position_embeddings": {"weight": torch.randn(24, 8, generator=draw)},
        "git.visual_projection.visual_projection.0": linear(8, 6),
        "git.visual_projection.visual_projection.1": norm,
        **{f"{layer}.attention.self.{name}": linear(8, 8) for name in ("query", "key", "value")},
        f"{layer}.attention.output.dense": linear(8, 8),
        f"{layer}.attention.output.LayerNorm": norm,
        f"{layer}.intermediate.dense": linear(16, 8),
        f"{layer}.output.dense": linear(8, 16),
        f"{layer}.output.LayerNorm": norm,
        "output": linear(len(WORDS), 8),
    }
    folder.mkdir()
    tensors = {f"{part}.{name}": t.clone() for part, held in parts.items() for name, t in held.items()}
    save_file(tensors, folder / "model.safetensors")
    converter = {"linear1": linear(5, n_tokens), "linear2": linear(6, token_dim)}
    converting = {f"{part}.{name}": t for part, held in converter.items() for name, t in held.items()}
    save_file(converting, folder / "converter.safetensors")
    config = {"num_attention_heads": 2, "num_hidden_layers": 1, "bos_token_id": 2, "eos_token_id": 3}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(WORDS))
