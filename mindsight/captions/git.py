"""GIT's text decoder: image features first, then words, generated one by one, each attending to all before it.

Knows nothing of where features come from: its image encoder is left out. Wang et al. 2022, "GIT: A Generative
Image-to-text Transformer"; weights as published for transformers (``git.embeddings``, ``git.encoder``,
``git.visual_projection``, ``output``). Keys and values are cached, so that each word costs one row.

Axes: B batch, M image features, C their width, S rows, D channels, W the vocabulary, H heads, E width of a head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mindsight.errors import ModelMismatch
from mindsight.weights.device import HOST, Placement
from mindsight.weights.state_dict import read_safetensors, read_state_dict

_USED = ("git.embeddings.", "git.encoder.", "git.visual_projection.", "output.")


@dataclass(frozen=True, kw_only=True, slots=True)
class GitLayout:
    """What follows from ``config.json`` and not from the weights: heads, epsilons of the norms, first and last word."""

    heads: int = 12
    layers: int = 6
    text_eps: float = 1e-12
    vision_eps: float = 1e-5
    begin: int = 101
    end: int = 102


class GitDecoder:
    """``state`` holds the weights under their published names; those of the image encoder are ignored.

    Raises ModelMismatch (``captions.weights``), which names what is missing.
    """

    def __init__(self, state: Mapping[str, Tensor], layout: GitLayout, placement: Placement = HOST) -> None:
        wanted = _keys(layout.layers)
        if missing := [key for key in wanted if key not in state]:
            raise ModelMismatch(
                f"expected a GIT text decoder of {layout.layers} layers, got weights without {', '.join(missing[:5])}"
                f"{f' and {len(missing) - 5} others' if len(missing) > 5 else ''}",
                code="captions.weights",
            )
        self._state = {key: placement.weight(state[key].detach()) for key in wanted}
        self.layout = layout
        self.feature_width = self._state["git.visual_projection.visual_projection.0.weight"].shape[1]

    @classmethod
    def load(cls, folder: Path, placement: Placement = HOST) -> GitDecoder:
        """A folder as it is downloaded: ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``.

        Raises ModelMismatch: ``captions.folder`` if a file is missing or unreadable, ``captions.weights``.
        """
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            layout = GitLayout(
                heads=int(config.get("num_attention_heads", GitLayout().heads)),
                layers=int(config.get("num_hidden_layers", GitLayout().layers)),
                text_eps=float(config.get("layer_norm_eps", GitLayout().text_eps)),
                vision_eps=float(config.get("vision_config", {}).get("layer_norm_eps", GitLayout().vision_eps)),
                begin=int(config.get("bos_token_id", GitLayout().begin)),
                end=int(config.get("eos_token_id", GitLayout().end)),
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelMismatch(
                f"expected a folder with GIT's config.json, weights and vocab.txt: {type(error).__name__}",
                code="captions.folder",
            ) from None
        return cls(_read_used(folder), layout, placement)

    @torch.inference_mode()
    def words(self, features_BMC: Tensor, max_length: int = 20) -> list[list[int]]:
        """The likeliest next word again and again, for each row, without the first and last mark.

        ``max_length`` counts the first mark, as in the reference.
        """
        cache: list[tuple[Tensor, Tensor]] = []
        batch, n_features, device = len(features_BMC), features_BMC.shape[1], features_BMC.device
        now_B = torch.full((batch,), self.layout.begin, device=device)
        found, ended_B = [], torch.zeros(batch, dtype=torch.bool, device=device)
        x_BSD = torch.cat((self._projected(features_BMC), self._embedded(now_B, 0)), dim=1)
        # features see each other and no word, words see everything before them
        mask_SS = torch.ones(n_features + 1, n_features + 1, dtype=torch.bool, device=device)
        mask_SS[:n_features, n_features:] = False
        last_BD = self._encoded(x_BSD, mask_SS, cache)
        for position in range(1, max_length):
            now_B = F.linear(last_BD, self._state["output.weight"], self._state["output.bias"]).argmax(-1)
            ended_B |= now_B == self.layout.end
            if bool(ended_B.all()):
                break
            found.append(torch.where(ended_B, self.layout.end, now_B))
            if position < max_length - 1:
                last_BD = self._encoded(self._embedded(now_B, position), None, cache)
        if not found:
            return [[] for _ in range(batch)]
        rows = torch.stack(found, dim=1).tolist()
        return [row[: row.index(self.layout.end)] if self.layout.end in row else row for row in rows]

    def _projected(self, features_BMC: Tensor) -> Tensor:
        if features_BMC.shape[-1] != self.feature_width:
            raise ModelMismatch(
                f"expected image features {self.feature_width} wide, got {features_BMC.shape[-1]}",
                code="captions.tokens",
            )
        name = "git.visual_projection.visual_projection"
        return self._norm(f"{name}.1", self._linear(f"{name}.0", features_BMC), self.layout.vision_eps)

    def _embedded(self, word_B: Tensor, position: int) -> Tensor:
        """(B, 1, D); positions count words, not features."""
        words_WD = self._state["git.embeddings.word_embeddings.weight"]
        positions_PD = self._state["git.embeddings.position_embeddings.weight"]
        x_BD = words_WD[word_B] + positions_PD[position]
        return self._norm("git.embeddings.LayerNorm", x_BD, self.layout.text_eps)[:, None]

    def _encoded(self, x_BSD: Tensor, mask_SS: Tensor | None, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The last row (B, D) behind all layers; what they may look back at is added to the cache."""
        eps = self.layout.text_eps
        for number in range(self.layout.layers):
            layer = f"git.encoder.layer.{number}"
            q, k, v = (
                self._heads(self._linear(f"{layer}.attention.self.{name}", x_BSD)) for name in ("query", "key", "value")
            )
            if number < len(cache):
                k, v = (torch.cat((old, new), dim=2) for old, new in zip(cache[number], (k, v), strict=True))
                cache[number] = (k, v)
            else:
                cache.append((k, v))
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_SS).transpose(1, 2).flatten(2)
            x_BSD = self._norm(
                f"{layer}.attention.output.LayerNorm",
                x_BSD + self._linear(f"{layer}.attention.output.dense", seen),
                eps,
            )
            wide = F.gelu(self._linear(f"{layer}.intermediate.dense", x_BSD))
            x_BSD = self._norm(f"{layer}.output.LayerNorm", x_BSD + self._linear(f"{layer}.output.dense", wide), eps)
        return x_BSD[:, -1]

    def _heads(self, x_BSD: Tensor) -> Tensor:
        """(B, H, S, E)."""
        return torch.unflatten(x_BSD, -1, (self.layout.heads, -1)).transpose(1, 2)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._state[f"{name}.weight"], self._state[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._state[f"{name}.weight"], self._state[f"{name}.bias"], eps)


def _keys(layers: int) -> list[str]:
    parts = ["git.embeddings.LayerNorm", "git.visual_projection.visual_projection.0"]
    parts += ["git.visual_projection.visual_projection.1", "output"]
    inside = [f"attention.self.{name}" for name in ("query", "key", "value")]
    inside += ["attention.output.dense", "attention.output.LayerNorm"]
    inside += ["intermediate.dense", "output.dense", "output.LayerNorm"]
    parts += [f"git.encoder.layer.{number}.{part}" for number in range(layers) for part in inside]
    names = [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    return [f"git.embeddings.{kind}_embeddings.weight" for kind in ("word", "position")] + names


def _read_used(folder: Path) -> dict[str, Tensor]:
    """The text decoder's tensors; the image encoder, most of the file, is not read."""
    path = folder / "model.safetensors"
    if path.is_file():
        state = read_safetensors(path, code="captions.folder")
    else:
        state = read_state_dict(folder / "pytorch_model.bin")
    return {key: tensor for key, tensor in state.items() if key.startswith(_USED)}
