"""Feature networks from local weight files: the published state dicts, read without running code.

Knows nothing of metrics or downloads. Letters: K images, D features, H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mindsight.errors import ModelMismatch
from mindsight.evaluation.metrics.resize import resize
from mindsight.evaluation.networks.build import build
from mindsight.evaluation.networks.catalog import NetworkSpec
from mindsight.files.digest import sha256_of_file
from mindsight.weights.state_dict import read_safetensors
from mindsight.weights.torchfile import read_torch_object

_BATCH = 32


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network in evaluation mode, and the preparation of its images.

    digest : sha256 of the weight file
    """

    spec: NetworkSpec
    model: nn.Module
    digest: str
    device: str = "cpu"

    @torch.inference_mode()
    def features(self, images_KHWC: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Layer -> (K, D) of images in [0, 1], resized and normalised for the layer's metric."""
        mean, std = torch.tensor(self.spec.normalisation, device=self.device)[:, None, :, None, None]
        parts: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in self.spec.metrics}
        for start in range(0, len(images_KHWC), _BATCH):
            resized = resize(images_KHWC[start : start + _BATCH], self.spec.size)
            pixels_B3HW = torch.from_numpy(np.ascontiguousarray(resized.transpose(0, 3, 1, 2))).to(self.device)
            held = self.model((pixels_B3HW - mean) / std)
            for layer, chunks in parts.items():
                chunks.append(held[layer].flatten(1).float().cpu().numpy())
        return {layer: np.concatenate(chunks) for layer, chunks in parts.items()}


class ClipTower(nn.Module):
    """OpenAI's CLIP ViT-L/14 image tower as transformers builds it: from images to projected embeddings."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels_B3HW: Tensor) -> dict[str, Tensor]:
        return {"image_embeds": self.model(pixel_values=pixels_B3HW).image_embeds}


def load_network(spec: NetworkSpec, path: Path, device: str = "cpu") -> FeatureNetwork:
    """The network of ``spec`` with the weights of ``path``.

    Raises ModelMismatch (``model.file``, ``model.mismatch``): the file cannot be read as tensors, or keys are missing,
    unexpected or misshapen; the message lists them.
    """
    if spec.key == "clip":
        return FeatureNetwork(spec, _clip(path).to(device), sha256_of_file(path / "model.safetensors"), device)
    model = build(spec)
    state = _read(path, spec.unused)
    wanted = {key: tensor for key, tensor in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    wrong = [f"missing {key}" for key in wanted if key not in state]
    wrong += [f"unexpected {key}" for key in state if key not in wanted]
    wrong += [
        f"{key} of shape {tuple(state[key].shape)}, needs {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise ModelMismatch(f"expected the weights of {spec.key} in {path.name}: {', '.join(wrong[:8])}{more}")
    # files older than the counters have none; nothing reads them in evaluation
    counters = {key: torch.zeros((), dtype=torch.long) for key in model.state_dict() if key not in wanted}
    model.load_state_dict({key: tensor.float() for key, tensor in state.items()} | counters, assign=True)
    return FeatureNetwork(spec, model.requires_grad_(False).to(device), sha256_of_file(path), device)


def _read(path: Path, unused: tuple[str, ...]) -> dict[str, Tensor]:
    is_safe = path.suffix == ".safetensors"
    held: Any = read_safetensors(path, code="model.file") if is_safe else read_torch_object(path)
    held = held if isinstance(held, dict) else {}
    # SwAV was saved from a data-parallel wrapper
    named = {key.removeprefix("module."): tensor for key, tensor in held.items() if isinstance(tensor, Tensor)}
    return {
        key: tensor
        for key, tensor in named.items()
        if not key.startswith(unused or ("\0",)) and not key.endswith("num_batches_tracked")
    }


def _clip(folder: Path) -> nn.Module:
    from transformers import CLIPVisionModelWithProjection

    try:
        # without safetensors it would have to unpickle
        held: Any = CLIPVisionModelWithProjection.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise ModelMismatch(
            f"expected config.json and model.safetensors of CLIP ViT-L/14 in {folder.name}: {error}", code="model.file"
        ) from None
    model, loaded = held
    # what is missing would be filled with random numbers; the text tower is what is unexpected
    if loaded["missing_keys"] or loaded["mismatched_keys"]:
        raise ModelMismatch(
            f"expected the image tower of CLIP in {folder.name}, missing or misshapen: "
            f"{sorted(map(str, [*loaded['missing_keys'], *loaded['mismatched_keys']]))[:8]}"
        )
    return ClipTower(model).eval().requires_grad_(False)
