"""An OpenCLIP image tower from a local file: what candidate pools, and MindEye2's targets, are embedded with.

Knows nothing of pools. Letters: B images, H, W pixels, C colours, N tokens, D numbers of an embedding.

The architecture is open_clip's own, built from one of its configurations. The weights are a checkpoint as open_clip
writes and reads it, or any file that carries the same tower: MindEye2's unCLIP checkpoint does, below
``conditioner.embedders.0.``, so that bigG's own ten gigabytes are not needed beside it. Nothing is downloaded, nothing
is unpickled, and the text tower is never read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.features import FeatureSpace
from mindsight.weights.device import Placement
from mindsight.weights.fit import require_fit
from mindsight.weights.state_dict import read_safetensors, read_state_dict

Embedding = Literal["tokens", "pooled"]
Values = Literal["mindeye2", "clip"]

EMBEDDINGS: dict[Embedding, str] = {
    "tokens": "patch tokens after the last layer norm, without class token, not projected",
    "pooled": "the projected embedding that OpenCLIP compares with text",
}
VALUES: dict[Values, str] = {
    "mindeye2": "pixels in [0, 1] taken for [-1, 1], so that the network sees [0.5, 1]: as MindEye2 was trained",
    "clip": "pixels in [0, 1]: as OpenCLIP was trained",
}
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training images
# the text tower is not used, so it is built as small as it can be
_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


@dataclass(frozen=True, eq=False)
class ImageTower:
    """A tower that embeds squares of ``size_px``.

    model : name of open_clip's configuration; weights : name of the file; prefix : of the tower's keys in it
    digest : sha256 over the tower's weights, equal wherever they were read from
    """

    visual: nn.Module
    model: str
    weights: str
    prefix: str
    size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    digest: str

    @classmethod
    def load(cls, weights: Path, model: str | Path, device: str = "cpu", dtype: str = "float32") -> ImageTower:
        """Read the tower out of a checkpoint.

        weights : ``.safetensors``, or a file of ``torch.save`` that holds tensors
        model : name of a configuration of open_clip (``ViT-bigG-14``; OpenAI's own weights: ``ViT-L-14-quickgelu``), or
            a JSON file like its ``open_clip_config.json``
        dtype : of the weights. Half of float32 takes half the memory, and sums of layers are then in half precision too

        Raises BadRequest (``tower.model``) if the configuration is unknown, ModelMismatch (``model.file``,
        ``checkpoint.unreadable``, ``tower.weights``) if there is no such tower in the file, or it is another one.
        """
        name, described, preprocess = _configuration(model)
        held = _read(weights)
        prefix = _prefix(list(held), weights.name)
        state = {key.removeprefix(prefix): held[key].float() for key in held if key.startswith(prefix)}
        visual = _build(name, described)
        _fill(visual, state, name, weights.name)
        Placement(device, dtype).place(visual.eval().requires_grad_(False))
        size = visual.image_size if isinstance(visual.image_size, tuple) else (visual.image_size,) * 2
        return cls(
            visual,
            name,
            weights.name,
            prefix,
            int(size[0]),
            tuple(preprocess.get("mean", _MEAN)),
            tuple(preprocess.get("std", _STD)),
            _digest(state),
        )

    def source(self, embedding: Embedding, values: Values) -> str:
        """What ``embed`` gives, in words, for the pool."""
        return (
            f"{self.model}, image tower {self.prefix!r} of {self.weights}, sha256 of its weights {self.digest};"
            f" {self.size_px} px; {embedding}: {EMBEDDINGS[embedding]}; values {values}: {VALUES[values]}"
        )

    @torch.inference_mode()
    def embed(self, images_BHWC: NDArray[Any], embedding: Embedding, values: Values) -> NDArray[np.float32]:
        """(B, N, D) tokens or (B, D) pooled embeddings of squares of ``size_px``, uint8 or floats in [0, 1].

        On a GPU in half precision, as MindEye2's reference runs it. Raises ModelMismatch (``tower.tokens``) if the
        tower has no tokens.
        """
        weights = next(self.visual.parameters())
        device = weights.device
        pixels_BCHW = torch.from_numpy(np.moveaxis(images_BHWC, -1, 1)).to(device, torch.float32)
        if images_BHWC.dtype == np.uint8:
            pixels_BCHW = pixels_BCHW / 255.0
        if values == "mindeye2":
            pixels_BCHW = (pixels_BCHW + 1.0) / 2.0
        mean, std = (torch.tensor(of, device=device)[:, None, None] for of in (self.mean, self.std))
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            found = self._forward(((pixels_BCHW - mean) / std).to(weights.dtype), embedding)
        embedded: NDArray[np.float32] = found.float().cpu().numpy()
        return embedded

    def _forward(self, pixels_BCHW: Tensor, embedding: Embedding) -> Tensor:
        visual: Any = self.visual
        if embedding == "pooled":
            pooled: Tensor = visual(pixels_BCHW)
            return pooled
        if not hasattr(visual, "output_tokens"):
            raise ModelMismatch(
                f"expected a vision transformer for tokens, {self.model} is none: ask for pooled embeddings",
                code="tower.tokens",
            )
        visual.output_tokens = True
        tokens: Tensor = visual(pixels_BCHW)[1]
        visual.output_tokens = False
        return tokens


class OpenClipEncoder:
    """A tower with the embedding that it gives and what it takes pixels for; made by ``load``."""

    def __init__(self, tower: ImageTower, embedding: Embedding, values: Values) -> None:
        self._tower, self._embedding, self._values = tower, embedding, values
        self.image_size = tower.size_px
        self.source = tower.source(embedding, values)
        blank = np.zeros((1, tower.size_px, tower.size_px, 3), np.uint8)
        self.space = _space(
            tower.model, embedding, values, tower.embed(blank, embedding, values).shape[1:], tower.digest
        )

    @classmethod
    def load(
        cls,
        weights: Path,
        model: str | Path,
        embedding: str = "tokens",
        values: str = "",
        device: str = "cpu",
        dtype: str = "float32",
    ) -> OpenClipEncoder:
        """values : empty for ``mindeye2`` with tokens, ``clip`` with pooled embeddings

        Raises BadRequest (``pool.options``), and what ``ImageTower.load`` raises.
        """
        wanted = next((name for name in EMBEDDINGS if name == embedding), None)
        taken = next(
            (name for name in VALUES if name == (values or ("mindeye2" if embedding == "tokens" else "clip"))), None
        )
        if wanted is None or taken is None:
            raise BadRequest(
                f"expected --embedding {' or '.join(EMBEDDINGS)} and --values {' or '.join(VALUES)}, got {embedding!r}"
                f" and {values!r}",
                code="pool.options",
            )
        return cls(ImageTower.load(weights, model, device, dtype), wanted, taken)

    def encode(self, images_BHW3: NDArray[Any]) -> NDArray[np.float32]:
        """See ``ImageTower.embed``."""
        return self._tower.embed(images_BHW3, self._embedding, self._values)


def configuration_of(space: FeatureSpace) -> str:
    """Name of the configuration in the name of a space of tokens, see ``token_space``."""
    return space.name.removeprefix("openclip-").removesuffix("-tokens")


def token_space(state: Mapping[str, Tensor], model: str | Path) -> FeatureSpace:
    """The space of MindEye2's tokens of a tower: what ``OpenClipEncoder.space`` is with tokens and its values.

    state : of the tower, names below ``visual.``
    model : as ``ImageTower.load`` takes it

    Raises ModelMismatch (``tower.weights``) if it is no vision transformer.
    """
    positions = state.get("positional_embedding")
    if positions is None or positions.ndim != 2:
        raise ModelMismatch(
            "expected the image tower of a vision transformer, got one without positional_embedding",
            code="tower.weights",
        )
    n_tokens, width = positions.shape[0] - 1, positions.shape[1]
    return _space(
        Path(model).stem if str(model).endswith(".json") else str(model),
        "tokens",
        "mindeye2",
        (n_tokens, width),
        _digest(state),
    )


def _space(model: str, embedding: Embedding, values: Values, shape: tuple[int, ...], digest: str) -> FeatureSpace:
    return FeatureSpace(f"openclip-{model}-{embedding}", shape, f"none; pixel values {values}", digest)


def _read(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file, mapped."""
    return read_safetensors(path, code="model.file") if path.suffix == ".safetensors" else read_state_dict(path)


def _prefix(keys: list[str], name: str) -> str:
    """Where in the file the image tower is."""
    found = {match[1] for key in keys if (match := re.match(r"((?:.*\.)?visual\.)", key))}
    if len(found) != 1:
        raise ModelMismatch(
            f"expected the weights of one image tower (keys '...visual.') in {name}, got {sorted(found) or 'none'}"
            f" among {len(keys)} keys such as {sorted(keys)[:3]}",
            code="tower.weights",
        )
    return found.pop()


def _configuration(model: str | Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name, model configuration and preprocessing."""
    import open_clip

    if str(model).endswith(".json"):
        try:
            read = json.loads(Path(model).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadRequest(f"expected a JSON file, got {Path(model).name}: {error}", code="tower.model") from None
        described, preprocess = read.get("model_cfg", read), read.get("preprocess_cfg", {})
        name = Path(model).stem
    else:
        name, preprocess = str(model), {}
        described = open_clip.get_model_config(name)
    if described is None or not {"embed_dim", "vision_cfg"} <= set(described):
        raise BadRequest(
            f"expected a configuration of open_clip, such as ViT-bigG-14 or ViT-L-14-quickgelu, or a JSON file with"
            f" embed_dim and vision_cfg, got {name}",
            code="tower.model",
        )
    return name, described, preprocess


def _build(name: str, described: Mapping[str, Any]) -> Any:
    import open_clip

    try:
        with torch.device("meta"):
            whole = open_clip.CLIP(
                embed_dim=described["embed_dim"],
                vision_cfg=described["vision_cfg"],
                text_cfg=_NO_TEXT,
                quick_gelu=described.get("quick_gelu", False),
            )
    except TypeError as error:
        raise BadRequest(f"expected a configuration of open_clip, got {name}: {error}", code="tower.model") from None
    return whole.visual


def _fill(visual: nn.Module, state: Mapping[str, Tensor], model: str, name: str) -> None:
    require_fit(f"the image tower of {model} in {name}", state, visual.state_dict(), code="tower.weights")
    visual.load_state_dict(state, assign=True)
    if any(tensor.is_meta for tensor in chain(visual.parameters(), visual.buffers())):
        raise ModelMismatch(
            f"expected a tower whose every number is in the checkpoint, {model} computes some: it is not supported",
            code="tower.weights",
        )


def _digest(state: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for key in sorted(state):
        sha.update(f"{key} {tuple(state[key].shape)}".encode())
        sha.update(state[key].float().contiguous().numpy().data)
    return sha.hexdigest()
